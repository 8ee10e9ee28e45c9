"""Runs commands as Jobs of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ..ports.compute import RunRequest, RunState, RunStatus
from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, Temporary
from .kubernetes_client import AlreadyExists, Cluster, KubernetesClient, Object
from .kubernetes_jobs import JobList, PodList
from .kubernetes_manifest import (
    DIGEST,
    ENDED_AS,
    ENDED_WHY,
    JOB_NAME,
    NODES,
    OWNER,
    PRICE,
    PodTemplate,
    digest_of,
    job_of,
    name_of,
)
from .kubernetes_status import (
    Overdue,
    has_failed,
    in_queue,
    never_began,
    overdue,
    says_enough,
    status_of,
    waits_in_vain,
)

_DELETED = "its Job is gone: somebody deleted it, or it was kept no longer"
_CANCELLED = "cancelled"
_MOST_LOG_BYTES = 1_000_000

PERMISSIONS = (
    *((verb, "batch", "jobs") for verb in ("create", "get", "list", "watch", "patch")),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "", "events"),
)
"""Verb, API group and resource of everything that is asked of a namespace: no more, and no less will do."""


class _Namespace:
    """What is known of one namespace."""

    def __init__(self, client: KubernetesClient, name: str, owner: str, relist_seconds: float) -> None:
        selector = f"{OWNER}={owner}"
        self.name = name
        self.jobs = JobList(client, name, selector, relist_seconds=relist_seconds)
        self.pods = PodList(client, name, selector)


class KubernetesCompute:
    """Compute on a cluster: one Job a run, named by its key.

    Submitting a key again finds the Job that is there; it is adopted when it is of this installation and was
    asked for the same, and refused otherwise. A run that a controller ends (cancelled, not started in time,
    its node lost) is noted on the Job before the cluster ends it, so that every controller sees the same end,
    also after a restart.

    A run whose pod was taken from its node (preemption, eviction, a spot instance taken back) is lost, and
    not failed: the ledger counts the attempts and starts the next one. So is a run whose Job somebody
    deleted, as long as this process had seen it; a controller that was down meanwhile starts it anew under
    the same key.

    Args:
        cluster: Which API server.
        trusted: Pods of commands that are trusted, such as trainings, by the name of the model.
        untrusted: Pods of runs with ``isolation``. They get no secret and no variable but those of their
            request; what they may reach is up to the NetworkPolicy of their namespace.
        owner: Name of this installation; no other one touches its Jobs.
        namespaces: Every namespace that ``trusted`` and ``untrusted`` may name.
        pending_seconds: A run that has not started for so long has failed.
        relist_seconds: How late the end of a run is noticed at most where the cluster does not tell.
        clock: Time; how long a run may be pending is counted by it and by the cluster's.
    """

    def __init__(
        self,
        cluster: Cluster,
        trusted: Callable[[str], PodTemplate],
        untrusted: PodTemplate,
        *,
        namespaces: Sequence[str],
        owner: str = "autoretrain",
        pending_seconds: float = 900.0,
        relist_seconds: float = 10.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = KubernetesClient(cluster)
        self._trusted = trusted
        self._untrusted = untrusted
        self._owner = owner
        self._pending_seconds = pending_seconds
        self._clock = clock
        self._namespaces = {
            name: _Namespace(self._client, name, owner, relist_seconds) for name in dict.fromkeys(namespaces)
        }
        self._seen: set[str] = set()

    def submit(self, run: RunRequest) -> None:
        """Create the Job of a run, once; see ``Compute.submit``."""
        if not run.command:
            raise Permanent(f"run {run.key} has no command")
        if not run.deadline_seconds > 0:
            raise Permanent(f"run {run.key} has a deadline of {run.deadline_seconds} s; it must be above 0")
        template = self._untrusted if run.isolation else self._trusted(run.labels.get("model", ""))
        job = job_of(run, template, self._owner, self._pending_seconds)
        try:
            self._client.create_job(template.namespace, job)
        except AlreadyExists:
            self._adopt(run, template.namespace, job["metadata"]["name"])
        self._namespaces[template.namespace].jobs.hint()

    def observe(self, key: str) -> RunStatus:
        """Say where a run stands; see ``Compute.observe``. Ends one that waits in vain."""
        name = name_of(key, self._owner)
        place, job = self._find(name)
        if place is None or job is None:
            return RunStatus(RunState.LOST, _DELETED) if name in self._seen else RunStatus(RunState.ABSENT)
        self._seen.add(name)
        now = self._clock()
        pods = self._pods(place, name, job, now)
        end = self._overdue(place, job, pods, now)
        if end is not None:
            job = self._end(place, job, end)
        return self._priced(job, status_of(job, pods, now))

    def cancel(self, key: str) -> None:
        """End a run; see ``Compute.cancel``."""
        name = name_of(key, self._owner)
        for place in self._namespaces.values():
            job = self._client.job(place.name, name)
            if job is not None and self._is_ours(job) and not status_of(job, (), self._clock()).state.ended:
                self._end(place, job, Overdue(RunState.FAILED, _CANCELLED))

    def log_tail(self, key: str, lines: int = 50) -> str:
        """Return the end of what a run printed; see ``Compute.log_tail``."""
        name = name_of(key, self._owner)
        place, job = self._find(name)
        pods = self._pods_now(place, name) if place is not None and job is not None else []
        if place is None or not pods:
            return ""
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        text = self._client.log(place.name, newest["metadata"]["name"], lines, _MOST_LOG_BYTES)
        return without_credentials(text.removesuffix("\n"))

    def not_permitted(self) -> list[str]:
        """What the service account may not do and has to, in words.

        Raises:
            Temporary: The server cannot be reached.
        """
        return [
            f"{verb} {resource} in the namespace {namespace}"
            for namespace in self._namespaces
            for verb, group, resource in PERMISSIONS
            if not self._client.may(namespace, verb, group, *resource.partition("/")[::2])
        ]

    def close(self) -> None:
        """End what runs in the background."""
        for place in self._namespaces.values():
            place.jobs.close()

    def _priced(self, job: Object, status: RunStatus) -> RunStatus:
        """Say on which class of nodes it runs, and what that has cost once it has ended."""
        metadata = job["metadata"]
        nodes = (metadata.get("annotations") or {}).get(NODES, "")
        price = (metadata.get("annotations") or {}).get(PRICE)
        seconds = 0.0 if status.seconds is None and never_began(job) else status.seconds
        known = price is not None and status.state.ended and seconds is not None
        cost = round(float(price) * (seconds or 0.0) / 3600.0, 6) if known and price else None
        return replace(status, nodes=nodes, cost=cost)

    def _find(self, name: str) -> tuple[_Namespace | None, Object | None]:
        for place in self._namespaces.values():
            job = place.jobs.get(name)
            if job is not None:
                return place, job
        return None, None

    def _pods(self, place: _Namespace, name: str, job: Object, now: datetime) -> list[Object]:
        """Pods, where they are needed to say where a run stands: how it failed, or why it has not started."""
        if says_enough(job):
            return []
        matters = has_failed(job) or waits_in_vain(job, self._pending_seconds, now)
        return self._pods_now(place, name) if matters else place.pods.of(name)

    def _pods_now(self, place: _Namespace, name: str) -> list[Object]:
        return self._client.pods(place.name, f"{JOB_NAME}={name}")

    def _is_ours(self, job: Object) -> bool:
        return bool((job["metadata"].get("labels") or {}).get(OWNER) == self._owner)

    def _adopt(self, run: RunRequest, namespace: str, name: str) -> None:
        """Accept the Job that is there, or refuse."""
        job = self._client.job(namespace, name)
        if job is None:
            raise Temporary(f"the Job {name} was deleted just now")
        if not self._is_ours(job):
            raise Permanent(f"there is a Job {name} in {namespace} that is not ours; delete it")
        if (job["metadata"].get("annotations") or {}).get(DIGEST) != digest_of(run):
            raise Permanent(f"run {run.key} is known with another request: the Job {name} in {namespace}")

    def _overdue(
        self, place: _Namespace, job: Object, pods: Sequence[Object], now: datetime
    ) -> Overdue | None:
        events: list[Object] = []
        if not says_enough(job) and waits_in_vain(job, self._pending_seconds, now):
            for one in (job, *pods):
                events += self._client.events(place.name, one["metadata"]["name"])
        return overdue(job, pods, events, self._pending_seconds, now)

    def _end(self, place: _Namespace, job: Object, end: Overdue) -> Object:
        """Let the cluster end a run, and return its Job as it is noted from now on."""
        metadata, notes = job["metadata"], {ENDED_AS: end.state.value, ENDED_WHY: end.reason}
        self._client.annotate_and_end(place.name, metadata["name"], notes, begun=not in_queue(job))
        place.jobs.hint()
        return {
            **job,
            "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **notes}},
        }
