"""Triggers: pure rules that say, from observations, whether a model should be retrained.

A rule says which observations it ``needs`` and ``judge``s them; it never asks for them itself. Rules combine
with ``&``, ``|`` and ``~`` ("drift proposes, performance confirms").
"""

from __future__ import annotations

import ast
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ..ports.drift import ColumnDrift, DriftReport
from ..ports.metrics import MetricQuery, MetricWindow
from ..ports.registry import ModelVersion
from ..ports.values import Pending, TimeWindow
from .holm import holm
from .trigger_types import TriggerType
from .verdict import Verdict, no, unknown, yes


@dataclass(frozen=True, slots=True)
class DriftQuery:
    """A comparison of two windows of a model's inputs."""

    model: str
    reference: TimeWindow
    current: TimeWindow


@dataclass(frozen=True, slots=True)
class CustomQuery:
    """A question to a trigger of the user's own."""

    model: str
    name: str


@dataclass(frozen=True, slots=True)
class CustomAnswer:
    """What the user's trigger said."""

    fired: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """An observation that could not be had, and why."""

    reason: str


Query = MetricQuery | DriftQuery | CustomQuery
Observation = MetricWindow | DriftReport | CustomAnswer | Pending | Missing
Observations = Mapping[Query, Observation]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rule may know beside its observations.

    Attributes:
        model: Name of the model.
        now: Time of the look.
        watched_since: When the model was enrolled; schedules count from here.
        champion: The version that serves; ``None`` when there is none.
        serving_since: When it began to serve; ``None`` when that is unknown (adopted) or there is none.
        last_slot: Last cron slot that was answered by a job, or given up; ``None`` when none was.
        start_requested: Reason of a person's waiting request to start; ``None`` when there is none.
    """

    model: str
    now: datetime
    watched_since: datetime
    champion: ModelVersion | None = None
    serving_since: datetime | None = None
    last_slot: datetime | None = None
    start_requested: str | None = None


class Rule(ABC):
    """Base of all triggers in the domain."""

    name: str
    type: TriggerType

    def needs(self, situation: Situation) -> tuple[Query, ...]:
        """Observations this rule wants; empty when it needs none."""
        return ()

    @abstractmethod
    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Say whether the model should be retrained. Never raises for a missing observation."""

    def leaves(self) -> Iterator[Rule]:
        """The single rules it is made of."""
        yield self

    def cause(self, observations: Observations, situation: Situation) -> Rule:
        """The single rule to name when this one says yes."""
        return self

    def __or__(self, other: Rule) -> Rule:
        return Combination("|", (self, other))

    def __and__(self, other: Rule) -> Rule:
        return Combination("&", (self, other))

    def __invert__(self) -> Rule:
        return Combination("~", (self,))


