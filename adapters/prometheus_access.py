"""How a Prometheus server is reached: address, credentials, headers, parameters and TLS."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
"""Headers that the client sets by itself, in small letters."""

OWN_PARAMETERS = frozenset({"query", "start", "end", "step", "time"})
"""Parameters that say what is asked."""

WHOLE_OR_NOTHING = {"partial_response": "false", "deny_partial_response": "1"}
"""Asks Thanos, and VictoriaMetrics, to refuse where they could not ask all their stores; others ignore it."""

_ALERT = re.compile("ALERT.*(CERTIFICATE|UNKNOWN_CA)")
"""What OpenSSL calls the refusals that a server sends of a client's certificate."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def address(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without its secrets, and the secrets apart: httpx logs the addresses it asks.

    Raises:
        ValueError: It is no address of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the address of a Prometheus server starts with http:// or https://")
    _, at, host = parts.netloc.rpartition("@")
    auth = (unquote(parts.username or ""), unquote(parts.password or "")) if at else None
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/"), auth


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that can be sent; httpx would name the value of one that cannot.

    Raises:
        ValueError: A header cannot be sent; its value is not told.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("the name of a header holds a character that none may hold")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} holds a line break or a character that no header may hold")
    return dict(headers)


def headers_of(text: str) -> dict[str, str]:
    """Headers written ``Name: value``, one a line, as a secret of the environment holds them.

    Raises:
        ValueError: A line is no header; its text is not told.
    """
    found = {}
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
        name, colon, value = line.partition(":")
        if not colon or not value.strip():
            raise ValueError(f"line {number} is no header; write 'Name: value', one a line")
        found[name.strip()] = value.strip()
    return checked_headers(found)


def parameters_of(given: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    """Parameters of every query: those given, over those that refuse partial answers.

    Raises:
        ValueError: One of them would change what is asked.
    """
    if own := sorted(OWN_PARAMETERS & set(given)):
        raise ValueError(f"the parameter {own[0]} is set by the query itself")
    mine = {name: value if isinstance(value, str) else list(value) for name, value in given.items()}
    return {**WHOLE_OR_NOTHING, **mine}


def tls_context(
    ca_file: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """What a TLS connection trusts, and shows; the server's certificate and name are always checked.

    Args:
        ca_file: Certificates (PEM) of who may sign the server's; ``None`` trusts those of the system.
        certificate: Our own certificate (PEM), for servers that ask for one.
        key: Its private key, without a password; ``None`` when it stands in the same file.

    Raises:
        ValueError: A file cannot be read or used; the text names it.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{ca_file} cannot be used as certificates to trust: {_words(error)}") from None
    if certificate is not None:
        files = f"{certificate} and {key}" if key else str(certificate)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise ValueError(f"{files} cannot be used as our certificate and key: {_words(error)}") from None
    return context


def distrust(error: BaseException) -> str | None:
    """Which side did not trust the other's certificate, and what to do; ``None`` for another cause."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            fix = "prometheus.ca_file names who may sign it"
            return f"its certificate is not trusted: {cause.verify_message} ({fix})"
        if isinstance(cause, ssl.SSLError) and _ALERT.search(cause.reason or ""):
            fix = "prometheus.client_certificate and client_key name the one to show"
            return f"it did not take our certificate: {_words(cause)} ({fix})"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_password() -> str:
    # Without this, OpenSSL asks on the terminal, and a service would wait for ever.
    raise ValueError("the key has a password; give one without")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
