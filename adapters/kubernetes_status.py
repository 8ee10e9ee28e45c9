"""Where a run stands, read from its Job and its pods. Values only; nothing here calls anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..ports.compute import RunState, RunStatus
from .kubernetes_client import Object
from .kubernetes_manifest import ENDED_AS, ENDED_WHY, QUEUE

_STUCK_WAITING = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"}
_NOT_STARTED = "not started within"
_MEMORY = "it took more memory than it may (OOMKilled)"
_DISRUPTED = "its pod was taken from its node"
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that has to be ended, and what that means for it.

    Attributes:
        state: ``FAILED`` or ``LOST``.
        reason: Why.
    """

    state: RunState
    reason: str


def says_enough(job: Object) -> bool:
    """Whether the Job alone says where its run stands, without its pods."""
    known = ENDED_AS in _notes(job) or _condition(job, "Complete") is not None
    return known or in_queue(job) or bool(job["status"].get("ready"))


def in_queue(job: Object) -> bool:
    """Whether its queue holds it back, or has just let it go and the cluster has not started it yet."""
    queued = QUEUE in (job["metadata"].get("labels") or {}) and not job["status"].get("startTime")
    return (queued or bool(job["spec"].get("suspend"))) and not _finished(job)


def has_failed(job: Object) -> bool:
    """Whether its pods are needed to say why, as they are now."""
    return _condition(job, "Failed") is not None


def never_began(job: Object) -> bool:
    """Whether a run that has ended never took a node."""
    waited = _notes(job).get(ENDED_WHY, "").startswith(_NOT_STARTED)
    return waited or not job["status"].get("startTime")


def status_of(job: Object, pods: Sequence[Object], now: datetime) -> RunStatus:
    """Where a run stands.

    Args:
        job: Its Job.
        pods: Its pods; may be empty where ``says_enough``.
        now: Time by the clock of the cluster, for how long it has run.
    """
    if _condition(job, "Complete") is not None:
        return RunStatus(RunState.SUCCEEDED, "", 0, _seconds(job, pods, now))
    failed = _condition(job, "Failed")
    if (state := _notes(job).get(ENDED_AS)) is not None:
        return _ended_by_us(job, pods, RunState(state), now)
    if failed is not None:
        return _failed(job, pods, failed, now)
    pod = _newest(pods)
    running = pod is not None and pod["status"].get("phase") in ("Running", "Succeeded", "Failed")
    if running or job["status"].get("ready"):
        return RunStatus(RunState.RUNNING, seconds=_seconds(job, pods, now))
    return RunStatus(RunState.PENDING)


def overdue(
    job: Object, pods: Sequence[Object], events: Sequence[Object], pending_seconds: float, now: datetime
) -> Overdue | None:
    """Whether a run waits in vain: for a start that does not come, or for a node that does not answer.

    Args:
        job: Its Job.
        pods: Its pods.
        events: What the cluster says about Job and pod.
        pending_seconds: How long a run may wait to be started, from when its queue let it go.
        now: Time by the clock of the cluster.

    Returns:
        What to end it as; ``None`` when it does not.
    """
    if _finished(job) or says_enough(job):
        return None
    pod = _newest(pods)
    if pod is not None and _is_left_behind(pod, now):
        return Overdue(RunState.LOST, f"its node {pod['spec'].get('nodeName', '')} does not answer any more")
    if pod is not None and pod["status"].get("phase") != "Pending":
        return None
    since = job["status"].get("startTime") or job["metadata"]["creationTimestamp"]
    if (now - _time(since)).total_seconds() < pending_seconds:
        return None
    why = _why_pending(pod) or _last_warning(events) or "the cluster does not say why"
    return Overdue(RunState.FAILED, f"{_NOT_STARTED} {pending_seconds:g} s: {why}"[:_LONGEST])


def waits_in_vain(job: Object, pending_seconds: float, now: datetime) -> bool:
    """Whether it is worth asking why a run has not started."""
    since = job["status"].get("startTime") or job["metadata"]["creationTimestamp"]
    return not _finished(job) and (now - _time(since)).total_seconds() >= pending_seconds


def _ended_by_us(job: Object, pods: Sequence[Object], state: RunState, now: datetime) -> RunStatus:
    """A run that a controller ended; it may take its grace period to do so."""
    why = _notes(job).get(ENDED_WHY, "")
    seconds = None if why.startswith(_NOT_STARTED) else _seconds(job, pods, now)
    if not _finished(job) and job["status"].get("active") and state is not RunState.LOST:
        return RunStatus(RunState.PENDING if seconds is None else RunState.RUNNING, seconds=seconds)
    return RunStatus(state, why, None, seconds)


