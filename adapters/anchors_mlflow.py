"""Anchors on an MLflow server: one run an anchor, its line in tags, in an experiment of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..ports.errors import Overtaken, Permanent
from .mlflow_client import MlflowConnection

if TYPE_CHECKING:
    from mlflow.entities import Run

TAG_NUMBER = "autoretrain.anchor"
_TAG_PARTS = "autoretrain.anchor.parts"
_PART = 5000  # characters of a tag; every MLflow takes so many
_TAGS_A_REQUEST = 100
_RUNS_A_PAGE = 100


class MlflowAnchors:
    """Implements ``AnchorKeeper``: runs named ``anchor-000001`` and so on.

    A run counts once it is finished, which is after its last tag: a crash leaves one behind that does not.

    Args:
        tracking_uri: Address of MLflow.
        experiment: Name of the experiment; made when it is missing.
    """

    def __init__(self, tracking_uri: str, *, experiment: str) -> None:
        self._connection = MlflowConnection(tracking_uri)
        self._experiment = experiment

    def keep(self, number: int, text: str) -> None:
        """Make a finished run of an anchor; see ``AnchorKeeper.keep``."""
        with self._connection.errors(f"keeping anchor {number}"):
            last = self._last()
            if last is not None and _text(last) == text:
                return
            before = _number(last)
            if before != number - 1:
                raise Overtaken(f"MLflow's last anchor is {before}; {number} does not follow it")
            self._write(number, text)

    def latest(self) -> str | None:
        """The anchor of the highest number; ``None`` when there is none."""
        with self._connection.errors("reading the latest anchor"):
            last = self._last()
            return None if last is None else _text(last)

    def kept(self) -> Iterator[str]:
        """All anchors, oldest first, page by page."""
        with self._connection.errors("reading the anchors"):
            for run in self._runs("ASC"):
                yield _text(run)

    def _write(self, number: int, text: str) -> None:
        from mlflow.entities import RunTag

        client = self._connection.client
        parts = [text[start : start + _PART] for start in range(0, len(text), _PART)]
        tags = {TAG_NUMBER: f"{number:012d}", _TAG_PARTS: str(len(parts))}
        experiment = self._experiment_id() or client.create_experiment(self._experiment)
        run_id = client.create_run(experiment, tags=tags, run_name=f"anchor-{number:06d}").info.run_id
        pairs = [RunTag(_part(place), part) for place, part in enumerate(parts)]
        for start in range(0, len(pairs), _TAGS_A_REQUEST):
            client.log_batch(run_id, tags=pairs[start : start + _TAGS_A_REQUEST])
        client.set_terminated(run_id, "FINISHED")

    def _experiment_id(self) -> str | None:
        """The experiment; ``None`` before it is made."""
        found = self._connection.client.get_experiment_by_name(self._experiment)
        if found is not None and found.lifecycle_stage != "active":
            raise Permanent(f"MLflow's experiment {self._experiment!r} was deleted: restore it")
        return None if found is None else str(found.experiment_id)

    def _last(self) -> Run | None:
        return next(self._runs("DESC", page=1), None)

    def _runs(self, order: str, page: int = _RUNS_A_PAGE) -> Iterator[Run]:
        experiment, token = self._experiment_id(), None
        while experiment is not None:
            found = self._connection.client.search_runs(
                [experiment],
                f"tags.`{TAG_NUMBER}` != '' AND attributes.status = 'FINISHED'",
                max_results=page,
                order_by=[f"tags.`{TAG_NUMBER}` {order}", "attributes.start_time ASC"],
                page_token=token,
            )
            yield from found
            token = found.token
            if not token:
                return


def _part(place: int) -> str:
    return f"{TAG_NUMBER}.{place:04d}"


def _text(run: Run) -> str:
    """The line, as far as its tags are there."""
    tags = run.data.tags
    try:
        count = int(tags[_TAG_PARTS])
    except (KeyError, ValueError):
        count = 0
    return "".join(tags.get(_part(place), "") for place in range(count))


def _number(run: Run | None) -> int:
    """Its number by its own line; the tag is only for the order."""
    if run is None:
        return 0
    try:
        return int(json.loads(_text(run))["number"])
    except (ValueError, TypeError, KeyError):
        raise Permanent(f"MLflow's last anchor (run {run.info.run_id}) was altered") from None
