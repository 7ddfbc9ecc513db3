"""The reader of the log: records of one partition of `chat.events` in, typed events out.

It does no I/O. Fetch records with any Kafka client, in the order of their offsets, and pass them in, in pieces of any
size; how they are split makes no difference:

    cursor = LogCursor()
    for records in consumer:
        for event in cursor.read(records):
            match event:
                case Decided(outcome=outcome): ...  # exactly one for each command
                case Opened() | Void(): ...         # nothing to do
                case Stop(error=error): raise error
        save(cursor.next_offset, cursor.head)       # with what you made of the outcomes, in one transaction

The rule itself is the table in `log`. This is the one loop that applies it: the services, the verifiers and the tools
read by it. Pages about it: docs/log-protocol.md, "Reading the log".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast, final

from msgspec import Struct, structs

from schemas.errors import LogCorrupt, UnknownType
from schemas.events import Outcome, TermOpened, decode_term_opened
from schemas.log import EMPTY, Head, Stamp, Verdict, advance, classify, read_stamp
from schemas.types import EventType
from schemas.wire.encoding import Record, Undecodable, read_outcome
from schemas.wire.records import MessageView, messages_from, outcome_of, stamp_of


@final
class Opened(Struct, frozen=True, gc=False):
    """A writer took the partition over: a new term begins."""

    offset: int
    stamp: Stamp
    opening: TermOpened

    @property
    def term(self) -> int:
        return self.stamp.term


@final
class Decided(Struct, frozen=True, gc=False):
    """A valid outcome: the one answer to the command at `stamp.command_offset`.

    Its type may be newer than the reader. To skip it would lose its effect: stop, and deploy a newer reader.
    """

    offset: int
    stamp: Stamp
    outcome: Outcome


@final
class Void(Struct, frozen=True, gc=False):
    """A record that does not count: from a replaced writer, or a repeated copy. It is not read beyond its stamp."""

    offset: int
    stamp: Stamp


@final
class Stop(Struct, frozen=True):
    """A record that counts, or may count, and that no reader can pass. The cursor stays in front of it.

    `error` is LogCorrupt if no correct writer can have appended it, and UnknownType if it opens a term in a way
    introduced after this build.
    """

    offset: int
    error: LogCorrupt | UnknownType


LogEvent: TypeAlias = Opened | Decided | Void | Stop
T = TypeVar("T")


class LogCursor:
    """Reads one partition from offset 0, or from the head and offset of an earlier cursor, and from nowhere else.

    :param compiled: use the compiled decoders if they are installed. The verifiers do not use them, so that a mistake
        in one cannot hide in a table and in its proof.
    """

    __slots__ = ("_compiled", "_outcome_of", "_stamp_of", "head", "next_offset", "stopped", "voids")

    def __init__(self, head: Head = EMPTY, *, next_offset: int = 0, compiled: bool = True) -> None:
        self.head = head
        """After the last record that counts."""
        self.next_offset = next_offset
        """The offset after the last record read; that of the Stop's record if there is one."""
        self.voids = 0
        """How many void records were read."""
        self.stopped: Stop | None = None
        """Set when a record cannot be passed. No more can be read then."""
        self._compiled = compiled
        self._stamp_of = stamp_of if compiled else _read_stamp
        self._outcome_of = outcome_of if compiled else read_outcome

    def read(self, records: Sequence[Record]) -> list[LogEvent]:
        """Return an event for each of the next records, in order, up to the first Stop.

        Raises the error of that Stop if called again.
        """
        return self._read(records, None)

    def read_one(self, record: Record) -> LogEvent:
        """Return the event of the next record. Raises what `read` raises."""
        (event,) = self._read((record,), None)
        return cast(LogEvent, event)

    def read_outcomes(self, records: Sequence[Record], decode: Callable[[Decided], T]) -> list[T | MessageView]:
        """Return what `decode` makes of each valid outcome, and nothing for other records.

        A plain message may come as a view of its record instead; `decode` is not called for it. If `decode` raises
        LogCorrupt or UnknownType, the cursor stops in front of that record. Raises what `read` raises.
        """
        return self._read(records, decode)

    def _read(self, records: Sequence[Record], decode: Callable[[Decided], Any] | None) -> list[Any]:
        if self.stopped is not None:
            raise self.stopped.error
        found: list[Any] = []
        at = 0
        try:
            while (at := self._take_next_outcomes(records, at, found, decode)) < len(records):
                self._take_one(records[at], found, decode)
                at += 1
        except (LogCorrupt, UnknownType) as error:
            self.stopped = Stop(records[at].offset, error)
            if decode is None:
                found.append(self.stopped)
        if at:
            self.next_offset = records[at - 1].offset + 1
        return found

    def _take_next_outcomes(
        self, records: Sequence[Record], at: int, found: list[Any], decode: Callable[[Decided], Any] | None
    ) -> int:
        """The fast path: from record `at` on, take those that are the next outcome of the head's term, nearly all.

        Returns the place of the first that is not, or that cannot be decoded: `_take_one` says what that is.
        """
        term, index, command_offset, timestamp_ms = structs.astuple(self.head)
        stamp_of, outcome_of = self._stamp_of, self._outcome_of
        views = decode is not None and self._compiled
        while at < len(records):
            if views:
                messages = messages_from(records, at, Head(term, index, command_offset, timestamp_ms))
                if messages:
                    found += messages
                    index += len(messages)
                    command_offset = messages[-1].command_offset
                    timestamp_ms = max(timestamp_ms, max([message.at_ms for message in messages]))
                    at += len(messages)
                    continue
                views = messages is not None
            record = records[at]
            try:
                stamp = stamp_of(record)
                if stamp.term != term or stamp.index != index + 1 or stamp.command_offset <= command_offset:
                    break
                decided = Decided(record.offset, stamp, outcome_of(record))
                found.append(decided if decode is None else decode(decided))
            except (LogCorrupt, UnknownType):
                break
            index, command_offset = stamp.index, stamp.command_offset
            if record.timestamp > timestamp_ms:
                timestamp_ms = record.timestamp
            at += 1
        self.head = Head(term, index, command_offset, timestamp_ms)
        return at

    def _take_one(self, record: Record, found: list[Any], decode: Callable[[Decided], Any] | None) -> None:
        """Take one record by the rule. Raises LogCorrupt, UnknownType; then nothing has changed."""
        if isinstance(record, Undecodable):
            raise LogCorrupt(f"the record cannot be decoded: {record.error}")
        stamp = self._stamp_of(record)
        verdict = classify(self.head, stamp)
        event: LogEvent
        commands_from = None
        if verdict is Verdict.VOID:
            event = Void(record.offset, stamp)
            self.voids += 1
        elif verdict is Verdict.VALID:
            event = Decided(record.offset, stamp, self._outcome_of(record))
        else:
            event = Opened(record.offset, stamp, _opening(self._outcome_of(record)))
            commands_from = event.opening.commands_from
        if decode is None:
            found.append(event)
        elif type(event) is Decided:
            found.append(decode(event))
        if verdict is not Verdict.VOID:
            self.head = advance(self.head, stamp, record.timestamp, commands_from)


def _opening(outcome: Outcome) -> TermOpened:
    if outcome.type != EventType.TERM_OPENED:
        raise UnknownType(f"a term is opened by a {outcome.type!r:.100}: deploy a reader that knows it")
    return decode_term_opened(outcome.body)


def _read_stamp(record: Record) -> Stamp:
    return read_stamp(record.headers)
