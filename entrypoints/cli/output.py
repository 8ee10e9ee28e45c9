"""What commands print: columns for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable keys.")


def print_json(value: Any) -> None:
    """Print a value as JSON: keys sorted, times as ISO 8601 in UTC, what is not finite as null."""
    click.echo(json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Reduce a value to what JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return [plain(item) for item in value]


def print_columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under titles, every column as wide as its widest cell.

    By hand: importing rich for it would take longer than the whole command.
    """
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one a line; empty values are left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            click.echo(f"{name.ljust(width)}  {value}")


def minute(at: datetime | None) -> str:
    """A time as people read it; empty for none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else ""


def percent(value: float | None) -> str:
    """A relative improvement; empty for none."""
    return "" if value is None else f"{value:+.2%}"


def counted(number: int, one: str, several: str = "") -> str:
    """A number with its noun.

    Args:
        number: How many.
        one: The noun for one.
        several: The noun for any other number; empty adds an s.
    """
    return f"{number} {one if number == 1 else several or one + 's'}"
