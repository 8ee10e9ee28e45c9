"""The mistakes that gates are known for, each put to the real one: scorer, inspector, guardrails, judgement.

Sixty days of hourly rows of two sites, with the hour's noise in ``x``. A version is given by where it errs.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from domain_world import DAY, HOUR, NOW, spec_of, version

from autoretrain.adapters.inspector_duckdb import DuckdbInspector
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.domain.checks import Evidence, guardrails_of
from autoretrain.domain.jobs import JobStatus, RetrainingJob
from autoretrain.domain.judgement import judge, needs_person
from autoretrain.domain.promotion import FIRST_CHAMPION, SAFETY, Decision, Outcome
from autoretrain.domain.state import Champion, ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.validation import validate
from autoretrain.ports.data import Snapshot
from autoretrain.ports.errors import Permanent
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.values import TimeWindow

ROWS = 60 * 24
HOLDOUT = TimeWindow(NOW - 60 * DAY, NOW)
TRAINING = TimeWindow(NOW - 90 * DAY, HOLDOUT.start)
RANDOM = np.random.default_rng(7)
LUCK, LABELS = RANDOM.uniform(0, 1, ROWS), RANDOM.integers(0, 2, ROWS)
SITES = np.where(np.arange(ROWS) % 6 == 0, "south", "north")


class Gate:
    """The gate over files in a folder.

    Args:
        folder: Where rows and predictions are written.
        labels: Labels of the holdout; half of them are 1 unless given.
        sites: Site of each row.
    """

    def __init__(self, folder: Path, labels: Any = LABELS, sites: Any = SITES) -> None:
        self._folder, self._labels = folder, np.asarray(labels)
        self._holdout = self._rows(HOLDOUT, labels, sites, x=LUCK)
        self._training = self._rows(TRAINING, LABELS[:240], SITES[:240], x=LUCK[:240] + 2)

    def _write(self, columns: dict[str, Any]) -> tuple[str, str]:
        file = self._folder / f"{len(list(self._folder.iterdir()))}.parquet"
        parquet.write_table(pa.table(columns), file)
        return str(file), sha256(file.read_bytes()).hexdigest()

    def _rows(self, window: TimeWindow, labels: Any, sites: Any, x: Any) -> Snapshot:
        times = [window.start + n * HOUR for n in range(len(labels))]
        uri, digest = self._write({"at": times, "x": x, "site": sites, "hot": labels})
        ends = times[0], times[-1]
        return Snapshot("m", window, uri, len(labels), digest, ("x", "site"), "hot", "at", *ends)

    def wrong(self, share: Any) -> Any:
        """Predictions that are wrong in a share of rows, the unluckiest first: one number, or one a row."""
        return np.where(share > LUCK, 1 - self._labels, self._labels)

    def predicted(self, values: Any) -> Predictions:
        """Predictions as a run would leave them."""
        return Predictions(*self._write({"prediction": np.asarray(values)}), ROWS)

    def decides(
        self,
        candidate: Any,
        champion: Any = None,
        trigger: TriggerType = TriggerType.PERFORMANCE,
        digests: Sequence[str] = ("c" * 64, "d" * 64),
        **promotion: Any,
    ) -> Decision:
        """What is decided about predictions of both versions."""
        spec = spec_of(promotion={"policy": "by-trigger@1", **promotion})
        serving = None if champion is None else version("1", digests[0])
        job = RetrainingJob(
            "j", "m", trigger, JobStatus.VALIDATION, NOW, "accuracy is low", TRAINING, HOLDOUT,
            champion=serving, candidate=version("2", digests[1]),
            training=self._training, holdout=self._holdout,
        )  # fmt: skip
        new = self.predicted(candidate)
        old = None if champion is None else self.predicted(champion)
        scores = SklearnScorer().score(spec.scoring, self._holdout, new, old)
        found = DuckdbInspector().inspect(spec.inspection, self._training, self._holdout, new, old)
        rails = guardrails_of(spec.promotion.guardrails, Evidence(job, scores, found))
        result = validate(spec, version("2", digests[1]), self._holdout, scores, NOW, rails)
        state = ModelState("m", champion=Champion(serving, None, None) if serving else None)
        self.asks_a_person = needs_person(spec, job, result)
        return judge(spec, state, job, result)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_a_candidate_that_is_the_champion_is_no_change(gate: Gate) -> None:
    decision = gate.decides(gate.wrong(0.05), gate.wrong(0.1), digests=("c" * 64, "c" * 64))
    assert (decision.outcome, decision.rule) == (Outcome.REJECT, SAFETY)
    assert decision.reason == "no change: it predicts as the champion does"


@pytest.mark.parametrize("trigger", TriggerType)
def test_so_is_one_that_predicts_the_same(gate: Gate, trigger: TriggerType) -> None:
    decision = gate.decides(gate.wrong(0.1), gate.wrong(0.1), trigger)
    assert decision.outcome is Outcome.REJECT
    assert decision.reason == "no change: it predicts as the champion does"


def test_a_missing_champion_blesses_nothing_in_silence(gate: Gate) -> None:
    decision = gate.decides(gate.wrong(0.2))
    assert (decision.outcome, decision.rule) == (Outcome.REJECT, SAFETY)
    assert decision.reason == "accuracy 0.7951 is below the floor of 0.85"

    decision = gate.decides(gate.wrong(0.05))
    assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, FIRST_CHAMPION)
    assert decision.reason == "accuracy 0.9542 is at or above the floor of 0.85"
    assert gate.asks_a_person

    decision = gate.decides(gate.wrong(0.05), guardrails={"max_latency": 1})
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.reason.endswith("; but latency is unknown: nobody measured it")


def test_a_champion_at_0_has_no_fraction(gate: Gate) -> None:
    never = np.zeros(ROWS, dtype=int)
    decision = gate.decides(gate.wrong(0.05), never)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.reason == (
        "f1 of the champion is 0, of which nothing is a fraction; "
        'promotion.scale = "absolute" compares the difference'
    )
    assert gate.decides(gate.wrong(0.05), never, scale="absolute").outcome is Outcome.PROMOTE


def test_a_prediction_that_is_nan_is_none(gate: Gate) -> None:
    broken = gate.wrong(0.05).astype(float)
    broken[17] = np.nan
    with pytest.raises(Permanent) as caught:
        gate.decides(broken, gate.wrong(0.1))
    assert str(caught.value) == (
        "the candidate's predictions: column 'prediction' is missing, NaN or infinite in 1 rows"
    )


def test_from_0_96_nobody_is_5_percent_better(gate: Gate) -> None:
    decision = gate.decides(gate.wrong(0.0), gate.wrong(0.04))
    assert decision.outcome is Outcome.REJECT
    assert "no candidate can reach that from 0.96" in decision.reason
    assert "since f1 ends at 1: ask for less (promotion.min_improvement)" in decision.reason
    absolute = gate.decides(gate.wrong(0.0), gate.wrong(0.04), scale="absolute", min_improvement=0.02)
    assert absolute.outcome is Outcome.PROMOTE
    halved = gate.decides(gate.wrong(0.01), gate.wrong(0.04), scale="error-reduction", min_improvement=0.5)
    assert halved.outcome is Outcome.PROMOTE


def test_one_class_in_the_holdout_tells_nothing(tmp_path: Path) -> None:
    gate = Gate(tmp_path, labels=np.zeros(ROWS, dtype=int))
    decision = gate.decides(gate.wrong(0.05), gate.wrong(0.1))
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.reason == "the difference in f1 is unknown: the holdout has a single class: 0"
    by_point = gate.decides(gate.wrong(0.05), gate.wrong(0.1), policy="seed-point@1")
    assert (by_point.outcome, by_point.reason) == (Outcome.INCONCLUSIVE, "f1 of the candidate is unknown")


def test_better_on_average_and_ten_points_worse_on_a_segment(gate: Gate) -> None:
    candidate = gate.wrong(np.where(SITES == "south", 0.2, 0.02))
    champion = gate.wrong(0.1)
    blind = gate.decides(candidate, champion, TriggerType.SCHEDULED)
    assert blind.outcome is Outcome.PROMOTE
    decision = gate.decides(candidate, champion, TriggerType.SCHEDULED, segments=["site"])
    assert decision.outcome is Outcome.REJECT
    assert ": better at all; but it is worse in site=south (f1 0." in decision.reason
    assert decision.reason.endswith(", 240 rows)")
    assert "site=north" not in decision.reason


def test_significant_with_a_slice_that_is_too_small_to_tell(tmp_path: Path) -> None:
    sites = np.where(np.arange(ROWS) % 100 == 0, "new", "old")
    gate = Gate(tmp_path, sites=sites)
    candidate, champion = gate.wrong(np.where(sites == "new", 0.12, 0.03)), gate.wrong(0.1)
    decision = gate.decides(candidate, champion, segments=["site"])
    assert decision.outcome is Outcome.PROMOTE
    assert ": better by 5 %" in decision.reason
    told = {name: each["verdict"] for name, each in decision.numbers["segments"].items()}
    assert told == {"site=new": "too few rows", "site=old": "holds"}


def test_a_class_that_no_label_has(gate: Gate) -> None:
    strange = gate.wrong(0.02)
    strange[:3] = 7
    decision = gate.decides(strange, gate.wrong(0.1))
    assert (decision.outcome, decision.rule) == (Outcome.REJECT, SAFETY)
    assert decision.reason == "it predicts classes that no label of training or holdout has: 7 (3 rows)"


def test_a_holdout_that_was_learnt_by_heart(gate: Gate) -> None:
    gate._training = replace(gate._holdout, window=TRAINING, first_at=TRAINING.start)
    gate._training = replace(gate._training, last_at=TRAINING.end - timedelta(hours=1))
    limits = {"max_repeated_rows": 0.01}
    decision = gate.decides(gate.wrong(0.0), gate.wrong(0.1), scale="absolute", guardrails=limits)
    assert (decision.outcome, decision.rule) == (Outcome.REJECT, SAFETY)
    assert decision.reason == (
        "1440 of 1440 rows of the holdout stand in the training rows, too, and at most 1% may be"
    )
