"""The oracle's rules that a run exercises rarely: each as a command in a small state."""

from __future__ import annotations

import json
from uuid import UUID, uuid5

import pytest

from schemas import ids
from schemas.ids import ChatId, UserId
from schemas.types import EVENT_OF, CommandType
from tests.oracle import chats, members, messages, reactions, receipts
from tests.oracle.oracle import RULES, expected
from tests.oracle.records import Json, Outcome
from tests.oracle.state import Chat, Member, Message, State

ANNA, BEN, CARL, DORA, EVE = (f"{n}1111111-1111-4111-8111-111111111111" for n in "abcde")
BY_NAME = str(ids.group_chat_id(UserId(ANNA), "Ops"))
BY_KEY = str(uuid5(UUID(ANNA), "key/k-1"))
JOINED: Json = {
    "joined_at": 1, "joined_seq": 0, "read_seq": 0, "delivered_seq": 0, "changed_position": 1, "changed_index": 1
}  # fmt: skip
LEFT_AT = 9
AT_MS = 1_700_000_000_000


def told(state: State, command_type: str, chat: str, sender: str, body: Json, key: str = "k-1") -> str:
    """Return the outcome that the oracle expects, in words."""
    headers = {
        "ce_id": str(ids.command_id(ChatId(chat), UserId(sender), key)),
        "ce_type": command_type,
        "ce_sender": sender,
        "ce_clientid": key,
    }
    answer = expected(state, chat.encode(), json.dumps(body).encode(), headers, partition=0, partitions=1, at_ms=AT_MS)
    return str(answer)


def group(**left_at: int | None) -> State:
    """Return a state with a group of Anna's and Ben; `anna` and `ben` say when they left."""
    chat = Chat(kind="group", name="Ops", created_by=ANNA, created_at=1, partition=0)
    chat.members = {
        ANNA: Member(role="owner", left_at=left_at.get("anna"), **JOINED),
        BEN: Member(role="owner", left_at=left_at.get("ben"), **JOINED),
    }
    return State(chats={BY_NAME: chat})


@pytest.mark.parametrize(
    ("sender", "joins", "role", "outcome"),
    [
        (ANNA, ANNA, "owner", "accepted"),
        (ANNA, ANNA, "admin", "rejected (invalid)"),
        (ANNA, BEN, "owner", "rejected (not_member)"),
        (BEN, BEN, "owner", "rejected (not_member)"),
        (BEN, ANNA, "owner", "rejected (not_member)"),
        (CARL, ANNA, "owner", "rejected (unknown_chat)"),
    ],
)
def test_the_creator_alone_joins_again_a_group_that_everybody_has_left(
    sender: str, joins: str, role: str, outcome: str
) -> None:
    left = group(anna=LEFT_AT, ben=LEFT_AT)
    assert told(left, "member.add.v1", BY_NAME, sender, {"user_id": joins, "role": role}) == outcome


def test_beside_another_member_a_creator_who_left_is_no_member() -> None:
    add = {"user_id": ANNA, "role": "owner"}
    assert told(group(anna=LEFT_AT), "member.add.v1", BY_NAME, ANNA, add) == "rejected (not_member)"


def test_a_group_has_the_id_of_its_name_or_of_its_creators_key() -> None:
    body: Json = {"kind": "group", "name": "Ops", "members": []}
    assert told(State(), "chat.create.v1", BY_NAME, ANNA, body) == "accepted"
    assert told(State(), "chat.create.v1", BY_KEY, ANNA, body) == "accepted"
    assert told(State(), "chat.create.v1", BY_KEY, ANNA, body, key="k-2") == "rejected (malformed)"
    assert told(State(), "chat.create.v1", BY_KEY, BEN, body) == "rejected (malformed)"
    assert told(group(), "chat.create.v1", BY_NAME, ANNA, body) == "rejected (chat_exists)"
    assert told(group(), "chat.create.v1", BY_KEY, ANNA, body) == "accepted"
    direct: Json = {"kind": "direct", "members": [BEN]}
    assert told(State(), "chat.create.v1", BY_KEY, ANNA, direct) == "rejected (malformed)"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"text": "", "media_urls": ["https://example.org/a.png"]}, "accepted"),
        ({"text": "", "media_urls": []}, "rejected (invalid)"),
        ({"text": ""}, "rejected (invalid)"),
        ({"text": "x" * 16_385, "media_urls": ["https://example.org/a.png"]}, "rejected (too_large)"),
    ],
)
def test_a_message_has_a_text_or_media(body: Json, outcome: str) -> None:
    assert told(group(), "message.send.v1", BY_NAME, ANNA, body) == outcome


@pytest.mark.parametrize(
    ("sender", "user", "role", "outcome"),
    [
        (ANNA, BEN, "admin", "accepted"),
        (ANNA, BEN, "owner", "unchanged"),
        (ANNA, ANNA, "member", "accepted"),
        (ANNA, CARL, "member", "rejected (invalid)"),
        (CARL, BEN, "member", "rejected (unknown_chat)"),
    ],
)
def test_an_owner_changes_any_role(sender: str, user: str, role: str, outcome: str) -> None:
    assert told(group(), "member.role.v1", BY_NAME, sender, {"user_id": user, "role": role}) == outcome


