"""Canonical text, its hashes, and the chain."""

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoretrain.domain.sealing import (
    GENESIS,
    Draft,
    Head,
    canonical,
    digest_of,
    load,
    seal,
    timestamp,
    verify,
)
from autoretrain.entrypoints.testing.strategies import json_values, moments, streams
from autoretrain.ports.ledger import Entry
from autoretrain.ports.values import TimeWindow

NOON = datetime(2026, 3, 4, 12, 30, 0, 5, tzinfo=UTC)
Stream = tuple[Entry, ...]


def plain_json() -> st.SearchStrategy[Any]:
    """JSON without floats, and without text that we tag."""
    text = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda s: ":" not in s)
    leaves = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | text
    return st.recursive(
        leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3), max_leaves=8
    )


def by_utf16(value: Any) -> Any:
    """Members in the order of RFC 8785: by UTF-16 code units."""
    if isinstance(value, dict):
        return {key: by_utf16(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    return [by_utf16(item) for item in value] if isinstance(value, list) else value


class TestCanonicalText:
    @given(plain_json())
    def test_is_what_another_writer_of_rfc_8785_writes(self, value: Any) -> None:
        expected = json.dumps(by_utf16(value), ensure_ascii=False, separators=(",", ":"))
        assert canonical(value) == expected

    @pytest.mark.parametrize(
        ("bits", "text"),
        [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7FEFFFFFFFFFFFFF, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x44B52D02C7E14AF5, "9.999999999999997e+22"),
            (0x44B52D02C7E14AF6, "1e+23"),
            (0x444B1AE4D6E2EF4E, "999999999999999700000"),
            (0x444B1AE4D6E2EF50, "1e+21"),
            (0x3EB0C6F7A0B5ED8C, "9.999999999999997e-7"),
            (0x3EB0C6F7A0B5ED8D, "0.000001"),
            (0x41B3DE4355555555, "333333333.3333333"),
        ],
    )
    def test_numbers_of_the_standards_own_table(self, bits: int, text: str) -> None:
        (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))
        assert canonical(number) == text

    def test_members_are_in_the_standards_order(self) -> None:
        keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
        order = list(json.loads(canonical(dict.fromkeys(keys, 0))))
        assert order == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

    def test_control_characters(self) -> None:
        assert canonical("\u20ac$\u000f\nA'B\"\\/") == '"€$\\u000f\\nA\'B\\"\\\\/"'

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (float("nan"), '"float:NaN"'),
            (float("inf"), '"float:Infinity"'),
            (float("-inf"), '"float:-Infinity"'),
            (2**53 - 1, "9007199254740991"),
            (2**53, '"int:9007199254740992"'),
            (-(2**53), '"int:-9007199254740992"'),
            ("float:NaN", '"str:float:NaN"'),
            ("str:x", '"str:str:x"'),
            (True, "true"),
        ],
    )
    def test_what_a_double_cannot_hold_is_tagged(self, value: object, text: str) -> None:
        assert canonical(value) == text

    def test_values_of_ours(self) -> None:
        class Colour(Enum):
            RED = "red"

        @dataclass(frozen=True, slots=True)
        class Paint:
            colour: Colour
            mixed: datetime

        east = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert (
            canonical((Paint(Colour.RED, east),))
            == '[{"colour":"red","mixed":"2026-03-04T12:30:00.000005Z"}]'
        )
        assert load(canonical(TimeWindow(NOON, NOON)))["start"] == "2026-03-04T12:30:00.000005Z"
        assert canonical({1: frozenset({2})}) == '{"1":[2]}'

    def test_what_has_no_text_is_refused(self) -> None:
        with pytest.raises(TypeError, match="cannot hold a timedelta"):
            canonical({"wait": timedelta(1)})
        with pytest.raises(TypeError, match="cannot hold a type"):
            canonical(TimeWindow)

    def test_a_log_with_bytes_that_are_no_text(self) -> None:
        log = b"caf\xe9 failed".decode(errors="surrogateescape")
        assert load(canonical({log: log})) == {"caf\\udce9 failed": "caf\\udce9 failed"}

    @given(json_values())
    def test_comes_back(self, value: Any) -> None:
        assert same(load(canonical(value)), value)

    @given(json_values(), json_values())
    def test_different_values_have_different_digests(self, one: Any, other: Any) -> None:
        assert (digest_of(one) == digest_of(other)) == (canonical(one) == canonical(other))

    @given(moments())
    def test_times_have_six_digits_and_come_back(self, at: datetime) -> None:
        assert len(timestamp(at)) == len("2026-01-31T00:00:00.000000Z")
        assert datetime.fromisoformat(timestamp(at)) == at


