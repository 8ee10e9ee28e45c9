"""Which model, job and run the lines of the log are about.

Bound once around a model's step, and then on every line below it: ours, an adapter's, a library's. By the
standard library alone; whoever formats the log asks ``bound`` for the ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from ..ports.ledger import Entry
from .jobs import RetrainingJob
from .sealing import load
from .state import ModelState

_log = logging.getLogger("autoretrain.ledger")

_IDS: ContextVar[Mapping[str, str]] = ContextVar("autoretrain_log_ids", default=MappingProxyType({}))


def bound() -> Mapping[str, str]:
    """The ids that hold for this thread (or task): ``model``, ``job`` and ``run``, as far as they apply."""
    return _IDS.get()


@contextmanager
def about_model(model: str) -> Iterator[None]:
    """Bind a model for as long as the block lasts, and nothing else."""
    with _binding({"model": model}):
        yield


@contextmanager
def about(state: ModelState) -> Iterator[None]:
    """Bind a model, its open job, and the job's current run, for as long as the block lasts."""
    with _binding({"model": state.model, **_ids_of(state.open_job)}):
        yield


def _ids_of(job: RetrainingJob | None) -> dict[str, str]:
    if job is None:
        return {}
    return {"job": job.job_id, "run": job.run_key} if job.attempt else {"job": job.job_id}


@contextmanager
def _binding(ids: Mapping[str, str]) -> Iterator[None]:
    token = _IDS.set(ids)
    try:
        yield
    finally:
        _IDS.reset(token)


def log_recorded(state: ModelState, entries: Iterable[Entry]) -> None:
    """Say in the log what was recorded, with its reason where it has one.

    Args:
        state: The state after the entries.
        entries: What was appended.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    for entry in entries:
        data = load(entry.data)
        ids: dict[str, str | int] = {"model": entry.model, "seq": entry.seq}
        if "job_id" in data:  # of a job that is only asked for, there is no more than that
            ids |= {"job": data["job_id"], **_ids_of(state.jobs.get(data["job_id"]))}
        reason = str(data.get("reason") or "")
        _log.info("recorded %s%s", entry.kind, f": {reason}" if reason else "", extra=ids)
