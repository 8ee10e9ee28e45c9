"""The behaviour promised by the port, over every keeper; then what is each one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_project import environment
from mlflow_store import sqlite_store

from autoretrain.adapters.anchors_command import CommandAnchors
from autoretrain.adapters.anchors_file import FileAnchors
from autoretrain.adapters.anchors_mlflow import MlflowAnchors
from autoretrain.adapters.memory import MemoryAnchors
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.signing_ed25519 import Ed25519Signer, generate_keys, is_genuine, public_keys
from autoretrain.entrypoints.testing.anchors import AnchorKeeperContract, anchor
from autoretrain.ports.anchors import AnchorKeeper
from autoretrain.ports.errors import MissingExtra, Permanent, Temporary

APPENDS = ["sh", "-c", "cat >> taken.jsonl"]

RACE = """
import sys
from pathlib import Path
from autoretrain.adapters.anchors_file import FileAnchors
from autoretrain.entrypoints.testing.anchors import anchor
from autoretrain.ports.errors import Overtaken

keeper, won = FileAnchors(Path(sys.argv[1])), 0
for _ in range(10):
    number = sum(1 for _ in keeper.kept()) + 1
    try:
        keeper.keep(number, anchor(number, sys.argv[2]))
        won += 1
    except Overtaken:
        pass
