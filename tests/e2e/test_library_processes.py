"""The library in processes of its own, over one ledger on disk: two at once, and a disk that is full."""

import subprocess
import sys
from pathlib import Path

from cli_project import environment

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.sealing import verify

WORLD = """
import os, sys, time
from dataclasses import fields
from pathlib import Path
from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.entrypoints.testing.simulated_world import Training, World
from autoretrain.ports.errors import JobAlreadyOpen, Temporary

here = Path(sys.argv[1])
model = {"min_rows": 10, "min_holdout_rows": 10, "training": {"command": ["train"]}, "rule": "performance",
         "trigger": {"evaluation_window_days": 10, "training_window_days": 30}}
settings = parse_settings({"models": {"churn": model, "fraud": model}}, here)
world = World(settings.models)
world.serve("churn", 0.6)
ports = {field.name: getattr(world.ports(), field.name) for field in fields(Ports)}
for name in ("ledger", "agenda", "limits", "outbox"):
    del ports[name]
file = here / "ledger.db"
pipeline = AutoRetrainPipeline(
    settings=settings, clock=lambda: world.now, actor=str(os.getpid()), ledger=SqliteLedger(file), **ports
)
"""

STARTS = (
    WORLD
    + """
world.training["churn"] = Training("hangs")
print("ready", flush=True)
while not (here / "go").exists():
    time.sleep(0.001)
try:
    print("started", pipeline.start_retrain_job("churn"))
except JobAlreadyOpen as error:
    print("open", error.job_id)
"""
)

FILLS = (
    WORLD
    + """
import resource

def kept():
    return [pipeline.ports.ledger.read(model) for model in ("churn", "fraud")]

def refused(call):
    before = kept()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # no file takes another byte
    try:
        call()
    except Temporary as error:
        print(error)
    else:
        sys.exit("a full disk was not noticed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert kept() == before

world.training["churn"] = Training("hangs")
job_id = pipeline.start_retrain_job("churn")
world.training["churn"] = Training()
refused(lambda: pipeline.get_job_status(job_id))
refused(lambda: pipeline.start_retrain_job("fraud"))
refused(pipeline.tick)
assert pipeline.deploy_if_better("churn", job_id, timeout=30)
assert pipeline.start_retrain_job("fraud")
assert world.compute.started[f"{job_id}/train/1"] == 1
assert pipeline.verify_audit() == []
assert world.registry.aliases["churn"] == "2"
"""
)


def run(script: str, directory: Path) -> subprocess.Popen[str]:
    """Start a script on a directory."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True, env=environment()
    )


def test_two_processes_that_start_at_once_start_one_job(tmp_path: Path) -> None:
    processes = [run(STARTS, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    answers = dict(process.communicate(timeout=60)[0].split() for process in processes)
    assert set(answers) == {"started", "open"}
    assert len(set(answers.values())) == 1
    entries = SqliteLedger(tmp_path / "ledger.db").read("churn")
    assert [entry.kind for entry in entries].count("request.start") == 1
    assert verify("churn", entries) is None


def test_a_full_disk_refuses_every_call_and_loses_nothing(tmp_path: Path) -> None:
    process = run(FILLS, tmp_path)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = said.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{tmp_path}/ledger.db: the disk ") for line in lines)
    assert all(line.endswith("nothing was written") for line in lines)
