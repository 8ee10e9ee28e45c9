"""What every ``ExperimentTracker`` must do, as a suite to be run over an implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ...ports.errors import Permanent
from ...ports.registry import ModelVersion
from ...ports.tracking import ExperimentTracker, TrainingContext
from .registry import training_context


class ExperimentTrackerContract:
    """Subclass it as ``Test…`` and override the methods that raise ``NotImplementedError``."""

    def make_tracker(self, directory: Path) -> ExperimentTracker:
        """Return the adapter under test.

        Args:
            directory: This test's own.
        """
        raise NotImplementedError

    def register(self, tracker: ExperimentTracker, context: TrainingContext) -> ModelVersion:
        """Train a model in the job's run, and return it as a registered version."""
        raise NotImplementedError

    def annotations(
        self, tracker: ExperimentTracker, version: ModelVersion
    ) -> tuple[Mapping[str, float], Mapping[str, str]]:
        """Read back what is kept with a version: its scores by name, and its tags, others among them."""
        raise NotImplementedError

    @pytest.fixture
    def tracker(self, tmp_path: Path) -> ExperimentTracker:
        return self.make_tracker(tmp_path)

    def test_a_job_has_one_run(self, tracker: ExperimentTracker) -> None:
        first = tracker.open_run(training_context("job-1"))
        assert tracker.open_run(training_context("job-1")) == first

    def test_all_attempts_share_the_run(self, tracker: ExperimentTracker) -> None:
        first = tracker.open_run(training_context("job-1"))
        assert tracker.open_run(training_context("job-1", attempt=2)) == first

    def test_another_job_has_another_run(self, tracker: ExperimentTracker) -> None:
        first = tracker.open_run(training_context("job-1"))
        assert tracker.open_run(training_context("job-2")) != first

    def test_the_answer_is_an_environment(self, tracker: ExperimentTracker) -> None:
        variables = tracker.open_run(training_context("job-1", champion="3"))
        assert variables
        assert all(isinstance(text, str) for pair in variables.items() for text in pair)

    def test_scores_and_tags_stay_with_a_version(self, tracker: ExperimentTracker) -> None:
        version = self.register(tracker, training_context("job-1"))
        tracker.annotate(version, {"f1": 0.75}, {"decision": "reject"})
        scores, tags = self.annotations(tracker, version)
        assert scores == {"f1": 0.75}
        assert tags["decision"] == "reject"

    def test_annotating_again_overwrites(self, tracker: ExperimentTracker) -> None:
        version = self.register(tracker, training_context("job-1"))
        for score, decision in ((0.25, "reject"), (0.75, "promote"), (0.75, "promote")):
            tracker.annotate(version, {"f1": score}, {"decision": decision})
        scores, tags = self.annotations(tracker, version)
        assert scores == {"f1": 0.75}
        assert tags["decision"] == "promote"

    def test_a_version_that_is_gone_is_not_annotated(self, tracker: ExperimentTracker) -> None:
        version = self.register(tracker, training_context("job-1"))
        with pytest.raises(Permanent):
            tracker.annotate(replace(version, version="99"), {"f1": 0.5}, {})
