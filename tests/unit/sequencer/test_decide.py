"""The outcome of a command: the order of the checks, the permissions, the cursors; each as a statement."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from schemas import ids
from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    canonical_body,
)
from schemas.errors import LogCorrupt, Reason, UnknownType
from schemas.events import OutcomeKind, Rejected, decode_duplicate, decode_rejected
from schemas.ids import ChatId, CommandId, CommandKey, UserId
from schemas.types import MARKS
from schemas.wire.encoding import Command, Unreadable
from schemas.wire.replies import AcceptedFigures, Figures
from services.sequencer.rules.decide import Decision, decide
from services.sequencer.rules.evolve import evolve
from services.sequencer.rules.state import Chat, DedupEntry, FactKey, Member, MemberKey, Overlay

ANNA, BEN, CARL, DORA = (UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abcd")


class Nothing:
    """The state before the first command."""

    def chat(self, chat_id: ChatId) -> Chat | None:
        return None

    def member(self, key: MemberKey) -> Member | None:
        return None

    def dedup(self, key: CommandKey) -> DedupEntry | None:
        return None

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        return None

    def fact(self, key: FactKey) -> bytes | None:
        return None


class Room:
    """One group of Anna's with Ben in it, and a clock that the test moves."""

    def __init__(self, kind: str = "group", members: tuple[UserId, ...] = (BEN,)) -> None:
        self.view = Overlay(Nothing())
        self.at_ms = 1_000
        self._offsets = itertools.count()
        self._keys = itertools.count()
        self.chat_id = ids.group_chat_id(ANNA, "ops") if kind == "group" else ids.direct_chat_id(ANNA, BEN)
        name = "ops" if kind == "group" else None
        self.creation = ChatCreate(kind=kind, name=name, members=list(members))  # type: ignore[arg-type]
        created = self("chat.create.v1", self.creation, key="create")
        assert created.outcome.kind is OutcomeKind.ACCEPTED

    def command(self, command_type: str, body: Body | bytes, *, by: UserId = ANNA, key: str | None = None) -> Command:
        key = key if key is not None else f"k{next(self._keys)}"
        mark = command_type in MARKS
        return Command(
            offset=next(self._offsets),
            type=command_type,
            body=body if isinstance(body, bytes) else canonical_body(body),
            chat_id=self.chat_id,
            sender_id=by,
            client_generated_id=None if mark else key,
            command_id=None if mark else ids.command_id(self.chat_id, by, key),
        )

    def decide(self, command: Command | Unreadable) -> Decision:
        decision = decide(self.view, command, self.at_ms)
        evolve(self.view, decision.outcome, self.view.changes)
        return decision

    def __call__(self, command_type: str, body: Body | bytes, *, by: UserId = ANNA, key: str | None = None) -> Decision:
        return self.decide(self.command(command_type, body, by=by, key=key))

    def send(self, text: str = "x", *, by: UserId = ANNA, key: str | None = None, **more: object) -> Decision:
        return self("message.send.v1", MessageSend(text=text, **more), by=by, key=key)  # type: ignore[arg-type]

    def edit(self, seq: int, text: str, *, by: UserId = ANNA, key: str | None = None, **more: Any) -> Decision:
        body = MessageEdit(seq=seq, text=text, **more)
        return self("message.edit.v1", body, by=by, key=key)

    def react(
        self, emoji: str, *, seq: int = 1, remove: bool = False, by: UserId = ANNA, key: str | None = None
    ) -> Decision:
        command_type = "reaction.remove.v1" if remove else "reaction.add.v1"
        return self(command_type, Reaction(seq=seq, emoji=emoji), by=by, key=key)

    def delete(self, seq: int, *, by: UserId = ANNA, key: str | None = None) -> Decision:
        return self("message.delete.v1", MessageDelete(seq=seq), by=by, key=key)


def test_messages_get_dense_seqs_and_every_accepted_outcome_a_position() -> None:
    room = Room()
    first = room.send()
    read = room("read.mark.v1", Mark(up_to_seq=1), by=BEN)
    second = room.send(by=BEN)
    assert [(d.outcome.seq, d.outcome.position) for d in (first, read, second)] == [(1, 2), (None, 3), (2, 4)]


