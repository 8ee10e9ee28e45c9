"""Who is told, and what waits to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from ...ports.errors import Temporary
from ...ports.notifier import DEFAULT_TARGET, Notifier
from ...ports.outbox import Backlog, Outgoing
from ..pipeline import AutoRetrainPipeline
from ..targets import all_kinds
from .finding import Finding, ok, run

_FAR_AHEAD = datetime(9999, 12, 31, tzinfo=UTC)
_MANY = 1000


def told(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Everybody who is told, as far as can be seen without telling them anything."""
    kinds = all_kinds(pipeline.settings)
    for name, notifier in {DEFAULT_TARGET: pipeline.ports.notifier, **pipeline.targets}.items():
        about = f"notifier.{name}"
        yield from run(about, lambda _, name=name, each=notifier: _one_told(name, kinds, each), pipeline)  # type: ignore[misc]


def _one_told(name: str, kinds: Mapping[str, str], notifier: Notifier) -> Iterator[Finding]:
    check: Callable[[], str] | None = getattr(notifier, "check", None)
    about = f"notifier.{name}"
    service = getattr(notifier, "service", "")
    kind = f"{kinds.get(name, 'of your own')}{f', {service}' if service else ''}"
    if check is None:
        tried = "" if kind == "log" else f"; try it: autoretrain notices test {name}"
        yield ok(about, f"{kind}{tried}")
        return
    try:
        yield ok(about, f"{kind}, {check()}")
    except Temporary as away:
        fix = f"nothing is lost while it is away; try it: autoretrain notices test {name}"
        yield Finding(about, "warning", f"{kind}: {away}", fix)


def notices(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """What waits to be sent, and what was given up."""
    outbox = pipeline.ports.outbox
    how = ", ".join(dict.fromkeys(all_kinds(pipeline.settings).values()))
    backlog = outbox.counts()
    if not backlog.waiting and not backlog.dead:
        yield ok("notices", f"sent by {how}, none waits and none was given up")
    if dead := outbox.dead_letters():
        oldest, last = f"{dead[0].notice.at:%Y-%m-%d %H:%M} UTC", dead[-1]
        text = (
            f"{len(dead)} given up, the oldest of {oldest}, the last one ({last.notice.title}): {last.error}"
        )
        fix = (
            "check who is told and its secret in the environment, then autoretrain notices test and "
            "autoretrain notices resend --all"
        )
        yield Finding("notices", "warning", text, fix)
    if backlog.waiting:
        yield _waiting_notices(backlog, outbox.due(_FAR_AHEAD, limit=_MANY))


def _waiting_notices(backlog: Backlog, waiting: Sequence[Outgoing]) -> Finding:
    """What waits is no news, unless sending it has failed."""
    since = f"{backlog.oldest_waiting:%Y-%m-%d %H:%M} UTC" if backlog.oldest_waiting else "now"
    text = f"{backlog.waiting} waiting, the oldest since {since}"
    errors = [outgoing.error for outgoing in waiting if outgoing.error]
    if not errors:
        return ok("notices", text)
    fix = "they are tried again by themselves, and lose nothing; see: autoretrain notices"
    return Finding("notices", "warning", f"{text}: {errors[0]}", fix)
