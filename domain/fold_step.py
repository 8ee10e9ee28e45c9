"""A step of the fold: an entry with its text read, and what the entries about a job share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..ports.ledger import Entry
from .codec import time_of
from .jobs import JobStatus
from .sealing import load
from .state import ModelState


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with its text read.

    Attributes:
        at: When.
        actor: Who wrote it.
        data: What it says.
    """

    at: datetime
    actor: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Line:
        """Read an entry's text."""
        return cls(time_of(entry.at), entry.actor, load(entry.data))


Step = Callable[[ModelState, Line], ModelState]
"""What an entry does to the state of its model."""


def with_job(state: ModelState, line: Line, **changes: Any) -> ModelState:
    """The state with other fields of the job that a line is about."""
    job = replace(state.jobs[line.data["job_id"]], **changes)
    return replace(state, jobs={**state.jobs, job.job_id: job})


def moved_job(state: ModelState, line: Line, status: JobStatus, **changes: Any) -> ModelState:
    """The state with that job moved along the table.

    Raises:
        IllegalTransition: The table has no such move.
    """
    job = replace(state.jobs[line.data["job_id"]].with_status(status), **changes)
    return replace(state, jobs={**state.jobs, job.job_id: job})
