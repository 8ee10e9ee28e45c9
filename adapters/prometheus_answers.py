"""What a server of Prometheus' HTTP API has answered to a range query."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..ports.credentials import without_credentials

Points = list[tuple[float, float]]
"""Time in seconds since the epoch, and value; ascending in time."""


class UnusableAnswer(Exception):
    """The server answered, and nothing can be made of it; the text is the reason."""


class TooLarge(UnusableAnswer):
    """The answer was not read to its end."""


def result_of(body: bytes) -> list[Any]:
    """The series of a successful and complete answer.

    Raises:
        UnusableAnswer: It is malformed, says that it failed, or may be partial.
    """
    try:
        answer = json.loads(body)
        if answer["status"] != "success" or answer["data"]["resultType"] != "matrix":
            raise UnusableAnswer("the answer of Prometheus is not a range of samples")
        warnings, result = answer.get("warnings"), answer["data"]["result"]
        partial = answer.get("isPartial")  # VictoriaMetrics, where a storage node is away
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        page = ": a web page; prometheus.url leads to something else" if body.lstrip()[:1] == b"<" else ""
        raise UnusableAnswer(f"the answer of Prometheus is malformed{page}") from None
    if warnings:
        raise UnusableAnswer(f"the answer of Prometheus may be partial: {_shortened(str(warnings))}")
    if partial:
        raise UnusableAnswer("the answer of Prometheus is partial: it could not ask all its stores")
    if not isinstance(result, list):
        raise UnusableAnswer("the answer of Prometheus is malformed")
    return result


def series_by_label(result: Sequence[Any], label: str) -> dict[str, Points | str]:
    """Points by the value of a label, or why it has none.

    Raises:
        UnusableAnswer: A series is no series, or has no such label.
    """
    found: dict[str, Points | str] = {}
    for series in result:
        try:
            model = series["metric"].get(label)
        except (LookupError, TypeError, AttributeError):
            raise UnusableAnswer("the answer of Prometheus is malformed") from None
        if not isinstance(model, str):
            raise UnusableAnswer(f"the answer of Prometheus has a series without the label {label!r}")
        found[model] = "Prometheus has several series for this model" if model in found else _points(series)
    return found


def _points(series: Mapping[str, Any]) -> Points | str:
    if "histograms" in series:
        return "Prometheus has histograms for this model, not numbers"
    try:
        return [(float(at), float(value)) for at, value in series["values"]]
    except (LookupError, TypeError, ValueError, OverflowError):
        return "the series of this model is malformed"


def error_text(body: bytes) -> str:
    """What Prometheus says about an error; nothing of a body that is not its own."""
    try:
        text = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f": {_shortened(str(text))}"


def _shortened(text: str, limit: int = 300) -> str:
    text = without_credentials(text)  # before the cut, which may leave half an address
    return text if len(text) <= limit else text[: limit - 1] + "…"
