"""``doctor``: what stands in the way, and what to do about it."""

from __future__ import annotations

import click

from .context import Invocation, pass_invocation
from .output import json_option, print_json
from .progress import waiting


@click.command()
@json_option
@pass_invocation
def doctor(invocation: Invocation, as_json: bool) -> None:
    """Say what stands in the way, and what to do.

    Checks settings, state directory, ledger, MLflow, metrics, data, training commands and the sandbox.

    Exit code 2 when there is a problem; warnings alone give 0.
    """
    from ..doctor import examine

    invocation.log()
    findings = []
    with waiting("looking"):
        findings = examine(invocation.settings)
    if as_json:
        print_json(findings)
    for finding in () if as_json else findings:
        click.echo(f"{finding.status:<8} {finding.about}: {finding.text}")
        if finding.fix:
            click.echo(f"{'':<8} -> {finding.fix}")
    click.get_current_context().exit(2 if any(f.status == "problem" for f in findings) else 0)