def test_a_member_changes_no_role_and_the_last_owner_stays_one() -> None:
    state = group()
    state.chats[BY_NAME].members[BEN].role = "admin"
    assert told(state, "member.role.v1", BY_NAME, BEN, {"user_id": ANNA, "role": "member"}) == "rejected (forbidden)"
    assert told(state, "member.role.v1", BY_NAME, ANNA, {"user_id": ANNA, "role": "admin"}) == "rejected (invalid)"
    assert told(group(ben=LEFT_AT), "member.role.v1", BY_NAME, ANNA, {"user_id": BEN, "role": "admin"}) == (
        "rejected (invalid)"
    )


def test_a_reaction_is_one_of_a_user_to_a_message_that_is_there() -> None:
    state, body = group(), {"seq": 1, "emoji": "👍"}
    message = state.chats[BY_NAME].messages[1] = Message(
        seq=1, position=2, index=2, message_id="m", sender=ANNA, key="k", sent_at=1, body={"text": "a"}, root_seq=None,
        changed_position=2,
    )  # fmt: skip
    assert told(state, "reaction.add.v1", BY_NAME, BEN, body) == "accepted"
    assert told(state, "reaction.remove.v1", BY_NAME, BEN, body) == "unchanged"
    message.reactions[BEN, "👍"] = message.first_uses["👍"] = 3
    assert told(state, "reaction.add.v1", BY_NAME, BEN, body) == "unchanged"
    assert told(state, "reaction.remove.v1", BY_NAME, BEN, body) == "accepted"
    assert told(state, "reaction.remove.v1", BY_NAME, ANNA, body) == "unchanged"
    assert told(state, "reaction.add.v1", BY_NAME, CARL, body) == "rejected (unknown_chat)"
    assert told(state, "reaction.add.v1", BY_NAME, BEN, {**body, "seq": 2}) == "rejected (unknown_message)"
    message.reactions.update({(BEN, str(number)): 3 for number in range(19)})
    assert told(state, "reaction.add.v1", BY_NAME, BEN, {**body, "emoji": "❤"}) == "rejected (invalid)"
    message.first_uses.update({str(number): 3 for number in range(49)})
    assert told(state, "reaction.add.v1", BY_NAME, ANNA, {**body, "emoji": "❤"}) == "rejected (invalid)"
    assert told(state, "reaction.add.v1", BY_NAME, ANNA, body) == "accepted"
    message.deleted_at = 5
    assert told(state, "reaction.add.v1", BY_NAME, ANNA, body) == "rejected (unknown_message)"


@pytest.mark.parametrize(
    ("sender", "name", "outcome"),
    [
        (ANNA, "New", "accepted"),
        (ANNA, "Ops", "unchanged"),
        (CARL, "New", "rejected (unknown_chat)"),
    ],
)
def test_an_owner_renames_a_group(sender: str, name: str, outcome: str) -> None:
    assert told(group(), "chat.rename.v1", BY_NAME, sender, {"name": name}) == outcome


def test_a_member_renames_nothing_and_nobody_a_direct_chat() -> None:
    state = group()
    state.chats[BY_NAME].members[BEN].role = "member"
    assert told(state, "chat.rename.v1", BY_NAME, BEN, {"name": "Mine"}) == "rejected (forbidden)"
    state.chats[BY_NAME].kind = "direct"
    assert told(state, "chat.rename.v1", BY_NAME, ANNA, {"name": "Us"}) == "rejected (forbidden)"


@pytest.mark.parametrize(
    ("sender", "user", "outcome"),
    [
        (BEN, ANNA, "rejected (forbidden)"),
        (BEN, DORA, "rejected (forbidden)"),
        (BEN, CARL, "accepted"),
        (BEN, BEN, "accepted"),
        (BEN, EVE, "unchanged"),
        (CARL, DORA, "rejected (forbidden)"),
        (CARL, CARL, "accepted"),
        (ANNA, DORA, "accepted"),
        (ANNA, ANNA, "rejected (invalid)"),
    ],
)
def test_an_admin_removes_members_and_an_owner_anyone_but_the_last_owner(sender: str, user: str, outcome: str) -> None:
    state = group()
    for other, role in ((BEN, "admin"), (CARL, "member"), (DORA, "admin")):
        state.chats[BY_NAME].members[other] = Member(role=role, **JOINED)
    assert told(state, "member.remove.v1", BY_NAME, sender, {"user_id": user}) == outcome


@pytest.mark.parametrize("command_type", ["member.add.v1", "member.remove.v1", "member.role.v1"])
def test_the_members_of_a_direct_chat_never_change(command_type: str) -> None:
    state = group()
    state.chats[BY_NAME].kind = "direct"
    body: Json = {"user_id": BEN} | ({} if command_type == "member.remove.v1" else {"role": "member"})
    assert told(state, command_type, BY_NAME, ANNA, body) == "rejected (forbidden)"


