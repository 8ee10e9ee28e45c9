"""Keeping secrets out of whatever people, logs and ledgers get to read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

_HIDDEN = "***"
_SHORTEST = 8
"""A shorter value of a variable is a word like any other, and hiding it would maul every message."""

# The second form is that of a password with an unescaped slash in it, which is no port.
_IN_ADDRESS = re.compile(
    r"(?<=://)(?:[^/?#\s'\"]*@|[^/?#\s:@'\"]+:(?!\d{1,5}(?![^/?#\s'\"]))[^\s@'\"]*@)",
)
_NAMES = r"password|passwd|pwd|token|secret|api[_-]?key|access[_-]?key|account[_-]?key|signature|credential"
_IN_PARAMETER = re.compile(
    rf"(?i)([\w-]*(?:{_NAMES})[\w-]*\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)",
)
_IN_JSON = re.compile(rf"(?i)(['\"][\w-]*(?:{_NAMES})[\w-]*['\"]\s*:\s*['\"])[^'\"]*")
_IN_HEADER = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*(?:b?['\"])?(?:(?:bearer|basic)\s+)?)[^\s'\"]+")
_SECRET_VARIABLE = re.compile(
    r"(?i)password|passwd|token|secret|api_?key|access_?key|private_?key|audit_?key|webhook|apprise|connection_string|dsn|_headers$"
)


def without_credentials(text: str) -> str:
    """Return a text without the secrets that can be told to be such.

    Those are: user and password in an address, parameters and headers with a telling name, and the values
    of environment variables with such a name, as they are or escaped for an address.

    Args:
        text: Any text: a message, a line of a log, a traceback.
    """
    for secret in _known(os.environ):
        text = text.replace(secret, _HIDDEN)
    text = _IN_ADDRESS.sub("", text)
    for pattern in (_IN_PARAMETER, _IN_JSON, _IN_HEADER):
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text


def without_userinfo(address: str) -> str:
    """Return an address without user and password, for use as an address."""
    return _IN_ADDRESS.sub("", address)


def presentable(error: BaseException) -> BaseException | None:
    """Return an error that may be shown as the cause of another; ``None`` when it tells a secret.

    A vendor's error often holds the address that was asked, and a traceback prints every cause.

    Args:
        error: The vendor's error; those behind it count, too.
    """
    behind: BaseException | None = error
    while behind is not None:
        if without_credentials(str(behind)) != str(behind):
            return None
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return error


def _known(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if not _SECRET_VARIABLE.search(name):
            continue
        for bare in _secrets_in(name, value):
            if len(bare) >= _SHORTEST:
                yield from sorted({bare, quote(bare, safe=""), repr(bare)[1:-1]}, key=len, reverse=True)


def _secrets_in(name: str, value: str) -> Iterator[str]:
    """What of a variable is secret: of headers, the values and not the names."""
    if not name.lower().endswith("_headers"):
        yield value.strip()
        return
    for line in value.splitlines():
        yield line.partition(":")[2].strip()
