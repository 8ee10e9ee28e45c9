"""Replay five years of a real gas turbine under four retraining policies, and print one table.

The task is to tell from ten sensors whether the turbine emits more than 65 mg/m³ of NOx. Time is injected;
all else is real: the ledger, MLflow, trainings and predictions in processes of their own. See the README
beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from autoretrain import AutoRetrainPipeline, JobStatus, RetrainingJob
from autoretrain.entrypoints import training
from autoretrain.ports.compute import RunRequest, RunState
from autoretrain.ports.data import Snapshot, SnapshotRequest
from autoretrain.ports.errors import AutoRetrainError, ConfigurationError, Permanent
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.tracking import TrainingContext
from autoretrain.ports.values import Pending, TimeWindow

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent.parent / "shared" / "data" / "gas_turbine"

COLUMNS = ("AT", "AP", "AH", "AFDP", "GTEP", "TIT", "TAT", "TEY", "CDP", "CO", "NOX")
LIMIT = 65.0  # mg/m³ of NOx
START = datetime(2011, 1, 1, tzinfo=UTC)  # the records carry no times: hourly, in the order of the files
TRAINING = timedelta(days=180)
WINDOW = timedelta(days=30)
PARALLEL = os.cpu_count() or 1

NEVER, ALWAYS, SCHEDULE, AUTORETRAIN = "never", "every-30-days", "schedule", "autoretrain"
POLICIES = {
    NEVER: "never retrain",
    ALWAYS: "retrain every 30 days, no gate (1)",
    SCHEDULE: "retrain every 30 days, gated (2)",
    AUTORETRAIN: "AutoRetrain, seed-point@1 (3)",
}
NOTES = """\
Means over {windows} windows of 30 days that follow the first {days} days; each is judged with the version
that serves when it begins. Trainings and promotions are those beside the first champion, of the first 180
days.
(1) A reference outside the product's rules, without a first champion: trained before every window on the
    latest 180 days, and deployed whatever it is like.
(2) The schedule trigger: trained on the 180 days before a holdout of 30 days; deployed when its accuracy
    there is 0.85 or more and its F1 no worse than the champion's.
(3) The performance trigger: when the champion's accuracy over the last 30 days is below 0.92, trained on the
    180 days before a holdout of 30 days; deployed when its accuracy there is 0.85 or more and its F1 at
    least 5 % better than the champion's."""

SETTINGS = """\
[defaults]
positive = "1"

[defaults.data]
path = "turbine.parquet"
time = "time"
label = "high_nox"

[defaults.trigger]
performance_metric_threshold = 0.92
evaluation_window_days = 30
training_window_days = 180
schedule_expression = "0 0 * * *"  # due at every look, and the replay looks every 30 days

[defaults.training]
command = [{python}, {script}]
parameters = {{ max_iter = 60, random_state = 0 }}

[defaults.promotion]
policy = "seed-point@1"

[models.never]
rule = "manual"

[models.every-30-days]
rule = "manual"

[models.schedule]
rule = "schedule"
promotion.min_improvement = 0.0

[models.autoretrain]
rule = "performance"
promotion.min_improvement = 0.05
"""

_T = TypeVar("_T")
Say = Callable[[str], None]


@dataclass
class Row:
    """One line of the table.

    Attributes:
        policy: Name of the policy.
        accuracy: Mean over the windows.
        f1: Mean over the windows, of the class above the limit.
        trainings: Trainings, without that of the first champion.
        promotions: Versions that went live, without the first champion.
        rejections: Candidates that did not, by reason.
        failures: Jobs that failed; their reasons.
    """

    policy: str
    accuracy: float
    f1: float
    trainings: int = 0
    promotions: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


class Unusable(Permanent):
    """Arguments or data that no replay can be made of."""


class Clock:
    """The time of the replay. It stands still while the loop works."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the simulated time."""
        return self.now


