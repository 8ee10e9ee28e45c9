"""What a user says of one model: how it is watched, trained, judged and promoted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from math import ceil
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..ports.errors import Flaws
from ..ports.inspector import InspectionTask
from ..ports.scorer import DIRECTIONS, Scale, ScoringTask, Units
from .canary_spec import CanarySpec
from .config import TriggerConfig
from .guardrail_spec import GuardrailSpec
from .metric_spec import OwnMetricSpec, name_flaw
from .promotion import APPROVAL, BY_TRIGGER, CLAIM_OF_TRIGGER, MOST_HOLDOUT_DAYS, POLICIES, SEED_POINT
from .sealing import digest_of
from .slots import ScheduleRule
from .trigger_types import TriggerType
from .triggers import CustomRule, DriftRule, ManualRule, PerformanceRule, Rule, parse_rule
from .watch_spec import WatchSpec

ACCURACY_FLOOR = 0.85
"""No classifier below this accuracy is ever promoted. Configuration may raise it, never lower it."""


def _younger(default: Any, **limits: Any) -> Any:
    """A setting that came later: left at its default it is no other policy, so no digest changes."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


class TrainingSpec(BaseModel):
    """How a candidate is made.

    Attributes:
        command: Program and arguments; the training contract reaches it as environment variables.
        directory: Working directory, relative to the settings file.
        deadline_seconds: A run that takes longer is ended and has failed.
        max_attempts: Attempts in all; a run that was lost is started anew, one that failed is not.
        parameters: Training configuration passed to every run; a request's own values win.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(min_length=1)
    directory: str = "."
    deadline_seconds: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    max_attempts: int = Field(default=3, ge=1, le=20)
    parameters: dict[str, Any] = Field(default_factory=dict)


class PromotionSpec(BaseModel):
    """How a candidate is judged against the champion.

    Attributes:
        policy: Named, versioned rule; or one by type of trigger, where ``by-trigger@1`` fills in the others.
            By ``approval@1`` a person decides, with the numbers of the trigger's claim in view.
        metric: Measure of the comparison; ``None`` for F1 (classifiers) or the model's metric.
        min_improvement: How much better a candidate must be to be superior, on the scale; 0.05 is 5 %.
        margin: By how much, on the scale, it may be worse and still count as not inferior.
        scale: How a difference is expressed: ``relative`` as a fraction of the champion's value, ``absolute``
            in the measure's own units, ``error-reduction`` as a fraction of what the champion lacks. The
            point rule is relative.
        alpha: Error rate of a model and quarter: the chance that any of its promotions is false.
        block_days: Rows closer than this are taken to depend on one another; longer where they are seen to.
        group: Column that says which rows belong together, as a machine or a customer; ``None`` for none.
        independent_rows: Whether each row is independent of every other, which you declare.
        segments: Columns of few values, as a site or a kind of machine: in no segment may the candidate be
            worse by ``margin`` or more. One too small to tell is reported and keeps nothing back.
        floor: Lowest acceptable accuracy of a classifier (0.85 or more), or R² of a regressor (above 0).
        first_champion: Whether a first model needs a person, or the floor alone lets it serve.
        approval_days: A job that waits for a person completes undeployed after so many days.
        approvals: How many different people must approve; one who rejects ends it.
        pending: What a newer retraining does to a job that waits for a person: ``keep`` lets it wait, and
            nothing is started before it ends; by ``supersede`` it completes undeployed and the newer one
            begins, when a person starts one, or a trigger fires after ``cooldown_hours`` of waiting.
        underpowered: What becomes of a job whose holdout cannot show the claim, as far as the last comparison
            tells: ``train`` says so and goes on, ``stop`` ends it before anything is trained, unless a person
            asked for it.
        on_conflict: What to do when somebody else moved the champion alias. A version that was rolled back is
            never adopted without a person.
        guardrails: Limits that a candidate has to keep beside that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str | dict[TriggerType, str] = SEED_POINT
    metric: str | None = None
    min_improvement: float = Field(default=0.05, ge=0.0, le=10.0, allow_inf_nan=False)
    margin: float = Field(default=0.02, gt=0.0, le=10.0, allow_inf_nan=False)
    scale: Scale = "relative"
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    block_days: float = Field(default=1.0, gt=0.0, le=365, allow_inf_nan=False)
    group: str | None = None
    independent_rows: bool = False
    segments: tuple[str, ...] = ()
    floor: float | None = Field(default=None, le=1.0, allow_inf_nan=False)
    first_champion: Literal["approval", "floor"] = "approval"
    approval_days: float = Field(default=7.0, gt=0, allow_inf_nan=False)
    approvals: int = _younger(1, ge=1, le=2)
    pending: Literal["keep", "supersede"] = _younger("keep")
    on_conflict: Literal["halt", "adopt"] = "halt"
    # Left out where none is set, so that settings without guardrails are the same policy as before.
    guardrails: GuardrailSpec = Field(
        default_factory=GuardrailSpec, exclude_if=lambda given: given == GuardrailSpec()
    )
    underpowered: Literal["train", "stop"] = _younger("train")

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str | dict[TriggerType, str]) -> str | dict[TriggerType, str]:
        for name in [value] if isinstance(value, str) else value.values():
            if name not in POLICIES:
                raise ValueError(f"no such policy; there are {', '.join(POLICIES)}")
        return value

    @model_validator(mode="after")
    def _rows_are_one_or_the_other(self) -> Self:
        if self.independent_rows and self.group is not None:
            raise ValueError("independent_rows: rows of a group are not independent; leave one of them out")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a holdout has to have for the comparison, whether they are features or not."""
        return tuple(dict.fromkeys(filter(None, (self.group, *self.segments))))

    def policy_of(self, trigger: TriggerType) -> str:
        """The rule for jobs of a trigger: a claim, or the point rule; what a person has in view."""
        named = self._named(trigger)
        return CLAIM_OF_TRIGGER[trigger] if named in (BY_TRIGGER, APPROVAL) else named

    def by_person(self, trigger: TriggerType) -> bool:
        """Whether a person decides about jobs of a trigger."""
        return trigger is TriggerType.MANUAL or self._named(trigger) == APPROVAL

    def _named(self, trigger: TriggerType) -> str:
        return self.policy if isinstance(self.policy, str) else self.policy.get(trigger, BY_TRIGGER)


class ModelSpec(BaseModel):
    """Everything the controller must know about one model.

    Attributes:
        name: Name of the model, in the registry and everywhere else.
        group: Group of models that share limits; ``None`` for none.
        owner: Who answers for the model; notices find their way by it. ``None`` for nobody in particular.
        task: What kind of model it is.
        positive: The class that counts as positive, as text; ``None`` for 1 of 0/1, else ``average``.
        average: How classes are averaged when no positive class is named.
        metric: Live measure that the performance trigger watches.
        direction: Which way it is better; known for the measures we compute.
        threshold: Worst acceptable value; ``None`` takes the trigger configuration's.
        trigger: The seed's trigger configuration.
        rule: How the triggers combine.
        min_rows: Fewest labelled rows for a performance or drift verdict.
        stale_after_hours: A metric whose newest sample is older is unknown.
        label_delay_hours: The label of a row is there so much later; younger rows are in no training, no
            holdout and no live metric, since those whose label is early are not like the others.
        min_label_coverage: Smallest share of a holdout's rows that have a label, 0 to 1; below it, or where
            the data source does not tell, the validation is unknown.
        on_missing: What an empty metric counts as; ``None`` is unknown.
        holdout_days: Length of the holdout, the latest rows before a job was opened; ``None`` takes the
            evaluation window.
        min_holdout_rows: Fewest labelled rows for a validation.
        cooldown_hours: No triggered job within so many hours of the last job's end.
        for_hours: How long the triggers must have said yes before they propose a job, over two looks at
            least; a no begins anew, unknown stops the clock. A cron slot needs no such time.
        max_jobs_a_day: No triggered job once so many were opened in the calendar day of
            ``trigger.time_zone``, a person's included; none is unlimited.
        check_every_seconds: How often an idle model is looked at.
        drift_alpha: Chance of a false yes of the drift trigger in an evaluation window, over all features and
            looks: a feature has then to be over ``trigger.drift_threshold`` and not by luck. ``None`` goes by
            the threshold alone, which few rows of many features pass by luck.
        unknown_alarm_hours: A trigger that stays unknown longer is notified, once.
        training: How a candidate is made.
        promotion: How it is judged.
        watch: How it is watched once it serves.
        canary: How it is tried on a share of the traffic before it is promoted; not at all without steps.
        own_metrics: Measures of your own, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f/:]+$")
    group: str | None = None
    owner: str | None = Field(default=None, min_length=1)
    task: Literal["classification", "regression"] = "classification"
    positive: str | None = None
    average: Literal["macro", "weighted", "micro"] = "macro"
    metric: str = "accuracy"
    direction: Literal["up", "down"] | None = None
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    trigger: TriggerConfig = Field(default_factory=TriggerConfig)
    rule: str = "performance | drift | schedule"
    min_rows: int = Field(default=100, ge=1)
    stale_after_hours: float = Field(default=48.0, gt=0, allow_inf_nan=False)
    label_delay_hours: float = _younger(0.0, ge=0, le=8760, allow_inf_nan=False)
    min_label_coverage: float = _younger(0.0, ge=0.0, le=1.0, allow_inf_nan=False)
    on_missing: float | None = Field(default=None, allow_inf_nan=False)
    holdout_days: float | None = Field(default=None, gt=0, le=MOST_HOLDOUT_DAYS, allow_inf_nan=False)
    min_holdout_rows: int = Field(default=100, ge=2)
    cooldown_hours: float = Field(default=24.0, ge=0, allow_inf_nan=False)
    for_hours: float = Field(default=0.0, ge=0, le=8760, allow_inf_nan=False)
    max_jobs_a_day: int | None = Field(default=None, ge=1)
    check_every_seconds: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    unknown_alarm_hours: float = Field(default=24.0, gt=0, allow_inf_nan=False)
    drift_alpha: float | None = _younger(None, gt=0.0, lt=0.5)
    training: TrainingSpec
    promotion: PromotionSpec = Field(default_factory=PromotionSpec)
    watch: WatchSpec = Field(default_factory=WatchSpec)
    canary: CanarySpec = Field(default_factory=CanarySpec)
    own_metrics: dict[str, OwnMetricSpec] = _younger({})

    @model_validator(mode="after")
    def _complete(self) -> Self:
        problems = self._regressor_problems() if self.task == "regression" else []
        if self.task == "classification" and self.floor < ACCURACY_FLOOR:
            problems.append(("promotion.floor", f"cannot be below {ACCURACY_FLOOR} for a classifier"))
        if self.direction is None and self.metric not in self.directions:
            problems.append(("direction", f"say whether {self.metric} is better 'up' or 'down'"))
        if self.comparison not in self.directions:
            known = ", ".join(self.directions)
            problems.append(("promotion.metric", f"{self.comparison} is not computed; there are {known}"))
        problems += self._own_problems()
        problems += self.watch.problems(self.watched_metric, self.directions)
        problems += self.promotion.guardrails.problems(self.task, self.promotion.group)
        if problems:
            raise Flaws(problems)
        return self

    def _regressor_problems(self) -> list[tuple[str, str]]:
        threshold_of_r2 = "performance_metric_threshold" in self.trigger.model_fields_set
        stated = {
            "metric": "metric" in self.model_fields_set,
            "promotion.floor": self.promotion.floor is not None,
            "threshold": self.threshold is not None or (self.metric == "r2" and threshold_of_r2),
        }
        problems = [
            (name, "a regressor must state it (the default is a classifier's)")
            for name, is_stated in stated.items()
            if not is_stated
        ]
        if self.promotion.floor is not None and self.promotion.floor <= 0:
            problems.append(("promotion.floor", "R² of a regressor must be above 0"))
        return problems

    def _own_problems(self) -> Iterator[tuple[str, str]]:
        for name in self.own_metrics:
            if flaw := name_flaw(name):
                yield f"own_metrics.{name}", flaw
        compared, watched = self.own_metrics.get(self.comparison), self.own_metrics.get(self.metric)
        if compared and compared.best is None and self.promotion.scale == "error-reduction":
            fix = "state the value of a perfect model, since promotion.scale is a share of the way to it"
            yield f"own_metrics.{self.comparison}.best", fix
        if watched and self.direction not in (None, watched.direction):
            yield "direction", f"own_metrics.{self.metric} says {watched.direction!r}, so leave this out"

    @property
    def directions(self) -> dict[str, Literal["up", "down"]]:
        """Which way each measure is better that is computed on a holdout, the user's own included."""
        return DIRECTIONS | {name: own.direction for name, own in self.own_metrics.items()}

    @property
    def worst_acceptable(self) -> float:
        """Value of the live metric beyond which the performance trigger fires."""
        return self.trigger.performance_metric_threshold if self.threshold is None else self.threshold

    @property
    def floor(self) -> float:
        """Lowest acceptable value of ``floor_measure``."""
        return ACCURACY_FLOOR if self.promotion.floor is None else self.promotion.floor

    @property
    def floor_measure(self) -> str:
        """The measure the floor is about."""
        return "accuracy" if self.task == "classification" else "r2"

    @property
    def comparison(self) -> str:
        """The measure on which candidate and champion are compared."""
        return self.promotion.metric or ("f1" if self.task == "classification" else self.metric)

    @property
    def watched_metric(self) -> str:
        """The live measure on which a promoted version is compared with its baseline."""
        return self.watch.metric or self.metric

    @property
    def live_metrics(self) -> tuple[str, ...]:
        """Live measures that are read for it: by the performance trigger, and by a watch."""
        return tuple(dict.fromkeys((self.metric, *((self.watched_metric,) if self.watch.days else ()))))

    @property
    def scoring(self) -> ScoringTask:
        """How its predictions are measured."""
        promotion = self.promotion
        block = timedelta(days=promotion.block_days)
        units = Units(block, promotion.group, promotion.independent_rows)
        return ScoringTask(
            self.task,
            self.positive,
            self.average,
            self.comparison,
            units,
            promotion.segments,
            guarded=promotion.guardrails.compared,
            own=tuple(own.named(name) for name, own in self.own_metrics.items()),
        )

    @property
    def inspection(self) -> InspectionTask:
        """What rows and predictions are looked over for."""
        repeated = self.promotion.guardrails.max_repeated_rows is not None
        return InspectionTask(self.task, self.promotion.group, repeated)

    @property
    def label_delay(self) -> timedelta:
        """How much later than its row a label comes."""
        return timedelta(hours=self.label_delay_hours)

    @property
    def holdout(self) -> timedelta:
        """Length of the holdout."""
        return timedelta(days=self.holdout_days or self.trigger.evaluation_window_days)

    @property
    def digest(self) -> str:
        """SHA-256 of all settings that decide; entries carry it as the policy they were decided under.

        Who is told decides nothing: another owner is no other policy. Nor does a watch that is off, or a
        canary without steps.
        """
        unused = {
            name for name, used in (("watch", self.watch.days), ("canary", self.canary.steps)) if not used
        }
        return digest_of(self.model_dump(mode="json", exclude={"owner", *unused}))

    def rules(self, custom: dict[str, TriggerType] | None = None) -> dict[str, Rule]:
        """The single rules of this model by name.

        Args:
            custom: Names and types of triggers that the user registered in code.
        """
        window = timedelta(days=self.trigger.evaluation_window_days)
        rules: dict[str, Rule] = {
            "performance": PerformanceRule(
                metric=self.metric,
                threshold=self.worst_acceptable,
                direction=self.direction or self.directions[self.metric],
                window=window,
                min_rows=self.min_rows,
                stale_after=timedelta(hours=self.stale_after_hours),
                on_missing=self.on_missing,
                label_delay=self.label_delay,
            ),
            "drift": DriftRule(
                threshold=self.trigger.drift_threshold,
                window=window,
                reference=timedelta(days=self.trigger.training_window_days),
                min_rows=self.min_rows,
                alpha=self.drift_alpha,
                looks=max(1, ceil(window / timedelta(seconds=self.check_every_seconds))),
            ),
            "schedule": ScheduleRule(
                expression=self.trigger.schedule_expression,
                time_zone=self.trigger.time_zone,
                missed_slots=self.trigger.missed_slots,
                grace=timedelta(minutes=self.trigger.slot_grace_minutes),
                most=self.trigger.max_missed,
            ),
            "manual": ManualRule(),
        }
        return rules | {name: CustomRule(name, kind) for name, kind in (custom or {}).items()}

    def combined_rule(self, custom: dict[str, TriggerType] | None = None) -> Rule:
        """The rule that proposes a job: ``rule`` as written, or any of the user's own triggers.

        Raises:
            ValueError: ``rule`` cannot be read.
        """
        rules = self.rules(custom)
        combined = parse_rule(self.rule, rules)
        named = {leaf.name for leaf in combined.leaves()}
        for name in custom or {}:
            if name not in named:
                combined = combined | rules[name]
        return combined