def test_a_repeat_gets_the_originals_figures_for_ever() -> None:
    room = Room()
    original = room.send("hello", key="k")
    room.at_ms = 9_000
    repeat = room.send("hello", key="k")
    assert repeat.outcome.kind is OutcomeKind.DUPLICATE
    assert (repeat.figures, repeat.sent_at_ms) == (original.figures, 1_000)
    assert room.send().outcome.seq == 2, "a repeat takes no seq"


def test_the_same_key_with_another_payload_is_a_conflict_and_the_key_of_another_sender_is_not() -> None:
    room = Room()
    room.send("hello", key="k")
    assert room.send("other", key="k").reason is Reason.CONFLICT
    assert room.send("other", key="k", by=BEN).outcome.seq == 2


def test_a_repeat_comes_before_every_right_and_every_limit() -> None:
    room = Room()
    original = room.send("hello", key="k", by=BEN)
    room("member.remove.v1", MemberRemove(user_id=BEN))
    assert room.send("hello", key="k", by=BEN).figures == original.figures
    assert room.send("new", by=BEN).reason is Reason.NOT_MEMBER


def test_a_rejection_answers_that_copy_and_leaves_the_key_free() -> None:
    room = Room()
    rejected = room.send("hello", key="k", by=CARL)
    assert rejected.reason is Reason.UNKNOWN_CHAT
    room("member.add.v1", MemberAdd(user_id=CARL, role="member"))
    assert room.send("hello", key="k", by=CARL).outcome.seq == 1


def test_who_never_was_a_member_hears_the_same_as_of_a_chat_that_never_was() -> None:
    room = Room()
    stranger = room.send(by=DORA)
    nowhere = room.command("message.send.v1", MessageSend(text="x"), by=DORA)
    other = ids.group_chat_id(DORA, "never made")
    gone = room.decide(replace(nowhere, chat_id=other, command_id=ids.command_id(other, DORA, "z")))
    assert (stranger.reason, stranger.detail) == (gone.reason, gone.detail)
    assert stranger.reason is Reason.UNKNOWN_CHAT


def test_an_unreadable_command_is_rejected_before_its_repeat_is_looked_for_and_keeps_what_could_be_read() -> None:
    room = Room()
    room.send("hello", key="k")
    known = (None, b"a key", room.chat_id, ANNA, "k")
    rejected = room.decide(Unreadable(9, Reason.WRONG_PARTITION, "elsewhere", *known))
    outcome = rejected.outcome
    assert (rejected.reason, rejected.detail) == (Reason.WRONG_PARTITION, "elsewhere")
    assert decode_rejected(outcome.body) == Rejected(
        command_type=None, reason=Reason.WRONG_PARTITION, detail="elsewhere"
    )
    assert (outcome.key, outcome.chat_id, outcome.sender_id, outcome.client_generated_id) == known[1:]
    assert outcome.command_id is None


@pytest.mark.parametrize("command_type", ["no.such.v9"])
def test_a_type_that_is_not_decided_is_unknown_whatever_its_body(command_type: str) -> None:
    assert Room()(command_type, b"{broken").reason is Reason.UNKNOWN_TYPE


def test_a_created_chat_has_the_id_of_its_creator_and_name() -> None:
    room = Room()
    wrong = room.command("chat.create.v1", ChatCreate(kind="group", name="another name", members=[]))
    assert room.decide(wrong).reason is Reason.MALFORMED


def test_a_group_may_have_the_id_of_its_creators_key_and_then_any_name() -> None:
    room = Room()
    for key in ("k-1", "k-2"):
        chat_id = ids.keyed_chat_id(ANNA, key)
        command = room.command("chat.create.v1", room.creation, key=key)
        keyed = replace(command, chat_id=chat_id, command_id=ids.command_id(chat_id, ANNA, key))
        assert room.decide(keyed).outcome.kind is OutcomeKind.ACCEPTED
        assert room.decide(keyed).outcome.kind is OutcomeKind.DUPLICATE
        renamed = replace(keyed, body=canonical_body(ChatCreate(kind="group", name="other", members=[])))
        assert room.decide(renamed).reason is Reason.CONFLICT
    others_key = ids.keyed_chat_id(ANNA, "k-3")
    wrong = replace(command, chat_id=others_key, command_id=ids.command_id(others_key, ANNA, "k-2"))
    assert room.decide(wrong).reason is Reason.MALFORMED, "of another key than its own"
    bens = replace(wrong, sender_id=BEN, client_generated_id="k-3", command_id=ids.command_id(others_key, BEN, "k-3"))
    assert room.decide(bens).reason is Reason.MALFORMED, "of another creator"


