"""What all tellers of entries share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Story = tuple[str, list[str]]
"""A title, and the evidence in lines; empty ones are left out."""

Teller = Callable[[Mapping[str, Any]], Story]
"""Tells one kind of entry by its data."""


def minute(text: str) -> str:
    """An ISO 8601 text to the minute."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def span(window: Mapping[str, str]) -> str:
    """A window from its JSON."""
    return f"{minute(window['start'])} to {minute(window['end'])}"


def number(value: float | None) -> str:
    """A measure; ``None`` is unknown."""
    return "unknown" if value is None else f"{value:.4f}"
