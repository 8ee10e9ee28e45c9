"""Slack away for a day: the real controller, ledger and adapter, and a real server; only time is played."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from local_http import LocalServer, Reply, Request, local_server

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.notifier_slack import SlackNotifier
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.fold import fold
from autoretrain.domain.notices import notices_of
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.testing import Training, World
from autoretrain.ports.outbox import Backlog

MODELS = [f"boiler-{n}" for n in range(6)]
SECRET = "s3cr3t"

_AWAY = [
    Reply(503, b"maintenance"),
    Reply(closes=True),
    Reply(429, b"rate_limited", {"Retry-After": "120"}),
    Reply(200, b"<html>the proxy asks you to log in</html>"),
    Reply(500, b"", {"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}),
]


@pytest.fixture
def slack() -> Iterator[LocalServer]:
    with local_server() as server:
        yield server


def fleet() -> dict[str, ModelSpec]:
    """Models that are retrained every hour or so, and fail."""
    trigger = TriggerConfig(evaluation_window_days=10, training_window_days=30)
    common: dict[str, Any] = {
        "trigger": trigger,
        "min_rows": 10,
        "min_holdout_rows": 10,
        "cooldown_hours": 1.0,
    }
    return {
        name: ModelSpec(name=name, training=TrainingSpec(command=("train",)), **common) for name in MODELS
    }


def ids_of(ledger: SqliteLedger) -> list[str]:
    """Identities of all notices that the ledger calls for."""
    found = []
    for model in ledger.models():
        state = ModelState(model)
        for entry in ledger.read(model):
            found += [notice.id for notice in notices_of(state, [entry])]
            state = fold(model, [entry], state)
    return found


def shown(request: Request) -> list[str]:
    """Identities in a message, as often as a reader sees them."""
    blocks = json.dumps(json.loads(request.body)["blocks"])
    return re.findall(r"\b[0-9a-f]{32}\b", blocks)


def test_slack_away_for_a_day_loses_nothing(tmp_path: Path, slack: LocalServer) -> None:
    world = World(fleet())
    taken: list[list[str]] = []
    back = world.now + timedelta(days=1)

    def answer(request: Request) -> Reply:
        if world.now < back:
            return _AWAY[len(slack.requests) * len(_AWAY) // 600 % len(_AWAY)]
        taken.append(shown(request))
        return Reply(200, b"ok")

    slack.answer = answer
    with closing(SqliteLedger(tmp_path / "ledger.db", clock=world.clock)) as ledger:
        notifier = SlackNotifier(f"{slack.url}/services/{SECRET}", timeout=2)
        ports = replace(world.ports(), ledger=ledger, agenda=ledger, outbox=ledger, notifier=notifier)
        for model in MODELS:
            world.serve(model, boundary=0.6)
            world.metrics.set(model, "accuracy", 0.5)
            world.training[model] = Training("fails")
        controller = Controller(ports, world.fleet, "one", monotonic=world.clock)
        controller.enrol(MODELS, world.now)

        while world.now < back + timedelta(minutes=65):
            if world.now == back - timedelta(hours=3):
                world.move_alias("boiler-3", None)  # a conflict: somebody must know
            for model in MODELS:
                world.add_rows(model)
            controller.tick(world.now)
            if world.now.hour == 12 and world.now.minute == 0:  # restarted in the middle of it
                controller = Controller(ports, world.fleet, "one", monotonic=world.clock)
            world.now += timedelta(minutes=1)

        told = ids_of(ledger)
        assert len(told) > 200
        assert ledger.counts() == Backlog(0, 0)
    arrived = [notice_id for message in taken for notice_id in message]
    assert set(told) <= set(arrived)
    # A digest shows an identity of its own besides those of its notices.
    assert len(arrived) - len(set(told)) == len([message for message in taken if len(message) > 1])
    assert len(slack.requests) < 24 * 60 + 100
    (first, *_) = (message for message in taken if len(message) > 1)
    conflict = _conflict(tmp_path)
    assert first[0] == conflict, "the critical one is not at the top"
    assert len(taken) < 25


def _conflict(folder: Path) -> str:
    with closing(SqliteLedger(folder / "ledger.db")) as ledger:
        state = ModelState("boiler-3")
        for entry in ledger.read("boiler-3"):
            if entry.kind == "champion.conflict":
                return notices_of(state, [entry])[0].id
            state = fold("boiler-3", [entry], state)
    raise AssertionError("there was no conflict")
