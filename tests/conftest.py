"""What holds for every test: the Hypothesis profiles, and nothing left running."""

import os
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from postgres_server import Postgres

settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("AUTORETRAIN_REQUIRE_SERVICES") == "1" else "dev")

MARK = "AUTORETRAIN_TEST_SESSION"


def _started_by(mark: str) -> Iterator[str]:
    """Command lines of our descendants, and of processes that outlived their parent but carry our mark."""
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            marked = process.pid in ours or process.environ().get(MARK) == mark
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue  # ended meanwhile, or another user's
        # A zombie has no command line. Python's own tracker of shared memory ends with the interpreter.
        if marked and command and "resource_tracker" not in command:
            yield f"{process.pid}: {command[:200]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first: begun last, it would keep one worker busy long after the others."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Fail the session when a test leaves a process behind, also one that was detached from us."""
    mark = os.environ[MARK] = uuid.uuid4().hex
    yield
    deadline = time.monotonic() + 5  # what has just recorded its end may need a moment to be gone
    while (left := sorted(_started_by(mark))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "left running:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A PostgreSQL server, careless about its disk; every test takes a schema of its own."""
    from postgres_server import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: "Postgres") -> Iterator[int]:
    """The port of PgBouncer, in transaction mode, before that server."""
    from postgres_server import running_pgbouncer

    with running_pgbouncer(postgres) as port:
        yield port