def test_the_creator_of_a_group_that_everybody_has_left_joins_again_as_owner() -> None:
    room = Room()
    again = MemberAdd(user_id=ANNA, role="owner")
    room("member.add.v1", MemberAdd(user_id=BEN, role="owner"))
    room("member.remove.v1", MemberRemove(user_id=BEN))
    room("member.add.v1", MemberAdd(user_id=BEN, role="owner"))
    room.send()
    room("member.remove.v1", MemberRemove(user_id=ANNA))
    assert room("member.add.v1", again).reason is Reason.NOT_MEMBER, "Ben is still there"
    room("read.mark.v1", Mark(up_to_seq=1), by=BEN)
    room("member.remove.v1", MemberRemove(user_id=BEN), by=BEN)
    assert room("member.add.v1", MemberAdd(user_id=BEN, role="owner"), by=BEN).reason is Reason.NOT_MEMBER
    assert room("member.add.v1", MemberAdd(user_id=CARL, role="owner")).reason is Reason.NOT_MEMBER
    assert room("member.add.v1", again, by=DORA).reason is Reason.UNKNOWN_CHAT
    assert room("member.add.v1", MemberAdd(user_id=ANNA, role="admin")).reason is Reason.INVALID
    assert room.send().reason is Reason.NOT_MEMBER
    assert room("member.add.v1", again).outcome.kind is OutcomeKind.ACCEPTED
    anna = room.view.member((room.chat_id, ANNA))
    assert anna == Member(role="owner", present=True, joined_seq=1, read_seq=1, delivered_seq=1, creator=True)
    chat = room.view.chat(room.chat_id)
    assert chat is not None
    assert (chat.members, chat.owners) == (1, 1)
    for _ in range(2):  # as often as it happens
        room("read.mark.v1", Mark(up_to_seq=1))
        room("member.remove.v1", MemberRemove(user_id=ANNA))
        assert room("member.add.v1", again).outcome.kind is OutcomeKind.ACCEPTED
    assert room.send().outcome.seq == 2


def test_a_second_group_of_one_name_exists_already_and_a_direct_chat_is_opened_again() -> None:
    group = Room()
    assert group("chat.create.v1", group.creation, key="again").reason is Reason.CHAT_EXISTS
    assert group("chat.create.v1", group.creation, key="create").outcome.kind is OutcomeKind.DUPLICATE
    direct = Room("direct")
    from_ben = direct("chat.create.v1", ChatCreate(kind="direct", members=[ANNA]), by=BEN, key="create")
    assert from_ben.outcome.kind is OutcomeKind.UNCHANGED


def test_the_creator_named_among_the_members_is_the_owner_all_the_same() -> None:
    room = Room(members=(ANNA, BEN))
    chat = room.view.chat(room.chat_id)
    assert chat is not None
    assert (chat.members, chat.owners) == (2, 1)


@pytest.mark.parametrize("body", [ChatCreate(kind="direct", members=[ANNA])])
def test_a_chat_with_oneself_names_no_members(body: ChatCreate) -> None:
    room = Room("direct")
    assert room("chat.create.v1", body, by=ANNA).reason is Reason.INVALID
    alone = ids.direct_chat_id(CARL, CARL)
    command = room.command("chat.create.v1", ChatCreate(kind="direct", members=[]), by=CARL)
    made = room.decide(replace(command, chat_id=alone, command_id=CommandId(ids.command_id(alone, CARL, "a"))))
    assert made.outcome.kind is OutcomeKind.ACCEPTED


RIGHTS = [
    # who, adds whom as, outcome
    (ANNA, "owner", None),
    (ANNA, "admin", None),
    (CARL, "member", None),
    (CARL, "admin", Reason.FORBIDDEN),
    (CARL, "owner", Reason.FORBIDDEN),
    (BEN, "member", Reason.FORBIDDEN),
]


