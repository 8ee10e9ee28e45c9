"""The plots of the page, drawn by matplotlib without its global state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .history import FAILED, OPENED, PROMOTED, REFUSED, ROLLED_BACK, History, Reign, Sample, Series
from .svg import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, RED, SKY, inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {
    OPENED: ("^", ORANGE),
    PROMOTED: ("o", GREEN),
    REFUSED: ("X", RED),
    FAILED: ("s", INK),
    ROLLED_BACK: ("v", PURPLE),
}
"""Shape and colour of each event; the page's legend draws the same."""

_BUCKETS = 300
"""A series is thinned to the least and the greatest value in so many equal spans of time."""

_SPAN = 1 / 250
"""Shaded times are drawn at least as wide as this share of the axis, since nobody sees an hour in a year."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all plots of one model over time share.

    Attributes:
        begin: Left end of the time axis.
        end: Right end.
        width: Width of the picture in pixels.
    """

    begin: datetime
    end: datetime
    width: int

    @property
    def seconds(self) -> float:
        """Length of the time axis."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of candidate and champion on the same rows.

    Attributes:
        name: The measure.
        candidate: Its value; ``None`` when unknown.
        champion: The champion's; ``None`` when unknown or there is none.
        floor: Lowest value that may serve; ``None`` where the measure has none.
        required: Value that the promotion rule asked for; ``None`` where it asked for none.
        between: Bounds of the candidate's value, as far as its difference from the champion is known;
            ``None`` where no interval was told.
    """

    name: str
    candidate: float | None
    champion: float | None
    floor: float | None = None
    required: float | None = None
    between: tuple[float, float] | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """All that is drawn."""
        marks = (self.candidate, self.champion, self.floor, self.required, *(self.between or ()))
        return tuple(value for value in marks if value is not None)


def time_plot(history: History, series: Series, frame: Frame, identity: str, label: str) -> str:
    """Draw a signal over time, with events above it and the versions that served below.

    Args:
        history: The model's history.
        series: The signal to draw, with its threshold.
        frame: Time axis and size.
        identity: Prefix of ids, unique in the page.
        label: What it shows, in words.

    Returns:
        An ``<svg>`` element.
    """
    body = 190 if frame.width > 600 else 170
    figure, (events, main, reigns) = _stacked(frame, (34, body, 20))
    _draw_gaps(main, series, frame)
    _draw_jobs(main, history, frame)
    _draw_threshold(main, series, frame)
    _draw_values(main, series, frame)
    _draw_events(events, main, history)
    _draw_reigns(reigns, history.reigns, frame)
    return inline(figure, identity, label)


def _stacked(frame: Frame, heights: tuple[int, int, int]) -> tuple[Figure, list[Axes]]:
    """Three axes over the same time, laid out in pixels."""
    from matplotlib.figure import Figure

    left, right, bottom, gap = 62, 14, 38, 7
    total = bottom + sum(heights) + 2 * gap + 4
    figure = Figure(figsize=(frame.width / 72, total / 72), dpi=72)
    axes, top = [], total - 4
    for height in heights:
        top -= height
        box = (left / frame.width, top / total, (frame.width - left - right) / frame.width, height / total)
        axes.append(_plain(figure.add_axes(box)))
        axes[-1].set_xlim(_days(frame.begin), _days(frame.end))
        top -= gap
    for above in axes[:-1]:
        above.tick_params(axis="x", length=0, labelbottom=False)
    _time_axis(axes, frame)
    return figure, axes


def _days(at: datetime) -> float:
    """A time as matplotlib counts it."""
    from matplotlib.dates import date2num

    return float(date2num(at))  # type: ignore[no-untyped-call]


def _plain(axes: Axes) -> Axes:
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(GRID)
    axes.tick_params(colors=MUTED, labelsize=11, color=GRID, length=3)
    axes.set_axisbelow(True)
    return axes


