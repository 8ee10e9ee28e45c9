"""Anchors: what they say, and what a ledger held against them shows."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from autoretrain.domain.anchors import Anchor, AnchoredHead, Evidence, anchor_of, head_of, unsigned
from autoretrain.domain.sealing import GENESIS, Draft, Fault, Head, canonical, seal
from autoretrain.entrypoints.testing.strategies import streams
from autoretrain.ports.ledger import Entry

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
KEY = "ab" * 32
Stream = tuple[Entry, ...]


def stream(length: int, model: str = "m", note: str = "") -> Stream:
    """So many entries."""
    return seal(model, Head(), [Draft("note", {"n": n, "note": note}) for n in range(length)], NOON)


def rewritten(entries: Stream, at: int) -> Stream:
    """The stream with entry ``at`` changed, and every hash after it made to fit."""
    kept = entries[: at - 1]
    head = Head(kept[-1].chain, kept[-1].seq, kept[-1].hash) if kept else Head(entries[0].chain)
    drafts = [Draft(entry.kind, {"forged": True}) for entry in entries[at - 1 : at]]
    drafts += [Draft(entry.kind, json.loads(entry.data), entry.key, entry.actor) for entry in entries[at:]]
    return (*kept, *seal(entries[0].model, head, drafts, NOON))


def anchored(*states: Sequence[Stream]) -> list[Anchor]:
    """One anchor a day over the streams as they stood."""
    anchors: list[Anchor] = []
    for day, entries in enumerate(states):
        before = anchors[-1] if anchors else None
        heads = [head_of(one[-1]) for one in entries if one]
        at = NOON + timedelta(days=day)
        anchors.append(replace(unsigned(before, heads, at, KEY), signature="signed"))
    return anchors


def evidence(anchors: Iterable[Anchor | str]) -> Evidence:
    """All of them added; whatever is not signed with the word is forged."""
    gathered = Evidence(lambda anchor: "" if anchor.signature == "signed" else "forged")
    for anchor in anchors:
        gathered.add(anchor if isinstance(anchor, str) else anchor.text)
    return gathered


def named(fault: Fault | None) -> tuple[int, int | None] | None:
    """Which entry, by which anchor."""
    return (fault.seq, fault.anchor) if fault else None


class TestText:
    def test_is_one_canonical_line_that_can_be_read_back(self) -> None:
        (anchor,) = anchored([stream(2, "ä b"), stream(3, "a")])
        assert "\n" not in anchor.text
        assert anchor.text == canonical(json.loads(anchor.text))
        assert anchor_of(anchor.text) == anchor
        assert [head.model for head in anchor.heads] == ["a", "ä b"]
        assert anchor.at == "2026-03-04T12:00:00.000000Z"

    def test_root_and_statement_are_what_the_page_says(self) -> None:
        first, second = anchored([stream(2)], [stream(3)])
        values = json.loads(second.text)
        heads, _ = values.pop("heads"), values.pop("signature")
        assert values["root"] == hashlib.sha256(canonical(heads).encode()).hexdigest()
        assert second.statement == canonical(values).encode()
        assert (first.number, first.prev) == (1, GENESIS)
        assert (second.number, second.prev) == (2, hashlib.sha256(first.statement).hexdigest())

    @given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.integers(1, 2**53 - 1)), max_size=4))
    def test_is_the_text_of_rfc_8785_whatever_the_models_are_called(
        self, named: list[tuple[str, int]]
    ) -> None:
        heads = [AnchoredHead("c", "h", model, seq) for model, seq in named]
        anchor = unsigned(None, heads, NOON, KEY).signed("signed")
        assert anchor.text.encode() == rfc8785.dumps(json.loads(anchor.text))
        assert anchor.statement == rfc8785.dumps(json.loads(anchor.statement))
        assert anchor_of(anchor.text) == anchor

    @pytest.mark.parametrize(
        "text",
        [
            "", "null", "[]", "{}", "[" * 100_000, '{"heads":[]}', '{"heads":[{"seq":1}]}',
            anchored([stream(1)])[0].text[:-1],
            anchored([stream(1)])[0].text.replace('"number":1', '"number":0'),
            anchored([stream(1)])[0].text.replace('"number":1', '"number":true'),
            anchored([stream(1)])[0].text.replace('"number":1', '"number":"1"'),
            anchored([stream(1)])[0].text.replace('"number":1', '"number":9007199254740992'),
            anchored([stream(1)])[0].text.replace('"seq":1', '"seq":1.0'),
            anchored([stream(1)])[0].text.replace('"model":"m"', '"model":"\\ud800"'),
            anchored([stream(1)])[0].text.replace('"v":1', '"v":1,"more":2'),
        ],
        ids=range(15),
    )  # fmt: skip
    def test_anything_else_is_no_anchor(self, text: str) -> None:
        with pytest.raises(ValueError, match="it is no anchor"):
            anchor_of(text)

    def test_a_newer_one_asks_for_an_upgrade(self) -> None:
        text = replace(anchored([stream(1)])[0], v=2).text
        with pytest.raises(ValueError, match="version 2, newer than this program"):
            anchor_of(text)


class TestAnchorsThemselves:
    def test_a_whole_set_has_no_fault_in_any_order(self) -> None:
        anchors = anchored([stream(1)], [stream(2)], [stream(3)])
        for order in (anchors, anchors[::-1], [*anchors, *anchors]):
            gathered = evidence(order)
            assert (gathered.faults(), gathered.anchors) == ([], 3)
        assert evidence([]).faults() == []

    @given(st.integers(1, 5), st.integers(2, 4))
    def test_one_removed_from_among_them_is_seen(self, removed: int, more: int) -> None:
        anchors = anchored(*[[stream(n)] for n in range(1, removed + more)])
        faults = evidence(anchors[: removed - 1] + anchors[removed:]).faults()
        assert [(f.model, f.seq, f.anchor) for f in faults] == [("", 0, removed + 1)]
        assert faults[0].reason == f"it follows anchor {removed}, which is missing"

    def test_one_replaced_is_seen(self) -> None:
        first, _, third = anchored([stream(1)], [stream(2)], [stream(3)])
        other = replace(unsigned(first, [head_of(stream(1)[-1])], NOON, KEY), signature="signed")
        (fault,) = evidence([first, other, third]).faults()
        assert (fault.anchor, fault.reason) == (3, "it does not follow anchor 2: one of them was replaced")

    def test_one_before_the_first_is_seen(self) -> None:
        (first,) = anchored([stream(1)])
        (fault,) = evidence([replace(first, prev="1" * 64)]).faults()
        assert str(fault) == "anchor 1: it is the first, and names one before it"

    def test_two_controllers_may_make_one_at_the_same_time(self) -> None:
        first, second = anchored([stream(1)], [stream(2)])
        twin = replace(unsigned(first, [head_of(stream(2)[-1])], NOON, KEY), signature="signed")
        third = replace(unsigned(twin, [head_of(stream(3)[-1])], NOON, KEY), signature="signed")
        assert evidence([first, second, twin, third]).faults() == []

    def test_edited_heads_are_seen_and_prove_nothing(self) -> None:
        (anchor,) = anchored([stream(3)])
        head = replace(anchor.heads[0], seq=2)
        gathered = evidence([replace(anchor, heads=(head,))])
        assert [f.reason for f in gathered.faults()] == ["its heads do not match its root: they were edited"]
        assert gathered.hold("m", stream(1)) is None

    def test_a_forged_one_is_seen_once_and_proves_nothing(self) -> None:
        first, second, third = anchored([stream(1)], [stream(2)], [stream(3)])
        forged = replace(second, at="2020-01-01T00:00:00.000000Z", signature="")
        gathered = evidence([first, forged, third])
        assert [(f.anchor, f.reason) for f in gathered.faults()] == [(2, "forged")]
        assert gathered.hold("m", stream(3)) is None

    def test_what_a_forged_one_says_of_others_is_no_fault_of_theirs(self) -> None:
        first, second, third = anchored([stream(1)], [stream(2)], [stream(3)])
        forged = replace(second, prev="1" * 64, signature="")
        assert [f.reason for f in evidence([first, forged, third]).faults()] == ["forged"]

    def test_a_forged_copy_does_not_hide_that_one_before_is_missing(self) -> None:
        _, second = anchored([stream(1)], [stream(2)])
        for order in ([second, second.signed("")], [second.signed(""), second]):
            reasons = [fault.reason for fault in evidence(order).faults()]
            assert reasons == ["forged", "it follows anchor 1, which is missing"]

    def test_a_forged_copy_does_not_hide_the_real_one(self) -> None:
        (first,) = anchored([stream(2)])
        forged = replace(first, signature="")
        for order in ([first, forged], [forged, first]):
            gathered = evidence(order)
            assert [f.reason for f in gathered.faults()] == ["forged"]
            assert named(gathered.hold("m", ())) == (1, 1)

    def test_a_line_that_is_no_anchor_is_named(self) -> None:
        (first,) = anchored([stream(1)])
        (fault,) = evidence([first, "what?"]).faults()
        assert str(fault) == "anchors: line 2: it is no anchor"


class TestStreams:
    @settings(max_examples=50)
    @given(streams(min_size=1), st.data())
    def test_an_untouched_stream_holds_however_it_went_on(self, entries: Stream, data: st.DataObject) -> None:
        ends = data.draw(st.lists(st.integers(1, len(entries)), min_size=1, max_size=4).map(sorted))
        gathered = evidence(anchored(*[[entries[:end]] for end in ends]))
        assert gathered.hold(entries[0].model, entries) is None
        assert gathered.faults() == []

    @settings(max_examples=50)
    @given(st.integers(2, 12), st.data())
    def test_what_was_cut_off_is_named_by_its_first_entry(self, length: int, data: st.DataObject) -> None:
        entries = stream(length)
        end = data.draw(st.integers(2, length))
        left = data.draw(st.integers(0, end - 1))
        fault = evidence(anchored([entries[:1]], [entries[:end]])).hold("m", entries[:left])
        assert named(fault) == (left + 1, 2)
        assert fault is not None
        assert f"knows {end} entries" in fault.reason

    def test_a_stream_that_is_gone_is_said_to_be(self) -> None:
        gathered = evidence(anchored([stream(2), stream(3, "n")]))
        assert gathered.models == {"m", "n"}
        fault = gathered.hold("n", ())
        assert str(fault) == "n: entry 1: the stream is gone: anchor 1 (2026-03-04 12:00 UTC) knows 3 entries"

    @settings(max_examples=50)
    @given(st.integers(1, 12), st.data())
    def test_a_rewritten_stream_is_named_by_the_first_anchored_entry_that_differs(
        self, length: int, data: st.DataObject
    ) -> None:
        entries = stream(length)
        ends = data.draw(st.lists(st.integers(1, length), min_size=1, max_size=4).map(sorted))
        at = data.draw(st.integers(1, ends[-1]))
        fault = evidence(anchored(*[[entries[:end]] for end in ends])).hold("m", rewritten(entries, at))
        first = next(end for end in ends if end >= at)
        assert named(fault) == (first, ends.index(first) + 1)
        assert fault is not None
        proven = max((end for end in ends if end < at), default=0)
        span = f"one of entries {proven + 1} to {first}" if proven + 1 < first else "it"
        assert fault.reason.endswith(f": {span} was rewritten")

    def test_what_no_anchor_knows_cannot_be_seen(self) -> None:
        entries = stream(5)
        gathered = evidence(anchored([entries[:3]]))
        assert gathered.hold("m", entries[:4]) is None
        assert gathered.hold("m", rewritten(entries, 4)) is None

    @pytest.mark.parametrize(("edited", "expected"), [(2, (2, None)), (5, (4, 1))])
    def test_of_two_faults_the_first_is_named(self, edited: int, expected: tuple[int, int | None]) -> None:
        entries = list(rewritten(stream(6), 3))
        entries[edited - 1] = replace(entries[edited - 1], actor="eve")
        assert named(evidence(anchored([stream(6)[:4]])).hold("m", entries)) == expected

    def test_what_the_chain_shows_of_an_entry_comes_before_what_an_anchor_says_of_it(self) -> None:
        entries = list(stream(4))
        entries[3] = replace(entries[3], hash="0" * 64)
        assert named(evidence(anchored([stream(4)])).hold("m", entries)) == (4, None)

    def test_the_first_entry_is_named_though_an_older_anchor_knows_a_later_one(self) -> None:
        entries = stream(6)
        gathered = evidence(anchored([entries[:5]], [entries[:3]]))
        assert named(gathered.hold("m", rewritten(entries, 2))) == (3, 2)

    def test_of_two_anchors_that_disagree_on_an_entry_one_is_always_contradicted(self) -> None:
        gathered = evidence(anchored([stream(2)], [stream(2, note="other")]))
        assert named(gathered.hold("m", stream(2))) == (2, 2)
        assert named(gathered.hold("m", stream(2, note="other"))) == (2, 1)

    def test_a_stream_that_began_after_the_anchor_is_only_walked(self) -> None:
        assert evidence(anchored([stream(2)])).hold("new", stream(3, "new")) is None


def test_a_head_says_where_a_stream_ended() -> None:
    entry = stream(2)[-1]
    assert head_of(entry) == AnchoredHead(entry.chain, entry.hash, "m", 2)
