"""Delivery: sends what waits in the outbox, at least once, without holding the loop up.

A receiver that is away is asked seldom, and with the least urgent notice, so that the urgent ones are due the
moment it is back. A backlog becomes one message, the newest critical first, not hundreds of old ones.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ..ports.notifier import Digest, Notifier
from ..ports.outbox import Backlog, Outbox, Outgoing
from ..ports.values import Pending
from .digest import digest_of
from .plan import Trouble

Ask = Callable[[str, Hashable, Callable[[], Any]], Any]
"""``World.ask_in_time``: its answer, a ``Trouble``, or ``Pending`` as long as the answer is on the way."""

Message = tuple[Outgoing, ...]
"""What is sent in one call: a single notice, or several as a digest."""

FEW = 5
"""So many waiting notices are sent one by one, in the order in which they happened; more make a digest."""

DIGEST_SIZE = 100
"""Notices in one digest."""

DEFAULT = ""
"""Target of what goes to the default notifier."""

MOST_SENDS = 20
"""Messages to one target in one tick. What is left over is due in the next one."""

MOST_SECONDS = 10.0
"""No message is begun later than this after the target's first one of a tick."""

FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0
"""Seconds between two tries of a notice: doubled with every failure, up to the longest."""

LONGEST_PAUSE = 60.0
"""Seconds without any try while the receiver is away; a new notice, or a resend, waits no longer."""

LONGEST_ASKED = 3600.0
"""Seconds that a receiver may ask for at most; a mistaken ``Retry-After`` must not silence us for a year."""