def _time_axis(axes: Sequence[Axes], frame: Frame) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    for each in axes:
        locator = AutoDateLocator(  # type: ignore[no-untyped-call]
            tz=UTC, minticks=2, maxticks=9 if frame.width > 600 else 4
        )
        each.xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
        each.xaxis.set_major_formatter(formatter)
    axes[-1].xaxis.get_offset_text().set(color=MUTED, fontsize=11)
    for above in axes[:-1]:
        above.xaxis.get_offset_text().set_visible(False)


def _draw_gaps(axes: Axes, series: Series, frame: Frame) -> None:
    for start, end in _merged(series.gaps(), frame):
        axes.axvspan(
            _days(start), _days(end), facecolor="none", edgecolor=MUTED, hatch="////", alpha=0.5, linewidth=0
        )


def _draw_jobs(axes: Axes, history: History, frame: Frame) -> None:
    for start, end in _merged(((start, end or frame.end) for start, end in history.jobs), frame):
        axes.axvspan(_days(start), _days(end), facecolor=ORANGE, alpha=0.22, linewidth=0)


def _merged(spans: Iterable[tuple[datetime, datetime]], frame: Frame) -> Iterator[tuple[datetime, datetime]]:
    """Widen spans until they can be seen, and join those that then touch; so their number is bounded."""
    least = timedelta(seconds=frame.seconds * _SPAN)
    current: tuple[datetime, datetime] | None = None
    for start, end in sorted(spans):
        wide = max(end, start + least)
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], wide))
            continue
        if current is not None:
            yield current
        current = (start, wide)
    if current is not None:
        yield current


def _draw_threshold(axes: Axes, series: Series, frame: Frame) -> None:
    """The threshold as steps, from the look that first named it to the end."""
    named = [sample for sample in series.samples if sample.threshold is not None]
    steps = [s for before, s in zip([None, *named], named, strict=False) if _differs(before, s)]
    if steps:
        times = [*(_days(step.at) for step in steps), _days(frame.end)]
        values = [step.threshold or 0.0 for step in [*steps, steps[-1]]]
        axes.step(times, values, where="post", color=RED, linewidth=1.4, dashes=(5, 3), zorder=3)


def _differs(before: Sample | None, after: Sample) -> bool:
    return before is None or before.threshold != after.threshold


def _draw_values(axes: Axes, series: Series, frame: Frame) -> None:
    lines = list(_lines(series, frame))
    for line in lines:
        shown = len(line) == 1 or len(series.known) <= 60
        axes.plot(
            [_days(sample.at) for sample in line],
            [_value(sample) for sample in line],
            color=BLUE,
            linewidth=1.6,
            marker="o" if shown else "",
            markersize=3.2,
        )
    axes.margins(y=0.12)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.ticklabel_format(axis="y", useOffset=False)


def _lines(series: Series, frame: Frame) -> Iterator[list[Sample]]:
    """The known samples, thinned, and cut at every gap that is drawn."""
    starts = [start for start, _ in _merged(series.gaps(), frame)]
    lines: dict[int, list[Sample]] = {}
    for sample in series.known:
        lines.setdefault(bisect_left(starts, sample.at), []).append(sample)
    for line in lines.values():
        yield list(_thinned(line, frame))


def _thinned(samples: Sequence[Sample], frame: Frame) -> Iterator[Sample]:
    """Keep the extremes of every short span of time, so that no crossing of a threshold is lost."""
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        share = (sample.at - frame.begin).total_seconds() / frame.seconds
        buckets.setdefault(int(share * _BUCKETS), []).append(sample)
    for bucket in buckets.values():
        extremes = {s.at: s for s in (min(bucket, key=_value), max(bucket, key=_value))}
        yield from (extremes[at] for at in sorted(extremes))


def _value(sample: Sample) -> float:
    return sample.value or 0.0


