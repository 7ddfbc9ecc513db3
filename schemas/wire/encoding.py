"""Encodes commands and outcomes as records (CloudEvents 1.0, Kafka binary mode) and decodes them.

Producers encode commands; encoding trusts its arguments. The writer decodes them and trusts nothing:
`CommandReader.read` always returns: a Command, or an Unreadable with the reason and the parts that could be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, Protocol, TypeAlias, final

from msgspec import Struct

from schemas import ids, limits
from schemas.errors import LogCorrupt, Reason
from schemas.events import AcceptedOutcome, OtherOutcome, Outcome
from schemas.ids import ChatId, CommandId, CommandKey, UserId
from schemas.log import Stamp
from schemas.types import COMMAND_OF, KNOWN_TYPES, MARKS, EventType

Headers = list[tuple[str, bytes]]


class Record(Protocol):
    """A record from Kafka, as far as readers need it. aiokafka's ConsumerRecord is one."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Undecodable(Struct, frozen=True):
    """Stands for the record at `offset`, which the Kafka client could not decode."""

    offset: int
    error: str
    timestamp: int = 0
    key: None = None
    value: None = None
    headers: tuple[()] = ()


class Encoded(Struct, frozen=True, gc=False):
    """A record ready to be appended."""

    key: bytes | None
    value: bytes
    headers: Headers
    timestamp_ms: int | None = None
    """None: set by the broker (commands have LogAppendTime)."""

    @property
    def size(self) -> int:
        """Upper estimate of its bytes in a batch: a record adds at most 32 to its content, and each of our headers at
        most 18 to its value (the longest name has 14)."""
        held = sum([len(value or b"") for _, value in self.headers])
        return len(self.value or b"") + len(self.key or b"") + held + 18 * len(self.headers) + 32


class ReplyTo(NamedTuple):
    """The reply partition and request id of a waiting ingest process."""

    partition: int
    request_id: str


@final
class Command(Struct, frozen=True, gc=False):
    """A command that can be decided: a producer sends it, the writer reads it."""

    offset: int
    """In `chat.commands`; −1 if it was not sent yet."""
    type: str
    """It may be one that no release knows: that is for the rules to say."""
    body: bytes
    chat_id: ChatId
    sender_id: UserId
    client_generated_id: str | None = None
    """None for a type without a key."""
    command_id: CommandId | None = None
    """None only for a type without a key, whose ce_id is repeated and not checked: it may have been anything."""
    reply_to: ReplyTo | None = None
    traceparent: str | None = None

    @property
    def key(self) -> bytes:
        """Key of its record and of its outcome's."""
        return self.chat_id.encode()

    @property
    def command_key(self) -> CommandKey | None:
        """Key of its dedup entry; None for a type without a key."""
        if self.client_generated_id is None or self.command_id is None:
            return None
        return ids.command_key(self.chat_id, self.command_id)

    def command(self) -> Command:
        """Return itself: see SendView."""
        return self


