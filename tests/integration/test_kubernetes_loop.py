"""The whole loop on a real Kubernetes: Prometheus, Jobs that train and predict, PostgreSQL, MLflow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cli_project import until
from fleet_kit import Fleet, running, write_rows
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes
from live_model import LiveModel, exporting
from mlflow_server import MlflowServer
from postgres_server import Postgres, free_port
from prometheus_server import Server, serving

from autoretrain import RetrainingJob
from autoretrain.adapters.mlflow_client import MlflowConnection

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("kubernetes")]

SETTINGS = """
[adapters]
compute = "kubernetes"
metrics = "prometheus"

[prometheus]
url = "{prometheus}"
step_seconds = 2

[prometheus.queries.accuracy]
expression = 'model_accuracy{{model=~"$models"}}'
count = 'increase(model_labelled_total{{model=~"$models"}}[$step])'

[mlflow]
tracking_uri = "{mlflow}"

[kubernetes]
kubeconfig = "{kubeconfig}"
image = "autoretrain:test"

[kubernetes.training]
directory = "{directory}"
checkpoints = "{directory}/.autoretrain/checkpoints"
volumes = [{{ path = "{directory}/.autoretrain", claim = "state" }}]
interruptions = 1
nodes = [
    {{ name = "spot", price = 3.6, selector.pool = "spot", tolerations = [{{ operator = "Exists" }}] }},
    {{ name = "on-demand", price = 36 }},
]

[kubernetes.prediction]
namespace = "predictions"
volumes = [{{ path = "{directory}/.autoretrain", claim = "state" }}]

[models.boiler]
rule = "performance"
check_every_seconds = 1
cooldown_hours = 0
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
data = {{ path = "rows.csv", time = "time", label = "hot" }}
training = {{ command = ["python", "train.py"] }}
"""

TRAIN = """
import time
from pathlib import Path
from sklearn.tree import DecisionTreeClassifier
from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    half_way = job.checkpoints / "half-way"
    if Path("interrupted").exists() and not half_way.exists():
        half_way.write_text(f"attempt {job.attempt}")
        print("half way", flush=True)
        time.sleep(60)
    print(f"goes on from {half_way.read_text()}" if half_way.exists() else "from the beginning")
    job.log_model(DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, y))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "predictions"}})
        yield server


@pytest.fixture
def live() -> Iterator[LiveModel]:
    with exporting(LiveModel("boiler", accuracy=0.97)) as model:
        yield model


@pytest.fixture
def listen() -> str:
    """Where the controller has its metrics."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def prometheus(tmp_path: Path, live: LiveModel, listen: str) -> Iterator[Server]:
    """A server that scrapes the model's service and the controller."""
    (tmp_path / "prometheus").mkdir()
    targets = {"boilers": live.target, "autoretrain": listen}
    place, exemplars = tmp_path / "prometheus" / "data", "--enable-feature=exemplar-storage"
    with serving(place, exemplars, targets=targets) as server:
        yield server


@pytest.fixture
def fleet(
    tmp_path: Path,
    postgres: Postgres,
    mlflow_server: MlflowServer,
    cluster: KubernetesServer,
    prometheus: Server,
) -> Iterator[Fleet]:
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "train.py").write_text(TRAIN)
    addresses = {"mlflow": mlflow_server.uri, "prometheus": prometheus.url}
    settings = SETTINGS.format(kubeconfig=cluster.kubeconfig(), directory=tmp_path, **addresses)
    with running(Fleet.create(tmp_path, postgres, settings)) as fleet:
        yield fleet


@pytest.fixture
def nodes(cluster: KubernetesServer, fleet: Fleet) -> Iterator[tuple[Node, Node]]:
    """One that may be taken back at any time, and one that stays."""
    claims, state = {"state": fleet.directory / ".autoretrain"}, fleet.directory / "nodes"
    state.mkdir()
    taint = {"key": "spot", "value": "true", "effect": "NoSchedule"}
    with (
        Node(cluster, state, "spot-1", {"pool": "spot"}, [taint], claims=claims) as spot,
        Node(cluster, state, "stays-1", {"pool": "stays"}, claims=claims) as stays,
    ):
        yield spot, stays


