"""Writes a partition of a log by hand, right or wrong: commands and their outcomes as records, with schemas only.

The writer for the verifiers' tests. It decides nothing by itself, so a test can plant any violation.

    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA, "hello")
    log.events, log.commands            # records with offset, timestamp, key, value, headers
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from msgspec import convert

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
    Role,
    canonical_body,
)
from schemas.errors import Reason
from schemas.events import (
    Duplicate,
    Outcome,
    Rejected,
    TermOpened,
    encode_duplicate,
    encode_rejected,
    encode_term_opened,
    encode_unchanged,
)
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp
from schemas.types import EVENT_OF, CommandType, EventType
from schemas.wire.encoding import Command, Encoded, encode_command, encode_outcome, event_source, opening_outcome
from tests.support.outcomes import outcome_of_parts

ANNA = UserId("11111111-1111-4111-8111-111111111111")
BEN = UserId("22222222-2222-4222-8222-222222222222")
CARL = UserId("33333333-3333-4333-8333-333333333333")
DORA = UserId("44444444-4444-4444-8444-444444444444")
RECEIPTS = (CommandType.READ_MARK, CommandType.DELIVERED_MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A record as a reader gets it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def encoded(self) -> Encoded:
        return Encoded(self.key, self.value or b"", list(self.headers), self.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of an accepted command."""

    command: Command
    seq: int | None
    position: int
    at_ms: int

    @property
    def id(self) -> CommandId:
        assert self.command.command_id is not None
        return self.command.command_id


