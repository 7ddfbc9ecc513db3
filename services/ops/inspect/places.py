"""Finds places in a partition of the log without reading all of it.

What counts in a partition rises with the offset: the term, the index, the offset of the decided command, the time. So a
place is found by bisection, in a few dozen short reads, however long the log is. Void records (`schemas.log`) may be
out of order; bisection follows the highest term of each piece that it reads, and it only says where to begin.
Whether a record counts is for the cursor to say, which is begun at an anchor: the head after a record that counts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct

from schemas.cursor import LogCursor, LogEvent, Opened, Stop
from schemas.errors import LogCorrupt
from schemas.log import Head, Stamp, read_stamp
from schemas.wire.encoding import Record, Undecodable
from services.ops.verify.reading import READ_TIMEOUT_S, records_until
from services.runtime.kafka.reader import PartitionReader
from services.runtime.settings import KafkaSettings

PIECE_RECORDS: Final = 64
"""How many records bisection reads at a place."""
NEAR: Final = 512
"""Bisection ends when a place is known this closely: the rest is one read."""
_MAX_BACK: Final = 256 * NEAR
"""How far back a record that counts, or an opening, is looked for: what is between is held in memory."""
_TERMS: Final = 8
"""How many of the next terms are asked for their openings; those after them were opened later."""
_MANY_RECORDS: Final = 2_000
_FETCH_BYTES: Final = 128 * 1024
_FETCH_WAIT_MS: Final = 10
"""Bisection seeks after each read. The fetch sent ahead is in the way then, for this long at the end of the log."""


class Place(Struct, frozen=True):
    """What a record claims about its place."""

    offset: int
    stamp: Stamp
    at_ms: int


Reached = Callable[[Place], bool]
"""Whether a place is at or beyond the wanted one. It must rise: once true, true for all later places that count."""


def by_index(index: int) -> Reached:
    return lambda place: place.stamp.index >= index


def by_command(offset: int) -> Reached:
    return lambda place: place.stamp.command_offset >= offset


def by_time(at_ms: int) -> Reached:
    return lambda place: place.at_ms >= at_ms


def by_term(term: int) -> Reached:
    return lambda place: place.stamp.term >= term


class Bisection:
    """Bisects the offsets from `start` to `end` (exclusive) for the first place that is reached. It does no I/O.

    Read a piece at `probe` and `take` it, until `probe` is None; the first such place is at or after `low` then, and
    before `low + NEAR`, or at `high`.
    """

    def __init__(self, start: int, end: int, reached: Reached) -> None:
        self.low = start
        self.high = end
        self._reached = reached

    @property
    def probe(self) -> int | None:
        return (self.low + self.high) // 2 if self.high - self.low > NEAR else None

    def take(self, piece: Sequence[Record]) -> None:
        """Take the records from `probe` on; fewer than PIECE_RECORDS only at the end."""
        place = _of_highest_term(places_of(piece))
        probe = self.probe
        assert probe is not None
        if place is None:  # openings, or nothing that can be read: the records after it decide
            self.low, self.high = (self.low, probe) if not piece else (piece[-1].offset + 1, self.high)
        elif self._reached(place):
            self.high = min(self.high, place.offset)
        else:
            self.low = place.offset + 1


def places_of(records: Sequence[Record]) -> list[Place]:
    """Return the places that records claim, without those that claim none."""
    found = []
    for record in records:
        if isinstance(record, Undecodable):
            continue
        try:
            found.append(Place(record.offset, read_stamp(record.headers), record.timestamp))
        except LogCorrupt:
            continue
    return found


def _of_highest_term(places: Sequence[Place]) -> Place | None:
    """Return the first outcome of the highest term among the outcomes; a replaced writer's are of a lower one."""
    outcomes = [place for place in places if place.stamp.index]
    highest = max((place.stamp.term for place in outcomes), default=0)
    return next((place for place in outcomes if place.stamp.term == highest), None)


def anchor_in(records: Sequence[Record]) -> tuple[int, Head] | None:
    """Return `(next offset, head)` after a record that counts as far as these records tell, or None if none does.

    A higher term among them, or before them, would make it void: the former is excluded here, the latter shows when the
    cursor meets that term's next outcome, which cannot follow this head.
    """
    places = places_of(records)
    outcome = _of_highest_term(places)
    if outcome is None or any(p.stamp.term > outcome.stamp.term and p.offset < outcome.offset for p in places):
        return None
    stamp = outcome.stamp
    return outcome.offset + 1, Head(stamp.term, stamp.index, stamp.command_offset, outcome.at_ms)


