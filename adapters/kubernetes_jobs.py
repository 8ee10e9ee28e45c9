"""Jobs and pods of an installation as the API server lists them: the list is the truth, a watch only a hint.

A watch can lie in many ways: it falls silent with its connection up, repeats old events, skips some,
expires. So its events say nothing but "look again": what is known comes from lists, made when there was such
a hint, and when there was none for ``relist_seconds``. That is the bound on how late an end is noticed,
whatever happens to the watch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from ..ports.errors import AutoRetrainError
from .kubernetes_client import KubernetesClient, Object
from .kubernetes_manifest import JOB_NAME

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 60
_AGAIN_SECONDS = 2.0


class JobList:
    """Jobs by name, in one namespace; for any number of threads.

    Args:
        client: Who is asked.
        namespace: Where they are.
        selector: Their labels.
        relist_seconds: Longest time for which a list counts.
        least_seconds: Shortest time between two lists.
    """

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        selector: str,
        *,
        relist_seconds: float = 10.0,
        least_seconds: float = 0.2,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._relist_seconds = relist_seconds
        self._least_seconds = least_seconds
        self._lock = threading.Lock()
        self._jobs: Mapping[str, Object] = {}
        self._listed_at: float | None = None
        self._hinted = threading.Event()
        self._version = ""
        self._watcher: threading.Thread | None = None
        self._stopped = threading.Event()

    def get(self, name: str) -> Object | None:
        """The Job of a name; ``None`` when the latest list has none.

        Raises:
            Temporary: The server cannot be reached.
        """
        with self._lock:
            if self._is_old():
                self._list()
            return self._jobs.get(name)

    def hint(self) -> None:
        """Say that something may have changed; the next ``get`` makes a list."""
        self._hinted.set()

    def close(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _is_old(self) -> bool:
        if self._listed_at is None:
            return True
        age = time.monotonic() - self._listed_at
        return age >= (self._least_seconds if self._hinted.is_set() else self._relist_seconds)

    def _list(self) -> None:
        self._hinted.clear()  # before asking: what changes from now on is a new hint
        try:
            jobs, self._version = self._client.jobs(self._namespace, self._selector)
        except AutoRetrainError:
            self._hinted.set()
            raise
        self._jobs = {job["metadata"]["name"]: job for job in jobs}
        self._listed_at = time.monotonic()
        self._watch()

    def _watch(self) -> None:
        """Keep a watch going, from the first list on."""
        if self._watcher is None:
            name = f"kubernetes jobs of {self._namespace}"
            self._watcher = threading.Thread(target=self._follow, name=name, daemon=True)
            self._watcher.start()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                watched = self._client.watch_jobs(
                    self._namespace, self._selector, self._version, _WATCH_SECONDS
                )
                for event in watched:
                    if self._stopped.is_set():
                        return
                    self._take(event)
            except AutoRetrainError as error:
                _log.debug("the watch of Jobs broke: %s", error)
                self.hint()  # the list that follows gives a version to go on from
                self._stopped.wait(_AGAIN_SECONDS)

    def _take(self, event: Object) -> None:
        version = ((event.get("object") or {}).get("metadata") or {}).get("resourceVersion")
        if event.get("type") == "BOOKMARK" and version:
            self._version = version
            return
        if version and event.get("type") != "ERROR":
            self._version = version
        self.hint()


class PodList:
    """Pods of all runs that wait to be started, read together and at most so often.

    Args:
        client: Who is asked.
        namespace: Where they are.
        selector: Their labels.
        least_seconds: For how long a list counts.
    """

    def __init__(
        self, client: KubernetesClient, namespace: str, selector: str, least_seconds: float = 1.0
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._least_seconds = least_seconds
        self._lock = threading.Lock()
        self._pods: Mapping[str, list[Object]] = {}
        self._listed_at: float | None = None

    def of(self, job: str) -> list[Object]:
        """Pods of a Job, as they were a moment ago.

        Raises:
            Temporary: The server cannot be reached.
        """
        with self._lock:
            if self._listed_at is None or time.monotonic() - self._listed_at >= self._least_seconds:
                self._list()
            return self._pods.get(job, [])

    def _list(self) -> None:
        found: dict[str, list[Object]] = {}
        for pod in self._client.pods(self._namespace, self._selector):
            found.setdefault(pod["metadata"]["labels"].get(JOB_NAME, ""), []).append(pod)
        self._pods, self._listed_at = found, time.monotonic()
