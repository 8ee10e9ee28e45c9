"""A split that a call put in force after its job had ended, as one does whose caller has died."""

from __future__ import annotations

from ..ports.traffic import Split
from .plan import ClearSplit, Plan
from .sealing import Draft
from .state import ModelState


def settle_stray(state: ModelState, found: Split | None) -> Plan | None:
    """Take it back, and say so. What is no split of ours is left alone.

    Args:
        state: What the ledger knows.
        found: What is in force; ``None`` for nothing, and where nobody can say.

    Returns:
        What follows; ``None`` when there is nothing to be done.
    """
    owner = state.jobs.get(found.salt) if found else None
    if found is not None and owner is not None and not owner.is_open:
        told = () if state.stray == found else (Draft("split.stray", {"split": found}),)
        return Plan(told, ClearSplit(found))
    if state.stray is not None and found != state.stray:
        return Plan((Draft("split.cleared", {"split": state.stray}),))
    return None
