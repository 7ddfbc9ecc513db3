"""The pages of a sync against a model that knows of every chat what changed when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import ChatId, partition_of
from schemas.sync_cursor import MAX_INDEX, SyncCursor, decode_sync_cursor, encode_sync_cursor
from services.query.api.sync_pages import (
    Place,
    SyncFrom,
    SyncRow,
    changed_rows,
    decode_since,
    encode_page,
    next_of,
    pinned_by,
)
from services.query.errors import InvalidCursor
from tests.support.examples import examples
from tests.support.wire_strategies import uuids

LOG = "6f6c1f0e-8a4b-4d3c-9b1a-0a1b2c3d4e5f"
PARTITIONS = 4
CHATS = [ChatId(f"{n:08}-0000-4000-8000-000000000000") for n in range(12)]
vectors = st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(0, 20))
rows = st.lists(
    st.builds(SyncRow, st.sampled_from(CHATS), st.booleans(), st.integers(1, 20), st.integers(0, 5)),
    unique_by=lambda row: row.chat_id,
)


def seen(since: dict[int, int] | None, chat_id: ChatId) -> int:
    return -1 if since is None else since.get(partition_of(chat_id, PARTITIONS), 0)


@given(st.none() | vectors, rows, st.integers(1, 4))
def test_the_pages_have_every_chat_that_changed_once_newest_first(
    since: dict[int, int] | None, all_rows: list[SyncRow], limit: int
) -> None:
    heads = dict.fromkeys(range(PARTITIONS), 20)
    asked = SyncFrom(since=None if since is None else SyncCursor(LOG, since))
    changed = [
        row for row in all_rows if row.changed_index > seen(since, row.chat_id) and (row.present or since is not None)
    ]
    found: list[SyncRow] = []
    while True:
        above = asked.above(PARTITIONS)
        assert all(row.changed_index > above for row in changed)
        there = [row for row in all_rows if row.changed_index > above]
        pinned = pinned_by(asked, LOG, heads, there, PARTITIONS)
        shown = changed_rows(asked, there, PARTITIONS)
        page = shown[:limit]
        text = next_of(asked, pinned, page, has_more=len(page) < len(shown))
        found += page
        if len(page) == len(shown):
            break
        asked = decode_since(text)
        assert asked.log_id == LOG
        heads = dict.fromkeys(range(PARTITIONS), 25)  # the log goes on meanwhile
    assert found == sorted(changed, key=lambda row: (row.at_ms, row.chat_id), reverse=True)
    after = decode_sync_cursor(text)
    assert set(after.indexes.values()) <= {20}
    named = {partition_of(row.chat_id, PARTITIONS) for row in all_rows if row.changed_index > seen(since, row.chat_id)}
    assert set(since or ()) | named <= after.indexes.keys() <= set(range(PARTITIONS))


def test_a_cursor_that_is_ahead_does_not_go_back_and_names_no_partition_without_chats() -> None:
    asked = SyncFrom(since=SyncCursor(LOG, {1: 30}))
    assert pinned_by(asked, LOG, {0: 5, 1: 20, 2: 7}, [], PARTITIONS).indexes == {1: 30}
    assert pinned_by(SyncFrom(), LOG, {0: 5, 1: 20}, [], PARTITIONS).indexes == {}


@given(uuids, st.none() | vectors, vectors, st.integers(0, 10**15), st.sampled_from(CHATS))
def test_the_cursor_between_two_pages_comes_back(
    log_id: str, since: dict[int, int] | None, more: dict[int, int], at_ms: int, chat_id: ChatId
) -> None:
    origin = None if since is None else SyncCursor(log_id, since)
    pinned = SyncCursor(log_id, {p: more.get(p, 0) + (since or {}).get(p, 0) for p in {*more, *(since or ())}})
    found = decode_since(encode_page(pinned, origin, Place(at_ms, chat_id)))
    assert (found.pinned, found.after) == (pinned, Place(at_ms, chat_id))
    if since is None:
        assert found.since is None
    else:
        assert found.since is not None
        assert {p: index for p, index in found.since.indexes.items() if index} == {p: n for p, n in since.items() if n}


def test_it_fits_a_query_string_with_sixty_four_partitions() -> None:
    since = SyncCursor(LOG, dict.fromkeys(range(64), 10**12))
    pinned = SyncCursor(LOG, dict.fromkeys(range(64), 10**12 + 10**6))
    assert len(encode_page(pinned, since, Place(10**13, CHATS[0]))) < 1_200


_CURSOR = encode_sync_cursor(SyncCursor(LOG, {0: 5}))


@examples()
@given(
    st.text(max_size=80)
    | st.sampled_from(
        [
            "",
            f"p.1.{CHATS[0]}.{_CURSOR}",
            f"p.01.{CHATS[0]}.{_CURSOR}.",
            f"p.1.{'-' * 36}.{_CURSOR}.",
            f"p.1.{CHATS[0]}.{_CURSOR}.{encode_sync_cursor(SyncCursor(LOG, {0: 6}))}",
            f"p.1.{CHATS[0]}.{_CURSOR}.{encode_sync_cursor(SyncCursor(LOG, {1: 1}))}",
            f"p.1.{CHATS[0]}.{_CURSOR}.{encode_sync_cursor(SyncCursor(CHATS[1], {0: 5}))}",
            f"p.1.{CHATS[0]}.{_CURSOR}.\n",
            f"p.{MAX_INDEX}.{CHATS[0]}.{_CURSOR}.",
        ]
    )
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_since(text)
