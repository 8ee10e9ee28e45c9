import base64
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from local_http import LocalServer, Reply, Request, local_server

from autoretrain.adapters.memory import (
    MemoryDataSource,
    MemoryMetrics,
    MemoryPredictor,
    MemoryRegistry,
    Row,
)
from autoretrain.adapters.memory_scorer import MemoryScorer
from autoretrain.adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery
from autoretrain.adapters.metrics_rescoring import RescoringMetrics
from autoretrain.entrypoints.testing.metrics import (
    METRIC,
    START,
    STEP,
    MetricSourceContract,
    Samples,
    WindowedMetricSourceContract,
    query,
    window,
)
from autoretrain.ports.data import Snapshot
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.metrics import MetricSource, MetricWindow
from autoretrain.ports.predictor import Predictions, Predictor
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.scorer import ScoringTask
from autoretrain.ports.values import Pending, TimeWindow

ACCURACY = PrometheusQuery('model_accuracy{model=~"$models"}')
COUNTED = PrometheusQuery(ACCURACY.expression, count='labelled{model=~"$models"}[$step]')
SECONDS = STEP.total_seconds()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def series(model: str, *values: object, first: int = 0) -> dict[str, Any]:
    at = START.timestamp() + first * SECONDS
    return {
        "metric": {"model": model},
        "values": [[at + n * SECONDS, str(value)] for n, value in enumerate(values)],
    }


def matrix(*result: Mapping[str, Any], **more: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more})


def form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def evaluate(samples: Samples, request: Request) -> Reply:
    """Answer a range query of one selector as Prometheus does, without its look-back."""
    asked = form(request)
    selector = re.fullmatch(r'model_accuracy\{model=~("(?:[^"\\]|\\.)*")\}', asked["query"])
    assert selector, asked["query"]
    pattern = re.compile(json.loads(selector[1]))
    low, high, step = (float(asked[name]) for name in ("start", "end", "step"))
    found = []
    for model in filter(pattern.fullmatch, samples):
        at = {START.timestamp() + n * SECONDS: str(value) for n, value in enumerate(samples[model])}
        instants = [low + n * step for n in range(int((high - low) / step) + 1)]
        values = [[instant, at[instant]] for instant in instants if instant in at]
        if values:
            found.append({"metric": {"__name__": "model_accuracy", "model": model}, "values": values})
    return Reply(200, matrix(*found).encode())


class TestPrometheusMetrics(WindowedMetricSourceContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: LocalServer) -> None:
        self.server = server

    def source(self, samples: Samples) -> MetricSource:
        self.server.answer = lambda request: evaluate(samples, request)
        return PrometheusMetrics(self.server.url, {METRIC: ACCURACY})

    def unreachable(self) -> MetricSource:
        self.server.answer = lambda request: Reply(closes=True)
        return PrometheusMetrics(self.server.url, {METRIC: ACCURACY})


class Waiting:
    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        return Pending("the prediction runs")


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        raise self.error


def truth_or_not(features: Mapping[str, Any]) -> Any:
    """The model of the contract's champions: it predicts its only feature."""
    return features["guess"]


class TestRescoringMetrics(WindowedMetricSourceContract):
    """Each sample is a row whose truth is 1; the champion predicts the sample."""

    def source(self, samples: Samples, predictor: Predictor | None = None) -> MetricSource:
        data, registry = MemoryDataSource(), MemoryRegistry()
        for model, values in samples.items():
            registry.register(model, truth_or_not, digest="d" * 64)
            data.add(model, [Row(START + n * STEP, {"guess": value}, 1) for n, value in enumerate(values)])
        self.predictor = MemoryPredictor(registry, data)
        tasks = dict.fromkeys(samples, ScoringTask("classification"))
        scorer = MemoryScorer(data, self.predictor)
        return RescoringMetrics(data, predictor or self.predictor, scorer, tasks)

    def test_metrics_of_one_window_share_one_prediction(self) -> None:
        source = self.source({"heat": [1, 0, 1, 1]})
        accuracy, f1, other = source.read(
            [query("heat", 0, 4), query("heat", 0, 4, metric="f1"), query("heat", 0, 4, metric="heft")]
        )
        assert accuracy.value == 0.75
        assert accuracy.rows == 4
        assert (f1.value, f1.points) == (None, 4)
        assert f1.reason
        assert "accuracy" in other.reason
        assert len(self.predictor.made) == 1

    def test_a_running_prediction_is_pending(self) -> None:
        (answer,) = self.source({"heat": [1, 0]}, Waiting()).read([query("heat", 0, 2)])
        assert answer.pending
        assert answer.value is None
        assert not answer.empty
        assert answer.reason == "the prediction runs"

    @pytest.mark.parametrize("error", [Temporary("no capacity"), Permanent("the artefact is damaged")])
    def test_the_trouble_of_one_model_stays_its_own(self, error: Exception) -> None:
        (answer,) = self.source({"heat": [1, 0]}, Failing(error)).read([query("heat", 0, 2)])
        assert (answer.value, answer.reason, answer.empty) == (None, str(error), False)

    def test_a_model_without_champion_is_unknown(self) -> None:
        (answer,) = self.source({"heat": [1]}).read([replace(query("heat", 0, 1), champion=None)])
        assert "no champion" in answer.reason
        assert not answer.empty

    def test_a_window_without_rows_predicts_nothing(self) -> None:
        (answer,) = self.source({"heat": [1]}).read([query("heat", 5, 9)])
        assert (answer.empty, answer.rows, self.predictor.made) == (True, 0, {})


