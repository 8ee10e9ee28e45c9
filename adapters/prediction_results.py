"""What a prediction run left, read without trust and kept as a Parquet file.

The files were written by a model's code, so they may be anything: links, pipes, pickles, numbers without
end. They are opened without following links, their sizes are compared with what the rows ask for before
anything is read, and NumPy's format unpacks nothing. What passes is written anew by the controller; from then
on only that file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..ports.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

_MOST_JSON_BYTES = 4 << 20
_LONGEST_NAME = 200
_MOST_CLASSES = 10_000
_LONGEST_WORDS = 500
_MOST_SECONDS = 1e9
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unusable(Exception):
    """The result is none, in words that follow the name of the version."""


def words_of_a_stranger(text: str) -> str:
    """Make text from a model fit for an error, a ledger and a terminal: one line, printable, not long."""
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return line if len(line) <= _LONGEST_WORDS else line[: _LONGEST_WORDS - 1] + "…"


def failure(folder: Path) -> str:
    """Say what a run that failed has to say for itself.

    Args:
        folder: The run's own directory.

    Returns:
        Its reason, fit to be shown; empty when it left none.
    """
    try:
        said = _outcome(folder).get("error", "")
    except Unusable:
        return ""
    return words_of_a_stranger(said) if isinstance(said, str) else ""


def keep(folder: Path, path: Path, rows: int) -> dict[str, Any]:
    """Check the result of a run that has ended, and write it as a Parquet file.

    Args:
        folder: The run's own directory.
        path: The Parquet file to write; column ``prediction``, and ``score:<class>`` for each class.
        rows: How many rows were to be predicted.

    Returns:
        Number of rows, whether there are scores, SHA-256 of the file, and the seconds that the run says it
        took to load and to predict; ``None`` where it says nothing that can be.

    Raises:
        Unusable: There is no result, or it is not one finite number, truth value or short text a row.
        OSError: The file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "mlflow") from error
    outcome = _outcome(folder)
    names = _classes(outcome)
    columns = {"prediction": _read(folder, "result.npy", "prediction", (rows,), "biufU")}
    if names:
        scores = _read(folder, "result.scores.npy", "score", (rows, len(names)), "f")
        columns |= {f"score:{name}": scores[:, place] for place, name in enumerate(names)}
    for name, values in columns.items():
        _check_finite(name, values)
    try:
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
    except (pa.ArrowException, ValueError) as error:
        raise Unusable(f"its predictions cannot be kept: {words_of_a_stranger(str(error))}") from None
    digest = _replace(path, lambda scratch: parquet.write_table(table, scratch))
    seconds = {name: _seconds(outcome.get(name)) for name in ("load_seconds", "predict_seconds")}
    return {"rows": rows, "scored": bool(names), "sha256": digest, **seconds}


def _seconds(said: object) -> float | None:
    known = isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said < _MOST_SECONDS
    return float(said) if known else None  # type: ignore[arg-type]


def _outcome(folder: Path) -> dict[str, Any]:
    with _opened(folder, "result.json") as file:
        text = file.read(_MOST_JSON_BYTES + 1)
    if len(text) > _MOST_JSON_BYTES:
        raise Unusable("its result.json is longer than any result")
    try:
        outcome = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"its result.json cannot be read: {words_of_a_stranger(str(error))}") from None
    if not isinstance(outcome, dict):
        raise Unusable("its result.json is no result")
    return outcome


def _classes(outcome: dict[str, Any]) -> list[str]:
    names = outcome.get("classes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unusable("its names of classes are no texts")
    if len(names) > _MOST_CLASSES:
        raise Unusable(f"it has scores of {len(names)} classes; the most are {_MOST_CLASSES}")
    if any(len(name) > _LONGEST_NAME for name in names):
        raise Unusable(f"a class has a name of more than {_LONGEST_NAME} characters")
    if len(set(names)) != len(names):
        raise Unusable("two classes have one name")
    return names


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a regular file in the run's directory, and nothing that a link or a pipe would lead to."""
    try:
        directory = os.open(folder, _OPEN | os.O_DIRECTORY)
        try:
            descriptor = os.open(name, _OPEN, dir_fd=directory)
        finally:
            os.close(directory)
    except FileNotFoundError:
        raise Unusable(f"it left no {name}") from None
    except OSError as error:
        raise Unusable(f"its {name} is no file that can be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unusable(f"its {name} is no regular file")
    with open(descriptor, "rb") as file:
        yield file


def _read(folder: Path, name: str, what: str, shape: tuple[int, ...], kinds: str) -> Array:
    """Read an array of known shape, after its header and its size have agreed."""
    import numpy as np

    with _opened(folder, name) as file:
        found, fortran, dtype = _header(file, name)
        if found != shape:
            raise Unusable(_other_shape(what, found, shape))
        if dtype.kind not in kinds or not dtype.isnative:
            raise Unusable(f"a {what} is of type {words_of_a_stranger(str(dtype))}: want {_WANTED[what]}")
        if dtype.kind == "U" and dtype.itemsize > 4 * _LONGEST_NAME:
            raise Unusable(f"a predicted text is longer than {_LONGEST_NAME} characters")
        count = int(np.prod(shape))
        if fortran or os.fstat(file.fileno()).st_size - file.tell() != count * dtype.itemsize:
            raise Unusable(f"its {name} does not hold what it says")
        return np.fromfile(file, dtype, count).reshape(shape)


_WANTED = {"prediction": "numbers, truth values or text", "score": "numbers"}


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as numpy_format

    try:
        if numpy_format.read_magic(file) != (1, 0):
            raise ValueError("another version of the format")
        return numpy_format.read_array_header_1_0(file)
    except Exception as error:  # its parser lets several kinds pass for a header that was made up
        raise Unusable(f"its {name} cannot be read: {words_of_a_stranger(str(error))}") from None


def _other_shape(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(found) == len(wanted) == 1:
        return f"the model returned {found[0]} predictions for {wanted[0]} rows"
    return f"the model returned {what}s of the shape {found}, not {wanted}"


def _check_finite(name: str, values: Array) -> None:
    import numpy as np

    bad = int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0
    if bad:
        raise Unusable(f"{bad} of {len(values)} values in the column {name!r} are not finite")


def _replace(path: Path, write: Callable[[Path], object]) -> str:
    scratch = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    write(scratch)
    with scratch.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    os.replace(scratch, path)
    return digest