class Plant:
    """The parts of the product that the replay drives by itself: trainings outside the loop, and the scores.

    Args:
        pipeline: Its ports are used.
        say: Takes a line of progress.
    """

    def __init__(self, pipeline: AutoRetrainPipeline, say: Say) -> None:
        self._ports = pipeline.ports
        self._models = pipeline.settings.models
        self._say = say

    def train(self, model: str, windows: Sequence[TimeWindow]) -> list[str]:
        """Train once a window, side by side, through the product's tracker and compute.

        Returns:
            The name of each training, by which ``register`` finds its version.
        """
        names = [f"{model}-{window.end:%Y-%m-%d}" for window in windows]
        for number, name in enumerate(names):
            for ahead in range(number, min(number + PARALLEL, len(names))):
                self._submit(model, names[ahead], windows[ahead])
            self._say(f"{model}: training {number + 1} of {len(names)}")
            _wait(partial(self._trained, name))
        return names

    def _submit(self, model: str, name: str, window: TimeWindow) -> None:
        """Start a training; one that was started before is left alone."""
        spec = self._models[model].training
        rows = self._ports.data.snapshot(SnapshotRequest(model, window))
        run = self._ports.tracker.open_run(TrainingContext(model, name, 1, spec.parameters, rows, None))
        environment = {
            training.MODEL_NAME: model,
            training.JOB_ID: name,
            training.ATTEMPT: "1",
            training.TRAINING_CONFIG: json.dumps(spec.parameters),
            training.DATA: rows.uri,
            training.LABEL: str(rows.label),
            training.TIME: rows.time,
            training.FEATURES: json.dumps(rows.features),
        }
        self._ports.compute.submit(RunRequest(name, spec.command, {**run, **environment}))

    def _trained(self, name: str) -> bool | None:
        status = self._ports.compute.observe(name)
        if not status.state.ended:
            return None
        if status.state is not RunState.SUCCEEDED:
            raise Permanent(f"training {name}: {status.reason}\n{self._ports.compute.log_tail(name)}")
        return True

    def register(self, model: str, name: str) -> ModelVersion:
        """Register what a training logged, as a version of a model."""
        version = self._ports.registry.candidate(model, name)
        if version is None:
            raise Permanent(f"training {name} logged no model")
        return version

    def ask(self, version: ModelVersion, window: TimeWindow) -> tuple[Snapshot, Predictions] | None:
        """Ask for a version's predictions for a window: computed once, ``None`` until they are there."""
        rows = self._ports.data.snapshot(SnapshotRequest(version.model, window))
        predictions = self._ports.predictor.predict(version, rows)
        return None if isinstance(predictions, Pending) else (rows, predictions)

    def means(self, serving: Sequence[ModelVersion], windows: Sequence[TimeWindow]) -> tuple[float, float]:
        """Mean accuracy and F1 of the versions that served, each in its own window."""
        pairs = list(zip(serving, windows, strict=True))
        scores = []
        for number, pair in enumerate(pairs):
            for ahead in pairs[number : number + PARALLEL]:
                self.ask(*ahead)
            self._say(f"{serving[0].model}: scoring window {number + 1} of {len(pairs)}")
            scores.append(self._score(*pair))
        accuracies, f1s = zip(*scores, strict=True)
        return sum(accuracies) / len(scores), sum(f1s) / len(scores)

    def _score(self, version: ModelVersion, window: TimeWindow) -> tuple[float, float]:
        rows, predictions = _wait(partial(self.ask, version, window))
        scores = self._ports.scorer.score(self._models[version.model].scoring, rows, predictions)
        accuracy, f1 = scores.candidate["accuracy"], scores.candidate["f1"]
        if accuracy is None or f1 is None:
            raise Permanent(f"the window from {window.start:%Y-%m-%d} cannot be scored: {scores.unknown}")
        return accuracy, f1