@pytest.mark.parametrize(("who", "role", "reason"), RIGHTS)
def test_owners_add_anybody_admins_add_members_members_nobody(who: UserId, role: str, reason: Reason | None) -> None:
    room = Room()
    room("member.add.v1", MemberAdd(user_id=CARL, role="admin"))
    assert room("member.add.v1", MemberAdd(user_id=DORA, role=role), by=who).reason is reason  # type: ignore[arg-type]


def test_adding_a_present_member_changes_nothing_or_is_invalid_under_another_role() -> None:
    room = Room()
    same = room("member.add.v1", MemberAdd(user_id=BEN, role="member"))
    assert same.outcome.kind is OutcomeKind.UNCHANGED
    assert room("member.add.v1", MemberAdd(user_id=BEN, role="admin")).reason is Reason.INVALID


def test_the_last_owner_leaves_last() -> None:
    room = Room()
    assert room("member.remove.v1", MemberRemove(user_id=ANNA)).reason is Reason.INVALID
    assert room("member.remove.v1", MemberRemove(user_id=BEN), by=BEN).reason is None
    assert room("member.remove.v1", MemberRemove(user_id=ANNA)).reason is None


def test_nobody_but_an_owner_removes_an_owner_or_admin_and_members_remove_nobody() -> None:
    room = Room()
    room("member.add.v1", MemberAdd(user_id=CARL, role="admin"))
    room("member.add.v1", MemberAdd(user_id=DORA, role="admin"))
    assert room("member.remove.v1", MemberRemove(user_id=ANNA), by=CARL).reason is Reason.FORBIDDEN
    assert room("member.remove.v1", MemberRemove(user_id=DORA), by=CARL).reason is Reason.FORBIDDEN
    assert room("member.remove.v1", MemberRemove(user_id=CARL), by=BEN).reason is Reason.FORBIDDEN
    assert room("member.remove.v1", MemberRemove(user_id=BEN), by=CARL).reason is None
    gone_already = room("member.remove.v1", MemberRemove(user_id=BEN), by=CARL)
    assert gone_already.outcome.kind is OutcomeKind.UNCHANGED


def test_a_reaction_is_added_once_and_removed_by_its_user() -> None:
    room = Room()
    room.send()
    added = room.react("👍")
    assert (added.outcome.type, added.outcome.seq) == ("reaction.added.v1", None)
    assert room.react("👍").outcome.kind is OutcomeKind.UNCHANGED
    assert room.react("👍", remove=True, by=BEN).outcome.kind is OutcomeKind.UNCHANGED, "it is not Ben's"
    assert room.react("👍", by=BEN).reason is None
    assert room.react("👍", by=DORA).reason is Reason.UNKNOWN_CHAT
    assert room.react("👍", remove=True).outcome.type == "reaction.removed.v1"
    assert room.react("👍", remove=True).outcome.kind is OutcomeKind.UNCHANGED
    assert room.react("👍", remove=True, by=BEN).reason is None


def test_a_retried_reaction_does_not_return_after_it_was_removed() -> None:
    room = Room()
    room.send()
    first = room.react("👍", key="k")
    room.react("👍", remove=True)
    again = room.react("👍", key="k")
    assert (again.outcome.kind, again.figures) == (OutcomeKind.DUPLICATE, first.figures)
    assert room.react("👍", remove=True).outcome.kind is OutcomeKind.UNCHANGED


def test_a_message_that_is_not_there_or_deleted_is_not_reacted_to() -> None:
    room = Room()
    room.send()
    room.react("👍")
    assert room.react("👍", seq=2).reason is Reason.UNKNOWN_MESSAGE
    room.delete(1)
    for remove in (False, True):
        assert room.react("👍", remove=remove).reason is Reason.UNKNOWN_MESSAGE


def test_who_has_left_keeps_the_reactions_and_cannot_change_them() -> None:
    room = Room()
    room.send()
    room.react("👍", by=BEN)
    room("member.remove.v1", MemberRemove(user_id=BEN), by=BEN)
    assert room.react("👍", remove=True, by=BEN).reason is Reason.NOT_MEMBER
    room("member.add.v1", MemberAdd(user_id=BEN, role="member"))
    assert room.react("👍", remove=True, by=BEN).reason is None, "it was still there"


