"""What a command comes to, read from the wire contract once more: sequential, plain, and apart from `decide`."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid5

from schemas.bodies import ChatCreate, Mark, MemberAdd, MemberRemove, MemberRole, MessageDelete, MessageSend
from schemas.commands import parse_body
from schemas.errors import Reason, Refused
from schemas.events import OutcomeKind
from schemas.ids import direct_chat_id, group_chat_id
from schemas.types import MARKS, CommandType
from schemas.wire.encoding import Command


@dataclass(slots=True)
class _Member:
    role: str
    read_seq: int
    delivered_seq: int
    present: bool = True


@dataclass(slots=True)
class _Chat:
    kind: str
    creator: str
    seq: int = 0
    position: int = 1
    members: dict[str, _Member] = field(default_factory=dict)
    authors: list[str] = field(default_factory=list)
    deleted: dict[int, int] = field(default_factory=dict)
    """Seq → the position at which it was deleted."""

    def owners(self) -> int:
        return sum(m.present and m.role == "owner" for m in self.members.values())

    def present(self) -> int:
        return sum(m.present for m in self.members.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command comes to, and what may be told of it."""

    kind: OutcomeKind
    reason: Reason | None = None
    seq: int | None = None
    position: int | None = None
    sent_at_ms: int | None = None
    updated_count: int | None = None
    read_seq: int | None = None


class Chats:
    """A sequential reading of the contract: what a command comes to, one after the other."""

    def __init__(self) -> None:
        self.chats: dict[str, _Chat] = {}
        self.accepted: dict[tuple[str, str], tuple[str, bytes, Answer]] = {}
        self.messages: set[tuple[str, str]] = set()
        self.returns = 0
        """Creators who joined a chat again that everybody had left."""
        self.roles = 0
        self.by_key = 0
        """Chats that were created under the id of their creator's key."""

    def answer(self, command: Command, at_ms: int) -> Answer:
        try:
            return self._answer(command, at_ms)
        except Refused as refused:
            return Answer(kind=OutcomeKind.REJECTED, reason=refused.reason)

    def _answer(self, command: Command, at_ms: int) -> Answer:
        if command.fault is not None:
            raise command.fault
        assert command.chat_id is not None
        assert command.sender_id is not None
        key = (command.chat_id, command.command_id or "")
        keyed = command.client_generated_id is not None and command.type not in MARKS
        if keyed and key in self.accepted:
            command_type, body, original = self.accepted[key]
            if (command_type, body) != (command.type, command.body):
                raise Refused(Reason.CONFLICT, "")
            return Answer(
                kind=OutcomeKind.DUPLICATE,
                seq=original.seq,
                position=original.position,
                sent_at_ms=original.sent_at_ms,
            )
        if command.type not in _HANDLED:
            raise Refused(Reason.UNKNOWN_TYPE, "")
        made = self._made(command, at_ms)
        if made.kind is OutcomeKind.ACCEPTED and keyed:
            self.accepted[key] = (command.type, command.body, made)
            if command.type == CommandType.MESSAGE_SEND:
                self.messages.add(key)
        return made

    def _made(self, command: Command, at_ms: int) -> Answer:
        body = parse_body(command.type, command.body)
        chat_id, sender = str(command.chat_id), str(command.sender_id)
        unchanged = Answer(kind=OutcomeKind.UNCHANGED, sent_at_ms=at_ms)
        if isinstance(body, ChatCreate):
            return self._created(command, body, at_ms)
        chat = self.chats.get(chat_id)
        me = chat.members.get(sender) if chat is not None else None
        if chat is None or me is None:
            raise Refused(Reason.UNKNOWN_CHAT, "")
        if not me.present and not (isinstance(body, MemberAdd) and _comes_back(chat, sender, body)):
            raise Refused(Reason.NOT_MEMBER, "")
        seq = updated = read_seq = None
        match body:
            case MessageSend():
                if body.reply_to_message_id and (chat_id, body.reply_to_message_id) not in self.messages:
                    raise Refused(Reason.UNKNOWN_MESSAGE, "")
                chat.seq += 1
                seq = chat.seq
                chat.authors.append(sender)
            case MessageDelete():
                if body.seq > chat.seq:
                    raise Refused(Reason.UNKNOWN_MESSAGE, "")
                own = chat.authors[body.seq - 1] == sender
                if not own and (chat.kind == "direct" or me.role == "member"):
                    raise Refused(Reason.FORBIDDEN, "")
                if body.seq in chat.deleted:
                    return Answer(kind=OutcomeKind.UNCHANGED, position=chat.deleted[body.seq], sent_at_ms=at_ms)
                chat.deleted[body.seq] = chat.position + 1
            case Mark():
                if body.up_to_seq > chat.seq:
                    raise Refused(Reason.INVALID, "")
                reads = command.type == CommandType.READ_MARK
                cursor = me.read_seq if reads else me.delivered_seq
                if body.up_to_seq <= cursor:
                    return Answer(kind=OutcomeKind.UNCHANGED, sent_at_ms=at_ms, updated_count=0, read_seq=me.read_seq)
                updated = body.up_to_seq - cursor
                if reads:
                    me.read_seq = body.up_to_seq
                else:
                    me.delivered_seq = body.up_to_seq
                read_seq = me.read_seq
            case MemberAdd() | MemberRemove():
                if chat.kind == "direct":
                    raise Refused(Reason.FORBIDDEN, "")
                changed = _added(chat, me, body) if isinstance(body, MemberAdd) else _removed(chat, me, sender, body)
                if not changed:
                    return unchanged
                self.returns += chat.present() == 1 and isinstance(body, MemberAdd)
            case MemberRole():
                if not _given(chat, me, body):
                    return unchanged
                self.roles += 1
            case _:
                raise AssertionError(f"the simulation sends no {command.type}")
        chat.position += 1
        return Answer(
            kind=OutcomeKind.ACCEPTED,
            seq=seq,
            position=chat.position,
            sent_at_ms=at_ms,
            updated_count=updated,
            read_seq=read_seq,
        )

    def _created(self, command: Command, body: ChatCreate, at_ms: int) -> Answer:
        assert command.sender_id is not None
        sender = command.sender_id
        by_key = uuid5(UUID(sender), f"key/{command.client_generated_id}")
        derived: set[str]
        if body.kind == "group":
            derived = {group_chat_id(sender, body.name or ""), str(by_key)}
        else:
            derived = {direct_chat_id(sender, type(sender)(body.members[0]) if body.members else sender)}
        if command.chat_id not in derived:
            raise Refused(Reason.MALFORMED, "")
        if command.chat_id in self.chats:
            if body.kind == "direct":
                return Answer(kind=OutcomeKind.UNCHANGED, position=1, sent_at_ms=at_ms)
            raise Refused(Reason.CHAT_EXISTS, "")
        self.by_key += body.kind == "group" and command.chat_id == str(by_key)
        chat = self.chats[command.chat_id] = _Chat(body.kind, sender)
        for user in (*body.members, sender):
            owner = user == sender or body.kind == "direct"
            chat.members[user] = _Member("owner" if owner else "member", 0, 0)
        return Answer(kind=OutcomeKind.ACCEPTED, position=1, sent_at_ms=at_ms)


