"""Hypothesis strategies for the values of the ports and the domain.

Every strategy draws what its class promises: aware UTC times, finite measures with a reason where one is
missing, streams whose chain holds. Feed them to your own adapter, or to the contract suites beside this
file, to try values that nobody would think of.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ...domain.sealing import Draft, Head, seal
from ...domain.verdict import Answer, Verdict
from ...ports.data import Snapshot
from ...ports.drift import ColumnDrift, DriftReport
from ...ports.ledger import Entry
from ...ports.metrics import MetricQuery, MetricWindow
from ...ports.registry import ModelVersion
from ...ports.scorer import Scores
from ...ports.traffic import Split
from ...ports.values import TimeWindow

_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
_MICROSECONDS = int(timedelta(days=3650) / timedelta(microseconds=1))


def moments() -> st.SearchStrategy[datetime]:
    """Aware times in UTC, within ten years, to the microsecond."""
    return st.integers(0, _MICROSECONDS).map(lambda after: _FIRST + timedelta(microseconds=after))


def windows() -> st.SearchStrategy[TimeWindow]:
    """Windows of any length up to years; empty ones, too."""
    return st.lists(moments(), min_size=2, max_size=2).map(lambda ends: TimeWindow(*sorted(ends)))


def names() -> st.SearchStrategy[str]:
    """Names that a model or a feature may have: printable, also beyond ASCII."""
    letters = st.characters(categories=("L", "N"), include_characters="_-. ")
    return st.text(letters, min_size=1, max_size=20)


def digests() -> st.SearchStrategy[str]:
    """SHA-256 digests in hex."""
    return st.binary(min_size=32, max_size=32).map(bytes.hex)


def versions(model: str = "m") -> st.SearchStrategy[ModelVersion]:
    """Versions of one model; what is not known of an adopted one is sometimes ``None``."""
    return st.builds(
        ModelVersion,
        model=st.just(model),
        version=st.integers(1, 999).map(str),
        digest=digests(),
        uri=names(),
        job_id=st.none() | st.uuids().map(str),
        trained_on=st.none() | windows(),
        data_sha256=st.none() | digests(),
    )


@st.composite
def splits(draw: st.DrawFn, model: str = "m") -> Split:
    """Splits of one model, at any weight, under salts of any text."""
    champion, candidate = draw(st.lists(st.integers(1, 999), min_size=2, max_size=2, unique=True))
    weight = draw(st.integers(0, 10_000)) / 10_000
    return Split(
        model, str(champion), str(candidate), weight, draw(st.booleans()), draw(st.text(max_size=20))
    )


@st.composite
def snapshots(draw: st.DrawFn, model: str = "m") -> Snapshot:
    """Snapshots of one model: empty ones without a file, others with times inside their window."""
    window = draw(windows())
    rows = draw(st.integers(0, 10_000)) if window.length else 0
    inside = draw(st.lists(st.floats(0, 0.999), min_size=2, max_size=2).map(sorted))
    first_at, last_at = (window.start + window.length * share for share in inside)
    return Snapshot(
        model=model,
        window=window,
        uri=draw(names()) if rows else "",
        rows=rows,
        sha256=draw(digests()) if rows else "",
        features=tuple(draw(st.lists(names(), unique=True, max_size=5))),
        label=draw(st.none() | names()),
        time="at",
        first_at=first_at if rows else None,
        last_at=last_at if rows else None,
    )


@st.composite
def metric_windows(draw: st.DrawFn, query: MetricQuery | None = None) -> MetricWindow:
    """Answers to a query (a drawn one unless given): a value with its counts, or none with a reason."""
    asked = query or MetricQuery("m", draw(names()), draw(windows()))
    value = draw(st.none() | _finite())
    if value is None:
        return MetricWindow(
            asked, None, draw(names()), empty=draw(st.booleans()), pending=draw(st.booleans())
        )
    rows = draw(st.none() | st.integers(1, 100_000))
    return MetricWindow(asked, value, "", draw(st.integers(1, 10_000)), rows, asked.window.end)


def column_drifts() -> st.SearchStrategy[ColumnDrift]:
    """Results of one feature; both measures and counts vary by themselves."""
    return st.builds(
        ColumnDrift,
        column=names(),
        kind=st.sampled_from(["numeric", "categorical"]),
        psi=st.none() | st.floats(0, 20),
        ks_p=st.none() | st.floats(0, 1),
        reference_rows=st.integers(0, 10_000),
        current_rows=st.integers(0, 10_000),
        reason=st.just("") | names(),
    )


def drift_reports() -> st.SearchStrategy[DriftReport]:
    """Reports of up to six features with different names."""
    columns = st.lists(column_drifts(), max_size=6, unique_by=lambda column: column.column)
    return columns.map(lambda found: DriftReport(tuple(found)))


@st.composite
def scores(draw: st.DrawFn) -> Scores:
    """Measures of a classifier, with a champion or without; ``None`` always has its reason."""
    measures = ("accuracy", "precision", "recall", "f1")
    values = st.fixed_dictionaries({name: st.none() | st.floats(0, 1) for name in measures})
    candidate = draw(values)
    return Scores(
        rows=draw(st.integers(0, 10_000)),
        candidate=candidate,
        champion=draw(st.none() | values),
        unknown={name: "not defined" for name, value in candidate.items() if value is None},
    )


def verdicts() -> st.SearchStrategy[Verdict]:
    """Yes, no and unknown, each with a reason and some evidence."""
    evidence: st.SearchStrategy[Mapping[str, Any]] = st.dictionaries(names(), _finite(), max_size=3)
    return st.builds(Verdict, st.sampled_from(Answer), names(), evidence)


def json_values() -> st.SearchStrategy[Any]:
    """Whatever the ledger can hold: also NaN, infinities, large integers and text that looks like a tag."""
    tagged = st.tuples(st.sampled_from(["float:", "int:", "str:"]), st.text(max_size=8)).map("".join)
    text = st.text(st.characters(codec="utf-8"), max_size=12)
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | text | tagged
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )


def drafts() -> st.SearchStrategy[Draft]:
    """Entries of any content, before they have a place; none has a key."""
    data: st.SearchStrategy[Mapping[str, Any]] = st.dictionaries(names(), json_values(), max_size=2)
    kinds, actors = (
        st.sampled_from(["model.enrolled", "look.changed"]),
        st.sampled_from(["controller", "ann"]),
    )
    return st.builds(Draft, kind=kinds, data=data, key=st.none(), actor=actors)


@st.composite
def streams(draw: st.DrawFn, model: str = "m", min_size: int = 1, max_size: int = 5) -> tuple[Entry, ...]:
    """Streams of one model whose chain holds. What the entries say has no meaning to the fold."""
    head = Head()
    entries: tuple[Entry, ...] = ()
    at = draw(moments())
    for draft in draw(st.lists(drafts(), min_size=min_size, max_size=max_size)):
        at += timedelta(microseconds=draw(st.integers(0, 10**9)))
        entries += seal(model, head, (draft,), at)
        head = Head(entries[-1].chain, entries[-1].seq, entries[-1].hash)
    return entries


def _finite() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False, allow_infinity=False)
