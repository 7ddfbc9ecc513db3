"""What becomes of a command: a pure function of the state and the command. No clock, no randomness, no I/O.

For one command there is one outcome, always. The order of the checks is part of the contract: a repeat comes before
every limit and every right, so that a changed limit or a lost membership never turns an accepted send into a refusal.

    wrong_partition → malformed (no id derivable) → repeat or conflict → unknown_type → too_large → limits (invalid)
    → unknown_chat / chat_exists → not_member → forbidden → unknown_message → invalid by state
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from schemas import ids
from schemas.bodies import Body, ChatCreate, Mark, MemberAdd, MemberRemove, MemberRole, MessageDelete, MessageSend
from schemas.commands import PlainSend, digest, parse_body, plain_send
from schemas.errors import Reason, Refused
from schemas.events import Duplicate, Outcome, Rejected, encode_duplicate, encode_rejected, encode_unchanged
from schemas.ids import CommandId, UserId
from schemas.types import EVENT_OF, CommandType, EventType
from schemas.wire.encoding import Command
from schemas.wire.records import command_key
from services.sequencer.rules.state import Chat, Member, View


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """The outcome, and what its sender is told beside it."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str | None = None
    seq: int | None = None
    """Of the message; for a repeat the original's, as the next two."""
    position: int | None = None
    sent_at_ms: int | None = None
    updated_count: int | None = None
    """Of a mark: new cursor − old."""
    read_seq: int | None = None


class _Unchanged(Exception):
    """The effect is already there."""

    def __init__(self, position: int | None = None, read_seq: int | None = None) -> None:
        self.position = position
        self.read_seq = read_seq


class _Accepted(Struct, frozen=True, kw_only=True, gc=False):
    position: int
    seq: int | None = None
    updated_count: int | None = None
    read_seq: int | None = None


def decide(view: View, command: Command, at_ms: int) -> Decision:
    """The decision on `command` in the state `view`, at `at_ms` (ms since 1970; the caller keeps it from falling)."""
    try:
        if command.fault is not None:
            raise command.fault
        repeat = _repeat(view, command, at_ms)
        if repeat is not None:
            return repeat
        decide_body = _DECIDERS.get(command.type)
        if decide_body is None:
            raise Refused(Reason.UNKNOWN_TYPE, "no such command type, or none that is decided yet")
        accepted = decide_body(view, command, _body(command))
    except Refused as refused:
        return _rejected(command, refused, at_ms)
    except _Unchanged as unchanged:
        return _unchanged(command, unchanged, at_ms)
    return Decision(
        outcome=accepted_outcome(command, at_ms, accepted.position, accepted.seq),
        seq=accepted.seq,
        position=accepted.position,
        sent_at_ms=at_ms,
        updated_count=accepted.updated_count,
        read_seq=accepted.read_seq,
    )


def accepted_outcome(command: Command, at_ms: int, position: int, seq: int | None) -> Outcome:
    return Outcome(
        type=_EVENT_OF[command.type],
        at_ms=at_ms,
        body=command.body,
        key=command.key,
        chat_id=command.chat_id,
        command_id=command.command_id,
        client_generated_id=command.client_generated_id,
        sender_id=command.sender_id,
        position=position,
        seq=seq,
        traceparent=command.traceparent,
    )


def _body(command: Command) -> Body | PlainSend:
    plain = plain_send(command.body) if command.type == _SEND else None
    return plain if plain is not None else parse_body(command.type, command.body)


_SEND: Final = CommandType.MESSAGE_SEND.value
_EVENT_OF: Final = {command: event.value for command, event in EVENT_OF.items()}


# --- the three ways to end without an effect ------------------------------------------------------------------


def _repeat(view: View, command: Command, at_ms: int) -> Decision | None:
    """Whether this key was used up by an accepted command. Marks have none."""
    if command.client_generated_id is None or command.chat_id is None or command.command_id is None:
        return None
    original = view.remembered(command_key(command.chat_id, command.command_id))
    if original is None:
        return None
    if original.digest != digest(command.type, command.body):
        raise Refused(Reason.CONFLICT, "this client_generated_id was used with another payload")
    body = Duplicate(seq=original.seq, position=original.position, sent_at_ms=original.sent_at_ms)
    return Decision(
        outcome=_without_effect(EventType.DUPLICATE, command, encode_duplicate(body), at_ms),
        seq=original.seq,
        position=original.position,
        sent_at_ms=original.sent_at_ms,
    )


