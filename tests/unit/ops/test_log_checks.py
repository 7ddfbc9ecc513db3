"""`log verify` on one partition: a valid log has no violation, and each violation is named at its offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from msgspec import structs

from schemas import cursor, ids
from schemas.bodies import ChatCreate, Mark, MemberAdd, MessageDelete, MessageEdit, MessageSend
from schemas.errors import Reason
from schemas.events import OtherOutcome, encode_unchanged
from schemas.ids import ChatId
from schemas.log import Stamp, Verdict
from schemas.types import CommandType, EventType
from schemas.wire.encoding import encode_outcome, event_source, read_command
from services.ops.verify.log.commands import against_command
from services.ops.verify.log.memory import ACCEPTED_SCHEMA
from services.ops.verify.log.partition import Answered, CannotContinue, PartitionChecks, Violation
from services.ops.verify.scratch import open_scratch
from tests.support.chat_log import ANNA, BEN, CARL, DORA, ChatLog, Sent, conversation


@contextmanager
def checks_of(log: ChatLog, violations: list[Violation]) -> Iterator[PartitionChecks]:
    with open_scratch(ACCEPTED_SCHEMA) as scratch:
        yield PartitionChecks(
            partition=log.partition, partitions=log.partitions, scratch=scratch, report=violations.append
        )


def violations_of(log: ChatLog) -> list[Violation]:
    """Return every violation of the events, and of the commands with them."""
    violations: list[Violation] = []
    with checks_of(log, violations) as checks:
        for record in log.events:
            try:
                decided = checks.record(record)
            except CannotContinue:
                break
            if decided is not None:
                violations += command_violations(log, decided)
    return violations


def command_violations(log: ChatLog, decided: Answered) -> list[Violation]:
    record = log.commands[decided.stamp.command_offset]
    command = read_command(record, log.partition, log.partitions)
    return [
        Violation(partition=log.partition, offset=decided.offset, rule=rule, detail=detail)
        for rule, detail in against_command(decided, command)
    ]


def rules(log: ChatLog) -> set[str]:
    return {violation.rule for violation in violations_of(log)}


@pytest.fixture
def log() -> ChatLog:
    log = ChatLog()
    log.open()
    return log


def test_a_valid_log_has_no_fault(log: ChatLog) -> None:
    conversation(log)
    log.create_direct(ANNA, BEN)
    log.create_direct(ANNA, ANNA)
    assert violations_of(log) == []


def test_void_records_are_counted_and_change_nothing(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.open()
    replaced = OtherOutcome(
        type=EventType.MESSAGE_SENT, at_ms=log.at_ms, body=b"{}", key=chat.encode(), position=3, seq=2
    )
    log.append(encode_outcome(replaced, Stamp(1, 3, 2), event_source(0)))
    copied = log.events[1]
    log.append(copied.encoded())
    log.send(chat, ANNA)
    violations: list[Violation] = []
    with checks_of(log, violations) as checks:
        for record in log.events:
            checks.record(record)
        assert violations == []
        assert (checks.counts.void, checks.counts.terms, checks.counts.outcomes) == (2, 2, 3)


def test_the_id_of_a_mark_is_nobodys_and_makes_no_repeat(log: ChatLog) -> None:
    """A receipt has no key and is not remembered, so its ce_id, which no reader checks, may be anything."""
    chat = log.create(ANNA, "ops")
    first = log.send(chat, ANNA)
    for up_to_seq, accepted in ((1, True), (1, False)):
        mark = log.command(CommandType.READ_MARK, chat, ANNA, Mark(up_to_seq=up_to_seq))
        record = log.commands[-1]
        headers = [(name, first.id.encode() if name == "ce_id" else value) for name, value in record.headers]
        log.commands[-1] = replace(record, headers=headers)
        if accepted:
            log.accept(mark, command_id=first.id)
        else:
            log.unchanged(mark, command_id=first.id)
    assert violations_of(log) == []


def test_a_creator_joins_again_a_group_that_everybody_has_left(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.remove(chat, BEN, BEN)
    log.remove(chat, ANNA, ANNA)
    log.reject(
        log.command(CommandType.MEMBER_ADD, chat, ANNA, MemberAdd(user_id=ANNA, role="owner")), Reason.NOT_MEMBER
    )
    log.add(chat, ANNA, ANNA, "owner")
    log.add(chat, ANNA, BEN)
    log.send(chat, ANNA)
    assert violations_of(log) == [], "nor is it one that an older writer refused it"


def test_a_group_may_have_the_id_of_its_creators_key(log: ChatLog) -> None:
    for key in ("k-1", "k-2"):
        body = ChatCreate(kind="group", name="ops", members=[])
        log.accept(log.command(CommandType.CHAT_CREATE, ids.keyed_chat_id(ANNA, key), ANNA, body, key))
    assert violations_of(log) == []


def wrong_seq(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=2)


def wrong_position(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), position=3)


def position_used_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), position=1)


def a_mark_with_a_seq(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.accept(log.command(CommandType.READ_MARK, chat, ANNA, Mark(up_to_seq=1)), seq=2)


def skipped_index(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.index += 1
    log.send(chat, ANNA)


def command_answered_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    first = log.send(chat, ANNA)
    log.index += 1
    log.answer(
        first.command, EventType.MESSAGE_SENT, first.command.body, seq=2, position=3,
        stamp=Stamp(log.term, log.index, first.command.offset),
    )  # fmt: skip


def no_stamp(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.append(structs.replace(log.events[-1].encoded(), headers=[("ce_type", b"message.sent.v1")], key=chat.encode()))


def time_going_back(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, at_ms=log.at_ms - 1)


def accepted_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA, "a", "key")
    log.send(chat, ANNA, "a", "key")


def duplicate_of_nothing(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(chat, ANNA, "a")
    other = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"), "another")
    log.duplicate(sent, command=other)


def duplicate_with_another_seq(log: ChatLog) -> None:
    log.duplicate(log.send(log.create(ANNA, "ops"), ANNA), seq=7)


def duplicate_with_another_position(log: ChatLog) -> None:
    log.duplicate(log.send(log.create(ANNA, "ops"), ANNA), position=7)


def duplicate_with_another_time(log: ChatLog) -> None:
    log.duplicate(log.send(log.create(ANNA, "ops"), ANNA), sent_at_ms=7)


def duplicate_of_another_payload(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    sent = log.send(chat, ANNA, "a", "key")
    log.duplicate(sent, command=log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="b"), "key"))


def duplicate_that_leaves_a_trace(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.unchanged(log.command(CommandType.READ_MARK, chat, ANNA, Mark(up_to_seq=0)), position=2)


def repeat_refused_by_right(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    sent = log.send(chat, BEN, "a")
    log.remove(chat, BEN, BEN)
    log.reject(log.repeat(sent), Reason.NOT_MEMBER)


def repeat_called_unchanged(log: ChatLog) -> None:
    log.unchanged(log.repeat(log.send(log.create(ANNA, "ops"), ANNA)))


def conflict_of_nothing(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.reject(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), Reason.CONFLICT)


def conflict_with_itself(log: ChatLog) -> None:
    log.reject(log.repeat(log.send(log.create(ANNA, "ops"), ANNA)), Reason.CONFLICT)


def sender_was_never_a_member(log: ChatLog) -> None:
    log.send(log.create(ANNA, "ops"), DORA)


def sender_has_left(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.remove(chat, BEN, BEN)
    log.send(chat, BEN)


def reader_has_left(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    log.remove(chat, ANNA, BEN)
    log.read(chat, BEN, 1)


def chat_never_created(log: ChatLog) -> None:
    log.send(log.group_id(ANNA, "ops"), ANNA)


def chat_created_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    again = ChatCreate(kind="group", name="ops", members=[])
    log.accept(log.command(CommandType.CHAT_CREATE, chat, ANNA, again, "again"))


def chat_with_a_foreign_id(log: ChatLog) -> None:
    body = ChatCreate(kind="group", name="ops", members=[])
    log.accept(log.command(CommandType.CHAT_CREATE, log.group_id(BEN, "ops"), ANNA, body))


def chat_with_the_id_of_another_key(log: ChatLog) -> None:
    body = ChatCreate(kind="group", name="ops", members=[])
    log.accept(log.command(CommandType.CHAT_CREATE, ids.keyed_chat_id(ANNA, "k-1"), ANNA, body, "k-2"))


def chat_with_the_id_of_anothers_key(log: ChatLog) -> None:
    body = ChatCreate(kind="group", name="ops", members=[])
    log.accept(log.command(CommandType.CHAT_CREATE, ids.keyed_chat_id(ANNA, "k-1"), BEN, body, "k-1"))


def direct_chat_with_the_id_of_a_key(log: ChatLog) -> None:
    body = ChatCreate(kind="direct", members=[BEN])
    log.accept(log.command(CommandType.CHAT_CREATE, ids.keyed_chat_id(ANNA, "k-1"), ANNA, body, "k-1"))


def admin_changes_a_role(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [CARL])
    log.add(chat, ANNA, BEN, "admin")
    log.role(chat, BEN, CARL, "admin")


def last_owner_steps_down(log: ChatLog) -> None:
    log.role(log.create(ANNA, "ops", [BEN]), ANNA, ANNA, "admin")


def role_given_twice(log: ChatLog) -> None:
    log.role(log.create(ANNA, "ops", [BEN]), ANNA, BEN, "member")


def reacted(log: ChatLog, *emojis: str) -> ids.ChatId:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    for emoji in emojis:
        log.react(chat, ANNA, 1, emoji)
    return chat


def reaction_added_twice(log: ChatLog) -> None:
    reacted(log, "👍", "👍")


def reaction_removed_that_is_anothers(log: ChatLog) -> None:
    log.react(reacted(log, "👍"), BEN, 1, "👍", remove=True)


def reaction_of_a_stranger(log: ChatLog) -> None:
    log.react(reacted(log), DORA, 1, "👍")


def reaction_to_a_deleted_message(log: ChatLog) -> None:
    chat = reacted(log)
    log.delete(chat, ANNA, 1)
    log.react(chat, ANNA, 1, "👍")


def reaction_beyond_the_last_message(log: ChatLog) -> None:
    log.react(reacted(log), ANNA, 2, "👍")


def twenty_first_reaction_of_a_user(log: ChatLog) -> None:
    reacted(log, *map(str, range(21)))


def member_renames_a_group(log: ChatLog) -> None:
    log.rename(log.create(ANNA, "ops", [BEN]), BEN, "mine")


def direct_chat_with_a_name(log: ChatLog) -> None:
    log.rename(log.create_direct(ANNA, BEN), ANNA, "us")


def name_given_at_creation(log: ChatLog) -> None:
    log.rename(log.create(ANNA, "ops"), ANNA, "ops")


def name_given_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.rename(chat, ANNA, "new")
    log.rename(chat, ANNA, "new")


def role_of_a_stranger(log: ChatLog) -> None:
    log.role(log.create(ANNA, "ops"), ANNA, DORA, "member")


def everybody_left(log: ChatLog) -> ids.ChatId:
    chat = log.create(ANNA, "ops", [BEN])
    log.remove(chat, BEN, BEN)
    log.remove(chat, ANNA, ANNA)
    return chat


def creator_joins_again_beside_others(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [CARL])
    log.add(chat, ANNA, BEN, "owner")
    log.remove(chat, ANNA, ANNA)
    log.add(chat, ANNA, ANNA, "owner")


def creator_joins_again_as_a_member(log: ChatLog) -> None:
    log.add(everybody_left(log), ANNA, ANNA, "member")


def creator_who_left_adds_another(log: ChatLog) -> None:
    log.add(everybody_left(log), ANNA, BEN, "owner")


def another_joins_again(log: ChatLog) -> None:
    log.add(everybody_left(log), BEN, BEN, "owner")


def read_beyond_the_end(log: ChatLog) -> None:
    log.read(log.create(ANNA, "ops"), ANNA, 1)


def read_going_back(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.read(chat, ANNA, 1)
    log.read(chat, ANNA, 1)


def delivered_going_back(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.delivered(chat, ANNA, 1)
    log.delivered(chat, ANNA, 1)


def member_adds_a_member(log: ChatLog) -> None:
    log.add(log.create(ANNA, "ops", [BEN]), BEN, CARL)


def admin_adds_an_admin(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.add(chat, ANNA, BEN, "admin")
    log.add(chat, BEN, CARL, "admin")


def last_owner_leaves(log: ChatLog) -> None:
    log.remove(log.create(ANNA, "ops", [BEN]), ANNA, ANNA)


def direct_chat_grows(log: ChatLog) -> None:
    log.add(log.create_direct(ANNA, BEN), ANNA, CARL)


def member_added_twice(log: ChatLog) -> None:
    log.add(log.create(ANNA, "ops", [BEN]), ANNA, BEN)


def stranger_removed(log: ChatLog) -> None:
    log.remove(log.create(ANNA, "ops"), ANNA, DORA)


def reply_to_another_chat(log: ChatLog) -> None:
    elsewhere = log.send(log.create(ANNA, "elsewhere"), ANNA)
    log.send(log.create(ANNA, "ops"), ANNA, reply_to_message_id=elsewhere.id)


def refused_as_unknown_though_a_member(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.reject(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), Reason.UNKNOWN_CHAT)


def refused_as_former_though_present(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.reject(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), Reason.NOT_MEMBER)


def refused_as_existing_though_new(log: ChatLog) -> None:
    body = ChatCreate(kind="group", name="ops", members=[])
    log.reject(log.command(CommandType.CHAT_CREATE, log.group_id(ANNA, "ops"), ANNA, body), Reason.CHAT_EXISTS)


def forbidden_to_a_stranger(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.reject(
        log.command(CommandType.MEMBER_ADD, chat, DORA, MemberAdd(user_id=CARL, role="member")), Reason.FORBIDDEN
    )


def unchanged_at_a_position_to_come(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    again = log.command(CommandType.MEMBER_ADD, chat, ANNA, MemberAdd(user_id=ANNA, role="owner"))
    log.answer(again, EventType.UNCHANGED, encode_unchanged(2))


def outcome_of_another_sender(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), sender_id=BEN)


def outcome_with_another_id(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, command_id=ids.command_id(chat, ANNA, "something else"))


def outcome_with_another_body(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), body=b'{"text":"b"}')


def outcome_of_another_type(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.accept(log.command(CommandType.READ_MARK, chat, ANNA, Mark(up_to_seq=1)), event_type="delivered.advanced.v1")


def too_much_text_accepted(log: ChatLog) -> None:
    log.send(log.create(ANNA, "ops"), ANNA, "x" * 16_385)


def malformed_accepted(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    record = log.commands[-1].encoded()
    wrong = [(name, b"0" * 36 if name == "ce_id" else value) for name, value in record.headers]
    log.commands[-1] = type(log.commands[-1])(
        offset=command.offset, timestamp=log.at_ms, key=record.key, value=record.value, headers=wrong
    )
    log.accept(command)


def body_that_is_none(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), body=b"{")


def event_of_no_known_type(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, event_type="message.pinned.v1")


def accepted_without_a_chat(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), key=None, chat_id=None)


def accepted_without_a_sender(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), sender_id=None)


def accepted_without_a_position(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), position=None)


def accepted_of_a_sender_who_is_no_user(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), sender_id="me")


def opening_of_another_type(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.accept(command, stamp=Stamp(log.term + 1, 0, -1))


def deleted_by_a_member_who_did_not_write_it(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN, CARL])
    log.send(chat, CARL)
    log.delete(chat, BEN, 1)


def deleted_by_the_other_side(log: ChatLog) -> None:
    chat = log.create_direct(ANNA, BEN)
    log.send(chat, ANNA)
    log.delete(chat, BEN, 1)


def deleted_twice(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, BEN)
    log.delete(chat, BEN, 1)
    log.delete(chat, ANNA, 1)


def edited_by_an_owner_who_did_not_write_it(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, BEN)
    log.edit(chat, ANNA, 1, "other")


def edited_after_its_deletion(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.delete(chat, ANNA, 1)
    log.edit(chat, ANNA, 1, "back again")


def edited_at_another_revision(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.edit(chat, ANNA, 1, "one", if_revision=0)
    log.edit(chat, ANNA, 1, "two", if_revision=0)


def edited_twice_to_the_same(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.edit(chat, ANNA, 1, "one", metadata={"a": 1})
    log.edit(chat, ANNA, 1, "one", metadata={"a": 1}, if_revision=1)


def _edited_once(log: ChatLog) -> tuple[ChatId, Sent]:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    return chat, log.edit(chat, ANNA, 1, "one", media_urls=[])


def an_edit_repeated_with_another_revision(log: ChatLog) -> None:
    _, edit = _edited_once(log)
    log.duplicate(edit, revision=2)


def an_edit_refused_as_stale_though_it_names_the_revision(log: ChatLog) -> None:
    chat, _ = _edited_once(log)
    body = MessageEdit(seq=1, text="two", if_revision=1)
    log.reject(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, body), Reason.STALE)


def an_edit_refused_as_stale_though_it_names_no_revision(log: ChatLog) -> None:
    chat, _ = _edited_once(log)
    log.reject(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, MessageEdit(seq=1, text="two")), Reason.STALE)


def an_edit_unchanged_though_it_says_something_else(log: ChatLog) -> None:
    chat, edit = _edited_once(log)
    body = MessageEdit(seq=1, text="one", metadata={})
    log.unchanged(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, body), since=edit.position)


def an_edit_unchanged_since_another_position(log: ChatLog) -> None:
    chat, _ = _edited_once(log)
    log.unchanged(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, MessageEdit(seq=1, text="one")), since=1)


def edited_before_it_was_sent(log: ChatLog) -> None:
    log.edit(log.create(ANNA, "ops"), ANNA, 1, "early")


def deleted_before_it_was_sent(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.delete(chat, ANNA, 2)


def a_deletion_with_a_seq(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.accept(log.command(CommandType.MESSAGE_DELETE, chat, ANNA, MessageDelete(seq=1)), seq=1)


def opened_for_other_partitions(log: ChatLog) -> None:
    log.open(partitions=8)


VIOLATIONS: list[tuple[Callable[[ChatLog], None], str]] = [
    (wrong_seq, "seq"),
    (wrong_position, "position"),
    (position_used_twice, "position"),
    (a_mark_with_a_seq, "seq"),
    (skipped_index, "corrupt"),
    (command_answered_twice, "corrupt"),
    (no_stamp, "corrupt"),
    (body_that_is_none, "corrupt"),
    (time_going_back, "time"),
    (accepted_twice, "accepted_twice"),
    (duplicate_of_nothing, "duplicate"),
    (duplicate_with_another_seq, "duplicate"),
    (duplicate_with_another_position, "duplicate"),
    (duplicate_with_another_time, "duplicate"),
    (duplicate_of_another_payload, "duplicate"),
    (duplicate_that_leaves_a_trace, "trace"),
    (repeat_refused_by_right, "repeat"),
    (repeat_called_unchanged, "repeat"),
    (conflict_of_nothing, "rejected"),
    (conflict_with_itself, "rejected"),
    (sender_was_never_a_member, "not_member"),
    (sender_has_left, "not_member"),
    (reader_has_left, "not_member"),
    (chat_never_created, "unknown_chat"),
    (chat_created_twice, "chat_exists"),
    (chat_with_a_foreign_id, "identity"),
    (chat_with_the_id_of_another_key, "identity"),
    (chat_with_the_id_of_anothers_key, "identity"),
    (direct_chat_with_the_id_of_a_key, "identity"),
    (creator_joins_again_beside_others, "not_member"),
    (admin_changes_a_role, "forbidden"),
    (last_owner_steps_down, "forbidden"),
    (role_given_twice, "membership"),
    (role_of_a_stranger, "membership"),
    (reaction_added_twice, "reaction"),
    (reaction_removed_that_is_anothers, "reaction"),
    (reaction_of_a_stranger, "not_member"),
    (reaction_to_a_deleted_message, "unknown_message"),
    (reaction_beyond_the_last_message, "unknown_message"),
    (twenty_first_reaction_of_a_user, "limit"),
    (member_renames_a_group, "forbidden"),
    (direct_chat_with_a_name, "forbidden"),
    (name_given_at_creation, "name"),
    (name_given_twice, "name"),
    (creator_joins_again_as_a_member, "not_member"),
    (creator_who_left_adds_another, "not_member"),
    (another_joins_again, "not_member"),
    (read_beyond_the_end, "cursor"),
    (read_going_back, "cursor"),
    (delivered_going_back, "cursor"),
    (member_adds_a_member, "forbidden"),
    (admin_adds_an_admin, "forbidden"),
    (last_owner_leaves, "forbidden"),
    (direct_chat_grows, "forbidden"),
    (member_added_twice, "membership"),
    (stranger_removed, "membership"),
    (reply_to_another_chat, "unknown_message"),
    (deleted_by_a_member_who_did_not_write_it, "forbidden"),
    (deleted_by_the_other_side, "forbidden"),
    (deleted_twice, "deleted_twice"),
    (edited_by_an_owner_who_did_not_write_it, "forbidden"),
    (edited_after_its_deletion, "edited_deleted"),
    (edited_at_another_revision, "stale"),
    (edited_twice_to_the_same, "edited_twice"),
    (edited_before_it_was_sent, "unknown_message"),
    (an_edit_repeated_with_another_revision, "duplicate"),
    (an_edit_refused_as_stale_though_it_names_the_revision, "rejected"),
    (an_edit_refused_as_stale_though_it_names_no_revision, "rejected"),
    (an_edit_unchanged_though_it_says_something_else, "unchanged"),
    (an_edit_unchanged_since_another_position, "unchanged"),
    (deleted_before_it_was_sent, "unknown_message"),
    (a_deletion_with_a_seq, "seq"),
    (refused_as_unknown_though_a_member, "rejected"),
    (refused_as_former_though_present, "rejected"),
    (refused_as_existing_though_new, "rejected"),
    (forbidden_to_a_stranger, "rejected"),
    (unchanged_at_a_position_to_come, "unchanged"),
    (outcome_of_another_sender, "command_identity"),
    (outcome_with_another_id, "command_identity"),
    (outcome_with_another_body, "command_identity"),
    (outcome_of_another_type, "command_identity"),
    (too_much_text_accepted, "must_reject"),
    (malformed_accepted, "must_reject"),
    (event_of_no_known_type, "unknown_type"),
    (accepted_without_a_chat, "corrupt"),
    (accepted_without_a_sender, "corrupt"),
    (accepted_without_a_position, "corrupt"),
    (accepted_of_a_sender_who_is_no_user, "identity"),
    (opening_of_another_type, "unknown_type"),
    (opened_for_other_partitions, "partitions"),
]


@pytest.mark.parametrize(("plant", "rule"), VIOLATIONS, ids=lambda v: getattr(v, "__name__", None))
def test_each_violation_is_named_where_it_stands(log: ChatLog, plant: Callable[[ChatLog], None], rule: str) -> None:
    conversation(log)
    plant(log)
    found = [violation for violation in violations_of(log) if violation.rule == rule]
    assert [violation.offset for violation in found] == [log.events[-1].offset], violations_of(log)


def test_an_opening_may_be_older_than_the_outcome_before_it(log: ChatLog) -> None:
    """The old owner continues while its successor opens, with the time at which it began to open."""
    chat = log.create(ANNA, "ops")
    log.open(at_ms=log.at_ms - 1_000)
    log.send(chat, ANNA, "a")
    assert violations_of(log) == []


def test_a_chat_in_another_partition_is_a_fault() -> None:
    log = ChatLog(partition=0, partitions=2)
    log.open()
    name = next(n for n in map(str, range(99)) if ids.partition_of(log.group_id(ANNA, n), 2) == 1)
    log.create(ANNA, name)
    assert "wrong_partition" in rules(log)


def test_one_hole_is_one_fault(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=3)
    for seq in (4, 5, 6):
        log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=seq)
    assert [violation.rule for violation in violations_of(log)] == ["seq"]


def test_a_seq_that_is_missing_is_one_fault_and_the_next_follow_it(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=None)
    log.send(chat, ANNA)
    log.send(chat, ANNA)
    assert [violation.rule for violation in violations_of(log)] == ["seq"]


def test_index_and_command_order_are_checked_apart_from_the_validity_rule(
    log: ChatLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These checks must work even if the rule calls everything valid."""
    skipped_index(log)
    command_answered_twice(ahead := ChatLog())
    monkeypatch.setattr(cursor, "classify", lambda _head, stamp: Verdict.VALID if stamp.index else Verdict.OPENS)
    assert "index" in rules(log)
    assert "command_order" in rules(ahead)


def test_an_import_starts_the_commands_anew(log: ChatLog) -> None:
    conversation(log)
    violations: list[Violation] = []
    log.open(commands_from=0)
    with checks_of(log, violations) as checks:
        for record in log.events:
            checks.record(record)
        assert checks.commands_from == 0
        assert checks.head.command_offset == -1
    assert violations == []
