"""The page about a fleet, made from models that really lived, in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autoretrain.adapters.memory import (
    MemoryCompute,
    MemoryDataSource,
    MemoryDrift,
    MemoryLedger,
    MemoryMetrics,
    MemoryNotifier,
    MemoryObservations,
    MemoryPredictor,
    MemoryRegistry,
    MemoryTelemetry,
    Row,
)
from autoretrain.adapters.memory_inspector import MemoryInspector
from autoretrain.adapters.memory_scorer import MemoryScorer
from autoretrain.domain import requests
from autoretrain.domain.controller import Controller
from autoretrain.domain.spec import ModelSpec
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.report import write_report
from autoretrain.ports.compute import RunRequest, RunState, RunStatus
from autoretrain.ports.errors import MissingExtra
from autoretrain.ports.ledger import Append, Entry

from services import require

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOSTILE = "<script>alert('x')</script> & \"Co\""
Life = tuple["Fleet", dict[str, str], str]
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Fleet:
    """Models in memory that are looked at once a day, and what happens to them."""

    def __init__(self, *models: str) -> None:
        self.now = BEGIN
        data, self.registry = MemoryDataSource(), MemoryRegistry()
        self.ledger, self.observations = MemoryLedger(clock=lambda: 0.0), MemoryObservations()
        self.metrics, self.drift = MemoryMetrics(), MemoryDrift()
        self.next_cut: float | None = 0.5
        rows = [_row(BEGIN - 180 * DAY + n * 6 * HOUR) for n in range(4 * 560)]
        predictor = MemoryPredictor(self.registry, data)
        ledger = self.ledger
        ports = Ports(
            *(ledger, ledger, ledger, ledger, self.observations, self.metrics, self.drift, data),
            *(MemoryCompute(self._train), self.registry, self.registry, predictor),
            *(MemoryScorer(data, predictor), MemoryNotifier(), MemoryTelemetry()),
            MemoryInspector(data, predictor),
        )
        for model in models:
            data.add(model, rows)
            version = self.registry.register(model, _cut(0.6), "a" * 64)
            self.registry.aliases[model] = version.version
            self.metrics.set(model, "accuracy", 0.97)
        spec = ModelSpec(
            name="m", training={"command": ["train"]}, rule="performance | drift", check_every_seconds=86400
        )
        fleet = {model: spec.model_copy(update={"name": model}) for model in models}
        self.controller = Controller(ports, fleet, "me", monotonic=lambda: 0.0)
        self.controller.enrol(models, self.now)

    def _train(self, run: RunRequest) -> RunStatus:
        if self.next_cut is None:
            return RunStatus(RunState.FAILED, "the disk is full", exit_code=1, seconds=4.0)
        digest = f"{int(self.next_cut * 1e6):064d}"
        self.registry.log(run.environment["AUTORETRAIN_JOB_ID"], _cut(self.next_cut), digest)
        return RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=61.0)

    def days(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            self.controller.tick(self.now)
            self.now += DAY

    def fire(self, model: str, cut: float | None, below: float = 0.8) -> str:
        """Let the live metric fall, and a training give this model (or fail); return the job's id."""
        self.next_cut = cut
        self.metrics.set(model, "accuracy", below)
        self.days(1)
        self.metrics.set(model, "accuracy", 0.96)
        return self.last_job(model)

    def start(self, model: str, cut: float) -> str:
        """Let a person ask for a retraining, which then waits for them."""
        self.next_cut = cut
        self.controller.request(
            model, lambda s: requests.ask_start(s, "ann", {"lr": 1}, "new sensors"), self.now
        )
        self.days(1)
        return self.last_job(model)

    def last_job(self, model: str) -> str:
        """The id of the job opened last."""
        job = self.controller.state(model).last_job
        assert job is not None
        return job.job_id

    def report(self, path: Path, models: Sequence[str] | None = None) -> str:
        """Write the page and read it back."""
        written = write_report(
            self.ledger, self.observations, path, title="Heat & power", now=self.now, models=models
        )
        assert written == path
        return path.read_text(encoding="utf-8")


def _row(at: datetime) -> Row:
    x = int(at.timestamp() / 3600) * 37 % 997 / 997
    return Row(at, {"x": x}, int(x > 0.5))


def _cut(least: float) -> Callable[[Mapping[str, Any]], int]:
    return lambda features: int(features["x"] > least)


