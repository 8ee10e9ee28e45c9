"""``Retry-After``: when the other side of HTTP wants to be asked again (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait at least; ``None`` when nobody said, or nobody can read it.

    Args:
        headers: Headers of the answer, in any case.
        now: Time by which a date is in the future, where the answer does not say its own in ``Date``: that
            one is preferred, since the two clocks need not agree. ``None`` takes the system's.
    """
    named = {name.lower(): value.strip() for name, value in headers.items()}
    value = named.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:12])  # 30,000 years are enough
    at = _date(value)
    if at is None:
        return None
    sent = _date(named.get("date", "")) or now or datetime.now(UTC)
    return max((at - sent).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
