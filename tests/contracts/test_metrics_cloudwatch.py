"""CloudWatch as moto plays it, and one that answers in pieces, too late, out of order or not at all."""

from __future__ import annotations

import logging
import math
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from cloudwatch_server import CloudWatchServer, answer, cloudwatch_server, refusal, result, series_of
from local_http import Reply, raw_server
from moto.server import ThreadedMotoServer

from autoretrain.adapters.cloudwatch_client import MOST_POINTS, MOST_SERIES
from autoretrain.adapters.metrics_cloudwatch import CloudWatchMetrics, CloudWatchQuery
from autoretrain.entrypoints.testing.metrics import (
    METRIC,
    START,
    STEP,
    Samples,
    WindowedMetricSourceContract,
    query,
)
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.metrics import MetricSource, MetricWindow
from autoretrain.ports.values import TimeWindow

ACCURACY = CloudWatchQuery("ModelAccuracy")
BY_SAMPLES = replace(ACCURACY, count_statistic="SampleCount")
COUNTED = replace(ACCURACY, count_metric="Labelled")
SOON = START + timedelta(days=1)
SECRET = "sesame-seed-of-a-secret-key"
Put = Callable[..., None]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of nobody; nothing of this machine's own."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Address of moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def server() -> Iterator[CloudWatchServer]:
    with cloudwatch_server() as running:
        yield running


def putter(url: str, namespace: str) -> Put:
    """Puts samples of a metric, 5 minutes apart, where moto or AWS keeps them."""
    client = boto3.session.Session().client("cloudwatch", endpoint_url=url)

    def put(model: str, values: Sequence[float], metric: str = "ModelAccuracy", **more: str) -> None:
        dimensions = [{"Name": name, "Value": value} for name, value in {"model": model, **more}.items()]
        common = {"MetricName": metric, "Dimensions": dimensions}
        data = [{**common, "Timestamp": START + n * STEP, "Value": value} for n, value in enumerate(values)]
        client.put_metric_data(Namespace=namespace, MetricData=data)

    return put


def source_at(url: str, query: CloudWatchQuery = ACCURACY, **options: Any) -> CloudWatchMetrics:
    options = {"clock": lambda: SOON, "timeout": 20, **options}
    return CloudWatchMetrics(options.pop("namespace", "Models"), {METRIC: query}, endpoint_url=url, **options)


class TestCloudWatchMetrics(WindowedMetricSourceContract):
    """moto holds the samples."""

    @pytest.fixture(autouse=True)
    def _moto(self, moto: str) -> None:
        self.url = moto

    def source(self, samples: Samples) -> MetricSource:
        namespace = f"Models/{uuid.uuid4().hex}"
        put = putter(self.url, namespace)
        for model, values in samples.items():
            put(f"{model}", values, tenant=namespace)
        # moto tells metrics with dimensions apart by those alone, so each test has one of its own.
        return source_at(self.url, namespace=namespace, dimensions={"tenant": namespace})

    def unreachable(self) -> MetricSource:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            return source_at(f"http://127.0.0.1:{gone.getsockname()[1]}")


def test_points_weigh_by_a_metric_of_their_number(moto: str) -> None:
    put = putter(moto, "Weighed")
    put("weighed", [1.0, 0.5])
    put("weighed", [30, 10], metric="Labelled")
    (got,) = source_at(moto, COUNTED, namespace="Weighed").read([query("weighed", 0, 10)])
    assert got.value == pytest.approx(0.875)
    assert (got.rows, got.points) == (40, 2)


def test_points_weigh_by_their_samples(moto: str) -> None:
    put = putter(moto, "Sampled")
    for value in (1, 1, 1):
        put("sampled", [value])
    put("sampled", [1, 0])
    (got,) = source_at(moto, BY_SAMPLES, namespace="Sampled").read([query("sampled", 0, 10)])
    assert got.value == pytest.approx(0.8)
    assert got.rows == 5


# -- how it asks --------------------------------------------------------------------------------------------


def points(*values: float, first: int = 0) -> list[tuple[datetime, float]]:
    return [(START + (first + n) * STEP, value) for n, value in enumerate(values)]


