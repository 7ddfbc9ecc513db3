"""Summarises a group of rows: their number, their bounds, and a digest that does not depend on their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.ops.verify.projection.tables import Row, Table, Value, row_hash

_MODULUS = 1 << 128


@dataclass(slots=True)
class Summary:
    """The summary of the rows of one table in one group (a chat, or a partition).

    The digest is the sum of the rows' hashes modulo 2^128: a sum, not XOR, so that a row held twice shows.
    """

    rows: int = 0
    lowest_seq: int | None = None
    highest_seq: int | None = None
    lowest_position: int | None = None
    highest_position: int | None = None
    digest: int = 0

    def add(self, row_digest: int, seq: int | None, position: int | None) -> None:
        self.rows += 1
        self.digest = (self.digest + row_digest) % _MODULUS
        if seq is not None:
            self.lowest_seq = seq if self.lowest_seq is None else min(self.lowest_seq, seq)
            self.highest_seq = seq if self.highest_seq is None else max(self.highest_seq, seq)
        if position is not None:
            self.lowest_position = position if self.lowest_position is None else min(self.lowest_position, position)
            self.highest_position = position if self.highest_position is None else max(self.highest_position, position)


@dataclass(slots=True)
class TableDigest:
    """Rows and digest of a whole table, or of a partition's part of it: the sum over its groups."""

    rows: int = 0
    digest: int = 0

    def add(self, summary: Summary) -> None:
        self.rows += summary.rows
        self.digest = (self.digest + summary.digest) % _MODULUS

    def merge(self, other: TableDigest) -> None:
        self.rows += other.rows
        self.digest = (self.digest + other.digest) % _MODULUS

    @property
    def hex(self) -> str:
        return f"{self.digest:032x}"


@dataclass(slots=True)
class Summaries:
    """Summaries of one side of a table, by group. Memory grows with the number of groups, not of rows."""

    table: Table
    by_group: dict[Value, Summary] = field(default_factory=dict)

    def add(self, rows: Iterable[Row]) -> None:
        seq_at = self.table.columns.index(self.table.seq) if self.table.seq is not None else None
        position_at = self.table.columns.index(self.table.position) if self.table.position is not None else None
        for row in rows:
            summary = self.by_group.get(row[0])
            if summary is None:
                summary = self.by_group[row[0]] = Summary()
            seq = row[seq_at] if seq_at is not None else None
            position = row[position_at] if position_at is not None else None
            assert not isinstance(seq, str)
            assert not isinstance(position, str)
            summary.add(row_hash(row), seq, position)

    def total(self) -> TableDigest:
        total = TableDigest()
        for summary in self.by_group.values():
            total.add(summary)
        return total
