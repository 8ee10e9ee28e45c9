"""What must hold of what people were asked for, and what they alone may bring back; see ``invariants``."""

from __future__ import annotations

from collections.abc import Mapping

from .history import History, Step


def enough_people_approved(history: History) -> None:
    """What waited for people serves only if as many different ones approved as it needed."""
    for step in history.of_kind("promotion.intended"):
        job = step.job
        if job.awaiting_since is None:
            continue
        people = {approval.actor for approval in job.approvals}
        assert len(people) >= job.approvals_needed, f"job {job.job_id} was approved by {people} alone"


def withdrawn_stays_away(history: History) -> None:
    """What was rolled back does not come back without a person's override."""
    withdrawn: dict[str, str] = {}
    for step in history.of_kind(
        "rollback.intended",
        "rollback.done",
        "canary.ended",
        "request.override",
        "promotion.intended",
        "champion.adopted",
    ):
        serving = step.before.champion
        match step.entry.kind:
            case "rollback.intended":
                assert step.data["target"]["digest"] not in withdrawn, "rule 6: back to a withdrawn version"
            case "canary.ended" if step.data["withdraws"] and (tried := step.job.candidate):
                withdrawn[tried.digest] = tried.version
            case "rollback.done" if serving:
                withdrawn[serving.version.digest] = serving.version.version
            case "request.override" if step.data["what"] == "release":
                withdrawn = {d: label for d, label in withdrawn.items() if label != step.data["version"]}
            case "promotion.intended":
                _check_not_withdrawn(step, withdrawn)
            case "champion.adopted" if step.data["version"]["digest"] in withdrawn:
                assert step.before.adopt, (
                    "rule 6: a withdrawn version was adopted, and nobody had asked for it"
                )


def _check_not_withdrawn(step: Step, withdrawn: Mapping[str, str]) -> None:
    job = step.job
    if job.approval is not None and job.approval.override:
        return
    digest = job.candidate.digest if job.candidate else None
    assert digest not in withdrawn, f"rule 6: job {job.job_id} brings back what was withdrawn"
    since = step.before.withdrawn_at
    assert since is None or job.holdout_window.end > since, f"rule 6: the data of job {job.job_id} is older"


def foreign_champions_are_respected(history: History) -> None:
    """A foreign champion is taken over only by policy, or as the very version that a person accepted."""
    accepted: str | None = None
    for step in history.of_kind(
        "champion.adopted", "champion.conflict", "champion.restored", "request.override"
    ):
        kind = step.entry.kind
        if kind == "request.override":
            accepted = step.data["version"] if step.data["what"] == "adopt" else accepted
            continue
        if kind == "champion.adopted":
            by_policy = step.before.champion is None or history.spec.promotion.on_conflict == "adopt"
            label = step.data["version"]["version"]
            assert by_policy or label == accepted, f"version {label} was adopted, {accepted} was accepted"
        accepted = None
