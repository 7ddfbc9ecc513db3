"""The validity rule once more, as in the table of docs/log-protocol.md, to compare schemas.log with.

It is slow on purpose: it keeps no head, but reads all records before the one in question, and evaluates every row of
the table, so that two matching rows would be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Row(Enum):
    """The rows of the table."""

    OPENING_OF_A_LATER_TERM = auto()
    OPENING_OF_NO_LATER_TERM = auto()
    OUTCOME_OF_A_FENCED_WRITER = auto()
    REPEATED_COPY = auto()
    NEXT_OUTCOME = auto()
    ANYTHING_ELSE = auto()

    @property
    def verdict(self) -> str:
        return _VERDICTS[self]


_VERDICTS: Final = {
    Row.OPENING_OF_A_LATER_TERM: "opens",
    Row.OPENING_OF_NO_LATER_TERM: "void",
    Row.OUTCOME_OF_A_FENCED_WRITER: "void",
    Row.REPEATED_COPY: "void",
    Row.NEXT_OUTCOME: "valid",
    Row.ANYTHING_ELSE: "corrupt",
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a record claims; `index` 0 is an opening."""

    term: int
    index: int
    command_offset: int
    commands_from: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """The last figures of the records that count."""

    term: int = 0
    index: int = 0
    command_offset: int = -1


NOTHING: Final = Counted()


def rows(records: Sequence[Claimed], start: Counted = NOTHING) -> Iterator[Row]:
    """Yield the row of each record, up to the first that makes the log corrupt."""
    counting: list[tuple[Row, Claimed]] = []
    for record in records:
        row = _row(_figures(counting, start), record)
        if row.verdict in ("opens", "valid"):
            counting.append((row, record))
        yield row
        if row is Row.ANYTHING_ELSE:
            return


def _figures(counting: Sequence[tuple[Row, Claimed]], start: Counted) -> Counted:
    openings = [record for row, record in counting if row is Row.OPENING_OF_A_LATER_TERM]
    outcomes = [record for row, record in counting if row is Row.NEXT_OUTCOME]
    offsets = [start.command_offset]
    for row, record in counting:
        if row is Row.NEXT_OUTCOME:
            offsets.append(record.command_offset)
        elif record.commands_from is not None:
            offsets.append(record.commands_from - 1)
    return Counted(
        term=max([start.term, *(record.term for record in openings)]),
        index=start.index + len(outcomes),
        command_offset=offsets[-1],
    )


def _row(head: Counted, it: Claimed) -> Row:
    opening, outcome = it.index == 0, it.index != 0
    fits = [
        row
        for row, condition in {
            Row.OPENING_OF_A_LATER_TERM: opening and it.term > head.term,
            Row.OPENING_OF_NO_LATER_TERM: opening and not it.term > head.term,
            Row.OUTCOME_OF_A_FENCED_WRITER: outcome and it.term < head.term,
            Row.REPEATED_COPY: outcome and it.term == head.term and it.index <= head.index,
            Row.NEXT_OUTCOME: outcome
            and it.term == head.term
            and it.index == head.index + 1
            and it.command_offset > head.command_offset,
        }.items()
        if condition
    ]
    assert len(fits) <= 1, f"two rows of the table fit {it} after {head}: {fits}"
    return fits[0] if fits else Row.ANYTHING_ELSE
