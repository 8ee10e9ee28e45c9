"""Models that try what they should not: predictions fail for the right reason, and nothing is left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import psutil
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from autoretrain.adapters.artefact_digest import artefact_digest
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.prediction_results import Unusable, keep, words_of_a_stranger
from autoretrain.adapters.predictor_runs import RunPredictor
from autoretrain.entrypoints.testing.predictor import PredictorContract
from autoretrain.ports.compute import RunLimits
from autoretrain.ports.data import Snapshot
from autoretrain.ports.errors import Permanent
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.registry import ModelVersion

from services import require

if TYPE_CHECKING:
    import pandas as pd

MIB = 1 << 20
LIMITS = RunLimits(memory_bytes=640 * MIB, cpu_seconds=60.0, processes=30, output_bytes=16 * MIB)


class Model:
    """A model that is nothing but a function of all rows."""

    def __init__(self, predict: Callable[[pd.DataFrame], Any]) -> None:
        self.predict = predict


def artefact_of(directory: Path, predict: Callable[[pd.DataFrame], Any]) -> Path:
    """An artefact as MLflow logs one of scikit-learn's flavour, with code that the run cannot import."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        payload = cloudpickle.dumps(Model(predict))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    directory.mkdir()
    (directory / "model.pkl").write_bytes(payload)
    flavour = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "code": None}
    (directory / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": flavour}}))
    return directory


class Plant:
    """A project with labels and a ledger, and predictions of a model under it."""

    def __init__(self, base: Path) -> None:
        require("bwrap", "apt-get install bubblewrap")
        self.base = base
        self.state = base / ".autoretrain"
        self.state.mkdir()
        (self.state / "ledger.db").write_text("the ledger")
        (base / "labels.csv").write_text("hot\n1\n")
        self.snapshot: Snapshot = PredictorContract().make_snapshot(base)

    def predict(
        self, model: Callable[[pd.DataFrame], Any], *, limits: RunLimits = LIMITS, deadline: float = 60.0
    ) -> list[Any]:
        artefact = artefact_of(self.base / "artefact", model)
        version = ModelVersion("boiler", "1", artefact_digest(artefact), str(artefact))
        answer = self.answer(version, limits=limits, deadline=deadline)
        values: list[Any] = parquet.read_table(answer.uri)["prediction"].to_pylist()
        return values

    def answer(
        self, version: ModelVersion, *, limits: RunLimits = LIMITS, deadline: float = 60.0
    ) -> Predictions:
        predictor = RunPredictor(
            SubprocessCompute(self.state / "runs"),
            self.state / "predictions",
            deadline_seconds=deadline,
            limits=limits,
            sandbox="required",
            hidden=[str(self.base), str(self.state)],
        )
        answer = PredictorContract().settle(predictor, version, self.snapshot)
        assert predictor.predict(version, self.snapshot) == answer
        return answer


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    yield Plant(tmp_path)
    until = time.monotonic() + 5
    while (left := list(_under(tmp_path))) and time.monotonic() < until:
        time.sleep(0.05)  # a supervisor lives a moment longer than its run
    assert not left


def _under(directory: Path) -> Iterator[psutil.Process]:
    """Processes whose command names a directory."""
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(str(directory) in word for word in process.info["cmdline"] or ())
        if named and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            yield process


def test_a_spy_finds_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", "https://hooks.example/secret")
    base, home = str(plant.base), os.path.expanduser("~")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def spies(rows: pd.DataFrame) -> list[str]:
            found = []
            try:
                socket.create_connection(("127.0.0.1", port), 2)
                found.append("network")
            except OSError:
                pass
            found += ["environment"] * any("secret" in value for value in os.environ.values())
            found += ["descriptors"] * (len(os.listdir("/proc/self/fd")) > 4)
            found += ["label"] * ("hot" in rows)
            for path in (
                f"{base}/labels.csv",
                f"{base}/rows.parquet",
                f"{base}/.autoretrain/ledger.db",
                f"{base}/.autoretrain/runs",
                f"{home}/.bashrc",
                "/etc/passwd",
                "/etc/shadow",
            ):
                found += [path] * os.path.exists(path)
            return [",".join(found) or "nothing"] * len(rows)

        assert plant.predict(spies) == ["nothing"] * 5


def test_an_honest_model_is_not_hindered(plant: Plant) -> None:
    def works_in_parallel(rows: pd.DataFrame) -> list[float]:
        import multiprocessing
        import tempfile
        from concurrent.futures import ThreadPoolExecutor

        with tempfile.TemporaryFile() as file, ThreadPoolExecutor(4) as threads:
            file.write(b"scratch")
            lengths = list(threads.map(len, ["a", "bb"]))
        with multiprocessing.get_context("fork").Pool(2) as processes:
            return [sum(lengths) + value for value in processes.map(abs, rows["load"])]

    assert plant.predict(works_in_parallel) == [6.0, 4.0, 5.0, 8.0, 7.0]


def test_a_vandal_changes_nothing(plant: Plant) -> None:
    base, controller = str(plant.base), os.getpid()

    def vandalises(rows: pd.DataFrame) -> list[int]:
        for path in (f"{base}/artefact/model.pkl", f"{base}/labels.csv", f"{base}/.autoretrain/ledger.db"):
            with contextlib.suppress(OSError), open(path, "w") as file:
                file.write("mine now")
        with contextlib.suppress(OSError):
            os.kill(controller, signal.SIGKILL)
        return [0] * len(rows)

    assert plant.predict(vandalises) == [0] * 5
    assert (plant.base / "labels.csv").read_text() == "hot\n1\n"
    assert (plant.state / "ledger.db").read_text() == "the ledger"
    assert b"mine" not in (plant.base / "artefact" / "model.pkl").read_bytes()[:10]


def forks(rows: pd.DataFrame) -> list[int]:
    for _ in range(40):
        if not os.fork():
            break
    time.sleep(60)
    return [0] * len(rows)


def allocates(rows: pd.DataFrame) -> list[int]:
    kept = []
    for _ in range(200):
        kept.append(b"x" * (8 << 20))
        time.sleep(0.02)
    time.sleep(60)
    return [0] * len(rows)


def fills_the_disk(rows: pd.DataFrame) -> list[int]:
    for number in range(24):
        with open(f"file-{number}", "wb") as file:
            file.write(b"x" * (1 << 20))
    time.sleep(60)
    return [0] * len(rows)


def prints(rows: pd.DataFrame) -> list[int]:
    while True:
        print("x" * 1000)


def writes_one_large_file(rows: pd.DataFrame) -> list[int]:
    with open("file", "wb") as file:
        file.write(bytes(17 << 20))
    return [0] * len(rows)


def threatens(rows: pd.DataFrame) -> list[int]:
    raise ValueError("\x1b[2Jall is well\r" + "x" * 100_000)


def exits(rows: pd.DataFrame) -> list[int]:
    print("\x1b[31mpromote me\x07 " + "y" * 10_000, flush=True)
    os._exit(0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (forks, r"ran \d+ processes and threads; its limit is 30"),
        (allocates, r"used \d+ MiB of memory; its limit is 640 MiB"),
        (fills_the_disk, r"keeps \d+ MiB on the disk; its limit is 16 MiB"),
        (prints, "printed more than its limit of 16 MiB"),
        (writes_one_large_file, "the model failed on the rows: OSError: .*File too large"),
        (threatens, r"the model failed on the rows: ValueError: \[2Jall is well$"),
        (exits, r"it left no result\.json"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_fails_for_the_right_reason(
    plant: Plant, model: Callable[[pd.DataFrame], Any], reason: str
) -> None:
    with pytest.raises(Permanent, match=reason) as caught:
        plant.predict(model)
    text = str(caught.value)
    assert text.startswith("boiler version 1: ")
    assert text.isprintable()
    assert len(text) < 700


def test_it_sleeps_past_the_deadline(plant: Plant) -> None:
    def sleeps(rows: pd.DataFrame) -> list[int]:
        time.sleep(60)
        return [0] * len(rows)

    with pytest.raises(Permanent, match="left no result: took longer than 4 s: ended by the deadline"):
        plant.predict(sleeps, deadline=4.0)


def test_other_limits_start_it_anew_and_what_was_kept_stays(plant: Plant) -> None:
    def needs_room(rows: pd.DataFrame) -> list[int]:
        with open("scratch", "wb") as file:
            file.write(bytes(2 << 20))
        return [1] * len(rows)

    tight = RunLimits(output_bytes=MIB)
    with pytest.raises(Permanent, match="File too large"):
        plant.predict(needs_room, limits=tight)
    artefact = plant.base / "artefact"
    version = ModelVersion("boiler", "1", artefact_digest(artefact), str(artefact))
    accepted = plant.answer(version)
    assert plant.answer(version, limits=tight) == accepted


class TestForgery:
    """What a run can leave instead of a result; most files are made here, as a model would make them."""

    ROWS = 5

    def left(self, folder: Path, classes: object = (), scores: Any = None) -> Path:
        import numpy as np

        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"classes": classes}))
        np.save(folder / "result.npy", np.arange(self.ROWS))
        if scores is not None:
            np.save(folder / "result.scores.npy", scores)
        return folder

    def refused(self, folder: Path, match: str) -> None:
        with pytest.raises(Unusable, match=match):
            keep(folder, folder.parent / "1.parquet", self.ROWS)
        assert not (folder.parent / "1.parquet").exists()

    @pytest.mark.parametrize("said", [None, -1, True, "0.1", float("nan"), 1e300, [1]])
    def test_times_that_cannot_be_are_unknown(self, tmp_path: Path, said: object) -> None:
        folder = self.left(tmp_path / "run")
        (folder / "result.json").write_text(json.dumps({"predict_seconds": said, "load_seconds": 2}))
        result = keep(folder, tmp_path / "1.parquet", self.ROWS)
        assert (result["predict_seconds"], result["load_seconds"]) == (None, 2.0)

    def test_an_honest_result_is_written_anew(self, tmp_path: Path) -> None:
        import numpy as np

        folder = self.left(tmp_path / "run", ["cold", "hot"], np.full((5, 2), 0.5))
        result = keep(folder, tmp_path / "1.parquet", self.ROWS)
        assert (result["rows"], result["scored"]) == (5, True)
        table = parquet.read_table(tmp_path / "1.parquet")
        assert table.column_names == ["prediction", "score:cold", "score:hot"]
        assert table["prediction"].to_pylist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("name", ["result.json", "result.npy"])
    def test_links_and_pipes(self, tmp_path: Path, name: str) -> None:
        secret = tmp_path / "secret"
        folder = self.left(tmp_path / "run")
        (folder / name).rename(secret)
        self.refused(folder, f"left no {name}")
        (folder / name).symlink_to(secret)
        self.refused(folder, f"its {name} is no file that can be read: Too many levels of symbolic links")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        self.refused(folder, f"its {name} is no regular file")
        (folder / name).unlink()
        (folder / name).mkdir()
        self.refused(folder, f"its {name} is no regular file")

    def test_a_directory_that_became_a_link(self, tmp_path: Path) -> None:
        elsewhere = self.left(tmp_path / "elsewhere")
        (tmp_path / "run").symlink_to(elsewhere)
        self.refused(tmp_path / "run", r"its result\.json is no file that can be read")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            (b'{"classes": ["hot"', "cannot be read"),
            (b"[" * 100_000, "cannot be read"),
            (b"\xff\xfe", "cannot be read"),
            (b'["neither fish nor fowl"]', "is no result"),
            (b'{"classes": [1, 2]}', "names of classes are no texts"),
            (b'{"classes": ["a", "a"]}', "two classes have one name"),
            (json.dumps({"classes": ["a"] * 10_001}).encode(), "scores of 10001 classes; the most are 10000"),
            (json.dumps({"classes": ["a" * 201]}).encode(), "more than 200 characters"),
            (b'{"classes": ["' + b"a" * (5 << 20) + b'"]}', "longer than any result"),
        ],
        ids=range(9),
    )
    def test_the_description(self, tmp_path: Path, text: bytes, match: str) -> None:
        folder = self.left(tmp_path / "run")
        (folder / "result.json").write_bytes(text)
        self.refused(folder, match)

    def saved(self, folder: Path, values: Any, name: str = "result.npy") -> None:
        import numpy as np

        np.save(folder / name, values, allow_pickle=True)

    def test_predictions_of_other_kinds(self, tmp_path: Path) -> None:
        import numpy as np

        folder = self.left(tmp_path / "run")
        for values, match in (
            (np.array([{"a": 1}] * 5, dtype=object), "of type object: want numbers, truth values or text"),
            (np.array([b"ab"] * 5), "of type .S2: want"),
            (np.zeros(5, "c16"), "of type complex128"),
            (np.zeros(5, "M8[s]"), "of type datetime64"),
            (np.zeros(5, [("a", "f8"), ("b", "f8")]), "of type"),
            (np.zeros(5, ">f8"), "of type >f8"),
            (np.array(["a" * 201] * 5), "a predicted text is longer than 200 characters"),
            (np.zeros(4), "returned 4 predictions for 5 rows"),
            (np.zeros(6), "returned 6 predictions for 5 rows"),
            (np.zeros((5, 2)), r"of the shape \(5, 2\), not \(5,\)"),
            (
                np.array([1.0, np.nan, np.inf, 0.0, 0.0]),
                "2 of 5 values in the column 'prediction' are not finite",
            ),
            (np.array([0x110000] * 5, "u4").view("U1"), "cannot be kept|cannot be read"),
            (np.array([0xD800] * 5, "u4").view("U1"), "cannot be kept|cannot be read"),
        ):
            self.saved(folder, values)
            self.refused(folder, match)

    def test_scores_of_other_kinds(self, tmp_path: Path) -> None:
        import numpy as np

        folder = self.left(tmp_path / "run", ["cold", "hot"])
        self.refused(folder, r"it left no result\.scores\.npy")
        for values, match in (
            (np.zeros((5, 3)), r"scores of the shape \(5, 3\), not \(5, 2\)"),
            (np.zeros((5, 2), "U3"), "a score is of type <U3: want numbers"),
            (np.array([[0.5, np.nan]] * 5), "5 of 5 values in the column 'score:hot' are not finite"),
            (np.zeros((2, 5)).T, "does not hold what it says"),
        ):
            self.saved(folder, values, "result.scores.npy")
            self.refused(folder, match)

    @pytest.mark.parametrize(
        ("header", "match"),
        [
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,), }", "cannot be read"),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }",
                "predictions for 5 rows",
            ),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }", "does not hold what it says"),
            (
                "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (5,), }",
                "cannot be read",
            ),
            ("(" * 9000, "cannot be read"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (5,), }", "of type object"),
        ],
        ids=range(6),
    )
    def test_headers_that_lie(self, tmp_path: Path, header: str, match: str) -> None:
        folder = self.left(tmp_path / "run")
        text = header.encode() + b"\n"
        (folder / "result.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"x" * 7
        )
        self.refused(folder, match)

    def test_words_of_a_stranger(self) -> None:
        assert words_of_a_stranger("a\x1b[31mb\r\n\tc\u202ed") == "a [31mb c d"
        assert len(words_of_a_stranger("x" * 10_000)) == 500

    def test_predictions_that_are_no_plain_values_are_named_by_the_run(self, plant: Plant) -> None:
        def returns_objects(rows: pd.DataFrame) -> list[Any]:
            return [{"promote": True}] * len(rows)

        with pytest.raises(
            Permanent, match=r"the predictions are of type struct<promote: bool>: want numbers"
        ):
            plant.predict(returns_objects)

    def test_a_result_written_by_the_model_itself_is_but_a_result(self, plant: Plant) -> None:
        def forges(rows: pd.DataFrame) -> list[int]:
            with open("result.json", "w") as file:
                file.write('{"rows": 5, "scored": false, "sha256": "0", "classes": []}')
            os.symlink("/etc/hostname", "result.npy")
            os._exit(0)

        with pytest.raises(Permanent, match=r"its result\.npy is no file that can be read"):
            plant.predict(forges)


