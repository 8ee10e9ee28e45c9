"""Policies tried against the past: the real controller, on ports that answer from what was recorded."""

from __future__ import annotations

from .outcome import JobOutcome, ModelOutcome, Outcome, Point, Yardstick
from .replay import Policy, Sources, replay

__all__ = ["JobOutcome", "ModelOutcome", "Outcome", "Point", "Policy", "Sources", "Yardstick", "replay"]
