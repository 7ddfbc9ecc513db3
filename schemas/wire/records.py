"""Decodes commands and outcomes, by compiled code if it is available and else by encoding.py, with equal results.

The fast path handles records in our canonical encoding and leaves all others to encoding.py, which alone reports what
is wrong with them. Without compiled code (schemas/wire/extensions.py) encoding.py is the slow path for everything.

The verifiers (services/ops) read commands and outcomes by encoding.py and share only the splitting of record batches
with the compiled code. The chaos checker reads by aiokafka and shares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol

from schemas import ids
from schemas.events import Outcome
from schemas.ids import ChatId, CommandId, CommandKey, UserId
from schemas.log import Head, Stamp, read_stamp
from schemas.types import KNOWN_TYPES, MARKS
from schemas.wire.encoding import CommandRead, CommandReader, Record, read_outcome
from schemas.wire.extensions import extension


class MessageView(Protocol):
    """A valid message of a text and nothing else, read from its record only where a reader asks."""

    @property
    def is_view(self) -> Literal[True]:
        """Distinguishes it from a decoded event or row, whose `is_view` is False."""
        ...

    @property
    def index(self) -> int: ...
    @property
    def command_offset(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def chat_id(self) -> ChatId: ...
    @property
    def sender_id(self) -> UserId: ...
    @property
    def message_id(self) -> CommandId: ...
    @property
    def client_generated_id(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def text(self) -> str: ...


class Decoders(Protocol):
    """The decoders of records, in one of two implementations."""

    def command_reader(self, partition: int, partitions: int) -> Callable[[list[Record]], list[CommandRead]]:
        """Return a reader of commands for many records of one partition."""
        ...

    def stamp_of(self, record: Record) -> Stamp:
        """As log.read_stamp of its headers. Raises LogCorrupt."""
        ...

    def outcome_of(self, record: Record) -> Outcome:
        """As encoding.read_outcome. Raises LogCorrupt."""
        ...

    def messages_from(self, records: Sequence[Record], start: int, head: Head, /) -> list[MessageView] | None:
        """Return the plain messages from record `start` on, as long as each is the next outcome of `head`'s term, so
        that log.classify finds it valid. Returns None if no call ever finds any."""
        ...

    def command_key(self, chat_id: ChatId, command_id: CommandId) -> CommandKey:
        """As ids.command_key."""
        ...


class PlainDecoders:
    """Decodes every record by encoding.py."""

    def command_reader(self, partition: int, partitions: int) -> Callable[[list[Record]], list[CommandRead]]:
        reader = CommandReader(partition, partitions)
        return lambda records: [reader.read(record) for record in records]

    def stamp_of(self, record: Record) -> Stamp:
        return read_stamp(record.headers)

    def outcome_of(self, record: Record) -> Outcome:
        return read_outcome(record)

    def messages_from(self, _records: Sequence[Record], _start: int, _head: Head, /) -> list[MessageView] | None:
        return None

    def command_key(self, chat_id: ChatId, command_id: CommandId) -> CommandKey:
        return ids.command_key(chat_id, command_id)


class CompiledDecoders:
    """Decodes records in canonical encoding by compiled code, and all others by encoding.py."""

    def __init__(self, scan: Any) -> None:
        """`scan` is the compiled module."""
        self._scan = scan
        self._outcomes = scan.OutcomeScanner()
        self.command_key: Callable[[ChatId, CommandId], CommandKey] = scan.command_key

    def command_reader(self, partition: int, partitions: int) -> Callable[[list[Record]], list[CommandRead]]:
        reader = CommandReader(partition, partitions)
        read: Callable[[list[Record]], list[CommandRead]] = self._scan.CommandScanner(
            reader.chats, reader.senders, KNOWN_TYPES, MARKS, reader.read
        ).read
        return read

    def stamp_of(self, record: Record) -> Stamp:
        stamp: Stamp | None = self._outcomes.stamp(record)
        return stamp if stamp is not None else read_stamp(record.headers)

    def outcome_of(self, record: Record) -> Outcome:
        outcome: Outcome | None = self._outcomes.outcome(record)
        return outcome if outcome is not None else read_outcome(record)

    def messages_from(self, records: Sequence[Record], start: int, head: Head) -> list[MessageView] | None:
        term, index, command_offset = head.term, head.index, head.command_offset
        found: list[MessageView] = self._outcomes.messages(records, start, term, index, command_offset)
        return found


_scan: Final = extension("schemas.wire._scan")
_in_use: Final[Decoders] = CompiledDecoders(_scan) if _scan is not None else PlainDecoders()
command_reader: Final = _in_use.command_reader
stamp_of: Final = _in_use.stamp_of
outcome_of: Final = _in_use.outcome_of
messages_from: Final = _in_use.messages_from
command_key: Final = _in_use.command_key


def record_digest(record: Record) -> bytes:
    """Return a digest that distinguishes records; without the timestamp, which a broker may set."""
    digest = blake2b(digest_size=16)
    for part in (record.key or b"", record.value or b"", *(value for _, value in record.headers)):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
