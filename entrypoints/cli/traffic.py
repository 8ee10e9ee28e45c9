"""``traffic``: which share of a model's requests a candidate gets, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .context import Invocation, pass_invocation
from .output import json_option, print_columns, print_json

if TYPE_CHECKING:
    from ..routers import Router
    from ..settings import Settings


@click.group()
def traffic() -> None:
    """Look at how requests are shared, and undo it."""


@traffic.command("show")
@json_option
@pass_invocation
def show_traffic(invocation: Invocation, as_json: bool) -> None:
    """Print the split that each model's requests are under."""
    from ...ports.errors import AutoRetrainError

    settings, router = _router(invocation)
    splits, troubles = {}, {}
    for model in (name for name in settings.models if settings.traffic.shares(name)):
        try:
            splits[model] = router.in_force(model)
        except AutoRetrainError as error:
            troubles[model] = str(error)
    if as_json:
        print_json({"splits": splits, "troubles": troubles})
        return
    told = {model: str(split) if split else "all to the champion" for model, split in splits.items()}
    print_columns(("MODEL", "REQUESTS"), sorted({**told, **troubles}.items()))


@traffic.command()
@click.argument("model")
@pass_invocation
def reset(invocation: Invocation, model: str) -> None:
    """Send all requests of MODEL to its champion, whatever is in force.

    A canary that is under way finds its split gone and halts. For nginx it writes the first file, too.
    """
    from ...ports.errors import UnknownModel

    settings, router = _router(invocation)
    if model not in settings.models:
        raise UnknownModel(f"there is no model {model!r}; there are {', '.join(settings.models)}")
    router.reset(model)
    click.echo(f"all requests of {model} go to the champion")


def _router(invocation: Invocation) -> tuple[Settings, Router]:
    """The router of the settings.

    Raises:
        ConfigurationError: They name none.
    """
    from ...ports.errors import ConfigurationError, Problem
    from ..routers import build_router
    from ..settings import load_settings

    settings = load_settings(invocation.settings)
    invocation.log(settings.logging)
    router = build_router(settings)
    if router is None:
        fix = 'nobody shares requests; set "hash", "nginx" or "gateway" (docs/canary.md)'
        raise ConfigurationError([Problem("traffic.router", '"none"', fix)])
    return settings, router
