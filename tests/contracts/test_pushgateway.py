"""Metrics that are pushed, to a real HTTP server; and what comes of one that does not behave."""

import re
import socket
import time
from collections.abc import Iterator

import pytest
from local_http import LocalServer, Reply, local_server
from prometheus_client.parser import text_string_to_metric_families

from autoretrain.adapters.telemetry_prometheus import PrometheusTelemetry
from autoretrain.entrypoints.testing.telemetry import FULL
from autoretrain.ports.errors import Temporary


@pytest.fixture
def gateway() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def full() -> PrometheusTelemetry:
    telemetry = PrometheusTelemetry()
    telemetry.report(FULL)
    return telemetry


def test_all_metrics_are_pushed_under_job_and_host(gateway: LocalServer) -> None:
    telemetry = full()
    telemetry.push(gateway.url, "nightly", 5)
    (request,) = gateway.requests
    assert (request.method, request.path) == (
        "PUT",
        f"/metrics/job/nightly/instance/{socket.gethostname()}",
    )
    told = {family.name for family in text_string_to_metric_families(request.body.decode())}
    assert told == {family.name for family in text_string_to_metric_families(telemetry.render().decode())}
    assert b'autoretrain_jobs_total{outcome="deployed"} 1.0' in request.body


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(400, b"pushed metrics are invalid"), "it answers 400: pushed metrics are invalid"),
        (Reply(503), "it answers 503"),
        (Reply(closes=True), "nothing was pushed"),
    ],
)
def test_a_gateway_that_refuses(gateway: LocalServer, reply: Reply, said: str) -> None:
    gateway.answer = lambda request: reply
    with pytest.raises(Temporary, match=re.escape(said)):
        full().push(gateway.url, "nightly", 5)


def test_a_gateway_that_hangs_costs_its_time_and_no_more(gateway: LocalServer) -> None:
    gateway.answer = lambda request: Reply(hangs=True)
    began = time.monotonic()
    with pytest.raises(Temporary, match=r"Pushgateway at .*(did not answer|timed out)"):
        full().push(gateway.url, "nightly", 0.2)
    assert time.monotonic() - began < 5


def test_nobody_listens() -> None:
    with local_server() as gone:
        address = gone.url
    with pytest.raises(Temporary, match="nothing was pushed to the Pushgateway"):
        full().push(address, "nightly", 5)