def cli(fleet: Fleet, *words: str) -> str:
    command = [sys.executable, "-m", "autoretrain.entrypoints.cli.main", *words]
    done = subprocess.run(command, cwd=fleet.directory, env=fleet.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def job_of(fleet: Fleet) -> RetrainingJob:
    """The model's latest job."""
    return fleet.library().list_recent_jobs("boiler")[0]


def accuracy(metrics: Mapping[str, float | None] | None) -> float:
    found = (metrics or {})["accuracy"]
    assert found is not None
    return found


def champion_on(server: MlflowServer) -> str:
    client = MlflowConnection(server.uri).client
    return str(client.get_model_version_by_alias("boiler", "champion").version)


def test_a_metric_that_falls_ends_in_a_promotion_by_jobs(
    fleet: Fleet,
    nodes: tuple[Node, Node],
    live: LiveModel,
    listen: str,
    prometheus: Server,
    mlflow_server: MlflowServer,
    cluster: KubernetesServer,
) -> None:
    fleet.start(1, "--listen", listen)
    spot, stays = nodes

    cli(fleet, "start", "boiler", "--reason", "the first one")
    until(lambda: fleet.count("approval.awaited") == 1, seconds=120)
    assert "waits for approval" in cli(fleet, "show", "boiler")
    first = job_of(fleet)
    assert (spot.started, stays.started) == (1, 1)  # trained on the one, predicted on the other
    assert first.cost is not None
    cli(fleet, "approve", first.job_id, "--reason", "fine")
    until(lambda: fleet.count("promotion.done") == 1)
    verdicts = 'autoretrain_verdicts_total{job="autoretrain",trigger="performance",answer="%s"}'
    until(lambda: prometheus.value(verdicts % "no"))  # as long as it is good, nothing happens
    assert (champion_on(mlflow_server), fleet.count("job.opened")) == ("1", 1)

    (fleet.directory / "interrupted").touch()
    write_rows(fleet.directory / "rows.csv", by="valve")  # the world changes
    live.accuracy = 0.5
    until(lambda: spot.started == 2, seconds=120)
    pod = spot.newest_of()
    until(lambda: spot.log_of("default", pod, None) == b"half way\n", seconds=120)
    live.accuracy = 0.98  # before the next version serves: its own window begins with it
    spot.evict(pod)
    until(lambda: fleet.count("promotion.done") == 2, seconds=120)

    second = job_of(fleet)
    assert re.match(r"accuracy 0\.\d+ is below the threshold of 0\.92", second.reason)
    assert second.metrics_before["accuracy"] < 0.92
    champion, candidate = (accuracy(found) for found in (second.champion_metrics, second.metrics_after))
    assert champion < 0.6 < 0.95 < candidate
    assert champion_on(mlflow_server) == "2"
    shown = cli(fleet, "show", second.job_id)
    assert re.search(r"\(2 attempts, cost \d+\.\d\d\)", shown)
    assert "Training lost" in shown
    assert "on spot nodes, cost" in shown
    assert "on on-demand nodes, cost" in shown
    trained = cluster.jobs(f"autoretrain.dev/job={second.job_id}")
    assert sorted(job["metadata"]["labels"]["autoretrain.dev/attempt"] for job in trained) == ["1", "2"]
    assert b"goes on from attempt 1" in (stays.log_of("default", stays.newest_of(), None) or b"")

    deployed = 'autoretrain_jobs_total{outcome="deployed"}'
    until(lambda: prometheus.value(deployed) == 2)
    assert prometheus.value('up{job="autoretrain"}') == 1
    assert prometheus.value('autoretrain_entries_total{kind="promotion.done"}') == 2
    assert (prometheus.value(verdicts % "yes") or 0) >= 1
    assert prometheus.exemplars(deployed)[-1] == {"job_id": second.job_id}
    measured = 'autoretrain_model_metric{model="boiler",metric="accuracy"}'
    until(lambda: prometheus.value(measured) == pytest.approx(0.98))
    assert fleet.count("job.opened") == 2
