"""A real Prometheus with a backfilled history."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_server import Server, backfill, serving

from autoretrain.adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.metrics import MetricQuery
from autoretrain.ports.values import TimeWindow

pytestmark = pytest.mark.service

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURS = 6
LENGTH = HOURS * 60 * MINUTE

ACCURACY = PrometheusQuery('model_accuracy{model=~"$models"}')
WEIGHTED = PrometheusQuery(
    ACCURACY.expression, count='increase(model_labelled_total{model=~"$models"}[$step])'
)


def history() -> str:
    """One scrape a minute: heat falls from 0.9 to 0.6 half way, steam is NaN for its last tenth.

    Heat has 10 labelled rows a minute in the first half and 30 in the second.
    """
    total = HOURS * 60
    lines = ["# TYPE model_accuracy gauge"]
    for minute in range(total):
        at = (START + minute * MINUTE).timestamp()
        lines.append(f'model_accuracy{{model="heat.v2"}} {0.9 if minute < total // 2 else 0.6} {at:.0f}')
        lines.append(
            f'model_accuracy{{model="steam"}} {"NaN" if minute >= total * 9 // 10 else 0.8} {at:.0f}'
        )
        lines.append(f'model_accuracy{{model="heatXv2"}} 0.1 {at:.0f}')
        for version in ("1", "2"):
            lines.append(f'model_accuracy{{model="twice",version="{version}"}} 0.5 {at:.0f}')
    lines.append("# TYPE model_labelled counter")
    for minute in range(total):
        at, late = (START + minute * MINUTE).timestamp(), max(0, minute - total // 2)
        lines.append(f'model_labelled_total{{model="heat.v2"}} {minute * 10 + late * 20} {at:.0f}')
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the history."""
    return backfill(tmp_path_factory.mktemp("prometheus"), history())


@pytest.fixture(scope="module")
def server(blocks: Path) -> Iterator[Server]:
    with serving(blocks) as running:
        yield running


def question(model: str, start: timedelta = timedelta(0), end: timedelta = LENGTH) -> MetricQuery:
    return MetricQuery(model, "accuracy", TimeWindow(START + start, START + end))


def test_two_models_of_one_metric_in_one_query(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": ACCURACY})
    heat, steam = source.read([question("heat.v2"), question("steam", end=LENGTH / 2)])
    assert heat.value == pytest.approx(0.75, abs=0.005)
    assert steam.value == pytest.approx(0.8)
    assert heat.points == HOURS * 12
    assert heat.last_at == START + LENGTH - 5 * MINUTE


def test_each_window_is_its_own(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": ACCURACY}, step_seconds=60)
    before, after = source.read([question("heat.v2", end=LENGTH / 2), question("heat.v2", start=LENGTH / 2)])
    assert before.value == pytest.approx(0.9)
    assert after.value == pytest.approx(0.6)


def test_points_weigh_by_their_labelled_rows(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": WEIGHTED})
    (answer,) = source.read([question("heat.v2", start=10 * MINUTE)])
    labelled = 10 * (HOURS * 60 - 10) + 20 * HOURS * 30
    assert answer.rows == pytest.approx(labelled, rel=0.02)
    assert answer.value == pytest.approx((0.9 * 10 + 0.6 * 30) / 40, abs=0.005)


def test_what_the_server_cannot_tell_is_unknown(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": ACCURACY})
    late = LENGTH * 9 / 10 + 5 * MINUTE
    nan, absent, twice = source.read([question("steam", start=late), question("nobody"), question("twice")])
    assert [answer.value for answer in (nan, absent, twice)] == [None, None, None]
    assert [answer.empty for answer in (nan, absent, twice)] == [False, True, False]
    assert "several series" in twice.reason


def test_a_range_beyond_the_servers_limit_of_points(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": ACCURACY}, step_seconds=1)
    (answer,) = source.read([question("heat.v2", start=-timedelta(days=30))])
    assert answer.value == pytest.approx(0.75, abs=0.01)


def test_a_query_the_server_cannot_parse(server: Server) -> None:
    source = PrometheusMetrics(server.url, {"accuracy": PrometheusQuery("model_accuracy{")})
    with pytest.raises(Permanent, match="parse error"):
        source.read([question("steam")])


def test_a_server_that_goes_away_is_temporary(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        source = PrometheusMetrics(server.url, {"accuracy": ACCURACY}, timeout=5)
        assert source.read([question("heat.v2")])[0].empty
        server.stop()
        with pytest.raises(Temporary, match="cannot be reached"):
            source.read([question("heat.v2")])
