"""Trigger types: performance, drift, schedule and manual, one of your own, and how answers combine.

GL-003 runs with more feed than its model ever saw. Drift sees that at once; whether the model is worse for it
is another question.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from fleet import project

from autoretrain import AutoRetrainPipeline, RetrainingTrigger, TriggerType

AGENT = "GL-003"


class Decoked(RetrainingTrigger):
    """Fires when a heater was decoked: its tubes are others than those the model knows."""

    name = "decoked"

    def __init__(self, log_book: Mapping[str, datetime]) -> None:
        self._log_book = log_book

    def should_retrain(self, model_name: str) -> tuple[bool, str]:
        """Look the heater up in the log book."""
        at = self._log_book.get(model_name)
        return at is not None, f"decoked on {at:%Y-%m-%d}" if at else "not decoked"

    def get_trigger_type(self) -> TriggerType:
        """Jobs that it starts are recorded as ``custom``."""
        return TriggerType.CUSTOM


def main(directory: Path) -> None:
    decoked = Decoked({"GL-001": datetime(2026, 3, 1, tzinfo=UTC)})
    pipeline = AutoRetrainPipeline(settings=directory, triggers=[decoked])

    print(f"Every trigger by itself, for {AGENT}:")
    for trigger in pipeline.triggers:
        fires, reason = trigger.should_retrain(AGENT)
        print(f"    {trigger.name:<12} {trigger.get_trigger_type().value:<24} {fires!s:<6} {reason}")

    # A boolean cannot say "unknown"; a verdict can. They combine by Kleene's logic, as in a model's `rule`.
    performance, drift = pipeline.judge(AGENT, "performance"), pipeline.judge(AGENT, "drift")
    nobody = pipeline.judge("GL-004", "performance")
    print("Combined:")
    for rule, verdict in {
        "drift | performance": drift | performance,
        "drift & performance": drift & performance,
        "~drift": ~drift,
        "drift | unknown": drift | nobody,
        "drift & unknown": drift & nobody,
    }.items():
        print(f"    {rule:<20} {verdict.answer.value}")
    print(f"    (unknown: {nobody.reason})")

    columns = drift.evidence["columns"]
    for column, found in sorted(columns.items(), key=lambda item: item[1]["psi"], reverse=True):
        print(f"    PSI of {column:<14} {found['psi']:.3f}")


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
