"""Cuts entries into the pieces that an import appends, each at a known offset. Pure.

Records are put together into batches as large as a topic takes, because a quiet log has one batch for each message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from services.ops.transfer.entries import Entry, KeptBatch, KeptRecord

BATCH_RECORDS: Final = 50_000


class Together(Struct, frozen=True):
    """Records that become one batch."""

    records: list[KeptRecord]

    @property
    def first(self) -> int:
        return self.records[0].offset

    @property
    def next_offset(self) -> int:
        return self.records[-1].next_offset


class Alone(Struct, frozen=True):
    """A batch that is appended as it is."""

    batch: KeptBatch

    @property
    def first(self) -> int:
        return self.batch.offset

    @property
    def next_offset(self) -> int:
        return self.batch.next_offset


class Markers(Struct, frozen=True):
    """Offsets without a record: each is taken by a transaction marker."""

    first: int
    next_offset: int


Piece = Together | Alone | Markers


def pieces(entries: Iterable[Entry], *, at: int, max_bytes: int) -> Iterator[Piece]:
    """Yield the pieces that follow offset `at` (exclusive end of what is there), in order and without a gap."""
    waiting: list[KeptRecord] = []
    size = 0
    for entry in entries:
        alone = isinstance(entry, KeptBatch)
        added = 0 if isinstance(entry, KeptBatch) else entry.size
        full = size + added > max_bytes or len(waiting) == BATCH_RECORDS
        if waiting and (alone or full or entry.offset != at):
            yield Together(waiting)
            waiting, size = [], 0
        if entry.offset > at:
            yield Markers(at, entry.offset)
        if isinstance(entry, KeptBatch):
            yield Alone(entry)
        else:
            waiting.append(entry)
            size += added
        at = entry.next_offset
    if waiting:
        yield Together(waiting)
