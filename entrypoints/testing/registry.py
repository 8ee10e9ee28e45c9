"""What every ``ModelRegistry`` must do, as a suite to be run over an implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ...ports.data import Snapshot
from ...ports.errors import ChampionMoved, Permanent
from ...ports.registry import ModelRegistry, ModelVersion
from ...ports.tracking import TrainingContext
from ...ports.values import TimeWindow

_START = datetime(2026, 3, 1, tzinfo=UTC)
_WINDOW = TimeWindow(_START, _START + timedelta(days=90))


def training_context(
    job_id: str, *, model: str = "boiler", attempt: int = 1, champion: str | None = None
) -> TrainingContext:
    """Return what is known about a training of these tests before it starts.

    Args:
        job_id: The job.
        model: Name of the model.
        attempt: Number of the attempt.
        champion: Version label of the champion it may replace.
    """
    data = Snapshot(model, _WINDOW, "rows.parquet", 90, "d1" * 32, ("load",), "hot", "time", *_ends(_WINDOW))
    return TrainingContext(model, job_id, attempt, {"depth": 3}, data, champion)


class ModelRegistryContract:
    """Subclass it as ``Test…`` and override the methods that raise ``NotImplementedError``."""

    def make_registry(self, directory: Path) -> ModelRegistry:
        """Return the adapter under test, without any model.

        Args:
            directory: This test's own.
        """
        raise NotImplementedError

    def log_models(
        self, registry: ModelRegistry, context: TrainingContext, payloads: Sequence[bytes]
    ) -> None:
        """Do what a job's training does: open the job's run, and log a model with each payload to it.

        Args:
            registry: What ``make_registry`` returned.
            context: The training.
            payloads: Contents of the models; the same payload twice is the same model.
        """
        raise NotImplementedError

    def alter(self, registry: ModelRegistry, version: ModelVersion) -> None:
        """Change the artefact of a version behind the registry's back."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self, tmp_path: Path) -> ModelRegistry:
        return self.make_registry(tmp_path)

    def candidate(self, registry: ModelRegistry, context: TrainingContext, payload: bytes) -> ModelVersion:
        """Train, and return the candidate."""
        self.log_models(registry, context, [payload])
        version = registry.candidate(context.model, context.job_id)
        assert version is not None
        return version

    def champion(self, registry: ModelRegistry) -> ModelVersion:
        """Return a champion, the first that the registry has."""
        version = self.candidate(registry, training_context("job-0"), b"first")
        registry.set_champion(version, None)
        return version

    def test_a_model_without_champion_is_absent(self, registry: ModelRegistry) -> None:
        self.candidate(registry, training_context("job-1"), b"one")
        assert registry.champions(["boiler", "unknown"]) == {}

    def test_a_job_without_run_has_no_candidate(self, registry: ModelRegistry) -> None:
        assert registry.candidate("boiler", "never-started") is None

    def test_a_run_that_logged_nothing_has_no_candidate(self, registry: ModelRegistry) -> None:
        self.log_models(registry, training_context("job-1"), [])
        assert registry.candidate("boiler", "job-1") is None

    def test_a_candidate_knows_where_it_comes_from(self, registry: ModelRegistry) -> None:
        context = training_context("job-1")
        version = self.candidate(registry, context, b"one")
        assert (version.model, version.job_id) == ("boiler", "job-1")
        assert version.trained_on == context.data.window
        assert version.data_sha256 == context.data.sha256

    def test_asking_twice_registers_once(self, registry: ModelRegistry) -> None:
        version = self.candidate(registry, training_context("job-1"), b"one")
        assert registry.candidate("boiler", "job-1") == version

    def test_two_models_in_one_run_are_refused(self, registry: ModelRegistry) -> None:
        self.log_models(registry, training_context("job-1"), [b"one", b"two"])
        with pytest.raises(Permanent, match="2 models"):
            registry.candidate("boiler", "job-1")

    def test_the_digest_tells_models_apart(self, registry: ModelRegistry) -> None:
        payloads = (b"same", b"same", b"other")
        one, again, other = (
            self.candidate(registry, training_context(f"job-{number}"), payload)
            for number, payload in enumerate(payloads)
        )
        assert one.digest == again.digest != other.digest
        assert len({one.version, again.version, other.version}) == 3

    def test_a_first_champion(self, registry: ModelRegistry) -> None:
        version = self.champion(registry)
        assert registry.champions(["boiler"]) == {"boiler": version}

    def test_the_next_champion(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        second = self.candidate(registry, training_context("job-1", champion=first.version), b"second")
        assert registry.champions(["boiler"]) == {"boiler": first}
        registry.set_champion(second, first.version)
        assert registry.champions(["boiler"]) == {"boiler": second}

    def test_champions_of_several_models(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        pump = self.candidate(registry, training_context("job-1", model="pump"), b"pump")
        registry.set_champion(pump, None)
        assert registry.champions(["pump", "boiler", "unknown"]) == {"boiler": first, "pump": pump}

    def test_the_champion_it_already_is(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        registry.set_champion(first, None)
        registry.set_champion(first, first.version)
        assert registry.champions(["boiler"]) == {"boiler": first}

    def test_another_champion_than_expected(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        second = self.candidate(registry, training_context("job-1"), b"second")
        with pytest.raises(ChampionMoved) as caught:
            registry.set_champion(second, None)
        assert (caught.value.expected, caught.value.found) == (None, first.version)
        assert registry.champions(["boiler"]) == {"boiler": first}

    def test_no_champion_where_one_is_expected(self, registry: ModelRegistry) -> None:
        version = self.candidate(registry, training_context("job-1"), b"one")
        with pytest.raises(ChampionMoved) as caught:
            registry.set_champion(version, "17")
        assert (caught.value.expected, caught.value.found) == ("17", None)
        assert registry.champions(["boiler"]) == {}

    def test_an_altered_artefact_is_not_promoted(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        second = self.candidate(registry, training_context("job-1"), b"second")
        self.alter(registry, second)
        with pytest.raises(Permanent, match="altered"):
            registry.set_champion(second, first.version)
        assert registry.champions(["boiler"]) == {"boiler": first}

    def test_a_version_that_is_gone_is_not_promoted(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        with pytest.raises(Permanent):
            registry.set_champion(replace(first, version="99"), first.version)
        assert registry.champions(["boiler"]) == {"boiler": first}


def _ends(window: TimeWindow) -> tuple[datetime, datetime]:
    return window.start, window.end - timedelta(days=1)
