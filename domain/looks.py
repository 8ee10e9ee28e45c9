"""When a look is worth an entry, and what is said of those that were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from ..ports.observations import Look
from .sealing import Draft, digest_of
from .spec import ModelSpec
from .state import ModelState
from .steadiness import FLAPPING
from .suppression import Held
from .verdict import Answer


def changed_look(
    spec: ModelSpec,
    state: ModelState,
    verdicts: Mapping[str, Any],
    answer: Answer,
    held: Held | None,
    now: datetime,
    opens: bool = False,
) -> tuple[Draft, ...]:
    """The entry of a look, when it tells something else than the last one.

    Args:
        spec: The model's settings.
        state: What the ledger knows.
        verdicts: What each trigger says.
        answer: What the signals say together; see ``signal_answer``.
        held: Why nothing is done though the rule says yes.
        now: Time of the look.
        opens: Whether a job is opened by it; such a look is recorded whenever it is another.

    Returns:
        Nothing when answers and reasons are as before, or when they flap between what is recorded already.
    """
    recent = state.steadiness.reasons(now)
    flapping = len(recent) + 1 >= FLAPPING
    reason, until = (held.reason, held.until) if held else ("", None)
    settled = state.steadiness.flapping and not flapping
    if not settled and _is_same(spec, state, verdicts, answer, reason, until):
        return ()
    if len(recent) >= FLAPPING and reason in recent and not opens:
        return ()
    said = {
        "verdicts": verdicts,
        "answer": answer,
        "suppressed": reason,
        "until": until,
        "flapping": flapping,
    }
    return (Draft("look.changed", said),)


def _is_same(
    spec: ModelSpec,
    state: ModelState,
    verdicts: Mapping[str, Any],
    answer: Answer,
    reason: str,
    until: datetime | None,
) -> bool:
    before = {name: verdict["answer"] for name, verdict in state.verdicts.items()}
    after = {name: verdict["answer"] for name, verdict in verdicts.items()}
    as_said = state.looked_at is not None and before == after and state.suppressed == reason
    steady = not spec.for_hours or state.steadiness.flapping or state.steadiness.answer == answer.value
    return as_said and steady and state.suppressed_until == until


def since_last_change(looks: Sequence[Look], state: ModelState, now: datetime) -> dict[str, Any]:
    """What a changed look says of the looks between it and the one before.

    The record is bounded, and drops the oldest first: as long as the changed look itself is in it, so are all
    that followed.

    Args:
        looks: The rolling record, from the time of the last changed look on.
        state: What the ledger knows.
        now: Time of the changed look.

    Returns:
        ``looks``, their number; ``looks_digest``; ``looks_lost``, whether there were more; ``changes``, how
        often answers or the reason changed among them.
    """
    last = state.looked_at
    between = [look for look in looks if look.at < now and look.at != last]
    kept = last is None or (last <= now and any(look.at == last for look in looks))
    told = [_told(look.data) for look in looks if look.at < now]
    return {
        "looks": len(between),
        "looks_digest": digest_of([look.data for look in between]),
        "looks_lost": not kept,
        "changes": sum(one != other for one, other in pairwise(told)),
    }


def _told(data: Any) -> tuple[Mapping[str, str], str]:
    answers = {name: verdict["answer"] for name, verdict in data["verdicts"].items()}
    return answers, data["suppressed"]
