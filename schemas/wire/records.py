"""Commands and outcomes in a record's bytes: what encoding.py says of them, by the fast path where it is there.

The fast path is `_records.pyx`, compiled when the project is installed on a machine with a C compiler; without one
everything takes the slow path, by encoding.py, with the same answers, slower. It takes records as our own
code spells them; whatever else a record may be is left to encoding.py, which alone says what is wrong with it.

Whoever proves something (services/ops: the verifiers) reads commands and outcomes by encoding.py: of what is compiled
they share only the taking apart of a record, and the chaos checker, which reads by aiokafka, not even that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from schemas.events import Outcome
from schemas.ids import ChatId, CommandId, CommandKey, uuid_bytes
from schemas.log import Head, Stamp, read_stamp
from schemas.types import KNOWN_TYPES, MARKS
from schemas.wire.encoding import Command, CommandReader, Record, read_outcome

try:
    from schemas.wire import _records
except ImportError:
    COMPILED = False
else:
    COMPILED = True

if TYPE_CHECKING:
    from schemas.wire._records import ScannedMessage, ScannedSend


def command_reader(partition: int, partitions: int) -> Callable[[list[Record]], list[Command | ScannedSend]]:
    """What encoding.CommandReader's `read` does, for many records of one partition: a Command for each, or that of
    which `command_of` makes one."""
    reader = CommandReader(partition, partitions)
    if not COMPILED:
        return lambda records: [reader.read(record) for record in records]
    return _records.CommandScanner(reader.chats, reader.senders, KNOWN_TYPES, MARKS, reader.read).read


def command_of(read: Command | ScannedSend) -> Command:
    return read if isinstance(read, Command) else read.command()


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
    log.judge finds it valid. Returns None if nothing is compiled: then no call finds any."""
    if _scanner is None:
        return None
    return _scanner.messages(records, start, head.term, head.index, head.command_offset)


def _command_key(chat_id: ChatId, command_id: CommandId) -> CommandKey:
    return CommandKey(b"r" + uuid_bytes(chat_id) + bytes.fromhex(command_id.replace("-", "")))


command_key: Final[Callable[[ChatId, CommandId], CommandKey]] = _records.command_key if COMPILED else _command_key
"""A letter, and the 16 bytes of each id. Raises ValueError where one of them is no UUID."""


def record_digest(record: Record) -> bytes:
    """Tells one record from another; without its timestamp, which a broker may set."""
    digest = blake2b(digest_size=16)
    for part in (record.key or b"", record.value or b"", *(value for _, value in record.headers)):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
