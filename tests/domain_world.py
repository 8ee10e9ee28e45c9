"""Builders for the tests of the domain: settings, versions, and a model's story told entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from autoretrain.domain.decide import decide
from autoretrain.domain.fold import fold
from autoretrain.domain.idle import situation_of
from autoretrain.domain.plan import (
    ChampionSeen,
    DataSeen,
    IdleSeen,
    Plan,
    RunSeen,
    ScoresSeen,
    Seen,
    TrafficSeen,
    WatchSeen,
)
from autoretrain.domain.requests import ask_start
from autoretrain.domain.sealing import Draft, seal
from autoretrain.domain.spec import ModelSpec
from autoretrain.domain.state import ModelState
from autoretrain.domain.triggers import Observation, Query
from autoretrain.domain.watching import batch_queries
from autoretrain.ports.compute import RunState, RunStatus
from autoretrain.ports.data import Snapshot
from autoretrain.ports.drift import ColumnDrift, DriftReport
from autoretrain.ports.ledger import Entry
from autoretrain.ports.metrics import MetricQuery, MetricWindow
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.scorer import Scores
from autoretrain.ports.traffic import Split
from autoretrain.ports.values import TimeWindow

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday; the default schedule is due on Sundays
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
GOOD = {"accuracy": 0.95, "precision": 0.95, "recall": 0.95, "f1": 0.95}
POOR = {"accuracy": 0.88, "precision": 0.88, "recall": 0.88, "f1": 0.88}
SUCCEEDED = RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=3.0)


def spec_of(**changes: Any) -> ModelSpec:
    """Settings of a classifier named m."""
    return ModelSpec(**{"name": "m", "training": {"command": ["train"]}, **changes})


def version(label: str, digest: str = "", **changes: Any) -> ModelVersion:
    """A version of m; its digest differs from other labels' unless it is given."""
    return replace(ModelVersion("m", label, digest or label.zfill(64), f"models:/m/{label}"), **changes)


def snapshot(window: TimeWindow, rows: int = 1000) -> Snapshot:
    """Labelled rows of m."""
    inside = (window.start, window.end - HOUR) if rows else (None, None)
    uri, digest = ("file.parquet", "d" * 64) if rows else ("", "")
    return Snapshot("m", window, uri, rows, digest, ("x",), "y", "at", *inside)


def scored(
    candidate: Mapping[str, float | None] = GOOD,
    champion: Mapping[str, float | None] | None = POOR,
    **more: Any,
) -> Scores:
    """Scores of both versions on 1000 rows."""
    return Scores(**{"rows": 1000, "candidate": candidate, "champion": champion, **more})


def arm(metric: str, window: TimeWindow, value: float | None, rows: int | None) -> MetricWindow:
    """What one arm of a canary got over a batch."""
    query = MetricQuery("m", metric, window)
    return MetricWindow(query, value, "" if value is not None else "no samples", 9, rows)


