"""A CloudWatch that says what a test wants of it, in the protocol that boto3 speaks: AWS JSON 1.0.

moto holds metrics and answers well; what it never does (pages, partial data, throttling) is done here.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_http import LocalServer, Reply, Request, local_server

PROTOCOL = {"Content-Type": "application/x-amz-json-1.0"}


def asked(request: Request) -> dict[str, Any]:
    """The parameters of a call of GetMetricData."""
    assert request.headers["X-Amz-Target"] == "GraniteServiceVersion20100801.GetMetricData"
    parameters: dict[str, Any] = json.loads(request.body)
    for name in ("StartTime", "EndTime"):
        parameters[name] = datetime.fromtimestamp(parameters[name], UTC)
    return parameters


def series_of(query: Mapping[str, Any]) -> tuple[str, str, str]:
    """Model, metric and statistic that a query of a call asks for."""
    stat = query["MetricStat"]
    dimensions = {each["Name"]: each["Value"] for each in stat["Metric"]["Dimensions"]}
    return dimensions["model"], stat["Metric"]["MetricName"], stat["Stat"]


def result(
    number: int, points: Sequence[tuple[datetime, float]], status: str = "Complete", **more: Any
) -> Any:
    """What an answer says of the series of this number."""
    times = [at.timestamp() for at, _ in points]
    values = [value if math.isfinite(value) else str(value) for _, value in points]
    return {"Id": f"s{number}", "StatusCode": status, "Timestamps": times, "Values": values, **more}


def answer(*results: Any, **more: Any) -> Reply:
    """A page of an answer."""
    return Reply(200, json.dumps({"MetricDataResults": results, **more}).encode(), PROTOCOL)


def refusal(status: int, code: str, message: str = "", **headers: str) -> Reply:
    """An error of AWS."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"__type": f"com.amazonaws.cloudwatch#{code}", "message": message})
    return Reply(status, body.encode(), {**PROTOCOL, **named})


@dataclass
class CloudWatchServer:
    """Plays ``replies`` one after the other, and the last one from then on."""

    http: LocalServer
    replies: list[Reply | Callable[[dict[str, Any]], Reply]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [asked(request) for request in self.http.requests]

    def answer(self, request: Request) -> Reply:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply if isinstance(reply, Reply) else reply(asked(request))


@contextmanager
def cloudwatch_server() -> Iterator[CloudWatchServer]:
    """Run one; its address is that of a VPC endpoint."""
    with local_server() as http:
        server = CloudWatchServer(http)
        http.answer = server.answer
        yield server