def _draw_events(lane: Axes, main: Axes, history: History) -> None:
    """Events in two rows, so that a job's begin and its outcome of the same day stand above each other."""
    lane.set_ylim(-0.6, 1.6)
    lane.set_yticks([1, 0], labels=["job", "outcome"])
    lane.tick_params(axis="y", length=0)
    for kind, (marker, colour) in MARKERS.items():
        times = [_days(mark.at) for mark in history.marks if mark.kind == kind]
        rows = [1 if kind == OPENED else 0] * len(times)
        lane.plot(
            times,
            rows,
            linestyle="",
            marker=marker,
            markersize=8,
            color=colour,
            markeredgecolor=INK,
            markeredgewidth=0.5,
            clip_on=False,
        )
        if kind in (PROMOTED, ROLLED_BACK):
            for at in times:
                main.axvline(at, color=colour, linewidth=1.2, alpha=0.8)


def _draw_reigns(lane: Axes, reigns: Sequence[Reign], frame: Frame) -> None:
    """Who served, as a band; a label that has no room is left to the list below the plot."""
    lane.set_ylim(0, 1)
    lane.set_yticks([0.5], labels=["champion"])
    lane.tick_params(axis="y", length=0)
    pixels = frame.width - 76
    for n, reign in enumerate(reigns):
        end = reign.end or frame.end
        lane.axvspan(_days(reign.start), _days(end), facecolor=SKY, alpha=0.55 if n % 2 else 0.3, linewidth=0)
        text = f"v{reign.version}"
        room = pixels * (end - reign.start).total_seconds() / frame.seconds
        if room > 9 * len(text) + 4:
            middle = _days(reign.start + (end - reign.start) / 2)
            lane.text(middle, 0.44, text, ha="center", va="center", fontsize=11, color=INK, parse_math=False)


_UNIT = ("accuracy", "precision", "recall", "f1", "roc_auc", "r2")
"""Measures on one scale, which are drawn over one axis; each other measure has its own."""


def score_plot(scores: Sequence[Score], identity: str, label: str) -> str:
    """Draw candidate against champion as dots, one row a measure.

    Args:
        scores: What to draw; at least one has a value, and those without any are left out.
        identity: Prefix of ids, unique in the page.
        label: What it shows, in words.

    Returns:
        An ``<svg>`` element.
    """
    from matplotlib.figure import Figure

    shown = [score for score in scores if score.values]
    unit = [score for score in shown if score.name in _UNIT]
    panels = [*([unit] if unit else []), *([score] for score in shown if score.name not in _UNIT)]
    width, row, axis = 350, 27, 26
    total = sum(len(panel) * row + axis for panel in panels) + 6
    figure = Figure(figsize=(width / 72, total / 72), dpi=72)
    top = total - 4
    for panel in panels:
        height = len(panel) * row
        box = (86 / width, (top - height) / total, (width - 108) / width, height / total)
        _draw_scores(_plain(figure.add_axes(box)), panel)
        top -= height + axis
    return inline(figure, identity, label)


def _draw_scores(axes: Axes, panel: Sequence[Score]) -> None:
    axes.set_ylim(len(panel) - 0.5, -0.5)
    axes.set_yticks(range(len(panel)), labels=[score.name for score in panel])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    for row, score in enumerate(panel):
        axes.axhline(row, color=GRID, linewidth=0.8)
        _draw_bounds(axes, row, score)
        _draw_pair(axes, row, score)
    axes.margins(x=0.1)
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)


def _draw_bounds(axes: Axes, row: int, score: Score) -> None:
    for value, colour, style in ((score.floor, RED, "-"), (score.required, PURPLE, ":")):
        if value is not None:
            axes.plot([value, value], [row - 0.42, row + 0.42], color=colour, linewidth=2.4, linestyle=style)


def _draw_pair(axes: Axes, row: int, score: Score) -> None:
    if score.candidate is not None and score.champion is not None:
        axes.plot([score.champion, score.candidate], [row, row], color=MUTED, linewidth=1.6)
    if score.between is not None:
        axes.plot(score.between, [row, row], color=BLUE, linewidth=2.4, marker="|", markersize=9)
    if score.champion is not None:
        axes.plot(
            [score.champion], [row], "D", color=ORANGE, markersize=7, markeredgecolor=INK, markeredgewidth=0.5
        )
    if score.candidate is not None:
        axes.plot(
            [score.candidate], [row], "o", color=BLUE, markersize=8, markeredgecolor=INK, markeredgewidth=0.5
        )
