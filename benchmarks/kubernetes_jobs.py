"""Many Jobs in flight on a real API server that is killed twice: what becomes of them, and when is it known?

python benchmarks/kubernetes_jobs.py
python benchmarks/kubernetes_jobs.py --jobs 40

Real are etcd, kube-apiserver, the Job controller, PostgreSQL, an MLflow server and ``autoretrain run``; the
node is one of the tests, which runs each pod's command as a process. Every model is asked to be retrained;
its training waits until all are in flight, then for up to a minute, notes the time, and fails, so that no
model has to be logged. Meanwhile the API server is killed twice, and started again after some seconds.
Printed is how many outcomes there were, and the time from the end of a training to its entry in the ledger:
of those that ended while the server answered, and of those that ended while it was away, from when it was
back.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cli_project import until
from fleet_kit import Fleet, running, write_rows
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes
from mlflow_server import running_mlflow
from postgres_server import running_postgres

from autoretrain.domain.sealing import load

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
data = {{ path = "rows.csv", time = "time", label = "hot" }}
training = {{ command = ["sh", "train.sh"] }}
"""
_TRAIN = """
echo $AUTORETRAIN_JOB_ID >> begun
while [ ! -e go ]; do sleep 0.5; done
sleep $(( $(echo $AUTORETRAIN_JOB_ID | cksum | cut -d' ' -f1) % {spread} ))
echo $AUTORETRAIN_JOB_ID $(date +%s.%N) >> ended
exit 3
"""


def main() -> int:
    """Print the outcome; exit status 1 when anything was doubled or is stuck."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--spread", type=int, default=60, help="seconds within which the trainings end")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("kubernetes", "mlflow", "node", "project"):
            (place / name).mkdir()
        with (
            running_kubernetes(place / "kubernetes") as server,
            running_mlflow(place / "mlflow") as mlflow,
            running_postgres() as postgres,
            Node(server, place / "node", claims={"state": place / "project" / ".autoretrain"}) as node,
        ):
            models = "".join(_MODEL.format(name=f"model-{n:03}") for n in range(asked.jobs))
            head = _HEAD.format(
                mlflow=mlflow.uri, kubeconfig=server.kubeconfig(), directory=place / "project"
            )
            write_rows(place / "project" / "rows.csv")
            (place / "project" / "train.sh").write_text(_TRAIN.format(spread=asked.spread))
            with running(Fleet.create(place / "project", postgres, head + models)) as fleet:
                return _run(fleet, server, node, asked.jobs)


def _run(fleet: Fleet, server: KubernetesServer, node: Node, jobs: int) -> int:
    began = time.monotonic()
    fleet.start()
    library = fleet.library()
    for model in library.settings.models:
        library.start_retrain_job(model, {})
    _say(f"{jobs} jobs asked for")
    until(lambda: len(_lines(fleet, "begun")) >= jobs, seconds=600, pause=0.5)
    _say(f"{jobs} trainings in flight after {time.monotonic() - began:.0f} s")
    (fleet.directory / "go").touch()
    away = [_outage(server) for _ in range(2)]
    until(lambda: fleet.count("job.closed") >= jobs, seconds=300, pause=1.0)
    time.sleep(3.0)  # for what comes twice
    return _report(fleet, node, jobs, away)


def _outage(server: KubernetesServer) -> tuple[float, float]:
    time.sleep(5.0)
    since = time.time()
    server.stop_api_server()
    time.sleep(4.0)
    server.start_api_server()
    _say(f"the API server was away for {time.time() - since:.1f} s")
    return since, time.time()


def _report(fleet: Fleet, node: Node, jobs: int, away: list[tuple[float, float]]) -> int:
    ended = {job: float(at) for job, at in (line.split() for line in _lines(fleet, "ended"))}
    recorded: Counter[str] = Counter()
    seen: dict[str, float] = {}
    for entries in fleet.entries().values():
        for entry in entries:
            if entry.kind == "run.ended":
                job = load(entry.data)["job_id"]
                seen[job] = datetime.fromisoformat(entry.at).timestamp()
            if entry.kind == "job.closed":
                recorded[load(entry.data)["job_id"]] += 1
    starts = Counter(_lines(fleet, "begun"))
    doubled = [job for job in starts if starts[job] > 1 or recorded[job] > 1]
    calm: list[float] = []
    late: list[float] = []
    for job, at in ended.items():
        back = next((until_ for since, until_ in away if since - 1 <= at <= until_), None)
        (calm if back is None else late).append(seen[job] - (at if back is None else back))
    print(f"outcomes {len(recorded)} of {jobs}, doubled {len(doubled)}, stuck {jobs - len(recorded)}")
    print(f"pods started {node.started}, API server killed {len(away)} times")
    for name, waits in (("while it answered", calm), ("while it was away", late)):
        print(f"{name}: {_quantiles(waits)}")
    return int(bool(doubled) or len(recorded) != jobs)


def _quantiles(waits: list[float]) -> str:
    if len(waits) < 2:
        return f"n {len(waits)}"
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return f"n {len(waits)}, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, max {max(waits):.2f} s"


def _lines(fleet: Fleet, name: str) -> list[str]:
    file = fleet.directory / name
    return file.read_text().splitlines() if file.exists() else []


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