def _comes_back(chat: _Chat, sender: str, body: MemberAdd) -> bool:
    """Whether the chat's creator takes it up again after everybody has left."""
    if chat.present() or not sender == chat.creator == body.user_id:
        return False
    if body.role != "owner":
        raise Refused(Reason.INVALID, "")
    return True


def _added(chat: _Chat, me: _Member, body: MemberAdd) -> bool:
    if me.present and (me.role == "member" or (me.role == "admin" and body.role != "member")):
        raise Refused(Reason.FORBIDDEN, "")
    there = chat.members.get(body.user_id)
    if there is not None and there.present:
        if there.role != body.role:
            raise Refused(Reason.INVALID, "")
        return False
    chat.members[body.user_id] = _Member(body.role, chat.seq, chat.seq)
    return True


def _given(chat: _Chat, me: _Member, body: MemberRole) -> bool:
    if chat.kind == "direct" or me.role != "owner":
        raise Refused(Reason.FORBIDDEN, "")
    there = chat.members.get(body.user_id)
    if there is None or not there.present:
        raise Refused(Reason.INVALID, "")
    if there.role == body.role:
        return False
    if there.role == "owner" and chat.owners() == 1:
        raise Refused(Reason.INVALID, "")
    there.role = body.role
    return True


def _removed(chat: _Chat, me: _Member, sender: str, body: MemberRemove) -> bool:
    there = chat.members.get(body.user_id)
    if body.user_id != sender:
        if me.role == "member":
            raise Refused(Reason.FORBIDDEN, "")
        if me.role == "admin" and there is not None and there.present and there.role != "member":
            raise Refused(Reason.FORBIDDEN, "")
    if there is None or not there.present:
        return False
    if there.role == "owner" and chat.owners() == 1 and chat.present() > 1:
        raise Refused(Reason.INVALID, "")
    there.present = False
    return True


_HANDLED = frozenset(
    {
        CommandType.CHAT_CREATE, CommandType.MEMBER_ADD, CommandType.MEMBER_REMOVE, CommandType.MEMBER_ROLE,
        CommandType.MESSAGE_SEND,
        CommandType.MESSAGE_DELETE, CommandType.READ_MARK, CommandType.DELIVERED_MARK,
    }
)  # fmt: skip
