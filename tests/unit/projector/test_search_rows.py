"""The rows of message_search that a batch changes, however the log is cut into batches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.errors import LogCorrupt
from schemas.ids import ChatId
from services.projector.mapping.search import SearchChanges, search_changes_of, search_row
from services.projector.mapping.validity import ReaderPosition, classify_records
from tests.support.chat_log import ANNA, BEN, ChatLog, LogRecord


def changes(records: Sequence[LogRecord], log: ChatLog) -> SearchChanges:
    """Return what the records change, read after those before them."""
    first = records[0].offset
    start = classify_records(ReaderPosition(), log.events[:first], read_up_to=first).end
    return search_changes_of(classify_records(start, records, read_up_to=records[-1].offset + 1).events)


@pytest.fixture
def log() -> ChatLog:
    log = ChatLog()
    log.open()
    return log


@pytest.fixture
def chat(log: ChatLog) -> ChatId:
    return log.create(ANNA, "ops", [BEN])


def test_a_sent_message_is_added_with_its_lexemes(log: ChatLog, chat: ChatId) -> None:
    sent = log.send(chat, ANNA, "Hello, World")
    log.send(chat, BEN, "", media_urls=["https://example.org/a.png"])
    found = changes(log.events, log)
    first, second = map(search_row, found.search_added)
    hour = sent.at_ms // 3_600_000
    assert first[:3] == (chat, 1, ANNA)
    assert first.sent_at.timestamp() * 1000 == pytest.approx(sent.at_ms)
    assert first.lexemes == [
        f"c:{chat}", f"h:{hour}", f"i:{hour // 32}", f"j:{hour // 1024}", "hello", "world"
    ]  # fmt: skip
    assert (second.seq, len(second.lexemes)) == (2, 4), "a message without a text has a row too"
    assert (found.search_reworded, found.search_forgotten, found.rows) == ([], [], 2)


def test_an_edit_in_the_batch_of_its_message_is_one_row_with_the_last_text(log: ChatLog, chat: ChatId) -> None:
    log.send(chat, ANNA, "first")
    log.edit(chat, ANNA, 1, "second")
    log.edit(chat, ANNA, 1, "third")
    found = changes(log.events, log)
    assert [message.text for message in found.search_added] == ["third"]
    assert found.rows == 1


def test_an_edit_of_an_older_message_replaces_its_tokens(log: ChatLog, chat: ChatId) -> None:
    log.send(chat, ANNA, "first")
    log.edit(chat, ANNA, 1, "second")
    log.edit(chat, ANNA, 1, "third time")
    found = changes(log.events[-2:], log)
    assert [tuple(row) for row in found.search_reworded] == [(chat, 1, ["third", "time"])]
    assert found.rows == 1


def test_a_deleted_message_leaves_the_index_with_its_edits(log: ChatLog, chat: ChatId) -> None:
    log.send(chat, ANNA, "old")
    before = len(log.events)
    log.edit(chat, ANNA, 1, "older")
    log.delete(chat, ANNA, 1)
    log.send(chat, ANNA, "new")
    log.delete(chat, ANNA, 2)
    found = changes(log.events[before:], log)
    assert [tuple(row) for row in found.search_forgotten] == [(chat, 1)], "the other was never there"
    assert (found.search_added, found.search_reworded) == ([], [])


@pytest.mark.parametrize("again", ["edit", "delete"])
def test_a_message_that_is_changed_after_its_deletion_stops_the_partition(
    log: ChatLog, chat: ChatId, again: str
) -> None:
    log.send(chat, ANNA, "old")
    log.delete(chat, ANNA, 1)
    if again == "edit":
        log.edit(chat, ANNA, 1, "new")
    else:
        log.delete(chat, ANNA, 1)
    with pytest.raises(LogCorrupt, match="after it was deleted"):
        changes(log.events, log)