# Prometheus in bad weather


def ask(server: LocalServer, body: str | bytes, *models: str, **options: Any) -> list[MetricWindow]:
    """The answers for the first ten samples of some models, when the server says this."""
    server.reply(200, body)
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY}, **options)
    return list(source.read([query(model, 0, 10) for model in models or ("heat",)]))


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-Inf"])
def test_points_that_are_no_numbers_are_left_out(server: LocalServer, odd: str) -> None:
    (answer,) = ask(server, matrix(series("heat", 0.5, odd, 0.7, odd)))
    assert answer.value == pytest.approx(0.6)
    assert answer.points == 2


@pytest.mark.parametrize("odd", ["NaN", "+Inf"])
def test_most_points_no_numbers_is_unknown(server: LocalServer, odd: str) -> None:
    (answer,) = ask(server, matrix(series("heat", 0.5, odd, odd)))
    assert answer.value is None
    assert "2 of 3 points" in answer.reason
    assert not answer.empty


def test_numbers_too_large_for_a_mean_are_unknown(server: LocalServer) -> None:
    (answer,) = ask(server, matrix(series("heat", 1.7e308, 1.7e308, 1.7e308)))
    assert (answer.value, answer.reason) == (None, "the mean is not finite")


def test_several_series_of_one_model_are_unknown_for_it_alone(server: LocalServer) -> None:
    body = matrix(series("heat", 0.5), series("heat", 0.9), series("steam", 0.8))
    heat, steam = ask(server, body, "heat", "steam")
    assert "several series" in heat.reason
    assert steam.value == 0.8


def test_a_series_of_no_model_is_not_an_empty_answer(server: LocalServer) -> None:
    (answer,) = ask(server, matrix({"metric": {}, "values": [[START.timestamp(), "1"]]}))
    assert "without the label 'model'" in answer.reason
    assert not answer.empty


def test_a_partial_answer_is_unknown(server: LocalServer) -> None:
    (answer,) = ask(server, matrix(series("heat", 0.9), warnings=["one store is away"]))
    assert "one store is away" in answer.reason
    assert not answer.empty


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "[" * 100_000,
        '{"status": "success"}',
        '{"status": "success", "data": {"resultType": "vector", "result": []}}',
        '{"status": "success", "data": {"resultType": "matrix", "result": {}}}',
        '{"status": "success", "data": {"resultType": "matrix", "result": [7]}}',
        '{"status": "error", "data": {"resultType": "matrix", "result": []}}',
        matrix({"metric": {"model": "heat"}, "values": [[1, "0.9", 3]]}),
        matrix({"metric": {"model": "heat"}, "values": [["then", "0.9"]]}),
        matrix({"metric": {"model": "heat"}}),
        matrix({"metric": {"model": "heat"}, "histograms": []}),
        b"\xff\xfe\x00",
    ],
)
def test_a_malformed_answer_is_unknown_and_not_empty(server: LocalServer, body: str | bytes) -> None:
    (answer,) = ask(server, body)
    assert answer.value is None
    assert answer.reason
    assert not answer.empty


def test_too_large_an_answer_is_unknown(server: LocalServer) -> None:
    (answer,) = ask(server, matrix(series("heat", *[0.9] * 10)), max_bytes=100)
    assert "larger than 100 bytes" in answer.reason
    assert not answer.empty


