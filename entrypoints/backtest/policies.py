"""Policies from settings files: the settings in force, and what another file lays over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...ports.errors import ConfigurationError, Problem
from ..settings import Settings, check_rules, laid_under, parse_settings
from ..settings_file import read_toml
from .replay import Policy

CURRENT = "current"
"""Name of the policy of the settings in force."""


def policy_of(name: str, settings: Settings) -> Policy:
    """The policy of checked settings.

    Raises:
        ConfigurationError: A model's rule names a trigger that is not built in: no replay can ask it.
    """
    check_rules(settings, {})
    return Policy(name, settings.models, settings.limits, settings.adapters.compute, settings.prices())


def varied(name: str, base: Mapping[str, Any], changes: Mapping[str, Any], directory: Path) -> Policy:
    """A policy that differs from others by a few settings.

    Args:
        name: How it is called.
        base: Plain values of the settings in force.
        changes: Values laid over them, table by table; a whole settings file will do as well.
        directory: What paths in them are relative to.

    Raises:
        ConfigurationError: Every problem of what results.
    """
    return policy_of(name, parse_settings(laid_under(base, changes), directory))


def read_policies(file: Path, chosen: Mapping[str, Path]) -> list[Policy]:
    """The policy in force, and those of other files.

    Args:
        file: The settings file.
        chosen: Files laid over it, by the name of their policy.

    Returns:
        The current one first.

    Raises:
        ConfigurationError: A file cannot be read or used; every problem of all of them, with the policy's
            name before it.
    """
    base = read_toml(file)
    policies, problems = [varied(CURRENT, base, {}, file.parent)], []
    for name, path in chosen.items():
        try:
            policies.append(varied(name, base, read_toml(path), file.parent))
        except ConfigurationError as error:
            problems += [Problem(f"{name}: {each.where}", each.value, each.fix) for each in error.problems]
    if problems:
        raise ConfigurationError(problems)
    return policies
