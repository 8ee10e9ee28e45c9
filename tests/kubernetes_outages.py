"""Many Jobs in flight on a real API server that is killed twice: what the ledger and the cluster hold then.

Real are etcd, kube-apiserver, the Job controller, PostgreSQL, an MLflow server and ``autoretrain run``; the
node is one of the tests, which runs each pod's command as a process. Every model is asked to be retrained;
its training waits until all are in flight, then for up to ``spread`` seconds, notes the time, and fails with
a status of its own, so that no model has to be logged. Meanwhile the API server is killed twice, and started
again after some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cli_project import until
from fleet_kit import Fleet, running, write_rows
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes
from mlflow_server import running_mlflow
from postgres_server import running_postgres

from autoretrain.domain.sealing import load

KILLED = 2
LOWEST_STATUS = 3
_STATUSES = 5
_CALM_SECONDS, _AWAY_SECONDS = 5.0, 4.0

_HEAD = """
[adapters]
compute = "kubernetes"

[mlflow]
tracking_uri = "{mlflow}"

[kubernetes]
kubeconfig = "{kubeconfig}"
image = "autoretrain:test"

[kubernetes.training]
directory = "{directory}"
volumes = [{{ path = "{directory}/.autoretrain", claim = "state" }}]
"""
_MODEL = """
[models.{name}]
rule = "manual"
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
data = {{ path = "rows.parquet", time = "time", label = "hot" }}
training = {{ command = ["sh", "train.sh"] }}
"""
_TRAIN = """
echo $AUTORETRAIN_JOB_ID >> begun
while [ ! -e go ]; do sleep 0.5; done
drawn=$(echo $AUTORETRAIN_JOB_ID | cksum | cut -d' ' -f1)
sleep $(( drawn % {spread} ))
status=$(( {lowest} + drawn % {statuses} ))
echo $AUTORETRAIN_JOB_ID $(date +%s.%N) $status >> ended
exit $status
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outage:
    """The API server was away, in seconds since the epoch."""

    since: float
    back: float

    def hit(self, at: float) -> bool:
        """Whether what ended then may have ended unseen."""
        return self.since - 1 <= at <= self.back


@dataclass(frozen=True)
class Told:
    """What the ledger tells of a job.

    Attributes:
        submitted: Number of each training attempt.
        ended: Data of each ``run.ended``.
        closed: Data of each ``job.closed``.
        known: When the end of the training was written down, in seconds since the epoch.
    """

    submitted: list[int] = field(default_factory=list)
    ended: list[Mapping[str, Any]] = field(default_factory=list)
    closed: list[Mapping[str, Any]] = field(default_factory=list)
    known: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Aftermath:
    """What was left.

    Attributes:
        asked: Ids of the jobs that were asked for.
        told: What the ledger tells of each job.
        begun: Id of the job of each training that began.
        ended: When each training ended, and with which status, by its job.
        jobs: The Jobs of the cluster.
        pods: How many pods were started.
        outages: When the API server was away.
    """

    asked: Sequence[str]
    told: Mapping[str, Told]
    begun: Sequence[str]
    ended: Mapping[str, tuple[float, int]]
    jobs: Sequence[Mapping[str, Any]]
    pods: int
    outages: Sequence[Outage]

    def waits(self) -> tuple[list[float], list[float]]:
        """Seconds from the end of a training to its entry, and from the server's return where it was away."""
        calm: list[float] = []
        late: list[float] = []
        for job, (at, _) in self.ended.items():
            back = next((outage.back for outage in self.outages if outage.hit(at)), None)
            (calm if back is None else late).extend(
                known - (at if back is None else back) for known in self.told[job].known
            )
        return calm, late


def after_outages(place: Path, jobs: int, spread: int, say: Say = lambda _: None) -> Aftermath:
    """Let so many jobs run through the outages, and tell what was left.

    Args:
        place: An empty folder for all that runs.
        jobs: How many, each of a model of its own.
        spread: Seconds within which the trainings end.
        say: Takes a line of progress.
    """
    for name in ("kubernetes", "mlflow", "node", "project"):
        (place / name).mkdir()
    project = place / "project"
    with (
        running_kubernetes(place / "kubernetes") as server,
        running_mlflow(place / "mlflow") as mlflow,
        running_postgres() as postgres,
        Node(server, place / "node", claims={"state": project / ".autoretrain"}) as node,
    ):
        models = "".join(_MODEL.format(name=f"model-{n:03}") for n in range(jobs))
        head = _HEAD.format(mlflow=mlflow.uri, kubeconfig=server.kubeconfig(), directory=project)
        _write_table(project)
        train = _TRAIN.format(spread=spread, lowest=LOWEST_STATUS, statuses=_STATUSES)
        (project / "train.sh").write_text(train)
        with running(Fleet.create(project, postgres, head + models)) as fleet:
            return _run(fleet, server, node, say)


def _write_table(project: Path) -> None:
    """As Parquet: the types of a CSV are found in all of its rows, twice a job."""
    import duckdb

    write_rows(project / "rows.csv")
    duckdb.sql(f"COPY (FROM '{project}/rows.csv') TO '{project}/rows.parquet'")


def _run(fleet: Fleet, server: KubernetesServer, node: Node, say: Say) -> Aftermath:
    began = time.monotonic()
    fleet.start()
    library = fleet.library()
    asked = [library.start_retrain_job(model, {}) for model in library.settings.models]
    say(f"{len(asked)} jobs asked for")
    until(lambda: len(_lines(fleet, "begun")) >= len(asked), seconds=600, pause=0.5)
    say(f"{len(asked)} trainings in flight after {time.monotonic() - began:.0f} s")
    (fleet.directory / "go").touch()
    outages = [_outage(server, say) for _ in range(KILLED)]
    until(lambda: fleet.count("job.closed") >= len(asked), seconds=300, pause=1.0)
    time.sleep(3.0)  # for what comes twice
    lines = (line.split() for line in _lines(fleet, "ended"))
    return Aftermath(
        asked=asked,
        told=_told(fleet),
        begun=_lines(fleet, "begun"),
        ended={job: (float(at), int(status)) for job, at, status in lines},
        jobs=server.jobs("app.kubernetes.io/managed-by=autoretrain"),
        pods=node.started,
        outages=outages,
    )


def _outage(server: KubernetesServer, say: Say) -> Outage:
    time.sleep(_CALM_SECONDS)
    since = time.time()
    server.stop_api_server()
    time.sleep(_AWAY_SECONDS)
    server.start_api_server()
    say(f"the API server was away for {time.time() - since:.1f} s")
    return Outage(since, time.time())


def _told(fleet: Fleet) -> dict[str, Told]:
    told: dict[str, Told] = {}
    for entries in fleet.entries().values():
        for entry in entries:
            data = load(entry.data)
            if entry.kind == "run.intended":
                told.setdefault(data["job_id"], Told()).submitted.append(data["attempt"])
            if entry.kind == "run.ended":
                told[data["job_id"]].ended.append(data)
                told[data["job_id"]].known.append(datetime.fromisoformat(entry.at).timestamp())
            if entry.kind == "job.closed":
                told.setdefault(data["job_id"], Told()).closed.append(data)
    return told


def _lines(fleet: Fleet, name: str) -> list[str]:
    file = fleet.directory / name
    return file.read_text().splitlines() if file.exists() else []