class Places:
    """The places of one partition of `chat.events`, up to the end at the time it was opened."""

    def __init__(self, reader: PartitionReader, start: int, end: int) -> None:
        self.reader = reader
        self.start = start
        self.end = end

    async def first(self, reached: Reached) -> int:
        """Return an offset at or shortly before the first outcome that is reached; near the end if none is."""
        bisection = Bisection(self.start, self.end, reached)
        while (probe := bisection.probe) is not None:
            bisection.take(await self.piece(probe, PIECE_RECORDS))
        return bisection.low

    async def piece(self, offset: int, count: int) -> list[Record]:
        """Return the records from `offset` on, up to `count` and the end."""
        await self.reader.seek(offset)
        found: list[Record] = []
        until = min(self.end, offset + count)
        if offset < until:
            found += [record async for record in records_until(self.reader, until)]
        return found

    async def events(self, offset: int) -> AsyncGenerator[LogEvent]:
        """Yield every event from `offset` (or a little before) to the end, as the cursor reads it.

        Raises LogCorrupt if the log is corrupt there, and KafkaUnavailable.
        """
        back = NEAR
        while True:
            begin = max(self.start, offset - back)
            cursor = await self._cursor(begin, offset)
            if cursor is not None:
                try:
                    first = self._first_events(cursor, await self.piece(cursor.next_offset, back + NEAR))
                    break
                except LogCorrupt:  # begun after a record that does not count, or the log is corrupt
                    if begin == self.start or back > _MAX_BACK:
                        raise
            back *= 4
        for event in first:
            yield event
        position = cursor.next_offset
        while position < self.end:
            for event in cursor.read(await self.piece(position, _MANY_RECORDS)):
                yield self._passed(event)
            position += _MANY_RECORDS

    async def _cursor(self, begin: int, offset: int) -> LogCursor | None:
        if begin == 0:
            return LogCursor()
        anchor = anchor_in(await self.piece(begin, max(1, offset - begin)))
        if anchor is None or not await self._counts(anchor[0] - 1, anchor[1].term):
            if begin == self.start or offset - begin > _MAX_BACK:
                raise LogCorrupt(f"no record in front of offset {offset} is known to count: run `gapless log verify`")
            return None
        return LogCursor(anchor[1], next_offset=anchor[0])

    async def _counts(self, offset: int, term: int) -> bool:
        """Return whether the outcome of `term` at `offset` comes before every opening of a higher term. A replaced
        writer may have appended more than the records around it show."""
        low = await self.first(by_term(term + 1))
        around = places_of(await self.piece(max(self.start, low - NEAR), 3 * NEAR))
        higher = [place for place in around if place.stamp.term > term]
        if any(place.offset < offset for place in higher):
            return False
        after = higher[0] if higher else await self.last()
        if after is None or after.stamp.term <= term:
            return True  # no higher term has anything
        # Terms without an outcome leave bisection nothing to follow, so each opening is looked for.
        found = [await self.opening(each) for each in range(term + 1, min(after.stamp.term, term + _TERMS) + 1)]
        return found[-1] is not None and all(each is None or each[0].offset > offset for each in found)

    def _first_events(self, cursor: LogCursor, records: Sequence[Record]) -> list[LogEvent]:
        return [self._passed(event) for event in cursor.read(records)]

    def _passed(self, event: LogEvent) -> LogEvent:
        if isinstance(event, Stop):
            place = f"partition {self.reader.partition} cannot be read past offset {event.offset}"
            raise type(event.error)(f"The log of {place}: {event.error}; see `gapless log verify`.")
        return event

    async def last(self) -> Place | None:
        """Return the last place of the highest term near the end: it counts, or is a copy of one that does. None if
        there is no record."""
        back = PIECE_RECORDS
        while self.end > self.start:
            begin = max(self.start, self.end - back)
            places = places_of(await self.piece(begin, self.end - begin))
            if places:
                return max(places, key=lambda place: (place.stamp.term, place.stamp.index, -place.offset))
            if begin == self.start:
                return None
            back *= 4
        return None

    async def last_index(self) -> int:
        """Return the index of the last outcome that counts, or of a copy of it; 0 if no command is decided yet."""
        back = PIECE_RECORDS
        while self.end > self.start:
            begin = max(self.start, self.end - back)
            outcomes = [p.stamp for p in places_of(await self.piece(begin, self.end - begin)) if p.stamp.index]
            if outcomes or begin == self.start:
                return max(outcomes, key=lambda stamp: (stamp.term, stamp.index)).index if outcomes else 0
            back *= 4
        return 0

    async def opening(self, term: int) -> tuple[Opened, int] | None:
        """Return the opening of a term and its time in ms; None if it is not found."""
        begin = await self.first(by_term(term))
        # Bisection follows outcomes, and the opening is before the first one of its term.
        back = NEAR
        while True:
            low = max(self.start, begin - back)
            cursor = LogCursor()
            for record in await self.piece(low, begin - low + 2 * NEAR):
                for place in places_of([record]):
                    if place.stamp == Stamp(term, 0, -1):
                        event = cursor.read_one(record)
                        return (event, record.timestamp) if isinstance(event, Opened) else None
            if low == self.start or back > _MAX_BACK:
                return None
            back *= 4


@asynccontextmanager
async def open_places(kafka: KafkaSettings, topic: str, partition: int) -> AsyncIterator[Places]:
    """Open the places of a partition. Raises KafkaError."""
    reader = await _reader(kafka, topic, partition)
    try:
        start, end = await reader.bounds()
        yield Places(reader, start, end)
    finally:
        await reader.close()


async def record_at(kafka: KafkaSettings, topic: str, partition: int, offset: int) -> Record | None:
    """Return the record at an offset, or None if the topic does not hold it (now). Raises KafkaError."""
    reader = await _reader(kafka, topic, partition)
    try:
        start, end = await reader.bounds()
        if not start <= offset < end:
            return None
        await reader.seek(offset)
        found = await reader.read(max_records=1, timeout_s=READ_TIMEOUT_S)
        return found[0] if found and found[0].offset == offset else None
    finally:
        await reader.close()


async def _reader(kafka: KafkaSettings, topic: str, partition: int) -> PartitionReader:
    reader = PartitionReader(
        kafka=kafka.connection,
        topic=topic,
        partition=partition,
        client_id=f"{kafka.client_id}-inspect",
        fetch_max_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    await reader.start(0)
    return reader