def steady(call: Mapping[str, Any]) -> Reply:
    """0.9 for whatever is asked, with a count of 10."""
    value = {"ModelAccuracy": 0.9, "Labelled": 10.0}
    named = [series_of(each)[1] for each in call["MetricDataQueries"]]
    return answer(*[result(n, points(*[value[name]] * 10)) for n, name in enumerate(named)])


def read(server: CloudWatchServer, *replies: Any, models: Sequence[str] = ("heat",), **options: Any) -> Any:
    """The answers for the first ten samples of some models, when the server says this."""
    server.replies = list(replies)
    answers = source_at(server.url, **options).read([query(model, 0, 10) for model in models])
    return answers[0] if len(models) == 1 else answers


@pytest.mark.parametrize(("of", "calls"), [(ACCURACY, 3), (COUNTED, 5)])
def test_no_call_asks_for_more_than_500_series(
    server: CloudWatchServer, of: CloudWatchQuery, calls: int
) -> None:
    models = [f"GL-{number:04}" for number in range(1001)]
    answers = read(server, steady, models=models, query=of)
    assert [round(each.value or 0, 9) for each in answers] == [0.9] * 1001
    sizes = [len(call["MetricDataQueries"]) for call in server.calls]
    assert len(sizes) == calls
    assert max(sizes) == MOST_SERIES
    if of.count:  # the value of a model and its count are never in different calls
        assert all(size % 2 == 0 for size in sizes)


def test_no_call_asks_for_more_points_than_an_answer_holds(server: CloudWatchServer) -> None:
    server.replies = [answer()]
    month = TimeWindow(START - timedelta(days=13), START)
    source_at(server.url, period_seconds=60).read(
        [replace(query(f"GL-{number}", 0, 1), window=month) for number in range(12)]
    )
    per_series = 13 * 24 * 60
    assert [len(call["MetricDataQueries"]) for call in server.calls] == [5, 5, 2]
    assert 5 * per_series <= MOST_POINTS < 6 * per_series


def test_windows_of_like_starts_go_together(server: CloudWatchServer) -> None:
    server.replies = [answer()]
    long = TimeWindow(START - timedelta(days=12), START)
    queries = [query(f"GL-{number}", 0, 10) for number in range(500)]
    queries[::50] = [replace(each, window=long) for each in queries[::50]]
    source_at(server.url).read(queries)
    assert len(server.calls) <= 4


@pytest.mark.parametrize(
    ("age", "wanted", "period"),
    [
        (timedelta(days=14, hours=22), 60, 60),
        (timedelta(days=15), 60, 300),
        (timedelta(days=15), 420, 600),
        (timedelta(days=62), 300, 300),
        (timedelta(days=63), 60, 3600),
        (timedelta(days=454), 300, 3600),
        (timedelta(days=14), 3600, 3600),
    ],
)
def test_the_period_is_one_that_is_kept_at_that_age(
    server: CloudWatchServer, age: timedelta, wanted: int, period: int
) -> None:
    server.replies = [answer()]
    old = replace(query("heat", 0, 1), window=TimeWindow(SOON - age, SOON))
    source_at(server.url, period_seconds=wanted).read([old])
    (call,) = server.calls
    assert call["MetricDataQueries"][0]["MetricStat"]["Period"] == period
    for at in (call["StartTime"], call["EndTime"]):
        assert at.timestamp() % period == 0


def test_a_window_older_than_what_is_kept_is_not_cut_short(server: CloudWatchServer) -> None:
    old = replace(query("heat", 0, 1), window=TimeWindow(SOON - timedelta(days=456), SOON))
    server.replies = [steady]
    lost, found = source_at(server.url).read([old, query("heat", 0, 10)])
    assert "keeps 455" in lost.reason
    assert not lost.empty
    assert found.value == pytest.approx(0.9)


def test_only_whole_periods_within_the_window_count(server: CloudWatchServer) -> None:
    """The first one holds predictions of the champion before, the last one is not over yet."""
    odd = TimeWindow(START + timedelta(seconds=1), START + 4 * STEP - timedelta(seconds=1))
    server.replies = [answer(result(0, points(0.1, 0.8, 0.9, 0.1, 0.1)))]
    (got,) = source_at(server.url).read([replace(query("heat", 0, 1), window=odd)])
    assert got.value == pytest.approx(0.85)
    assert (got.points, got.last_at) == (2, START + 2 * STEP)
    (call,) = server.calls
    assert (call["StartTime"], call["EndTime"]) == (START + STEP, START + 3 * STEP)


