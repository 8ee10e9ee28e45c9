"""The comparison as one HTML file: the table, and each policy's life of every model in plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from ..report import replace_file, template
from ..report.history import FAILED, OPENED, PROMOTED, REFUSED, History, Mark, Reign, Sample, Series
from ..report.plots import Frame, time_plot
from .outcome import JobOutcome, ModelOutcome, Outcome, Result
from .text import TITLES, remarks, row_of

_MARK: dict[Result, str] = {"promoted": PROMOTED, "failed": FAILED, "unknown": FAILED}
_DRAWN = 12
"""Models that are drawn at most: those that were below their threshold for longest."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One policy's plot.

    Attributes:
        policy: Its name.
        svg: The picture; empty where the metric was never known.
        account: What happened, in a sentence.
    """

    policy: str
    svg: str
    account: str


@dataclass(frozen=True, slots=True)
class Section:
    """One model under every policy, or the fleet.

    Attributes:
        title: The model, or what the fleet is called.
        metric: What is drawn.
        threshold: The worst acceptable value; ``None`` where there are several.
        panels: One a policy.
    """

    title: str
    metric: str
    threshold: float | None
    panels: tuple[Panel, ...]


def write_page(path: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the comparison of policies as a page that needs nothing else.

    Args:
        path: File to write; its folder is created.
        outcomes: One a policy, over the same span and models.

    Returns:
        The path.

    Raises:
        MissingExtra: matplotlib or Jinja2 is not installed.
        OSError: The file cannot be written.
    """
    page = template(Path(__file__).with_name("page.html.j2"))
    models = len(outcomes[0].models)
    text = page.render(
        span=outcomes[0].span,
        models=models,
        drawn=min(models, _DRAWN),
        titles=TITLES,
        rows=[row_of(outcome) for outcome in outcomes],
        remarks=list(remarks(outcomes)),
        sections=list(_sections(outcomes)),
    )
    replace_file(path, text)
    return path


def _sections(outcomes: Sequence[Outcome]) -> Iterator[Section]:
    first = outcomes[0].models
    if len(first) > 1:
        panels = (_panel(each.policy, _fleet(each), each, f"f{n}") for n, each in enumerate(outcomes))
        metrics = sorted({model.metric for model in first})
        yield Section(f"All {len(first)} models", f"mean {', '.join(metrics)}", None, tuple(panels))
    by_name = [{model.model: model for model in outcome.models} for outcome in outcomes]
    worst = sorted(
        first, key=lambda model: (-sum(point.below is True for point in model.points), model.model)
    )
    for number, model in enumerate(worst[:_DRAWN]):
        panels = (
            _panel(outcome.policy, found[model.model], outcome, f"m{number}p{n}")
            for n, (outcome, found) in enumerate(zip(outcomes, by_name, strict=True))
        )
        yield Section(model.model, model.metric, model.threshold, tuple(panels))


@dataclass(frozen=True, slots=True)
class _Life:
    """What is drawn of a model, or of a fleet."""

    series: Series
    jobs: tuple[tuple[Mark, Mark], ...]
    reigns: tuple[Reign, ...]


def _fleet(outcome: Outcome) -> _Life:
    """The mean over the models, as far as their metric is known; who serves is of each model alone."""
    samples = []
    for points in zip(*(model.points for model in outcome.models), strict=True):
        known = [point.value for point in points if point.value is not None]
        samples.append(Sample(points[0].window.start, fmean(known) if known else None, None))
    return _Life(Series("mean", tuple(samples)), _jobs(outcome.jobs), ())


def _life(model: ModelOutcome) -> _Life:
    samples = tuple(
        Sample(point.window.start, point.value, model.threshold, model.metric) for point in model.points
    )
    return _Life(Series(model.metric, samples), _jobs(model.jobs), tuple(_reigns(model)))


def _jobs(jobs: Sequence[JobOutcome]) -> tuple[tuple[Mark, Mark], ...]:
    return tuple((Mark(job.at, OPENED), Mark(job.at, _MARK.get(job.result, REFUSED))) for job in jobs)


def _reigns(model: ModelOutcome) -> Iterator[Reign]:
    for version, points in groupby(model.points, key=lambda point: point.version):
        served = list(points)
        if version:
            yield Reign(version, served[0].window.start, served[-1].window.end, "")


def _panel(policy: str, of: ModelOutcome | _Life, outcome: Outcome, identity: str) -> Panel:
    life = _life(of) if isinstance(of, ModelOutcome) else of
    marks = tuple(mark for pair in life.jobs for mark in pair)
    history = History(life.series, (), None, marks, (), life.reigns)
    frame = Frame(outcome.span.start, outcome.span.end, 980)
    promoted = sum(mark.kind == PROMOTED for mark in marks)
    account = f"{len(life.jobs)} jobs, {promoted} promotions"
    label = f"{life.series.name} under {policy}: {account}"
    svg = time_plot(history, life.series, frame, identity, label) if life.series.known else ""
    return Panel(policy, svg, account)
