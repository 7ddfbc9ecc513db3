"""The verifier's fold computes the rows of a log: each expectation is derived by hand from docs/read-model.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.bodies import MessageSend
from schemas.cursor import Decided, LogCursor
from schemas.errors import LogCorrupt, Reason, UnknownType
from schemas.types import CommandType
from services.ops.verify.projection.fold import LogFold
from services.ops.verify.projection.statements import ROWS_SCHEMA
from services.ops.verify.projection.tables import (
    CHATS,
    DELETED_BLOCKS,
    EARLIER_TEXTS,
    MESSAGES,
    OUTCOMES,
    PARTICIPANTS,
    REACTION_COUNTS,
    REACTIONS,
    Row,
    Table,
)
from services.ops.verify.scratch import open_scratch
from tests.support.chat_log import ANNA, BEN, CARL, DORA, ChatLog


def fold_of(log: ChatLog) -> Iterator[LogFold]:
    with open_scratch(ROWS_SCHEMA) as scratch:
        fold = LogFold(scratch, log.partition)
        for event in LogCursor(compiled=False).read(log.events):
            if isinstance(event, Decided):
                fold.apply(event.stamp, event.outcome)
        fold.finish()
        yield fold


def rows(log: ChatLog, table: Table, *columns: str) -> list[Row]:
    """Return the rows of a table in the order of their keys, with only these columns."""
    for fold in fold_of(log):
        places = [table.columns.index(column) for column in columns]
        found = sorted(fold.rows(table, 0), key=lambda row: tuple(map(str, row[: table.key_columns])))
        return [tuple(row[place] for place in places) for row in found]
    raise AssertionError("never")


@pytest.fixture
def log() -> ChatLog:
    log = ChatLog(at_ms=1_000)
    log.open()  # 1001 ms
    return log


def test_a_new_group_has_its_creator_as_owner_and_the_others_as_members(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN, ANNA])  # 1002 ms
    assert rows(log, CHATS, *CHATS.columns) == [(chat, "group", "ops", ANNA, 1_002_000, 0, 1, None, 0, 1)]
    assert rows(log, PARTICIPANTS, *PARTICIPANTS.columns) == [
        (chat, ANNA, "owner", 1_002_000, 0, None, 0, None, 0, 0, 1, 1),
        (chat, BEN, "member", 1_002_000, 0, None, 0, None, 0, 0, 1, 1),
    ]


def test_a_renamed_group_has_its_new_name_and_nothing_else_of_it_changes(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])  # 1002 ms
    log.rename(chat, ANNA, "new")
    log.rename(chat, ANNA, "newer")
    assert rows(log, CHATS, *CHATS.columns) == [(chat, "group", "newer", ANNA, 1_002_000, 0, 3, None, 0, 3)]
    assert rows(log, PARTICIPANTS, "user_id", "changed_position") == [(ANNA, 1), (BEN, 1)]


def test_reactions_are_rows_and_counted_by_emoji_since_its_first_use(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])  # position 1
    log.send(chat, ANNA)  # 2
    log.react(chat, ANNA, 1, "👍")  # 3
    log.react(chat, BEN, 1, "👍")
    log.react(chat, BEN, 1, "❤")  # 5
    log.react(chat, ANNA, 1, "👍", remove=True)
    assert rows(log, REACTIONS, *REACTIONS.columns) == [(chat, 1, "❤", BEN, 5), (chat, 1, "👍", BEN, 4)]
    assert rows(log, REACTION_COUNTS, *REACTION_COUNTS.columns) == [(chat, 1, "❤", 1, 5), (chat, 1, "👍", 1, 3)]
    assert rows(log, MESSAGES, "position", "changed_position") == [(2, 6)]
    log.react(chat, BEN, 1, "👍", remove=True)
    log.react(chat, BEN, 1, "👍")  # 8
    assert rows(log, REACTION_COUNTS, "emoji", "first_position") == [("❤", 5), ("👍", 8)], "a new first use"
    log.delete(chat, ANNA, 1)
    assert rows(log, REACTIONS, "emoji") == rows(log, REACTION_COUNTS, "emoji") == []


def test_both_sides_of_a_direct_chat_are_owners(log: ChatLog) -> None:
    log.create_direct(ANNA, BEN)
    assert rows(log, CHATS, "kind", "name") == [("direct", None)]
    assert rows(log, PARTICIPANTS, "user_id", "role") == [(ANNA, "owner"), (BEN, "owner")]


def test_a_direct_chat_with_oneself_has_one_member(log: ChatLog) -> None:
    log.create_direct(ANNA, ANNA)
    assert rows(log, PARTICIPANTS, "user_id", "role") == [(ANNA, "owner")]


def test_a_message_holds_its_body_its_place_and_the_time_of_its_record(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(
        chat, ANNA, "héllo", "key-1", media_urls=["https://example.org/ä"],
        metadata={"z": {"b": 1, "a": True}, "n": -0.0}, original_sent_at="1970-01-01T00:00:00.000001Z",
    )  # fmt: skip
    assert rows(log, MESSAGES, *MESSAGES.columns) == [
        (
            chat, 1, sent.id, ANNA, "héllo", "key-1", None, None, 0, '["https://example.org/ä"]',
            '{"n":0.0,"z":{"a":true,"b":1.0}}', sent.at_ms * 1000, 1, None, None, 2, 2, 0, None,
        )
    ]  # fmt: skip
    assert rows(log, CHATS, "last_seq", "last_position", "last_message_at") == [(1, 2, sent.at_ms * 1000)]


def test_a_message_without_extras_has_an_empty_array_and_no_metadata(log: ChatLog) -> None:
    log.send(log.create(ANNA, "ops"), ANNA)
    assert rows(log, MESSAGES, "media_urls", "metadata", "original_sent_at") == [("[]", None, None)]


def test_a_thread_counts_its_live_replies_and_knows_the_last(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    first = log.send(chat, ANNA)
    for _ in range(3):
        log.send(chat, BEN, reply_to_message_id=first.id)
    log.delete(chat, BEN, 4)
    gone = log.delete(chat, BEN, 3)
    columns = ("seq", "reply_count", "last_reply_seq", "changed_position")
    assert rows(log, MESSAGES, *columns)[0] == (1, 1, 2, gone.position)
    gone = log.delete(chat, BEN, 2)
    assert rows(log, MESSAGES, *columns)[0] == (1, 0, None, gone.position)


def test_an_edit_keeps_the_text_before_it_until_the_message_is_deleted(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(chat, ANNA, "one")
    edit = log.edit(chat, ANNA, 1, "two")
    log.edit(chat, ANNA, 1, "three")
    assert rows(log, EARLIER_TEXTS, *EARLIER_TEXTS.columns) == [
        (chat, 1, 0, "one", sent.at_ms * 1000),
        (chat, 1, 1, "two", edit.at_ms * 1000),
    ]
    log.delete(chat, ANNA, 1)
    assert rows(log, EARLIER_TEXTS, *EARLIER_TEXTS.columns) == []


def test_replies_belong_to_the_first_message_of_their_thread(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    first = log.send(chat, ANNA)  # position 2
    reply = log.send(chat, BEN, reply_to_message_id=first.id)  # 3
    log.send(chat, ANNA, reply_to_message_id=reply.id)  # 4
    log.send(chat, ANNA)  # 5
    assert rows(log, MESSAGES, "seq", "reply_to_message_id", "root_seq", "reply_count", "changed_position") == [
        (1, None, None, 2, 4),
        (2, first.id, 1, 0, 3),
        (3, reply.id, 1, 0, 4),
        (4, None, None, 0, 5),
    ]


def test_cursors_move_apart_and_own_messages_above_the_read_cursor_are_counted(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    for sender in (ANNA, BEN, BEN, ANNA, BEN):
        log.send(chat, sender)
    read = log.read(chat, BEN, 3)
    delivered = log.delivered(chat, ANNA, 4)
    columns = ("user_id", "read_seq", "delivered_seq", "own_live_after_read", "last_read_at", "changed_position")
    assert rows(log, PARTICIPANTS, *columns) == [
        (ANNA, 0, 4, 2, None, delivered.position),
        (BEN, 3, 0, 1, read.at_ms * 1000, read.position),
    ]
    assert rows(log, CHATS, "last_seq", "last_position") == [(5, 8)]


def test_an_edit_leaves_what_it_does_not_name(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA, "a", media_urls=["https://a.example/x"], metadata={"k": 1})
    log.edit(chat, ANNA, 1, "b", media_urls=[])
    edit = log.edit(chat, ANNA, 1, "c")
    columns = ("message_text", "media_urls", "metadata", "edited_at", "revision", "changed_position")
    assert rows(log, MESSAGES, *columns) == [("c", "[]", '{"k":1.0}', edit.at_ms * 1000, 2, edit.position)]
    log.duplicate(edit, revision=2)
    assert [row for row in rows(log, OUTCOMES, "outcome", "revision") if row[1]] == [
        ("accepted", 1),
        ("accepted", 2),
        ("duplicate", 2),
    ]
    assert rows(log, CHATS, "last_seq", "last_position") == [(1, 4)]


def test_a_deleted_message_keeps_its_place_and_is_counted_where_it_lies(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    for n in range(1, 301):
        log.send(chat, BEN if n % 2 else ANNA, "text", metadata={"n": n}, media_urls=["https://example.org"])
    gone = [log.delete(chat, ANNA, seq) for seq in (1, 255, 256, 300)]
    assert rows(log, MESSAGES, "message_text", "media_urls", "metadata", "deleted_at", "changed_position")[0] == (
        None, "[]", None, gone[0].at_ms * 1000, gone[0].position,
    )  # fmt: skip
    assert rows(log, CHATS, "last_seq", "last_position", "deleted_total") == [(300, 305, 4)]
    assert rows(log, PARTICIPANTS, "user_id", "own_live_after_read") == [(ANNA, 148), (BEN, 148)]
    assert rows(log, DELETED_BLOCKS, "span", "block", "deleted", "places") == [
        (1_048_576, 0, 4, None),
        (256, 0, 2, "01" + "0" * 253 + "1"),
        (256, 1, 2, "1" + "0" * 43 + "1" + "0" * 211),
        (4_096, 0, 4, None),
        (65_536, 0, 4, None),
    ]


def test_who_leaves_keeps_the_row_and_who_joins_again_starts_at_the_end(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, BEN)
    read = log.read(chat, BEN, 1)
    log.send(chat, BEN)
    left = log.remove(chat, ANNA, BEN)
    columns = ("role", "joined_at", "joined_seq", "left_at", "read_seq", "delivered_seq", "own_live_after_read",
               "last_read_at", "changed_position")  # fmt: skip
    assert rows(log, PARTICIPANTS, *columns)[1] == (
        "member", 1_002_000, 0, left.at_ms * 1000, 1, 0, 1, read.at_ms * 1000, left.position,
    )  # fmt: skip
    log.send(chat, ANNA)
    back = log.add(chat, ANNA, BEN, "admin")
    assert rows(log, PARTICIPANTS, *columns)[1] == (
        "admin", back.at_ms * 1000, 3, None, 3, 3, 0, read.at_ms * 1000, back.position,
    )  # fmt: skip


def test_every_outcome_with_an_id_is_remembered_with_what_became_of_it(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(chat, ANNA)
    log.duplicate(sent)
    refused = log.command(CommandType.MESSAGE_SEND, chat, DORA, MessageSend(text="a"))
    log.reject(refused, Reason.UNKNOWN_CHAT, "there is no such chat")
    log.reject(log.command("nonsense", chat, DORA, b"{"), Reason.UNKNOWN_TYPE, command_id=None)
    columns = ("index", "command_id", "sender_id", "type", "outcome", "reason", "seq", "position", "at", "detail")
    assert rows(log, OUTCOMES, *columns)[1:] == [
        (2, sent.id, ANNA, "message.send.v1", "accepted", None, 1, 2, sent.at_ms * 1000, None),
        (3, sent.id, ANNA, None, "duplicate", None, 1, 2, (sent.at_ms + 1) * 1000, None),
        (4, refused.command_id, DORA, "message.send.v1", "rejected", "unknown_chat", None, None,
         (sent.at_ms + 2) * 1000, "there is no such chat"),
    ]  # fmt: skip


def test_outcomes_past_their_keep_time_are_left_out(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(chat, ANNA)
    for fold in fold_of(log):
        assert [row[1] for row in fold.rows(OUTCOMES, sent.at_ms * 1000)] == [2]
        assert [row[1] for row in fold.group(OUTCOMES, 0, sent.at_ms * 1000)] == [2]


@pytest.mark.parametrize("what", ["message", "mark", "leaving", "reply", "edit", "deletion", "deletion again", "chat"])
def test_a_log_that_contradicts_itself_is_corrupt(log: ChatLog, what: str) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    match what:
        case "message":
            log.send(log.group_id(ANNA, "another"), ANNA)
        case "mark":
            log.read(chat, CARL, 1)
        case "leaving":
            log.remove(chat, ANNA, CARL)
        case "reply":
            log.send(chat, ANNA, reply_to_message_id=chat)
        case "edit":
            log.delete(chat, ANNA, 1)
            log.edit(chat, ANNA, 1, "back again")
        case "deletion":
            log.delete(chat, ANNA, 2)
        case "deletion again":
            log.delete(chat, ANNA, 1)
            log.delete(chat, ANNA, 1)
        case "chat":
            log.create(ANNA, "ops")
    with pytest.raises(LogCorrupt):
        rows(log, CHATS, "chat_id")


def test_an_opening_in_the_place_of_an_outcome_is_corrupt(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, event_type="term.opened.v1")
    with pytest.raises(LogCorrupt, match="index of an outcome"):
        rows(log, CHATS, "chat_id")


def test_an_event_from_the_future_stops_the_fold(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, event_type="message.pinned.v1")
    with pytest.raises(UnknownType, match="pinned"):
        rows(log, CHATS, "chat_id")
