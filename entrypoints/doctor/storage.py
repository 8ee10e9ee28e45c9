"""Object storage: each permission by doing what it allows."""

from __future__ import annotations

from collections.abc import Iterator

from ...adapters.object_store import PROBE
from ...ports.errors import Temporary
from ..container import build_object_store
from ..pipeline import AutoRetrainPipeline
from .finding import Finding, ok

_STORE_FIX = "see docs/object_storage.md: what the bucket has to allow"


def storage(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Write, read, list and delete a small object, each by the permission that it takes."""
    store = build_object_store(pipeline.settings)
    if store is None:
        yield ok("storage", "snapshots and predictions stay on this machine; storage.url is for others")
        return
    faults = {permission: fault for permission, fault in store.examine() if fault is not None}
    undeleted = faults.pop("s3:DeleteObject", None)
    for text, fault in {str(fault): fault for fault in faults.values()}.items():
        away = isinstance(fault, Temporary)
        yield Finding("storage", "problem", text, "" if away else _STORE_FIX)
    if undeleted is not None and not faults:
        text = f"{store.url}/{PROBE} stays: nothing may be deleted there"
        yield Finding(
            "storage", "warning", text, "nothing needs it; s3:DeleteObject would let it be tidied up"
        )
    elif not faults:
        yield ok("storage", f"{store.url}: can be written, read and listed")