def _rejected(command: Command, refused: Refused, at_ms: int) -> Decision:
    body = Rejected(command_type=command.type or None, reason=refused.reason, detail=refused.detail)
    return Decision(
        outcome=_without_effect(EventType.REJECTED, command, encode_rejected(body), at_ms),
        reason=refused.reason,
        detail=refused.detail,
    )


def _unchanged(command: Command, unchanged: _Unchanged, at_ms: int) -> Decision:
    return Decision(
        outcome=_without_effect(EventType.UNCHANGED, command, encode_unchanged(unchanged.position), at_ms),
        position=unchanged.position,
        sent_at_ms=at_ms,
        updated_count=0 if unchanged.read_seq is not None else None,
        read_seq=unchanged.read_seq,
    )


def _without_effect(event: EventType, command: Command, body: bytes, at_ms: int) -> Outcome:
    return Outcome(
        type=event.value,
        at_ms=at_ms,
        body=body,
        key=command.key,
        chat_id=command.chat_id,
        command_id=command.command_id,
        client_generated_id=command.client_generated_id,
        sender_id=command.sender_id,
        traceparent=command.traceparent,
    )


# --- by type --------------------------------------------------------------------------------------------------


def _chat_create(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, ChatCreate)
    sender = _sender(command)
    if body.kind == "group":
        expected = ids.group_chat_id(sender, body.name or "")
        if command.chat_id != expected and command.client_generated_id is not None:
            expected = ids.keyed_chat_id(sender, command.client_generated_id)
    else:
        other = UserId(body.members[0]) if body.members else sender
        if body.members and other == sender:
            raise Refused(Reason.INVALID, "a chat with oneself names no members", "/members")
        expected = ids.direct_chat_id(sender, other)
    if command.chat_id != expected:
        raise Refused(
            Reason.MALFORMED,
            "the chat_id is neither that of this creator and name, nor of this creator and key, nor of these two users",
        )
    chat = view.chat(expected)
    if chat is None:
        return _Accepted(position=1)
    if chat.kind == "direct":
        raise _Unchanged(position=1)
    raise Refused(
        Reason.CHAT_EXISTS,
        "you have made a group of this name before; if it has no members left, you may join it again as owner",
    )


def _member_add(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, MemberAdd)
    chat, sender = _chat_and_sender(view, command)
    if sender.creator and chat.members == 0 and body.user_id == command.sender_id:
        if body.role != "owner":
            raise Refused(Reason.INVALID, "the creator of a chat without members joins it again as owner", "/role")
        return _Accepted(position=chat.last_position + 1)
    _require_present(sender)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "a direct chat has the members it has")
    if sender.role == "member" or (sender.role == "admin" and body.role != "member"):
        raise Refused(Reason.FORBIDDEN, "owners add anybody, admins add members")
    member = _member(view, command, UserId(body.user_id))
    if member is not None and member.present:
        if member.role == body.role:
            raise _Unchanged
        raise Refused(
            Reason.INVALID, f"already a member, as {member.role}: a command member.role.v1 changes that", "/role"
        )
    return _Accepted(position=chat.last_position + 1)


def _member_remove(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, MemberRemove)
    chat, sender = _as_member(view, command)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "a direct chat has the members it has")
    leaving = body.user_id == command.sender_id
    member = _member(view, command, UserId(body.user_id))
    if not leaving:
        if sender.role == "member":
            raise Refused(Reason.FORBIDDEN, "owners and admins remove others")
        if sender.role == "admin" and member is not None and member.present and member.role != "member":
            raise Refused(Reason.FORBIDDEN, "only an owner removes an owner or an admin")
    if member is None or not member.present:
        raise _Unchanged
    if member.role == "owner" and chat.owners == 1 and chat.members > 1:
        raise Refused(
            Reason.INVALID,
            "the last owner leaves last; give another member the role owner first",
            "/user_id",
        )
    return _Accepted(position=chat.last_position + 1)


def _member_role(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, MemberRole)
    chat, sender = _as_member(view, command)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "both members of a direct chat are its owners")
    if sender.role != "owner":
        raise Refused(Reason.FORBIDDEN, "only an owner changes a role")
    member = _member(view, command, UserId(body.user_id))
    if member is None or not member.present:
        raise Refused(Reason.INVALID, "not a member of this chat, who could be added with this role", "/user_id")
    if member.role == body.role:
        raise _Unchanged
    if member.role == "owner" and chat.owners == 1:
        raise Refused(Reason.INVALID, "the last owner stays one; give another member the role owner first", "/role")
    return _Accepted(position=chat.last_position + 1)


