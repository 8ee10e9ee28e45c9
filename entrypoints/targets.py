"""Who is told: the notifiers of the settings, each with its secrets from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping
from typing import TYPE_CHECKING

from ..ports.errors import ConfigurationError, Problem
from ..ports.notifier import DEFAULT_TARGET, Notifier
from .settings import Secrets, Settings

if TYPE_CHECKING:
    from pydantic import SecretStr

Given = Mapping[str, str]
"""Secrets by the name of their field, as given in the environment."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "log": (),
    "slack": ("slack_webhook_url",),
    "webhook": ("webhook_url", "webhook_key"),
    "apprise": ("apprise_url",),
}
"""Secrets that a kind of notifier needs."""


def default_notifier(settings: Settings, secrets: Secrets) -> Notifier:
    """The notifier of ``adapters.notifier``.

    Raises:
        ConfigurationError: A secret is missing, or cannot be used.
        MissingExtra: A library is not installed.
    """
    return _built("adapters.notifier", settings.adapters.notifier, "", secrets)


def build_targets(settings: Settings, given: Container[str] = ()) -> dict[str, Notifier]:
    """The notifiers that routes lead to, by their names.

    Args:
        settings: Checked settings.
        given: Names of those that need not be built.

    Raises:
        ConfigurationError: Every secret that is missing, or cannot be used.
        MissingExtra: A library is not installed.
    """
    built: dict[str, Notifier] = {}
    problems: list[Problem] = []
    for name, target in settings.notifier.targets.items():
        if name in given:
            continue
        try:
            built[name] = _built(f"notifier.targets.{name}", target.kind, name, None)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return built


def all_kinds(settings: Settings) -> dict[str, str]:
    """Kind of every notifier by its name, the default one first."""
    targets = {name: target.kind for name, target in settings.notifier.targets.items()}
    return {DEFAULT_TARGET: settings.adapters.notifier, **targets}


def _built(where: str, kind: str, name: str, secrets: Secrets | None) -> Notifier:
    found = {field: _secret(field, name, secrets) for field in FIELDS[kind]}
    missing = [_variable(field, name) for field, value in found.items() if not value]
    if missing:
        fix = f"set {' and '.join(missing)} in the environment"
        raise ConfigurationError([Problem(where, repr(kind), fix)])
    problems = [Problem(_variable(field, name), "", fix) for field, fix in _unusable(kind, found)]
    if problems:
        raise ConfigurationError(problems)
    try:
        return _MAKERS[kind](found)
    except ValueError as error:
        raise ConfigurationError([Problem(_variable(FIELDS[kind][0], name), "", str(error))]) from None


def _unusable(kind: str, found: Given) -> Iterator[tuple[str, str]]:
    """What is wrong with several secrets at once, by field."""
    if kind != "webhook":
        return
    from ..adapters.notifier_webhook import check_address, check_key

    for field, check in (("webhook_url", check_address), ("webhook_key", check_key)):
        try:
            check(found[field])
        except ValueError as error:
            yield field, str(error)


def variables_of(kind: str, name: str = "") -> tuple[str, ...]:
    """Environment variables that hold the secrets of a kind of notifier.

    Args:
        kind: Which.
        name: Name of the target; empty for the default notifier.
    """
    return tuple(_variable(field, name) for field in FIELDS[kind])


def _variable(field: str, name: str) -> str:
    variable = f"AUTORETRAIN_{field.upper()}"
    return f"{variable}_{name.upper().replace('-', '_')}" if name else variable


def _secret(field: str, name: str, secrets: Secrets | None) -> str:
    if secrets is None:
        return os.environ.get(_variable(field, name), "").strip()
    value: SecretStr | None = getattr(secrets, field)
    return value.get_secret_value() if value else ""


def _log(_: Given) -> Notifier:
    from ..adapters.notifier_log import LogNotifier

    return LogNotifier()


def _slack(given: Given) -> Notifier:
    from ..adapters.notifier_slack import SlackNotifier

    return SlackNotifier(given["slack_webhook_url"])


def _webhook(given: Given) -> Notifier:
    from ..adapters.notifier_webhook import WebhookNotifier

    return WebhookNotifier(given["webhook_url"], given["webhook_key"])


def _apprise(given: Given) -> Notifier:
    from ..adapters.notifier_apprise import apprise_notifier

    return apprise_notifier(given["apprise_url"])


_MAKERS: Mapping[str, Callable[[Given], Notifier]] = {
    "log": _log,
    "slack": _slack,
    "webhook": _webhook,
    "apprise": _apprise,
}
