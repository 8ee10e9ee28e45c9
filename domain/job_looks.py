"""What is looked at for an open job, or for a model that is rolled back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ..ports.compute import RunState
from ..ports.data import Snapshot, SnapshotRequest
from ..ports.errors import Permanent, SplitMoved
from ..ports.metrics import MetricQuery, MetricWindow
from ..ports.predictor import Predictions
from ..ports.registry import ModelVersion
from ..ports.values import Pending, TimeWindow
from .asking import Question
from .canary import is_stopped
from .canary_state import Canary
from .decide import TRAFFIC, is_cancelled_at_rest
from .jobs import RetrainingJob
from .log_context import about
from .plan import (
    ChampionSeen,
    DataSeen,
    NothingSeen,
    Phase,
    RunSeen,
    ScoresSeen,
    Seen,
    TrafficSeen,
    Trouble,
    phase_of,
)
from .spec import ModelSpec
from .state import ModelState
from .world import World, key_of, router_of


class JobLooks:
    """Looks at what jobs wait for, and at the split that a model's requests are under.

    Args:
        world: What is asked.
        fleet: Settings by model name.
    """

    def __init__(self, world: World, fleet: Mapping[str, ModelSpec]) -> None:
        self._world = world
        self._ports = world.ports
        self._fleet = fleet

    def question(self, state: ModelState, now: datetime) -> Question:
        """Ask for what a model's job waits for, under the key of ``job``."""
        key = key_of("job", state)

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Seen | Pending]:
            with about(state):
                return {key: self._job(state, now)}

        return Question(phase_of(state).value, (key,), ask)

    def split_question(self, state: ModelState) -> Question:
        """Ask for what a model's requests are under, under the key of ``split``."""
        key = key_of("split", state)
        return Question("traffic", (key,), lambda _: {key: self._in_force(state.model)})

    def _job(self, state: ModelState, now: datetime) -> Seen | Pending:
        phase, job = phase_of(state), state.open_job
        if phase in (Phase.ROLLBACK, Phase.DEPLOYMENT):
            return ChampionSeen(self._ports.registry.champions([state.model]).get(state.model))
        if job is None or phase is Phase.APPROVAL or is_cancelled_at_rest(state):
            return NothingSeen()
        if phase in TRAFFIC:
            return self._traffic(state, job, now)
        if phase is Phase.DATA:
            return DataSeen(self._rows(job, job.training_window), self._rows(job, job.holdout_window))
        return self._run(job) if phase is Phase.TRAINING else self._scores(job)

    def _traffic(self, state: ModelState, job: RetrainingJob, now: datetime) -> Seen | Pending:
        """What the requests are under, and what both arms got since the last look."""
        goes_on = phase_of(state) is Phase.CANARY
        if goes_on and is_stopped(state):
            return NothingSeen()
        seen, canary = self._in_force(state.model), job.canary
        if canary is None or not goes_on or seen.foreign or seen.split != canary.split:
            return seen
        answers = self._world.ask("metrics", lambda: self._arms(job, canary, now))
        if isinstance(answers, Trouble):
            return replace(seen, unread=answers.reason)
        if any(answer.pending for answer in answers):
            return Pending("the arms are being measured")
        return replace(seen, batches=tuple(zip(answers[::2], answers[1::2], strict=True)))

    def _arms(self, job: RetrainingJob, canary: Canary, now: datetime) -> Sequence[MetricWindow]:
        """Candidate's and champion's arm by turns, over each batch that is due."""
        arms = ((canary.plan.candidate, job.candidate), (canary.plan.baseline, job.champion))
        queries = [
            MetricQuery(job.model_name, metric, window, version)
            for window in canary.due_batches(now)
            for metric, version in arms
        ]
        return self._ports.metrics.read(queries) if queries else ()

    def _in_force(self, model: str) -> TrafficSeen:
        """The split in force, or in words what somebody else put there that is none."""
        try:
            return TrafficSeen(router_of(self._ports).in_force(model))
        except SplitMoved as moved:
            return TrafficSeen(None, moved.found)

    def _run(self, job: RetrainingJob) -> RunSeen:
        status = self._ports.compute.observe(job.run_key)
        if not status.state.ended:
            return RunSeen(status)
        succeeded = status.state is RunState.SUCCEEDED and not job.cancelled_by
        candidate = self._ports.registry.candidate(job.model_name, job.job_id) if succeeded else None
        return RunSeen(status, candidate, self._ports.compute.log_tail(job.run_key))

    def _scores(self, job: RetrainingJob) -> ScoresSeen:
        candidate, training, holdout = job.candidate, job.training, job.holdout
        assert candidate is not None and training is not None and holdout is not None  # noqa: S101, PT018  (validation follows them)
        # Both are asked for before either is waited for, so that they are computed side by side.
        new = self._ports.predictor.predict(candidate, holdout)
        old, unscored = self._predicted_by(job.champion, holdout)
        if isinstance(new, Pending) or isinstance(old, Pending):
            return ScoresSeen(Pending("predictions are being computed"))
        spec = self._fleet[job.model_name]
        scores = self._ports.scorer.score(spec.scoring, holdout, new, old)
        inspection = self._ports.inspector.inspect(spec.inspection, training, holdout, new, old)
        metrics = {name: value for name, value in scores.candidate.items() if value is not None}
        self._ports.tracker.annotate(candidate, metrics, {"autoretrain.holdout_sha256": holdout.sha256})
        return ScoresSeen(scores, inspection, new.effort, old.effort if old else None, unscored)

    def _predicted_by(
        self, champion: ModelVersion | None, holdout: Snapshot
    ) -> tuple[Predictions | Pending | None, str]:
        """Predictions of the champion, or why there are none: that must not keep every candidate out."""
        if champion is None:
            return None, ""
        try:
            return self._ports.predictor.predict(champion, holdout), ""
        except Permanent as error:
            return None, f"the champion cannot be scored: {error}"

    def _rows(self, job: RetrainingJob, window: TimeWindow) -> Snapshot:
        return self._ports.data.snapshot(SnapshotRequest(job.model_name, window, labelled=True))