def live(fleet: Fleet, model: str) -> dict[str, str]:
    """A life with every outcome; return the jobs' ids by outcome."""
    jobs = {}
    fleet.days(20)
    jobs["promoted"] = fleet.fire(model, 0.52)
    fleet.days(20)
    fleet.drift.set(model, {"x": 0.41})
    fleet.next_cut = 0.521
    fleet.days(1)
    jobs["rejected"] = fleet.last_job(model)
    fleet.drift.set(model, {"x": 0.07})
    fleet.days(15)
    fleet.metrics.set(model, "accuracy", None, reason="the metric source is away")
    fleet.days(9)
    jobs["failed"] = fleet.fire(model, None)
    fleet.days(12)
    jobs["rolled back"] = fleet.start(model, 0.5)
    fleet.controller.request(
        model, lambda s: requests.ask_approve(s, jobs["rolled back"], "ann", "looks right"), fleet.now
    )
    fleet.days(10)
    fleet.controller.request(model, lambda s: requests.ask_rollback(s, "bob", "alarms at night"), fleet.now)
    fleet.days(10)
    jobs["waiting"] = fleet.start(model, 0.505)
    return jobs


class Page(HTMLParser):
    """A page taken apart: whether tags close, which ids and addresses it has, and what it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert len(values) == len(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [value for name, value in values.items() if name in ("href", "src", "xlink:href")]
        self.labels += [values.get("aria-label", "")] if values.get("role") == "img" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All that can be read, styles aside, with single spaces."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A fleet of two after a life, the jobs of one by outcome, and the page about both."""
    fleet = Fleet("heat", HOSTILE)
    jobs = live(fleet, "heat")
    return fleet, jobs, fleet.report(tmp_path_factory.mktemp("report") / "new" / "page.html")


def test_page_is_well_formed_and_needs_nothing_from_elsewhere(life: Life) -> None:
    page = Page(life[2])
    assert "script" not in page.tags
    assert page.tags.count("title") == 1
    assert page.addresses
    assert all(address.startswith("#") and address[1:] in page.ids for address in page.addresses)
    assert re.findall(r"https?:|//|@import|url\((?!#)", life[2]) == []
    assert set(re.findall(r"url\(#([^)]+)\)", life[2])) <= set(page.ids)


def test_every_job_is_told_with_what_came_of_it(life: Life) -> None:
    _, jobs, html = life
    text = Page(html).text
    assert len(set(jobs.values())) == 5
    badges = {
        "promoted": "promoted",
        "rejected": "rejected",
        "failed": "failed",
        "rolled back": "promoted, then rolled back",
        "waiting": "waits for a person",
    }
    told = re.findall(r"<details.*?</details>", html, re.DOTALL)
    for job, (outcome, job_id) in zip(told, reversed(jobs.items()), strict=True):  # newest first
        assert f"job {job_id}" in job
        assert f"{badges[outcome]}</span>" in job
    assert "training failed: the disk is full" in text
    assert "bob: alarms at night" in text
    assert "no change" in text
    assert "every class that it predicts has a label" in text


def test_names_are_escaped_everywhere(life: Life) -> None:
    _, _, html = life
    assert "<script" not in html
    page = Page(html)
    assert HOSTILE in page.text
    assert any(HOSTILE in label for label in page.labels)


def test_title_is_escaped(tmp_path: Path) -> None:
    write_report(MemoryLedger(), MemoryObservations(), tmp_path / "p.html", title=HOSTILE, now=BEGIN)
    html = (tmp_path / "p.html").read_text()
    assert "<script" not in html
    assert HOSTILE in Page(html).text


def test_plots_say_in_words_what_they_show(life: Life) -> None:
    labels = Page(life[2]).labels
    assert all(labels)
    live_metric = next(label for label in labels if "accuracy of heat" in label)
    assert "0.8 to 0.97" in live_metric
    assert "threshold 0.92" in live_metric
    assert any("largest PSI of any feature of heat" in label and "to 0.41" in label for label in labels)
    assert any("floor 0.85" in label and "asked for" in label for label in labels)


def test_overview_names_champion_job_and_audit(life: Life) -> None:
    fleet, _, html = life
    row = next(row for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if ">heat</a>" in row)
    text = Page(row).text
    assert "version 2" in text
    assert "waits for a person" in text
    assert f"{len(fleet.ledger.read('heat'))} entries, verified" in text


