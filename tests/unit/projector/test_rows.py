"""The mapping from events to rows, one statement at a time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

import pytest

from schemas.bodies import Mark, MessageDelete, MessageSend
from schemas.errors import LogCorrupt, Reason, UnknownType
from schemas.ids import ChatId, MessageId, UserId
from schemas.log import read_stamp
from schemas.types import CommandType
from schemas.wire.encoding import read_outcome
from services.projector.mapping.decode import Event, decode_event, instant
from services.projector.mapping.deletions import SPANS, blocks_deleted
from services.projector.mapping.lookups import Counted, LookedUp, Lookups, Root, Written, lookups_of
from services.projector.mapping.messages import message_row
from services.projector.mapping.rows import changes_of, outcome_row
from services.projector.mapping.tables import (
    ROW_TYPES,
    MessageRow,
    OutcomeRow,
    ParticipantJoined,
    ParticipantMoved,
    RowChanges,
)
from tests.support.chat_log import ANNA, BEN, CARL, ChatLog, LogRecord

NOTHING: Final = LookedUp()


class Logged:
    """A log whose events can be read from any point on."""

    def __init__(self) -> None:
        self.log = ChatLog()
        self.log.open()
        self.chat = self.log.create(ANNA, "ops", [BEN])

    def events(self, start: int = 0) -> list[Event]:
        return decoded(self.log.events[start:])


def decoded(records: Sequence[LogRecord]) -> list[Event]:
    return [decode_event(read_stamp(r.headers), read_outcome(r)) for r in records if read_stamp(r.headers).index]


def rows(events: Sequence[Event], looked_up: LookedUp = NOTHING, *, outcomes_since_ms: int = 0) -> RowChanges:
    return changes_of(events, looked_up, partition=3, outcomes_since_ms=outcomes_since_ms)


def messages_of(changes: RowChanges) -> list[MessageRow]:
    return [message_row(row) for row in changes.messages]


def outcomes_of(changes: RowChanges) -> list[OutcomeRow]:
    return [outcome_row(row, 3) for row in changes.outcomes]


def joined(changes: RowChanges, user: UserId) -> ParticipantJoined:
    return next(row for row in changes.participants_joined if row.user_id == user)


def moved(changes: RowChanges, user: UserId) -> ParticipantMoved:
    return next(row for row in changes.participants_moved if row.user_id == user)


def test_a_group_has_its_creator_as_owner_also_where_the_creator_names_themself() -> None:
    log = ChatLog()
    log.create(ANNA, "ops", [ANNA, BEN])
    changes = rows(decoded(log.events))
    assert [(m.user_id, m.role) for m in changes.participants_joined] == [(ANNA, "owner"), (BEN, "member")]
    (chat,) = changes.chats_created
    assert (chat.kind, chat.name, chat.created_by, chat.last_seq, chat.last_position) == ("group", "ops", ANNA, 0, 1)


@pytest.mark.parametrize("other", [BEN, ANNA])
def test_both_sides_of_a_direct_chat_own_it(other: UserId) -> None:
    log = ChatLog()
    log.create_direct(ANNA, other)
    changes = rows(decoded(log.events))
    assert {(m.user_id, m.role) for m in changes.participants_joined} == {(ANNA, "owner"), (other, "owner")}


def test_a_send_counts_for_its_sender_and_touches_nobody_else() -> None:
    s = Logged()
    start = len(s.log.events)
    s.log.send(s.chat, BEN)
    changes = rows(s.events(start))
    assert [m.user_id for m in changes.participants_moved] == [BEN]
    assert moved(changes, BEN).own_in_batch == 1
    assert moved(changes, BEN).changed_position is None
    (chat,) = changes.chats_moved
    assert (chat.last_seq, chat.last_position) == (1, 2)


def test_a_mark_takes_the_own_messages_it_passes_and_leaves_those_above() -> None:
    s = Logged()
    start = len(s.log.events)
    for _ in range(4):
        s.log.send(s.chat, BEN)
    s.log.read(s.chat, BEN, 3)
    s.log.send(s.chat, BEN)
    changes = rows(s.events(start))
    assert moved(changes, BEN).read_seq == 3
    assert moved(changes, BEN).own_in_batch == 2


def test_a_delivered_mark_moves_its_own_cursor_only() -> None:
    s = Logged()
    s.log.send(s.chat, ANNA)
    start = len(s.log.events)
    mark = s.log.delivered(s.chat, BEN, 1)
    member = moved(rows(s.events(start)), BEN)
    assert (member.read_seq, member.last_read_at, member.delivered_seq) == (None, None, 1)
    assert member.changed_position == mark.position


def test_who_joins_again_starts_at_the_last_seq_and_keeps_only_when_they_last_read() -> None:
    s = Logged()
    start = len(s.log.events)
    s.log.send(s.chat, BEN)
    read = s.log.read(s.chat, BEN, 1)
    s.log.send(s.chat, BEN)
    s.log.remove(s.chat, BEN, BEN)
    again = s.log.add(s.chat, ANNA, BEN, "admin")
    s.log.send(s.chat, BEN)
    changes = rows(s.events(start))
    assert not changes.participants_moved
    ben = joined(changes, BEN)
    assert (ben.role, ben.joined_seq, ben.read_seq, ben.delivered_seq, ben.left_at) == ("admin", 2, 2, 2, None)
    assert (ben.own_live_after_read, ben.changed_position) == (1, again.position)
    assert ben.last_read_at == instant(read.at_ms)
    assert ben.joined_at == instant(again.at_ms)


def test_who_joins_and_leaves_in_one_batch_is_a_member_who_left() -> None:
    s = Logged()
    start = len(s.log.events)
    s.log.add(s.chat, ANNA, CARL)
    left = s.log.remove(s.chat, CARL, CARL)
    carl = joined(rows(s.events(start), LookedUp(last_seqs={s.chat: 7})), CARL)
    assert (carl.joined_seq, carl.left_at, carl.changed_position) == (7, instant(left.at_ms), left.position)


def test_a_reply_belongs_to_the_thread_of_what_it_answers() -> None:
    s = Logged()
    first = s.log.send(s.chat, ANNA)
    reply = s.log.send(s.chat, BEN, reply_to_message_id=first.id)
    last = s.log.send(s.chat, ANNA, reply_to_message_id=reply.id)
    changes = rows(s.events())
    assert [m.root_seq for m in messages_of(changes)] == [None, 1, 1]
    assert [m.reply_count for m in messages_of(changes)] == [2, 0, 0]
    assert messages_of(changes)[0].changed_position == last.position
    assert not changes.roots_replied


def test_replies_to_an_older_message_are_added_to_its_root() -> None:
    s = Logged()
    first = s.log.send(s.chat, ANNA)
    reply = s.log.send(s.chat, BEN, reply_to_message_id=first.id)
    start = len(s.log.events)
    s.log.send(s.chat, ANNA, reply_to_message_id=reply.id)
    last = s.log.send(s.chat, ANNA, reply_to_message_id=first.id)
    events = s.events(start)
    asked = lookups_of(events)
    assert asked.replied == {MessageId(first.id), MessageId(reply.id)}
    root = Root(s.chat, 1)
    changes = rows(events, LookedUp(roots={MessageId(first.id): root, MessageId(reply.id): root}))
    assert [tuple(r) for r in changes.roots_replied] == [(s.chat, 1, 2, 4, last.position)]
    assert [m.root_seq for m in messages_of(changes)] == [1, 1]


def test_a_batch_asks_only_for_what_it_does_not_tell_itself() -> None:
    s = Logged()
    first = s.log.send(s.chat, ANNA)
    s.log.send(s.chat, ANNA, reply_to_message_id=first.id)
    s.log.add(s.chat, ANNA, CARL)
    assert lookups_of(s.events()) == Lookups(replied=frozenset(), joined=frozenset())
    assert lookups_of(s.events(4)) == Lookups(replied=frozenset(), joined=frozenset({s.chat}))
    assert lookups_of(s.events(3)) == Lookups(replied=frozenset({MessageId(first.id)}), joined=frozenset())


def test_a_reply_to_what_is_not_in_the_chat_is_a_corrupt_log() -> None:
    s = Logged()
    first = s.log.send(s.chat, ANNA)
    start = len(s.log.events)
    s.log.send(s.chat, ANNA, reply_to_message_id=first.id)
    with pytest.raises(LogCorrupt, match="not in that chat"):
        rows(s.events(start))
    elsewhere = LookedUp(roots={MessageId(first.id): Root(ChatId("another"), 1)})
    with pytest.raises(LogCorrupt, match="not in that chat"):
        rows(s.events(start), elsewhere)


def test_a_deletion_of_an_older_message_leaves_what_it_was_to_its_sender_to_the_database() -> None:
    s = Logged()
    s.log.send(s.chat, BEN)
    start = len(s.log.events)
    gone = s.log.delete(s.chat, ANNA, 1)
    changes = rows(s.events(start))
    assert [tuple(row) for row in changes.messages_deleted] == [(s.chat, 1, instant(gone.at_ms), gone.position)]
    assert [tuple(row) for row in changes.chats_deleted] == [(s.chat, 1)]
    assert not changes.participants_moved
    (chat,) = changes.chats_moved
    assert (chat.last_seq, chat.last_position) == (None, gone.position)


def test_a_message_that_its_batch_deletes_is_written_deleted_and_counts_for_nobody() -> None:
    s = Logged()
    start = len(s.log.events)
    s.log.send(s.chat, BEN, "secret", media_urls=["https://a.example/x"], metadata={"k": 1})
    s.log.send(s.chat, BEN, "stays")
    gone = s.log.delete(s.chat, BEN, 1)
    changes = rows(s.events(start))
    first, second = messages_of(changes)
    assert (first.message_text, first.media_urls, first.metadata) == (None, [], None)
    assert (first.deleted_at, first.position, first.changed_position) == (instant(gone.at_ms), 2, gone.position)
    assert (second.message_text, second.deleted_at) == ("stays", None)
    assert moved(changes, BEN).own_in_batch == 1
    assert not changes.messages_deleted
    assert [tuple(row) for row in changes.chats_deleted] == [(s.chat, 1)]


def test_a_deleted_root_keeps_its_replies_and_has_changed_at_the_later_of_both() -> None:
    s = Logged()
    first = s.log.send(s.chat, ANNA)
    second = s.log.send(s.chat, ANNA)
    s.log.delete(s.chat, ANNA, 1)
    reply = s.log.send(s.chat, BEN, reply_to_message_id=first.id)
    s.log.send(s.chat, BEN, reply_to_message_id=second.id)
    gone = s.log.delete(s.chat, ANNA, 2)
    messages = messages_of(rows(s.events()))
    assert [(m.reply_count, m.changed_position) for m in messages[:2]] == [(1, reply.position), (1, gone.position)]


def test_a_deleted_reply_no_longer_counts_in_its_thread() -> None:
    s = Logged()
    root = s.log.send(s.chat, ANNA)
    start = len(s.log.events)
    for _ in range(3):
        s.log.send(s.chat, BEN, reply_to_message_id=root.id)
    s.log.delete(s.chat, BEN, 3)
    gone = s.log.delete(s.chat, BEN, 4)
    (first, *_) = messages_of(rows(s.events()))
    assert (first.reply_count, first.last_reply_seq, first.changed_position) == (1, 2, gone.position)
    looked_up = LookedUp(roots={MessageId(root.id): Root(s.chat, 1)})
    assert rows(s.events(start), looked_up).roots_replied == [(s.chat, 1, 1, 2, gone.position)]
    last = s.log.delete(s.chat, BEN, 2)
    assert rows(s.events(start), looked_up).roots_replied == [(s.chat, 1, 0, None, last.position)]


def test_each_edit_keeps_the_text_that_it_replaces() -> None:
    s = Logged()
    sent = s.log.send(s.chat, BEN, "one", metadata={})
    plain = s.log.send(s.chat, BEN, "plain")
    first = s.log.edit(s.chat, BEN, 1, "two")
    s.log.edit(s.chat, BEN, 1, "three")
    s.log.edit(s.chat, BEN, 2, "no longer plain")
    assert rows(s.events()).texts_replaced == [
        (s.chat, 1, 0, "one", instant(sent.at_ms)),
        (s.chat, 1, 1, "two", instant(first.at_ms)),
        (s.chat, 2, 0, "plain", instant(plain.at_ms)),
    ]


def test_the_edits_of_a_batch_are_one_row_whether_the_message_is_of_the_batch_or_not() -> None:
    s = Logged()
    s.log.send(s.chat, BEN, "old")
    start = len(s.log.events)
    s.log.edit(s.chat, BEN, 1, "one", media_urls=["https://a.example/x"])
    s.log.send(s.chat, BEN, "plain")
    edit = s.log.edit(s.chat, BEN, 2, "two")
    last = s.log.edit(s.chat, BEN, 1, "three", metadata={"b": 1, "a": 2.5})
    changes = rows(s.events(start))
    assert [tuple(row) for row in changes.messages_edited] == [
        (
            s.chat, 1, "three", '["https://a.example/x"]', '{"a":2.5,"b":1}', instant(last.at_ms), 2, False,
            last.position,
        ),
        (s.chat, 2, "two", None, None, instant(edit.at_ms), 1, False, edit.position),
    ]  # fmt: skip
    assert [m.message_text for m in messages_of(changes)] == ["plain"], "written as it was sent, edited behind it"
    (chat,) = changes.chats_moved
    assert (chat.last_seq, chat.last_position) == (2, last.position)
    assert [outcome_row(row, 3).revision for row in changes.outcomes] == [1, None, 1, 2]
    assert changes.rows - sum(len(r) for _, r in changes.statements()) == 1 + len(changes.outcomes) + 2


def test_the_first_edit_of_a_batch_follows_the_revision_in_the_tables() -> None:
    s = Logged()
    s.log.send(s.chat, BEN, "old")
    s.log.edit(s.chat, BEN, 1, "one")
    start = len(s.log.events)
    edit = s.log.edit(s.chat, BEN, 1, "two")
    s.log.duplicate(edit, revision=2)
    events = s.events(start)
    assert lookups_of(events).edited == {(s.chat, 1)}
    written = instant(1_700_000_000_000)
    changes = rows(events, LookedUp(written={(s.chat, 1): Written(1, "one", written)}))
    assert [row.revision for row in changes.messages_edited] == [2]
    assert changes.texts_replaced == [(s.chat, 1, 1, "one", written)]
    assert [outcome_row(row, 3).revision for row in changes.outcomes] == [2, 2]


def test_a_message_that_is_edited_and_deleted_in_a_batch_stays_deleted() -> None:
    s = Logged()
    start = len(s.log.events)
    s.log.send(s.chat, BEN, "secret")
    s.log.edit(s.chat, BEN, 1, "still secret")
    s.log.delete(s.chat, BEN, 1)
    changes = rows(s.events(start))
    assert [row.deleted for row in changes.messages_edited] == [True]
    assert [m.message_text for m in messages_of(changes)] == [None]
    assert not changes.texts_replaced, "no earlier text of a deleted message is kept"
    s.log.edit(s.chat, BEN, 1, "back again")
    with pytest.raises(LogCorrupt, match="edited after it was deleted"):
        rows(s.events(start))


def test_a_message_that_is_deleted_twice_is_a_corrupt_log() -> None:
    s = Logged()
    s.log.send(s.chat, ANNA)
    s.log.delete(s.chat, ANNA, 1)
    s.log.delete(s.chat, ANNA, 1)
    with pytest.raises(LogCorrupt, match="deleted twice"):
        rows(s.events())


def test_deletions_are_counted_once_in_a_block_of_every_span() -> None:
    chat, other = ChatId("a"), ChatId("b")
    found = blocks_deleted([(chat, 1), (chat, 255), (chat, 256), (chat, 70_000), (other, 1)])
    assert {(row.span, row.block): row.deleted for row in found if row.chat_id == chat} == {
        (256, 0): 2, (256, 1): 1, (256, 273): 1,
        (4_096, 0): 3, (4_096, 17): 1,
        (65_536, 0): 3, (65_536, 1): 1,
        (1_048_576, 0): 4,
    }  # fmt: skip
    places = {(row.chat_id, row.span, row.block): row.places for row in found}
    assert places[chat, 256, 0] == "01" + "0" * 253 + "1"
    assert places[chat, 4_096, 0] is None
    assert [row.span for row in found if row.chat_id == other] == list(SPANS)


def test_each_kind_of_outcome_has_a_row_that_says_what_became_of_the_command() -> None:
    s = Logged()
    sent = s.log.send(s.chat, ANNA)
    s.log.duplicate(sent)
    s.log.unchanged(s.log.command(CommandType.READ_MARK, s.chat, BEN, Mark(up_to_seq=0)))
    late = s.log.command(CommandType.MESSAGE_SEND, s.chat, CARL, MessageSend(text="hello"))
    s.log.reject(late, Reason.UNKNOWN_CHAT, "there is no such chat")
    changes = rows(s.events())
    assert [
        (o.partition, o.log_index, o.type, o.outcome, o.reason, o.seq, o.position, o.detail)
        for o in outcomes_of(changes)
    ] == [
        (3, 1, "chat.create.v1", "accepted", None, None, 1, None),
        (3, 2, "message.send.v1", "accepted", None, 1, 2, None),
        (3, 3, None, "duplicate", None, 1, 2, None),
        (3, 4, None, "unchanged", None, None, None, None),
        (3, 5, "message.send.v1", "rejected", "unknown_chat", None, None, "there is no such chat"),
    ]
    assert {str(messages_of(changes)[0].message_id)} == {
        str(outcome.command_id) for outcome in outcomes_of(changes)[1:3]
    }


def test_an_outcome_without_a_command_id_has_no_row() -> None:
    log = ChatLog()
    chat = log.create(ANNA, "ops")
    log.reject(
        log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="x")), Reason.MALFORMED, command_id=None
    )
    assert len(rows(decoded(log.events)).outcomes) == 1


def test_outcomes_past_their_seven_days_are_left_out_and_everything_else_is_not() -> None:
    s = Logged()
    sent = s.log.send(s.chat, ANNA)
    changes = rows(s.events(), outcomes_since_ms=sent.at_ms)
    assert [o.command_id for o in outcomes_of(changes)] == [sent.id]
    assert len(changes.chats_created) == 1


def test_a_message_row_holds_everything_its_body_does() -> None:
    s = Logged()
    sent = s.log.send(
        s.chat, ANNA, "hällo", media_urls=["https://a.example/x"], metadata={"k": [1, {"z": None}]},
        original_sent_at="2020-02-29T23:59:59.999999Z",
    )  # fmt: skip
    (message,) = messages_of(rows(s.events()))
    assert message.message_text == "hällo"
    assert message.media_urls == ["https://a.example/x"]
    assert message.metadata == {"k": [1, {"z": None}]}
    assert message.original_sent_at == datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
    assert message.sent_at == instant(sent.at_ms)
    assert (message.position, message.changed_position) == (2, 2)


def test_a_role_changes_the_role_and_nothing_else_of_a_member() -> None:
    s = Logged()
    created = len(s.log.events)
    s.log.role(s.chat, ANNA, BEN, "admin")
    s.log.role(s.chat, ANNA, BEN, "owner")
    changes = rows(s.events(created))
    assert changes.roles_changed == [(s.chat, BEN, "owner")]
    assert changes.participants_moved == [
        ParticipantMoved(s.chat, BEN, None, None, None, None, 0, 3, s.events()[-1].index)
    ]
    s.log.remove(s.chat, ANNA, BEN)
    s.log.add(s.chat, ANNA, BEN)
    s.log.role(s.chat, ANNA, BEN, "admin")
    (joined,) = rows(s.events(created), LookedUp(last_seqs={s.chat: 0})).participants_joined
    assert (joined.role, joined.changed_position) == ("admin", 6)


def test_reactions_are_merged_to_those_that_are_there_and_counts_go_on_from_before_the_batch() -> None:
    s = Logged()
    s.log.send(s.chat, ANNA)
    s.log.react(s.chat, ANNA, 1, "👍")  # position 3
    before = len(s.log.events)
    s.log.react(s.chat, BEN, 1, "👍")  # 4
    s.log.react(s.chat, ANNA, 1, "👍", remove=True)
    s.log.react(s.chat, BEN, 1, "❤")
    s.log.react(s.chat, BEN, 1, "❤", remove=True)  # 7
    found = rows(s.events(before), LookedUp(reaction_counts={(s.chat, 1, "👍"): Counted(1, 3)}))
    assert found.reactions_added == [(s.chat, 1, "👍", BEN, 4)]
    assert found.reactions_removed == [(s.chat, 1, "👍", ANNA)]
    assert found.reactions_counted == [(s.chat, 1, "👍", 1, 3)]
    assert found.reactions_gone == [], "added and removed in one batch leaves no trace"
    assert found.messages_reacted == [(s.chat, 1, 7)]
    whole = rows(s.events())
    assert [message.changed_position for message in messages_of(whole)] == [7]
    assert (whole.messages_reacted, whole.reactions_counted) == ([], [(s.chat, 1, "👍", 1, 3)])


def test_an_emoji_without_users_has_no_count_and_its_next_use_is_a_first_one() -> None:
    s = Logged()
    s.log.send(s.chat, ANNA)
    s.log.react(s.chat, ANNA, 1, "👍")  # 3
    before = len(s.log.events)
    s.log.react(s.chat, ANNA, 1, "👍", remove=True)
    gone = LookedUp(reaction_counts={(s.chat, 1, "👍"): Counted(1, 3)})
    assert rows(s.events(before), gone).reactions_gone == [(s.chat, 1, "👍")]
    s.log.react(s.chat, BEN, 1, "👍")  # 5
    again = rows(s.events(before), gone)
    assert (again.reactions_gone, again.reactions_counted) == ([], [(s.chat, 1, "👍", 1, 5)])


def test_a_deletion_takes_the_reactions_of_the_batch_with_it() -> None:
    s = Logged()
    s.log.send(s.chat, ANNA)
    before = len(s.log.events)
    s.log.react(s.chat, ANNA, 1, "👍")
    s.log.delete(s.chat, ANNA, 1)
    for found in (rows(s.events(before)), rows(s.events())):
        assert (found.reactions_added, found.reactions_counted, found.messages_reacted) == ([], [], [])


def test_a_new_name_changes_the_name_and_the_position_of_a_chat() -> None:
    s = Logged()
    created = len(s.log.events)
    s.log.rename(s.chat, ANNA, "first")
    s.log.rename(s.chat, ANNA, "second")
    changes = rows(s.events(created))
    assert changes.chats_renamed == [(s.chat, "second")]
    assert changes.chats_moved == [(s.chat, None, 3, None, s.events()[-1].index)]
    whole = rows(s.events())
    assert [(chat.name, chat.last_position) for chat in whole.chats_created] == [("second", 3)]
    assert not whole.chats_renamed


def test_a_type_that_a_newer_release_added_is_unknown() -> None:
    s = Logged()
    delete = s.log.command(CommandType.MESSAGE_DELETE, s.chat, ANNA, MessageDelete(seq=1))
    s.log.accept(delete, event_type="message.pinned.v1")
    with pytest.raises(UnknownType, match=r"message\.pinned\.v1"):
        s.events()


@pytest.mark.parametrize("missing", ["seq", "position", "sender_id", "client_generated_id", "command_id"])
def test_a_message_without_one_of_its_headers_is_a_corrupt_log(missing: str) -> None:
    log = ChatLog()
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="x"))
    log.accept(command, **{missing: None})
    with pytest.raises(LogCorrupt, match=r"message\.sent\.v1 without"):
        decoded(log.events)


@pytest.mark.parametrize("at_ms", [-1, 2**62])
def test_a_timestamp_that_is_no_time_is_a_corrupt_log(at_ms: int) -> None:
    with pytest.raises(LogCorrupt, match="no time"):
        instant(at_ms)


def test_every_list_of_rows_has_a_row_type_from_which_its_columns_follow() -> None:
    assert list(ROW_TYPES) == [each.name for each in fields(RowChanges)]