def test_a_direct_chat_is_created_once_and_asking_again_changes_nothing() -> None:
    state, body = State(), {"kind": "direct", "members": [BEN]}
    home = str(ids.direct_chat_id(UserId(ANNA), UserId(BEN)))
    assert told(state, "chat.create.v1", home, ANNA, body) == "accepted"
    state.chats[home] = Chat(kind="direct", name=None, created_by=ANNA, created_at=1, partition=0)
    assert told(state, "chat.create.v1", home, BEN, {"kind": "direct", "members": [ANNA]}) == "unchanged"


@pytest.mark.parametrize(
    ("sender", "seq", "outcome"),
    [
        (BEN, 1, "accepted"),
        (CARL, 1, "rejected (forbidden)"),
        (ANNA, 1, "accepted"),
        (CARL, 2, "accepted"),
        (BEN, 2, "accepted"),
        (BEN, 3, "rejected (unknown_message)"),
        (ANNA, 4, "unchanged"),
        (CARL, 4, "rejected (forbidden)"),
    ],
)
def test_a_message_is_deleted_by_its_author_or_a_moderator(sender: str, seq: int, outcome: str) -> None:
    state = group()
    chat = state.chats[BY_NAME]
    chat.members[CARL] = Member(role="member", **JOINED)
    for number, author, deleted_at in ((1, BEN, None), (2, CARL, None), (4, BEN, 7)):
        chat.messages[number] = Message(
            seq=number, position=1, index=1, message_id="", sender=author, key="", sent_at=1, body={"text": ""},
            root_seq=None, changed_position=1, deleted_at=deleted_at,
        )  # fmt: skip
    assert told(state, "message.delete.v1", BY_NAME, sender, {"seq": seq}) == outcome


@pytest.mark.parametrize(
    ("sender", "body", "outcome"),
    [
        (BEN, {"seq": 1, "text": "new"}, "accepted"),
        (ANNA, {"seq": 1, "text": "new"}, "rejected (forbidden)"),
        (BEN, {"seq": 2, "text": "new"}, "rejected (unknown_message)"),
        (BEN, {"seq": 3, "text": "new"}, "rejected (unknown_message)"),
        (BEN, {"seq": 1, "text": "new", "if_revision": 0}, "rejected (stale)"),
        (BEN, {"seq": 1, "text": "new", "if_revision": 1}, "accepted"),
        (BEN, {"seq": 1, "text": "edited", "metadata": {"b": 1, "a": 2}}, "unchanged"),
        (BEN, {"seq": 1, "text": "edited"}, "unchanged"),
        (BEN, {"seq": 1, "text": "edited", "media_urls": []}, "accepted"),
        (BEN, {"seq": 1, "text": ""}, "rejected (invalid)"),
    ],
)
def test_a_message_is_edited_by_its_author_until_it_is_deleted(sender: str, body: Json, outcome: str) -> None:
    state = group()
    messages = state.chats[BY_NAME].messages
    for number, deleted_at in ((1, None), (3, 7)):
        messages[number] = Message(
            seq=number, position=1, index=1, message_id="", sender=BEN, key="", sent_at=1, body={"text": ""},
            root_seq=None, changed_position=1, deleted_at=deleted_at,
        )  # fmt: skip
    said = {"seq": 1, "text": "edited", "metadata": {"a": 2, "b": 1}}
    messages[1].edits.append(
        Outcome(
            partition=0,
            offset=2,
            term=1,
            index=2,
            command_offset=1,
            type="message.edited.v1",
            at_ms=1,
            chat=BY_NAME,
            sender=BEN,
            command_id="",
            client_id="",
            position=3,
            seq=None,
            raw=b"",
            body=said,
        )
    )
    assert told(state, "message.edit.v1", BY_NAME, sender, body) == outcome


def test_a_type_without_a_rule_is_unknown() -> None:
    assert told(group(), "message.sing.v9", BY_NAME, ANNA, {"text": "la"}) == "rejected (unknown_type)"


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (b"[" * 90, "rejected (invalid)"),
        (b"[1]", "rejected (malformed)"),
        (b'{"up_to_seq"', "rejected (malformed)"),
        (b'{"up_to_seq": 0}', "unchanged"),
    ],
)
def test_a_body_is_an_object_that_nests_no_deeper_than_a_parser_may_be_given(raw: bytes, outcome: str) -> None:
    headers = {"ce_type": "read.mark.v1", "ce_sender": ANNA}
    answer = expected(group(), BY_NAME.encode(), raw, headers, partition=0, partitions=1, at_ms=AT_MS)
    assert str(answer) == outcome


def test_a_type_is_in_one_nouns_rules_or_planned() -> None:
    nouns = (chats, members, messages, reactions, receipts)
    named = [name for noun in nouns for name in (*noun.RULES, *noun.PLANNED)]
    assert sorted(named) == sorted(CommandType), "declared in schemas, and the oracle has no rule for it"
    assert all(RULES[name] is rule for noun in nouns for name, rule in noun.RULES.items())
    assert {name: rule.event for name, rule in RULES.items()} == {name: EVENT_OF[name] for name in RULES}