def test_a_point_that_reaches_beyond_the_window_does_not_count(server: CloudWatchServer) -> None:
    """A server that does not begin its periods where we do."""
    half = STEP / 2
    shifted = [(at + half, value) for at, value in points(*[0.9] * 9, 0.1)]
    got = read(server, answer(result(0, shifted)))
    assert got.value == pytest.approx(0.9)
    assert got.points == 9


def test_a_window_without_a_whole_period_is_unknown_and_asks_nothing(server: CloudWatchServer) -> None:
    short = TimeWindow(START + timedelta(seconds=1), START + STEP)
    (got,) = source_at(server.url).read([replace(query("heat", 0, 1), window=short)])
    assert got.reason == "the window holds no whole period of 300 s"
    assert not got.empty
    assert server.calls == []


@pytest.mark.parametrize("name", ["Wärme", ":heat", "heat\n", " ", "h" * 1025, ""])
def test_a_name_that_cannot_be_a_dimension_costs_the_others_nothing(
    server: CloudWatchServer, name: str
) -> None:
    odd, heat = read(server, steady, models=[name, "heat"])
    assert "cannot be a dimension's value" in odd.reason
    assert heat.value == pytest.approx(0.9)


def test_what_identifies_a_metric(server: CloudWatchServer) -> None:
    read(server, steady, namespace="Plant/Models", dimensions={"stage": "live"}, model_dimension="model")
    (call,) = server.calls
    metric = call["MetricDataQueries"][0]["MetricStat"]["Metric"]
    assert metric == {
        "Namespace": "Plant/Models",
        "MetricName": "ModelAccuracy",
        "Dimensions": [{"Name": "model", "Value": "heat"}, {"Name": "stage", "Value": "live"}],
    }


# -- what it answers ----------------------------------------------------------------------------------------


def test_points_come_in_any_order(server: CloudWatchServer) -> None:
    shuffled = points(0.5, 0.6, 0.7, 0.8)
    got = read(server, answer(result(0, [shuffled[n] for n in (2, 0, 3, 1)])))
    assert (got.value, got.last_at) == (pytest.approx(0.65), START + 3 * STEP)


def test_models_come_in_any_order(server: CloudWatchServer) -> None:
    reply = answer(result(1, points(0.5)), result(0, points(0.9)))
    heat, steam = read(server, reply, models=["heat", "steam"])
    assert (heat.value, steam.value) == (0.9, 0.5)


def test_pages_are_put_together(server: CloudWatchServer) -> None:
    """CloudWatch says that a series is partial on each page but its last."""
    first = answer(result(0, points(0.5), "PartialData"), result(1, points(0.9)), NextToken="two")
    got, other = read(server, first, answer(result(0, points(0.7, first=1))), models=["heat", "steam"])
    assert (got.value, got.points, other.value) == (pytest.approx(0.6), 2, 0.9)
    assert [call.get("NextToken") for call in server.calls] == [None, "two"]


@pytest.mark.parametrize("status", ["PartialData", "InternalError", "SomethingNew"])
def test_partial_data_are_unknown_for_that_model_alone(server: CloudWatchServer, status: str) -> None:
    said = {"Messages": [{"Code": "Timeout", "Value": "a shard is away"}]}
    reply = answer(result(0, points(0.9, 0.9), status, **said), result(1, points(0.8)))
    heat, steam = read(server, reply, models=["heat", "steam"])
    assert heat.reason == f"the answer of CloudWatch is not complete ({status}): Timeout a shard is away"
    assert (heat.value, heat.empty, steam.value) == (None, False, 0.8)


def test_a_partial_last_page_is_unknown(server: CloudWatchServer) -> None:
    first = answer(result(0, points(0.9)), NextToken="two")
    got = read(server, first, answer(result(0, points(0.9, first=1), "PartialData")))
    assert (got.value, got.empty) == (None, False)


