"""The whole loop on a real Kubernetes: Jobs that train and predict, PostgreSQL, an MLflow server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import until
from fleet_kit import Fleet, running, write_rows
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes
from mlflow_server import MlflowServer
from postgres_server import Postgres

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("kubernetes")]

SETTINGS = """
[adapters]
compute = "kubernetes"

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
rule = "manual"
cooldown_hours = 0
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
data = {{ path = "rows.csv", time = "time", label = "hot" }}
training = {{ command = ["python", "train.py"] }}
"""

TRAIN = """
import time
from sklearn.tree import DecisionTreeClassifier
from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    half_way = job.checkpoints / "half-way"
    if job.config.get("interrupted") and not half_way.exists():
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
def fleet(
    tmp_path: Path, postgres: Postgres, mlflow_server: MlflowServer, cluster: KubernetesServer
) -> Iterator[Fleet]:
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "train.py").write_text(TRAIN)
    settings = SETTINGS.format(mlflow=mlflow_server.uri, kubeconfig=cluster.kubeconfig(), directory=tmp_path)
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


def test_a_model_is_trained_judged_and_promoted_by_jobs(fleet: Fleet, nodes: tuple[Node, Node]) -> None:
    [_] = fleet.start()
    spot, stays = nodes

    cli(fleet, "start", "boiler", "--reason", "the first one")
    until(lambda: "waits for approval" in cli(fleet, "show", "boiler"), seconds=60)
    job = fleet.library().list_recent_jobs("boiler")[0]
    assert (spot.started, stays.started) == (1, 1)  # trained on the one, predicted on the other
    assert job.cost is not None
    cli(fleet, "approve", job.job_id, "--reason", "fine")
    until(lambda: fleet.count("promotion.done") == 1)

    cli(fleet, "start", "boiler", "--param", "interrupted=true")
    until(lambda: spot.started == 2, seconds=60)
    pod = spot.newest_of()
    until(lambda: spot.log_of("default", pod, None) == b"half way\n", seconds=60)
    spot.evict(pod)
    until(lambda: fleet.count("job.closed") == 2, seconds=60)  # the same rows make the same model: no change

    second = fleet.library().list_recent_jobs("boiler")[0]
    assert (second.attempt, second.outcome[:9]) == (2, "no change")
    shown = cli(fleet, "show", second.job_id)
    assert re.search(r"\(2 attempts, cost \d+\.\d\d\)", shown)
    assert "Training lost" in shown
    assert "on spot nodes, cost" in shown
    assert "on on-demand nodes, cost" in shown
    assert b"goes on from attempt 1" in (stays.log_of("default", stays.newest_of(), None) or b"")
