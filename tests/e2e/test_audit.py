"""The commands of the audit, as a user calls them, on good and on bad input."""

import json
import os
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from audit_kit import Keys, deleted, edited, grow, rechained, tamper, truncated
from cli_project import environment
from mlflow_store import sqlite_store

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.entrypoints.cli.main import run

PLACES = {
    "file": 'keeper = "file"\npath = "../elsewhere/anchors.jsonl"\n',
    "command": 'keeper = "command"\ncommand = ["sh", "-c", "cat >> ../elsewhere/taken.jsonl"]\n',
    "mlflow": 'keeper = "mlflow"\n',
}


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def by(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command, or its standard error when it is to fail."""
        self._capsys.readouterr()
        assert run(arguments) == code, self._capsys.readouterr()
        captured = self._capsys.readouterr()
        return captured.err if code else captured.out


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


@dataclass(frozen=True)
class Home:
    """A project with a ledger of two streams, and a place elsewhere."""

    directory: Path

    @property
    def ledger(self) -> Path:
        return self.directory / ".autoretrain" / "ledger.db"

    @property
    def elsewhere(self) -> Path:
        return self.directory.parent / "elsewhere"

    def settings(self, audit: str | None, more: str = "") -> "Home":
        section = "" if audit is None else f'[audit]\n{audit}key = "../keys/audit.key"\n'
        (self.directory / "autoretrain.toml").write_text(f"{more}\n{section}")
        return self

    def grow(self, count: int = 3) -> None:
        with closing(SqliteLedger(self.ledger)) as ledger:
            for model in ("boiler", "pump"):
                grow(ledger, model, count)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "project")
    home.directory.mkdir()
    home.elsewhere.mkdir()
    home.settings(None)
    monkeypatch.chdir(home.directory)
    monkeypatch.delenv("AUTORETRAIN_AUDIT_KEY", raising=False)
    return home


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A pair of keys where the settings say."""
    keys = Keys.new()
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "audit.key").write_text(keys.private)
    (folder / "audit.key").chmod(0o600)
    (folder / "audit.key.pub").write_text(keys.public)
    return keys


@pytest.fixture(params=PLACES)
def anchored(request: pytest.FixtureRequest, home: Home, keys: Keys, said: Said) -> Home:
    """Two anchors, at entry 3 and entry 6 of both streams, kept in each way there is."""
    more = ""
    if request.param == "mlflow":
        more = f'[mlflow]\ntracking_uri = "{sqlite_store(home.elsewhere)}"'
    home.settings(PLACES[request.param], more)
    for number in (1, 2):
        home.grow()
        assert said.by("audit", "anchor").startswith(f"anchor {number} over 2 streams is kept")
    return home