class SendView(Protocol):
    """What is needed of a command before it is decided: a Command, or a view of the record of one."""

    @property
    def offset(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def chat_id(self) -> ChatId: ...
    @property
    def sender_id(self) -> UserId: ...
    @property
    def command_id(self) -> CommandId | None: ...
    @property
    def command_key(self) -> CommandKey | None: ...
    @property
    def reply_to(self) -> ReplyTo | None: ...
    def command(self) -> Command:
        """Return the whole command."""
        ...


@final
class Unreadable(Struct, frozen=True, gc=False):
    """A record of `chat.commands` that is no command, with what its rejection repeats of it."""

    offset: int
    reason: Reason
    detail: str
    type: str | None = None
    """None if an outcome cannot repeat it."""
    key: bytes | None = None
    """None also if it is too long to be repeated."""
    chat_id: ChatId | None = None
    sender_id: UserId | None = None
    client_generated_id: str | None = None
    command_id: ClassVar[None] = None
    """Never repeated: the one in its record is not derived from the rest, and may be that of another command."""
    reply_to: ReplyTo | None = None
    traceparent: str | None = None

    def command(self) -> Unreadable:
        """Return itself, for the rules to reject."""
        return self


CommandRead: TypeAlias = SendView | Unreadable
"""What is read from a record of `chat.commands`."""

_CLIENT_GENERATED_ID = re.compile(rb"[\x21-\x7e]{1,%d}" % limits.CLIENT_GENERATED_ID_CHARACTERS)
_TYPE = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_REPLY_TO = re.compile(rf"(\d{{1,5}})/([\x21-\x7e]{{1,{limits.REQUEST_ID_CHARACTERS}}})", re.ASCII)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_SPECVERSION: Final = ("ce_specversion", b"1.0")
_CONTENT_TYPE: Final = ("content-type", b"application/json")


def is_traceparent(text: str) -> bool:
    """Return whether it is a W3C trace context that may be forwarded."""
    return _TRACEPARENT.fullmatch(text) is not None


def encode_command(command: Command, source: str) -> Encoded:
    """Return the record of a command. `source` names the sending program (CloudEvents `source`)."""
    headers = [_SPECVERSION]
    if command.command_id is not None:
        headers.append(("ce_id", command.command_id.encode()))
    headers += [
        ("ce_source", source.encode()),
        ("ce_type", command.type.encode()),
        ("ce_sender", command.sender_id.encode()),
    ]
    if command.client_generated_id is not None:
        headers.append(("ce_clientid", command.client_generated_id.encode()))
    headers.append(_CONTENT_TYPE)
    if command.reply_to is not None:
        headers.append(("ce_replyto", f"{command.reply_to.partition}/{command.reply_to.request_id}".encode()))
    if command.traceparent is not None:
        headers.append(("traceparent", command.traceparent.encode()))
    return Encoded(command.key, command.body, headers)


class CommandReader:
    """Decodes the commands of one partition, and caches the ids of chats and senders: they repeat."""

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self.chats: dict[bytes, tuple[ChatId, bytes]] = {}
        """Record key → chat of this partition, with the bytes of its id."""
        self.senders: dict[bytes, UserId] = {}
        """Value of ce_sender → sender."""

    def read(self, record: Record) -> Command | Unreadable:
        """Return the command in a record of `chat.commands`. Never raises, whatever the record contains."""
        if isinstance(record, Undecodable):  # answered like any other command
            return Unreadable(record.offset, Reason.MALFORMED, "the record cannot be decoded")
        given = dict(record.headers)  # if a header is repeated, the last one counts
        key = record.key
        chat = self.chats.get(key) or self._chat(key) if key is not None else None
        sender = given.get("ce_sender")
        sender_id = self.senders.get(sender) or self._sender(sender) if sender is not None else None
        clientid = given.get("ce_clientid")
        if clientid is not None and _CLIENT_GENERATED_ID.fullmatch(clientid) is None:
            clientid = None
        command_type = _type(given)
        has_key = command_type not in MARKS
        # The ce_id of a receipt is not checked: with a key, it could be stored as another sender's command.
        client_generated_id = clientid.decode() if clientid is not None and has_key else None
        reply_to = _reply_to(_text(given, "ce_replyto")) if "ce_replyto" in given else None
        traceparent = _text(given, "traceparent") if "traceparent" in given else None
        if traceparent is not None and not is_traceparent(traceparent):
            traceparent = None
        reason = Reason.MALFORMED
        if chat is None:
            reason, detail = self._no_chat_of_ours(key)
        elif command_type is None:
            detail = "ce_type is missing or not 1 to 128 visible ASCII characters"
        elif sender_id is None or sender is None:
            detail = "ce_sender is not a user_id"
        elif given.get("ce_specversion") != b"1.0" and (_text(given, "ce_specversion") or "1.0") != "1.0":
            detail = "ce_specversion is not 1.0"
        elif not has_key:
            command_id = _command_id(given.get("ce_id"))
            return Command(
                record.offset, command_type, record.value or b"", chat[0], sender_id, None, command_id, reply_to,
                traceparent,
            )  # fmt: skip
        elif clientid is None:
            detail = "ce_clientid is missing or not 1 to 128 visible ASCII characters"
        elif (command_id := ids.command_id_of(chat[1], sender, clientid)).encode() != given.get("ce_id"):
            detail = "ce_id is not the id of this chat, sender and ce_clientid"
        else:
            return Command(
                record.offset, command_type, record.value or b"", chat[0], sender_id, client_generated_id, command_id,
                reply_to, traceparent,
            )  # fmt: skip
        return Unreadable(
            record.offset,
            reason,
            detail,
            type=command_type,
            key=key if key is not None and len(key) <= limits.OUTCOME_KEY_BYTES else None,
            chat_id=chat[0] if chat is not None else _chat_id(key),
            sender_id=sender_id,
            client_generated_id=client_generated_id,
            reply_to=reply_to,
            traceparent=traceparent,
        )

    def _chat(self, key: bytes) -> tuple[ChatId, bytes] | None:
        chat_id = _chat_id(key)
        if chat_id is None or ids.partition_of(chat_id, self._partitions) != self._partition:
            return None
        if len(self.chats) >= _MET:
            self.chats.clear()
        chat = self.chats[key] = (chat_id, ids.uuid_bytes(chat_id))
        return chat

    def _sender(self, sender: bytes) -> UserId | None:
        text = _uuid(sender)
        if text is None:
            return None
        if len(self.senders) >= _MET:
            self.senders.clear()
        sender_id = self.senders[sender] = UserId(text)
        return sender_id

    def _no_chat_of_ours(self, key: bytes | None) -> tuple[Reason, str]:
        chat_id = _chat_id(key)
        if chat_id is None:
            return Reason.MALFORMED, "the record's key is not a chat_id"
        home = ids.partition_of(chat_id, self._partitions)
        return Reason.WRONG_PARTITION, f"this chat lives in partition {home} of {self._partitions}"


_MET: Final = 65_536


def read_command(record: Record, partition: int, partitions: int) -> Command | Unreadable:
    """Return the command in a single record."""
    return CommandReader(partition, partitions).read(record)


def encode_outcome(outcome: Outcome, stamp: Stamp, source: bytes) -> Encoded:
    """Return the record of an outcome at its place in the log. `source` is `event_source(partition)`."""
    headers = [
        _SPECVERSION,
        ("ce_id", b"%d/%d" % (stamp.term, stamp.index)),
        _source_header(source),
        _type_header(outcome.type),
    ]
    add = headers.append
    if stamp.index:
        add(("ce_command", b"%d" % stamp.command_offset))
    if outcome.command_id is not None:
        add(("ce_commandid", outcome.command_id.encode()))
    if outcome.client_generated_id is not None:
        add(("ce_clientid", outcome.client_generated_id.encode()))
    if outcome.sender_id is not None:
        add(("ce_sender", outcome.sender_id.encode()))
    if outcome.position is not None:
        add(("ce_position", b"%d" % outcome.position))
    if outcome.seq is not None:
        add(("ce_seq", b"%d" % outcome.seq))
    if outcome.traceparent is not None:
        add(("traceparent", outcome.traceparent.encode()))
    add(_CONTENT_TYPE)
    return Encoded(outcome.key, outcome.body, headers, outcome.at_ms)


@lru_cache(maxsize=256)
def _source_header(source: bytes) -> tuple[str, bytes]:
    return "ce_source", source


@lru_cache(maxsize=256)
def _type_header(outcome_type: str) -> tuple[str, bytes]:
    return "ce_type", outcome_type.encode()


OUTCOME_BYTES: Final = 540
"""Upper estimate of an outcome's record in a batch, without the parts that `outcome_size` adds: 32 for the record, and
for each header its name, its longest value and their lengths."""


def outcome_size(outcome: Outcome) -> int:
    """Return an upper estimate of the bytes that an outcome's record takes in a batch."""
    key = outcome.chat_id if type(outcome) is AcceptedOutcome else outcome.key or b""
    return OUTCOME_BYTES + len(outcome.body) + len(key) + len(outcome.client_generated_id or "")


def event_source(partition: int) -> bytes:
    return b"/gapless/chat.events/%d" % partition


def read_outcome(record: Record) -> Outcome:
    """Return the outcome in a valid record, or the body-carrying half of an opening.

    Raises LogCorrupt if it is not what a writer appends: an accepted outcome has a chat, a sender and a position.
    """
    headers = dict(record.headers)
    try:
        outcome_type = headers["ce_type"].decode()
        at_ms, body, key = record.timestamp, record.value or b"", record.key
        chat = _uuid(key)
        chat_id = ChatId(chat) if chat is not None else None
        value = headers.get("ce_sender")
        sender_id = UserId(value.decode()) if value is not None else None
        value = headers.get("ce_position")
        position = int(value) if value is not None else None
        value = headers.get("ce_seq")
        seq = int(value) if value is not None else None
        value = headers.get("ce_commandid")
        command_id = CommandId(value.decode()) if value is not None else None
        value = headers.get("ce_clientid")
        client_generated_id = value.decode() if value is not None else None
        value = headers.get("traceparent")
        traceparent = value.decode() if value is not None else None
    except (KeyError, ValueError, AttributeError) as error:  # a null header has no decode()
        raise LogCorrupt(f"the record at offset {record.offset} is no outcome: {error!r:.200}") from None
    if outcome_type not in COMMAND_OF:
        return OtherOutcome(
            outcome_type, at_ms, body, chat_id, sender_id, position, seq, command_id, client_generated_id, traceparent,
            key,
        )  # fmt: skip
    if chat_id is None or sender_id is None or position is None:
        raise LogCorrupt(f"the record at offset {record.offset} is a {outcome_type} without chat, sender or position")
    return AcceptedOutcome(
        outcome_type, at_ms, body, chat_id, sender_id, position, seq, command_id, client_generated_id, traceparent
    )


def opening_outcome(body: bytes, at_ms: int) -> OtherOutcome:
    """Return a `term.opened` to be appended: without key and command."""
    return OtherOutcome(type=EventType.TERM_OPENED, at_ms=at_ms, body=body)


def _text(headers: Mapping[str, bytes | None], name: str) -> str | None:
    """Return a header's text; None if it is absent or not short ASCII."""
    value = headers.get(name)
    return value.decode() if value is not None and len(value) <= 256 and value.isascii() else None


def _type(headers: Mapping[str, bytes | None]) -> str | None:
    """Return the type of a command; None if an outcome could not repeat it."""
    known = KNOWN_TYPES.get(headers.get("ce_type") or b"")
    if known is not None:
        return known
    text = _text(headers, "ce_type")
    return text if text is not None and _TYPE.fullmatch(text) is not None else None


def _uuid(raw: bytes | None) -> str | None:
    """Return the UUID if the bytes are one in wire form. Others occur: an outcome repeats a rejected command's key."""
    return _uuid_of(raw) if raw is not None and len(raw) == 36 else None


@lru_cache(maxsize=65_536)
def _uuid_of(raw: bytes) -> str | None:
    """Cached: chats and senders repeat."""
    text = raw.decode("ascii", "replace")
    return text if ids.is_uuid(text) else None


def _chat_id(key: bytes | None) -> ChatId | None:
    text = _uuid(key)
    return ChatId(text) if text is not None else None


def _command_id(ce_id: bytes | None) -> CommandId | None:
    text = _uuid(ce_id)
    return CommandId(text) if text is not None else None


def _reply_to(text: str | None) -> ReplyTo | None:
    match = _REPLY_TO.fullmatch(text) if text is not None else None
    return ReplyTo(int(match[1]), match[2]) if match is not None else None
