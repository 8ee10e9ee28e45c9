"""A split as text, for wherever a router keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..ports.traffic import Split

_KINDS = {"model": str, "champion": str, "candidate": str, "weight": float, "shadow": bool, "salt": str}


def text_of(split: Split) -> str:
    """Write a split as one line of JSON."""
    return json.dumps(asdict(split), sort_keys=True)


def split_of(text: str) -> Split:
    """Read a split.

    Raises:
        ValueError: It is none, or says more or less than one.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested without end") from None
    if not isinstance(values, dict) or values.keys() != _KINDS.keys():
        raise ValueError(f"a split has {', '.join(_KINDS)}")
    if type(values["weight"]) is int:
        values["weight"] = float(values["weight"])  # as people write it
    for name, kind in _KINDS.items():
        if type(values[name]) is not kind:
            raise ValueError(f"{name} = {values[name]!r} is no {kind.__name__}")
    return Split(**values)