class Story:
    """What happens to one model, decided by the domain itself and folded as the ledger would have it.

    Args:
        spec: Settings; those of ``spec_of()`` unless given.
        enrolled: When the model was enrolled.
    """

    def __init__(self, spec: ModelSpec | None = None, enrolled: datetime = NOW) -> None:
        self.spec = spec or spec_of()
        self.rule = self.spec.combined_rule()
        self.state = ModelState("m")
        self.entries: tuple[Entry, ...] = ()
        self.told(Draft("model.enrolled"), at=enrolled)

    @property
    def kinds(self) -> list[str]:
        """Kinds of all entries so far."""
        return [entry.kind for entry in self.entries]

    def told(self, *drafts: Draft, at: datetime = NOW) -> Story:
        """Append drafts."""
        entries = seal("m", self.state.head, drafts, at)
        self.state = fold("m", entries, self.state)
        self.entries += entries
        return self

    def asked(self, ask: Callable[[ModelState], Draft], at: datetime = NOW) -> Story:
        """Append a person's request."""
        return self.told(ask(self.state), at=at)

    def plan(self, seen: Seen, at: datetime = NOW) -> Plan:
        """What would follow; nothing is appended."""
        return decide(self.spec, self.rule, self.state, seen, at)

    def sees(self, seen: Seen, at: datetime = NOW) -> Plan:
        """What follows, appended."""
        plan = self.plan(seen, at)
        if plan.drafts:
            self.told(*plan.drafts, at=at)
        return plan

    def idle(
        self,
        champion: ModelVersion | None,
        at: datetime = NOW,
        accuracy: float | None = 0.95,
        psi: float | None = 0.0,
        **more: Any,
    ) -> IdleSeen:
        """What an idle look sees; without accuracy the metric is empty."""
        answers: dict[Query, Observation] = {}
        for query in self.rule.needs(situation_of(self.state, champion, at)):
            if isinstance(query, MetricQuery):
                seen = MetricWindow(query, accuracy, "", 1000, 1000, query.window.end, accuracy is None)
                answers[query] = replace(seen, **more)
            else:
                answers[query] = DriftReport((ColumnDrift("x", "numeric", psi, None, 1000, 1000),))
        return IdleSeen(champion, answers)

    def batch(self, live: float | None, at: datetime, before: float = 0.95, **more: Any) -> WatchSeen:
        """What a watch sees of its next batch: the live metric, and that of the version before if asked."""
        answers: dict[Query, Observation] = {}
        serving = self.state.champion
        for query in batch_queries(self.state, at):
            ours = serving is not None and query.champion == serving.version
            value = live if ours else before
            answers[query] = replace(
                MetricWindow(query, value, "" if value else "no samples", 24, 24), **more
            )
        return WatchSeen(answers)

    # -- a job, as far as it is wanted ----------------------------------------------------------------

    def serving(self, champion: ModelVersion | None = None, at: datetime = NOW) -> Story:
        """Version 1 (or the one given) is adopted."""
        self.sees(self.idle(champion or version("1"), at), at)
        return self

    def opened(self, at: datetime = NOW) -> Story:
        """A job opened because accuracy is low."""
        known = self.state.champion
        self.sees(self.idle(known.version if known else None, at, accuracy=0.8), at)
        return self

    def running(self, at: datetime = NOW) -> Story:
        """Its first training attempt was intended."""
        job = self.state.open_job
        assert job is not None
        self.sees(DataSeen(snapshot(job.training_window), snapshot(job.holdout_window)), at)
        return self

    def trained(self, label: str = "2", at: datetime = NOW, **changes: Any) -> Story:
        """Its training produced a version."""
        self.sees(RunSeen(SUCCEEDED, version(label, **changes)), at)
        return self

    def judged(self, scores: Scores | None = None, at: datetime = NOW) -> Story:
        """Both versions were scored."""
        self.sees(ScoresSeen(scores or scored()), at)
        return self

    def deployed(self, at: datetime = NOW) -> Story:
        """The alias points at the candidate."""
        job = self.state.open_job
        assert job is not None
        self.sees(ChampionSeen(job.candidate), at)
        return self

    def promoted(self, label: str = "2", at: datetime = NOW) -> Story:
        """A whole job that ends with a new champion."""
        return self.opened(at).running(at).trained(label, at).judged(at=at).deployed(at)

    def traffic(
        self,
        split: Split | Literal["as intended"] | None = "as intended",
        at: datetime = NOW,
        arms: Sequence[tuple[float | None, float | None]] = (),
        rows: tuple[int | None, int | None] | None = None,
        sure: bool = True,
        **more: Any,
    ) -> TrafficSeen:
        """What the requests are under, and both arms over the batches that are due.

        Args:
            split: What is in force.
            at: Time of the look.
            arms: Candidate's and champion's value over each of the batches.
            rows: Rows of either; as the split says unless given.
            sure: Whether this process did what the state calls for.
            **more: More of what was seen.
        """
        job = self.state.open_job
        assert job is not None
        canary = job.canary
        assert canary is not None
        found = canary.split if split == "as intended" else split
        meant = round(1000 * canary.step.weight)
        counts = rows or (meant, 1000 if canary.step.shadow else 1000 - meant)
        metrics = (canary.plan.candidate, canary.plan.baseline)
        windows = zip(canary.due_batches(at), arms, strict=True) if arms else ()
        batches = tuple(
            (arm(metrics[0], window, values[0], counts[0]), arm(metrics[1], window, values[1], counts[1]))
            for window, values in windows
        )
        return TrafficSeen(found, batches=batches, sure=sure, **more)

    def by_hand(self, at: datetime = NOW, scores: Scores | None = None, label: str = "2") -> Story:
        """A job started by a person, up to the wait for approval."""
        self.asked(lambda state: ask_start(state, "ann", {"depth": 3}, "a new sensor"), at)
        known = self.state.champion
        self.sees(self.idle(known.version if known else None, at), at)
        return self.running(at).trained(label, at).judged(scores, at)

    @property
    def job_id(self) -> str:
        """The job opened last."""
        job = self.state.last_job
        assert job is not None
        return job.job_id
