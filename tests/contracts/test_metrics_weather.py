"""A Prometheus that drips, never ends, answers too much or leads elsewhere: bounded time, bounded memory."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from local_http import local_server, raw_server

from autoretrain.adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery
from autoretrain.entrypoints.testing.metrics import METRIC, START, STEP, query
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.metrics import MetricWindow

TIMEOUT = 0.4
ENOUGH = 3.0  # seconds; without a deadline the servers here keep a client for minutes
MEGABYTE = 1_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                {
                    "metric": {"model": "heat"},
                    "values": [[(START + n * STEP).timestamp(), "0.9"] for n in range(10)],
                }
            ],
        },
    }
).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[n : n + 1] for n in range(len(data)))


def read(url: str, **options: Any) -> MetricWindow:
    source = PrometheusMetrics(url, {METRIC: PrometheusQuery("accuracy")}, **{"timeout": TIMEOUT, **options})
    (answer,) = source.read([query("heat", 0, 10)])
    return answer


# -- time ---------------------------------------------------------------------------------------------------


def nothing_packed() -> Iterator[bytes]:
    """A gzip stream that goes on and on and holds nothing: blocks of no bytes."""
    packer = zlib.compressobj(wbits=31)
    yield OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield chunk(packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH))
    while True:
        yield chunk(packer.flush(zlib.Z_FULL_FLUSH) or b"\x00\x00\x00\xff\xff")


DRIPS: dict[str, Callable[[], Iterable[bytes]]] = {
    "silence": lambda: itertools.repeat(b""),
    "its status": lambda: bytewise(b"HTTP/1.1 200 " + b"O" * 10_000),
    "its headers": lambda: itertools.chain([OK], bytewise(b"X-Long: " + b"x" * 10_000)),
    "more headers": lambda: itertools.chain([OK], (f"X-{n}: x\r\n".encode() for n in itertools.count())),
    "interim answers": lambda: itertools.repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "its body": lambda: itertools.chain([OK + b"Content-Length: 100000\r\n\r\n"], bytewise(GOOD * 100)),
    "a body of chunks": lambda: itertools.chain([CHUNKED], itertools.repeat(chunk(b" "))),
    "a whole body without an end": lambda: itertools.chain([OK + b"\r\n" + GOOD], itertools.repeat(b"")),
    "a packed nothing": nothing_packed,
    "an error": lambda: itertools.chain([b"HTTP/1.1 503 Busy\r\n\r\n"], itertools.repeat(b"x")),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_server_that_drips_costs_one_timeout(drip: Callable[[], Iterable[bytes]]) -> None:
    """Each byte comes well within a time limit for a single wait."""
    with raw_server(drip, pause=0.03) as server:
        began = time.monotonic()
        with pytest.raises(Temporary, match=r"did not answer within 0\.4 s"):
            read(server.url)
        assert TIMEOUT * 0.9 < time.monotonic() - began < ENOUGH


def test_a_server_that_takes_no_connection_costs_one_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())  # fills the queue
        began = time.monotonic()
        with pytest.raises(Temporary, match="did not answer within"):
            read(f"http://127.0.0.1:{full.getsockname()[1]}")
        assert time.monotonic() - began < ENOUGH
        for client in waiting:
            client.close()


def test_a_slow_answer_within_its_time_counts() -> None:
    halves = [OK + f"Content-Length: {len(GOOD)}\r\n\r\n".encode(), GOOD[:100], GOOD[100:]]
    with raw_server(lambda: halves, pause=0.05) as server:
        assert read(server.url, timeout=20).value == pytest.approx(0.9)


# -- memory -------------------------------------------------------------------------------------------------


def hundred_megabytes(server_says: bytes) -> Callable[[], Iterable[bytes]]:
    block = b'[1700000000,"0.9"],' * 5000
    return lambda: itertools.chain(
        [server_says], itertools.repeat(chunk(block), 100 * MEGABYTE // len(block))
    )


@functools.cache
def packed_megabytes() -> bytes:
    return gzip.compress(b" " * (100 * MEGABYTE))


def bomb() -> Iterable[bytes]:
    packed = packed_megabytes()
    yield OK + b"Content-Encoding: gzip\r\n" + f"Content-Length: {len(packed)}\r\n\r\n".encode()
    yield packed


BODIES: dict[str, Callable[[], Iterable[bytes]]] = {
    "chunks": hundred_megabytes(CHUNKED),
    "said beforehand": hundred_megabytes(OK + b"Content-Length: 100000000\r\n\r\n"),
    "packed": bomb,
    "endless": lambda: itertools.chain([CHUNKED], itertools.repeat(chunk(b"x" * 65536))),
    "an error page": hundred_megabytes(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_100_megabytes_are_not_read(body: Callable[[], Iterable[bytes]]) -> None:
    with raw_server(body) as server:
        read(server.url, timeout=20, max_bytes=2 * MEGABYTE)  # imports what it needs
        server.sent = 0
        tracemalloc.start()
        try:
            answer = read(server.url, timeout=20, max_bytes=2 * MEGABYTE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.reason == "the answer of Prometheus is larger than 2000000 bytes"
        assert not answer.empty
        assert peak < 8 * MEGABYTE
        assert server.sent < 20 * MEGABYTE  # what lay in the sockets' buffers included


def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(GOOD)
    head = OK + f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with raw_server(lambda: [head, packed]) as server:
        assert read(server.url, timeout=20).value == pytest.approx(0.9)


# -- what is cut off or led elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sends", "says"),
    [
        ([OK + f"Content-Length: {len(GOOD) - 50}\r\n\r\n".encode(), GOOD[:-50]], "malformed"),
        ([OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(GOOD)[:-20]], "decompressed"),
        ([OK + b"Content-Encoding: br\r\n\r\n", GOOD], "decompressed"),
        ([OK + b"\r\n", GOOD[:-50]], "malformed"),
    ],
    ids=["partial JSON", "partial gzip", "another packing", "closed in the middle of JSON"],
)
def test_half_an_answer_is_unknown_and_not_empty(sends: list[bytes], says: str) -> None:
    with raw_server(lambda: sends) as server:
        answer = read(server.url, timeout=20)
    assert answer.value is None
    assert says in answer.reason
    assert not answer.empty


@pytest.mark.parametrize(
    "sends",
    [
        [OK + b"Content-Length: 100000\r\n\r\n", GOOD],
        [CHUNKED, chunk(GOOD)],
        [b"220 mail.example ESMTP\r\n"],
        [OK + b"Content-Length: five\r\n\r\n", GOOD],
        [OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", GOOD],
        [],
    ],
    ids=["shorter than said", "last chunk missing", "no HTTP", "no length", "long length", "nothing"],
)
def test_what_is_not_http_is_temporary(sends: list[bytes]) -> None:
    with raw_server(lambda: sends) as server, pytest.raises(Temporary, match="cannot be reached"):
        read(server.url, timeout=20)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_no_secret_to_another_host(status: int) -> None:
    with local_server() as here, local_server() as there:
        there.reply(200, GOOD)
        elsewhere = there.url.replace("127.0.0.1", "localhost")
        here.reply(status, "", Location=f"{elsewhere}/api/v1/query_range?token=sesame-seed")
        with pytest.raises(Permanent, match="redirects") as caught:
            read(here.url, timeout=20, headers={"Authorization": "Bearer sesame-seed"})
        assert here.requests[0].headers["Authorization"] == "Bearer sesame-seed"
        assert there.requests == []
    assert "sesame-seed" not in str(caught.value)


# -- what a server says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("0", None), ("-5", None), ("9" * 400, 86_400.0), ("99999999999", 86_400.0), ("", None)],
)
def test_no_server_can_ask_for_more_than_a_day(header: str, seconds: float | None) -> None:
    with local_server() as server:
        server.reply(503, "", Retry_After=header)
        with pytest.raises(Temporary) as caught:
            read(server.url, timeout=20)
    assert caught.value.retry_after == seconds


def test_an_error_that_repeats_the_credentials_does_not_pass_them_on() -> None:
    with local_server() as server:
        said = "no access for http://ann:sesame-seed@metrics/?token=sesame-seed"
        said += ", Authorization: Bearer sesame-seed"
        server.reply(422, json.dumps({"status": "error", "error": said}))
        with pytest.raises(Permanent, match="no access for http://metrics/") as caught:
            read(server.url, timeout=20)
    assert "sesame-seed" not in str(caught.value)


@pytest.mark.parametrize("value", ["Bearer sesame-seed\n", "Bearer sesame\x00seed", "Bearer sésame-seed"])
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(value: str) -> None:
    with pytest.raises(ValueError, match="the value of Authorization") as caught:
        PrometheusMetrics("http://127.0.0.1:9", {}, headers={"Authorization": value})
    assert "seed" not in str(caught.value)


def test_what_is_only_information_is_no_warning() -> None:
    with local_server() as server:
        server.reply(200, json.dumps({**json.loads(GOOD), "infos": ["a metric might not be a counter"]}))
        assert read(server.url, timeout=20).value == pytest.approx(0.9)


def test_the_newest_sample_counts_in_whatever_order_they_come() -> None:
    answer = json.loads(GOOD)
    answer["data"]["result"][0]["values"].reverse()
    with local_server() as server:
        server.reply(200, json.dumps(answer))
        assert read(server.url, timeout=20).last_at == START + 9 * STEP


def test_a_sample_that_is_old_says_how_old() -> None:
    answer = json.loads(GOOD)
    del answer["data"]["result"][0]["values"][1:]
    with local_server() as server:
        server.reply(200, json.dumps(answer))
        got = read(server.url, timeout=20)
    assert got == replace(got, value=0.9, points=1, last_at=START)
