"""What was fetched of one partition and not read yet. Pure: no client, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import final

from aiokafka import errors as kafka_errors

from schemas.wire.encoding import Record
from services.runtime.kafka.batches import RecordBatch, batches_in


@final
class Fetched:
    """Record batches, checked and split into records as they are read: a reader of few at a time keeps few in memory,
    and those in the CPU caches.

    A record that cannot be decoded (a header name that is not UTF-8, a wrong offset delta) is an `Undecodable` at its
    true offset, so that reading continues. A batch with a wrong checksum is fetched once more, since it may have been
    damaged in transit; if it is still wrong, each of its records is an `Undecodable`.
    """

    __slots__ = ("_batches", "_opened", "_opened_end", "_suspect_offset", "fetch_offset", "position", "waiting_bytes")

    def __init__(self, offset: int) -> None:
        self.position = offset
        """The next offset to read. It also moves past transaction markers, which are not records."""
        self.fetch_offset = offset
        """The offset from which to fetch next."""
        self._batches: deque[RecordBatch] = deque()
        self.waiting_bytes = 0
        """Size of the batches of which nothing was read yet."""
        self._opened: Iterator[Record] | None = None
        """The records of the batch that is being read."""
        self._opened_end = 0
        self._suspect_offset = -1
        """Offset of a batch whose checksum was wrong at its first fetch; −1 if none."""

    @property
    def has_unread(self) -> bool:
        """Whether there is something that `take` has not looked at."""
        return self._opened is not None or bool(self._batches)

    def add(self, raw: bytes, most_bytes: int) -> bool:
        """Add a broker's response to a fetch at `fetch_offset`. Returns whether it holds a batch.

        Raises RecordTooLargeError if it holds only the beginning of one, CorruptRecordException.

        :param most_bytes: what was asked for.
        """
        batches = batches_in(raw)
        if batches:
            self._batches += batches
            self.waiting_bytes += sum([batch.size_bytes for batch in batches])
            self.fetch_offset = max(self.fetch_offset, batches[-1].next_offset)
            return True
        if raw:
            raise kafka_errors.RecordTooLargeError(f"a batch at {self.fetch_offset} is larger than {most_bytes}")
        return False

    def seek(self, offset: int) -> None:
        """Continue at an offset. Drops the batches that were fetched."""
        self.position = self.fetch_offset = offset
        self._batches.clear()
        self.waiting_bytes = 0
        self._opened = None

    def take(self, most: int) -> list[Record]:
        """Return the next records, without those before `position`. Returns [] if more must be fetched first."""
        found: list[Record] = []
        while len(found) < most:
            records = self._opened or self._open_next()
            if records is None:
                break
            wanted, before = most - len(found), len(found)
            found.extend(islice(records, wanted))
            if len(found) - before < wanted or found[-1].offset + 1 >= self._opened_end:
                self._opened = None
            if len(found) > before and found[before].offset < self.position:
                found = [record for record in found if record.offset >= self.position]
        if found:
            self.position = found[-1].offset + 1
        if not self.has_unread:
            self.position = max(self.position, self.fetch_offset)  # what was fetched may end with transaction markers
        return found

    def take_batches(self) -> list[tuple[RecordBatch, list[Record]]]:
        """Return the batches that wait, from the one that holds `position` on, each with its records. The first may
        begin before `position`; transaction markers are left out. Not after `take` ended within a batch.
        """
        found: list[tuple[RecordBatch, list[Record]]] = []
        while (batch := self._next_batch()) is not None:
            if batch[0].next_offset > self.position:
                found.append((batch[0], list(batch[1])))
        if found:
            self.position = found[-1][0].next_offset
        if not self._batches:
            self.position = max(self.position, self.fetch_offset)
        return found

    def _open_next(self) -> Iterator[Record] | None:
        next_batch = self._next_batch()
        if next_batch is None:
            return None
        self._opened_end, self._opened = next_batch[0].next_offset, next_batch[1]
        return self._opened

    def _next_batch(self) -> tuple[RecordBatch, Iterator[Record]] | None:
        while self._batches:
            batch = self._batches.popleft()
            self.waiting_bytes -= batch.size_bytes
            if batch.is_control_batch:
                continue
            if batch.validate_crc():
                return batch, batch.records()
            suspect = max(self.position, batch.base_offset)
            if self._suspect_offset == suspect:
                return batch, batch.undecodable("the checksum of its batch is wrong")
            self._suspect_offset = suspect
            self.seek(suspect)  # everything from it on is fetched once more
        return None
