"""The seed's trigger configuration, and a model's whole settings."""

from datetime import timedelta
from typing import Any

import pytest
from domain_world import spec_of
from pydantic import ValidationError

from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.slots import ScheduleRule
from autoretrain.domain.spec import ModelSpec, PromotionSpec, TrainingSpec
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.triggers import DriftRule, ManualRule, PerformanceRule

REGRESSOR: dict[str, Any] = {
    "task": "regression", "metric": "mae", "threshold": 2.0, "promotion": {"floor": 0.5},
}  # fmt: skip


class TestTriggerConfig:
    def test_the_seeds_defaults(self) -> None:
        assert TriggerConfig().model_dump() == {
            "performance_metric_threshold": 0.92,
            "drift_threshold": 0.25,
            "schedule_expression": "0 0 * * 0",
            "evaluation_window_days": 30,
            "training_window_days": 90,
            "time_zone": "UTC",
            "missed_slots": "latest",
            "slot_grace_minutes": 60.0,
            "max_missed": 10,
        }

    @pytest.mark.parametrize(
        ("field", "lowest", "highest", "step"),
        [
            ("performance_metric_threshold", 0.0, 1.0, 0.01),
            ("drift_threshold", 0.0, 1.0, 0.01),
            ("evaluation_window_days", 1, 365, 1),
            ("training_window_days", 7, 730, 1),
        ],
    )
    def test_the_seeds_ranges(self, field: str, lowest: float, highest: float, step: float) -> None:
        for allowed in (lowest, highest):
            assert getattr(TriggerConfig(**{field: allowed}), field) == allowed
        for refused in (lowest - step, highest + step, float("nan"), float("inf")):
            with pytest.raises(ValidationError, match=field):
                TriggerConfig(**{field: refused})

    def test_a_wrong_cron_expression(self) -> None:
        with pytest.raises(ValidationError, match="five fields such as"):
            TriggerConfig(schedule_expression="every sunday")
        assert TriggerConfig(schedule_expression=" 0 6 * * 1 ").schedule_expression == "0 6 * * 1"

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe"])
    def test_a_wrong_time_zone(self, zone: str) -> None:
        with pytest.raises(ValidationError, match="such as Europe/Berlin"):
            TriggerConfig(time_zone=zone)

    def test_a_time_zone(self) -> None:
        assert TriggerConfig(time_zone="Europe/Berlin").time_zone == "Europe/Berlin"

    def test_a_misspelt_field(self) -> None:
        with pytest.raises(ValidationError, match="drift_treshold"):
            TriggerConfig(drift_treshold=0.2)  # type: ignore[call-arg]

    def test_is_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            TriggerConfig().drift_threshold = 0.5  # type: ignore[misc]


class TestClassifier:
    def test_defaults(self) -> None:
        spec = spec_of()
        assert (spec.floor_measure, spec.floor, spec.comparison) == ("accuracy", 0.85, "f1")
        assert spec.promotion.min_improvement == 0.05
        assert spec.holdout == timedelta(days=30)
        assert (spec.scoring.kind, spec.scoring.positive, spec.scoring.average) == (
            "classification",
            None,
            "macro",
        )

    @pytest.mark.parametrize("floor", [0.85, 0.9, 1.0])
    def test_the_floor_may_be_raised(self, floor: float) -> None:
        assert spec_of(promotion={"floor": floor}).floor == floor

    @pytest.mark.parametrize("floor", [0.8499, 0.0, -1.0])
    def test_the_floor_is_never_lowered(self, floor: float) -> None:
        with pytest.raises(ValidationError, match=r"cannot be below 0\.85"):
            spec_of(promotion={"floor": floor})

    @pytest.mark.parametrize("floor", [1.01, float("nan")])
    def test_a_floor_is_a_share(self, floor: float) -> None:
        with pytest.raises(ValidationError, match="floor"):
            spec_of(promotion={"floor": floor})

    def test_every_problem_is_told_at_once(self) -> None:
        with pytest.raises(ValidationError) as caught:
            spec_of(metric="latency", promotion={"floor": 0.5, "metric": "profit"})
        text = str(caught.value)
        assert "promotion.floor" in text
        assert "direction: say whether latency is better" in text
        assert "promotion.metric: profit is not computed; there are accuracy" in text

    def test_a_metric_of_ones_own_states_its_direction(self) -> None:
        performance = spec_of(metric="latency", direction="down", threshold=0.3).rules()["performance"]
        assert isinstance(performance, PerformanceRule)
        assert (performance.metric, performance.direction, performance.threshold) == ("latency", "down", 0.3)

    def test_an_unknown_policy(self) -> None:
        with pytest.raises(ValidationError, match=r"no such policy; there are by-trigger@1, .*seed-point@1"):
            spec_of(promotion={"policy": "best@7"})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""), ("name", "a/b"), ("name", "a:b"), ("name", "a\nb"), ("name", "x" * 201),
            ("min_rows", 0), ("min_holdout_rows", 1), ("cooldown_hours", -1),
            ("stale_after_hours", 0), ("check_every_seconds", 0), ("unknown_alarm_hours", 0),
            ("holdout_days", 0), ("holdout_days", 366), ("threshold", float("inf")),
            ("cooldown_hours", float("nan")), ("on_missing", float("nan")),
            ("task", "clustering"), ("average", "mean"), ("training", {"command": []}), ("colour", "red"),
            ("training", {"command": ["a"], "deadline_seconds": 0}),
            ("training", {"command": ["a"], "max_attempts": 0}),
            ("promotion", {"min_improvement": -0.01}), ("promotion", {"approval_days": 0}),
            ("promotion", {"first_champion": "always"}), ("promotion", {"on_conflict": "overwrite"}),
        ],
    )  # fmt: skip
    def test_values_out_of_range_name_their_field(self, field: str, value: object) -> None:
        with pytest.raises(ValidationError, match=field):
            spec_of(**{field: value})


