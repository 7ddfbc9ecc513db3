"""Whether an accepted event could be accepted: rights, membership and state, by wire.md and apart from the writer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from schemas import ids
from schemas.bodies import (
    Body,
    ChatCreate,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
)
from schemas.events import Outcome, decode_accepted
from schemas.ids import UserId
from schemas.types import EventType
from services.ops.verify.log.chat import Chat, Member

Finding = tuple[str, str]
"""The rule that is broken, and the sentence about it."""


class Messages(Protocol):
    """What was sent before, of all chats."""

    def is_message_of(self, message_id: str, chat_id: str) -> bool:
        """Whether a message_id is that of a message of a chat."""
        ...

    def author_of(self, chat_id: str, seq: int) -> str | None: ...

    def is_deleted(self, chat_id: str, seq: int) -> bool: ...


_HIGH_ROLES: Final = ("owner", "admin")


def unlawful(outcome: Outcome, chat: Chat | None, messages: Messages) -> Iterator[Finding]:
    """What speaks against an accepted event; `chat` as it was before it. Raises LogCorrupt for a body that is none."""
    body = decode_accepted(outcome)
    if isinstance(body, ChatCreate):
        yield from _creation(outcome, body, chat)
        return
    if chat is None:
        yield "unknown_chat", f"a {outcome.type} in chat {outcome.chat_id}, which was never created"
        return
    sender = chat.present(outcome.sender_id)
    if sender is None and _returns(outcome, body, chat):
        return
    if sender is None:
        yield "not_member", f"{outcome.sender_id} is no member of chat {outcome.chat_id} at this point"
        return
    yield from _state(outcome, body, chat, sender, messages)
    if isinstance(body, MessageDelete):
        yield from _deletion(outcome, body, chat, sender, messages)
    yield from _rights(outcome, body, chat, sender)


def _returns(outcome: Outcome, body: Body, chat: Chat) -> bool:
    """Whether a creator adds themself again, as owner, to a group that every member has left."""
    if not isinstance(body, MemberAdd) or chat.kind != "group" or not chat.deserted():
        return False
    return chat.creator == outcome.sender_id == body.user_id and body.role == "owner"


def take_over(chats: dict[str, Chat], outcome: Outcome) -> None:
    """Moves a chat's membership and cursors on by an accepted event, lawful or not: it is what readers see."""
    body = decode_accepted(outcome)
    sender_id = str(outcome.sender_id)
    chat = chats.get(outcome.chat_id or "")
    if isinstance(body, ChatCreate):
        if chat is None:
            chat = chats[outcome.chat_id or ""] = Chat(kind=body.kind, creator=sender_id)
        others = "owner" if body.kind == "direct" else "member"
        for user_id, role in {**dict.fromkeys(body.members, others), sender_id: "owner"}.items():
            chat.join(user_id, role)
        return
    if chat is None:
        chat = chats[outcome.chat_id or ""] = Chat(kind="group")
    member = chat.members.get(sender_id)
    if isinstance(body, MemberAdd):
        chat.join(body.user_id, body.role)
    elif isinstance(body, MemberRemove) and body.user_id in chat.members:
        chat.members[body.user_id].present = False
    elif isinstance(body, MemberRole) and body.user_id in chat.members:
        chat.members[body.user_id].role = body.role
    elif isinstance(body, Mark) and member is not None:
        if outcome.type == EventType.READ_ADVANCED:
            member.read_seq = body.up_to_seq
        else:
            member.delivered_seq = body.up_to_seq


def _creation(outcome: Outcome, body: ChatCreate, chat: Chat | None) -> Iterator[Finding]:
    if chat is not None:
        yield "chat_exists", f"chat {outcome.chat_id} was created before"
    creator = UserId(str(outcome.sender_id))
    if body.kind == "direct":
        other = UserId(body.members[0]) if body.members else creator
        allowed = [ids.direct_chat_id(creator, other)]
    else:
        by_key = ids.uuid5(creator, f"key/{outcome.client_generated_id}")
        allowed = [ids.group_chat_id(creator, body.name or ""), ids.ChatId(by_key)]
    if outcome.chat_id not in allowed:
        yield "identity", f"the chat it creates has the id {' or '.join(allowed)}, not {outcome.chat_id}"