@dataclass(frozen=True)
class Combination(Rule):
    """Rules joined by ``&``, ``|`` or ``~``."""

    operator: Literal["&", "|", "~"]
    members: tuple[Rule, ...]

    def needs(self, situation: Situation) -> tuple[Query, ...]:
        """All that its members want, once each."""
        return tuple(dict.fromkeys(query for rule in self.members for query in rule.needs(situation)))

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Combine the members' verdicts by Kleene's logic."""
        first, *rest = (rule.judge(observations, situation) for rule in self.members)
        if self.operator == "~":
            return ~first
        for verdict in rest:
            first = first | verdict if self.operator == "|" else first & verdict
        return first

    def leaves(self) -> Iterator[Rule]:
        """The single rules it is made of."""
        for rule in self.members:
            yield from rule.leaves()

    def cause(self, observations: Observations, situation: Situation) -> Rule:
        """The first member that says yes (the first of all for ``&`` and ``~``)."""
        fired = [rule for rule in self.members if rule.judge(observations, situation).is_yes]
        return (fired or list(self.members))[0].cause(observations, situation)


@dataclass(frozen=True)
class PerformanceRule(Rule):
    """Fires when a live metric of the champion is worse than a threshold.

    Attributes:
        metric: Name of the measure.
        threshold: The worst acceptable value.
        direction: ``up`` when more is better.
        window: How far back to look; never before the champion began to serve, nor into its training rows.
        min_rows: Fewest labelled predictions, for sources that count them.
        stale_after: The newest sample must not be older.
        on_missing: What an empty answer counts as; ``None`` leaves it unknown.
        label_delay: How much later than its row a label comes; younger rows are not looked at.
    """

    metric: str
    threshold: float
    direction: Literal["up", "down"]
    window: timedelta
    min_rows: int
    stale_after: timedelta
    on_missing: float | None = None
    label_delay: timedelta = timedelta()
    name = "performance"
    type = TriggerType.PERFORMANCE

    def needs(self, situation: Situation) -> tuple[Query, ...]:
        """The metric since the champion serves, within the window; nothing without a champion."""
        query = self._query(situation)
        return () if query is None else (query,)

    def _query(self, situation: Situation) -> MetricQuery | None:
        champion = situation.champion
        if champion is None:
            return None
        end = situation.now - self.label_delay
        start = end - self.window
        if situation.serving_since is not None:
            start = max(start, situation.serving_since)
        if champion.trained_on is not None:
            start = max(start, champion.trained_on.end)
        if start >= end:
            return None
        return MetricQuery(situation.model, self.metric, TimeWindow(start, end), champion)

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Compare the window's mean with the threshold."""
        query = self._query(situation)
        if query is None:
            lacking = (
                "no champion serves yet" if situation.champion is None else "the champion only just serves"
            )
            return unknown(f"{self.metric} is unknown: {lacking}")
        seen = observations.get(query, Missing("not observed"))
        if not isinstance(seen, MetricWindow):
            return unknown(f"{self.metric} is unknown: {getattr(seen, 'reason', 'not observed')}")
        value = self.on_missing if seen.empty else seen.value
        evidence = self._evidence(seen, value)
        doubt = self._doubt(seen, value, situation.now)
        if doubt or value is None:
            return unknown(f"{self.metric} is unknown: {doubt}", **evidence)
        worse = value < self.threshold if self.direction == "up" else value > self.threshold
        side = "below" if value < self.threshold else "above" if value > self.threshold else "at"
        text = f"{self.metric} {value:.4f} is {side} the threshold of {self.threshold:g}"
        return yes(text, **evidence) if worse else no(text, **evidence)

    def _doubt(self, seen: MetricWindow, value: float | None, now: datetime) -> str:
        """Why the answer must not be used; empty when it may."""
        if value is None:
            return seen.reason or "no value"
        if not math.isfinite(value):
            return f"the value is {value}"
        if seen.empty:
            return ""
        if seen.rows is not None and seen.rows < self.min_rows:
            return f"only {seen.rows} labelled rows, {self.min_rows} are needed"
        if seen.last_at is not None and now - seen.last_at > self.stale_after + self.label_delay:
            return f"the newest sample is of {seen.last_at:%Y-%m-%d %H:%M} UTC, too old"
        return ""

    def _evidence(self, seen: MetricWindow, value: float | None) -> dict[str, object]:
        window = seen.query.window
        return {
            "metric": self.metric,
            "value": value,
            "threshold": self.threshold,
            "rows": seen.rows,
            "points": seen.points,
            "from": window.start,
            "to": window.end,
            "last_at": seen.last_at,
        }


