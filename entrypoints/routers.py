"""Who shares the requests of models, from the settings."""

from __future__ import annotations

from ..adapters.router_gateway import GatewayRouter
from ..adapters.router_hash import HashRouter
from ..adapters.router_nginx import NginxRouter
from .settings import Settings

Router = HashRouter | NginxRouter | GatewayRouter
"""Every router that settings can name."""


def build_router(settings: Settings) -> Router | None:
    """Build the router of the settings; ``None`` where they name none. Nothing is asked of anybody yet."""
    kind = settings.traffic.router
    if kind == "hash":
        return HashRouter(settings.located(settings.traffic.folder))
    if kind == "nginx":
        return _nginx(settings)
    return _gateway(settings) if kind == "gateway" else None


def _nginx(settings: Settings) -> NginxRouter:
    traffic = settings.traffic
    return NginxRouter(
        settings.located(traffic.folder),
        {model: one.nginx(model) for model, one in traffic.models.items()},
        check=traffic.check,
        reload=traffic.reload,
        timeout=traffic.timeout_seconds,
    )


def _gateway(settings: Settings) -> GatewayRouter:
    traffic, kubernetes = settings.traffic, settings.kubernetes
    places = {model: one.gateway(traffic.namespace) for model, one in traffic.models.items()}
    return GatewayRouter(kubernetes.cluster(settings.located), places, owner=kubernetes.installation)
