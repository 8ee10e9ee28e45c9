"""Notices by e-mail, to Microsoft Teams, PagerDuty and all else that apprise knows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..ports.errors import MissingExtra, Temporary
from ..ports.notifier import Digest, DigestLine, Notice
from .deadline import TooLate, within

if TYPE_CHECKING:
    from apprise import Apprise
    from apprise.plugins.base import NotifyBase

_KINDS = {"info": "info", "warning": "warning", "critical": "failure"}
"""What apprise calls our severities; PagerDuty makes info, warning and critical of them again."""

_MAX_TITLE = 200
_DIGEST_ROOM = 16_000
"""Characters that a message must hold for a digest of 100 notices with all their ids."""

_LOGGERS = ("apprise", "urllib3.connectionpool")
"""Both name addresses: apprise when one is refused, and at DEBUG with all that is sent."""

_ADDRESS = re.compile(r"(\w+://)\S+")
_WORD = 3  # shorter parts of an address are no secret, and hiding them would maul every message


class AppriseNotifier:
    """Sends each notice as one message of title and text, which ends with the notice's id.

    PagerDuty gets the id as its deduplication key, unless the address has a ``dedup`` of its own; other
    services have no way to drop a repeat.

    Args:
        url: Address of one service, as apprise writes it (``mailtos://…``). It is a secret, and appears in no
            message, log or repr.
        timeout: Seconds to wait for the whole of a sending; what takes longer may still arrive.

    Raises:
        ValueError: The address is of no use; says what apprise found, without the address.
        MissingExtra: apprise is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 20) -> None:
        self._url = url
        self._timeout = timeout
        self._secrets = _secrets_in(url)
        service = self._service()
        self.service = str(service.service_name)
        self._room = _room_of(service)

    def send(self, notice: Notice) -> None:
        """Send the notice; see ``Notifier.send``.

        Raises:
            Temporary: apprise could not send it. It does not say whether another try will do.
            MissingExtra: apprise is not installed any more.
        """
        room = self._room
        self._send(notice.title, lambda title: _text(notice, room - len(title)), notice.severity, notice.id)

    def _send(self, title: str, text: Callable[[str], str], severity: str, key: str) -> None:
        short = _cut(_one_line(title), _MAX_TITLE)
        service: Any = self._service()  # a new one each time: none waits for the throttle of the last
        if getattr(service, "dedup", "") is None:
            service.dedup = key
        said: list[str] = []
        try:
            arrived = within(self._timeout, lambda: _notify(service, short, text(short), severity, said))
        except TooLate:
            raise Temporary(f"{self.service}: no answer in time") from None
        except Exception as error:  # of whatever library the service is made
            raise Temporary(f"{self.service}: {type(error).__name__}") from None
        if not arrived:
            raise Temporary(f"{self.service}: {self._reason(said)}")

    def _service(self) -> NotifyBase:
        try:
            from apprise import Apprise
        except ImportError:
            raise MissingExtra("apprise", "apprise") from None
        said: list[str] = []
        with _overheard(said):
            service = Apprise.instantiate(self._url, asset=_asset())
        if service is None:
            raise ValueError(f"apprise cannot use the address: {self._reason(said)}")
        if getattr(service, "optional", False):
            raise ValueError("the address says optional=yes, which would hide every failure: leave it out")
        return service

    def _reason(self, said: list[str]) -> str:
        """The first thing that apprise complained of, without what is secret."""
        found = _one_line(said[0]) if said else "it does not say why"
        # What apprise masks by itself keeps the first and the last character of a secret.
        return _cut(self._secrets.sub("***", _ADDRESS.sub(r"\1…", found)), _MAX_TITLE)


class AppriseDigestNotifier(AppriseNotifier):
    """An ``AppriseNotifier`` whose service takes long messages: a backlog comes as one, with every id."""

    def send_digest(self, digest: Digest) -> None:
        """Send many notices as one message; see ``DigestNotifier.send_digest`` and ``send``."""
        self._send(digest.title, lambda title: _digest_text(digest, self._room), digest.severity, digest.id)


def apprise_notifier(url: str, *, timeout: float = 20) -> AppriseNotifier:
    """The notifier of an address: one that takes digests where its service takes messages of that length.

    Raises:
        ValueError: The address is of no use; see ``AppriseNotifier``.
        MissingExtra: apprise is not installed.
    """
    notifier = AppriseNotifier(url, timeout=timeout)
    return AppriseDigestNotifier(url, timeout=timeout) if notifier._room >= _DIGEST_ROOM else notifier


