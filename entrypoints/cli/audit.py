"""``audit``: the record of what happened, checked, signed and taken along."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...ports.errors import AutoRetrainError, ConfigurationError, MissingExtra, Permanent, Problem
from .context import Invocation, pass_invocation
from .output import counted, json_option, print_json

if TYPE_CHECKING:
    from ...domain.anchors import Evidence
    from ...ports.anchors import AnchorKeeper
    from ..reading import Installation
    from ..settings import Settings

INCOMPLETE, FAULTY = 1, 2
VERIFIER = "verify_autoretrain_audit.py"

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_anchors_option = click.option(
    "--anchors",
    "anchors_file",
    metavar="FILE",
    type=_file,
    help="Anchors, one a line, as you kept them elsewhere.  [default: those of the settings' keeper]",
)


@click.group()
def audit() -> None:
    """Check the record of what happened, sign it, take it along."""


@audit.command()
@_anchors_option
@click.option(
    "--public-key",
    metavar="FILE",
    type=_file,
    help="Public keys that anchors must be signed with.  [default: the settings' audit.public_key]",
)
@json_option
@pass_invocation
def verify(invocation: Invocation, anchors_file: Path | None, public_key: Path | None, as_json: bool) -> None:
    """Check that no entry of the ledger was edited or lost.

    Names the first bad entry of every stream. Held against anchors, it also finds what was cut off at the end
    of a stream, a stream rewritten with hashes that fit, and one that was removed.

    Exit code 2 when a fault was found, 1 when something could not be checked.
    """
    from ..audit import examine

    installation = invocation.installation()
    evidence, unchecked = _evidence(installation, anchors_file, public_key)
    found = examine(installation.ledger, evidence)
    if as_json:
        print_json(found.faults)
    for fault in () if as_json else found.faults:
        click.echo(str(fault), err=True)
    for reason in unchecked:
        click.echo(f"not checked: {reason}", err=True)
    if not found.faults and not as_json:
        held = f", held against {counted(evidence.anchors, 'anchor')}" if evidence.anchors else ""
        click.echo(f"all whole: {counted(found.entries, 'entry', 'entries')}{held}")
    click.get_current_context().exit(FAULTY if found.faults else INCOMPLETE if unchecked else 0)


@audit.command()
@json_option
@pass_invocation
def anchor(invocation: Invocation, as_json: bool) -> None:
    """Sign the ends of all streams, and keep that elsewhere.

    'autoretrain run' does it by itself, every audit.every_hours.
    """
    from datetime import UTC, datetime

    from ..anchor_keys import read_signer
    from ..anchoring import Anchoring

    installation = invocation.installation()
    settings = _settings(installation)
    keeper = _keeper(settings)
    signer = read_signer(settings)
    if installation.ledger is None:
        raise Permanent("there is no ledger yet, so there is nothing to anchor")
    made = Anchoring(installation.ledger, keeper, signer).make(datetime.now(UTC))
    if as_json:
        print_json(made)
        return
    streams = counted(len(made.heads), "stream")
    click.echo(f"anchor {made.number} over {streams} is kept ({settings.audit.keeper}): root {made.root}")


@audit.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@pass_invocation
def keygen(invocation: Invocation, file: Path | None) -> None:
    """Make the pair of keys that signs anchors.

    The private key goes to FILE, readable by you alone, and the public one to FILE.pub. Without FILE, where
    audit.key of the settings says.
    """
    from ..anchor_keys import write_keys

    settings = None
    with suppress(ConfigurationError):  # a key may be made where there is no project
        settings = _settings(invocation.installation())
    if file is None and settings is not None and settings.audit.key is not None:
        file = settings.located(settings.audit.key)
    if file is None:
        raise click.UsageError("name the file of the private key, or set audit.key in the settings")
    if settings is not None and settings.is_beside_ledger(file.absolute()):
        fix = "must lie outside the state directory, which holds the ledger"
        raise ConfigurationError([Problem("FILE", str(file), fix)])
    public = write_keys(file)
    click.echo(f"private key: {file} (keep it from everybody who can write the ledger)")
    click.echo(f"public key:  {public} (give it to everybody who verifies)")


@audit.command("export")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write there, and the script that checks it, {VERIFIER}, beside it.  [default: standard output]",
)
@_anchors_option
@pass_invocation
def export_command(invocation: Invocation, output: Path | None, anchors_file: Path | None) -> None:
    """Write entries and anchors as JSON Lines.

    They can be checked elsewhere, without AutoRetrain, by the script that --output puts beside them.
    """
    from ..audit import export

    installation = invocation.installation()
    lines = export(installation.ledger, _anchors(installation, anchors_file))
    if output is None:
        for line in lines:
            click.echo(line)
        return
    try:
        _write(output, lines)
        shutil.copyfile(_verifier(), output.with_name(VERIFIER))
    except OSError as error:
        fix = f"cannot be written: {error.strerror}"
        raise ConfigurationError([Problem("--output", str(output), fix)]) from None
    click.echo(f"{output}; check it with: python {VERIFIER} {output.name} --public-key FILE")


def _evidence(
    installation: Installation, anchors_file: Path | None, public_key: Path | None
) -> tuple[Evidence, list[str]]:
    """Anchors to hold the ledger against, and what keeps them from being checked."""
    from ..audit import chains_alone

    if anchors_file is None and not _keeps_anchors(installation):
        if public_key is not None:
            raise click.UsageError(
                "--public-key is of use with --anchors, or with an audit.keeper in the settings"
            )
        return chains_alone(), []
    evidence, unchecked = _trusting(installation, public_key)
    try:
        for text in _anchors(installation, anchors_file):
            evidence.add(text)
    except AutoRetrainError as error:
        unchecked.append(str(error))
    else:
        if not evidence.anchors and not evidence.faults():
            unchecked.append(
                "there is no anchor to hold the ledger against; 'autoretrain audit anchor' makes one"
            )
    return evidence, unchecked


def _trusting(installation: Installation, public_key: Path | None) -> tuple[Evidence, list[str]]:
    """No anchor yet, and the keys that anchors will be checked with, as far as there are some."""
    from ...domain.anchors import Evidence
    from ..anchor_keys import objection, public_key_file, trusted_keys
    from ..audit import chains_alone

    where = "--public-key" if public_key else "audit.public_key"
    file = public_key or public_key_file(_settings(installation))
    if file is None:
        return chains_alone(), ["signatures: no public key is known; give --public-key"]
    try:
        return Evidence(objection(trusted_keys(file, where))), []
    except MissingExtra as error:
        return chains_alone(), [f"signatures: {error}"]


def _anchors(installation: Installation, anchors_file: Path | None) -> Iterable[str]:
    if anchors_file is not None:
        from ...adapters.anchors_file import FileAnchors

        return FileAnchors(anchors_file).kept()
    if not installation.has_audit:
        return ()
    from ..container import build_keeper

    keeper = build_keeper(_settings(installation))
    return () if keeper is None else keeper.kept()


def _keeps_anchors(installation: Installation) -> bool:
    return installation.has_audit and _settings(installation).audit.keeper != "none"


def _settings(installation: Installation) -> Settings:
    """What the settings say of the audit; the rest is not looked at, and may be wrong."""
    from ..settings import parse_settings
    from ..settings_file import read_toml

    values = read_toml(installation.settings_file)
    asked = {name: value for name, value in values.items() if name in ("state", "mlflow", "audit")}
    return parse_settings(asked, installation.settings_file.parent)


def _keeper(settings: Settings) -> AnchorKeeper:
    from ..container import build_keeper

    keeper = build_keeper(settings)
    if keeper is None:
        fix = "set it to 'file', 'mlflow' or 'command', and say where"
        raise ConfigurationError([Problem("audit.keeper", "'none'", fix)])
    return keeper


def _write(output: Path, lines: Iterable[str]) -> None:
    """Write a whole file, or none."""
    half = output.with_name(f"{output.name}.part")
    with open(half, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, output)


def _verifier() -> Path:
    return Path(__file__).resolve().parent.parent / "audit_verifier.py"