_LONGEST_ERROR = 300
_GONE = (
    "the settings have no such target: put it back, or send its notices elsewhere with "
    "'autoretrain notices resend --all --to TARGET'"
)
_FAR_AHEAD = datetime(9999, 12, 31, tzinfo=UTC)
_MANY = 1000
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a tick delivered.

    Attributes:
        sent: Notices that have arrived.
        backlog: What has not.
    """

    sent: int = 0
    backlog: Backlog = Backlog(0, 0)  # noqa: RUF009  (frozen)


class Deliveries:
    """One delivery a target, so that a receiver that is away holds back no notices but its own.

    Args:
        outbox: Where notices wait.
        notifiers: Who sends them, by target; ``DEFAULT`` among them.
        ask: Calls a notifier, and turns what goes wrong into a ``Trouble``.
        holder: Notices of models whose lease is another's are left to that one; ``None`` sends all.
        monotonic: Stopwatch in seconds, by which a tick's sending is bounded.
    """

    def __init__(
        self,
        outbox: Outbox,
        notifiers: Mapping[str, Notifier],
        ask: Ask,
        *,
        monotonic: Callable[[], float],
        holder: str | None = None,
    ) -> None:
        self._outbox = outbox
        self._holder = holder
        self._deliveries = {
            target: Delivery(outbox, notifier, ask, monotonic=monotonic, holder=holder, target=target)
            for target, notifier in notifiers.items()
        }

    def deliver(self, now: datetime) -> Delivered:
        """Send what is due to every target, and give up what is for a target that is no more.

        Args:
            now: Time of the tick.

        Returns:
            What has arrived, and what has not.

        Raises:
            Temporary: The outbox cannot be reached; what was sent and not noted goes out again, with its id.
        """
        sent = sum(delivery.send(now) for delivery in self._deliveries.values())
        backlog = self._outbox.counts()
        gone = [target for target in backlog.targets if target not in self._deliveries]
        for target in gone:
            self._give_up(target)
        return Delivered(sent, self._outbox.counts() if gone else backlog)

    def _give_up(self, target: str) -> None:
        """Make dead letters of notices that nobody can take: a person sees them, and can send them on."""
        for waiting in self._outbox.due(_FAR_AHEAD, _MANY, self._holder, target):
            self._outbox.postpone(waiting.notice.id, None, f"{target}: {_GONE}")


class Delivery:
    """Takes the notices of one target from the outbox to its notifier. Remembers only whether it is away.

    Args:
        outbox: Where notices wait.
        notifier: Who sends them; one that is a ``DigestNotifier`` gets a backlog as digests.
        ask: Calls the notifier, and turns what goes wrong into a ``Trouble``.
        holder: Notices of models whose lease is another's are left to that one; ``None`` sends all.
        monotonic: Stopwatch in seconds, by which a tick's sending is bounded.
        target: Whose notices; those of others are left to their deliveries.
    """

    def __init__(
        self,
        outbox: Outbox,
        notifier: Notifier,
        ask: Ask,
        *,
        monotonic: Callable[[], float],
        holder: str | None = None,
        target: str = DEFAULT,
    ) -> None:
        self._outbox = outbox
        self._target = target
        self._part = f"notifier {target}" if target else "notifier"  # threads of its own, and counts
        self._send_one = notifier.send
        # Asked by name: isinstance does not see what a wrapper passes on to the notifier inside it.
        self._send_digest: Callable[[Digest], None] | None = getattr(notifier, "send_digest", None)
        self._ask = ask
        self._monotonic = monotonic
        self._holder = holder
        self._on_its_way: Message | None = None  # begun in an earlier tick
        self._failures = 0  # in a row
        self._quiet: tuple[datetime, datetime] | None = None  # from, until

    def deliver(self, now: datetime) -> Delivered:
        """Send what is due, as far as a tick allows.

        Args:
            now: Time of the tick.

        Returns:
            What has arrived, and what has not.

        Raises:
            Temporary: The outbox cannot be reached; what was sent and not noted goes out again, with its id.
        """
        return Delivered(self.send(now), self._outbox.counts())

    def send(self, now: datetime) -> int:
        """Send what is due, as far as a tick allows; see ``deliver``.

        Returns:
            How many notices have arrived.
        """
        return 0 if self._is_quiet(now) else self._send_due(now)

    def _is_quiet(self, now: datetime) -> bool:
        if self._quiet is None:
            return False
        begun, until = self._quiet
        return begun <= now < until  # a clock that was set back ends the pause

    def _send_due(self, now: datetime) -> int:
        sent, ends = 0, self._monotonic() + MOST_SECONDS
        queue: deque[Message] = deque([self._on_its_way] if self._on_its_way else [])
        self._on_its_way = None
        for _ in range(MOST_SENDS):
            if not queue:
                queue.extend(self._messages(now))
            if not queue or self._monotonic() > ends:
                break
            message = queue.popleft()
            failure = self._ask(self._part, _identity(message), partial(self._send, message))
            if isinstance(failure, Pending):
                self._on_its_way = message
                break
            if not isinstance(failure, Trouble):
                sent += self._arrived(message, now)
            elif failure.temporary:
                self._away(message, failure, now)
                break
            elif len(message) > 1:  # its refusal says nothing about any single one
                queue.extendleft((each,) for each in reversed(message))
            else:
                self._outbox.postpone(message[0].notice.id, None, presentable(failure.reason))
        return sent

    def _messages(self, now: datetime) -> list[Message]:
        most = DIGEST_SIZE if self._send_digest else MOST_SENDS
        due = self._outbox.due(now, most, self._holder, self._target)
        if self._failures:
            return [(each,) for each in due[-1:]]
        if self._send_digest and len(due) > FEW:
            return [tuple(due)]
        as_written = reversed(due)  # of one severity; the sort keeps that order among equal times
        return [(each,) for each in sorted([*as_written], key=lambda each: each.notice.at)]

    def _send(self, message: Message) -> None:
        if len(message) > 1 and self._send_digest:
            self._send_digest(digest_of([each.notice for each in message]))
        else:
            self._send_one(message[0].notice)

    def _arrived(self, message: Message, now: datetime) -> int:
        self._failures, self._quiet = 0, None
        for each in message:
            self._outbox.delivered(each.notice.id, now)
        return len(message)

    def _away(self, message: Message, failure: Trouble, now: datetime) -> None:
        """Try the message again later, and nothing before that."""
        tries = max(self._failures, *(each.attempts for each in message))
        self._failures += 1
        asked = failure.retry_after if failure.retry_after and failure.retry_after > 0 else None
        wait = min(asked, LONGEST_ASKED) if asked else back_off(tries, message[0].notice.id)
        self._quiet = now, now + timedelta(seconds=wait if asked else min(wait, LONGEST_PAUSE))
        until = now + timedelta(seconds=wait)
        for each in message:
            self._outbox.postpone(each.notice.id, until, presentable(failure.reason))


def _identity(message: Message) -> Hashable:
    """The same message in the same try."""
    return ("send", *((each.notice.id, each.attempts) for each in message))


def back_off(failures: int, notice_id: str) -> float:
    """Seconds until the next try: exponential, capped, with jitter.

    Half of the wait is fixed and half depends on the notice ("equal jitter", M. Brooker, Exponential Backoff
    And Jitter, AWS Architecture Blog, 2015), so that many controllers do not come back at the same moment.
    The jitter is derived from the notice, since a decision of the domain draws nothing at random.

    Args:
        failures: Tries that failed before this one.
        notice_id: Identity of the notice.
    """
    whole = min(FIRST_WAIT * 2.0 ** min(failures, 20), LONGEST_WAIT)
    drawn = hashlib.sha256(f"{notice_id}/{failures}".encode()).digest()[:4]
    return whole / 2 + whole / 2 * int.from_bytes(drawn) / 2**32


def presentable(error: str) -> str:
    """An error as it may be kept and shown: one short line, in which addresses have lost all but their host.

    The path of a webhook is its password, and an adapter of somebody else's may have put it into its message.
    """
    text = " ".join(_ADDRESS.sub(_host_only, error).split())
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def _host_only(found: re.Match[str]) -> str:
    try:
        parts = urlsplit(found.group())
        return f"{parts.scheme}://{parts.hostname or ''}/…"
    except ValueError:
        return "…"
