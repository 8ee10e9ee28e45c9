"""The kubelet's end of ``kubectl exec`` without standard input: WebSocket, ``v5.channel.k8s.io``.

One message carries one channel, whose number is its first byte. The API server passes them on as they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

_OUTPUT, _ERROR, _STATUS = b"\x01", b"\x02", b"\x03"
_BINARY, _CLOSE = 2, 8
_OF_RFC_6455 = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def answer_exec(handler: BaseHTTPRequestHandler, done: subprocess.CompletedProcess[bytes]) -> None:
    """Send what a program printed, and how it ended."""
    key = handler.headers["Sec-WebSocket-Key"] + _OF_RFC_6455
    accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accepted)
    handler.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
    handler.end_headers()
    for frame in _frames(done):
        handler.wfile.write(frame)
    handler.close_connection = True


def _frames(done: subprocess.CompletedProcess[bytes]) -> Iterator[bytes]:
    for channel, text in ((_OUTPUT, done.stdout), (_ERROR, done.stderr)):
        if text:
            yield _frame(_BINARY, channel + text)
    yield _frame(_BINARY, _STATUS + json.dumps(_status(done.returncode)).encode())
    yield _frame(_CLOSE, struct.pack(">H", 1000))


def _status(code: int) -> dict[str, object]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    told = {"message": f"command terminated with exit code {code}", "details": {"causes": causes}}
    return {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", **told}


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack(">BB", 0x80 | kind, size) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", 0x80 | kind, 126, size) + payload
    return struct.pack(">BBQ", 0x80 | kind, 127, size) + payload
