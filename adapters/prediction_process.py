"""The program of a prediction run: load a logged model, predict the rows of a file, write what came out.

It is started as a file, by whatever interpreter holds the model's libraries, and so imports nothing of this
package. ``python prediction_process.py MODEL FEATURES OUTPUT`` reads the artefact in the directory ``MODEL``
and the Parquet file ``FEATURES``. It writes

=====================  ================================================================================
``OUTPUT.npy``         one prediction a row: truth values, numbers or short text
``OUTPUT.scores.npy``  one line a row, one column a class, where the model gives probabilities
``OUTPUT.json``        names of the classes, seconds taken, or what went wrong; written last
=====================  ================================================================================

NumPy's format, since its reader has nothing to unpack: a file that a hostile model forged costs no more
memory than it has bytes.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import pandas as pd

_FEW_ROWS = 8
_SHOWN_COLUMNS = 10
_LONGEST_TEXT = 200
_LONGEST_WORDS = 500


class ModelError(Exception):
    """What a model did wrong, in words for a person."""


def main(model: Path, features: Path, output: Path) -> int:
    """Predict, and report.

    Args:
        model: Directory of the artefact.
        features: Parquet file of the rows, with nothing but features.
        output: Path of the results without suffix.

    Returns:
        Exit status: 0 when all rows were predicted.
    """
    sys.dont_write_bytecode = True  # the artefact may bring code, and stays as it is
    try:
        outcome = run(model, features, output)
    except Exception as error:  # the model is foreign code: whatever it raises is its answer
        traceback.print_exc()
        outcome = {"error": _words(error)}
    _replace(output.with_suffix(".json"), lambda path: path.write_text(json.dumps(outcome)))
    return 1 if "error" in outcome else 0


def run(model: Path, features: Path, output: Path) -> dict[str, Any]:
    """Load, try on a few rows, predict and write.

    Returns:
        Number of rows, type of the predictions, whether there are class scores, names of the classes, and
        the seconds that loading and predicting took.

    Raises:
        ModelError: The model cannot be loaded, or fails on the rows.
    """
    import pyarrow.parquet as parquet

    rows = parquet.read_table(features).to_pandas()
    begun = time.perf_counter()
    try:
        estimator = load(model)
    except Exception as error:
        raise ModelError(f"the model cannot be loaded: {_words(error)}") from error
    loaded = time.perf_counter()
    try:
        _predicted(estimator, rows.head(_FEW_ROWS))  # a model that fails does so before hours are spent
        warm = time.perf_counter()
        predicted = _predicted(estimator, rows)
        done = time.perf_counter()
        classes, scores = _scores(estimator, rows)
    except Exception as error:
        raise ModelError(f"the model failed on the rows: {_words(error)}{_nulls(rows)}") from error
    _write(predicted, output.with_suffix(".npy"))
    if classes:
        _write(scores, output.with_suffix(".scores.npy"))
    return {
        "rows": len(predicted),
        "dtype": str(predicted.dtype),
        "scored": bool(classes),
        "classes": classes,
        "load_seconds": loaded - begun,
        "predict_seconds": done - warm,
    }


def _predicted(estimator: Any, rows: pd.DataFrame) -> Any:
    return plain(_one_column(estimator.predict(rows)))


def load(directory: Path) -> Any:
    """Load a logged model: scikit-learn's flavour by itself, any other through MLflow, which takes seconds.

    Args:
        directory: Directory of the artefact.

    Returns:
        An object with ``predict`` and, where the flavour gives it away, ``predict_proba``.
    """
    import yaml

    flavours = yaml.safe_load((directory / "MLmodel").read_text())["flavors"]
    _without_bytecode(directory)
    if "sklearn" in flavours:
        return _load_sklearn(directory, flavours["sklearn"])
    return _load_through_mlflow(directory)


def _load_sklearn(directory: Path, flavour: dict[str, Any]) -> Any:
    if flavour.get("code"):
        sys.path.insert(0, str(_inside(directory, flavour["code"])))
    file = _inside(directory, flavour["pickled_model"])
    if flavour.get("serialization_format") == "skops":
        import skops.io

        return skops.io.load(file, trusted=flavour.get("skops_trusted_types"))
    with file.open("rb") as stream:
        return pickle.load(stream)  # noqa: S301 - running the model is what this process is for


def _inside(directory: Path, name: str) -> Path:
    """The path of a part of the artefact. What lies elsewhere is not in the digest, and is not loaded."""
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ModelError(f"MLmodel names a file outside of the artefact: {name}")
    return path


class _SourceAlone(SourceFileLoader):
    """Loads modules from their source, never from compiled files beside it."""

    def path_stats(self, path: str) -> NoReturn:
        raise OSError(path)  # how an importer is told that there is nothing compiled


def _without_bytecode(directory: Path) -> None:
    """Let nothing in ``__pycache__`` be run: the digest leaves it out, since Python writes there itself."""
    loaders = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (_SourceAlone, [".py"]))

    def hook(path: str) -> FileFinder:
        if not Path(path).resolve().is_relative_to(directory.resolve()):
            raise ImportError
        return FileFinder(path, *loaders)

    sys.path_hooks.insert(0, hook)


def _load_through_mlflow(directory: Path) -> Any:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(directory))
    try:
        raw = model.get_raw_model()
    except NotImplementedError:
        return model
    # A pyfunc model gives classes only; the model within may give their probabilities.
    return raw if hasattr(raw, "predict_proba") else model


def _one_column(predicted: Any) -> Any:
    import numpy as np

    values = np.asarray(predicted)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise ModelError(f"one prediction a row is needed, and the model returned the shape {values.shape}")
    return values


def plain(values: Any) -> Any:
    """Predictions as truth values, numbers or text of a fixed width.

    Raises:
        ModelError: They are something else, too long a text, or missing.
    """
    import numpy as np
    import pyarrow as pa

    kind: Any = values.dtype
    if values.dtype.hasobject:
        column = pa.array(values, from_pandas=True)
        if column.null_count:
            raise ModelError(f"{column.null_count} of {len(column)} predictions are missing, so not finite")
        kind, values = column.type, column.to_numpy(zero_copy_only=False)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            values = values.astype("U")
        if pa.types.is_decimal(column.type):
            values = values.astype("f8")
    if values.dtype.kind not in "biufU":
        raise ModelError(f"the predictions are of type {kind}: want numbers, truth values or text")
    if values.dtype.kind == "U" and values.dtype.itemsize > 4 * _LONGEST_TEXT:
        raise ModelError(f"a predicted text is longer than {_LONGEST_TEXT} characters")
    # Half and extended precision are not for every reader.
    return values.astype("f8") if values.dtype.kind == "f" and values.dtype != np.float32 else values


def _scores(estimator: Any, rows: pd.DataFrame) -> tuple[list[str], Any]:
    import numpy as np

    # Absent without probabilities, such as an SVM without calibration; then AttributeError is sklearn's way.
    scorer = getattr(estimator, "predict_proba", None)
    classes = getattr(estimator, "classes_", None)
    if scorer is None or classes is None:
        return [], None
    scores = scorer(rows)
    if getattr(scores, "ndim", 0) != 2:
        return [], None  # several outputs
    names = [f"{name}" for name in classes]
    return names, np.ascontiguousarray(np.asarray(scores)[:, : len(names)], dtype="f8")


def _write(values: Any, path: Path) -> None:
    import numpy as np

    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)

    _replace(path, write)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    write(scratch)
    os.replace(scratch, path)


def _nulls(rows: pd.DataFrame) -> str:
    counts = rows.isna().sum()
    found = [f"{column} {count}" for column, count in counts.items() if count]
    if not found:
        return ""
    more = f" and {len(found) - _SHOWN_COLUMNS} more" if len(found) > _SHOWN_COLUMNS else ""
    return f" (nulls by column: {', '.join(found[:_SHOWN_COLUMNS])}{more})"


def _words(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), "")[:_LONGEST_WORDS]
    if isinstance(error, ModelError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    status = main(*(Path(argument) for argument in sys.argv[1:4]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is written: a library that fails while it is taken down changes nothing