@dataclass(frozen=True)
class DriftRule(Rule):
    """Fires when the population stability index of any feature exceeds a threshold.

    Attributes:
        threshold: The largest acceptable index.
        window: Recent data to judge.
        reference: Length of the reference before the recent window, for a champion whose training rows are
            unknown.
        min_rows: Fewest rows with a value on either side; PSI of small samples drifts by itself.
        alpha: Chance of a false yes in a window, over all features and looks; ``None`` asks for no proof.
        looks: How often a window is looked at.
    """

    threshold: float
    window: timedelta
    reference: timedelta
    min_rows: int
    alpha: float | None = None
    looks: int = 1
    name = "drift"
    type = TriggerType.DRIFT

    def needs(self, situation: Situation) -> tuple[Query, ...]:
        """Recent rows against those the champion was trained on; nothing without a champion."""
        query = self._query(situation)
        return () if query is None else (query,)

    def _query(self, situation: Situation) -> DriftQuery | None:
        if situation.champion is None:
            return None
        current = TimeWindow(situation.now - self.window, situation.now)
        reference = situation.champion.trained_on or TimeWindow(current.start - self.reference, current.start)
        if reference.end > current.start:
            current = TimeWindow(min(reference.end, situation.now), situation.now)
        return DriftQuery(situation.model, reference, current)

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Compare the most drifted feature with the threshold."""
        query = self._query(situation)
        if query is None:
            return unknown("drift is unknown: no champion serves yet")
        seen = observations.get(query, Missing("not observed"))
        if not isinstance(seen, DriftReport):
            return unknown(f"drift is unknown: {getattr(seen, 'reason', 'not observed')}")
        return self._judge(seen)

    def _judge(self, report: DriftReport) -> Verdict:
        usable = {c.column: c.psi for c in report.columns if c.psi is not None and self._is_usable(c)}
        blind = {c.column: self._blindness(c) for c in report.columns if c.column not in usable}
        evidence: dict[str, object] = {
            "threshold": self.threshold,
            "columns": {c.column: _measures(c) for c in report.columns},
            "unknown_columns": blind,
            "page": report.page,
        }
        above = {column: psi for column, psi in usable.items() if psi > self.threshold}
        proven = self._proven(report, usable)
        drifted = {column: psi for column, psi in above.items() if column in proven}
        if drifted:
            worst = max(drifted, key=lambda column: drifted[column])
            text = f"PSI of {worst} is {drifted[worst]:.3f}, above {self.threshold:g}"
            return yes(f"{text} ({len(drifted)} of {len(report.columns)} features drifted)", **evidence)
        if blind:
            column, why = next(iter(blind.items()))
            return unknown(f"drift of {len(blind)} features is unknown ({column}: {why})", **evidence)
        if not usable:
            return unknown("drift is unknown: there are no features to compare", **evidence)
        if above:
            worst = max(above, key=lambda column: above[column])
            text = f"PSI of {worst} is {above[worst]:.3f}, above {self.threshold:g}, which may be luck"
            return no(f"{text} (at an error rate of {self.alpha:g})", **evidence)
        return no(
            f"no feature's PSI is above {self.threshold:g} (largest {max(usable.values()):.3f})", **evidence
        )

    def _is_usable(self, column: ColumnDrift) -> bool:
        few = min(column.reference_rows, column.current_rows) < self.min_rows
        proof = self.alpha is None or column.p is not None
        return column.psi is not None and math.isfinite(column.psi) and proof and not few

    def _blindness(self, column: ColumnDrift) -> str:
        unproven = self.alpha is not None and column.p is None and column.psi is not None
        return column.reason or ("no p-value" if unproven else "too few rows")

    def _proven(self, report: DriftReport, usable: Collection[str]) -> Collection[str]:
        """Features that differ by more than luck, all features and looks considered."""
        if self.alpha is None:
            return usable
        return holm(
            {c.column: c.p for c in report.columns if c.column in usable and c.p is not None},
            self.alpha / self.looks,
        )


def _measures(column: ColumnDrift) -> dict[str, float | None]:
    measures = {"psi": column.psi, "ks_p": column.ks_p}
    return measures if column.chi2_p is None else {**measures, "chi2_p": column.chi2_p}


@dataclass(frozen=True)
class ManualRule(Rule):
    """Fires when a person has asked for a retraining."""

    name = "manual"
    type = TriggerType.MANUAL

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Say yes while a request waits."""
        if situation.start_requested is None:
            return no("nobody has asked for a retraining")
        return yes(situation.start_requested or "asked for by a person")


@dataclass(frozen=True)
class CustomRule(Rule):
    """Asks a trigger that the user wrote.

    Attributes:
        name: Name under which it was registered.
        type: What kind of trigger it says it is.
    """

    name: str
    type: TriggerType = TriggerType.CUSTOM

    def needs(self, situation: Situation) -> tuple[Query, ...]:
        """The user's answer."""
        return (CustomQuery(situation.model, self.name),)

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Pass the answer on; unknown when their code failed."""
        seen = observations.get(CustomQuery(situation.model, self.name), Missing("not observed"))
        if not isinstance(seen, CustomAnswer):
            return unknown(f"{self.name} is unknown: {getattr(seen, 'reason', 'not observed')}")
        return (yes if seen.fired else no)(f"{self.name}: {seen.reason}")


def parse_rule(text: str, rules: Mapping[str, Rule]) -> Rule:
    """Build a rule from text such as ``"performance | drift & ~schedule"``.

    Args:
        text: Names joined by ``&``, ``|``, ``~`` and parentheses, with Python's precedence.
        rules: The rules that may be named.

    Returns:
        The combined rule.

    Raises:
        ValueError: The text is not of that form, or names another rule; says which there are.
    """
    try:
        return _build(ast.parse(text.strip(), mode="eval").body, rules)
    except SyntaxError:
        raise ValueError(f'cannot be read; write for example "{" | ".join(rules)}"') from None


def _build(node: ast.expr, rules: Mapping[str, Rule]) -> Rule:
    match node:
        case ast.Name(id=name) if name in rules:
            return rules[name]
        case ast.Name(id=name):
            raise ValueError(f"there is no trigger named {name!r}; there are {', '.join(rules)}")
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_build(operand, rules)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _build(left, rules) | _build(right, rules)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _build(left, rules) & _build(right, rules)
    raise ValueError('only names, "&", "|", "~" and parentheses can be used')


def is_pending(queries: Sequence[Query], observations: Observations) -> bool:
    """Whether any of the observations is still being computed."""
    return any(
        isinstance(seen, Pending) or (isinstance(seen, MetricWindow) and seen.pending)
        for seen in (observations.get(query) for query in queries)
    )