def test_unknown_is_shown_as_unknown(tmp_path: Path) -> None:
    fleet = Fleet("quiet")
    fleet.metrics.set("quiet", "accuracy", None, reason="the metric source is away")
    fleet.days(3)
    text = Page(fleet.report(tmp_path / "page.html")).text
    assert "performance: unknown accuracy is unknown: the metric source is away" in text
    assert "Live accuracy" not in text
    assert "Drift: largest PSI" in text


def test_a_champion_that_cannot_be_scored_is_unknown_and_not_none(tmp_path: Path) -> None:
    fleet = Fleet("broken")
    fleet.days(2)
    fleet.registry.models["broken", "1"] = lambda features: int(features["gone"])
    fleet.fire("broken", 0.5)
    text = " ".join(Page(fleet.report(tmp_path / "page.html")).text.split())
    assert "the champion cannot be scored: " in text
    assert "The candidate on 120 rows" in text
    assert "Both versions" not in text
    assert "accuracy 1.0000 unknown" in text


def test_plots_come_from_the_ledger_where_the_record_is_gone(life: Life, tmp_path: Path) -> None:
    fleet, _, _ = life
    path = tmp_path / "page.html"
    write_report(fleet.ledger, MemoryObservations(), path, title="t", now=fleet.now, models=["heat"])
    assert any("accuracy of heat over time: 0.8 to" in label for label in Page(path.read_text()).labels)


def test_only_the_models_asked_for_in_their_order(life: Life, tmp_path: Path) -> None:
    page = Page(life[0].report(tmp_path / "page.html", [HOSTILE, "not there"]))
    assert page.text.index(HOSTILE) < page.text.index("not there")
    assert not any("of heat" in label for label in page.labels)
    assert "no entries" in page.text
    assert "nothing to plot" in page.text
    assert "No job has been opened" in page.text
    assert "No version serves yet" in page.text


def test_empty_fleet(tmp_path: Path) -> None:
    page = Page(Fleet().report(tmp_path / "page.html"))
    assert "There are no models yet" in page.text
    assert "svg" not in page.tags


def test_an_edited_entry_is_named_and_nothing_after_it_is_believed(life: Life, tmp_path: Path) -> None:
    fleet, jobs, _ = life
    edited = MemoryLedger()
    entries = list(fleet.ledger.read("heat"))
    decided = next(n for n, entry in enumerate(entries) if entry.kind == "job.decided")
    entries[decided] = replace(entries[decided], data=entries[decided].data.replace("promote", "reject"))
    edited.append(Append("heat", tuple[Entry, ...](entries), None))
    path = write_report(edited, fleet.observations, tmp_path / "page.html", title="t", now=fleet.now)
    page = Page(path.read_text())
    assert f"entry {decided + 1} cannot be trusted" in page.text
    assert "it was edited" in page.text
    assert jobs["promoted"] in page.text
    assert jobs["rejected"] not in page.text


def test_size_stays_small(life: Life) -> None:
    html = life[2]
    assert len(html) < 350_000  # two models and five jobs: five models with thirty stay under 2 MB


def test_an_earlier_page_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    Fleet().report(path)
    assert "old" not in path.read_text().split("<body>")[1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_missing_library_is_named_with_its_extra(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    if library == "matplotlib":
        monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(MissingExtra, match=rf"{library} is not installed.*autoretrain\[report\]"):
        Fleet().report(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.service
def test_browser_shows_it_without_complaint(life: Life, tmp_path: Path) -> None:
    chromium = require("chromium", "apt-get install chromium")
    _, jobs, html = life
    dom, complaints = _browse(chromium, tmp_path / "good", html)
    assert complaints == []
    assert all(job_id in dom for job_id in jobs.values())
    assert dom.count("<svg") == html.count("<svg")
    assert _browse(chromium, tmp_path / "bad", html.replace("</body>", "<script>f()</script></body>"))[1]


def _browse(chromium: str, folder: Path, html: str) -> tuple[str, list[str]]:
    """Load a page without network; return its tree, and what the console said."""
    folder.mkdir()
    (folder / "page.html").write_text(html, encoding="utf-8")
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--no-first-run", "--enable-logging=stderr"),
            *(f"--disable-{what}" for what in quiet),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
            *("--dump-dom", (folder / "page.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