def test_the_reactions_of_a_user_and_the_kinds_of_a_message_have_limits() -> None:
    room = Room(members=(BEN, CARL))
    room.send()
    for number in range(20):
        assert room.react(f"a{number}").reason is None
    assert room.react("one more").reason is Reason.INVALID
    assert room.react("onemore").reason is Reason.INVALID
    for number in range(20):
        assert room.react(f"b{number}", by=BEN).reason is None
    for number in range(10):
        assert room.react(f"c{number}", by=CARL).reason is None
    assert room.react("d", by=CARL).reason is Reason.INVALID, "the fifty-first kind"
    assert room.react("a0", by=CARL).reason is None, "a kind that is there"
    assert room.react("c9", remove=True, by=CARL).reason is None
    assert room.react("d", by=CARL).reason is None


def test_owners_and_admins_rename_a_group_and_nobody_a_direct_chat() -> None:
    room = Room()
    room("member.add.v1", MemberAdd(user_id=CARL, role="admin"))
    assert room("chat.rename.v1", ChatRename(name="new"), by=BEN).reason is Reason.FORBIDDEN
    assert room("chat.rename.v1", ChatRename(name="new"), by=DORA).reason is Reason.UNKNOWN_CHAT
    renamed = room("chat.rename.v1", ChatRename(name="new"), by=CARL)
    assert (renamed.outcome.type, renamed.outcome.seq) == ("chat.renamed.v1", None)
    assert room("chat.rename.v1", ChatRename(name="newer")).reason is None
    direct = Room("direct")
    for who in (ANNA, BEN):
        assert direct("chat.rename.v1", ChatRename(name="us"), by=who).reason is Reason.FORBIDDEN


def test_the_present_name_is_unchanged_and_a_repeat_does_not_undo_a_later_name() -> None:
    room = Room()
    assert room("chat.rename.v1", ChatRename(name="ops")).outcome.kind is OutcomeKind.UNCHANGED
    first = room("chat.rename.v1", ChatRename(name="first"), key="k")
    assert room("chat.rename.v1", ChatRename(name="first")).outcome.kind is OutcomeKind.UNCHANGED
    room("chat.rename.v1", ChatRename(name="second"))
    again = room("chat.rename.v1", ChatRename(name="first"), key="k")
    assert again.outcome.kind is OutcomeKind.DUPLICATE
    assert again.figures == first.figures
    assert room("chat.rename.v1", ChatRename(name="second")).outcome.kind is OutcomeKind.UNCHANGED


def test_a_new_name_neither_frees_nor_takes_the_name_of_a_creation() -> None:
    room = Room()
    room("chat.rename.v1", ChatRename(name="other"))
    again = room("chat.create.v1", ChatCreate(kind="group", name="ops", members=[]))
    assert again.reason is Reason.CHAT_EXISTS
    room.chat_id = ids.group_chat_id(ANNA, "other")
    assert room("chat.create.v1", ChatCreate(kind="group", name="other", members=[])).reason is None


def test_an_owner_changes_any_role_and_nobody_else_does() -> None:
    room = Room()
    room("member.add.v1", MemberAdd(user_id=CARL, role="admin"))
    for who in (BEN, CARL):
        assert room("member.role.v1", MemberRole(user_id=BEN, role="admin"), by=who).reason is Reason.FORBIDDEN
    assert room("member.role.v1", MemberRole(user_id=DORA, role="admin")).reason is Reason.INVALID, "a stranger"
    room.send()
    room("read.mark.v1", Mark(up_to_seq=1), by=CARL)
    before = room.view.member((room.chat_id, CARL))
    changed = room("member.role.v1", MemberRole(user_id=CARL, role="owner"), key="k")
    assert (changed.outcome.type, changed.outcome.seq) == ("member.role.changed.v1", None)
    assert before is not None
    assert room.view.member((room.chat_id, CARL)) == replace(before, role="owner"), "and nothing else of them"
    again = room("member.role.v1", MemberRole(user_id=CARL, role="owner"))
    assert again.outcome.kind is OutcomeKind.UNCHANGED
    room("member.role.v1", MemberRole(user_id=CARL, role="member"))
    assert room("member.role.v1", MemberRole(user_id=CARL, role="owner"), key="k").outcome.kind is OutcomeKind.DUPLICATE
    carl = room.view.member((room.chat_id, CARL))
    assert carl is not None
    assert carl.role == "member", "a retry undoes nothing"