print(won)
"""


def command(folder: Path, *words: str, timeout: float = 60.0) -> CommandAnchors:
    """A keeper that runs a command in the folder; its journal is there, too."""
    return CommandAnchors(words or APPENDS, folder / "journal.jsonl", directory=folder, timeout=timeout)


def taken(folder: Path) -> list[int]:
    """Numbers of the anchors that the command has seen, in order."""
    file = folder / "taken.jsonl"
    return [json.loads(line)["number"] for line in file.read_text().splitlines()] if file.exists() else []


class TestFileAnchors(AnchorKeeperContract):
    def make_keeper(self, folder: Path) -> AnchorKeeper:
        return FileAnchors(folder / "away" / "anchors.jsonl")

    def make_unreachable(self, folder: Path) -> AnchorKeeper:
        (folder / "file").touch()
        return FileAnchors(folder / "file" / "anchors.jsonl")

    @pytest.mark.parametrize("left", [1, 10, 19])
    def test_a_line_that_a_crash_cut_short_is_made_anew(self, tmp_path: Path, left: int) -> None:
        file = tmp_path / "anchors.jsonl"
        keeper = FileAnchors(file)
        keeper.keep(1, anchor(1))
        with file.open("a") as half:
            half.write(anchor(2)[:left])
        assert list(keeper.kept()) == [anchor(1)]
        assert keeper.latest() == anchor(1)
        keeper.keep(2, anchor(2))
        assert file.read_text() == f"{anchor(1)}\n{anchor(2)}\n"

    def test_a_file_without_a_newline_at_its_end_goes_on(self, tmp_path: Path) -> None:
        file = tmp_path / "anchors.jsonl"
        file.write_text(f"{anchor(1)}\n\n{anchor(2)}")
        keeper = FileAnchors(file)
        assert list(keeper.kept()) == [anchor(1), anchor(2)]
        keeper.keep(3, anchor(3))
        assert list(keeper.kept()) == [anchor(1), anchor(2), anchor(3)]

    @pytest.mark.parametrize("line", ["what?", "[1]", '{"number":null}', "{}"])
    def test_nothing_is_written_after_a_damaged_line(self, tmp_path: Path, line: str) -> None:
        file = tmp_path / "anchors.jsonl"
        file.write_text(f"{line}\n")
        with pytest.raises(Permanent, match=r"the last line of .* is no anchor"):
            FileAnchors(file).keep(1, anchor(1))
        assert file.read_text() == f"{line}\n"
        assert list(FileAnchors(file).kept()) == [line]

    def test_of_processes_that_race_one_wins_each_number(self, tmp_path: Path) -> None:
        file = str(tmp_path / "anchors.jsonl")
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, file, name], stdout=subprocess.PIPE, env=environment()
            )
            for name in "abc"
        ]
        won = sum(int(racer.communicate(timeout=60)[0]) for racer in racers)
        assert won >= 10
        numbers = [json.loads(line)["number"] for line in FileAnchors(tmp_path / "anchors.jsonl").kept()]
        assert numbers == list(range(1, won + 1))

    def test_a_file_that_may_not_be_read_is_told_of(self, tmp_path: Path) -> None:
        keeper = FileAnchors(tmp_path)
        with pytest.raises(Permanent, match="cannot be read"):
            keeper.latest()
        with pytest.raises(Permanent, match="cannot be read"):
            list(keeper.kept())


class TestMlflowAnchors(AnchorKeeperContract):
    def make_keeper(self, folder: Path) -> AnchorKeeper:
        return MlflowAnchors(sqlite_store(folder), experiment="audit")

    def make_unreachable(self, folder: Path) -> AnchorKeeper:
        return MlflowAnchors("http://127.0.0.1:9", experiment="audit")

    def test_an_unfinished_run_does_not_count(self, tmp_path: Path) -> None:
        keeper = self.make_keeper(tmp_path)
        keeper.keep(1, anchor(1))
        client = MlflowConnection(sqlite_store(tmp_path)).client
        experiment = client.get_experiment_by_name("audit")
        assert experiment is not None
        client.create_run(experiment.experiment_id, tags={"autoretrain.anchor": "000000000002"})
        assert keeper.latest() == anchor(1)
        keeper.keep(2, anchor(2))
        assert list(keeper.kept()) == [anchor(1), anchor(2)]

    def test_a_deleted_run_is_missing(self, tmp_path: Path) -> None:
        keeper = self.make_keeper(tmp_path)
        for number in (1, 2, 3):
            keeper.keep(number, anchor(number))
        client = MlflowConnection(sqlite_store(tmp_path)).client
        experiment = client.get_experiment_by_name("audit")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'anchor-000002'")
        client.delete_run(runs[0].info.run_id)
        assert list(keeper.kept()) == [anchor(1), anchor(3)]

    def test_an_altered_tag_is_given_back_and_stops_the_next(self, tmp_path: Path) -> None:
        keeper = self.make_keeper(tmp_path)
        keeper.keep(1, anchor(1))
        client = MlflowConnection(sqlite_store(tmp_path)).client
        experiment = client.get_experiment_by_name("audit")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        client.set_tag(run.info.run_id, "autoretrain.anchor.0000", "what?")
        assert list(keeper.kept()) == ["what?"]
        with pytest.raises(Permanent, match="was altered"):
            keeper.keep(2, anchor(2))

    def test_a_deleted_experiment_is_named(self, tmp_path: Path) -> None:
        keeper = self.make_keeper(tmp_path)
        keeper.keep(1, anchor(1))
        client = MlflowConnection(sqlite_store(tmp_path)).client
        experiment = client.get_experiment_by_name("audit")
        assert experiment is not None
        client.delete_experiment(experiment.experiment_id)
        for call in (keeper.latest, lambda: list(keeper.kept()), lambda: keeper.keep(2, anchor(2))):
            with pytest.raises(Permanent, match="'audit' was deleted"):
                call()

    def test_a_server_that_is_away_is_temporary_without_its_password(self) -> None:
        keeper = MlflowAnchors("http://ann:sesame@127.0.0.1:9", experiment="audit")
        for call in (keeper.latest, lambda: list(keeper.kept()), lambda: keeper.keep(1, anchor(1))):
            with pytest.raises(Temporary) as caught:
                call()
            assert "sesame" not in str(caught.value)


class TestCommandAnchors(AnchorKeeperContract):
    def make_keeper(self, folder: Path) -> AnchorKeeper:
        return command(folder)

    def make_unreachable(self, folder: Path) -> AnchorKeeper:
        return command(folder, "false")

    def test_the_command_gets_the_line_and_the_number(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUTORETRAIN_AUDIT_KEY", "sesame")
        words = ["sh", "-c", 'cat > "$AUTORETRAIN_ANCHOR.json"; env > seen']
        keeper = CommandAnchors(words, tmp_path / "j", directory=tmp_path, withheld=["AUTORETRAIN_AUDIT_KEY"])
        keeper.keep(1, anchor(1, "ü"))
        assert (tmp_path / "1.json").read_text() == anchor(1, "ü") + "\n"
        assert "sesame" not in (tmp_path / "seen").read_text()

    def test_what_it_refused_is_handed_over_later_and_in_order(self, tmp_path: Path) -> None:
        keeper = command(tmp_path, "sh", "-c", "[ -e open ] && cat >> taken.jsonl")
        for number in (1, 2):
            with pytest.raises(Temporary):
                keeper.keep(number, anchor(number))
        assert keeper.waiting() == [anchor(1), anchor(2)]
        (tmp_path / "open").touch()
        keeper.keep(2, anchor(2))
        keeper.keep(3, anchor(3))
        assert taken(tmp_path) == [1, 2, 3]
        assert keeper.waiting() == []

    def test_another_journal_begins_anew(self, tmp_path: Path) -> None:
        command(tmp_path).keep(1, anchor(1))
        (tmp_path / "journal.jsonl").unlink()
        command(tmp_path).keep(1, anchor(1, "another"))
        assert taken(tmp_path) == [1, 1]

    def test_a_refusal_is_told_with_its_last_word_and_no_password(self, tmp_path: Path) -> None:
        keeper = command(
            tmp_path, "sh", "-c", "echo one >&2; echo https://ann:sesame@host says no >&2; exit 3"
        )
        with pytest.raises(Temporary) as caught:
            keeper.keep(1, anchor(1))
        assert str(caught.value) == "sh ended with status 3: https://host says no"

    def test_a_program_that_is_not_there_is_permanent(self, tmp_path: Path) -> None:
        with pytest.raises(Permanent, match="no-such-program cannot be run"):
            command(tmp_path, "no-such-program").keep(1, anchor(1))

    def test_a_slow_one_is_ended_with_all_it_started(self, tmp_path: Path) -> None:
        slow = command(tmp_path, "sh", "-c", "sleep 60 & echo $! > child; wait", timeout=0.5)
        with pytest.raises(Temporary, match=r"took longer than 0\.5 s"):
            slow.keep(1, anchor(1))
        child = int((tmp_path / "child").read_text())
        deadline = time.monotonic() + 5
        while is_alive(child):
            assert time.monotonic() < deadline, "it was left running"
            time.sleep(0.02)

    def test_one_that_does_not_read_is_no_trouble(self, tmp_path: Path) -> None:
        command(tmp_path, "true").keep(1, anchor(1, "x" * 1_000_000))


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class TestMemoryAnchors(AnchorKeeperContract):
    places: dict[Path, MemoryAnchors]

    @pytest.fixture(autouse=True)
    def _places(self) -> None:
        self.places = {}

    def make_keeper(self, folder: Path) -> AnchorKeeper:
        return self.places.setdefault(folder, MemoryAnchors())


class TestEd25519:
    def test_a_signature_holds_for_its_message_and_key_alone(self) -> None:
        secret, public = generate_keys()
        signer = Ed25519Signer(secret)
        assert public_keys(public) == {signer.key}
        signature = signer.sign(b"heads")
        assert is_genuine(signer.key, b"heads", signature)
        assert not is_genuine(signer.key, b"head", signature)
        assert not is_genuine(Ed25519Signer(generate_keys()[0]).key, b"heads", signature)
        assert signer.sign(b"heads") == signature

    @pytest.mark.parametrize(
        ("key", "signature"), [("", ""), ("zz", "00"), ("00" * 32, "ä"), ("ab" * 31, "00")]
    )
    def test_nonsense_is_not_genuine(self, key: str, signature: str) -> None:
        assert not is_genuine(key, b"heads", signature)

    def test_the_test_vector_of_rfc_8032(self) -> None:
        key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        signature = (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        )
        assert is_genuine(key, b"\x72", signature)

    def test_a_private_key_may_stand_on_one_line(self) -> None:
        secret, _ = generate_keys()
        body = "".join(secret.splitlines()[1:-1])
        signers = {Ed25519Signer(text).key for text in (secret, body, secret.replace("\n", "\\n"))}
        assert len(signers) == 1

    @pytest.mark.parametrize(
        "text",
        ["", "sesame", "c2VzYW1l", generate_keys()[1]],
        ids=["empty", "nonsense", "short", "public"],
    )
    def test_another_private_key_is_refused_without_showing_it(self, text: str) -> None:
        with pytest.raises(Permanent, match="no private key of Ed25519") as caught:
            Ed25519Signer(text)
        assert "sesame" not in repr(caught.value)
        assert caught.value.__cause__ is None

    def test_several_public_keys_are_all_trusted(self) -> None:
        pairs = [generate_keys() for _ in range(2)]
        assert public_keys("# old and new\n" + "".join(public for _, public in pairs)) == {
            Ed25519Signer(secret).key for secret, _ in pairs
        }

    @pytest.mark.parametrize(
        ("text", "word"),
        [("", "no public key"), (generate_keys()[0], "no public key")],
        ids=["empty", "private"],
    )
    def test_a_file_without_one_is_refused(self, text: str, word: str) -> None:
        with pytest.raises(Permanent, match=word):
            public_keys(text)

    def test_a_public_key_of_another_kind_is_refused(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

        other = generate_private_key(SECP256R1()).public_key()
        pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(Permanent, match="no public key of Ed25519"):
            public_keys(pem.decode())

    @pytest.mark.parametrize(
        "call", [generate_keys, lambda: public_keys(""), lambda: is_genuine("", b"", "")]
    )
    def test_a_missing_library_is_named(self, call: object, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra, match=r"autoretrain\[anchor\]"):
            call()  # type: ignore[operator]