def _asset() -> Any:
    """How apprise behaves: nothing kept on the disk, no pictures fetched from elsewhere, no redirects."""
    from apprise import AppriseAsset, PersistentStoreMode

    asset = AppriseAsset(
        app_id="AutoRetrain",
        app_desc="AutoRetrain",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        secure_logging=True,
        storage_mode=PersistentStoreMode.MEMORY,
    )
    asset.http_redirects = False
    return asset


def _notify(service: NotifyBase, title: str, text: str, severity: str, said: list[str]) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType

    sender: Apprise = Apprise(asset=service.asset)
    sender.add(service)
    with _overheard(said):
        kind = NotifyType(_KINDS[severity])
        return bool(sender.notify(text, title=title, notify_type=kind, body_format=NotifyFormat.TEXT))


def _room_of(service: NotifyBase) -> int:
    """Characters of a message, title and text together."""
    return int(service.body_maxlen) - 2  # a title that is no field of its own goes before the text


# -- what apprise says --------------------------------------------------------------------------------------

_hearing: ContextVar[list[str] | None] = ContextVar("autoretrain_apprise", default=None)


class _Hush(logging.Filter):
    """Keeps what is logged while we send from every log, since it may name the address; hears complaints."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = _hearing.get()
        if said is None:  # somebody else's own use of the library
            return True
        if record.name == _LOGGERS[0] and record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return False


_HUSH = _Hush()


@contextmanager
def _overheard(said: list[str]) -> Iterator[None]:
    """Collect in ``said`` what apprise complains of in this thread meanwhile."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_HUSH)  # adds it once
    token = _hearing.set(said)
    try:
        yield
    finally:
        _hearing.reset(token)


def _secrets_in(url: str) -> re.Pattern[str]:
    """What of an address must not be told: every part of it but the scheme and the names of parameters."""
    rest = url.partition("://")[2] if "://" in url else url
    values = [value for _, value in parse_qsl(urlsplit(url).query)] if "?" in url else []
    found = {rest, *re.split(r"[/:@?&=,;#]", rest.partition("?")[0]), *values}
    found |= {part for value in values for part in re.split(r"[/:@,;]", value)}
    found |= {unquote(part) for part in found}
    words = sorted((part for part in found if len(part) >= _WORD), key=len, reverse=True)
    return re.compile(
        "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words) or r"(?!)", re.IGNORECASE
    )


# -- texts --------------------------------------------------------------------------------------------------


def _text(notice: Notice, room: int) -> str:
    """Text of a notice, with its id at the end whatever had to be cut."""
    at = f"{notice.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    about = f"{notice.model} · {notice.severity} · {notice.event} · {at} · {notice.id}"
    facts = "\n".join(f"{name}: {_one_line(value)}" for name, value in notice.facts.items())
    told = "\n\n".join(part for part in (_harmless(notice.body.strip()), _harmless(facts)) if part)
    head = _cut(told, max(room - len(about) - 2, 0))
    return f"{head}\n\n{about}" if head else about


def _digest_text(digest: Digest, room: int) -> str:
    since, until = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (digest.since, digest.until))
    about = f"{since} to {until} UTC · {digest.id}"
    ids = [f"  {line.newest.model} · {line.newest.event} · {' '.join(line.ids)}" for line in digest.lines]
    left = room - _MAX_TITLE - len(about) - sum(len(each) + 4 for each in ids)
    most = max(left // len(digest.lines), 40)
    told = [f"{_line(line, most)}\n{named}" for line, named in zip(digest.lines, ids, strict=True)]
    return "\n\n".join([*told, about])


def _line(line: DigestLine, most: int) -> str:
    newest, times = line.newest, len(line.ids)
    often = f" ({times} times)" if times > 1 else ""
    body = _one_line(newest.body)
    said = f"{newest.severity}, {newest.at.astimezone(UTC):%H:%M}: {newest.title}{often}" + (
        f": {body}" if body else ""
    )
    return _cut(_harmless(_one_line(said)), most)


def _harmless(text: str) -> str:
    """A text that calls nobody: Teams reads ``<at>`` in it as a mention, whoever wrote it."""
    return re.sub(r"<(/?at)\b", "\u2039\\1", text, flags=re.IGNORECASE)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"
