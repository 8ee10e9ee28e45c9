"""Notices to a program of yours: signed JSON over HTTPS."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..ports.errors import Permanent, Temporary
from ..ports.notifier import Notice
from .deadline import TooLate, within
from .retry_after import retry_after

SCHEMA_VERSION = 1
"""``version`` of the body. It rises when a field goes or means something else, not when one is added."""

SIGNATURE_HEADER = "X-AutoRetrain-Signature"
SHORTEST_KEY = 32
"""Characters. A key that can be guessed signs nothing; HMAC wants one as long as its hash (RFC 2104)."""

_TRY_AGAIN = frozenset({408, 409, 425, 429})
"""Refusals that pass; 409 is "I am at it" for a repeated key (draft-ietf-httpapi-idempotency-key-header)."""


class WebhookNotifier:
    """Posts each notice as a JSON object; any answer of 2xx is a delivery.

    ``Idempotency-Key`` carries the notice's id, so that the receiver can drop a repeat. The body is signed:
    ``X-AutoRetrain-Signature: t=<seconds since 1970>,v1=<hex>`` with HMAC-SHA256 over ``<t>.<body>``.
    Redirects are not followed: a body that was signed for one receiver is handed to no other.

    Args:
        url: Where to; ``https://``, or ``http://`` to this machine. It is a secret, as the key is.
        key: Signs what is sent; 32 characters or more.
        timeout: Seconds to wait for the receiver, for the whole of its answer.
        clock: Seconds since 1970, for the signature.

    Raises:
        ValueError: The address cannot be used, or the key is too short. Neither is repeated.
    """

    def __init__(
        self, url: str, key: str, *, timeout: float = 5, clock: Callable[[], float] = time.time
    ) -> None:
        check_address(url)
        check_key(key)
        self._url = url
        self._key = key.encode()
        self._timeout = timeout
        self._clock = clock
        # Environment variables name a proxy where there is one, as everywhere.
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, notice: Notice) -> None:
        """Post the notice; see ``Notifier.send``.

        Raises:
            Temporary: The receiver is away, slow, failing, redirects, or asks to wait (``retry_after``).
            Permanent: The receiver refuses (4xx but 408, 409, 425 and 429).
        """
        body = json.dumps(body_of(notice), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "autoretrain",
            "Idempotency-Key": notice.id,
            SIGNATURE_HEADER: signature(self._key, body, int(self._clock())),
        }
        status, answered = self._asked("POST", body, headers)
        _check(status, answered)

    def check(self) -> str:
        """Ask whether the receiver is there, without sending anything (HEAD); any answer will do.

        Returns:
            What was found, for people.

        Raises:
            Temporary: It is away, or its certificate is not trusted.
        """
        status, _ = self._asked("HEAD", None, {"User-Agent": "autoretrain"})
        return f"answers ({status} to HEAD)"

    def _asked(
        self, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str]]:
        request = urllib.request.Request(self._url, body, dict(headers), method=method)  # noqa: S310  (checked)
        try:
            return within(self._timeout, lambda: _answer(self._opener, request, self._timeout))
        except TooLate:
            raise Temporary("the webhook cannot be reached: no answer in time") from None
        except OSError as error:
            raise Temporary(f"the webhook cannot be reached: {_cause(error)}") from None
        except (HTTPException, ValueError, LookupError) as error:
            raise Temporary(f"something that is no webhook answers: {type(error).__name__}") from None


def body_of(notice: Notice) -> Mapping[str, Any]:
    """The body of a notice as JSON values; docs/notices.md says what each means."""
    return {
        "version": SCHEMA_VERSION,
        "id": notice.id,
        "kind": notice.event,
        "severity": notice.severity,
        "model": notice.model,
        "job": notice.facts.get("job"),
        "title": notice.title,
        "text": notice.body,
        "at": notice.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "facts": dict(notice.facts),
    }


def signature(key: bytes, body: bytes, at: int) -> str:
    """What the signature header says.

    The time is signed, too, so that whoever recorded a request cannot bring it again later as a new one.

    Args:
        key: The key that both sides have.
        body: The body, byte by byte as it is sent.
        at: Time of the sending, in whole seconds since 1970.
    """
    signed = hmac.new(key, f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the answer itself is what is judged."""


def _answer(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float
) -> tuple[int, Mapping[str, str]]:
    """Status and headers; the body is not read, since nobody can say how long it is."""
    try:
        with opener.open(request, timeout=timeout) as response:
            return response.status, dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def _check(status: int, headers: Mapping[str, str]) -> None:
    """Raise unless the receiver has taken the notice."""
    if 200 <= status < 300:
        return
    if status in _TRY_AGAIN or status >= 500:
        raise Temporary(f"the webhook answers {status}", retry_after(headers))
    if status < 400:  # a login page before it, as often as a move
        raise Temporary(f"the webhook answers {status}: redirects are not followed")
    raise Permanent(f"the webhook refuses the notice ({status})")


def _cause(error: OSError) -> str:
    """What went wrong, without the address: urllib wraps the error of the socket."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    return type(reason).__name__


def check_key(key: str) -> None:
    """Raise ``ValueError`` for a key that signs nothing; says what to do."""
    if len(key) < SHORTEST_KEY:
        fix = "make one with 'openssl rand -hex 32'"
        raise ValueError(f"the key is too short: it needs {SHORTEST_KEY} characters; {fix}")


def check_address(url: str) -> None:
    """Raise ``ValueError`` for an address that nothing can be posted to in safety; does not repeat it."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("the address of a webhook has no spaces and no line ends")
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or _is_here(parts)):
        raise ValueError("the address of a webhook starts with https:// (http:// to this machine only)")
    if parts.username is not None:
        raise ValueError("the address of a webhook holds no user and password: the signature says who sends")


def _is_here(parts: SplitResult) -> bool:
    """Whether it is HTTP to this very machine, where nobody listens in between."""
    if parts.scheme != "http":
        return False
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
