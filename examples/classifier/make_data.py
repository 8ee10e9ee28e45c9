"""Writes inspections of steam traps: 200 days up to now, every half hour one; the same seed, the same world.

A working trap drains in cycles and is quiet; a leaking one passes live steam (hot outlet, loud); a blocked
one backs up (cold outlet, silent). 45 days ago the line pressure was raised: everything is hotter and
louder since, so that a model from before takes working traps for leaking ones.
"""

import argparse
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

DAYS = 200
RAISED_DAYS_AGO = 45
COLUMNS = ("time", "trap_id", "trap_type", "inlet_c", "outlet_c", "ultrasound_db", "cycles_per_min", "state")

# By state: share of the traps, outlet °C below the inlet, ultrasound dB, cycles a minute.
STATES = {
    "ok": (0.70, 18.0, 38.0, 6.0),
    "leaking": (0.18, 6.0, 62.0, 14.0),
    "blocked": (0.12, 70.0, 15.0, 0.5),
}
TYPES = {"float": 0.0, "bucket": 4.0, "thermodynamic": 8.0}  # dB that the type adds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data" / "inspections.csv")
    arguments = parser.parse_args()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(inspections(np.random.default_rng(arguments.seed), now))
    print(f"{DAYS * 48} inspections in {arguments.output}")


def inspections(chance: np.random.Generator, now: datetime) -> list[list[object]]:
    """Rows in the order of time, as ``COLUMNS`` names them."""
    start = now - timedelta(days=DAYS)
    times = [start + timedelta(minutes=30 * number) for number in range(DAYS * 48)]
    return [_inspection(chance, at, raised=at > now - timedelta(days=RAISED_DAYS_AGO)) for at in times]


def _inspection(chance: np.random.Generator, at: datetime, raised: bool) -> list[object]:
    state = str(chance.choice(list(STATES), p=[share for share, *_ in STATES.values()]))
    kind = str(chance.choice(list(TYPES)))
    _, drop, loudness, cycles = STATES[state]
    inlet = (172.0 if raised else 158.0) + chance.normal(0, 2.5)
    loudness += TYPES[kind] + (14.0 if raised else 0.0)
    return [
        at.isoformat(),
        int(chance.integers(1, 400)),
        kind,
        round(inlet, 1),
        round(inlet - abs(chance.normal(drop, drop * 0.25)), 1),
        round(chance.normal(loudness, 7.0), 1),
        round(abs(chance.normal(cycles * (1.6 if raised else 1.0), 3.0)), 1),
        state,
    ]


if __name__ == "__main__":
    main()
