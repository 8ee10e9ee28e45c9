"""The floor, and the hash that says what was judged."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from domain_world import DAY, GOOD, NOW, POOR, scored, snapshot, spec_of, version
from hypothesis import given

from autoretrain.domain.checks import Guardrail
from autoretrain.domain.codec import snapshot_of, validation_of, verdict_of, version_of
from autoretrain.domain.sealing import canonical, load
from autoretrain.domain.validation import ValidationResult, above_floor, validate
from autoretrain.domain.verdict import Answer, Verdict
from autoretrain.entrypoints.testing.strategies import scores, snapshots, verdicts, versions
from autoretrain.ports.data import Snapshot
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.scorer import Effect, Paired, Scores
from autoretrain.ports.values import TimeWindow

HOLDOUT = snapshot(TimeWindow(NOW - 30 * DAY, NOW))
REGRESSOR = spec_of(task="regression", metric="mae", threshold=2.0, promotion={"floor": 0.5})


def result(
    scores: Scores, candidate: ModelVersion | None = None, holdout: Snapshot = HOLDOUT
) -> ValidationResult:
    return validate(spec_of(), candidate or version("2"), holdout, scores, NOW)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.85, Answer.YES), (0.8499999, Answer.NO), (1.0, Answer.YES), (0.0, Answer.NO)],
)
def test_the_floor_of_a_classifier(accuracy: float, expected: Answer) -> None:
    validated = result(scored({**GOOD, "accuracy": accuracy}))
    assert validated.verdict.answer is expected
    assert validated.is_valid is (expected is Answer.YES)


@pytest.mark.parametrize(("r2", "expected"), [(0.5, Answer.YES), (0.4999, Answer.NO), (None, Answer.UNKNOWN)])
def test_the_floor_of_a_regressor(r2: float | None, expected: Answer) -> None:
    measures = {"mae": 1.0, "rmse": 2.0, "r2": r2}
    validated = validate(REGRESSOR, version("2"), HOLDOUT, scored(measures, None), NOW)
    assert validated.verdict.answer is expected
    assert (validated.mae, validated.rmse, validated.r2, validated.accuracy) == (1.0, 2.0, r2, None)


def test_a_raised_floor_holds() -> None:
    assert above_floor(spec_of(promotion={"floor": 0.96}), scored()).is_no


@pytest.mark.parametrize(("rows", "expected"), [(99, Answer.UNKNOWN), (100, Answer.YES)])
def test_too_few_rows_prove_nothing(rows: int, expected: Answer) -> None:
    verdict = above_floor(spec_of(), scored(rows=rows))
    assert verdict.answer is expected
    assert verdict.evidence == {"measure": "accuracy", "value": 0.95, "floor": 0.85, "rows": rows}


def test_too_few_rows_do_not_disprove_either() -> None:
    assert above_floor(spec_of(), scored({**GOOD, "accuracy": 0.1}, rows=5)).is_unknown


@pytest.mark.parametrize("accuracy", [None, float("nan"), float("inf")])
def test_a_missing_measure_is_unknown_with_its_reason(accuracy: float | None) -> None:
    verdict = above_floor(
        spec_of(), scored({**GOOD, "accuracy": accuracy}, unknown={"accuracy": "one class only"})
    )
    assert verdict.is_unknown
    assert verdict.reason == "accuracy is unknown: one class only"
    assert above_floor(spec_of(), scored({})).reason == "accuracy is unknown: not computed"


def test_keeps_what_the_scorer_said() -> None:
    undefined = {"precision": "one class only"}
    validated = result(scored({**GOOD, "precision": None}, unknown=undefined, identical=True))
    assert (validated.precision, validated.recall, validated.f1_score) == (None, 0.95, 0.95)
    assert (validated.unknown, validated.identical, validated.rows) == (undefined, True, 1000)
    assert (validated.champion_metrics, validated.validation_timestamp) == (POOR, NOW)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("candidate", version("3", digest=version("2").digest)),
        ("candidate", version("2", digest="e" * 64)),
        ("candidate", replace(version("2"), model="n")),
        ("holdout", replace(HOLDOUT, sha256="e" * 64)),
        ("scores", scored({**GOOD, "f1": 0.9500001})),
        ("scores", scored(GOOD, {**POOR, "f1": 0.8800001})),
        ("scores", scored(GOOD, None)),
    ],
)
def test_the_hash_is_over_model_version_metrics_and_data(change: str, value: object) -> None:
    given_before: dict[str, Any] = {"scores": scored(), "candidate": version("2"), "holdout": HOLDOUT}
    before = result(**given_before).validation_hash
    assert len(before) == 64
    assert result(**{**given_before, change: value}).validation_hash != before


def test_the_hash_is_the_same_for_the_same() -> None:
    later = validate(spec_of(), version("2"), HOLDOUT, scored(), NOW + DAY)
    assert later.validation_hash == result(scored()).validation_hash


@given(scores())
def test_only_a_proven_pass_is_valid(drawn: Scores) -> None:
    accuracy = drawn.candidate["accuracy"]
    proven = drawn.rows >= 100 and accuracy is not None and accuracy >= 0.85
    assert result(drawn).is_valid is proven


class TestComesBackFromTheLedger:
    """What is written as canonical text is read as the same value."""

    @given(scores())
    def test_validation(self, drawn: Scores) -> None:
        assert validation_of(written(result(drawn))) == result(drawn)

    @given(versions())
    def test_version(self, drawn: ModelVersion) -> None:
        assert version_of(written(drawn)) == drawn

    @given(snapshots())
    def test_snapshot(self, drawn: Snapshot) -> None:
        assert snapshot_of(written(drawn)) == drawn

    @given(verdicts())
    def test_verdict(self, drawn: Verdict) -> None:
        assert verdict_of(written(drawn)) == drawn


def written(value: object) -> Mapping[str, Any]:
    read: Mapping[str, Any] = load(canonical(value))
    return read


def test_every_answer_of_the_floor_carries_its_numbers() -> None:
    for accuracy, rows in ((0.95, 1000), (0.5, 1000), (None, 1000), (0.95, 3)):
        verdict = above_floor(spec_of(), scored({**GOOD, "accuracy": accuracy}, rows=rows))
        assert verdict.evidence == {"measure": "accuracy", "value": accuracy, "floor": 0.85, "rows": rows}


def test_the_measures_of_the_seed_are_read_by_their_names() -> None:
    names = ("accuracy", "precision", "recall", "f1", "mae", "rmse", "r2")
    measures = {name: number / 10 for number, name in enumerate(names, start=1)}
    validated = result(scored(measures))
    read = (
        validated.accuracy, validated.precision, validated.recall, validated.f1_score,
        validated.mae, validated.rmse, validated.r2,
    )  # fmt: skip
    assert read == tuple(measures.values())


def test_the_hash_of_a_validation_stays_the_same_in_every_release() -> None:
    """Ledgers hold it: whoever computes it again must get it again."""
    beside = "57d182d0275d96b6b8ec4b033067b768de1ec29e1270344bafc79f00e9f41c70"
    alone = "f0a5594c5a834f3c6c8cf533734d131ef675caf79068e42a1dfe718c5a8305b5"
    assert result(scored()).validation_hash == beside
    assert result(scored(champion=None)).validation_hash == alone


def test_all_that_the_scorer_told_is_kept_and_read_back() -> None:
    pair = Paired("f1", 0.9, 0.88, {"absolute": Effect(0.02, 0.01)}, 30, "days", 1000, 1.5, (30, 10))
    told = scored(
        identical=True,
        unknown={"roc_auc": "no scores"},
        paired=pair,
        unpaired="why",
        segments={"site=north": pair},
        untold={"site=south": "too few rows"},
    )
    guardrails = {"brier": Guardrail(Verdict(Answer.YES, "low"), 0.1, 0.2, "at most 0.3")}
    kept = validate(spec_of(), version("2"), HOLDOUT, told, NOW, guardrails, "gone")
    for name in ("identical", "unknown", "paired", "unpaired", "segments", "untold"):
        assert getattr(kept, name) == getattr(told, name), name
    assert (kept.guardrails, kept.unscored) == (guardrails, "gone")
    assert validation_of(load(canonical(kept))) == kept


def test_a_validation_is_of_different_models_unless_it_says_so() -> None:
    whole = result(scored())
    kept = {field.name: getattr(whole, field.name) for field in fields(whole)}
    for name in ("identical", "unknown"):
        del kept[name]
    assert (ValidationResult(**kept).identical, ValidationResult(**kept).unknown) == (False, {})


@pytest.mark.parametrize(
    ("unlabelled", "known", "why"),
    [
        (111, True, ""),
        (112, False, "only 89.9% of its rows have a label, 90% are needed"),
        (None, False, "nobody counted"),
    ],
)
def test_too_few_labels_are_no_judgement(unlabelled: int | None, known: bool, why: str) -> None:
    holdout = replace(snapshot(TimeWindow(NOW - 30 * DAY, NOW)), unlabelled=unlabelled)
    result = validate(spec_of(min_label_coverage=0.9), version("2"), holdout, scored(), NOW)
    assert result.is_valid is known
    assert result.verdict.is_unknown is not known
    assert why in result.verdict.reason
    if not known:
        assert result.verdict.evidence == {"coverage": holdout.coverage, "rows": holdout.rows}
    assert validate(spec_of(), version("2"), holdout, scored(), NOW).is_valid


def test_as_many_labels_as_asked_for_are_enough() -> None:
    holdout = replace(HOLDOUT, unlabelled=HOLDOUT.rows)
    spec = spec_of(min_label_coverage=holdout.coverage)
    assert validate(spec, version("2"), holdout, scored(), NOW).is_valid