def test_a_body_that_cannot_be_decompressed_is_unknown(server: LocalServer) -> None:
    server.reply(200, b"no gzip", Content_Encoding="gzip")
    (answer,) = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query("heat", 0, 10)])
    assert "decompressed" in answer.reason


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, '{"status": "error", "error": "parse error at 1:5"}', Permanent, "parse error at 1:5"),
        (422, '{"status": "error", "error": "too many samples"}', Permanent, "too many samples"),
        (401, "", Permanent, "credentials"),
        (403, "", Permanent, "credentials"),
        (401, "", Permanent, "check prometheus.user and AUTORETRAIN_PROMETHEUS_PASSWORD, or AUTORETRAIN_"),
        (403, "", Permanent, "they may not query"),
        (401, "no org id\n", Permanent, "tenant (401: no org id): set X-Scope-OrgID in prometheus.headers"),
        (
            404,
            "<html>not here</html>",
            Permanent,
            "no query API (404 at /api/v1/query_range): prometheus.url",
        ),
        (404, '{"status": "error", "error": "no such tenant"}', Permanent, "(404): no such tenant"),
        (302, "", Permanent, "redirects"),
        (503, '{"status": "error", "error": "query timed out"}', Temporary, "query timed out"),
        (500, "<html>", Temporary, "500"),
        (429, "", Temporary, "429"),
    ],
)
def test_refusals(server: LocalServer, status: int, body: str, kind: type[Exception], said: str) -> None:
    server.reply(status, body, Location=server.url + "/elsewhere")
    with pytest.raises(kind, match=re.escape(said)):
        PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query("heat", 0, 10)])
    assert [request.path for request in server.requests] == ["/api/v1/query_range"]


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Mon, 04 May 2026 00:00:00 GMT", None)])
def test_a_busy_server_says_when(server: LocalServer, header: str, seconds: float | None) -> None:
    server.reply(429, "", Retry_After=header)
    with pytest.raises(Temporary) as caught:
        PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([query("heat", 0, 10)])
    assert caught.value.retry_after == seconds


def test_a_server_that_hangs_costs_one_timeout(server: LocalServer) -> None:
    server.answer = lambda request: Reply(hangs=True)
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY, "f1": ACCURACY}, timeout=0.2)
    with pytest.raises(Temporary, match=r"did not answer within 0\.2 s"):
        source.read([query("heat", 0, 10), query("heat", 0, 10, metric="f1")])
    assert len(server.requests) == 1


def test_nobody_listens() -> None:
    with local_server() as gone:
        address = gone.url
    with pytest.raises(Temporary, match="cannot be reached"):
        PrometheusMetrics(address, {METRIC: ACCURACY}).read([query("heat", 0, 10)])


def test_a_refused_metric_costs_the_others_nothing(server: LocalServer) -> None:
    def answer(request: Request) -> Reply:
        if "bad" in form(request)["query"]:
            return Reply(400, b'{"error": "parse error"}')
        return Reply(200, matrix(series("heat", 0.9)).encode())

    server.answer = answer
    source = PrometheusMetrics(server.url, {"bad": PrometheusQuery("bad("), METRIC: ACCURACY})
    bad, good = source.read([query("heat", 0, 10, metric="bad"), query("heat", 0, 10)])
    assert "parse error" in bad.reason
    assert good.value == 0.9


def test_secrets_are_used_and_never_shown(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    server.reply(500, "")
    address = server.url.replace("http://", "http://reader:p%40ss@")
    source = PrometheusMetrics(address, {METRIC: ACCURACY}, headers={"X-Scope-OrgID": "t0ken"})
    with caplog.at_level(logging.DEBUG), pytest.raises(Temporary) as caught:
        source.read([query("heat", 0, 10)])
    sent = server.requests[0].headers
    assert base64.b64decode(sent["Authorization"].removeprefix("Basic ")) == b"reader:p@ss"
    assert sent["X-Scope-OrgID"] == "t0ken"
    assert not re.search("reader|p%40ss|p@ss", f"{caught.value} {source!r} {caplog.text}")


@pytest.mark.parametrize("address", ["localhost:9090", "user:secret@localhost:9090", ""])
def test_an_address_without_http_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="starts with http") as caught:
        PrometheusMetrics(address, {})
    assert "secret" not in str(caught.value)


# How it asks


def test_many_models_and_windows_are_one_request(server: LocalServer) -> None:
    models = [f"GL-{number:03}" for number in range(200)]
    server.reply(200, matrix(*[series(model, *[0.9] * 10) for model in models]))
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY})
    answers = source.read([query(model, number % 5, 10) for number, model in enumerate(models)])
    assert {round(answer.value or 0, 9) for answer in answers} == {0.9}
    assert {answer.points for answer in answers} == {5 + extra for extra in range(1, 6)}
    (request,) = server.requests
    asked = form(request)
    assert float(asked["start"]) == START.timestamp()
    assert float(asked["end"]) == (START + 10 * STEP).timestamp()