def same(one: Any, other: Any) -> bool:
    """Equality in which NaN equals itself and True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class TestChain:
    def test_the_first_entry_begins_it(self) -> None:
        first, second = seal("m", Head(), (Draft("a"), Draft("b", {"x": 1}, "k", "ann")), NOON)
        assert (first.seq, first.prev, first.actor, first.key) == (1, GENESIS, "controller", None)
        assert (second.seq, second.prev, second.actor, second.key) == (2, first.hash, "ann", "k")
        assert first.chain == second.chain != ""
        assert second.data == '{"x":1}'

    def test_the_hash_is_over_all_other_fields(self) -> None:
        (entry,) = seal("m", Head(), (Draft("a", {"x": 1}),), NOON)
        rest = {name: getattr(entry, name) for name in Entry.__slots__ if name != "hash"}
        assert entry.hash == digest_of(rest)
        assert len(rest) == 10

    def test_goes_on_from_any_head(self) -> None:
        first = seal("m", Head(), (Draft("a"),), NOON)[0]
        second = seal("m", Head(first.chain, first.seq, first.hash), (Draft("b"),), NOON)[0]
        assert verify("m", (first, second)) is None

    @settings(max_examples=30)
    @given(streams())
    def test_what_was_sealed_verifies(self, stream: Stream) -> None:
        assert verify("m", stream) is None
        assert verify("m", ()) is None

    @settings(max_examples=30)
    @given(streams(), st.data())
    def test_an_edit_of_any_field_is_named(self, stream: Stream, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(stream) - 1))
        field = data.draw(st.sampled_from(Entry.__slots__))
        value = getattr(stream[place], field)
        change: dict[str, Any] = {field: value + 1 if isinstance(value, int) else f"{value}."}
        edited = replace(stream[place], **change)
        fault = verify("m", (*stream[:place], edited, *stream[place + 1 :]))
        assert fault is not None
        assert fault.seq == edited.seq
        assert fault.reason == "its content does not match its hash: it was edited"

    @settings(max_examples=30)
    @given(streams(min_size=2), st.data())
    def test_a_removed_entry_is_named_by_the_next(self, stream: Stream, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(stream) - 2))
        fault = verify("m", (*stream[:place], *stream[place + 1 :]))
        assert fault is not None
        assert (fault.seq, fault.reason) == (
            place + 2,
            f"it follows entry {place}: entries are missing or out of order",
        )

    @settings(max_examples=30)
    @given(streams(min_size=2), st.data())
    def test_reordered_entries_are_named(self, stream: Stream, data: st.DataObject) -> None:
        order: Sequence[int] = data.draw(st.permutations(range(len(stream))))
        fault = verify("m", [stream[place] for place in order])
        moved = [place for place, was in enumerate(order) if place != was]
        assert (fault and fault.seq) == (order[moved[0]] + 1 if moved else None)

    @settings(max_examples=30)
    @given(streams(min_size=2), st.data())
    def test_a_replaced_entry_is_named_by_the_next(self, stream: Stream, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(stream) - 2))
        old = stream[place]
        forged = seal("m", Head(old.chain, place, old.prev), (Draft("forged"),), NOON)[0]
        fault = verify("m", (*stream[:place], forged, *stream[place + 1 :]))
        assert fault is not None
        assert fault.seq == place + 2
        assert fault.reason == "it does not follow the entry before it: one of them was replaced"

    @pytest.mark.parametrize("change", [lambda e: replace(e, model="n"), lambda e: replace(e, chain="other")])
    def test_an_entry_of_another_stream_is_named(self, change: Callable[[Entry], Entry]) -> None:
        first, second = seal("m", Head(), (Draft("a"), Draft("b")), NOON)
        strange = change(second)
        rest = {name: getattr(strange, name) for name in Entry.__slots__ if name != "hash"}
        fault = verify("m", (first, replace(strange, hash=digest_of(rest))))
        assert fault is not None
        assert (fault.model, fault.seq, fault.reason) == ("m", 2, "it belongs to another stream")

    @settings(max_examples=30)
    @given(streams(min_size=2))
    def test_what_was_cut_off_cannot_be_seen_from_inside(self, stream: Stream) -> None:
        assert verify("m", stream[:-1]) is None


def test_what_ledgers_begin_with_stays_as_it_is() -> None:
    assert GENESIS == "0" * 64
    assert Head() == Head("", 0, GENESIS)
    (first,) = seal("m", Head(), [Draft("begun")], NOON)
    assert (len(first.chain), first.prev, first.seq) == (16, GENESIS, 1)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_come_back_with_their_sign(value: float) -> None:
    assert load(canonical({"x": value})) == {"x": value}


def test_not_a_number_comes_back_as_such() -> None:
    assert math.isnan(load(canonical(math.nan)))


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53 - 1), 2**53, 0])
def test_whole_numbers_come_back_whole(value: int) -> None:
    back = load(canonical(value))
    assert (back, type(back)) == (value, int)
