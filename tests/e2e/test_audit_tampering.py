"""Damage to real ledger files is named, by our own audit and by the script that knows nothing of us."""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from audit_kit import (
    Entries,
    Keys,
    deleted,
    edited,
    rechained,
    swapped,
    tamper,
    told_in_days,
    truncated,
    with_hash,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow_store import sqlite_store

from autoretrain.adapters.anchors_command import CommandAnchors
from autoretrain.adapters.anchors_file import FileAnchors
from autoretrain.adapters.anchors_mlflow import MlflowAnchors
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.anchors import Evidence
from autoretrain.domain.sealing import Fault
from autoretrain.entrypoints import audit_verifier
from autoretrain.entrypoints.anchor_keys import objection
from autoretrain.entrypoints.audit import examine, export
from autoretrain.ports.anchors import AnchorKeeper

from services import ROOT

SCRIPT = ROOT / "entrypoints" / "audit_verifier.py"
KEYS = Keys.new()


def file_keeper(folder: Path) -> AnchorKeeper:
    return FileAnchors(folder / "anchors.jsonl")


def command_keeper(folder: Path) -> AnchorKeeper:
    return CommandAnchors(["sh", "-c", "cat >> elsewhere.jsonl"], folder / "journal.jsonl", directory=folder)


def mlflow_keeper(folder: Path) -> AnchorKeeper:
    return MlflowAnchors(sqlite_store(folder), experiment="audit")


def audited(file: Path, keeper: AnchorKeeper, keys: Keys = KEYS) -> tuple[Fault, ...]:
    """What our audit finds; the independent one must say the same, word for word."""
    evidence = Evidence(objection(frozenset({keys.signer.key})))
    for text in keeper.kept():
        evidence.add(text)
    with closing(SqliteLedger(file)) as ledger:
        faults = examine(ledger, evidence).faults
        exported = list(export(ledger, keeper.kept()))
    assert independently(file.parent, exported, keys) == [str(fault) for fault in faults]
    return faults


def independently(folder: Path, exported: list[str], keys: Keys) -> list[str]:
    """What the verifier finds in an export, run in this process."""
    (folder / "export.jsonl").write_text("".join(f"{line}\n" for line in exported))
    (folder / "key.pub").write_text(keys.public)
    arguments = [str(folder / "export.jsonl"), "--public-key", str(folder / "key.pub")]
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()):
        code = audit_verifier.main(arguments)
    lines = said.getvalue().splitlines()
    assert code == (2 if lines else 0)
    return lines


@dataclass(frozen=True)
class Damage:
    """A change to one stream, and the entry that must be named for it."""

    change: Callable[[Entries], Entries]
    named: int | None


@st.composite
def damages(draw: st.DrawFn, length: int, ends: list[int]) -> Damage:
    """Any kind of damage to a stream of this length that was anchored at these ends."""
    at = draw(st.integers(1, length))
    kind = draw(st.sampled_from(["edit", "delete", "swap", "truncate", "rechain"]))
    if kind == "edit":
        return Damage(edited(at), at)
    if kind == "delete" and at < length:
        return Damage(deleted(at), at + 1)
    if kind == "swap" and at < length:
        return Damage(swapped(at), at)
    if kind == "rechain":
        return Damage(rechained(at), next((end for end in ends if end >= at), None))
    left = at - 1
    return Damage(truncated(left), left + 1 if ends[-1] > left else None)


KEEPERS = [
    pytest.param(file_keeper, 40, id="file"),
    pytest.param(command_keeper, 10, id="command"),
    pytest.param(mlflow_keeper, 6, id="mlflow"),
]


