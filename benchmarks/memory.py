"""Memory over a simulated week: the real controller, ledger, outbox and telemetry; only the world is played.

    python benchmarks/memory.py [--models N] [--days N] [--where]

A look a minute for every model, a retraining every few hours, a metric that comes and goes, and on the third
day a receiver of notices that is away. Prints, at the end of each simulated day, what our own code and the
libraries below it hold (tracemalloc, without the played world), and the private memory of the process. Fails
when the first grows by more than a limit a day after the second day. --where says which lines grew.
"""

import argparse
import gc
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psutil

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.observations_sqlite import SqliteObservations
from autoretrain.adapters.telemetry_prometheus import PrometheusTelemetry
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.entrypoints.testing import Training, World
from autoretrain.ports.errors import Temporary

LIMIT_KB_A_DAY = 32.0
MINUTES_A_DAY = 24 * 60
PLAYED = (
    "*/adapters/memory.py",
    "*/testing/simulated_world.py",
    "*/benchmarks/memory.py",
    tracemalloc.__file__,
)


@dataclass(frozen=True)
class Reading:
    """Memory at the end of a simulated day."""

    day: int
    kilobytes: float
    private_mb: float
    jobs: int
    seconds: float


def fleet(models: int) -> dict[str, ModelSpec]:
    spec = ModelSpec(
        name="model",
        rule="performance",
        trigger=TriggerConfig(evaluation_window_days=10, training_window_days=30),
        min_rows=10,
        min_holdout_rows=10,
        cooldown_hours=3,
        check_every_seconds=60,
        training=TrainingSpec(command=("train",)),
    )
    return {f"model-{n}": spec.model_copy(update={"name": f"model-{n}"}) for n in range(models)}


def play(world: World, minute: int) -> None:
    """What the world does in this minute."""
    world.now += timedelta(minutes=1)
    hour = minute // 60
    for number, model in enumerate(world.fleet):
        if minute % 60 == 0:
            world.add_rows(model)
            known = (hour + number) % 7 != 0
            world.metrics.set(model, "accuracy", (0.80 if hour % 4 == 0 else 0.97) if known else None)
            world.training[model] = Training(
                "fails" if hour % 3 == 0 else "succeeds", boundary=0.5, again=False
            )
    away = 2 <= minute / MINUTES_A_DAY < 3
    world.notifier.refusal = Temporary("away") if away else None


def forget(world: World) -> None:
    """Empty what the played world remembers; a real one keeps that elsewhere."""
    registry = world.registry
    runs = (world.data.taken, world.predictor.made, world.compute._runs, world.compute.started)
    for kept in (*runs, registry.notes, registry._contexts, registry._logged):
        kept.clear()
    world.record.moves.clear()
    world.notifier.sent.clear()
    world.notifier.digests.clear()


def week(models: int, days: int, folder: Path) -> Iterator[tuple[Reading, tracemalloc.Snapshot]]:
    """Run it, and measure at the end of every day."""
    world, process = World(fleet(models)), psutil.Process()
    for model in world.fleet:
        world.serve(model, boundary=0.6)
    with (
        closing(SqliteLedger(folder / "ledger.db", clock=world.clock)) as ledger,
        closing(SqliteObservations(folder / "observations.db")) as looks,
    ):
        telemetry = PrometheusTelemetry(monotonic=world.clock)
        ports = replace(world.ports(), ledger=ledger, agenda=ledger, outbox=ledger)
        ports = replace(ports, observations=looks, telemetry=telemetry)
        controller = Controller(ports, world.fleet, "benchmark", monotonic=world.clock)
        controller.enrol(world.fleet, world.now)
        for day in range(1, days + 1):
            started = time.monotonic()
            for minute in range((day - 1) * MINUTES_A_DAY, day * MINUTES_A_DAY):
                play(world, minute)
                report = controller.tick(world.now)
                assert len(report.looked) == models, f"{report.looked} of {models} models were looked at"
            telemetry.render()
            forget(world)
            gc.collect()
            held = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.Filter(False, pattern) for pattern in PLAYED]
            )
            reading = Reading(
                day,
                sum(trace.size for trace in held.traces) / 1024,
                process.memory_full_info().uss / 2**20,
                sum(entry.kind == "job.opened" for model in world.fleet for entry in ledger.read(model)),
                time.monotonic() - started,
            )
            yield reading, held


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--where", action="store_true", help="which lines grew")
    options = parser.parse_args()
    tracemalloc.start()
    readings: list[Reading] = []
    snapshots: list[tracemalloc.Snapshot] = []
    # Without a disk to wait for, where that can be had: tens of thousands of commits.
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=fast) as name:
        for reading, held in week(options.models, options.days, Path(name)):
            grown = reading.kilobytes - readings[-1].kilobytes if readings else 0.0
            print(
                f"day {reading.day}: {reading.kilobytes:8.0f} KiB held ({grown:+.0f}), "
                f"{reading.private_mb:.1f} MiB private, {reading.jobs} jobs, {reading.seconds:.0f} s",
                flush=True,
            )
            readings.append(reading)
            if options.where:  # a snapshot is larger than what it shows
                snapshots = [*snapshots[:1], held] if reading.day > 2 else [held]
    since, last = readings[min(1, len(readings) - 1)], readings[-1]
    a_day = (last.kilobytes - since.kilobytes) / max(last.day - since.day, 1)
    print(f"growth after day {since.day}: {a_day:.1f} KiB a day (limit {LIMIT_KB_A_DAY:g})")
    if options.where:
        for line in snapshots[-1].compare_to(snapshots[0], "lineno")[:15]:
            print(line)
    return int(a_day > LIMIT_KB_A_DAY)


if __name__ == "__main__":
    sys.exit(main())
