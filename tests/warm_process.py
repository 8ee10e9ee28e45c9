"""A process that has imported everything and opened nothing, and forks one child for each piece of work.

Importing MLflow and scikit-learn takes seconds, a fork milliseconds. ``python warm_process.py serve SOCKET
MODULE`` imports ``MODULE`` and then answers on a socket: whoever asks names a function of it and its
arguments, and gets what became of the child: its exit status, or minus the signal that ended it. The child
has the caller's environment and directory, and dies with it. The server ends when its standard input does.

``python warm_process.py ask SOCKET FUNCTION ARGUMENT...`` asks from a shell. Only the standard library is
imported here, so that asking costs nothing.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LEARN = "WARM_PROCESS_LEARN"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Warm:
    """A running server.

    Args:
        address: Its socket.
    """

    def __init__(self, address: Path) -> None:
        self.address = address

    def ask(self, function: str, *arguments: str) -> int:
        """Let a child do a piece of work, and wait for its end.

        Returns:
            Its exit status, negative when a signal ended it.
        """
        return ask(self.address, function, arguments, dict(os.environ), os.getcwd())

    def learn(self, work: Callable[[], None]) -> None:
        """Do some work, and import all that children had to import for it, so that no later one has to."""
        with tempfile.TemporaryDirectory() as folder:
            os.environ[_LEARN] = folder
            try:
                work()
            finally:
                del os.environ[_LEARN]
            self.ask(_LEARN, folder)


@contextmanager
def warm(module: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Warm]:
    """Run a server over a module of functions, for as long as the block lasts.

    Args:
        module: Name of one beside this file; its functions take text, and return an exit status or nothing.
        folder: Where its socket and its log are kept.
        environment: Variables of the server.
    """
    address = folder / "warm"
    command = [sys.executable, __file__, "serve", str(address), module]
    with (
        (folder / "warm.log").open("ab") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment, **_ONE_THREAD},
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            if server.stdout.readline() != b"warm\n":
                raise RuntimeError(f"it did not start: {(folder / 'warm.log').read_text()}")
            yield Warm(address)
        finally:
            server.stdin.close()
            server.stdout.close()


def ask(
    address: Path, function: str, arguments: tuple[str, ...], environment: dict[str, str], directory: str
) -> int:
    """Ask a server for a piece of work, and wait for its end."""
    order = {"function": function, "arguments": arguments, "environment": environment, "directory": directory}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(json.dumps(order).encode() + b"\n")
        answer = connection.makefile().readline()
    return int(answer or 1)


def serve(address: str, module: str) -> None:
    """Answer until the standard input ends."""
    functions = vars(importlib.import_module(module))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        print("warm", flush=True)
        while door in select.select([door, sys.stdin], [], [])[0]:
            connection, _ = door.accept()
            with connection, connection.makefile() as incoming:
                order = json.loads(incoming.readline() or "{}")
                if order.get("function") == _LEARN:
                    _learn(Path(*order["arguments"]))
                    connection.sendall(b"0\n")
                elif order and os.fork() == 0:
                    door.close()
                    os._exit(_answer(connection, functions[order["function"]], order))


def _learn(folder: Path) -> None:
    for name in sorted({name for file in folder.iterdir() for name in file.read_text().split()}):
        with contextlib.suppress(Exception):  # some can be imported in the place of their own only
            importlib.import_module(name)


def _answer(connection: socket.socket, function: Callable[..., int | None], order: Mapping[str, Any]) -> int:
    """Start the work, wait for its end or the caller's, and say what became of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        connection.close()
        os._exit(_work(function, order))
    ended = os.pidfd_open(worker)
    if ended not in select.select([connection.fileno(), ended], [], [])[0]:
        os.kill(worker, signal.SIGKILL)  # nothing but its end is ever sent by who asks
    _, status = os.waitpid(worker, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


def _work(function: Callable[..., int | None], order: Mapping[str, Any]) -> int:
    before = set(sys.modules)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    try:
        return function(*order["arguments"]) or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        if folder := os.environ.get(_LEARN):
            (Path(folder) / str(os.getpid())).write_text("\n".join(set(sys.modules) - before))
        sys.stderr.flush()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:4])
    else:
        environment = dict(os.environ)
        code = ask(Path(sys.argv[2]), sys.argv[3], tuple(sys.argv[4:]), environment, os.getcwd())
        sys.exit(code if code >= 0 else 128 - code)