@pytest.mark.parametrize(("make", "examples"), KEEPERS)
def test_any_damage_is_named_up_to_the_last_anchor(
    make: Callable[[Path], AnchorKeeper], examples: int
) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 3), st.data())
    def run(growth: list[int], more: int, data: st.DataObject) -> None:
        ends = [sum(growth[: day + 1]) for day in range(len(growth))]
        damage = data.draw(damages(ends[-1] + more, ends))
        with tempfile.TemporaryDirectory() as folder:
            file, keeper = Path(folder) / "ledger.db", make(Path(folder))
            days = [{"ä modèl": count, "whole": 1} for count in growth]
            told_in_days(file, days, keeper, KEYS.signer, more)
            assert audited(file, keeper) == ()
            tamper(file, "ä modèl", damage.change)
            faults = audited(file, keeper)
        named = [(fault.model, fault.seq) for fault in faults]
        assert named == ([] if damage.named is None else [("ä modèl", damage.named)])

    run()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten entries of two streams, anchored at 4 and at 8."""
    file = tmp_path / "ledger.db"
    told_in_days(file, [{"a": 4, "b": 4}, {"a": 4, "b": 4}], file_keeper(tmp_path), KEYS.signer, more=2)
    return file


FIRST, SECOND = "anchor 1 (2026-03-04 12:00 UTC)", "anchor 2 (2026-03-05 12:00 UTC)"
CASES: dict[str, tuple[Callable[[Entries], Entries], str]] = {
    "edit": (edited(3), "a: entry 3: its content does not match its hash: it was edited"),
    "delete": (deleted(3), "a: entry 4: it follows entry 2: entries are missing or out of order"),
    "reorder": (swapped(3), "a: entry 3: its content does not match its hash: it was edited"),
    "replace": (
        lambda entries: (*entries[:2], with_hash(edited(3)(entries)[2]), *entries[3:]),
        "a: entry 4: it does not follow the entry before it: one of them was replaced",
    ),
    "truncate": (
        truncated(5),
        f"a: entry 6: it is missing: {SECOND} knows 8 entries, and what followed entry 5 was cut off",
    ),
    "re-chain": (
        rechained(6),
        f"a: entry 8: it is not the entry that {SECOND} knows: one of entries 5 to 8 was rewritten",
    ),
    "re-chain from the first": (
        rechained(1),
        f"a: entry 4: it is not the entry that {FIRST} knows: one of entries 1 to 4 was rewritten",
    ),
    "remove": (
        truncated(0),
        f"a: entry 1: the stream is gone: {SECOND} knows 8 entries",
    ),
}


def verified(export_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script run as somebody else does: in the export's folder, with no package of ours in sight."""
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), export_file.name, *arguments],
        cwd=export_file.parent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def exported(file: Path) -> Path:
    return write_export(file)


