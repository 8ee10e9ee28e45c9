"""Answers of servers that one cannot trust with one's time or memory."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


class DamagedBody(Exception):
    """A body is packed in a way nobody asked for, or cannot be unpacked."""


class Wire:
    """The connections of one client, cut when a request has had its time.

    httpx limits the wait for each piece: a server that sends a byte a second would be waited for without end.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self.is_cut = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of a connection; httpx calls this as its ``trace`` extension."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self.is_cut:
                self._cut()

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut all connections unless the block has ended by then: whoever waits on one wakes up."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.is_cut = True
        for connection in self._sockets:
            with suppress(OSError):  # it has gone by itself
                connection.shutdown(socket.SHUT_RDWR)


class Unpacked:
    """A body as it was before it was packed.

    httpx unpacks a piece as a whole, and what comes out can be a thousand times larger.
    """

    def __init__(self, encoding: str) -> None:
        known = {"identity": None, "gzip": zlib.decompressobj(wbits=31)}
        if encoding.strip().lower() not in known:
            raise DamagedBody
        self._gzip = known[encoding.strip().lower()]

    def add(self, piece: bytes, room: int) -> bytes:
        """Unpack a piece, up to so many bytes."""
        if self._gzip is None:
            return piece
        try:
            return self._gzip.decompress(piece, room)
        except zlib.error:
            raise DamagedBody from None

    def check_whole(self) -> None:
        """Raise unless the end has been seen."""
        if self._gzip is not None and not self._gzip.eof:
            raise DamagedBody