def _failed(job: Object, pods: Sequence[Object], failed: Object, now: datetime) -> RunStatus:
    seconds, pod = _seconds(job, pods, now), _newest(pods)
    disruption = _pod_condition(pod, "DisruptionTarget") if pod is not None else None
    if failed.get("reason") == "PodFailurePolicy" or disruption is not None:
        said = disruption or failed
        return RunStatus(RunState.LOST, f"{_DISRUPTED}: {_said(said)}", None, seconds)
    if pod is None:
        if failed.get("reason") == "DeadlineExceeded":
            return RunStatus(RunState.FAILED, f"over its deadline: {_said(failed)}", None, seconds)
        return RunStatus(RunState.LOST, f"its pod is gone, and with it how it ended: {_said(failed)}")
    if pod["status"].get("reason") == "DeadlineExceeded" or failed.get("reason") == "DeadlineExceeded":
        deadline = pod["spec"].get("activeDeadlineSeconds")
        return RunStatus(RunState.FAILED, f"it took longer than its deadline of {deadline} s", None, seconds)
    if pod["status"].get("reason"):  # Evicted, NodeShutdown …: what the node did, not what the command did
        return RunStatus(RunState.LOST, f"{_DISRUPTED}: {_said(pod['status'])}", None, seconds)
    return _exited(pod, seconds)


def _exited(pod: Object, seconds: float | None) -> RunStatus:
    ended = _terminated(pod)
    if ended is None:
        return RunStatus(RunState.LOST, "how its command ended is not known", None, seconds)
    code = ended.get("exitCode")
    if ended.get("reason") == "OOMKilled":
        return RunStatus(RunState.FAILED, _MEMORY, code, seconds)
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return RunStatus(
            RunState.FAILED, f"cannot start: {ended.get('message', '')}"[:_LONGEST], code, seconds
        )
    signal = f" (signal {code - 128})" if isinstance(code, int) and 128 < code < 193 else ""
    return RunStatus(RunState.FAILED, f"exited with status {code}{signal}", code, seconds)


def _is_left_behind(pod: Object, now: datetime) -> bool:
    """Whether a pod should have ended by now, and nobody on its node says that it did."""
    deleted = pod["metadata"].get("deletionTimestamp")  # already with the grace period in it
    phase = pod["status"].get("phase")
    return bool(deleted) and phase in ("Running", "Pending") and (now - _time(deleted)).total_seconds() > 30


def _why_pending(pod: Object | None) -> str:
    """What the cluster says about a pod that has not started."""
    if pod is None:
        return ""
    for container in pod["status"].get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK_WAITING or waiting.get("message"):
            return _said(waiting)
    scheduled = _pod_condition(pod, "PodScheduled", "False")
    return _said(scheduled) if scheduled is not None else ""


def _last_warning(events: Sequence[Object]) -> str:
    warnings = [event for event in events if event.get("type") == "Warning"]
    latest = max(warnings, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
    return _said(latest) if latest is not None else ""


def _said(part: Object) -> str:
    """Reason and message of a condition, a state or an event."""
    return ": ".join(filter(None, (part.get("reason"), part.get("message"))))[:_LONGEST]


def _condition(job: Object, kind: str) -> Object | None:
    return _true(job["status"].get("conditions") or (), kind)


def _pod_condition(pod: Object, kind: str, value: str = "True") -> Object | None:
    return _true(pod["status"].get("conditions") or (), kind, value)


def _true(conditions: Sequence[Object], kind: str, value: str = "True") -> Object | None:
    return next((one for one in conditions if one["type"] == kind and one["status"] == value), None)


def _finished(job: Object) -> bool:
    return _condition(job, "Complete") is not None or _condition(job, "Failed") is not None


def _notes(job: Object) -> Mapping[str, str]:
    return job["metadata"].get("annotations") or {}


def _newest(pods: Sequence[Object]) -> Object | None:
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def _terminated(pod: Object) -> Mapping[str, Any] | None:
    for container in pod["status"].get("containerStatuses") or ():
        ended: Mapping[str, Any] | None = (container.get("state") or {}).get("terminated")
        if ended:
            return ended
    return None


def _seconds(job: Object, pods: Sequence[Object], now: datetime) -> float | None:
    """How long the command has run: by its container where it is known, else by its Job."""
    pod = _newest(pods)
    ended = _terminated(pod) if pod is not None else None
    if ended and ended.get("startedAt") and ended.get("finishedAt"):
        return max((_time(ended["finishedAt"]) - _time(ended["startedAt"])).total_seconds(), 0.0)
    started = job["status"].get("startTime")
    if not started:
        return None
    until = job["status"].get("completionTime")
    failed = _condition(job, "Failed")
    if not until and failed is not None:
        until = failed.get("lastTransitionTime")
    return max(((_time(until) if until else now) - _time(started)).total_seconds(), 0.0)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
