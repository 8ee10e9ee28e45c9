"""What must hold of how requests are shared; see ``invariants``."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from ...ports.traffic import Split
from .history import History, Record


def shares_are_intended(history: History, record: Record) -> None:
    """A controller gives a candidate only shares that the ledger intends, each from the one before."""
    intents = [
        (Split(**before) if (before := step.data.get("before")) else None, Split(**step.data["split"]))
        for step in history.of_kind("canary.began", "canary.step")
    ]
    for share in (share for share in record.shares if share.model == history.spec.name):
        if share.after is None or share.late:
            continue  # to take traffic back is always safe
        assert (share.before, share.after) in intents, f"traffic: {share} was never intended"


def canaries_come_first(history: History) -> None:
    """Nothing is promoted without the whole of its canary, where the model has one and a champion serves."""
    for step in history.of_kind("promotion.intended"):
        job, serving = step.job, step.before.champion
        if not history.spec.canary.steps or serving is None:
            continue
        name = f"traffic: job {job.job_id}"
        assert job.canary is not None, f"{name} was promoted without a canary"
        assert job.canary.passed, f"{name} was promoted before the end of its canary"
        for number, planned in enumerate(job.canary.plan.steps):
            _check_gone_through(
                history, job.job_id, number, timedelta(minutes=planned.minutes), planned.samples
            )


def _check_gone_through(history: History, job_id: str, number: int, least: timedelta, samples: int) -> None:
    """A step was in force for its time, since it was last put in force, with its rows in either arm."""
    name = f"traffic: step {number} of job {job_id}"
    about = [s for s in history.steps if s.data.get("job_id") == job_id and s.data.get("number") == number]
    since = [s for s in about if s.entry.kind == "canary.applied"]
    assert since, f"{name} was never in force"
    later = [s for s in history.of_kind("canary.step", "canary.passed") if s.entry.seq > since[-1].entry.seq]
    ended = next(s for s in later if s.data["job_id"] == job_id)
    lasted = datetime.fromisoformat(ended.entry.at) - datetime.fromisoformat(since[-1].entry.at)
    assert lasted >= least, f"{name} lasted for {lasted}, not {least}"
    batches = [s.data for s in about if s.entry.kind == "canary.batch" and s.entry.seq > since[-1].entry.seq]
    for arm in ("candidate", "baseline"):
        rows = sum(data[arm]["rows"] for data in batches if data["worse"] is not None)
        assert rows >= samples, f"{name} had {rows} rows of its {arm}, not {samples}"
    harm = [data["worse"] for data in batches if data["worse"] is not None]
    assert all(map(math.isfinite, harm)), f"{name} was judged by {harm}"


def canaries_are_cleared(history: History) -> None:
    """A job ends only after its split was seen to be taken back."""
    began = {step.data["job_id"] for step in history.of_kind("canary.began")}
    for step in history.of_kind("canary.cleared", "job.closed"):
        if step.entry.kind == "canary.cleared":
            began.discard(step.data["job_id"])
        else:
            assert step.data["job_id"] not in began, f"traffic: {step.data} with its split in force"
