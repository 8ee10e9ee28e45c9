"""Two controllers on one PostgreSQL, killed and stopped again and again, until so many jobs have ended.

python benchmarks/two_controllers.py
python benchmarks/two_controllers.py --jobs 20 --models 4 --seed 7

Everything is real and on this machine: PostgreSQL (Debian's package; no fsync, since no power is cut), an
MLflow server, two processes of ``autoretrain run``, trainings and predictions as processes. Half of the jobs
are opened by cron slots, up to a daily budget of the fleet; the others are asked for and approved by a
person, beside the controllers. One training in six fails at once; the others log one of five tiny models that
were fitted before, by MLflow's REST interface, since importing MLflow in each would take most of the time.
Exit status 1 when anything happened twice or not at all. Not over midnight UTC, when the budget begins anew.
"""

import argparse
import logging
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import pytest
from fleet_kit import Controller, Fleet, running, write_rows
from left_running import processes_in
from mlflow_server import running_mlflow
from postgres_server import running_postgres

from autoretrain import AutoRetrainPipeline
from autoretrain.domain.fold import fold
from autoretrain.domain.notices import notices_of
from autoretrain.domain.sealing import load
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.logs import only_errors
from autoretrain.entrypoints.reading import States
from autoretrain.ports.errors import AutoRetrainError
from autoretrain.ports.ledger import Entry

LEASE_SECONDS = 4.0
TABLES = 5
VARIANTS = 5
WRONG = 8  # loads of 100 that a variant is wrong about: all are as good as one another, and none is the same

_HEAD = """
[limits.fleet]
jobs_per_day = {budget}

[compute]
max_parallel = 4

[mlflow]
tracking_uri = "{mlflow}"
"""
_MODEL = """
[models.{name}]
rule = "{rule}"
cooldown_hours = 0
min_rows = 20
min_holdout_rows = 20
holdout_days = 8.333334
trigger.training_window_days = 20
trigger.schedule_expression = "* * * * *"
promotion = {{ first_champion = "floor", min_improvement = 0, metric = "accuracy" }}
data = {{ path = "rows-{table}.csv", time = "time", label = "hot" }}
training = {{ command = ["python", "-S", "-E", "train.py"], deadline_seconds = 120 }}
"""
_TRAIN = '''
"""Logs one of the models that lie ready, by REST: what any program in any language can do."""
import json, os, sys, urllib.request, zlib
from pathlib import Path

server, run = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_RUN_ID"]
key = os.environ["AUTORETRAIN_JOB_ID"] + "/" + os.environ["AUTORETRAIN_ATTEMPT"]
with open("trainings.log", "a") as log:
    log.write(key + "\\n")
variant = zlib.crc32(os.environ["AUTORETRAIN_JOB_ID"].encode()) % {sorts}
if variant == {variants}:
    sys.exit(3)

def ask(method, path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    address, headers = server + "/api/2.0/" + path, {{"Content-Type": kind}}
    request = urllib.request.Request(address, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")

new = {{"experiment_id": os.environ["MLFLOW_EXPERIMENT_ID"], "name": "model", "source_run_id": run}}
made = ask("POST", "mlflow/logged-models", new)["model"]["info"]
place = made["artifact_uri"].removeprefix("mlflow-artifacts:/")
for file in Path("variant-" + str(variant)).iterdir():
    ask("PUT", "mlflow-artifacts/artifacts/" + place + "/" + file.name, file.read_bytes())
end = {{"model_id": made["model_id"], "status": "LOGGED_MODEL_READY"}}
ask("PATCH", "mlflow/logged-models/" + made["model_id"], end)
'''


