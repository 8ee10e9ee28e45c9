"""Two hundred Jobs in flight, and the API server killed twice: each has its outcome, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes_outages import KILLED, LOWEST_STATUS, after_outages

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.xdist_group("kubernetes")]

JOBS, SPREAD = 200, 60


def labels(job: Mapping[str, Any]) -> tuple[str, str]:
    """Which job and attempt of ours a Job is labelled with."""
    found = job["metadata"]["labels"]
    return found["autoretrain.dev/job"], found["autoretrain.dev/attempt"]


def condition(job: Mapping[str, Any]) -> str:
    """How a Job has ended; empty while it has not."""
    ends = [one["type"] for one in job["status"].get("conditions", ()) if one["status"] == "True"]
    return "Failed" if "Failed" in ends else "Complete" if "Complete" in ends else ""


def test_two_hundred_jobs_end_once_each_though_the_api_server_dies_twice(tmp_path: Path) -> None:
    left = after_outages(tmp_path, JOBS, SPREAD)

    assert len(set(left.asked)) == JOBS
    assert set(left.told) == set(left.ended) == set(left.asked)
    for job, (_, status) in left.ended.items():  # what became of each, as its own training had it
        told = left.told[job]
        assert status >= LOWEST_STATUS
        assert told.submitted == [1], job
        assert [(one["attempt"], one["state"], one["exit_code"]) for one in told.ended] == [
            (1, "failed", status)
        ], job
        assert [one["status"] for one in told.closed] == ["failed"], job
        assert f"status {status}" in told.closed[0]["reason"], job

    once = dict.fromkeys(left.asked, 1)
    assert Counter(left.begun) == once
    assert Counter(labels(job) for job in left.jobs) == {(job, "1"): 1 for job in left.asked}
    assert Counter(condition(job) for job in left.jobs) == {"Failed": JOBS}
    assert not [job for job in left.jobs if job["status"].get("active")]
    assert left.pods == JOBS

    assert len(left.outages) == KILLED
    for outage in left.outages:  # it mattered: some ended while nobody could be asked
        assert any(outage.since < at < outage.back for at, _ in left.ended.values())
