"""From two sides to named differences, and the canonical form in which both sides write a value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.log import Head
from services.ops.verify.projection.diff import Difference, Kind, compare_position, compare_rows
from services.ops.verify.projection.digest import Summaries
from services.ops.verify.projection.snapshot import ProjectionPosition
from services.ops.verify.projection.tables import (
    AS_TEXT,
    CHATS,
    INSTANT,
    MESSAGES,
    NUMBER,
    OUTCOMES,
    TEXT,
    Row,
    Table,
    Value,
    canonical_row,
    metadata_text,
    row_hash,
)

FORMS = {"chat_id": AS_TEXT, "seq": NUMBER, "text": TEXT, "at": INSTANT}
TABLE = Table(name="things", forms=FORMS, key_columns=2, seq="seq", position=None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pages(rows: Sequence[Row], size: int = 2) -> AsyncIterator[list[Row]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


async def compared(log: Sequence[Row], held: Sequence[Row], size: int = 2) -> list[Difference]:
    return [difference async for difference in compare_rows(TABLE, iter(log), pages(held, size))]


def row(seq: int, text: str = "a", at: int | None = None) -> Row:
    return ("c", seq, text, at)


@pytest.mark.anyio
async def test_equal_sides_have_no_difference() -> None:
    rows = [row(n) for n in range(5)]
    assert await compared(rows, rows) == []


@pytest.mark.anyio
async def test_a_changed_value_is_named_by_row_and_column_with_both_sides() -> None:
    [found] = await compared([row(1), row(2, "said", 1_500_000)], [row(1), row(2, "held", 1_500_000)])
    assert (found.table, found.kind, found.column) == ("things", Kind.CHANGED, "text")
    assert (found.key, found.log, found.held) == ((("chat_id", "c"), ("seq", 2)), "said", "held")


@pytest.mark.anyio
async def test_instants_are_shown_as_times() -> None:
    [found] = await compared([row(1, at=1_500_000)], [row(1, at=1_500_001)])
    assert (found.log, found.held) == ("1970-01-01T00:00:01.500Z", "1970-01-01T00:00:01.500001Z")


@pytest.mark.anyio
async def test_missing_and_extra_rows_are_named() -> None:
    found = await compared([row(1), row(2), row(4), row(5)], [row(0), row(1), row(3), row(4)])
    assert [(d.kind, dict(d.key)["seq"]) for d in found] == [
        (Kind.EXTRA, 0), (Kind.MISSING, 2), (Kind.EXTRA, 3), (Kind.MISSING, 5),
    ]  # fmt: skip


@pytest.mark.anyio
async def test_a_row_held_twice_is_extra() -> None:
    found = await compared([row(1), row(2)], [row(1), row(1), row(2)])
    assert [(d.kind, dict(d.key)["seq"]) for d in found] == [(Kind.EXTRA, 1)]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 3, 100])
async def test_the_size_of_a_page_changes_nothing(size: int) -> None:
    log, held = [row(n) for n in range(0, 20, 2)], [row(n) for n in range(0, 20, 3)]
    found = await compared(log, held, size)
    assert {dict(d.key)["seq"] for d in found if d.kind is Kind.MISSING} == {2, 4, 8, 10, 14, 16}
    assert {dict(d.key)["seq"] for d in found if d.kind is Kind.EXTRA} == {3, 9, 15}


def test_a_digest_does_not_depend_on_the_order_but_on_every_row() -> None:
    rows = [row(n, text) for n, text in enumerate("abcabc")]
    assert summary(rows) == summary(rows[::-1])
    assert summary(rows) != summary(rows[:-1])
    assert summary([row(1), row(1)]) != summary([])
    assert summary([row(1, "a"), row(2, "b")]) != summary([row(1, "b"), row(2, "a")])


def test_a_summary_tells_how_many_and_from_where_to_where() -> None:
    table = replace(TABLE, position="at")
    summaries = Summaries(table)
    summaries.add([row(4, at=9), row(2, at=7), row(3, at=8)])
    found = summaries.by_group["c"]
    assert (found.rows, found.lowest_seq, found.highest_seq) == (3, 2, 4)
    assert (found.lowest_position, found.highest_position) == (7, 9)


def summary(rows: Sequence[Row]) -> Summaries:
    summaries = Summaries(TABLE)
    summaries.add(rows)
    return summaries


@given(st.lists(st.one_of(st.none(), st.integers(), st.text()), min_size=1), st.data())
def test_another_value_gives_another_hash(values: list[Value], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.one_of(st.none(), st.integers(), st.text()).filter(lambda value: value != values[place]))
    assert row_hash(tuple(values)) != row_hash((*values[:place], other, *values[place + 1 :]))


@pytest.mark.parametrize(
    ("sent", "jsonb"),
    [
        ('{"a":1e2}', '{"a": 100}'),
        ('{"a":1.0,"b":[true,null,"x"]}', '{"b": [true, null, "x"], "a": 1.0}'),
        ('{"a":-0.0}', '{"a": 0.0}'),
        ('{"a":1e300}', '{"a": 1' + "0" * 300 + "}"),
        ('{"a":9007199254740991}', '{"a": 9007199254740991}'),
    ],
)
def test_jsonb_spells_numbers_its_own_way_and_that_is_no_difference(sent: str, jsonb: str) -> None:
    assert metadata_text(json.loads(sent)) == metadata_text(json.loads(jsonb))


def test_another_number_is_a_difference() -> None:
    assert metadata_text({"a": 1}) != metadata_text({"a": 2})
    assert metadata_text({"a": 1}) != metadata_text({"a": True})
    assert metadata_text({"a": 1}) != metadata_text({"a": "1"})


def test_rows_of_postgres_come_into_the_common_form() -> None:
    raw: list[object] = [None] * len(MESSAGES.columns)
    raw[MESSAGES.columns.index("media_urls")] = ["a", 'b"']
    raw[MESSAGES.columns.index("metadata")] = '{"b": 1, "a": 2.50}'
    row = canonical_row(MESSAGES, raw)
    assert row[MESSAGES.columns.index("media_urls")] == '["a","b\\""]'
    assert row[MESSAGES.columns.index("metadata")] == '{"a":2.5,"b":1.0}'


def test_keys_name_rows() -> None:
    assert (CHATS.key, MESSAGES.key, OUTCOMES.key) == (("chat_id",), ("chat_id", "seq"), ("partition", "index"))


def test_a_position_is_held_against_the_folded_head() -> None:
    head = Head(3, 10, 20, 1_000)
    position = ProjectionPosition(partition=4, topic_id="t", next_offset=12, head=head)
    assert list(compare_position("search_positions", position, head, "t", 12)) == []
    wrong = ProjectionPosition(partition=4, topic_id="other", next_offset=13, head=Head(2, 9, 19, 999))
    found = list(compare_position("search_positions", wrong, head, "t", 12))
    assert {(d.column, d.log, d.held) for d in found} == {
        ("topic_id", "t", "other"), ("term", 3, 2), ("index", 10, 9), ("command_offset", 20, 19),
        ("last_timestamp_ms", 1_000, 999), ("next_offset", 12, 13),
    }  # fmt: skip
    assert {(d.table, d.key) for d in found} == {("search_positions", (("partition", 4),))}