def test_the_last_owner_stays_one_until_another_is_made() -> None:
    room = Room()
    assert room("member.role.v1", MemberRole(user_id=ANNA, role="admin")).reason is Reason.INVALID
    assert room("member.remove.v1", MemberRemove(user_id=ANNA)).reason is Reason.INVALID
    room("member.role.v1", MemberRole(user_id=BEN, role="owner"))
    assert room("member.role.v1", MemberRole(user_id=ANNA, role="admin"), by=BEN).reason is None
    assert room("member.role.v1", MemberRole(user_id=BEN, role="member"), by=BEN).reason is Reason.INVALID
    assert room("member.remove.v1", MemberRemove(user_id=ANNA)).reason is None
    anna = room.view.member((room.chat_id, ANNA))
    assert anna is not None
    assert anna.creator, "whatever the role"


def test_a_direct_chats_members_stay() -> None:
    room = Room("direct")
    assert room("member.role.v1", MemberRole(user_id=BEN, role="member")).reason is Reason.FORBIDDEN
    assert room("member.remove.v1", MemberRemove(user_id=ANNA)).reason is Reason.FORBIDDEN
    assert room("member.add.v1", MemberAdd(user_id=CARL, role="member")).reason is Reason.FORBIDDEN


def test_who_joins_again_has_read_and_been_delivered_what_was_there() -> None:
    room = Room()
    for _ in range(3):
        room.send()
    room("member.remove.v1", MemberRemove(user_id=BEN))
    room.send()
    room("member.add.v1", MemberAdd(user_id=BEN, role="admin"))
    ben = room.view.member((room.chat_id, BEN))
    assert ben == Member(role="admin", present=True, joined_seq=4, read_seq=4, delivered_seq=4)


def test_marks_move_forward_only_and_never_past_the_last_message() -> None:
    room = Room()
    for _ in range(5):
        room.send()
    read = room("read.mark.v1", Mark(up_to_seq=3), by=BEN)
    assert (read.figures.updated_count, read.figures.read_seq) == (3, 3)
    back = room("read.mark.v1", Mark(up_to_seq=2), by=BEN)
    assert (back.outcome.kind, back.figures) == (OutcomeKind.UNCHANGED, Figures(updated_count=0, read_seq=3))
    assert room("read.mark.v1", Mark(up_to_seq=6), by=BEN).reason is Reason.INVALID
    delivered = room("delivered.mark.v1", Mark(up_to_seq=5), by=BEN)
    assert (delivered.figures.updated_count, delivered.figures.read_seq) == (5, 3)


def test_a_reply_names_a_message_of_the_same_chat() -> None:
    room = Room()
    message = room.send(key="m")
    assert message.outcome.command_id is not None
    assert room.send(reply_to_message_id=message.outcome.command_id).outcome.seq == 2
    creation = ids.command_id(room.chat_id, ANNA, "create")
    assert room.send(reply_to_message_id=creation).reason is Reason.UNKNOWN_MESSAGE, "a chat is no message"
    other = ids.command_id(ids.group_chat_id(BEN, "other"), BEN, "m")
    assert room.send(reply_to_message_id=other).reason is Reason.UNKNOWN_MESSAGE


def test_a_message_is_deleted_by_its_author_and_in_a_group_by_owners_and_admins() -> None:
    room = Room()
    room("member.add.v1", MemberAdd(user_id=CARL, role="admin"))
    room("member.add.v1", MemberAdd(user_id=DORA, role="member"))
    for who in (ANNA, BEN, BEN, BEN, DORA):
        room.send(by=who)
    assert room.delete(1, by=BEN).reason is Reason.FORBIDDEN, "the owner's"
    assert room.delete(5, by=BEN).reason is Reason.FORBIDDEN, "another member's"
    assert [room.delete(seq, by=who).reason for seq, who in ((2, BEN), (3, CARL), (4, ANNA), (1, CARL))] == [None] * 4


