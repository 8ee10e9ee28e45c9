"""A test notice to everybody who is told, so that nobody finds out at night that nothing arrives."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from ..ports.errors import AutoRetrainError, ConfigurationError, Problem, Temporary
from ..ports.notifier import DEFAULT_TARGET, Notice, Notifier, Severity
from .settings import Secrets, Settings
from .targets import all_kinds, build_targets, default_notifier


@dataclass(frozen=True, slots=True)
class Tested:
    """What became of a test notice.

    Attributes:
        target: Who was to get it.
        kind: How.
        notice: Identity of the notice.
        outcome: ``failed`` may pass, ``refused`` needs somebody to change something.
        error: What went wrong; empty when it was sent.
    """

    target: str
    kind: str
    notice: str
    outcome: Literal["sent", "failed", "refused"]
    error: str = ""


def send_tests(
    settings: Settings, names: Sequence[str], severity: Severity, actor: str, now: datetime
) -> Iterator[Tested]:
    """Send one test notice to each target; one that fails keeps none of the others from getting theirs.

    Args:
        settings: Checked settings.
        names: Targets; empty takes all, the default notifier (``default``) included.
        severity: Severity of the notice.
        actor: Who sends it.
        now: Time of the notice.

    Raises:
        ConfigurationError: There is no such target.
    """
    kinds = all_kinds(settings)
    unknown = [name for name in names if name not in kinds]
    if unknown:
        fix = f"there is no such target; there are {', '.join(kinds)}"
        raise ConfigurationError([Problem("target", repr(name), fix) for name in unknown])
    text = f"{actor} sends it by 'autoretrain notices test'. Nothing has happened."
    notice = Notice(
        f"test-{uuid.uuid4().hex}", "autoretrain", "test", severity, "Test of the notices", text, now
    )
    for name in names or kinds:
        yield _sent(name, kinds[name], notice, lambda name=name: _notifier(settings, name))  # type: ignore[misc]


def _notifier(settings: Settings, name: str) -> Notifier:
    if name == DEFAULT_TARGET:
        return default_notifier(settings, Secrets())
    return build_targets(settings, given=set(settings.notifier.targets) - {name})[name]


def _sent(name: str, kind: str, notice: Notice, made: Callable[[], Notifier]) -> Tested:
    if name != DEFAULT_TARGET:
        notice = replace(notice, id=f"{notice.id}.{name}", target=name)
    try:
        made().send(notice)
    except AutoRetrainError as error:
        outcome: Literal["failed", "refused"] = "failed" if isinstance(error, Temporary) else "refused"
        return Tested(name, kind, notice.id, outcome, str(error))
    return Tested(name, kind, notice.id, "sent")
