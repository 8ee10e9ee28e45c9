"""A program that serves two versions of a model with ``RequestRouter``, and what it measures of each."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from local_http import LocalServer, Reply, Request, local_server

from autoretrain import RequestRouter
from autoretrain.adapters.request_router import place_of
from autoretrain.ports.metrics import MetricQuery, MetricWindow

CHAMPION, CANDIDATE = "accuracy_champion", "accuracy_candidate"


@dataclass
class Measured:
    """Labelled answers of both arms, told as live metrics: a metric source as an integrator writes it.

    Args:
        now: The time at which an answer is given.
        quality: Share of right answers by arm; may be changed.
    """

    now: Callable[[], datetime]
    quality: dict[str, float] = field(default_factory=lambda: {"champion": 0.9, "candidate": 0.9})
    answers: list[tuple[datetime, str, bool]] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=count)

    def note(self, arm: str) -> None:
        """An answer of an arm, whose label is known at once."""
        right = place_of(arm, str(next(self._turn))) < 10_000 * self.quality[arm]
        self.answers.append((self.now(), arm, right))

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: MetricQuery) -> MetricWindow:
        wanted = query.metric.removeprefix("accuracy_")
        window = query.window
        rows = [right for at, arm, right in self.answers if arm == wanted and window.start <= at < window.end]
        if not rows:
            return MetricWindow(query, None, "no labelled answers", rows=0, empty=True)
        return MetricWindow(query, sum(rows) / len(rows), "", len(rows), len(rows), window.end)

    @property
    def exposition(self) -> str:
        """The same for Prometheus to scrape, since the program began."""
        lines = ["# TYPE answers_total counter", "# TYPE right_total counter"]
        for arm in self.quality:
            rows = [right for _, one, right in list(self.answers) if one == arm]
            labels = f'{{model="boiler",arm="{arm}"}}'
            lines += [f"answers_total{labels} {len(rows)}", f"right_total{labels} {sum(rows)}"]
        return "\n".join([*lines, ""])


@dataclass(frozen=True)
class ServingApp:
    """The program, and a way to ask it."""

    server: LocalServer
    measured: Measured

    @property
    def target(self) -> str:
        """Where it listens, as host and port."""
        return urlsplit(self.server.url).netloc

    def ask(self, users: Sequence[str]) -> list[Mapping[str, str]]:
        """What it answers some users, over one connection."""
        connection = http.client.HTTPConnection(self.target, timeout=10)
        try:
            return [self._one(connection, user) for user in users]
        finally:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, user: str) -> Mapping[str, str]:
        connection.request("GET", f"/predict/{user}")
        said: Mapping[str, str] = json.loads(connection.getresponse().read())
        return said


@contextmanager
def serving_app(split: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[ServingApp]:
    """Serve a model by the split in a file; ``/metrics`` is for Prometheus.

    Args:
        split: File of the model, as ``HashRouter`` writes it.
        now: The time at which answers are given.
    """
    router, measured = RequestRouter(split), Measured(now)

    def answer(request: Request) -> Reply:
        if request.path == "/metrics":
            return Reply(
                body=measured.exposition.encode(), headers={"Content-Type": "text/plain; version=0.0.4"}
            )
        route = router.version_for(request.path.rpartition("/")[2])
        measured.note(route.arm)
        if route.copy_to is not None:  # in the shadow: computed as well, and shown to nobody
            measured.note("candidate")
        return Reply(body=json.dumps({"arm": route.arm, "version": route.version or "champion"}).encode())

    with local_server() as server:
        server.answer = answer
        yield ServingApp(server, measured)
