"""The program of a prediction run: load a logged model, predict the rows of a file, write what came out.

It is started as a file, by whatever interpreter holds the model's libraries, and so imports nothing of this
package. ``python prediction_process.py MODEL FEATURES OUTPUT`` reads the artefact in the directory ``MODEL``
and the Parquet file ``FEATURES``. It writes ``OUTPUT.parquet`` (column ``prediction``, and a column
``score:<class>`` for each class where the model gives probabilities) and then ``OUTPUT.json``, which says
what is in it, or what went wrong. Both appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_COLUMNS = 10


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
        outcome = run(model, features, output.with_suffix(".parquet"))
    except Exception as error:  # the model is foreign code: whatever it raises is its answer
        traceback.print_exc()
        outcome = {"error": _words(error)}
    _replace(output.with_suffix(".json"), lambda path: path.write_text(json.dumps(outcome)))
    return 1 if "error" in outcome else 0


def run(model: Path, features: Path, predictions: Path) -> dict[str, Any]:
    """Load, predict and write.

    Returns:
        Number of rows, type of the predictions, whether there are class scores, digest of the file.

    Raises:
        ModelError: The model cannot be loaded, or fails on the rows.
    """
    import pyarrow.parquet as parquet

    rows = parquet.read_table(features).to_pandas()
    try:
        estimator = load(model)
    except Exception as error:
        raise ModelError(f"the model cannot be loaded: {_words(error)}") from error
    try:
        columns = {"prediction": _one_column(estimator.predict(rows)), **_scores(estimator, rows)}
    except Exception as error:
        raise ModelError(f"the model failed on the rows: {_words(error)}{_nulls(rows)}") from error
    digest = _write(columns, predictions)
    predicted = columns["prediction"]
    return {
        "rows": len(predicted),
        "dtype": str(predicted.dtype),
        "scored": len(columns) > 1,
        "sha256": digest,
    }


def load(directory: Path) -> Any:
    """Load a logged model: scikit-learn's flavour by itself, any other through MLflow, which takes seconds.

    Args:
        directory: Directory of the artefact.

    Returns:
        An object with ``predict`` and, where the flavour gives it away, ``predict_proba``.
    """
    import yaml

    flavours = yaml.safe_load((directory / "MLmodel").read_text())["flavors"]
    if "sklearn" in flavours:
        return _load_sklearn(directory, flavours["sklearn"])
    return _load_through_mlflow(directory)


def _load_sklearn(directory: Path, flavour: dict[str, Any]) -> Any:
    if flavour.get("code"):
        sys.path.insert(0, str(directory / flavour["code"]))
    file = directory / flavour["pickled_model"]
    if flavour.get("serialization_format") == "skops":
        import skops.io

        return skops.io.load(file, trusted=flavour.get("skops_trusted_types"))
    with file.open("rb") as stream:
        return pickle.load(stream)  # noqa: S301 - running the model is what this process is for


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


def _scores(estimator: Any, rows: pd.DataFrame) -> dict[str, Any]:
    # Absent without probabilities, such as an SVM without calibration; then AttributeError is sklearn's way.
    scorer = getattr(estimator, "predict_proba", None)
    classes = getattr(estimator, "classes_", None)
    if scorer is None or classes is None:
        return {}
    scores = scorer(rows)
    if getattr(scores, "ndim", 0) != 2:
        return {}  # several outputs
    return {f"score:{name}": scores[:, place] for place, name in enumerate(classes)}


def _write(columns: dict[str, Any], path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    _replace(path, lambda scratch: parquet.write_table(table, scratch))
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, ModelError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:4])))