def test_in_a_direct_chat_nobody_deletes_what_the_other_wrote_though_both_own_it() -> None:
    room = Room("direct")
    room.send(by=ANNA)
    room.send(by=BEN)
    assert [room.delete(1, by=BEN).reason, room.delete(2, by=ANNA).reason] == [Reason.FORBIDDEN] * 2
    assert [room.delete(1, by=ANNA).reason, room.delete(2, by=BEN).reason] == [None] * 2


def test_a_deletion_takes_a_position_and_no_seq() -> None:
    room = Room()
    room.send()
    deleted = room.delete(1)
    assert (deleted.outcome.type, deleted.outcome.seq, deleted.outcome.position) == ("message.deleted.v1", None, 3)
    assert deleted.figures == AcceptedFigures(position=3)
    assert room.send().outcome.seq == 2


def test_what_is_deleted_already_is_unchanged_and_its_position_is_that_of_the_deletion() -> None:
    room = Room()
    room.send(by=BEN)
    first = room.delete(1, by=BEN, key="k")
    room.send()
    again = room.delete(1)
    assert (again.outcome.kind, again.figures) == (OutcomeKind.UNCHANGED, first.figures)
    assert room.delete(1, by=BEN, key="k").outcome.kind is OutcomeKind.DUPLICATE
    room("member.add.v1", MemberAdd(user_id=CARL, role="member"))
    assert room.delete(1, by=CARL).reason is Reason.FORBIDDEN, "who may not delete it is not told that it is deleted"


def test_a_seq_that_the_chat_has_not_reached_is_an_unknown_message_to_everybody() -> None:
    room = Room()
    room.send()
    assert room.delete(2).reason is Reason.UNKNOWN_MESSAGE
    assert room.delete(2, by=BEN).reason is Reason.UNKNOWN_MESSAGE
    assert room.delete(0).reason is Reason.INVALID
    assert room.delete(1, by=DORA).reason is Reason.UNKNOWN_CHAT
    room("member.remove.v1", MemberRemove(user_id=BEN))
    assert room.delete(1, by=BEN).reason is Reason.NOT_MEMBER


def test_who_left_and_joined_again_deletes_what_they_wrote_before() -> None:
    room = Room()
    room.send(by=BEN)
    room("member.remove.v1", MemberRemove(user_id=BEN))
    room("member.add.v1", MemberAdd(user_id=BEN, role="member"))
    assert room.delete(1, by=BEN).reason is None


def test_a_deleted_message_can_be_replied_to() -> None:
    room = Room()
    message = room.send(key="m")
    room.delete(1)
    assert message.outcome.command_id is not None
    assert room.send(reply_to_message_id=message.outcome.command_id).outcome.seq == 2


def test_an_edit_takes_a_position_and_no_seq_and_raises_the_revision() -> None:
    room = Room()
    room.send()
    first, second = room.edit(1, "one"), room.edit(1, "two")
    assert (first.outcome.type, first.outcome.seq, first.outcome.position) == ("message.edited.v1", None, 3)
    assert [d.figures for d in (first, second)] == [
        AcceptedFigures(position=3, revision=1),
        AcceptedFigures(position=4, revision=2),
    ]
    assert room.send().outcome.seq == 2


def test_a_message_is_edited_by_its_author_alone() -> None:
    room = Room()
    room.send(by=BEN)
    assert room.edit(1, "no").reason is Reason.FORBIDDEN, "not even by the owner"
    assert room.edit(2, "no").reason is Reason.UNKNOWN_MESSAGE
    assert room.edit(1, "no", by=DORA).reason is Reason.UNKNOWN_CHAT
    assert room.edit(1, "yes", by=BEN).figures.revision == 1
    room("member.remove.v1", MemberRemove(user_id=BEN))
    assert room.edit(1, "no", by=BEN).reason is Reason.NOT_MEMBER


def test_a_deleted_message_is_not_edited() -> None:
    room = Room()
    room.send()
    room.edit(1, "one")
    room.delete(1)
    assert room.edit(1, "one").reason is Reason.UNKNOWN_MESSAGE
    assert room.edit(1, "two", if_revision=0).reason is Reason.UNKNOWN_MESSAGE
    assert room.delete(1).outcome.kind is OutcomeKind.UNCHANGED