def replay(home: Path, policies: Sequence[str], windows: Sequence[TimeWindow], say: Say) -> list[Row]:
    """Replay windows under some policies.

    Args:
        home: Directory with ``autoretrain.toml`` and the table.
        policies: Names of the policies.
        windows: The windows, one after another; before them, nobody looks.
        say: Takes a line of progress.

    Returns:
        One row a policy.
    """
    clock = Clock(windows[0].start)
    pipeline = AutoRetrainPipeline(settings=home, clock=clock, actor="replay")
    plant = Plant(pipeline, say)
    rows = [_always(plant, windows)] if ALWAYS in policies else []
    if watched := [policy for policy in policies if policy != ALWAYS]:
        _first_champion(pipeline, plant, watched)
        served = []
        for number, window in enumerate(windows):
            clock.now = window.start
            say(f"{', '.join(watched)}: window {number + 1} of {len(windows)}")
            served.append(_look(pipeline, plant, watched, window))
        pipeline.release()
        for policy in watched:
            means = plant.means([champions[policy] for champions in served], windows)
            rows.append(_row(policy, means, list(pipeline.job_history.values())))
    return sorted(rows, key=lambda row: list(POLICIES).index(row.policy))


def _always(plant: Plant, windows: Sequence[TimeWindow]) -> Row:
    """Train before every window on the latest 180 days, and let it serve: the reference without a gate."""
    names = plant.train(ALWAYS, [TimeWindow(window.start - TRAINING, window.start) for window in windows])
    serving = [plant.register(ALWAYS, name) for name in names]
    return Row(ALWAYS, *plant.means(serving, windows), len(names), len(names))


def _first_champion(pipeline: AutoRetrainPipeline, plant: Plant, models: Sequence[str]) -> None:
    """Let a version trained on the first 180 days serve; the ledger adopts what it finds."""
    (name,) = plant.train(models[0], [TimeWindow(START, START + TRAINING)])
    for model in models:
        pipeline.ports.registry.set_champion(plant.register(model, name), None)


def _look(
    pipeline: AutoRetrainPipeline, plant: Plant, models: Sequence[str], window: TimeWindow
) -> Mapping[str, ModelVersion]:
    """Run the loop once, and the jobs it opened to their ends; return who serves then."""
    for model in models:
        pipeline.judge(model)  # waits for the champion's predictions, so that the tick need not
    pipeline.tick()
    open_jobs = [job.job_id for job in pipeline.job_history.values() if job.is_open]
    if open_jobs:
        for version in pipeline.ports.registry.champions(models).values():
            plant.ask(version, window)  # most of them go on serving: predicted while the trainings run
    for job_id in open_jobs:
        pipeline.wait(job_id)
    return pipeline.ports.registry.champions(models)


def _row(policy: str, means: tuple[float, float], history: Sequence[RetrainingJob]) -> Row:
    jobs = [job for job in history if job.model_name == policy]
    return Row(
        policy,
        *means,
        trainings=sum(job.started_at is not None for job in jobs),
        promotions=sum(job.deployed for job in jobs),
        rejections=dict(Counter(reason for job in jobs if (reason := _rejection(job)))),
        failures=[job.outcome for job in jobs if job.status is JobStatus.FAILED],
    )


def _rejection(job: RetrainingJob) -> str:
    """Why a candidate was not promoted, in a word or two; empty when it was, or was never judged."""
    if job.deployed or job.decision is None or job.validation is None:
        return ""
    if job.validation.verdict.is_no:
        return "floor"
    if job.decision.rule.startswith("seed-point"):
        return "improvement"
    return job.decision.reason.partition(":")[0]


