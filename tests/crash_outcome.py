"""What has come of a cycle, as far as it must be the same whatever was killed on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from project_kit import MODEL

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.domain.fold import fold
from autoretrain.domain.notices import notices_of
from autoretrain.domain.state import ModelState
from autoretrain.ports.ledger import Entry

_ONCE_A_JOB = ("job.opened", "candidate.found", "job.decided", "promotion.done", "job.closed")


@dataclass(frozen=True)
class Outcome:
    """The end of a cycle. Jobs are numbered, since their ids differ.

    Attributes:
        jobs: Trigger, status, decision, and whether it was deployed and rolled back, of each job.
        champion: Digest of the version that serves, by the ledger.
        alias: Version that serves, by MLflow; ``"None"`` for none.
        versions: Digest and job of every registered version, by MLflow.
        withdrawn: Versions that were taken back.
        kinds: How often the ledger says each thing that happens once.
        runs: How often each run was started.
        told: How often each event was told of, by notices with ids of their own.
        faults: What is wrong with the chain.
        lost: Notices that nobody got.
        unfinished: Runs that were left.
        sent_again: How many notices came twice; the only thing that may differ.
    """

    jobs: list[list[Any]]
    champion: str | None
    alias: str
    versions: list[list[Any]]
    withdrawn: list[str]
    kinds: dict[str, int]
    runs: dict[str, int]
    told: dict[str, int]
    faults: list[str]
    lost: list[str]
    unfinished: list[str]
    sent_again: int

    @property
    def doubled(self) -> list[str]:
        """What happened more often than it may."""
        often = [f"run {run}, {times} times" for run, times in self.runs.items() if times > 1]
        jobs = [job for _, job in self.versions if job is not None]
        often += [f"{jobs.count(job)} versions of job {job}" for job in set(jobs) if jobs.count(job) > 1]
        most = {**dict.fromkeys(_ONCE_A_JOB, len(self.jobs)), "promotion.done": 1, "rollback.done": 1}
        return often + [f"{kind}, {n} times" for kind, n in self.kinds.items() if n > most.get(kind, n)]

    @property
    def missing(self) -> list[str]:
        """What should be there and is not."""
        return [*self.faults, *self.lost, *self.unfinished]

    def differences(self, other: "Outcome") -> list[str]:
        """Names and values of what is not as in the other."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name}: {mine[name]}, not {theirs[name]}"
            for name in mine
            if name != "sent_again" and mine[name] != theirs[name]
        ]


def outcome_of(pipeline: AutoRetrainPipeline, unfinished: list[str]) -> Outcome:
    """Read it off the ledger, MLflow, and the files that commands and notifier left in this directory."""
    entries = pipeline.ports.ledger.read(MODEL)
    state = fold(MODEL, entries)
    number = {job_id: str(n) for n, job_id in enumerate(state.jobs)}
    due = _notices(entries)
    got = Counter(lines("notices.log"))
    return Outcome(
        jobs=_jobs(state),
        champion=state.champion.version.digest if state.champion else None,
        alias=str(_registry(pipeline).get_registered_model(MODEL).aliases.get("champion")),
        versions=_versions(pipeline, number),
        withdrawn=sorted(state.quarantined.values()),
        kinds=dict(sorted(Counter(entry.kind for entry in entries if _happens_once(entry.kind)).items())),
        runs=_runs(number),
        told=dict(sorted(Counter(due.values()).items())),
        faults=[f"entry {fault.seq}: {fault.reason}" for fault in pipeline.verify_audit()],
        lost=[event for notice_id, event in due.items() if not got[notice_id]],
        unfinished=unfinished,
        sent_again=got.total() - len(got),
    )


def lines(file: str) -> list[str]:
    """Lines of a file; none when it is not there."""
    return Path(file).read_text().splitlines() if Path(file).exists() else []


def _happens_once(kind: str) -> bool:
    return kind in _ONCE_A_JOB or kind.startswith(("request.", "promotion.", "rollback.", "champion."))


def _jobs(state: ModelState) -> list[list[Any]]:
    return [
        [
            job.trigger_type.value,
            job.status.value,
            job.decision.outcome.value if job.decision else None,
            job.deployed,
            job.rolled_back_at is not None,
        ]
        for job in state.jobs.values()
    ]


def _registry(pipeline: AutoRetrainPipeline) -> Any:
    return MlflowConnection(pipeline.settings.tracking_uri).client


def _versions(pipeline: AutoRetrainPipeline, number: Mapping[str, str]) -> list[list[Any]]:
    found = _registry(pipeline).search_model_versions(f"name = '{MODEL}'")
    return [
        [
            version.tags.get("autoretrain.payload_sha256"),
            number.get(version.tags.get("autoretrain.job_id", "")),
        ]
        for version in sorted(found, key=lambda version: int(version.version))
    ]


def _runs(number: Mapping[str, str]) -> dict[str, int]:
    """Starts of training commands by job, and of predictions by digest of rows and model."""
    trained = [line.split("/") for line in lines("trainings.log")]
    started = [f"train {number.get(job_id, 'of no job')}/{attempt}" for job_id, _, attempt in trained]
    predicted = [f"predict {Path(line).parent.name}/{Path(line).name}" for line in lines("predictions.log")]
    return dict(sorted(Counter(started + predicted).items()))


def _notices(entries: Sequence[Entry]) -> dict[str, str]:
    """Event by id of every notice that the ledger calls for."""
    state, due = ModelState(MODEL), {}
    for entry in entries:
        due.update({notice.id: notice.event for notice in notices_of(state, [entry])})
        state = fold(MODEL, [entry], state)
    return due