class TestVerify:
    def test_what_is_whole(self, anchored: Home, said: Said) -> None:
        assert said.by("audit", "verify") == "all whole: 12 entries, held against 2 anchors\n"
        anchored.grow()
        assert said.by("audit", "verify") == "all whole: 18 entries, held against 2 anchors\n"
        assert json.loads(said.by("audit", "verify", "--json")) == []

    def test_what_only_anchors_know(self, anchored: Home, said: Said) -> None:
        tamper(anchored.ledger, "boiler", truncated(4))
        tamper(anchored.ledger, "pump", rechained(2))
        boiler, pump = said.by("audit", "verify", code=2).splitlines()
        assert boiler.startswith("boiler: entry 5: it is missing: anchor 2 ")
        assert pump.startswith("pump: entry 3: it is not the entry that anchor 1 ")
        assert pump.endswith("knows: one of entries 1 to 3 was rewritten")

    def test_a_removed_stream_and_a_removed_ledger(self, anchored: Home, said: Said) -> None:
        tamper(anchored.ledger, "pump", truncated(0))
        assert said.by("audit", "verify", code=2).startswith("pump: entry 1: the stream is gone")
        anchored.ledger.unlink()
        gone = said.by("audit", "verify", code=2).splitlines()
        assert [line[:27] for line in gone] == ["boiler: entry 1: the stream", "pump: entry 1: the stream i"]

    def test_as_json(self, anchored: Home, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
        tamper(anchored.ledger, "boiler", deleted(2))
        tamper(anchored.ledger, "pump", truncated(5))
        capsys.readouterr()
        assert run(["audit", "verify", "--json"]) == 2
        boiler, pump = json.loads(capsys.readouterr().out)
        assert (boiler["model"], boiler["seq"], boiler["anchor"]) == ("boiler", 3, None)
        assert (pump["model"], pump["seq"], pump["anchor"]) == ("pump", 6, 2)
        assert sorted(pump) == ["anchor", "model", "reason", "seq"]


@pytest.fixture
def in_file(home: Home, keys: Keys, said: Said) -> Home:
    """Three anchors in a file."""
    home.settings(PLACES["file"])
    for _ in range(3):
        home.grow(2)
        said.by("audit", "anchor")
    return home


class TestVerifyElsewhere:
    """Where the settings keep no anchors, or other ones: by what the command line says."""

    def arguments(self, home: Home) -> list[str]:
        return ["--anchors", str(home.elsewhere / "anchors.jsonl"), "--public-key", "../keys/audit.key.pub"]

    def test_anchors_and_key_may_be_given(self, in_file: Home, said: Said) -> None:
        arguments = self.arguments(in_file)
        in_file.settings(None)
        assert "held against 3 anchors" in said.by("audit", "verify", *arguments)
        tamper(in_file.ledger, "pump", truncated(1))
        assert said.by("audit", "verify") == "all whole: 7 entries\n"
        assert "pump: entry 2: it is missing" in said.by("audit", "verify", *arguments, code=2)

    def test_without_a_key_it_is_no_proof(self, in_file: Home, said: Said) -> None:
        arguments = self.arguments(in_file)[:2]
        in_file.settings(None)
        assert said.by("audit", "verify", *arguments, code=1) == (
            "not checked: signatures: no public key is known; give --public-key\n"
        )
        tamper(in_file.ledger, "pump", truncated(1))
        assert "pump: entry 2: it is missing" in said.by("audit", "verify", *arguments, code=2)

    def test_another_key_is_not_trusted(self, in_file: Home, said: Said) -> None:
        (in_file.elsewhere / "other.pub").write_text(Keys.new().public)
        lines = said.by("audit", "verify", "--public-key", "../elsewhere/other.pub", code=2).splitlines()
        assert [line.partition(" (")[0] for line in lines] == [
            f"anchor {number}: it is signed with another key than yours" for number in (1, 2, 3)
        ]

    def test_after_a_change_of_keys_both_are_trusted(self, in_file: Home, keys: Keys, said: Said) -> None:
        new = Keys.new()
        folder = in_file.directory.parent / "keys"
        (folder / "audit.key").write_text(new.private)
        (folder / "audit.key.pub").write_text(keys.public + new.public)
        said.by("audit", "anchor")
        assert "held against 4 anchors" in said.by("audit", "verify")

    @pytest.mark.parametrize(
        ("edit", "said_then", "code"),
        [
            (lambda lines: lines[:1] + lines[2:], "anchor 3: it follows anchor 2, which is missing", 2),
            (lambda lines: lines[1:], "anchor 2: it follows anchor 1, which is missing", 2),
            (lambda lines: [*lines[:2], "what?"], "anchors: line 3: it is no anchor", 2),
            (
                lambda lines: [lines[0].replace('"number":1', '"number":4')],
                "anchor 4: its signature does not",
                2,
            ),
            (lambda lines: [], "not checked: there is no anchor to hold the ledger against", 1),
        ],
    )
    def test_damaged_anchors(self, in_file: Home, said: Said, edit: Any, said_then: str, code: int) -> None:
        file = in_file.elsewhere / "anchors.jsonl"
        file.write_text("".join(f"{line}\n" for line in edit(file.read_text().splitlines())))
        assert said_then in said.by("audit", "verify", code=code)

    def test_in_any_order_and_twice(self, in_file: Home, said: Said) -> None:
        file = in_file.elsewhere / "anchors.jsonl"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines[::-1], *lines]))
        assert "held against 3 anchors" in said.by("audit", "verify")

    def test_anchors_that_are_gone_are_missed(self, in_file: Home, said: Said) -> None:
        (in_file.elsewhere / "anchors.jsonl").unlink()
        assert "there is no anchor" in said.by("audit", "verify", code=1)

    def test_a_keeper_that_is_away_does_not_keep_the_chains_from_being_checked(
        self, home: Home, keys: Keys, said: Said
    ) -> None:
        home.settings(PLACES["mlflow"], '[mlflow]\ntracking_uri = "http://ann:sesame@127.0.0.1:9"')
        home.grow()
        told = said.by("audit", "verify", code=1)
        assert told.startswith("not checked: MLflow, reading the anchors: ")
        assert "sesame" not in told
        tamper(home.ledger, "pump", edited(2))
        assert "pump: entry 2: its content" in said.by("audit", "verify", code=2)
        assert "sesame" not in said.by("audit", "anchor", code=1)

    def test_without_the_library_chains_are_checked(self, in_file: Home) -> None:
        program = (
            "import sys; sys.modules['cryptography'] = None\n"
            "from autoretrain.entrypoints.cli.main import run\n"
            "sys.exit(run(['audit', 'verify']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
        )
        assert done.stdout == "all whole: 12 entries, held against 3 anchors\n"
        assert done.stderr == (
            "not checked: signatures: cryptography is not installed: pip install 'autoretrain[anchor]'\n"
        )
        assert done.returncode == 1

    def test_without_anchors_nothing_heavy_is_imported(self, home: Home) -> None:
        home.grow()
        program = (
            "import sys\nfrom autoretrain.entrypoints.cli.main import run\n"
            "code = run(['audit', 'verify'])\n"
            "heavy = ('pydantic', 'dependency_injector', 'cryptography', 'mlflow', 'duckdb')\n"
            "print([name for name in heavy if name in sys.modules], file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
        )
        assert done.stderr == "[]\n"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--anchors", "nowhere"], "'nowhere' does not exist"),
            (["--public-key", "nowhere"], "'nowhere' does not exist"),
            (["--public-key", "autoretrain.toml"], "--public-key is of use with --anchors"),
            (
                ["--anchors", "autoretrain.toml", "--public-key", "autoretrain.toml"],
                "--public-key = autoretrain.toml: it holds no public key in PEM",
            ),
        ],
    )
    def test_bad_arguments(self, home: Home, said: Said, arguments: list[str], words: str) -> None:
        assert words in said.by("audit", "verify", *arguments, code=2)


