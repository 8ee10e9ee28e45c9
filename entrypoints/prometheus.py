"""How the Prometheus server of the settings is reached, with its secrets from the environment."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar

from ..adapters.prometheus_access import checked_headers, headers_of, tls_context
from ..ports.errors import ConfigurationError, Problem
from .settings import Secrets, Settings
from .settings_prometheus import PrometheusSettings

_TOKEN = "AUTORETRAIN_PROMETHEUS_TOKEN"  # noqa: S105
_PASSWORD = "AUTORETRAIN_PROMETHEUS_PASSWORD"  # noqa: S105
_HEADERS = "AUTORETRAIN_PROMETHEUS_HEADERS"

_T = TypeVar("_T")


class Access(TypedDict):
    """What ``PrometheusMetrics`` takes to reach its server."""

    headers: dict[str, str]
    auth: tuple[str, str] | None
    parameters: dict[str, str | list[str]]
    tls: ssl.SSLContext | None


def prometheus_access(settings: Settings, secrets: Secrets) -> Access:
    """Put together what the settings and the environment say of access.

    Raises:
        ConfigurationError: A secret is missing, superfluous or cannot be sent; a file cannot be used.
    """
    return Access(
        headers={**settings.prometheus.headers, **_secret_headers(secrets)},
        auth=_basic(settings.prometheus, secrets),
        parameters={name: _words(value) for name, value in settings.prometheus.parameters.items()},
        tls=_checked("prometheus.ca_file, client_certificate or client_key", lambda: _tls(settings)),
    )


def _basic(prometheus: PrometheusSettings, secrets: Secrets) -> tuple[str, str] | None:
    user, password = prometheus.user, secrets.prometheus_password
    if user is None and password is None:
        return None
    if user is None or password is None:
        missing = "prometheus.user" if user is None else _PASSWORD
        fix = "is missing; basic authentication needs prometheus.user and " + _PASSWORD
        raise ConfigurationError([Problem(missing, "", fix)])
    if secrets.prometheus_token is not None:
        fix = f"both {_TOKEN} and {_PASSWORD} are set; a request takes one of them"
        raise ConfigurationError([Problem("prometheus.user", repr(user), fix)])
    return user, password.get_secret_value()


def _secret_headers(secrets: Secrets) -> dict[str, str]:
    token, given = secrets.prometheus_token, secrets.prometheus_headers
    found: dict[str, str] = {}
    if token is not None:
        bearer = {"Authorization": f"Bearer {token.get_secret_value()}"}
        found |= _checked(_TOKEN, lambda: checked_headers(bearer))
    if given is not None:
        found |= _checked(_HEADERS, lambda: headers_of(given.get_secret_value()))
    return found


def _tls(settings: Settings) -> ssl.SSLContext | None:
    given = settings.prometheus
    if given.ca_file is None and given.client_certificate is None:
        return None
    return tls_context(*map(_file(settings), (given.ca_file, given.client_certificate, given.client_key)))


def _file(settings: Settings) -> Callable[[str | None], Path | None]:
    return lambda path: None if path is None else settings.located(path)


def _words(value: str | bool | int | tuple[str, ...]) -> str | list[str]:
    """A parameter as it is sent: ``true`` and numbers are written as in TOML."""
    if isinstance(value, tuple):
        return list(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(where: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise ConfigurationError([Problem(where, "", str(error))]) from None
