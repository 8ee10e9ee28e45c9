"""Every line of the log that is about a model, a job or a run says so, whoever writes it."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from autoretrain.adapters.memory import MemoryCompute
from autoretrain.domain.controller import Controller
from autoretrain.domain.log_context import about_model, bound
from autoretrain.domain.requests import ask_start
from autoretrain.entrypoints.structured_logs import IdsFilter
from autoretrain.entrypoints.testing import Training, World
from autoretrain.ports.compute import RunRequest, RunStatus

_library = logging.getLogger("some.library")


class Chatty(MemoryCompute):
    """A backend whose library logs, knowing nothing of jobs."""

    def submit(self, run: RunRequest) -> None:
        _library.warning("submitting")
        super().submit(run)

    def observe(self, key: str) -> RunStatus:
        _library.warning("observing")
        return super().observe(key)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger="autoretrain")  # a command that ran in this process has set it
    ids = IdsFilter()
    caplog.handler.addFilter(ids)
    yield caplog
    caplog.handler.removeFilter(ids)


def ids_of(record: logging.LogRecord) -> tuple[str | None, ...]:
    return tuple(getattr(record, name, None) for name in ("model", "job", "run"))


def test_lines_of_a_step_hold_model_job_and_run(lines: pytest.LogCaptureFixture) -> None:
    world = World()
    ports = replace(world.ports(), compute=Chatty(world._run))
    for model in world.fleet:
        world.serve(model, boundary=0.5)
    world.training["churn"] = Training("hangs")
    controller = Controller(ports, world.fleet, "one", monotonic=world.clock)
    controller.enrol(world.fleet, world.now)
    draft = controller.request("churn", lambda state: ask_start(state, "ann", {}, "a sensor"), world.now)
    job_id = draft.data["job_id"]
    lines.clear()
    controller.tick(world.now)

    said = [(record.name, record.getMessage(), ids_of(record)) for record in lines.records]
    recorded = {text: ids for name, text, ids in said if name != "some.library"}
    assert recorded["recorded champion.adopted"] == ("fraud", None, None)
    assert recorded["recorded job.opened: a sensor"] == ("churn", job_id, None)
    run = f"{job_id}/train/1"
    assert recorded["recorded run.intended"] == ("churn", job_id, run)
    library = [(text, ids) for name, text, ids in said if name == "some.library"]
    assert library == [("submitting", ("churn", job_id, run)), ("observing", ("churn", job_id, run))]


def test_ids_hold_for_the_block_and_the_thread_alone() -> None:
    with about_model("heat"), ThreadPoolExecutor(1) as pool:
        assert bound() == {"model": "heat"}
        assert pool.submit(bound).result() == {}
        with about_model("steam"):
            assert bound() == {"model": "steam"}
        assert bound() == {"model": "heat"}
    assert bound() == {}


def test_a_line_may_say_itself_what_it_is_about(lines: pytest.LogCaptureFixture) -> None:
    with about_model("heat"):
        _library.warning("a line", extra={"model": "steam", "job": "7"})
    assert ids_of(lines.records[-1]) == ("steam", "7", None)