def save_variants(directory: Path) -> None:
    """Fit the models that trainings log, each wrong about other loads."""
    import mlflow.sklearn
    import pandas as pd
    from sklearn.tree import DecisionTreeClassifier

    loads = pd.Series(range(100))
    rows = pd.DataFrame({"load": loads, "valve": 50}, dtype=float)
    for variant in range(VARIANTS):
        wrong = (loads // WRONG) == 2 * variant
        labels = (loads > 50).astype(int) ^ wrong.astype(int)
        model = DecisionTreeClassifier(random_state=0).fit(rows, labels)
        with only_errors("mlflow.sklearn"):
            mlflow.sklearn.save_model(
                model,
                str(directory / f"variant-{variant}"),
                serialization_format="cloudpickle",
                pip_requirements=[],
            )


def lay_out(directory: Path) -> None:
    """Write all of the project but its settings."""
    save_variants(directory)
    (directory / "train.py").write_text(_TRAIN.format(sorts=VARIANTS + 1, variants=VARIANTS))
    for table in range(TABLES):
        write_rows(directory / f"rows-{table}.csv", shift=table)


def sections(names: Sequence[str]) -> str:
    """Settings of the models; every second one is left to its schedule."""
    return "".join(
        _MODEL.format(name=name, rule="manual" if number % 2 else "schedule", table=number % TABLES)
        for number, name in enumerate(names)
    )


# -- what goes on beside the controllers ---------------------------------------------------------------------


@dataclass
class Person:
    """Asks for jobs of every second model, and approves what waits.

    Args:
        pipeline: The library.
        models: The models.
        jobs: How many jobs to ask for in all.
    """

    pipeline: AutoRetrainPipeline
    models: Sequence[str]
    jobs: int
    asked: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def act(self, states: Mapping[str, ModelState]) -> None:
        """Do what there is to do now."""
        for model in self.models:
            try:
                self._look_after(model, states[model])
            except AutoRetrainError as error:  # as when a job has ended meanwhile; asked again later
                self.refused[type(error).__name__] += 1

    def _look_after(self, model: str, state: ModelState) -> None:
        job = state.open_job
        if job is not None and job.awaiting_until is not None and job.approval is None:
            self.pipeline.approve(job.job_id, "as good as the other")
        elif job is None and state.start is None and self.asked < self.jobs:
            self.asked += 1
            self.pipeline.start_retrain_job(model, reason="chaos")


@dataclass
class Misfortune:
    """Kills or stops one controller after another, by a seeded schedule.

    Args:
        controllers: Whom.
        rng: Decides who, how and how long.
        seconds_between: Mean time between two misfortunes.
    """

    controllers: Sequence[Controller]
    rng: random.Random
    seconds_between: float
    kills: int = 0
    stops: int = 0

    def __post_init__(self) -> None:
        self._next = time.monotonic() + self._pause()
        self._waking: dict[str, float] = {}

    def _pause(self) -> float:
        return self.seconds_between * self.rng.uniform(0.5, 1.5)

    @contextmanager
    def befalling(self) -> Iterator[None]:
        """Go on with it while the block lasts; at its end everybody runs.

        In a thread of its own: a controller that is stopped may hold a lock that the block waits for.
        """
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(0.05):
                self._act()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for controller in self.controllers:
                if controller.stopped:
                    controller.go_on()

    def _act(self) -> None:
        """Do what is due now: somebody goes on, somebody is hit."""
        now = time.monotonic()
        for controller in self.controllers:
            if controller.stopped and now >= self._waking[controller.name]:
                controller.go_on()
        if now >= self._next:
            self._hit(self.rng.choice(self.controllers), now)
            self._next = time.monotonic() + self._pause()

    def _hit(self, controller: Controller, now: float) -> None:
        if controller.stopped:
            return
        if self.rng.random() < 0.5:
            controller.kill()
            controller.start()
            self.kills += 1
        else:
            controller.stop()
            self._waking[controller.name] = now + LEASE_SECONDS + self.rng.uniform(0.5, 2.0)
            self.stops += 1


# -- what has come of it -------------------------------------------------------------------------------------


def ended(states: Iterable[ModelState]) -> int:
    """How many jobs have ended."""
    return sum(state.earlier_jobs + len(state.jobs) - (state.open_job is not None) for state in states)


@dataclass(frozen=True)
class Result:
    """What is counted at the end.

    Attributes:
        counts: By what it is.
        faults: What is off, in words.
    """

    counts: dict[str, object]
    faults: list[str]


def result_of(fleet: Fleet, library: AutoRetrainPipeline, jobs: int) -> Result:
    """Count outcomes and what there is twice, from ledger, registry, trainings and logs."""
    streams = fleet.entries()
    states = {model: fold(model, entries) for model, entries in streams.items()}
    every = [job for state in states.values() for job in state.jobs.values()]
    kinds = Counter((entry.kind, _job_of(entry)) for entries in streams.values() for entry in entries)
    trainings = Counter(fleet.trainings)
    known = {job.job_id for job in every}
    faults = [f"{len(every)} jobs, not {jobs}"] if len(every) != jobs else []
    faults += [f"job {job.job_id} is open" for job in every if job.is_open]
    faults += [f"job {job}: {n} times {kind}" for (kind, job), n in kinds.items() if kind in _ONCE and n > 1]
    faults += [f"training {key} began {n} times" for key, n in trainings.items() if n > 1]
    faults += [f"training {key} is of no job" for key in trainings if key.partition("/")[0] not in known]
    faults += [*_registry_faults(library, states), *_notice_faults(fleet, library, streams)]
    faults += [f"{fault.model} entry {fault.seq}: {fault.reason}" for fault in library.verify_audit()]
    counts = {
        "jobs ended": sum(not job.is_open for job in every),
        **_outcomes(every),
        "trainings begun": trainings.total(),
        "run keys begun twice": sum(n > 1 for n in trainings.values()),
        "ledger entries": sum(map(len, streams.values())),
    }
    return Result(counts, faults)


_ONCE = ("job.opened", "candidate.found", "job.decided", "promotion.done", "job.closed")


def _job_of(entry: Entry) -> str:
    return str(load(entry.data).get("job_id", ""))


def _outcomes(jobs: Sequence[Any]) -> dict[str, object]:
    told = Counter("promoted" if job.deployed else f"{job.status.value}, not promoted" for job in jobs)
    return {f"- {outcome}": n for outcome, n in sorted(told.items())}


def _registry_faults(library: AutoRetrainPipeline, states: Mapping[str, ModelState]) -> Iterator[str]:
    """What MLflow has twice, or other than the ledger."""
    from autoretrain.adapters.mlflow_client import MlflowConnection

    client = MlflowConnection(library.settings.tracking_uri).client
    for model, state in states.items():
        if state.champion is None:
            continue
        ours = state.champion.version.version
        alias = client.get_registered_model(model).aliases.get("champion")
        if alias != ours:
            yield f"{model}: version {alias} serves, and the ledger says {ours}"
        versions = client.search_model_versions(f"name = '{model}'")
        of_jobs = Counter(version.tags.get("autoretrain.job_id") for version in versions)
        yield from (f"{model}: {n} versions of job {job}" for job, n in of_jobs.items() if n > 1)


def _notice_faults(
    fleet: Fleet, library: AutoRetrainPipeline, streams: Mapping[str, Sequence[Entry]]
) -> Iterator[str]:
    """Notices that the ledger calls for, and that no controller has logged."""
    lines = [line["event"] for each in fleet.controllers for line in each.log]
    lines += (fleet.directory / "person.log").read_text().splitlines()
    told = {match[1] for line in lines if (match := re.match(r"\[([^\]]+)\]", line))}
    for model, entries in streams.items():
        state = ModelState(model)
        for entry in entries:
            yield from (
                f"{model}: nobody was told of {notice.event} ({notice.id})"
                for notice in notices_of(state, [entry])
                if notice.id not in told
            )
            state = fold(model, [entry], state)
    backlog = library.ports.outbox.counts()
    if backlog.waiting or backlog.dead:
        yield f"{backlog.waiting} notices wait, and {backlog.dead} are dead"


def _log_faults(controllers: Sequence[Controller]) -> Iterator[str]:
    """What no misfortune explains."""
    for each in controllers:
        others = [line for line in each.log_file.read_text().splitlines() if not line.startswith("{")]
        yield from (f"{each.name} printed what is no JSON: {line[:80]!r}" for line in others[:3])
        errors = (line["event"] for line in each.log if line["level"] == "error")
        yield from (f"{each.name} logged: {error[:300]}" for error in errors if not error.startswith("["))


# -- as a program --------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200, help="jobs that have to end")
    parser.add_argument("--models", type=int, default=20, help="models that they are of")
    parser.add_argument(
        "--seconds-between", type=float, default=5.0, help="mean time between two misfortunes"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the misfortunes")
    parser.add_argument("--minutes", type=float, default=40.0, help="give up after so long")
    asked = parser.parse_args()
    for name, least in (("jobs", 2), ("models", 2), ("seconds_between", 0.5), ("minutes", 0.1)):
        if not getattr(asked, name) >= least:
            parser.error(f"--{name.replace('_', '-')} must be {least:g} or more")
    return asked


def main() -> int:
    """Run it, and print the table; 1 when anything is off."""
    asked = _arguments()
    try:
        return _in_a_place(asked)
    except pytest.skip.Exception as missing:  # so the tests' helpers say that a program is not installed
        sys.exit(f"two_controllers.py: {missing}")


def _in_a_place(asked: argparse.Namespace) -> int:
    """Run it in a directory of its own, which stays for who wants to know why when anything was off."""
    place = Path(tempfile.mkdtemp(prefix="two-controllers-"))
    status = 1
    try:
        status = _on_servers(asked, place)
    finally:
        if status:
            print(f"the project and the logs are in {place}", file=sys.stderr)
        else:
            shutil.rmtree(place)
    return status


def _on_servers(asked: argparse.Namespace, place: Path) -> int:
    with running_postgres() as server, running_mlflow(_made(place / "mlflow")) as mlflow:
        directory = _made(place / "project")
        lay_out(directory)
        names = [f"model-{number:02}" for number in range(asked.models)]
        more = _HEAD.format(budget=asked.jobs - asked.jobs // 2, mlflow=mlflow.uri)
        fleet = Fleet.create(directory, server, sections(names), lease_seconds=LEASE_SECONDS, more=more)
        with running(fleet):
            return _run(fleet, names, asked)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _run(fleet: Fleet, names: Sequence[str], asked: argparse.Namespace) -> int:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    logging.getLogger("autoretrain").addHandler(logging.FileHandler(fleet.directory / "person.log"))
    logging.getLogger("autoretrain").setLevel(logging.INFO)
    library, started = fleet.library(), time.monotonic()
    controllers = [fleet.controller(), fleet.controller()]
    for controller in controllers:
        controller.start()
    misfortune = Misfortune(controllers, random.Random(asked.seed), asked.seconds_between)
    person = Person(library, names[1::2], asked.jobs // 2)
    with misfortune.befalling():
        late = _until_all_have_ended(library, person, names, asked)
    seconds = time.monotonic() - started
    statuses = [controller.end() for controller in controllers]
    result = result_of(fleet, library, asked.jobs)
    faults = [*late, *result.faults, *_log_faults(controllers)]
    faults += [f"a controller ended with status {status}" for status in statuses if status]
    faults += [f"left running: {process}" for process in processes_in(fleet.directory)]
    _print(asked, misfortune, controllers, person, result, seconds, faults)
    return int(bool(faults))


def _until_all_have_ended(
    library: AutoRetrainPipeline, person: Person, names: Sequence[str], asked: argparse.Namespace
) -> list[str]:
    """Act as the person until every job has ended and every notice is out; says when that took too long."""
    states, give_up = States(library.ports.ledger), time.monotonic() + 60 * asked.minutes
    while time.monotonic() < give_up:
        now = {model: states[model] for model in names}
        done = ended(now.values())
        if sys.stderr.isatty():
            print(f"\r{done} of {asked.jobs} jobs have ended ", end="", file=sys.stderr)
        if done >= asked.jobs and not library.ports.outbox.counts().waiting:
            return []
        person.act(now)
        time.sleep(0.3)
    return [f"not at an end after {asked.minutes:g} minutes"]


def _print(
    asked: argparse.Namespace,
    misfortune: Misfortune,
    controllers: Sequence[Controller],
    person: Person,
    result: Result,
    seconds: float,
    faults: Sequence[str],
) -> None:
    rows: dict[str, object] = {
        "models": asked.models,
        "seed": asked.seed,
        "seconds": f"{seconds:.0f}",
        "controllers killed (SIGKILL) and started again": misfortune.kills,
        "controllers stopped past their leases (SIGSTOP, SIGCONT)": misfortune.stops,
        "writes and acts refused because the lease was lost": sum(each.lost_leases for each in controllers),
        "jobs asked for and approved by a person": person.asked,
        **result.counts,
        "lost or doubled": len(faults),
    }
    print("| two controllers | |\n| --- | ---: |")
    print("\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    for fault in faults:
        print(f"FAULT: {fault}")


if __name__ == "__main__":
    sys.exit(main())