def write_export(file: Path) -> Path:
    folder = file.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    with closing(SqliteLedger(file)) as ledger:
        lines = export(ledger, file_keeper(file.parent).kept())
        (folder / "audit.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "key.pub").write_text(KEYS.public)
    return folder / "audit.jsonl"


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_of_damage_in_words(file: Path, kind: str) -> None:
    change, words = CASES[kind]
    tamper(file, "a", change)
    assert [str(fault) for fault in audited(file, file_keeper(file.parent))] == [words]


@pytest.mark.parametrize("kind", ["edit", "delete", "truncate", "re-chain", "remove"])
def test_the_script_by_itself_names_the_same(file: Path, kind: str) -> None:
    change, words = CASES[kind]
    tamper(file, "a", change)
    done = verified(write_export(file), "--public-key", "key.pub")
    assert (done.returncode, done.stderr, done.stdout) == (2, f"{words}\n", "")


def test_the_script_passes_what_is_whole(exported: Path) -> None:
    done = verified(exported, "--public-key", "key.pub")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "all whole: 20 entries, held against 2 anchors\n"


def test_the_script_imports_nothing_of_ours() -> None:
    import ast

    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported - sys.stdlib_module_names == {"cryptography"}


WITHOUT_CRYPTOGRAPHY = """
import runpy, sys
sys.modules["cryptography"] = None
script = sys.argv.pop(1)
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_without_the_library_chains_are_checked_and_signatures_said_not_to_be(
    file: Path, damaged: bool
) -> None:
    change, words = CASES["truncate"]
    if damaged:
        tamper(file, "a", change)
    export_file = write_export(file)
    program = [sys.executable, "-I", "-c", WITHOUT_CRYPTOGRAPHY, str(SCRIPT)]
    done = subprocess.run(
        [*program, export_file.name, "--public-key", "key.pub"],
        cwd=export_file.parent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    unchecked = "not checked: signatures: the library cryptography is not installed\n"
    assert done.stderr == (f"{words}\n" if damaged else "") + unchecked
    assert done.returncode == (2 if damaged else 1)


def test_without_a_key_signatures_are_said_not_to_be_checked(exported: Path) -> None:
    done = verified(exported)
    assert (done.returncode, done.stderr) == (
        1, "not checked: signatures: no public key was given (--public-key FILE)\n"
    )  # fmt: skip


def changed(export_file: Path, change: Callable[[list[Any]], None]) -> Any:
    """The script's verdict on an export that was changed itself."""
    lines = [json.loads(line) for line in export_file.read_text().splitlines()]
    change(lines)
    export_file.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return verified(export_file, "--public-key", "key.pub")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines.pop(), "the export is not whole"),
        (lambda lines: lines.pop(1), "anchor 2: it follows anchor 1, which is missing"),
        (lambda lines: lines[1]["anchor"].update(at="2020"), "anchor 1: its signature does not fit"),
        (lambda lines: lines[1]["anchor"]["heads"][0].update(seq=3), "anchor 1: its heads do not match"),
        (lambda lines: lines[1]["anchor"].update(key="ab" * 32), "anchor 1: it is signed with another key"),
        (lambda lines: lines[1]["anchor"].update(v=2), "anchor 1: it is of version 2, newer than"),
        (lambda lines: lines[1].update(anchor="what?"), "anchors: line 1: it is no anchor"),
        (lambda lines: lines[1]["anchor"].update(key=None), "anchors: line 1: it is no anchor"),
        (lambda lines: lines[1]["anchor"].update(heads=[{}]), "anchors: line 1: it is no anchor"),
        (lambda lines: lines[5]["entry"].update(seq="3"), "line 6 is no entry"),
        (lambda lines: lines[5]["entry"].pop("prev"), "line 6 is no entry"),
        (lambda lines: lines.insert(5, '{"entry":{"v":1,"v":1}}'), "line 6 cannot be read: a name"),
        (lambda lines: lines.insert(5, "{"), "line 6 cannot be read"),
        (lambda lines: lines.insert(5, "[]"), "line 6 is no object"),
        (lambda lines: lines.insert(5, '{"entry":NaN}'), "line 6 cannot be read: NaN is no JSON"),
        (lambda lines: lines[0].update(v=2), "it is of version 2, and this script knows 1"),
        (lambda lines: lines.pop(0), "it is no export"),
    ],
    ids=range(17),
)  # fmt: skip
def test_the_script_finds_a_changed_export(
    exported: Path, change: Callable[[list[Any]], None], said: str
) -> None:
    done = changed(exported, change)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ["", "\x00", "what?"])
def test_the_script_says_of_another_file_that_it_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "audit.jsonl").write_text(content)
    (tmp_path / "key.pub").write_text(KEYS.public)
    done = verified(tmp_path / "audit.jsonl", "--public-key", "key.pub")
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", [None, "what?", KEYS.private], ids=["none", "nonsense", "private"])
def test_the_script_refuses_a_file_that_holds_no_key(exported: Path, key: str | None) -> None:
    (exported.parent / "key.pub").unlink()
    if key is not None:
        (exported.parent / "key.pub").write_text(key)
    done = verified(exported, "--public-key", "key.pub")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_another_key_is_not_trusted(file: Path) -> None:
    faults = audited(file, file_keeper(file.parent), Keys.new())
    assert [fault.anchor for fault in faults] == [1, 2]
    assert {fault.reason.partition(" (")[0] for fault in faults} == {
        "it is signed with another key than yours"
    }


def test_a_ledger_rewritten_together_with_its_anchors_is_found_by_the_key(file: Path) -> None:
    """Who has ledger and anchors, and not the key, cannot make them fit."""
    tamper(file, "a", rechained(2))
    (file.parent / "anchors.jsonl").unlink()
    told_in_days(file, [{}], file_keeper(file.parent), Keys.new().signer)
    (fault,) = audited(file, file_keeper(file.parent))
    assert (fault.anchor, fault.model) == (1, "")


def test_the_same_ledger_gives_the_same_export(file: Path) -> None:
    assert write_export(file).read_bytes() == write_export(file).read_bytes()


def test_the_script_writes_the_text_of_rfc_8785() -> None:
    import rfc8785

    control = "".join(map(chr, range(0x20))) + '\x7f\u2028\u20ac"\\/\U0001f600\ufb33'
    entry: Any = {"v": 1, "model": control, "data": control, "key": None, "seq": 2**53 - 1, "at": ""}
    assert audit_verifier.canonical(entry) == rfc8785.dumps(entry)
