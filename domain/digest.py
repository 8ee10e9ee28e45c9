"""Many notices as one message: what an operator wants to read after an outage, or after a bad minute."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from ..ports.notifier import SEVERITIES, Digest, DigestLine, Notice, Severity

_PLURALS: dict[Severity, str] = {"critical": "critical", "warning": "warnings", "info": "info"}


def digest_of(notices: Sequence[Notice]) -> Digest:
    """Put notices together.

    What happened often to one model becomes one line, so that a flapping model hides nobody else's news.

    Args:
        notices: At least one.

    Returns:
        The digest; its id depends on the ids of the notices alone, whatever their order.
    """
    newest_first = sorted(notices, key=lambda notice: (notice.at, notice.id), reverse=True)
    together = sorted(newest_first, key=_kind)  # stable: within a kind, the newest stays first
    groups = [list(same) for _, same in groupby(together, key=_kind)]
    lines = [DigestLine(tuple(same)) for same in groups]
    lines.sort(key=lambda line: line.newest.at, reverse=True)
    lines.sort(key=lambda line: SEVERITIES.index(line.newest.severity))
    return Digest(
        id=hashlib.sha256("\n".join(sorted(notice.id for notice in notices)).encode()).hexdigest()[:32],
        severity=lines[0].newest.severity,
        title=_title(notices),
        since=newest_first[-1].at,
        until=newest_first[0].at,
        lines=tuple(lines),
    )


def _kind(notice: Notice) -> tuple[str, str, str]:
    return notice.severity, notice.model, notice.event


def _title(notices: Sequence[Notice]) -> str:
    found = Counter(notice.severity for notice in notices)
    counted = [
        f"{found[name]} {name if found[name] == 1 else _PLURALS[name]}" for name in SEVERITIES if found[name]
    ]
    return f"{len(notices)} notices: {', '.join(counted)}"