class TestKeys:
    def test_a_pair_is_made_for_the_owner_alone(self, home: Home, said: Said) -> None:
        old = os.umask(0)
        try:
            said.by("audit", "keygen", "../keys/new.key")
        finally:
            os.umask(old)
        private, public = (home.directory.parent / "keys" / name for name in ("new.key", "new.key.pub"))
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert stat.S_IMODE(public.stat().st_mode) == 0o644
        assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")

    def test_the_settings_say_where(self, home: Home, said: Said) -> None:
        home.settings(PLACES["file"]).grow()
        said.by("audit", "keygen")
        said.by("audit", "anchor")
        assert "held against 1 anchor" in said.by("audit", "verify")

    def test_a_key_is_never_overwritten(self, home: Home, keys: Keys, said: Said) -> None:
        assert "is there already" in said.by("audit", "keygen", "../keys/audit.key", code=2)
        assert (home.directory.parent / "keys" / "audit.key").read_text() == keys.private
        (home.directory.parent / "keys" / "audit.key").unlink()
        assert "audit.key.pub: is there already" in said.by("audit", "keygen", "../keys/audit.key", code=2)

    def test_a_key_may_be_made_without_a_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert "private key: my.key" in said.by("audit", "keygen", "my.key")

    def test_never_beside_the_ledger(self, home: Home, said: Said) -> None:
        assert "outside the state directory" in said.by("audit", "keygen", ".autoretrain/a.key", code=2)
        assert "name the file" in said.by("audit", "keygen", code=2)
        assert "cannot be written" in said.by("audit", "keygen", "autoretrain.toml/a.key", code=2)

    def test_the_environment_may_hold_it(
        self, home: Home, said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        keys = Keys.new()
        (tmp_path / "public").write_text(keys.public)
        audit = f'[audit]\n{PLACES["file"]}public_key = "../public"\n'
        (home.directory / "autoretrain.toml").write_text(audit)
        home.grow()
        monkeypatch.setenv("AUTORETRAIN_AUDIT_KEY", keys.private)
        said.by("audit", "anchor")
        assert "held against 1 anchor" in said.by("audit", "verify")
        monkeypatch.setenv("AUTORETRAIN_AUDIT_KEY", "sesame")
        told = said.by("audit", "anchor", code=2)
        assert told.startswith("autoretrain: AUTORETRAIN_AUDIT_KEY: it is no private key of Ed25519")
        assert "sesame" not in told
        monkeypatch.delenv("AUTORETRAIN_AUDIT_KEY")
        assert "audit.key: is missing" in said.by("audit", "anchor", code=2)


class TestAnchor:
    def test_a_key_that_others_can_read_is_refused(self, in_file: Home, said: Said) -> None:
        (in_file.directory.parent / "keys" / "audit.key").chmod(0o640)
        told = said.by("audit", "anchor", code=2)
        assert told.endswith("audit.key: others can read it: chmod 600\n")

    @pytest.mark.parametrize(
        ("content", "words"), [("what?", "it is no private key"), (None, "there is no such file")]
    )
    def test_a_bad_key_is_named(self, in_file: Home, said: Said, content: str | None, words: str) -> None:
        file = in_file.directory.parent / "keys" / "audit.key"
        file.unlink()
        if content is not None:
            file.write_text(content)
            file.chmod(0o600)
        told = said.by("audit", "anchor", code=2)
        assert told.startswith("autoretrain: audit.key = ")
        assert words in told

    def test_it_says_what_is_missing(self, home: Home, keys: Keys, said: Said) -> None:
        assert "audit.keeper = 'none': set it to" in said.by("audit", "anchor", code=2)
        home.settings(PLACES["file"])
        assert "there is no ledger yet" in said.by("audit", "anchor", code=2)

    def test_a_damaged_last_anchor_is_not_built_upon(self, in_file: Home, said: Said) -> None:
        with (in_file.elsewhere / "anchors.jsonl").open("a") as file:
            file.write("what?\n")
        assert "the latest anchor that is kept cannot be used" in said.by("audit", "anchor", code=2)

    def test_a_command_that_fails_gets_it_the_next_time(self, home: Home, keys: Keys, said: Said) -> None:
        home.settings('keeper = "command"\ncommand = ["sh", "-c", "test -e ../open && cat >> ../taken"]\n')
        home.grow()
        assert "sh ended with status 1" in said.by("audit", "anchor", code=1)
        (home.directory.parent / "open").touch()
        said.by("audit", "anchor")
        taken = (home.directory.parent / "taken").read_text().splitlines()
        assert [json.loads(line)["number"] for line in taken] == [1, 2]
        assert "held against 2 anchors" in said.by("audit", "verify")

    def test_the_answer_as_json_is_the_anchor(self, in_file: Home, said: Said) -> None:
        made = json.loads(said.by("audit", "anchor", "--json"))
        assert made == json.loads((in_file.elsewhere / "anchors.jsonl").read_text().splitlines()[-1])


class TestSettings:
    @pytest.mark.parametrize(
        ("audit", "words"),
        [
            ('keeper = "paper"', "audit.keeper = 'paper': "),
            ('keeper = "file"', "audit.path: is missing"),
            ('keeper = "command"', "audit.command: is missing"),
            ('keeper = "mlflow"', "audit.keeper: needs a server elsewhere"),
            (
                'keeper = "file"\npath = ".autoretrain/anchors"',
                "audit.path: must lie outside the state directory",
            ),
            ('key = ".autoretrain/key"', "audit.key: must lie outside the state directory"),
            ('keeper = "file"\npath = "a"\nevery_hours = 0', "audit.every_hours = 0: "),
            ('secret_key = "sesame"', "audit.secret_key: there is no such setting"),
        ],
    )
    def test_bad_ones_are_named(self, home: Home, said: Said, audit: str, words: str) -> None:
        (home.directory / "autoretrain.toml").write_text(f"[audit]\n{audit}\n")
        for command in (["audit", "verify"], ["audit", "anchor"], ["check", "boiler"]):
            told = said.by(*command, code=2)
            assert words in told
            assert "sesame" not in told

    def test_a_link_into_the_state_directory_is_seen(self, home: Home, said: Said) -> None:
        (home.directory / ".autoretrain").mkdir()
        (home.directory / "link").symlink_to(home.directory / ".autoretrain")
        home.settings('keeper = "file"\npath = "link/anchors"\n')
        assert "audit.path: must lie outside" in said.by("audit", "verify", code=2)


class TestExport:
    def test_with_the_script_beside_it(self, in_file: Home, said: Said) -> None:
        said.by("audit", "export", "--output", "../elsewhere/audit.jsonl")
        script = [sys.executable, "-I", "verify_autoretrain_audit.py"]
        done = subprocess.run(
            [*script, "audit.jsonl", "--public-key", "../keys/audit.key.pub"],
            cwd=in_file.elsewhere, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "all whole: 12 entries, held against 3 anchors\n"

    def test_to_standard_output_it_is_the_same(self, in_file: Home, said: Said) -> None:
        said.by("audit", "export", "--output", "../elsewhere/audit.jsonl")
        assert said.by("audit", "export") == (in_file.elsewhere / "audit.jsonl").read_text()
        assert not list(in_file.elsewhere.glob("*.part"))

    def test_without_anchors_and_without_a_ledger(self, home: Home, said: Said) -> None:
        header, end = map(json.loads, said.by("audit", "export").splitlines())
        assert header == {"format": "autoretrain-audit", "v": 1}
        assert end == {"end": {"anchors": 0, "entries": 0, "streams": 0}}

    def test_anchors_may_be_given(self, in_file: Home, said: Said) -> None:
        with_anchors = said.by("audit", "export")
        in_file.settings(None)
        assert said.by("audit", "export", "--anchors", "../elsewhere/anchors.jsonl") == with_anchors

    def test_where_nothing_can_be_written(self, in_file: Home, said: Said) -> None:
        told = said.by("audit", "export", "--output", "no/such/folder/audit.jsonl", code=2)
        assert told.startswith(
            "autoretrain: --output = no/such/folder/audit.jsonl: cannot be written: No such"
        )