def test_what_would_not_fit_is_asked_in_parts(server: LocalServer) -> None:
    server.answer = lambda request: evaluate({"a": [1] * 9, "b": [0] * 9, "c": [1] * 9}, request)
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY}, max_bytes=1000)
    answers = source.read([query(model, 0, 9) for model in "abc"])
    assert [answer.value for answer in answers] == [1.0, 0.0, 1.0]
    assert len(server.requests) == 2


def test_a_long_range_raises_the_step_below_the_servers_limit(server: LocalServer) -> None:
    server.reply(200, matrix())
    long = replace(query("heat", 0, 1), window=window(0, 365 * 288))
    short = query("heat", 1, 2)
    unmeasured, unknown = PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([long, short])
    asked = form(server.requests[0])
    assert (float(asked["end"]) - float(asked["start"])) / float(asked["step"]) + 1 <= 11_000
    assert unmeasured.empty
    assert "shorter than the step" in unknown.reason
    assert not unknown.empty


def test_a_window_that_starts_between_two_milliseconds(server: LocalServer) -> None:
    server.reply(200, matrix())
    odd = TimeWindow(START + timedelta(microseconds=1), START + timedelta(microseconds=1) + STEP)
    PrometheusMetrics(server.url, {METRIC: ACCURACY}).read([replace(query("heat", 0, 1), window=odd)])
    assert float(form(server.requests[0])["start"]) == START.timestamp() + 0.001


def test_what_was_answered_before_the_server_went_away_is_kept(server: LocalServer) -> None:
    def answer(request: Request) -> Reply:
        first = len(server.requests) == 1
        return Reply(200, matrix(series("heat", 0.9)).encode()) if first else Reply(closes=True)

    server.answer = answer
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY, "f1": ACCURACY})
    kept, lost = source.read([query("heat", 0, 10), query("heat", 0, 10, metric="f1")])
    assert kept.value == 0.9
    assert "cannot be reached" in lost.reason
    assert not lost.empty


def test_a_name_cannot_leave_its_string(server: LocalServer) -> None:
    server.answer = lambda request: evaluate({'x"} or up #': [1]}, request)
    source = PrometheusMetrics(server.url, {METRIC: ACCURACY})
    answers = source.read([query('x"} or up #', 0, 2), query("back\\slash\n$step", 0, 2)])
    assert [answer.value for answer in answers] == [1.0, None]


# Weighted by the number of labelled predictions


def weigh(server: LocalServer, values: Sequence[object], counts: Sequence[object] | None) -> MetricWindow:
    def answer(request: Request) -> Reply:
        asked = form(request)["query"]
        if asked.startswith("labelled"):
            assert asked.endswith("[300000ms]")
            return Reply(200, matrix(*([] if counts is None else [series("heat", *counts)])).encode())
        return Reply(200, matrix(series("heat", *values)).encode())

    server.answer = answer
    (result,) = PrometheusMetrics(server.url, {METRIC: COUNTED}).read([query("heat", 0, 10)])
    return result


def test_points_weigh_by_their_count(server: LocalServer) -> None:
    answer = weigh(server, [1.0, 0.5], [30, 10])
    assert answer.value == pytest.approx(0.875)
    assert answer.rows == 40


def test_a_point_without_predictions_may_be_anything(server: LocalServer) -> None:
    answer = weigh(server, ["NaN", "NaN", "NaN", 0.5], [0, 0, 0, 4])
    assert (answer.value, answer.rows, answer.points) == (0.5, 4, 1)


def test_no_predictions_at_all_is_unknown(server: LocalServer) -> None:
    answer = weigh(server, [0.0, 0.0], [0, 0])
    assert (answer.value, answer.rows, answer.empty) == (None, 0, False)
    assert answer.reason


@pytest.mark.parametrize("counts", [["NaN", "NaN", 5], [-1, -1, 5], ["+Inf", "+Inf", 5], [7]])
def test_mostly_unusable_counts_are_unknown(server: LocalServer, counts: list[object]) -> None:
    answer = weigh(server, [0.9, 0.9, 0.9], counts)
    assert answer.value is None
    assert "2 of 3 points" in answer.reason


def test_no_count_is_unknown(server: LocalServer) -> None:
    answer = weigh(server, [0.9], None)
    assert answer.value is None
    assert "no count" in answer.reason
    assert not answer.empty


class TestMemoryMetrics(MetricSourceContract):
    def source(self, samples: Samples) -> MetricSource:
        source = MemoryMetrics()
        for model, values in samples.items():
            source.set(model, METRIC, sum(values) / len(values), rows=len(values))
        return source