@pytest.mark.parametrize("values", [(), (0.9,)])
def test_a_message_makes_an_answer_doubtful(server: CloudWatchServer, values: tuple[float, ...]) -> None:
    message = [{"Code": "MaxMetricsExceeded", "Value": "Maximum number of allowed metrics exceeded"}]
    for reply in (
        answer(result(0, points(*values)), Messages=message),
        answer(result(0, points(*values), Messages=message)),
    ):
        got = read(server, reply)
        assert "may be partial: MaxMetricsExceeded Maximum number" in got.reason
        assert (got.value, got.empty) == (None, False)


def test_a_forbidden_metric_names_the_permission(server: CloudWatchServer) -> None:
    heat, steam = read(
        server, answer(result(0, [], "Forbidden"), result(1, points(0.8))), models=["heat", "steam"]
    )
    assert "cloudwatch:GetMetricData" in heat.reason
    assert (heat.empty, steam.value) == (False, 0.8)


def test_a_model_that_is_left_out_is_not_empty(server: CloudWatchServer) -> None:
    heat, steam = read(server, answer(result(1, [])), models=["heat", "steam"])
    assert (heat.reason, heat.empty) == ("CloudWatch left this model out of its answer", False)
    assert (steam.reason, steam.empty) == ("CloudWatch has no sample in the window", True)


def test_two_values_of_one_time_are_unknown(server: CloudWatchServer) -> None:
    first = answer(result(0, points(0.9)), NextToken="two")
    assert "two values of one time" in read(server, first, answer(result(0, points(0.4)))).reason
    assert read(server, first, answer(result(0, points(0.9)))).value == 0.9


def test_a_token_that_comes_again_ends_the_reading(server: CloudWatchServer) -> None:
    got = read(server, answer(result(0, points(0.9)), NextToken="again"))
    assert "again and again" in got.reason
    assert len(server.calls) == 2


def test_numbers_that_are_none(server: CloudWatchServer) -> None:
    some = read(server, answer(result(0, points(0.5, math.nan, 0.7, math.inf))))
    assert (some.value, some.points) == (pytest.approx(0.6), 2)
    most = read(server, answer(result(0, points(0.5, math.nan, -math.inf))))
    assert (most.value, most.reason) == (None, "2 of 3 points are not finite or have no count")
    huge = read(server, answer(result(0, points(1.7e308, 1.7e308))))
    assert (huge.value, huge.reason) == (None, "the mean is not finite")


def test_counts(server: CloudWatchServer) -> None:
    def weigh(values: Sequence[float], counts: Sequence[float], status: str = "Complete") -> MetricWindow:
        reply = answer(result(0, points(*values)), result(1, points(*counts), status))
        got: MetricWindow = read(server, reply, query=COUNTED)
        return got

    assert weigh([math.nan, math.nan, 0.5], [0, 0, 4]).value == 0.5
    assert weigh([0.0, 0.0], [0, 0]).rows == 0
    assert "2 of 3 points" in weigh([0.9, 0.9, 0.9], [7]).reason
    assert "has none for this model" in weigh([0.9], []).reason
    partial = weigh([0.9], [7], "PartialData")
    assert partial.reason.startswith(
        "count of labelled predictions: the answer of CloudWatch is not complete"
    )
    assert not partial.empty


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>log in</html>",
        b"{}",
        b"[]",
        b"7",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"MetricDataResults": 7}',
        b'{"MetricDataResults": {}}',
    ],
)
def test_what_is_no_answer_is_unknown(server: CloudWatchServer, body: bytes) -> None:
    got = read(server, Reply(200, body))
    assert got.value is None
    assert got.reason
    assert not got.empty


@pytest.mark.parametrize(
    "odd",
    [
        {"Id": "s0", "StatusCode": "Complete", "Timestamps": [1777852800], "Values": []},
        {"Id": "s0", "StatusCode": "Complete", "Timestamps": ["then"], "Values": [0.9]},
        {"Id": "s0", "StatusCode": "Complete", "Timestamps": [1777852800], "Values": ["high"]},
        {"Id": "s0", "Timestamps": [1777852800], "Values": [0.9]},
        {"Id": "s9", "StatusCode": "Complete", "Timestamps": [1777852800], "Values": [0.9]},
        {"StatusCode": "Complete", "Timestamps": [1777852800], "Values": [0.9]},
        7,
    ],
    ids=["no value", "no time", "no number", "no status", "another's", "nobody's", "no series"],
)
def test_a_malformed_answer_is_unknown_and_not_empty(server: CloudWatchServer, odd: Any) -> None:
    got = read(server, answer(odd))
    assert got.value is None
    assert got.reason
    assert not got.empty


