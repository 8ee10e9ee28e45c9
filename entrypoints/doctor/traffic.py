"""The router of requests: whether it can be changed, and would do as it is told."""

from __future__ import annotations

from collections.abc import Iterator

from ...ports.errors import AutoRetrainError, SplitMoved
from ..pipeline import AutoRetrainPipeline
from ..routers import build_router
from .finding import FEW, Finding, names_of, ok

_FIX = "see docs/canary.md: setting a router up"
_MOVED_FIX = "put it right by hand, or send all to the champion: autoretrain traffic reset MODEL"


def traffic(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Look at the router for every model whose requests it shares; nothing is changed."""
    settings, router = pipeline.settings.traffic, build_router(pipeline.settings)
    if router is None:
        yield ok("traffic", "nobody shares requests; traffic.router is for canaries")
        return
    models = [model for model in pipeline.settings.models if settings.shares(model)]
    found: dict[str, list[str]] = {}
    for model in models:
        try:
            router.examine(model)
            split = router.in_force(model)
            found.setdefault("", []).append(f"{model} ({split})" if split else model)
        except AutoRetrainError as error:
            found.setdefault(_MOVED_FIX if isinstance(error, SplitMoved) else _FIX, []).append(str(error))
    good = found.pop("", [])
    for fix, texts in found.items():
        for text in texts[:FEW]:
            yield Finding("traffic", "problem", text, fix)
        if len(texts) > FEW:
            yield Finding("traffic", "problem", f"and so it is with {len(texts) - FEW} more", fix)
    if good:
        names = ", ".join(good) if len(good) <= FEW else names_of(good)
        yield ok("traffic", f"{settings.router} shares requests of {names}")