def write_home(home: Path, data: Path, more: str = "") -> int:
    """Write settings and table of the replay.

    Args:
        home: Directory to write to; made when missing.
        data: Directory of the yearly files.
        more: Further settings.

    Returns:
        How many windows the table holds.

    Raises:
        Unusable: The data is absent, or not what was expected.
    """
    import pyarrow as pa
    import pyarrow.compute as compute
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    files = sorted(data.glob("gt_*.csv"))
    if not files:
        raise Unusable(f"there is no data: {data} has no gt_*.csv (--data names another folder)")
    types = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float64()), include_columns=COLUMNS)
    try:
        table = pa.concat_tables([csv.read_csv(file, convert_options=types) for file in files])
    except (pa.ArrowException, KeyError) as error:
        raise Unusable(f"the data in {data} cannot be read: {error}") from error
    times = [START + timedelta(hours=hour) for hour in range(table.num_rows)]
    label = compute.greater(table["NOX"], LIMIT).cast(pa.int64())
    table = table.drop_columns("NOX").append_column("high_nox", label).add_column(0, "time", [times])
    home.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, home / "turbine.parquet")
    quoted = {"python": json.dumps(sys.executable), "script": json.dumps(str(HERE / "train.py"))}
    (home / "autoretrain.toml").write_text(SETTINGS.format(**quoted) + more, encoding="utf-8")
    return (timedelta(hours=table.num_rows) - TRAINING) // WINDOW


def table_of(rows: Sequence[Row], windows: Sequence[TimeWindow]) -> str:
    """Lay the rows out for a terminal."""
    lines = [f"{'policy':<36}{'accuracy':>9}{'F1':>7}{'trainings':>11}{'promotions':>12}  rejections"]
    for row in rows:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(row.rejections.items()))
        lines.append(
            f"{POLICIES[row.policy]:<36}{row.accuracy:>9.3f}{row.f1:>7.3f}"
            f"{row.trainings:>11}{row.promotions:>12}  {reasons or '-'}"
        )
        lines += [f"    failed: {failure}" for failure in row.failures]
    notes = NOTES.format(windows=len(windows), days=(windows[0].start - START).days)
    return "\n".join([*lines, "", notes])


def _wait(look: Callable[[], _T | None]) -> _T:
    while (answer := look()) is None:
        time.sleep(0.05)
    return answer


def _progress(text: str) -> None:
    """Show where the replay is, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    """The directory of the replay: kept where the user says, or removed at the end."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise Unusable(f"{keep} is not empty: a replay starts afresh, name another folder")
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="gas-turbine-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _windows(first: int, asked: int | None, available: int) -> list[TimeWindow]:
    """The windows to replay, from the first one: all that follow, or as many as were asked for."""
    if not 1 <= first <= available:
        raise Unusable(f"--first {first}: the data has {available} windows")
    left = available - first + 1
    count = left if asked is None else asked
    if not 1 <= count <= left:
        raise Unusable(f"--windows {count}: the data has {left} windows from window {first} on")
    begin = START + TRAINING + (first - 1) * WINDOW
    return [TimeWindow(begin + number * WINDOW, begin + (number + 1) * WINDOW) for number in range(count)]


def _more(file: Path | None) -> str:
    """The further settings of the user."""
    try:
        return "" if file is None else "\n" + file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Unusable(f"--settings {file}: cannot be read ({error}); name a file of TOML") from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of the yearly files")
    parser.add_argument("--windows", type=int, metavar="N", help="replay N windows only")
    parser.add_argument(
        "--first", type=int, default=1, metavar="N", help="begin with window N; nobody looks before"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="settings behind those of the replay, as of a cluster"
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="which rows")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep ledger, MLflow and settings in DIR, to be explored"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args()


def main() -> int:
    """Run the command; 2 means that arguments or data cannot be used, 1 that the replay failed."""
    arguments = _arguments()
    # Processes, not threads, fill the processors here: a training takes one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with _home(arguments.keep) as home:
            available = write_home(home, arguments.data, _more(arguments.settings))
            windows = _windows(arguments.first, arguments.windows, available)
            rows = replay(home, list(dict.fromkeys(arguments.policies)), windows, _progress)
            _progress("")
    except (Unusable, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 2
    except AutoRetrainError as error:
        print(f"the replay failed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"windows": len(windows), "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(table_of(rows, windows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
