"""Writes hourly rows of a steam boiler: 200 days up to now; the same seed, the same world.

Gas is burnt to heat feedwater into steam, and lost up the stack. 45 days ago soot began to cover the tubes:
at the same load more and more gas is burnt, up to 6 % more after 20 days, and a model from before is wrong
by it.
"""

import argparse
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

DAYS = 200
SOOT_SINCE_DAYS, SOOTED_AFTER_DAYS, SOOT_LOSS = 45, 20, 0.06
COLUMNS = ("time", "steam_t_h", "pressure_bar", "feedwater_c", "stack_o2_pct", "ambient_c", "gas_m3_h")

HEATING_VALUE = 10.0  # kWh/m³
WATER = 1.163  # kWh a tonne and kelvin
EVAPORATION = 780.0  # kWh to heat a tonne of water of 0 °C into steam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data" / "boiler.csv")
    arguments = parser.parse_args()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows(np.random.default_rng(arguments.seed), now))
    print(f"{DAYS * 24} hours in {arguments.output}")


def rows(chance: np.random.Generator, now: datetime) -> list[list[object]]:
    """Rows in the order of time, as ``COLUMNS`` names them. The plant's day begins with the first one."""
    start = now - timedelta(days=DAYS)
    times = [start + timedelta(hours=hour) for hour in range(DAYS * 24)]
    return [_row(chance, at, hour % 24, _soot(at, now)) for hour, at in enumerate(times)]


def _soot(at: datetime, now: datetime) -> float:
    """Share of the gas that soot costs: none, then more each day, then all of ``SOOT_LOSS``."""
    days = SOOT_SINCE_DAYS - (now - at) / timedelta(days=1)
    return SOOT_LOSS * min(max(days / SOOTED_AFTER_DAYS, 0.0), 1.0)


def _row(chance: np.random.Generator, at: datetime, hour: int, soot: float) -> list[object]:
    shift = 1.0 if 6 <= hour < 22 else 0.6
    steam = max(1.0, 9.0 * shift + chance.normal(0, 1.2))
    pressure = 12 + chance.normal(0, 0.4)
    feedwater = 95 + chance.normal(0, 5)
    oxygen = max(1.0, 3.5 + chance.normal(0, 0.6))
    ambient = 12 + 5 * np.sin(2 * np.pi * hour / 24 - 2) + chance.normal(0, 2)
    efficiency = 0.93 - 0.01 * (oxygen - 3) + 0.0003 * (ambient - 15)
    heat = steam * (EVAPORATION + 2 * pressure - WATER * feedwater)
    gas = heat / (HEATING_VALUE * efficiency) * (1 + soot) + chance.normal(0, 8)
    measured = (steam, pressure, feedwater, oxygen, ambient, gas)
    return [at.isoformat(), *(round(float(value), 2) for value in measured)]


if __name__ == "__main__":
    main()
