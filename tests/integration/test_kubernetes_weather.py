"""An API server that lies, falls silent, is slow or busy: a run's end is noticed in time, and once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes
from kubernetes_weather import Proxy, Weather, proxy_to

from autoretrain.adapters.compute_kubernetes import KubernetesCompute
from autoretrain.adapters.kubernetes_client import Cluster, KubernetesClient
from autoretrain.adapters.kubernetes_manifest import PodTemplate
from autoretrain.ports.compute import RunRequest, RunState, RunStatus
from autoretrain.ports.errors import Temporary

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.xdist_group("kubernetes")]

RELIST_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0
SLACK_SECONDS = TIMEOUT_SECONDS + 2.0
"""An answer that does not come, and what the cluster itself takes on a busy machine."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    """An API server that knows nothing of the versions before its second start."""
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        server.stop_api_server()
        server.start_api_server()
        yield server


@pytest.fixture(scope="module")
def node(cluster: KubernetesServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(cluster, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def proxy(cluster: KubernetesServer, node: Node) -> Iterator[Proxy]:
    with proxy_to(cluster) as proxy:
        yield proxy


@pytest.fixture
def compute(proxy: Proxy, tmp_path: Path) -> Iterator[KubernetesCompute]:
    template = PodTemplate(image="python:3.11", user=1000)
    compute = KubernetesCompute(
        Cluster(proxy.kubeconfig(), timeout_seconds=TIMEOUT_SECONDS),
        lambda _: template,
        template,
        namespaces=["default"],
        owner=f"test-{hash(tmp_path) & 0xFFFFFFFF:x}",
        relist_seconds=RELIST_SECONDS,
    )
    yield compute
    compute.close()


class Run:
    """A run that ends when it is told to."""

    def __init__(self, compute: KubernetesCompute, folder: Path, key: str = "run") -> None:
        self.compute, self.key, self._end = compute, key, folder / f"{key}-end"
        self.beginnings = folder / f"{key}-beginnings"
        text = (
            "import pathlib, sys, time\n"
            "with open(sys.argv[2], 'a') as file: file.write('begun\\n')\n"
            "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\n"
        )
        command = ("python", "-c", text, str(self._end), str(self.beginnings))
        compute.submit(RunRequest(key, command, deadline_seconds=120))

    def until(self, *states: RunState, seconds: float = 30.0) -> float:
        """Wait for a state, asking ten times a second; says how long that took."""
        begun, status = time.monotonic(), RunStatus(RunState.ABSENT)
        while time.monotonic() - begun < seconds:
            try:
                status = self.compute.observe(self.key)
            except Temporary as trouble:
                status = RunStatus(RunState.ABSENT, str(trouble))
            if status.state in states:
                return time.monotonic() - begun
            time.sleep(0.1)
        raise AssertionError(f"{self.key} is still {status} after {seconds} s")

    def end(self) -> None:
        self._end.touch()


def is_noticed_in_time(run: Run) -> None:
    run.end()
    assert run.until(RunState.SUCCEEDED) < RELIST_SECONDS + SLACK_SECONDS
    assert run.beginnings.read_text() == "begun\n"


@pytest.mark.parametrize("weather", ["silent", "repeating", "expired", "ending", "slow"])
def test_an_end_is_noticed_in_time_with_few_questions(
    weather: Weather, proxy: Proxy, compute: KubernetesCompute, tmp_path: Path
) -> None:
    run = Run(compute, tmp_path)
    run.until(RunState.RUNNING)
    proxy.weather = weather
    if weather in ("expired", "ending"):
        proxy.cut()  # a new watch is needed
    is_noticed_in_time(run)

    proxy.lists = proxy.watches = 0
    begun = time.monotonic()
    while time.monotonic() - begun < 5.0:
        assert compute.observe(run.key).state is RunState.SUCCEEDED
        time.sleep(0.05)
    assert proxy.lists <= 8  # 3 by relist_seconds, one after each watch that broke
    assert proxy.watches <= 3


def test_a_version_that_is_too_old_is_temporary_on_the_real_server(
    cluster: KubernetesServer, node: Node
) -> None:
    client = KubernetesClient(Cluster(cluster.kubeconfig()))
    with pytest.raises(Temporary, match="too old resource version"):
        list(client.watch_jobs("default", "", "1", 5))


def test_a_watch_that_nobody_needs_is_not_tried_again_and_again(
    proxy: Proxy, compute: KubernetesCompute, tmp_path: Path
) -> None:
    run = Run(compute, tmp_path)
    run.until(RunState.RUNNING)
    proxy.weather, proxy.watches, proxy.lists = "expired", 0, 0
    proxy.cut()
    time.sleep(5.0)  # nobody observes
    assert (proxy.watches <= 1, proxy.lists) == (True, 0)
    proxy.weather = "clear"
    is_noticed_in_time(run)


@pytest.mark.parametrize("weather", ["busy", "trickling", "lost"])
def test_trouble_is_temporary_counts_for_all_runs_and_passes(
    weather: Weather, proxy: Proxy, compute: KubernetesCompute, tmp_path: Path
) -> None:
    run = Run(compute, tmp_path)
    run.until(RunState.RUNNING)
    proxy.weather = weather
    time.sleep(RELIST_SECONDS)
    proxy.lists, seconds = 0, 5.0
    stop = threading.Event()

    def ask(number: int) -> int:
        """Ask about one of many runs, as often as it goes."""
        troubles = 0
        while not stop.wait(0.05):
            try:
                compute.observe(f"another-{number}" if number else run.key)
            except Temporary:
                troubles += 1
        return troubles

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(8)]
        time.sleep(seconds)
        stop.set()
        assert min(one.result() for one in asked) >= 1
    assert 1 <= proxy.lists <= seconds + 2  # one a second, and not one a run
    proxy.weather = "clear"
    is_noticed_in_time(run)


def test_connections_that_are_dead_and_open_cost_one_answer(
    proxy: Proxy, compute: KubernetesCompute, tmp_path: Path
) -> None:
    run = Run(compute, tmp_path)
    with ThreadPoolExecutor(4) as pool:  # several connections are kept
        list(pool.map(lambda _: compute.log_tail(run.key), range(8)))
    run.until(RunState.RUNNING)
    proxy.freeze()
    is_noticed_in_time(run)


def test_a_server_that_wants_to_be_left_alone_starts_nothing_twice(
    proxy: Proxy, compute: KubernetesCompute, tmp_path: Path
) -> None:
    proxy.weather = "busy"
    with pytest.raises(Temporary) as busy:
        Run(compute, tmp_path)
    assert busy.value.retry_after == 1.0
    proxy.weather = "clear"
    run = Run(compute, tmp_path)
    run.until(RunState.RUNNING)
    Run(compute, tmp_path)  # it is adopted
    is_noticed_in_time(run)
