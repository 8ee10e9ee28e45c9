"""Prometheus and its relatives for a fleet: how many requests, which labels, what a request carries."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from local_http import LocalServer, Reply, Request, local_server

from autoretrain.adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery
from autoretrain.adapters.prometheus_access import headers_of
from autoretrain.entrypoints.testing.metrics import METRIC, START, STEP, query

ACCURACY = PrometheusQuery('model_accuracy{model=~"$models"}')
COUNTED = PrometheusQuery(ACCURACY.expression, count='labelled{model=~"$models"}')
VICTORIA_METRICS_TAKES = 16 * 1024
"""Bytes of a query, unless its ``-search.maxQueryLen`` is set."""


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def form(request: Request) -> dict[str, list[str]]:
    return parse_qs(request.body.decode())


def matrix(samples: Mapping[str, float], points: int = 10, **more: object) -> Reply:
    at = [START.timestamp() + n * STEP.total_seconds() for n in range(points)]
    result = [
        {"metric": {"model": label}, "values": [[time, str(value)] for time in at]}
        for label, value in samples.items()
    ]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    return Reply(200, json.dumps(body).encode())


def fleet(size: int) -> dict[str, float]:
    return {f"plant-{n % 7}.model-{n:05}": (n % 100) / 100 for n in range(size)}


def serve(server: LocalServer, samples: Mapping[str, float], limit: int = VICTORIA_METRICS_TAKES) -> None:
    """Answer as a server that takes no query longer than ``limit`` bytes."""

    def answer(request: Request) -> Reply:
        text = form(request)["query"][0]
        if len(text.encode()) > limit:
            return Reply(422, b'{"error": "too long query"}')
        found = re.fullmatch(r'\w+\{model=~("(?:[^"\\]|\\.)*")\}', text)
        assert found, text
        pattern = re.compile(json.loads(found[1]))
        return matrix({label: value for label, value in samples.items() if pattern.fullmatch(label)})

    server.answer = answer


@pytest.mark.parametrize("size", [10, 1000, 5000])
@pytest.mark.parametrize(("asked", "requests"), [(ACCURACY, 1), (COUNTED, 2)])
def test_the_number_of_requests_is_that_of_any_fleet(
    server: LocalServer, size: int, asked: PrometheusQuery, requests: int
) -> None:
    samples = {name: value + 0.005 for name, value in fleet(size).items()}
    serve(server, samples)
    answers = PrometheusMetrics(server.url, {METRIC: asked}).read([query(name, 0, 10) for name in samples])
    assert {answer.query.model: answer.value for answer in answers} == pytest.approx(samples)
    assert len(server.requests) == requests
    assert {request.method for request in server.requests} == {"POST"}


def test_names_that_are_too_long_for_a_query_leave_the_others_out(server: LocalServer) -> None:
    serve(server, {**fleet(2000), "somebody else's": 0.1})
    asked = [query(name, 0, 10) for name in [*fleet(1000), "nobody"]]
    *answers, nobody = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read(asked)
    assert [answer.value for answer in answers] == pytest.approx(list(fleet(1000).values()))
    assert nobody.empty
    assert [form(request)["query"] for request in server.requests] == [['model_accuracy{model=~".+"}']]


def test_a_server_crowded_with_other_models_is_asked_by_names(server: LocalServer) -> None:
    serve(server, fleet(4000))
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY}, max_bytes=900_000)
    asked = [query(name, 0, 10) for name in fleet(1000)]
    for first in (1, 0):  # one request finds out, and the next read knows
        server.requests.clear()
        assert [answer.value for answer in source.read(asked)] == pytest.approx(list(fleet(1000).values()))
        assert len(server.requests) == first + 2
        assert {form(request)["query"][0].count(".+") for request in server.requests[first:]} == {0}


def test_a_query_without_the_names_is_not_asked_twice(server: LocalServer) -> None:
    server.answer = lambda request: matrix(fleet(1000))
    source = PrometheusMetrics(server.url, {METRIC: PrometheusQuery("model_accuracy")})
    answers = source.read([query(name, 0, 10) for name in fleet(1000)])
    assert [answer.value for answer in answers] == pytest.approx(list(fleet(1000).values()))
    assert len(server.requests) == 1


def test_one_name_longer_than_a_query_is_asked_all_the_same(server: LocalServer) -> None:
    name = "x" * 20_000
    serve(server, {name: 0.5}, limit=50_000)
    (answer,) = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query(name, 0, 10)])
    assert answer.value == 0.5


def test_a_label_stands_for_a_model(server: LocalServer) -> None:
    serve(server, {"heat-prod": 0.9, "heat": 0.1, "steam": 0.8})
    source = PrometheusMetrics(server.url, {METRIC: COUNTED}, labels={"heat": "heat-prod"})
    heat, steam = source.read([query("heat", 0, 10), query("steam", 0, 10)])
    assert [heat.value, steam.value] == pytest.approx([0.9, 0.8])
    assert form(server.requests[0])["query"] == [r'model_accuracy{model=~"heat\\-prod|steam"}']


def test_two_models_of_one_label_are_refused() -> None:
    with pytest.raises(ValueError, match="two models have one label"):
        PrometheusMetrics("http://localhost", {}, labels={"a": "x", "b": "x"})


# Partial answers


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"isPartial": True}, "could not ask all its stores"),
        ({"warnings": ["store 10.0.0.7 is away"]}, "store 10.0.0.7 is away"),
    ],
)
def test_a_partial_answer_is_unknown_with_its_reason(
    server: LocalServer, more: dict[str, Any], said: str
) -> None:
    server.answer = lambda request: matrix({"heat": 0.9}, **more)
    (answer,) = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query("heat", 0, 10)])
    assert (answer.value, answer.empty) == (None, False)
    assert said in answer.reason


def test_a_whole_answer_that_says_so_counts(server: LocalServer) -> None:
    server.answer = lambda request: matrix({"heat": 0.9}, isPartial=False, warnings=[], infos=["a hint"])
    (answer,) = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query("heat", 0, 10)])
    assert answer.value == pytest.approx(0.9)


# What a request carries


def test_headers_parameters_and_basic_authentication_are_sent(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = lambda request: matrix({"heat": 0.9})
    source = PrometheusMetrics(
        server.url,
        {METRIC: ACCURACY},
        headers={"X-Scope-OrgID": "tenant-1", "THANOS-TENANT": "tenant-1"},
        auth=("ann", "sesame:open"),
        parameters={"dedup": "true", "extra_label": ["env=prod", "zone=a"]},
    )
    with caplog.at_level(logging.DEBUG):
        source.read([query("heat", 0, 10)])
    (request,) = server.requests
    assert request.headers["Authorization"] == "Basic YW5uOnNlc2FtZTpvcGVu"
    assert request.headers["X-Scope-OrgID"] == request.headers["THANOS-TENANT"] == "tenant-1"
    sent = form(request)
    assert (sent["dedup"], sent["extra_label"]) == (["true"], ["env=prod", "zone=a"])
    assert (sent["partial_response"], sent["deny_partial_response"]) == (["false"], ["1"])
    assert "sesame" not in caplog.text


def test_whoever_wants_partial_answers_says_so(server: LocalServer) -> None:
    server.answer = lambda request: matrix({"heat": 0.9})
    parameters = {"partial_response": "true"}
    PrometheusMetrics(server.url, {METRIC: ACCURACY}, parameters=parameters).read([query("heat", 0, 10)])
    assert form(server.requests[0])["partial_response"] == ["true"]


@pytest.mark.parametrize("name", ["query", "start", "end", "step"])
def test_a_parameter_cannot_change_the_question(name: str) -> None:
    with pytest.raises(ValueError, match=f"the parameter {name} is set by the query"):
        PrometheusMetrics("http://localhost", {}, parameters={name: "1"})


@pytest.mark.parametrize("headers", [{"A b": "c"}, {"A": "b\r\nC: d"}, {"A": "ü"}, {"": "x"}])
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        PrometheusMetrics("http://localhost", {}, headers=headers)
    assert "C: d" not in str(caught.value)


def test_headers_from_a_text() -> None:
    assert headers_of("X-Key: a:b\n\n  Other:  c \n") == {"X-Key": "a:b", "Other": "c"}


@pytest.mark.parametrize("text", ["s3same", "X-Key:", "X-Key: good\ns3same"])
def test_a_text_that_is_no_header_is_not_told(text: str) -> None:
    with pytest.raises(ValueError, match="write 'Name: value'") as caught:
        headers_of(text)
    assert "s3same" not in str(caught.value)