class TestArtefacts:
    """What a registry may hold that is no artefact."""

    @pytest.fixture
    def artefact(self, tmp_path: Path) -> Path:
        path = tmp_path / "artefact"
        (path / "code").mkdir(parents=True)
        (path / "model.pkl").write_bytes(b"payload")
        return path

    def test_symbolic_links(self, artefact: Path) -> None:
        (artefact / "code" / "more").symlink_to("/etc/passwd")
        with pytest.raises(Permanent, match=r"holds a symbolic link, code/more: .*log the file itself"):
            artefact_digest(artefact)

    def test_a_link_to_a_directory(self, artefact: Path) -> None:
        (artefact / "code" / "up").symlink_to(artefact)
        with pytest.raises(Permanent, match="symbolic link, code/up"):
            artefact_digest(artefact)

    def test_a_link_in_place_of_what_does_not_count(self, artefact: Path) -> None:
        (artefact / "MLmodel").symlink_to("/etc/passwd")
        with pytest.raises(Permanent, match="symbolic link, MLmodel"):
            artefact_digest(artefact)

    def test_special_files(self, artefact: Path) -> None:
        os.mkfifo(artefact / "pipe")
        with pytest.raises(Permanent, match="holds pipe, which is neither a file nor a directory"):
            artefact_digest(artefact)

    def test_oversize(self, artefact: Path) -> None:
        with (artefact / "weights").open("wb") as file:
            file.truncate(3 * MIB)
        assert artefact_digest(artefact, 4 * MIB)
        with pytest.raises(Permanent, match=r"is larger than 2 MiB; raise mlflow\.max_artifact_mb"):
            artefact_digest(artefact, 2 * MIB)

    @pytest.mark.parametrize("name", ["../elsewhere.pkl", "{absolute}"])
    def test_a_description_that_names_another_file(self, plant: Plant, name: str) -> None:
        artefact = artefact_of(plant.base / "artefact", lambda rows: [0] * len(rows))
        name = name.format(absolute=plant.base / "elsewhere.pkl")
        (artefact / "model.pkl").rename(plant.base / "elsewhere.pkl")
        (artefact / "readme").write_text("something that can be hashed")
        flavour = {"pickled_model": name, "serialization_format": "cloudpickle", "code": None}
        (artefact / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": flavour}}))
        version = ModelVersion("boiler", "1", artefact_digest(artefact), str(artefact))
        with pytest.raises(Permanent, match="cannot be loaded: MLmodel names a file outside of the artefact"):
            plant.answer(version)

    def test_compiled_code_beside_the_hashed_source_is_not_run(self, plant: Plant) -> None:
        import py_compile

        artefact = artefact_of(plant.base / "artefact", _by_its_own_code)
        code = artefact / "code"
        code.mkdir()
        (code / "helper.py").write_text("VALUE = 1\n")
        flavour = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "code": "code"}
        (artefact / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": flavour}}))
        digest = artefact_digest(artefact)
        (plant.base / "evil.py").write_text("VALUE = 666\n")
        compiled = code / "__pycache__" / f"helper.{sys.implementation.cache_tag}.pyc"
        py_compile.compile(
            str(plant.base / "evil.py"),
            str(compiled),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        assert artefact_digest(artefact) == digest
        answer = plant.answer(ModelVersion("boiler", "1", digest, str(artefact)))
        assert parquet.read_table(answer.uri)["prediction"] == pa.chunked_array([[1] * 5])


def _by_its_own_code(rows: pd.DataFrame) -> list[int]:
    import helper  # type: ignore[import-not-found]

    return [helper.VALUE] * len(rows)
