"""The ledger, its anchors, and who works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ...adapters.anchors_command import CommandAnchors
from ...domain.anchors import Anchor
from ...ports.anchors import AnchorKeeper
from ...ports.errors import AutoRetrainError, Refused
from ...ports.ledger import Ledger
from ..anchor_keys import read_signer
from ..anchoring import latest_anchor
from ..audit import chains_alone
from ..audit import examine as examine_audit
from ..pipeline import AutoRetrainPipeline
from ..service import exclusive
from .finding import Finding, Unusable, ok

if TYPE_CHECKING:
    from ...adapters.postgres_privileges import Access

_TAMPERED = "restore the ledger from a backup, and find out who changed it"


def ledger(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether it may be used, is of this release, and is whole."""
    try:
        yield from _allowed(pipeline.ports.ledger)
        yield from _whole(pipeline.ports.ledger)
    except AutoRetrainError as error:
        yield Finding("ledger", "problem", str(error))
        raise Unusable from None
    for weakness in getattr(pipeline.ports.ledger, "weaknesses", list)():
        yield Finding("ledger", "warning", weakness, "change the settings of the server, or name another one")


def _allowed(ledger: Ledger) -> Iterator[Finding]:
    """What a role on PostgreSQL lacks; elsewhere there are no roles."""
    look: Callable[[], Access] | None = getattr(ledger, "access", None)
    if look is None:
        return
    access, place = look(), _place(ledger)
    for lack in access.lacks:
        text = f"{place}: the role {access.role} {lack.text}"
        fix = f"as owner of the schema: {lack.fix}" if lack.fix else "restore the ledger from a backup"
        yield Finding("ledger", "problem", text, fix)
    if any(lack.blinds for lack in access.lacks):
        raise Unusable
    if not access.has_tables:
        yield _without_tables(place, access)
        raise Unusable
    if not access.lacks:
        yield ok("ledger", f"{place}: PostgreSQL {access.server} permits {access.role} all that is needed")


def _without_tables(place: str, access: Access) -> Finding:
    text = f"{place}: the tables are not there yet"
    if access.may_create:
        return Finding("ledger", "warning", text, "the first start creates them, or autoretrain db upgrade")
    fix = "run autoretrain db upgrade as a role that may, then grant what docs/operations.md lists"
    return Finding("ledger", "problem", f"{text}, and the role {access.role} may not create them", fix)


def _whole(ledger: Ledger) -> Iterator[Finding]:
    models = ledger.models()
    faults = examine_audit(ledger, chains_alone()).faults
    for fault in faults:
        yield Finding("ledger", "problem", str(fault), _TAMPERED)
    if not faults:
        yield ok("ledger", f"{_place(ledger)}: {len(models)} streams, all whole")


def _place(ledger: Ledger) -> str:
    return str(getattr(ledger, "place", "of your own"))


def anchors(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether anchors are made and kept, and what they show beyond the chains."""
    keeper = pipeline.anchor_keeper
    if keeper is None:
        yield ok("anchors", "none are made; with audit.keeper, a ledger that was cut or rewritten is found")
        return
    read_signer(pipeline.settings)
    latest = latest_anchor(keeper)
    if latest is None:
        yield Finding("anchors", "warning", "none is kept yet", "make the first: autoretrain audit anchor")
        return
    findings = [*_late(pipeline, keeper, latest), *_shown_by_anchors(pipeline)]
    yield from findings or [ok("anchors", f"the latest is {latest.label}, and the ledger is as it knows it")]


def _late(pipeline: AutoRetrainPipeline, keeper: AnchorKeeper, latest: Anchor) -> Iterator[Finding]:
    audit = pipeline.settings.audit
    waiting = len(keeper.waiting()) if isinstance(keeper, CommandAnchors) else 0
    if waiting:
        text = f"{waiting} of them not taken by {audit.command[0]} yet"
        yield Finding("anchors", "warning", text, "hand them over now: autoretrain audit anchor")
    if datetime.now(UTC) - datetime.fromisoformat(latest.at) > 2 * timedelta(hours=audit.every_hours):
        text = f"the latest is {latest.label}, and one is due every {audit.every_hours:g} h"
        yield Finding("anchors", "warning", text, "let autoretrain run; its log and /healthz say what fails")


def _shown_by_anchors(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    for fault in pipeline.verify_audit():
        if fault.anchor is not None or not fault.model:
            yield Finding("anchors", "problem", str(fault), _TAMPERED)


def controller(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether anybody watches."""
    running: Sequence[str] = getattr(pipeline.ports.ledger, "controllers", list)()
    if running:
        yield ok("controller", f"{', '.join(running)} share the models")
        return
    try:
        with exclusive(pipeline.settings.state_dir):
            pass
    except Refused as refused:
        yield ok("controller", str(refused))
    else:
        yield Finding("controller", "warning", "none runs, so nobody watches", "start one: autoretrain run")
