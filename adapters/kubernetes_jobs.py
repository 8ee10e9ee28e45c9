"""Jobs and pods of an installation as the API server lists them: the list is the truth, a watch only a hint.

A watch can lie in many ways: it falls silent with its connection up, repeats old events, skips some,
expires. So its events say nothing but "look again": what is known comes from lists, made when there was such
a hint, and when there was none for ``relist_seconds``. That is the bound on how late an end is noticed,
whatever happens to the watch.

However many runs are asked about, a server that is slow, busy or away is asked by one at a time, and told
trouble counts for all of them until it may be asked again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from ..ports.errors import AutoRetrainError, Temporary
from .kubernetes_client import KubernetesClient, Object
from .kubernetes_manifest import JOB_NAME

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WATCH_SECONDS = 60
_AGAIN_SECONDS = 1.0
_BETWEEN_WATCHES_SECONDS = 2.0


class _Trouble:
    """Trouble that counts for whoever asks, until the server may be asked again. Not for several threads."""

    def __init__(self) -> None:
        self._met: Temporary | None = None
        self._until = 0.0

    def ask(self, question: Callable[[], _T]) -> _T:
        """Put a question, or raise what the last one met.

        Raises:
            Temporary: The server cannot be reached.
        """
        left = self._until - time.monotonic()
        if self._met is not None and left > 0:
            raise Temporary(str(self._met), left)
        try:
            answer = question()
        except Temporary as trouble:
            self._met, self._until = trouble, time.monotonic() + (trouble.retry_after or _AGAIN_SECONDS)
            raise
        self._met = None
        return answer


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
        self._trouble = _Trouble()
        self._jobs: Mapping[str, Object] = {}
        self._listed_at: float | None = None
        self._hinted = threading.Event()
        self._listed = threading.Event()
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
        self._listed.set()

    def _is_old(self) -> bool:
        if self._listed_at is None:
            return True
        age = time.monotonic() - self._listed_at
        return age >= (self._least_seconds if self._hinted.is_set() else self._relist_seconds)

    def _list(self) -> None:
        self._hinted.clear()  # before asking: what changes from now on is a new hint
        try:
            jobs, self._version = self._trouble.ask(
                lambda: self._client.jobs(self._namespace, self._selector)
            )
        except AutoRetrainError:
            self._hinted.set()
            raise
        self._jobs = {job["metadata"]["name"]: job for job in jobs}
        self._listed_at = time.monotonic()
        self._listed.set()
        self._watch()

    def _watch(self) -> None:
        """Keep a watch going, from the first list on."""
        if self._watcher is None:
            name = f"kubernetes jobs of {self._namespace}"
            self._watcher = threading.Thread(target=self._follow, name=name, daemon=True)
            self._watcher.start()

    def _follow(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            began = time.monotonic()
            try:
                self._follow_once()
                pause = 0.0
            except AutoRetrainError as error:
                _log.debug("the watch of Jobs broke: %s", error)
                pause = getattr(error, "retry_after", None) or 0.0
                self._listed.clear()
                self.hint()
                if not self._stopped.is_set():
                    self._listed.wait()  # a list gives a version to go on from; without one, no watch
            pause = max(pause, began + _BETWEEN_WATCHES_SECONDS - time.monotonic())

    def _follow_once(self) -> None:
        watched = self._client.watch_jobs(self._namespace, self._selector, self._version, _WATCH_SECONDS)
        for event in watched:
            if self._stopped.is_set():
                return
            self._take(event)

    def _take(self, event: Object) -> None:
        version = str((event["object"].get("metadata") or {}).get("resourceVersion", ""))
        if not _is_later(version, self._version):
            return  # the list has it in it already
        self._version = version
        if event.get("type") != "BOOKMARK":
            self.hint()


def _is_later(version: str, than: str) -> bool:
    """Whether a version may be later than another. They are numbers, as far as anybody has seen."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


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
        self._trouble = _Trouble()
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
        for pod in self._trouble.ask(lambda: self._client.pods(self._namespace, self._selector)):
            found.setdefault(pod["metadata"]["labels"].get(JOB_NAME, ""), []).append(pod)
        self._pods, self._listed_at = found, time.monotonic()