class TestRegressor:
    def test_compares_its_own_metric_above_an_r2_floor(self) -> None:
        spec = spec_of(**REGRESSOR)
        assert (spec.floor_measure, spec.floor, spec.comparison) == ("r2", 0.5, "mae")
        assert spec.scoring.kind == "regression"

    @pytest.mark.parametrize("left_out", ["metric", "threshold", "promotion"])
    def test_states_what_a_classifier_need_not(self, left_out: str) -> None:
        stated = {name: value for name, value in REGRESSOR.items() if name != left_out}
        with pytest.raises(ValidationError, match="a regressor must state it"):
            spec_of(**stated)

    def test_says_all_that_is_not_stated(self) -> None:
        with pytest.raises(ValidationError) as caught:
            spec_of(task="regression")
        assert all(
            f"{name}: a regressor must state it" in str(caught.value) for name in ("metric", "threshold")
        )

    def test_the_trigger_threshold_means_r2(self) -> None:
        stated = {**REGRESSOR, "metric": "r2", "threshold": None}
        spec = spec_of(**stated, trigger={"performance_metric_threshold": 0.7})
        assert isinstance(performance := spec.rules()["performance"], PerformanceRule)
        assert performance.threshold == 0.7
        with pytest.raises(ValidationError, match="threshold"):
            spec_of(**stated)
        with pytest.raises(ValidationError, match="threshold"):
            spec_of(**{**stated, "metric": "mae"}, trigger={"performance_metric_threshold": 0.7})

    @pytest.mark.parametrize("floor", [0.0, -0.2])
    def test_the_floor_is_above_zero(self, floor: float) -> None:
        with pytest.raises(ValidationError, match="must be above 0"):
            spec_of(**{**REGRESSOR, "promotion": {"floor": floor}})


class TestRules:
    def test_take_their_numbers_from_the_settings(self) -> None:
        rules = spec_of(
            min_rows=7, stale_after_hours=3, on_missing=0.0, trigger={"time_zone": "Asia/Tokyo"}
        ).rules()
        day = timedelta(days=1)
        assert rules == {
            "performance": PerformanceRule("accuracy", 0.92, "up", 30 * day, 7, timedelta(hours=3), 0.0),
            "drift": DriftRule(0.25, 30 * day, 90 * day, 7, None, 720),
            "schedule": ScheduleRule("0 0 * * 0", "Asia/Tokyo"),
            "manual": ManualRule(),
        }

    def test_ones_own_triggers_propose_unless_the_rule_places_them(self) -> None:
        kinds = {"season": TriggerType.CUSTOM}
        anywhere = spec_of().combined_rule(kinds)
        assert [leaf.name for leaf in anywhere.leaves()] == ["performance", "drift", "schedule", "season"]
        placed = spec_of(rule="drift & season").combined_rule(kinds)
        assert [leaf.name for leaf in placed.leaves()] == ["drift", "season"]

    def test_a_rule_that_cannot_be_read(self) -> None:
        with pytest.raises(ValueError, match="no trigger named 'sesaon'"):
            spec_of(rule="sesaon").combined_rule()


def test_the_digest_is_of_every_setting() -> None:
    spec = ModelSpec(name="m", training=TrainingSpec(command=("train",)))
    assert spec.digest == spec_of().digest
    changed = (
        spec_of(cooldown_hours=1),
        spec_of(training={"command": ["train"], "parameters": {"depth": 3}}),
        spec_of(promotion=PromotionSpec(min_improvement=0.04)),
        spec_of(trigger={"drift_threshold": 0.3}),
    )
    assert len({spec.digest, *(other.digest for other in changed)}) == 5


def test_a_setting_that_came_later_changes_the_digest_once_it_is_used() -> None:
    assert spec_of(drift_alpha=None).digest == spec_of().digest
    assert spec_of(drift_alpha=0.05).digest != spec_of().digest


def test_who_is_told_is_no_other_policy() -> None:
    spec = ModelSpec(name="heat", training=TrainingSpec(command=("python", "train.py")))
    of_these_settings = "0153ea2369ea2f1ceebf716d3fde24784641cd9157ea92773b457aabb733ef61"
    assert spec.digest == of_these_settings
    assert spec.model_copy(update={"owner": "energy"}).digest == of_these_settings
