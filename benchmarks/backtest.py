"""A year of 100 models, looked at every hour, under two policies: what a backtest over records costs."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.entrypoints.backtest import Policy
from autoretrain.entrypoints.backtest.past import Asked, compare
from autoretrain.entrypoints.backtest.recorded import Records
from autoretrain.entrypoints.backtest.records import History, Sample, Samples

START = datetime(2025, 1, 1, tzinfo=UTC)
MODELS, DAYS = 100, 365


def spec(number: int, rule: str) -> ModelSpec:
    """A model that retrains once a week at most."""
    training = TrainingSpec(command=("train",))
    return ModelSpec(name=f"m{number}", rule=rule, cooldown_hours=168, training=training)


def history(number: int) -> History:
    """A value a day, below the threshold for two months of the year, at another time for each model."""
    values = (0.93 + 0.02 * math.sin(2 * math.pi * (day / DAYS + number / MODELS)) for day in range(DAYS))
    samples = [Sample(START + timedelta(days=day), value, 500) for day, value in enumerate(values)]
    return History({"accuracy": Samples(samples)})


def main() -> None:
    """Print the seconds, looks and jobs of each policy."""
    fleet = {f"m{number}": spec(number, "performance") for number in range(MODELS)}
    weekly = {f"m{number}": spec(number, "performance | schedule") for number in range(MODELS)}
    records = Records({f"m{number}": history(number) for number in range(MODELS)}, fleet)
    for policy in (Policy("performance", fleet), Policy("performance | schedule", weekly)):
        begun = time.process_time()
        (outcome,) = compare([policy], records, Asked())
        seconds = time.process_time() - begun
        print(
            f"{policy.name}: {MODELS} models, {DAYS} days, {outcome.looks:,} looks, "
            f"{len(outcome.jobs)} jobs: {seconds:.1f} s of processor time"
        )


if __name__ == "__main__":
    main()
