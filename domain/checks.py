"""Guardrails beside the claim: calibration, cost, what is predicted, leaks from training to holdout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from ..ports.inspector import Answered, Inspection
from ..ports.predictor import Effort
from ..ports.scorer import Paired, Scores
from .claims import Claim, Kind, judge_claim
from .promotion import Decision, Outcome
from .verdict import Verdict, no, unknown, yes

if TYPE_CHECKING:
    from .guardrail_spec import GuardrailSpec
    from .jobs import RetrainingJob

GUARD_LEVEL = 0.05
"""Chance, a side, that the interval of a difference in calibration misses the true one."""

UNBENDING = ("classes", "repeated rows", "shared groups", "time order")
"""A candidate that breaks one of these was not judged, or cannot be used: no person lets it pass."""

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One of the things that a candidate must not spoil.

    Attributes:
        verdict: Whether the limit is kept, and what was found. Unknown keeps back as a no does.
        value: The candidate's, in ``unit``; ``None`` where it is no number, or unknown.
        champion: The champion's; ``None`` likewise, and without a champion.
        limit: What was asked for, in words; empty where nothing was: then it is told, and keeps nothing back.
        unit: Of the values; empty for shares and scores.
    """

    verdict: Verdict
    value: float | None = None
    champion: float | None = None
    limit: str = ""
    unit: str = ""

    @property
    def keeps_back(self) -> bool:
        """Whether a candidate may not be promoted for it."""
        return bool(self.limit) and not self.verdict.is_yes


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a candidate beside its spec.

    Attributes:
        job: The job, with its snapshots and its champion.
        scores: Measures of both versions.
        inspection: What was found in rows and predictions.
        effort: What the candidate's predictions took; ``None`` when nobody measured it.
        champion_effort: What the champion's took; ``None`` likewise, and without a champion.
    """

    job: RetrainingJob
    scores: Scores
    inspection: Inspection
    effort: Effort | None = None
    champion_effort: Effort | None = None

    @property
    def has_champion(self) -> bool:
        """Whether there is a version to compare with."""
        return self.scores.champion is not None


def guardrails_of(spec: GuardrailSpec, known: Evidence) -> dict[str, Guardrail]:
    """Look at every guardrail that there is something to say about.

    Args:
        spec: The limits.
        known: What is known of the candidate.

    Returns:
        Guardrails by name, those without a limit included.
    """
    found: dict[str, Guardrail | None] = {
        "brier": _calibration("brier", spec.max_brier, spec.brier_margin, known),
        "ece": _calibration("ece", spec.max_ece, spec.ece_margin, known),
        "latency": _latency(spec, known),
        "loading": _loading(spec, known),
        "artefact size": _size(spec, known),
        "prediction type": _schema(spec, known.inspection),
        "range": _range(spec, known.inspection),
        "class scores": _class_scores(spec, known.inspection),
        "classes": _classes(known.inspection),
        "repeated rows": _repeated(spec, known.inspection),
        "shared groups": _shared(spec, known.inspection),
        "time order": _time_order(known.job),
        "time order of the champion": _champions_time_order(known.job),
    }
    return {name: each for name, each in found.items() if each is not None}


def guard_checks(decision: Decision, guardrails: Mapping[str, Guardrail]) -> Decision:
    """Keep back a promotion that would break a guardrail.

    Args:
        decision: What the claim and the segments came to.
        guardrails: All of them by name; those without a limit keep nothing back.

    Returns:
        The decision, with the guardrails that have a limit among its numbers: a broken one rejects, one that
        is unknown makes it inconclusive.
    """
    bound = {name: each for name, each in guardrails.items() if each.limit}
    if not bound:
        return decision
    decision = replace(decision, numbers={**decision.numbers, "guardrails": _told(bound)})
    held = kept_back(guardrails)
    if decision.outcome is not Outcome.PROMOTE or held is None:
        return decision
    outcome, text = held
    return replace(decision, outcome=outcome, reason=f"{decision.reason}; but {text}")


def kept_back(
    guardrails: Mapping[str, Guardrail], names: tuple[str, ...] | None = None
) -> tuple[Outcome, str] | None:
    """Which guardrails keep a candidate back.

    Args:
        guardrails: All of them by name.
        names: Only these; ``None`` takes all.

    Returns:
        Reject for what is broken, else inconclusive for what is unknown, with the reasons; ``None`` when
        nothing keeps it back.
    """
    held = [each for name, each in guardrails.items() if each.keeps_back and (names is None or name in names)]
    broken = [each for each in held if each.verdict.is_no]
    if not held:
        return None
    outcome = Outcome.REJECT if broken else Outcome.INCONCLUSIVE
    return outcome, "; ".join(each.verdict.reason for each in broken or held)


def _told(guardrails: Mapping[str, Guardrail]) -> dict[str, dict[str, object]]:
    return {
        name: {
            "candidate": each.value,
            "champion": each.champion,
            "limit": each.limit,
            "verdict": each.verdict.answer,
        }
        for name, each in guardrails.items()
    }


_Asked = list[tuple[str, Verdict]]  # each limit in words, and whether it is kept


def _measured(
    name: str, asked: _Asked, value: float | None, champion: float | None, unit: str = ""
) -> Guardrail | None:
    """A guardrail about a number; ``None`` when it is not known and nobody asked."""
    if not asked and value is None:
        return None
    found = f"{name} {value:.4g} {unit}".rstrip() if value is not None else ""
    verdict = reduce(and_, (verdict for _, verdict in asked)) if asked else yes(found)
    return Guardrail(verdict, value, champion, ", ".join(words for words, _ in asked), unit)


# --- calibration -----------------------------------------------------------------------------------------


def _calibration(measure: str, most: float | None, margin: float | None, known: Evidence) -> Guardrail | None:
    value = known.scores.candidate.get(measure)
    asked: _Asked = []
    if most is not None:
        why = known.scores.unknown.get(measure, "it is not computed")
        asked.append((f"at most {most:g}", _at_most(measure, value, most, "", why)))
    if margin is not None:
        asked.append((f"not worse by {margin:g}", _not_worse(measure, margin, known)))
    return _measured(measure, asked, value, (known.scores.champion or {}).get(measure))


def _not_worse(measure: str, margin: float, known: Evidence) -> Verdict:
    if not known.has_champion:
        return yes(f"{measure}: there is no champion to be worse than")
    pair = known.scores.guarded.get(measure)
    if pair is None:
        why = known.scores.unguarded.get(measure, "the scorer does not tell how well it is known")
        return unknown(f"the difference in {measure} is unknown: {why}")
    decision = judge_claim(Claim(Kind.NON_INFERIORITY, margin, "absolute"), pair, GUARD_LEVEL)
    return _compared(pair, margin, decision)


def _compared(pair: Paired, margin: float, decision: Decision) -> Verdict:
    numbers = decision.numbers
    # An effect is positive where the candidate is better; people read by how much the measure went up.
    least, most = -numbers["high"], -numbers["low"]
    text = (
        f"{pair.measure} {pair.champion:.4f} -> {pair.candidate:.4f}, "
        f"a change between {least:+.4f} and {most:+.4f}"
    )
    match decision.outcome:
        case Outcome.PROMOTE:
            return yes(f"{text}, is not worse by {margin:g}")
        case Outcome.REJECT:
            return no(f"{text}, is worse by {margin:g}")
    needed = numbers["rows_needed"]
    more = f"; about {needed} rows would tell" if needed else ""
    return unknown(f"{text}, may be worse by {margin:g}{more}")


# --- cost ------------------------------------------------------------------------------------------------


def _latency(spec: GuardrailSpec, known: Evidence) -> Guardrail | None:
    value, champion = (_per_1000(effort, known) for effort in (known.effort, known.champion_effort))
    unit = "s for 1,000 rows"
    asked: _Asked = []
    if spec.max_latency is not None:
        kept = _at_most("latency", value, spec.max_latency, unit)
        asked.append((f"at most {spec.max_latency:g} s", kept))
    if spec.max_slowdown is not None:
        kept = _at_most_times("latency", value, champion, spec.max_slowdown, known)
        asked.append((f"at most {spec.max_slowdown:g} times the champion's", kept))
    return _measured("latency", asked, value, champion, unit)


def _per_1000(effort: Effort | None, known: Evidence) -> float | None:
    seconds, rows = effort.predict_seconds if effort else None, known.inspection.rows
    return None if seconds is None or not rows else 1000 * seconds / rows


def _loading(spec: GuardrailSpec, known: Evidence) -> Guardrail | None:
    value, champion = (
        effort.load_seconds if effort else None for effort in (known.effort, known.champion_effort)
    )
    asked: _Asked = []
    if spec.max_load_seconds is not None:
        kept = _at_most("loading", value, spec.max_load_seconds, "s")
        asked.append((f"at most {spec.max_load_seconds:g} s", kept))
    return _measured("loading", asked, value, champion, "s")


def _size(spec: GuardrailSpec, known: Evidence) -> Guardrail | None:
    value, champion = (
        None if effort is None or effort.artefact_bytes is None else effort.artefact_bytes / _MEBIBYTE
        for effort in (known.effort, known.champion_effort)
    )
    asked: _Asked = []
    if spec.max_artifact_mb is not None:
        kept = _at_most("artefact size", value, spec.max_artifact_mb, "MiB")
        asked.append((f"at most {spec.max_artifact_mb:g} MiB", kept))
    if spec.max_growth is not None:
        kept = _at_most_times("artefact size", value, champion, spec.max_growth, known)
        asked.append((f"at most {spec.max_growth:g} times the champion's", kept))
    return _measured("artefact size", asked, value, champion, "MiB")


_UNMEASURED = "nobody measured it"


def _at_most(name: str, value: float | None, most: float, unit: str, why: str = _UNMEASURED) -> Verdict:
    if value is None:
        return unknown(f"{name} is unknown: {why}")
    text = f"{name} {value:.4g} {unit}".rstrip()
    if value <= most:
        return yes(f"{text} is within the limit of {most:g}")
    return no(f"{text} is above the limit of {most:g}")


def _at_most_times(
    name: str, value: float | None, champion: float | None, most: float, known: Evidence
) -> Verdict:
    if not known.has_champion:
        return yes(f"{name}: there is no champion to compare with")
    if value is None or not champion:
        return unknown(f"{name} cannot be compared with the champion's: {_UNMEASURED}")
    times = value / champion
    text = f"{name} is {times:.3g} times the champion's"
    return yes(text) if times <= most else no(f"{text}, and at most {most:g} times is allowed")


# --- what is predicted -----------------------------------------------------------------------------------


def _schema(spec: GuardrailSpec, found: Inspection) -> Guardrail:
    new, old = found.candidate, found.champion
    limit = "as the champion's" if spec.same_schema else ""
    if old is None or (new.kind, new.classes) == (old.kind, old.classes):
        return Guardrail(yes(f"it predicts {_described(new)}"), limit=limit)
    text = f"it predicts {_described(new)}, the champion {_described(old)}"
    return Guardrail(no(text), limit=limit)


def _described(answered: Answered) -> str:
    scores = f" with scores for {', '.join(answered.classes)}" if answered.classes else ""
    return f"{answered.kind}{scores}"


def _range(spec: GuardrailSpec, found: Inspection) -> Guardrail | None:
    low, high = found.candidate.low, found.candidate.high
    if found.labels is None or low is None or high is None:
        return None
    text = (
        f"predictions lie between {low:.4g} and {high:.4g}, labels between {found.labels[0]:.4g} and "
        f"{found.labels[1]:.4g}"
    )
    asked = [(f"from {spec.lowest:g}", low >= spec.lowest)] if spec.lowest is not None else []
    asked += [(f"to {spec.highest:g}", high <= spec.highest)] if spec.highest is not None else []
    limit = " ".join(words for words, _ in asked)
    if all(kept for _, kept in asked):
        return Guardrail(yes(text), limit=limit)
    return Guardrail(no(f"{text}, and {limit} is allowed"), limit=limit)


def _class_scores(spec: GuardrailSpec, found: Inspection) -> Guardrail | None:
    limit = "probabilities" if spec.probabilities else ""
    unfit = found.candidate.unfit_scores
    if unfit is None:
        return Guardrail(no("the model gives no class scores"), limit=limit) if limit else None
    if not unfit:
        return Guardrail(yes("class scores are probabilities"), limit=limit)
    text = f"class scores of {unfit} rows are no probabilities: outside of 0 to 1, or without the sum 1"
    return Guardrail(no(text), float(unfit), limit=limit, unit="rows")


def _classes(found: Inspection) -> Guardrail | None:
    if found.labels is not None:
        return None
    limit = "known classes"
    if not found.strange:
        return Guardrail(yes("every class that it predicts has a label"), limit=limit)
    named = ", ".join(f"{name} ({rows} rows)" for name, rows in found.strange.items())
    text = f"it predicts classes that no label of training or holdout has: {named}"
    return Guardrail(no(text), float(sum(found.strange.values())), limit=limit, unit="rows")


# --- leaks -----------------------------------------------------------------------------------------------


def _repeated(spec: GuardrailSpec, found: Inspection) -> Guardrail | None:
    if found.repeated is None:
        return None
    text = f"{found.repeated} of {found.rows} rows of the holdout stand in the training rows, too"
    return _share(text, found.repeated, found.rows, spec.max_repeated_rows)


def _shared(spec: GuardrailSpec, found: Inspection) -> Guardrail | None:
    if found.groups is None or found.shared is None:
        return None
    text = f"{found.shared} of {found.groups} groups of the holdout are in the training rows, too"
    return _share(text, found.shared, found.groups, spec.max_shared_groups)


def _share(text: str, part: int, whole: int, most: float | None) -> Guardrail:
    share = part / whole if whole else 0.0
    if most is None:
        return Guardrail(yes(text), share)
    verdict = yes(text) if share <= most else no(f"{text}, and at most {most:.0%} may be")
    return Guardrail(verdict, share, limit=f"at most {most:.0%}")


def _time_order(job: RetrainingJob) -> Guardrail:
    training, holdout = job.training, job.holdout
    last = training.last_at if training else None
    first = holdout.first_at if holdout else None
    limit = "training ends first"
    if last is None or first is None:
        return Guardrail(unknown("when the rows of training and holdout are from is unknown"), limit=limit)
    text = f"the training rows end on {_minute(last)}, the holdout begins on {_minute(first)}"
    return Guardrail(yes(text) if last < first else no(text), limit=limit)


def _champions_time_order(job: RetrainingJob) -> Guardrail | None:
    """Told alone: the windows of a champion of ours are compared by the rules that never bend."""
    if job.champion is None:
        return None
    trained_on = job.champion.trained_on
    if trained_on is None:
        text = "on which rows the champion was trained is unknown: it may have seen the holdout"
        return Guardrail(unknown(text))
    text = f"the champion's training rows end on {_minute(trained_on.end)}"
    return Guardrail(yes(text) if trained_on.end <= job.holdout_window.start else no(text))


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
