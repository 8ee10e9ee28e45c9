"""A fired process heater, simulated by the textbook, for the demo and the starter project.

Heat balance and tube temperature of a heater that warms a liquid stream by burning gas:

    duty       Q      = fuel * LHV * efficiency(O2)                        [kW]
    outlet     T_out  = T_in + Q / (feed * cp)                             [°C]
    film       h      = h0 * (feed / feed0) ** 0.8   (Dittus-Boelter)      [kW/m²K]
    tube skin  T_skin = T_out + Q / area * (1 / h + fouling)               [°C]

The label ``overheat`` says whether the tube skin passes its limit. A model sees feed, inlet, fuel, excess
oxygen and ambient temperature, and neither outlet nor skin. Two things change its world: coke on the tubes
(``fouling``: the same inputs, other labels) and a change of feed or fuel (other inputs).
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

CP = 2.4  # kJ/kgK, a light hydrocarbon liquid
AREA = 180.0  # m² of radiant tube
FILM = 1.1  # kW/m²K at the design feed
DESIGN_FEED = 40.0  # kg/s
LOWER_HEATING_VALUE = 47_000.0  # kJ/kg, natural gas

COLUMNS = ("time", "feed_kg_s", "inlet_c", "fuel_kg_s", "stack_o2_pct", "ambient_c", "overheat")


@dataclass(frozen=True, slots=True)
class Regime:
    """How the plant runs, from a moment on.

    Attributes:
        since: When it begins.
        fouling: Thermal resistance of the coke, m²K/kW.
        feed: Mean feed, kg/s.
        heating_value: Of the fuel, relative to natural gas.
    """

    since: datetime
    fouling: float = 0.05
    feed: float = DESIGN_FEED
    heating_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Heater:
    """One heater.

    Attributes:
        seed: Its weather and operators; the same seed gives the same rows.
        limit_c: Tube skin temperature that counts as overheating.
        regimes: How it runs, in order of time.
    """

    seed: int
    regimes: tuple[Regime, ...]
    limit_c: float = 450.0

    def rows(self, start: datetime, hours: int) -> Iterator[dict[str, object]]:
        """Hourly rows. The plant's own day begins with its first row, whatever the clock says then.

        Args:
            start: Time of the first row.
            hours: Number of rows.

        Yields:
            One dictionary a row, with the keys of ``COLUMNS``.
        """
        chance = random.Random(self.seed)  # noqa: S311  (a simulation, not a secret)
        for hour in range(hours):
            at = start + timedelta(hours=hour)
            yield self._row(at, 2 * math.pi * hour / 24, self._regime(at), chance)

    def _regime(self, at: datetime) -> Regime:
        begun = [regime for regime in self.regimes if regime.since <= at]
        return begun[-1] if begun else self.regimes[0]

    def _row(self, at: datetime, day: float, regime: Regime, chance: random.Random) -> dict[str, object]:
        ambient = 15 + 6 * math.sin(day - 2) + chance.gauss(0, 2)
        feed = regime.feed + 2 * math.sin(day) + chance.gauss(0, 3)
        inlet = 210 + 0.4 * (ambient - 15) + chance.gauss(0, 6)
        oxygen = max(0.8, 3 + chance.gauss(0, 0.7))
        efficiency = 0.90 - 0.012 * (oxygen - 3)
        wanted = feed * CP * (365 - inlet) / (LOWER_HEATING_VALUE * regime.heating_value * 0.90)
        fuel = max(0.05, wanted * (1 + chance.gauss(0, 0.06)))
        duty = fuel * LOWER_HEATING_VALUE * regime.heating_value * efficiency
        outlet = inlet + duty / (feed * CP)
        film = FILM * (feed / DESIGN_FEED) ** 0.8
        skin = outlet + duty / AREA * (1 / film + regime.fouling) + chance.gauss(0, 1.5)
        return {
            "time": at.isoformat(),
            "feed_kg_s": round(feed, 3),
            "inlet_c": round(inlet, 2),
            "fuel_kg_s": round(fuel, 5),
            "stack_o2_pct": round(oxygen, 2),
            "ambient_c": round(ambient, 2),
            "overheat": int(skin > self.limit_c),
        }


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> int:
    """Write rows as CSV.

    Args:
        path: File to write; its directory is made.
        rows: Rows with the keys of ``COLUMNS``.

    Returns:
        Number of rows written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        written = 0
        for row in rows:
            writer.writerow(row)
            written += 1
    return written
