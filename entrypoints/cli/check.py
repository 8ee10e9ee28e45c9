"""``check``: what the triggers say now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ...domain.explain import held_text
from .context import Invocation, pass_invocation
from .output import json_option, minute, print_json
from .progress import waiting

if TYPE_CHECKING:
    from ...domain.verdict import Verdict
    from ..pipeline import AutoRetrainPipeline


@click.command()
@click.argument("model", required=False)
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long at most for observations that are being computed.",
)
@json_option
@pass_invocation
def check(invocation: Invocation, model: str | None, timeout: float, as_json: bool) -> None:
    """Say whether to retrain MODEL, or any, and why.

    Starts nothing.
    Exit code 0 whenever there is an answer: yes, no or unknown.
    """
    pipeline = invocation.pipeline()
    models = sorted(pipeline.settings.models) if model is None else [model]
    rows = []
    for name in models:
        with waiting(f"looking at {name}"):
            rows.append(_judged(pipeline, name, timeout))
        if not as_json:
            _print(rows[-1])
    if as_json:
        print_json(rows)


def _judged(pipeline: AutoRetrainPipeline, model: str, timeout: float) -> dict[str, Any]:
    """The verdict of a model's rule, and those of the triggers in it."""
    verdict = pipeline.judge(model, timeout=timeout)
    spec = pipeline.settings.models[model]
    names = dict.fromkeys(leaf.name for leaf in spec.combined_rule().leaves())
    triggers = {name: pipeline.judge(model, name, timeout) for name in names}
    held = pipeline.held_back(model, verdict)
    return {"model": model, "rule": spec.rule, "verdict": verdict, "held_back": held, "triggers": triggers}


def _print(row: dict[str, Any]) -> None:
    verdict: Verdict = row["verdict"]
    wanted = {"yes": "retraining is due", "no": "no retraining is due", "unknown": "unknown"}
    click.echo(f"{row['model']}: {wanted[verdict.answer.value]} (rule: {row['rule']})")
    held = row["held_back"]
    if held is not None:
        click.echo(f"    held back by: {held_text(held.reason, held.until)}")
    for name, judged in row["triggers"].items():
        click.echo(f"    {name}: {judged.answer.value}: {judged.reason}")
        for line in _evidence(judged.evidence):
            click.echo(f"        {line}")


def _evidence(evidence: Mapping[str, Any]) -> Iterator[str]:
    """A line a figure; a table of figures (one row a column of the data) is a line a row."""
    for key, value in evidence.items():
        if isinstance(value, Mapping):
            for name, figures in value.items():
                told = figures.items() if isinstance(figures, Mapping) else [(key, figures)]
                yield f"{name}: {', '.join(f'{what} {_shown(figure)}' for what, figure in told)}"
        elif value is not None:
            yield f"{key}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return minute(value)
    return f"{value:.4g}" if isinstance(value, float) else "unknown" if value is None else str(value)