def _state(outcome: Outcome, body: Body, chat: Chat, sender: Member, messages: Messages) -> Iterator[Finding]:
    if isinstance(body, MessageSend):
        answered = body.reply_to_message_id
        if answered is not None and not messages.is_message_of(answered, str(outcome.chat_id)):
            yield "unknown_message", f"it answers {answered}, which is no message of chat {outcome.chat_id}"
    elif isinstance(body, Mark):
        yield from _mark(outcome, body, chat, sender)
    elif isinstance(body, MemberAdd) and chat.present(body.user_id) is not None:
        yield "membership", f"{body.user_id} is a member of chat {outcome.chat_id} already"
    elif isinstance(body, MemberRemove | MemberRole) and chat.present(body.user_id) is None:
        yield "membership", f"{body.user_id} is no member of chat {outcome.chat_id}"
    elif isinstance(body, MessageEdit | MessageDelete | Reaction) and body.seq > chat.last_seq:
        yield "unknown_message", f"seq {body.seq} of chat {outcome.chat_id} is beyond its last, {chat.last_seq}"


def _deletion(
    outcome: Outcome, body: MessageDelete, chat: Chat, sender: Member, messages: Messages
) -> Iterator[Finding]:
    chat_id = str(outcome.chat_id)
    if messages.is_deleted(chat_id, body.seq):
        yield "deleted_twice", f"message {body.seq} of chat {chat_id} was deleted before"
    author = messages.author_of(chat_id, body.seq)
    if author not in (None, outcome.sender_id) and (chat.kind == "direct" or sender.role not in _HIGH_ROLES):
        yield "forbidden", f"message {body.seq} of chat {chat_id} is {author}'s, not {outcome.sender_id}'s to delete"


def _mark(outcome: Outcome, body: Mark, chat: Chat, sender: Member) -> Iterator[Finding]:
    cursor = sender.read_seq if outcome.type == EventType.READ_ADVANCED else sender.delivered_seq
    if body.up_to_seq > chat.last_seq:
        yield "cursor", f"a mark up to seq {body.up_to_seq} in chat {outcome.chat_id}, whose last is {chat.last_seq}"
    elif body.up_to_seq <= cursor:
        yield "cursor", f"a mark up to seq {body.up_to_seq} does not move the cursor, which is at {cursor}"


def _rights(outcome: Outcome, body: Body, chat: Chat, sender: Member) -> Iterator[Finding]:
    if not isinstance(body, MemberAdd | MemberRemove | MemberRole):
        return
    if chat.kind == "direct":
        yield "forbidden", f"the members of direct chat {outcome.chat_id} never change"
        return
    if isinstance(body, MemberRemove) and body.user_id == outcome.sender_id:
        if sender.role == "owner" and chat.owners() == 1 and chat.others(body.user_id):
            yield "forbidden", f"{body.user_id} is the last owner of chat {outcome.chat_id} and leaves others behind"
        return
    touched = chat.present(body.user_id)
    if isinstance(body, MemberRole) and touched is not None:
        if touched.role == body.role:
            yield "membership", f"{body.user_id} is {body.role} of chat {outcome.chat_id} already"
        elif touched.role == "owner" and chat.owners() == 1:
            yield "forbidden", f"{body.user_id} is the last owner of chat {outcome.chat_id}"
    roles = {touched.role if touched is not None else "member"}
    if isinstance(body, MemberAdd | MemberRole):
        roles.add(body.role)
    needed = ("owner",) if roles & set(_HIGH_ROLES) else _HIGH_ROLES
    if sender.role not in needed:
        yield "forbidden", f"{outcome.sender_id} is {sender.role} of chat {outcome.chat_id}, which does not allow it"
