"""What the seven scripts share: a project of five simulated heaters, GL-001 to GL-005, and their champions.

A champion is made as any first one is: a job started by hand, and a person's approval. It is done at a time
40 days ago, so that it has served since; what changed in the plant came later.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoretrain import AutoRetrainPipeline
from autoretrain.entrypoints.demo.plant import Heater, Regime, write_rows

HERE = Path(__file__).resolve().parent
AGENTS = ("GL-001", "GL-002", "GL-003", "GL-004", "GL-005")
SERVING = ("GL-001", "GL-002", "GL-003", "GL-005")
"""The agents that have a champion; GL-004 is new."""

_HISTORY_DAYS, _CHAMPION_DAYS_AGO, _CHANGED_DAYS_AGO, _NEW_DAYS_AGO, _SILENT_DAYS = 75, 40, 25, 30, 5


@contextmanager
def project(about: str | None, champions: Sequence[str] = SERVING) -> Iterator[Path]:
    """Make the project of a script: in a temporary directory, or in the one of ``--project``, which stays.

    Args:
        about: The script's own documentation, for ``--help``.
        champions: Agents that need a champion; each costs a training.

    Yields:
        The directory with ``autoretrain.toml``.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, metavar="DIR", help="where the project goes, and stays")
    chosen: Path | None = parser.parse_args().project
    with tempfile.TemporaryDirectory(prefix="autoretrain-", ignore_cleanup_errors=True) as scratch:
        directory = chosen or Path(scratch)
        if not (directory / "autoretrain.toml").exists():
            write_project(directory, datetime.now(UTC))
        train_champions(directory, champions)
        yield directory


def write_project(directory: Path, now: datetime) -> None:
    """Write settings, training script and the rows of all five heaters."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("autoretrain.toml", "train.py"):
        shutil.copy(HERE / name, directory / name)
    end = now.replace(minute=0, second=0, microsecond=0)

    def ago(days: int) -> datetime:
        return end - timedelta(days=days)

    for agent, heater in _heaters(ago).items():
        first = ago(_NEW_DAYS_AGO if agent == "GL-004" else _HISTORY_DAYS)
        last = ago(_SILENT_DAYS if agent == "GL-005" else 0)
        hours = round((last - first) / timedelta(hours=1))
        write_rows(directory / "data" / f"{agent}.csv", heater.rows(first, hours))


def _heaters(ago: Callable[[int], datetime]) -> dict[str, Heater]:
    usual = Regime(ago(_HISTORY_DAYS))
    coked, busy = Regime(ago(_CHANGED_DAYS_AGO), fouling=0.12), Regime(ago(_CHANGED_DAYS_AGO), feed=44.0)
    return {
        "GL-001": Heater(2, (usual, coked)),
        "GL-002": Heater(11, (usual,)),
        "GL-003": Heater(5, (usual, busy)),
        "GL-004": Heater(7, (usual,)),
        "GL-005": Heater(3, (usual,)),
    }


def train_champions(directory: Path, agents: Sequence[str]) -> None:
    """Give agents without any job their first champion, all at the same time."""
    then = datetime.now(UTC) - timedelta(days=_CHAMPION_DAYS_AGO)
    pipeline = AutoRetrainPipeline(settings=directory, clock=lambda: then)
    missing = [agent for agent in agents if not pipeline.list_recent_jobs(agent)]
    if not missing:
        return
    print(f"training the champion of {', '.join(missing)} ...", flush=True)
    jobs = [pipeline.start_retrain_job(agent, reason="the first model") for agent in missing]
    with ThreadPoolExecutor() as threads:  # a pipeline may be used by many threads
        for job in threads.map(pipeline.wait, jobs):
            pipeline.approve(job.job_id, "figures reviewed")
        list(threads.map(pipeline.wait, jobs))
