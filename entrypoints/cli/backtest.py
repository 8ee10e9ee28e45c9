"""``backtest``: policies tried against what was recorded."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .context import Invocation, pass_invocation
from .output import json_option, print_columns, print_json
from .progress import waiting

if TYPE_CHECKING:
    from ..backtest import Outcome, Policy
    from ..backtest.recorded import Records

_file = click.Path(path_type=Path)


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A date or a time of ISO 8601; UTC unless it says otherwise."""
    try:
        at = datetime.fromisoformat(value) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time; write 2026-01-31 or 2026-01-31T12:00Z") from None
    return at.replace(tzinfo=UTC) if at and not at.tzinfo else at


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--from", "start", callback=_time, metavar="TIME", help="Begin.  [default: of the records]")
@click.option("--to", "end", callback=_time, metavar="TIME", help="End.  [default: of the records]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME=FILE",
    help="Settings to try, laid over those in force; repeatable.",
)
@click.option(
    "--metrics",
    "tables",
    multiple=True,
    type=_file,
    metavar="FILE",
    help="Recorded metrics: CSV or Parquet with model, metric, at, value, samples; repeatable.",
)
@click.option(
    "--measure-days",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="DAYS",
    help="The metric is measured over so long each time.",
)
@click.option(
    "--match-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="A recorded training counts as one that starts so much earlier or later.",
)
@click.option(
    "--price", type=click.FloatRange(min=0), metavar="PRICE", help="Of an hour of training without a cost."
)
@click.option("--html", type=_file, metavar="FILE", help="Write a page with plots, too.")
@json_option
@pass_invocation
def backtest(
    invocation: Invocation,
    models: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    policies: tuple[str, ...],
    tables: tuple[Path, ...],
    measure_days: float,
    match_hours: float,
    price: float | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Try policies against the recorded past, and compare them.

    Of MODEL, or of all models. The past is what ledger and looks have recorded, and tables of metrics. The
    settings in force are the policy "current". Nothing is changed, started or sent.
    """
    from ..backtest.past import Asked, compare

    invocation.log()
    tried = _policies(invocation, models, policies)
    asked = Asked(start, end, timedelta(days=measure_days), price)
    records = _records(invocation, tried[0], tables, timedelta(hours=match_hours))
    with waiting("replaying") as say:
        outcomes = compare(tried, records, asked, lambda policy, at: say(f"{policy.name}, {at:%Y-%m-%d}"))
    if html is not None:
        from ..backtest.page import write_page

        write_page(html, outcomes)
    if as_json:
        print_json([_shown(outcome) for outcome in outcomes])
    else:
        _print(outcomes)


def _policies(invocation: Invocation, models: tuple[str, ...], given: tuple[str, ...]) -> list[Policy]:
    """The current policy and the others, of the models that were asked for."""
    from dataclasses import replace

    from ...ports.errors import ConfigurationError, Problem, UnknownModel
    from ..backtest.policies import CURRENT, read_policies
    from ..settings_file import find_settings_file

    named = [text.partition("=") for text in given]
    wrong = [
        Problem("--policy", text, f"write NAME=FILE, with a name other than {CURRENT} and the others")
        for text, (name, _, file) in zip(given, named, strict=True)
        if not re.fullmatch(r"[\w. +-]+", name)
        or not file
        or name == CURRENT
        or [each for each, *_ in named].count(name) > 1
    ]
    if wrong:
        raise ConfigurationError(wrong)
    chosen = {name: Path(file) for name, _, file in named}
    found = read_policies(find_settings_file(invocation.settings), chosen)
    fleet = found[0].fleet
    if unknown := [model for model in models if model not in fleet]:
        raise UnknownModel(f"there is no model {unknown[0]!r}; there are: {', '.join(sorted(fleet))}")
    wanted = models or tuple(fleet)
    return [replace(each, fleet={model: each.fleet[model] for model in wanted}) for each in found]


def _records(
    invocation: Invocation, current: Policy, tables: tuple[Path, ...], tolerance: timedelta
) -> Records:
    from ..backtest.past import records_of
    from ..reading import place_of

    store = place_of(invocation.settings).store
    ledger, observations = store.ledger(), store.observations()
    # What is not there is not created by looking for it; PostgreSQL has both or neither.
    is_there = ledger.versions()[0]
    are_there = is_there and getattr(observations, "versions", ledger.versions)()[0]
    return records_of(
        current.fleet,
        ledger if is_there else None,
        observations if are_there else None,
        tables,
        tolerance,
    )


def _print(outcomes: list[Outcome]) -> None:
    from ..backtest.text import TITLES, remarks, row_of

    span = outcomes[0].span
    click.echo(f"{span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, {len(outcomes[0].models)} models")
    # A column a policy: there are fewer of these than of what is told, and a terminal is not wide.
    first, *others = zip(TITLES, *map(row_of, outcomes), strict=True)
    print_columns(first, others)
    for remark in remarks(outcomes):
        click.echo(remark)


def _shown(outcome: Outcome) -> dict[str, Any]:
    """An outcome for programs: the totals, then every model's jobs and points."""
    return {
        "policy": outcome.policy,
        "span": outcome.span,
        "looks": outcome.looks,
        "fired": outcome.fired,
        "held": outcome.held,
        "unknown_verdicts": outcome.unknown_verdicts,
        "trainings": outcome.trainings,
        "results": outcome.results,
        "regretted": outcome.regrets,
        "cost": outcome.cost,
        "trainings_without_cost": outcome.unpriced,
        "below_seconds": outcome.below.total_seconds(),
        "not_known_seconds": outcome.not_known.total_seconds(),
        "mean": outcome.mean,
        "models": outcome.models,
    }