def test_an_edit_of_another_revision_is_stale_and_says_which_there_is() -> None:
    room = Room()
    room.send()
    assert room.edit(1, "one", if_revision=0).figures.revision == 1
    stale = room.edit(1, "two", if_revision=0)
    assert (stale.reason, stale.figures, stale.detail) == (
        Reason.STALE,
        Figures(revision=1),
        "the message has revision 1",
    )
    assert room.edit(1, "two", if_revision=1).figures.revision == 2


def test_an_edit_that_names_only_what_earlier_edits_left_is_unchanged_with_the_figures_of_the_last() -> None:
    room = Room()
    room.send("one")
    first = room.edit(1, "one", media_urls=[], metadata={"a": 1, "b": 2})
    assert first.figures.revision == 1, "what was sent is not remembered"
    raw = b'{ "seq": 1, "metadata": {"b": 2, "a": 1}, "media_urls": [], "text": "one", "if_revision": 1 }'
    again = room("message.edit.v1", raw)
    assert (again.outcome.kind, again.figures) == (OutcomeKind.UNCHANGED, Figures(position=3, revision=1))
    same: list[dict[str, Any]] = [{}, {"media_urls": []}, {"metadata": {"b": 2, "a": 1}}]
    for named in same:
        assert room.edit(1, "one", **named).figures == again.figures, "what is absent stays as it is"
    others: list[dict[str, Any]] = [{"metadata": {"a": 1}}, {"media_urls": ["https://a.example/1"]}, {"metadata": {}}]
    assert [room.edit(1, "one", **more).figures.revision for more in others] == [2, 3, 4]


def test_a_repeat_of_an_edit_gets_the_originals_figures_whatever_came_between() -> None:
    room = Room()
    room.send()
    original = room.edit(1, "B", key="first device")
    room.edit(1, "C", key="second device")
    room.delete(1)
    repeat = room.edit(1, "B", key="first device")
    assert (repeat.outcome.kind, repeat.figures) == (OutcomeKind.DUPLICATE, original.figures)
    assert decode_duplicate(repeat.outcome.body).revision == 1
    assert room.edit(1, "D", key="first device").reason is Reason.CONFLICT


def test_an_edit_is_no_message_that_is_replied_to() -> None:
    room = Room()
    room.send()
    edit = room.edit(1, "one")
    assert room.send(reply_to_message_id=edit.outcome.command_id).reason is Reason.UNKNOWN_MESSAGE


def test_evolve_refuses_an_edit_that_cannot_follow() -> None:
    room = Room()
    room.send()
    edited = room.edit(1, "one").outcome
    with pytest.raises(LogCorrupt, match="message 9 of chat"):
        evolve(room.view, replace(edited, position=4, body=b'{"seq":9,"text":"x"}'), room.view.changes)
    other = Room()
    other.send()
    other.delete(1)
    with pytest.raises(LogCorrupt, match="was deleted, and is edited"):
        evolve(other.view, replace(edited, position=4), other.view.changes)


def test_evolve_refuses_a_deletion_that_cannot_follow() -> None:
    room = Room()
    room.send()
    deleted = room.delete(1).outcome
    with pytest.raises(LogCorrupt, match="deleted twice"):
        evolve(room.view, replace(deleted, position=4), room.view.changes)
    with pytest.raises(LogCorrupt, match="message 9 of chat"):
        evolve(room.view, replace(deleted, position=5, body=b'{"seq":9}'), room.view.changes)


def test_evolve_refuses_an_outcome_that_cannot_follow() -> None:
    room = Room()
    sent = room.send().outcome
    with pytest.raises(LogCorrupt, match="stands at position 2, seq 1"):
        evolve(room.view, sent, room.view.changes)
    with pytest.raises(UnknownType, match="deploy the newer sequencer"):
        evolve(room.view, replace(sent, type="message.sung.v1"), room.view.changes)
    with pytest.raises(LogCorrupt, match="never created"):
        evolve(room.view, replace(sent, chat_id=ids.group_chat_id(DORA, "x")), room.view.changes)
