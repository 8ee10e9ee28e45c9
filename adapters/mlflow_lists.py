"""Registered models of MLflow by lists: one question for many names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .mlflow_client import quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FILTER_LENGTH = 2000
"""So many characters of names fit into an address whatever stands between us and the server."""


def chunks(names: Sequence[str]) -> Iterator[list[str]]:
    """Names that fit into one question each; one that no filter can hold is left out."""
    chunk: list[str] = []
    for name in names:
        if "'" in name and '"' in name:
            continue
        if chunk and sum(map(len, chunk)) + len(name) > _FILTER_LENGTH:
            yield chunk
            chunk = []
        chunk.append(name)
    if chunk:
        yield chunk


class Lists:
    """Asks for lists, as long as the server knows how to give them."""

    def __init__(self) -> None:
        self._known = True

    def of(self, client: MlflowClient, names: list[str]) -> Sequence[Any]:
        """Registered models by name, with their aliases.

        Args:
            client: Whom to ask.
            names: Few enough to fit into an address.

        Returns:
            Those that the server names. One that is missing may be there all the same: an empty answer, as
            of a proxy, looks like none.
        """
        from mlflow.exceptions import MlflowException

        if not self._known:
            return ()
        wanted = f"name IN ({', '.join(map(quoted, names))})"
        try:
            return list(client.search_registered_models(wanted, max_results=len(names)))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._known = False  # a server before lists of names
            return ()