class ChatLog:
    """One partition that is being written."""

    def __init__(self, *, partition: int = 0, partitions: int = 1, at_ms: int | None = None) -> None:
        self.partition = partition
        self.partitions = partitions
        self.at_ms = at_ms if at_ms is not None else int(time.time() * 1000) - 3_600_000
        self.events: list[LogRecord] = []
        self.commands: list[LogRecord] = []
        self.term = 0
        self.index = 0
        self._seqs: dict[ChatId, int] = {}
        self._positions: dict[ChatId, int] = {}

    # --- the log ---------------------------------------------------------------------------------------------

    def open(
        self, *, commands_from: int | None = None, partitions: int | None = None, at_ms: int | None = None
    ) -> None:
        """Open a new term."""
        self.term += 1
        opened = TermOpened(
            owner=str(uuid4()), host="test", partitions=partitions or self.partitions, commands_from=commands_from
        )
        outcome = opening_outcome(encode_term_opened(opened), at_ms if at_ms is not None else self._tick())
        self.append(encode_outcome(outcome, Stamp(self.term, 0, -1), event_source(self.partition)))

    def append(self, record: Encoded, *, at_ms: int | None = None) -> LogRecord:
        """Append any record as the next event."""
        appended = LogRecord(
            offset=len(self.events),
            timestamp=at_ms if at_ms is not None else record.timestamp_ms or self.at_ms,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        self.events.append(appended)
        return appended

    def command(
        self, command_type: str, chat: ChatId, sender: UserId, body: Body | bytes, key: str | None = None
    ) -> Command:
        """Append a command, with a fresh key if none is given."""
        raw = body if isinstance(body, bytes) else canonical_body(body)
        client_generated_id = None if command_type in RECEIPTS else key or f"k-{len(self.commands)}"
        command_id = (
            CommandId(str(uuid4()))
            if client_generated_id is None
            else ids.command_id(chat, sender, client_generated_id)
        )
        command = Command(
            offset=len(self.commands),
            type=command_type,
            body=raw,
            chat_id=chat,
            sender_id=sender,
            client_generated_id=client_generated_id,
            command_id=command_id,
        )
        encoded = encode_command(command, "test")
        self.commands.append(
            LogRecord(
                offset=command.offset,
                timestamp=self.at_ms,
                key=encoded.key,
                value=encoded.value,
                headers=encoded.headers,
            )
        )
        return command

    def answer(
        self,
        command: Command,
        event_type: str,
        body: bytes,
        *,
        seq: int | None = None,
        position: int | None = None,
        stamp: Stamp | None = None,
        at_ms: int | None = None,
        **changed: object,
    ) -> Outcome:
        """Append the outcome of a command as the next valid one; `changed` overrides fields of the Outcome."""
        if stamp is None:
            self.index += 1
            stamp = Stamp(self.term, self.index, command.offset)
        parts = {
            "key": command.key,
            "chat_id": command.chat_id,
            "command_id": command.command_id,
            "client_generated_id": command.client_generated_id,
            "sender_id": command.sender_id,
            "position": position,
            "seq": seq,
        }
        at_ms = at_ms if at_ms is not None else self._tick()
        outcome = outcome_of_parts(event_type, at_ms, body, **parts | changed)
        self.append(encode_outcome(outcome, stamp, event_source(self.partition)))
        return outcome

    # --- accepted commands -----------------------------------------------------------------------------------

    def accept(self, command: Command, **wrong: object) -> Sent:
        """Accept a command with the next position, and for a message the next seq; `wrong` overrides anything."""
        chat = command.chat_id
        position = self._positions[chat] = self._positions.get(chat, 0) + 1
        seq: int | None = None
        if command.type == CommandType.MESSAGE_SEND:
            seq = self._seqs[chat] = self._seqs.get(chat, 0) + 1
        figures: dict[str, object] = {"seq": seq, "position": position, **wrong}
        event_type = str(figures.pop("event_type", EVENT_OF[command.type].value))
        body = figures.pop("body", command.body)
        assert isinstance(body, bytes)
        outcome = self.answer(command, event_type, body, **figures)  # type: ignore[arg-type]
        return Sent(command=command, seq=outcome.seq, position=position, at_ms=outcome.at_ms)

    def group_id(self, creator: UserId, name: str) -> ChatId:
        return ids.group_chat_id(creator, name)

    def create(self, creator: UserId, name: str, members: Sequence[UserId] = (), **wrong: object) -> ChatId:
        """Create a group. With more than one partition, choose names by `name_here`."""
        chat = self.group_id(creator, name)
        body = ChatCreate(kind="group", name=name, members=list(members))
        self.accept(self.command(CommandType.CHAT_CREATE, chat, creator, body, "create"), **wrong)
        return chat

    def name_here(self, creator: UserId, wanted: str) -> str:
        """Return a group name that begins with `wanted` and maps to this partition."""
        names = (f"{wanted} {n}" for n in range(10_000))
        return next(n for n in names if ids.partition_of(self.group_id(creator, n), self.partitions) == self.partition)

    def create_direct(self, creator: UserId, other: UserId) -> ChatId:
        chat = ids.direct_chat_id(creator, other)
        members = [] if creator == other else [str(other)]
        self.accept(self.command(CommandType.CHAT_CREATE, chat, creator, ChatCreate(kind="direct", members=members)))
        return chat

    def send(self, chat: ChatId, sender: UserId, text: str = "hello", key: str | None = None, **more: object) -> Sent:
        """Send a message; `more` are fields of its body."""
        body = convert({"text": text, **more}, MessageSend)
        return self.accept(self.command(CommandType.MESSAGE_SEND, chat, sender, body, key))

    def edit(self, chat: ChatId, by: UserId, seq: int, text: str, **more: object) -> Sent:
        body = MessageEdit(seq=seq, text=text, **more)  # type: ignore[arg-type]
        return self.accept(self.command(CommandType.MESSAGE_EDIT, chat, by, body))

    def delete(self, chat: ChatId, by: UserId, seq: int) -> Sent:
        return self.accept(self.command(CommandType.MESSAGE_DELETE, chat, by, MessageDelete(seq=seq)))

    def react(self, chat: ChatId, user: UserId, seq: int, emoji: str, *, remove: bool = False) -> Sent:
        command_type = CommandType.REACTION_REMOVE if remove else CommandType.REACTION_ADD
        return self.accept(self.command(command_type, chat, user, Reaction(seq=seq, emoji=emoji)))

    def read(self, chat: ChatId, user: UserId, up_to_seq: int) -> Sent:
        return self.accept(self.command(CommandType.READ_MARK, chat, user, Mark(up_to_seq=up_to_seq)))

    def delivered(self, chat: ChatId, user: UserId, up_to_seq: int) -> Sent:
        return self.accept(self.command(CommandType.DELIVERED_MARK, chat, user, Mark(up_to_seq=up_to_seq)))

    def add(self, chat: ChatId, by: UserId, user: UserId, role: Role = "member") -> Sent:
        return self.accept(self.command(CommandType.MEMBER_ADD, chat, by, MemberAdd(user_id=user, role=role)))

    def role(self, chat: ChatId, by: UserId, user: UserId, role: Role) -> Sent:
        return self.accept(self.command(CommandType.MEMBER_ROLE, chat, by, MemberRole(user_id=user, role=role)))

    def rename(self, chat: ChatId, by: UserId, name: str) -> Sent:
        return self.accept(self.command(CommandType.CHAT_RENAME, chat, by, ChatRename(name=name)))

    def remove(self, chat: ChatId, by: UserId, user: UserId) -> Sent:
        return self.accept(self.command(CommandType.MEMBER_REMOVE, chat, by, MemberRemove(user_id=user)))

    # --- the others ------------------------------------------------------------------------------------------

    def repeat(self, sent: Sent) -> Command:
        """Append the same command once more, without an outcome."""
        original = sent.command
        assert original.sender_id is not None
        return self.command(
            original.type, original.chat_id, original.sender_id, original.body, original.client_generated_id
        )

    def duplicate(self, sent: Sent, *, command: Command | None = None, **wrong: object) -> None:
        """Append a repeat and its outcome, with the original's figures unless `wrong` overrides them."""
        figures = {"seq": sent.seq, "position": sent.position, "sent_at_ms": sent.at_ms, **wrong}
        body = encode_duplicate(Duplicate(**figures))  # type: ignore[arg-type]
        self.answer(command or self.repeat(sent), EventType.DUPLICATE, body)

    def unchanged(self, command: Command, *, since: int | None = None, **wrong: object) -> None:
        self.answer(command, EventType.UNCHANGED, encode_unchanged(since), **wrong)  # type: ignore[arg-type]

    def reject(self, command: Command, reason: Reason, detail: str = "because", **wrong: object) -> None:
        body = encode_rejected(Rejected(command_type=command.type or None, reason=reason, detail=detail))
        self.answer(command, EventType.REJECTED, body, **wrong)  # type: ignore[arg-type]

    def _tick(self) -> int:
        self.at_ms += 1
        return self.at_ms


def conversation(log: ChatLog) -> ChatId:
    """Write one group chat with every decision of this version."""
    chat = log.create(ANNA, log.name_here(ANNA, "ops"), [BEN])
    first = log.send(
        chat, ANNA, "who has seen it?", media_urls=["https://example.org/a.png"], metadata={"b": 1, "a": [2.5]}
    )
    log.send(chat, BEN, "I have", reply_to_message_id=first.id)
    log.duplicate(first)
    log.delivered(chat, ANNA, 2)
    log.read(chat, BEN, 2)
    log.add(chat, ANNA, CARL)
    log.send(chat, CARL, "hello all", original_sent_at="2024-02-29T12:00:00.123456Z")
    log.unchanged(log.command(CommandType.READ_MARK, chat, BEN, Mark(up_to_seq=1)))
    log.remove(chat, CARL, CARL)
    late = log.command(CommandType.MESSAGE_SEND, chat, CARL, MessageSend(text="one more"))
    log.reject(late, Reason.NOT_MEMBER)
    log.add(chat, ANNA, CARL)
    log.open()
    log.send(chat, ANNA, "welcome back")
    log.reject(log.command(CommandType.MESSAGE_SEND, chat, DORA, MessageSend(text="let me in")), Reason.UNKNOWN_CHAT)
    changed = log.command(
        CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="other"), first.command.client_generated_id
    )
    log.reject(changed, Reason.CONFLICT)
    edit = log.edit(chat, ANNA, 1, "who has read it?", metadata={"edited": True})
    log.duplicate(edit, revision=1)
    no_edit = MessageEdit(seq=1, text="who has read it?", if_revision=1)
    log.unchanged(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, no_edit), since=edit.position)
    outdated = MessageEdit(seq=1, text="what is it?", if_revision=0)
    log.reject(log.command(CommandType.MESSAGE_EDIT, chat, ANNA, outdated), Reason.STALE)
    log.edit(chat, CARL, 3, "hello everybody", if_revision=0)
    log.delete(chat, ANNA, 3)
    log.unchanged(log.command(CommandType.MESSAGE_DELETE, chat, CARL, MessageDelete(seq=3)))
    reacted = log.react(chat, BEN, 1, "👍")
    log.react(chat, CARL, 1, "👍")
    log.react(chat, CARL, 2, "❤")
    log.duplicate(reacted)
    log.unchanged(log.command(CommandType.REACTION_ADD, chat, CARL, Reaction(seq=2, emoji="❤")))
    log.reject(log.command(CommandType.REACTION_ADD, chat, CARL, Reaction(seq=3, emoji="❤")), Reason.UNKNOWN_MESSAGE)
    log.react(chat, BEN, 1, "👍", remove=True)
    return chat
