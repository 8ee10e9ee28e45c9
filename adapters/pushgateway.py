"""Metrics left with a Prometheus Pushgateway, by a process that ends before anybody scrapes it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..ports.credentials import without_credentials
from ..ports.errors import Temporary
from .deadline import TooLate, within

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_WORDS = 300
"""Bytes of a refusal that are told."""


def push(registry: CollectorRegistry, gateway: str, job: str, seconds: float) -> None:
    """Put the metrics of a registry on a gateway; they replace what was there of the same job and host.

    Args:
        registry: The metrics.
        gateway: Address of the gateway.
        job: Value of the label ``job``; ``instance`` is the name of this host.
        seconds: How long this may take.

    Raises:
        Temporary: The gateway cannot be reached, was too slow, or refused.
    """
    from prometheus_client import push_to_gateway

    host = {"instance": socket.gethostname()}
    try:
        within(seconds, lambda: push_to_gateway(gateway, job, registry, host, seconds, _sender))
    except TooLate:
        raise Temporary(f"the Pushgateway at {gateway} did not answer within {seconds:g} s") from None
    except (OSError, HTTPException, ValueError) as error:
        why = without_credentials(str(error))
        raise Temporary(f"nothing was pushed to the Pushgateway at {gateway}: {why}") from None


def _sender(
    url: str, method: str, timeout: float | None, headers: Sequence[tuple[str, str]], data: bytes
) -> Callable[[], None]:
    """What sends a push; the client's own leaves its connection open, and tells no reason."""

    def send() -> None:
        request = Request(url, data, dict(headers), method=method)  # noqa: S310  (an address of HTTP)
        try:
            with urlopen(request, timeout=timeout):  # noqa: S310
                return
        except HTTPError as refusal:
            with refusal:
                said = refusal.read(_WORDS).decode(errors="replace").strip()
            raise OSError(f"it answers {refusal.code}{': ' if said else ''}{said}") from None

    return send
