"""Notices to a Slack channel, through an incoming webhook."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from http.client import HTTPException, InvalidURL
from typing import TYPE_CHECKING, Any

from ..ports.errors import MissingExtra, Permanent, Temporary
from ..ports.notifier import Digest, DigestLine, Notice
from .deadline import TooLate, within
from .retry_after import retry_after

if TYPE_CHECKING:
    from slack_sdk.webhook import WebhookResponse

Block = dict[str, Any]

# Slack refuses a whole message for one block beyond its limits.
_MAX_HEADER = 150
_MAX_TEXT = 3000
_MAX_FIELD = 2000
_FIELDS_A_BLOCK = 10
_MAX_FACTS = 100
_IDS_A_PIECE = 20
_MAX_LINE = 600  # with 100 lines at most, a digest stays below 50 blocks

_SIGNS = {"info": ":information_source:", "warning": ":warning:", "critical": ":rotating_light:"}


class SlackNotifier:
    """Posts one message a notice: title, body, facts, and a line that ends with the notice's id.

    A backlog comes as a digest: one message, the most severe and newest first, each line with its ids.

    A webhook has no way to drop repeats, so a notice sent twice appears twice, with the same id. Only
    Slack's own ``ok`` counts as delivered; a proxy's page does not.

    Args:
        webhook_url: Address of the webhook. It is a secret, and appears in no message, log or repr.
        timeout: Seconds to wait for Slack, for the whole of its answer.

    Raises:
        ValueError: The address is not one of HTTP.
    """

    def __init__(self, webhook_url: str, *, timeout: float = 5) -> None:
        if not webhook_url.startswith(("http://", "https://")):
            raise ValueError("the address of a Slack webhook starts with https://")
        self._webhook_url = webhook_url
        self._timeout = timeout

    def send(self, notice: Notice) -> None:
        """Post the notice; see ``Notifier.send``.

        Raises:
            Temporary: Slack is away, slow, failing, or asks to wait (``retry_after``).
            Permanent: Slack refuses: the webhook is gone, or the message is not accepted.
            MissingExtra: slack-sdk is not installed.
        """
        self._post(f"{notice.model}: {notice.title}", _blocks(notice))

    def send_digest(self, digest: Digest) -> None:
        """Post many notices as one message; see ``DigestNotifier.send_digest`` and ``send``."""
        self._post(digest.title, _digest_blocks(digest))

    def _post(self, text: str, blocks: list[Block]) -> None:
        try:
            from slack_sdk.webhook import WebhookClient
        except ImportError:
            raise MissingExtra("slack_sdk", "slack") from None
        client = WebhookClient(
            self._webhook_url,
            timeout=self._timeout,  # type: ignore[arg-type]  # handed to a socket, which takes fractions
            logger=logging.Logger("slack", logging.CRITICAL),  # at DEBUG the client logs the address
            retry_handlers=[],  # the outbox retries, and remembers it
        )
        try:
            response = within(self._timeout, lambda: client.send(text=text, blocks=blocks))
        except TooLate:
            raise Temporary("Slack cannot be reached: no answer in time") from None
        except InvalidURL:
            raise Permanent("the address of the Slack webhook is not usable") from None
        except OSError as error:
            raise Temporary(f"Slack cannot be reached: {_cause(error)}") from None
        except (HTTPException, ValueError, LookupError) as error:  # no HTTP, or text in no known encoding
            raise Temporary(f"something that is not Slack answers: {type(error).__name__}") from None
        _check(response)


def _check(response: WebhookResponse) -> None:
    """Raise unless Slack has taken the message."""
    status, said = response.status_code, " ".join(response.body.split())[:100]
    if status == 200 and said == "ok":
        return
    if status in (408, 429) or status >= 500:
        raise Temporary(f"Slack answers {status}", retry_after(response.headers))
    if status < 400:
        raise Temporary(f"something that is not Slack answers ({status})")
    raise Permanent(f"Slack refuses the notice ({status}: {said})")


def _cause(error: OSError) -> str:
    """What went wrong, without the address: urllib wraps the error of the socket."""
    reason = getattr(error, "reason", error)
    return "no answer in time" if isinstance(reason, TimeoutError) else type(reason).__name__


def _blocks(notice: Notice) -> list[Block]:
    sign = _SIGNS[notice.severity]
    blocks: list[Block] = [{"type": "header", "text": _plain(f"{sign} {notice.title}")}]
    if notice.body.strip():
        blocks.append({"type": "section", "text": _markdown(notice.body, _MAX_TEXT)})
    blocks.extend(_facts(notice.facts))
    about = (
        f"{notice.model} · {notice.event} · {notice.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC · {notice.id}"
    )
    return [*blocks, {"type": "context", "elements": [_markdown(about, _MAX_TEXT)]}]


def _digest_blocks(digest: Digest) -> list[Block]:
    header: Block = {"type": "header", "text": _plain(f"{_SIGNS[digest.severity]} {digest.title}")}
    told = [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in _packed(digest.lines)]
    since, until = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (digest.since, digest.until))
    about = _markdown(f"{since} to {until} UTC · {digest.id}", _MAX_TEXT)
    return [header, *told, {"type": "context", "elements": [about]}]


def _packed(lines: Iterable[DigestLine]) -> Iterator[str]:
    """Lines in texts of which each fits into a block; the ids of a line may take blocks of their own."""
    text = ""
    for piece in (piece for line in lines for piece in _pieces(line)):
        if text and len(text) + 1 + len(piece) > _MAX_TEXT:
            yield text
            text = ""
        text = f"{text}\n{piece}" if text else piece
    yield text


def _pieces(line: DigestLine) -> Iterator[str]:
    """What the newest notice of a line says, how often it happened, and all ids."""
    newest, times = line.newest, len(line.ids)
    often = f" ({times} times)" if times > 1 else ""
    body = " ".join(newest.body.split())
    said = f"{newest.at.astimezone(UTC):%H:%M} {newest.title}{often}" + (f": {body}" if body else "")
    yield f"{_SIGNS[newest.severity]} {_escaped(said, _MAX_LINE)}"
    about = f"{newest.model} · {newest.event} · "
    for first in range(0, times, _IDS_A_PIECE):
        yield _escaped(about + " ".join(line.ids[first : first + _IDS_A_PIECE]), _MAX_TEXT)


def _facts(facts: Mapping[str, str]) -> Iterator[Block]:
    fields = [_markdown(f"{name}: {value}", _MAX_FIELD) for name, value in list(facts.items())[:_MAX_FACTS]]
    for first in range(0, len(fields), _FIELDS_A_BLOCK):
        yield {"type": "section", "fields": fields[first : first + _FIELDS_A_BLOCK]}


def _plain(text: str) -> Block:
    line = " ".join(text.split())
    cut = line if len(line) <= _MAX_HEADER else line[: _MAX_HEADER - 1] + "…"
    return {"type": "plain_text", "text": cut, "emoji": True}


def _markdown(text: str, limit: int) -> Block:
    return {"type": "mrkdwn", "text": _escaped(text, limit)}


def _escaped(text: str, limit: int) -> str:
    # Unescaped, a text could hold <!channel> and wake everybody. A cut must not leave half an entity.
    escaped = html.escape(text, quote=False)
    if len(escaped) > limit:
        escaped = re.sub("&[a-z]*$", "", escaped[: limit - 1]) + "…"
    return escaped
