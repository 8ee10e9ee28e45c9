"""How long ``--help``, ``jobs`` and ``show`` take, against an empty click program.

    python benchmarks/startup.py

Runs alternate, so that whatever else the machine does falls on all of them; medians are compared.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.sealing import Draft, Head, seal
from autoretrain.ports.ledger import Append

RUNS = 15
MODELS = 10
LIMITS = {"--help": 2.0, "jobs": 3.0, "show": 3.0}

EMPTY = """
import click

@click.group()
def cli():
    pass

@cli.command()
def nothing():
    pass

cli()
"""


def fill(directory: Path) -> None:
    """Write a project whose ledger holds a few models with a job that was asked for."""
    names = [f"model-{number}" for number in range(MODELS)]
    (directory / "autoretrain.toml").write_text("".join(f"[models.{name}]\n" for name in names))
    ledger = SqliteLedger(directory / ".autoretrain" / "ledger.db")
    for name in names:
        request = {"job_id": f"{name}-job", "reason": "", "parameters": {}}
        drafts = (Draft("model.enrolled"), Draft("request.start", request, actor="ann"))
        ledger.append(Append(name, seal(name, Head(), drafts, datetime.now(UTC)), None))
    ledger.close()


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def seconds(command: Sequence[str], directory: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=directory, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> int:
    ours = [sys.executable, "-m", "autoretrain.entrypoints.cli.main"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        fill(directory)
        (directory / "empty.py").write_text(EMPTY)
        commands = {
            "empty": [sys.executable, "empty.py", "nothing"],
            "--help": [*ours, "--help"],
            "jobs": [*ours, "jobs"],
            "show": [*ours, "show", "model-0"],
        }
        taken: dict[str, list[float]] = {label: [] for label in commands}
        for _ in range(RUNS):
            for label, command in commands.items():
                taken[label].append(seconds(command, directory))
    medians = {label: statistics.median(runs) for label, runs in taken.items()}
    print(f"empty click program: {medians['empty'] * 1000:.0f} ms (median of {RUNS})")
    for label, limit in LIMITS.items():
        ratio = medians[label] / medians["empty"]
        print(f"{label:<7} {medians[label] * 1000:4.0f} ms, {ratio:.2f} times (limit {limit:g})")
    return int(any(medians[label] > limit * medians["empty"] for label, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