def _message_send(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, (PlainSend, MessageSend))
    chat, _ = _as_member(view, command)
    if body.reply_to_message_id is not None:
        assert command.chat_id is not None
        # Keyed by chat, so that a message of another chat is as unknown as one that never was.
        replied = view.remembered(command_key(command.chat_id, CommandId(body.reply_to_message_id)))
        if replied is None or replied.seq is None:
            raise Refused(Reason.UNKNOWN_MESSAGE, "no such message in this chat", "/reply_to_message_id")
    return _Accepted(position=chat.last_position + 1, seq=chat.last_seq + 1)


def _message_delete(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, MessageDelete)
    chat, sender = _as_member(view, command)
    assert command.chat_id is not None
    # Who may delete a message depends on who wrote it: one that is not there is unknown to everybody.
    if body.seq > chat.last_seq:
        raise Refused(Reason.UNKNOWN_MESSAGE, f"the chat's last seq is {chat.last_seq}", "/seq")
    moderates = chat.kind == "group" and sender.role != "member"
    if not moderates and view.author(command.chat_id, body.seq) != command.sender_id:
        raise Refused(Reason.FORBIDDEN, "a message is deleted by its author, in a group by owners and admins too")
    deleted_at = view.deleted((command.chat_id, body.seq))
    if deleted_at is not None:
        raise _Unchanged(position=deleted_at)
    return _Accepted(position=chat.last_position + 1)


def _read_mark(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, Mark)
    chat, member = _as_member(view, command)
    _within(chat, body)
    if body.up_to_seq <= member.read_seq:
        raise _Unchanged(read_seq=member.read_seq)
    return _Accepted(
        position=chat.last_position + 1,
        updated_count=body.up_to_seq - member.read_seq,
        read_seq=body.up_to_seq,
    )


def _delivered_mark(view: View, command: Command, body: Body | PlainSend) -> _Accepted:
    assert isinstance(body, Mark)
    chat, member = _as_member(view, command)
    _within(chat, body)
    if body.up_to_seq <= member.delivered_seq:
        raise _Unchanged(read_seq=member.read_seq)
    return _Accepted(
        position=chat.last_position + 1,
        updated_count=body.up_to_seq - member.delivered_seq,
        read_seq=member.read_seq,
    )


_DECIDERS: Final[dict[str, Callable[[View, Command, Body | PlainSend], _Accepted]]] = {
    CommandType.CHAT_CREATE.value: _chat_create,
    CommandType.MEMBER_ADD.value: _member_add,
    CommandType.MEMBER_REMOVE.value: _member_remove,
    CommandType.MEMBER_ROLE.value: _member_role,
    CommandType.MESSAGE_SEND.value: _message_send,
    CommandType.MESSAGE_DELETE.value: _message_delete,
    CommandType.READ_MARK.value: _read_mark,
    CommandType.DELIVERED_MARK.value: _delivered_mark,
}
DECIDED: Final = frozenset(_DECIDERS)
"""The types of commands that this release decides; any other one is `unknown_type`."""
"""The command types that are decided. Each outcome here needs its `evolve` and its rows in the projector first."""


def _within(chat: Chat, body: Mark) -> None:
    if body.up_to_seq > chat.last_seq:
        raise Refused(Reason.INVALID, f"the chat's last seq is {chat.last_seq}", "/up_to_seq")


def _as_member(view: View, command: Command) -> tuple[Chat, Member]:
    """The chat and the membership of the command's sender, who is present."""
    chat, member = _chat_and_sender(view, command)
    _require_present(member)
    return chat, member


def _chat_and_sender(view: View, command: Command) -> tuple[Chat, Member]:
    """The same, though the sender may have left. Someone who never was a member learns no more than of a chat that does
    not exist."""
    chat_id, sender = command.chat_id, _sender(command)
    assert chat_id is not None
    chat = view.chat(chat_id)
    member = view.member((chat_id, sender)) if chat is not None else None
    if chat is None or member is None:
        raise Refused(Reason.UNKNOWN_CHAT, "no such chat, or none of yours")
    return chat, member


def _require_present(member: Member) -> None:
    if not member.present:
        raise Refused(Reason.NOT_MEMBER, "you are no longer a member of this chat")


def _member(view: View, command: Command, user: UserId) -> Member | None:
    assert command.chat_id is not None
    return view.member((command.chat_id, user))


def _sender(command: Command) -> UserId:
    assert command.sender_id is not None, "a command without a fault has a sender"
    return command.sender_id