# -- patience -----------------------------------------------------------------------------------------------

THROTTLED = refusal(400, "Throttling", "Rate exceeded")


class Time:
    """A stopwatch that only pauses move."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def monotonic(self) -> float:
        return sum(self.pauses)


@pytest.mark.parametrize(
    "busy",
    [
        THROTTLED,
        refusal(400, "ThrottlingException"),
        refusal(503, "ServiceUnavailable"),
        refusal(500, "InternalServiceFault"),
        Reply(503, b"<html>no</html>"),
        refusal(429, "TooManyRequestsException"),
    ],
)
def test_a_busy_server_is_asked_again_later_and_later(server: CloudWatchServer, busy: Reply) -> None:
    passing = Time()
    got = read(server, busy, busy, steady, sleep=passing.sleep, monotonic=passing.monotonic)
    assert got.value == pytest.approx(0.9)
    assert passing.pauses == [0.5, 1.0]


def test_patience_ends(server: CloudWatchServer) -> None:
    passing = Time()
    with pytest.raises(Temporary, match=r"is busy \(Throttling\)") as caught:
        read(server, THROTTLED, sleep=passing.sleep, monotonic=passing.monotonic)
    assert passing.pauses == [0.5, 1.0, 2.0]
    assert len(server.calls) == 4
    assert caught.value.retry_after == 4.0


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry_After": "7"}, 7.0), ({"x_amz_retry_after": "1500"}, 1.5)]
)
def test_a_busy_server_says_when(server: CloudWatchServer, header: dict[str, str], seconds: float) -> None:
    passing = Time()
    busy = refusal(503, "ServiceUnavailable", **header)
    read(server, busy, steady, sleep=passing.sleep, monotonic=passing.monotonic)
    assert passing.pauses == [seconds]


def test_nobody_waits_longer_than_there_is_time(server: CloudWatchServer) -> None:
    passing = Time()
    busy = refusal(503, "ServiceUnavailable", Retry_After="60")
    with pytest.raises(Temporary) as caught:
        read(server, busy, sleep=passing.sleep, monotonic=passing.monotonic)
    assert caught.value.retry_after == 60.0
    assert passing.pauses == []


def test_pages_are_busy_too(server: CloudWatchServer) -> None:
    passing = Time()
    first = answer(result(0, points(0.5), "PartialData"), NextToken="two")
    last = answer(result(0, points(0.7, first=1)))
    got = read(server, first, THROTTLED, last, sleep=passing.sleep, monotonic=passing.monotonic)
    assert got.value == pytest.approx(0.6)
    assert [call.get("NextToken") for call in server.calls] == [None, "two", "two"]


def test_endless_pages_end(server: CloudWatchServer) -> None:
    numbers = iter(range(10**9))
    began = time.monotonic()
    with pytest.raises(Temporary, match=r"did not answer within 0\.5 s"):
        read(server, lambda call: answer(NextToken=f"page {next(numbers)}"), timeout=0.5)
    assert time.monotonic() - began < 5


def test_a_server_that_hangs_costs_one_timeout(server: CloudWatchServer) -> None:
    began = time.monotonic()
    with pytest.raises(Temporary, match=r"did not answer within 0\.5 s"):
        read(server, Reply(hangs=True), models=[f"GL-{n}" for n in range(1001)], timeout=0.5)
    assert time.monotonic() - began < 5
    assert len(server.http.requests) <= 1


def test_a_server_that_drips_costs_one_timeout() -> None:
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b"x"] * 1000]
    with raw_server(lambda: drip, pause=0.05) as dripping:
        began = time.monotonic()
        with pytest.raises(Temporary, match="did not answer within"):
            source_at(dripping.url, timeout=0.5).read([query("heat", 0, 10)])
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("sends", [[], [b"220 mail.example ESMTP\r\n"]], ids=["nothing", "no HTTP"])
def test_what_is_not_http_is_temporary(sends: list[bytes]) -> None:
    with raw_server(lambda: sends) as other, pytest.raises(Temporary, match="cannot be reached"):
        source_at(other.url).read([query("heat", 0, 10)])


@pytest.mark.parametrize("length", [b"Content-Length: 100000\r\n", b""], ids=["said", "not said"])
def test_half_an_answer_is_no_answer(length: bytes) -> None:
    half = answer(result(0, points(0.9))).body[:-20]
    with raw_server(lambda: [b"HTTP/1.1 200 OK\r\n" + length + b"\r\n", half]) as other:
        try:
            (got,) = source_at(other.url).read([query("heat", 0, 10)])
        except Temporary:
            return
    assert (got.value, got.empty, bool(got.reason)) == (None, False, True)


def test_what_was_answered_before_it_went_away_is_kept(server: CloudWatchServer) -> None:
    server.replies = [steady, Reply(closes=True)]
    source = CloudWatchMetrics(
        "Models", {METRIC: ACCURACY, "f1": ACCURACY}, endpoint_url=server.url, clock=lambda: SOON
    )
    kept, lost = source.read([query("heat", 0, 10), query("heat", 0, 10, metric="f1")])
    assert kept.value == pytest.approx(0.9)
    assert "cannot be reached" in lost.reason
    assert not lost.empty


def test_a_metric_that_is_refused_costs_the_others_nothing(server: CloudWatchServer) -> None:
    def reply(call: Mapping[str, Any]) -> Reply:
        if series_of(call["MetricDataQueries"][0])[1] == "Bad":
            return refusal(400, "InvalidParameterValue", "The value Bad is not valid")
        return steady(call)

    server.replies = [reply]
    queries = {"bad": CloudWatchQuery("Bad"), METRIC: ACCURACY}
    source = CloudWatchMetrics("Models", queries, endpoint_url=server.url, clock=lambda: SOON)
    bad, good = source.read([query("heat", 0, 10, metric="bad"), query("heat", 0, 10)])
    assert "InvalidParameterValue): The value Bad is not valid" in bad.reason
    assert good.value == pytest.approx(0.9)


# -- credentials --------------------------------------------------------------------------------------------

ARN = "arn:aws:iam::123456789012:role/retrain"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            refusal(
                403, "AccessDenied", f"User: {ARN} is not authorized to perform: cloudwatch:GetMetricData"
            ),
            f"lack the permission cloudwatch:GetMetricData; allow it in their IAM policy: User: {ARN}",
        ),
        (refusal(403, "AccessDeniedException"), "lack the permission cloudwatch:GetMetricData"),
        (refusal(403, "ExpiredToken", "The security token is expired"), "have expired: renew them"),
        (
            refusal(403, "InvalidClientTokenId", "is invalid"),
            "refuses the AWS credentials (InvalidClientTokenId)",
        ),
        (refusal(403, "SignatureDoesNotMatch", f"token:{SECRET}"), "refuses the AWS credentials"),
        (
            refusal(403, "SignatureDoesNotMatch", "Signature expired: 2026"),
            "the clock of this machine is wrong",
        ),
        (refusal(400, "RequestExpired"), "the clock of this machine is wrong"),
        (refusal(400, "MissingAuthenticationToken"), "refuses the AWS credentials"),
        (
            refusal(400, "ValidationError", "StartTime must be less"),
            "refuses the query (ValidationError): StartTime",
        ),
        (Reply(302, b"", {"Location": "http://127.0.0.1:9/"}), "refuses the query"),
    ],
)
def test_a_refusal_is_permanent_and_says_what_to_do(
    server: CloudWatchServer, reply: Reply, says: str
) -> None:
    with pytest.raises(Permanent) as caught:
        read(server, reply)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.http.requests) == 1


def test_refused_credentials_are_not_offered_for_every_batch(server: CloudWatchServer) -> None:
    with pytest.raises(Permanent):
        read(server, refusal(403, "InvalidClientTokenId"), models=[f"GL-{n}" for n in range(2000)])
    assert len(server.http.requests) == 1


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "there are no AWS credentials: give"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "the AWS credentials are incomplete"),
        ({"AWS_PROFILE": "nobody"}, "there is no AWS profile of the name in AWS_PROFILE"),
        ({"AWS_DEFAULT_REGION": None}, "no AWS region is set: set cloudwatch.region"),
    ],
    ids=["none", "half", "profile", "region"],
)
def test_credentials_that_are_not_there(
    server: CloudWatchServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str | None],
    says: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    source = source_at(server.url)
    with pytest.raises(Permanent, match=says):
        source.read([query("heat", 0, 10)])
    monkeypatch.undo()
    assert server.http.requests == []


def test_credentials_that_come_later_are_taken(
    server: CloudWatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies = [refusal(403, "ExpiredToken"), steady]
    source = source_at(server.url)
    with pytest.raises(Permanent):
        source.read([query("heat", 0, 10)])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAI44QH8DHBEXAMPLE")
    (got,) = source.read([query("heat", 0, 10)])
    assert got.value == pytest.approx(0.9)
    used = [request.headers["Authorization"].split("Credential=")[1][:20] for request in server.http.requests]
    assert used == ["AKIAIOSFODNN7EXAMPLE", "AKIAI44QH8DHBEXAMPLE"]


def use_profile(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AWS_PROFILE", name)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # they would win
        monkeypatch.delenv(variable)


def role(directory: Path, sts: str) -> None:
    """A profile whose credentials are those of a role, given by this server."""
    (directory / "config").write_text(
        "[profile base]\naws_access_key_id = AKIAI44QH8DHBEXAMPLE\n"
        f"aws_secret_access_key = {SECRET}\nservices = here\n"
        f"[profile plant]\nrole_arn = {ARN}\nsource_profile = base\nregion = eu-central-1\nservices = here\n"
        f"[services here]\nsts =\n  endpoint_url = {sts}\n"
    )


def test_credentials_of_a_role(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    putter(moto, "OfARole")("of-a-role", [0.9])
    role(tmp_path, moto)
    use_profile(monkeypatch, "plant")
    (got,) = source_at(moto, namespace="OfARole").read([query("of-a-role", 0, 10)])
    assert got.value == pytest.approx(0.9)


def test_a_role_that_may_not_be_taken_is_not_blamed_on_cloudwatch(
    server: CloudWatchServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    role(tmp_path, server.url)
    use_profile(monkeypatch, "plant")
    body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    server.replies = [Reply(403, body.encode())]
    with pytest.raises(Permanent, match="may not AssumeRole; allow it to them"):
        source_at(server.url).read([query("heat", 0, 10)])


def test_a_program_that_gives_no_credentials_does_not_tell_what_it_said(
    server: CloudWatchServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"[profile plant]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 1'\nregion = eu-central-1\n"
    )
    use_profile(monkeypatch, "plant")
    with pytest.raises(Temporary, match="cannot be had from custom-process") as caught:
        source_at(server.url).read([query("heat", 0, 10)])
    assert SECRET not in str(caught.value)


def test_a_secret_is_in_no_message_and_no_repr(
    server: CloudWatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_at(server.url)
    server.replies = [refusal(403, "AccessDenied", f"aws_secret_access_key={SECRET}")]
    with caplog.at_level(logging.INFO), pytest.raises(Permanent) as caught:
        source.read([query("heat", 0, 10)])
    assert SECRET not in f"{caught.value} {source!r} {caplog.text}"
    assert SECRET not in str(server.http.requests)


@pytest.mark.parametrize("options", [{"period_seconds": 90}, {"period_seconds": 0}, {"timeout": 0}])
def test_numbers_that_cannot_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        source_at("http://127.0.0.1:9", **options)


@pytest.mark.parametrize("url", ["monitoring.example", "https://ann:sesame@monitoring.example"])
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        source_at(url)
    assert "sesame" not in str(caught.value)


def test_the_clock_is_the_systems_unless_one_is_given(server: CloudWatchServer) -> None:
    server.replies = [answer()]
    now = datetime.now(UTC)
    recent = TimeWindow(now - timedelta(days=64), now)
    CloudWatchMetrics("Models", {METRIC: ACCURACY}, endpoint_url=server.url).read(
        [replace(query("heat", 0, 1), window=recent)]
    )
    assert server.calls[0]["MetricDataQueries"][0]["MetricStat"]["Period"] == 3600
