"""Decodes commands and outcomes, by compiled code if it is available and else by encoding.py, with equal results.

The fast path is `_records.pyx`, compiled at installation if a C compiler is available; without it encoding.py is the
slow path for everything. The fast path handles records in our canonical encoding and leaves all others to encoding.py,
which alone reports what is wrong with them.

The verifiers (services/ops) read commands and outcomes by encoding.py and share only the splitting of record batches
with the compiled code. The chaos checker reads by aiokafka and shares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

from schemas.events import Outcome
from schemas.ids import ChatId, CommandId, CommandKey, uuid_bytes
from schemas.log import Head, Stamp, read_stamp
from schemas.types import KNOWN_TYPES, MARKS
from schemas.wire.encoding import Command, CommandReader, Record, Unreadable, read_outcome

try:
    from schemas.wire import _records
except ImportError:
    COMPILED = False
else:
    COMPILED = True

if TYPE_CHECKING:
    from schemas.wire._records import ScannedMessage, ScannedSend


CommandRead: TypeAlias = "Command | Unreadable | ScannedSend"
"""What is read from a record of `chat.commands`. A ScannedSend is a view that `command_of` turns into a Command."""


def command_reader(partition: int, partitions: int) -> Callable[[list[Record]], list[CommandRead]]:
    """Return a reader of commands for many records of one partition."""
    reader = CommandReader(partition, partitions)
    if not COMPILED:
        return lambda records: [reader.read(record) for record in records]
    return _records.CommandScanner(reader.chats, reader.senders, KNOWN_TYPES, MARKS, reader.read).read


def command_of(read: CommandRead) -> Command | Unreadable:
    return read if isinstance(read, Command | Unreadable) else read.command()


_scanner: Final = _records.OutcomeScanner() if COMPILED else None


def stamp_of(record: Record) -> Stamp:
    """As log.read_stamp of its headers. Raises LogCorrupt."""
    stamp = _scanner.stamp(record) if _scanner is not None else None
    return stamp if stamp is not None else read_stamp(record.headers)


def outcome_of(record: Record) -> Outcome:
    """As encoding.read_outcome. Raises LogCorrupt."""
    outcome = _scanner.outcome(record) if _scanner is not None else None
    return outcome if outcome is not None else read_outcome(record)


def messages_from(records: Sequence[Record], start: int, head: Head) -> list[ScannedMessage] | None:
    """Return the plain messages from record `start` on, as long as each is the next outcome of `head`'s term, so that
    log.classify finds it valid. Returns None if nothing is compiled: then no call finds any."""
    if _scanner is None:
        return None
    return _scanner.messages(records, start, head.term, head.index, head.command_offset)


def _command_key(chat_id: ChatId, command_id: CommandId) -> CommandKey:
    return CommandKey(b"r" + uuid_bytes(chat_id) + bytes.fromhex(command_id.replace("-", "")))


command_key: Final[Callable[[ChatId, CommandId], CommandKey]] = _records.command_key if COMPILED else _command_key
"""A letter and the 16 bytes of each id. Raises ValueError if one of them is not a UUID."""


def record_digest(record: Record) -> bytes:
    """Return a digest that distinguishes records; without the timestamp, which a broker may set."""
    digest = blake2b(digest_size=16)
    for part in (record.key or b"", record.value or b"", *(value for _, value in record.headers)):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
