"""What the model is made of: records, appends, a log, a writer, one step; and what must hold of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from schemas.log import Stamp
from tests.model.rule import Row

NAMES: Final = "AB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far the model goes. Everything else is left to the explorer."""

    commands: int = 3
    starts: int = 2
    """Of each writer: how often it goes from the fold to an opening of a term. What ends one is a crash or an unknown
    result, at any step."""
    batch: int = 2
    """Commands in one append, at most."""
    copies: int = 1
    """Appends that land once more, any time later."""


class Summary(NamedTuple):
    """What a fold has come to."""

    term: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    command: int = -1
    seqs: tuple[int, int] = (0, 0)
    """The last seq of chat A and of chat B."""


class Entry(NamedTuple):
    """A record: an opening has index 0, and its `figure` tells it from its writer's other openings (its owner)."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    command: int
    by: int
    figure: int
    """Of an outcome: the seq in its writer's chat."""

    def __str__(self) -> str:
        if self.index == 0:
            return f"{NAMES[self.by]} opens {self.term}"
        return f"{NAMES[self.by]} {self.term}/{self.index} command {self.command} seq {self.figure}"


VOID: Final = Entry(0, 0, 0, 0, 0)
"""Stands for any void record: the rule finds it void after whatever head, as an opening of term 0."""

Append = tuple[Entry, ...]
"""One record batch."""


class Log(NamedTuple):
    base: Summary
    """Of what every writer has passed."""
    records: tuple[tuple[Entry, Row], ...]
    tail: Summary
    """After all of it: what every reader agrees on."""


class Phase(IntEnum):
    __hash__ = int.__hash__  # an enum's own is Python, and states are hashed millions of times

    DOWN = 0
    """Crashed, or not started: the next fold begins at the beginning."""
    BACKED_OFF = 1
    """Between two terms, with the state it has applied."""
    FOLDED = 2
    OPENING = 3
    OPENED = 4
    """Its opening has landed."""
    SERVING = 5
    APPENDING = 6
    APPENDED = 7
    """Its append has landed."""


class Writer(NamedTuple):
    phase: Phase
    starts: int
    """Openings left."""
    position: int = 0
    """The next record to fold, counted in `Log.records`."""
    state: Summary = Summary()
    term: int = 0
    append: Append = ()
    landed: int = 0
    """Where `append` did, counted in `Log.records`."""
    tries: int = 0
    """Unknown results in this term; a correct writer has none."""


class Step(NamedTuple):
    """What one writer can do."""

    kind: str
    says: str
    writer: Writer
    violates: str | None = None
    abandons: Append = ()
    """An append under way that nobody waits for any more; it may still land."""


def stamp_of(entry: Entry) -> Stamp:
    return Stamp(entry.term, entry.index, entry.command if entry.index else -1)


def under_way(writer: Writer) -> Append:
    """What this writer has sent and waits for, and what has not landed yet."""
    return writer.append if writer.phase in (Phase.OPENING, Phase.APPENDING) else ()


def landed(writer: Writer, at: int) -> Writer:
    """Its append has landed: an acknowledgement is possible now."""
    return writer._replace(phase=Phase(writer.phase + 1), landed=at)


# --- the log's beginning --------------------------------------------------------------------------------------


def floor_of(writer: Writer) -> int | None:
    """The first record that this writer may still read; None where it will begin at the beginning."""
    return None if writer.phase is Phase.DOWN else writer.position


def shifted(writer: Writer, floor: int) -> Writer:
    landed = writer.landed - floor if writer.phase in (Phase.OPENED, Phase.APPENDED) else 0
    return writer if floor_of(writer) is None else writer._replace(position=writer.position - floor, landed=landed)


# --- symmetry -------------------------------------------------------------------------------------------------
# A and B differ in name only: where each has what the other had, the same can happen. So half the states suffice.


def swapped_entry(entry: Entry) -> Entry:
    return entry if entry is VOID or entry == VOID else entry._replace(by=1 - entry.by)


def swapped_append(append: Append) -> Append:
    return tuple(map(swapped_entry, append))


def swapped_summary(summary: Summary) -> Summary:
    return summary._replace(seqs=summary.seqs[::-1])


def swapped_log(log: Log) -> Log:
    records = tuple((swapped_entry(entry), row) for entry, row in log.records)
    return Log(swapped_summary(log.base), records, swapped_summary(log.tail))


def swapped_writer(writer: Writer) -> Writer:
    return writer._replace(state=swapped_summary(writer.state), append=swapped_append(writer.append))


# --- invariants -----------------------------------------------------------------------------------------------


def broken_by(before: Summary, entry: Entry) -> str | None:
    """Which invariant a valid outcome breaks, by counting and not by the rule."""
    if entry.index != sum(before.seqs) + 1:
        return f"{entry} is valid, and {sum(before.seqs)} outcomes are before it: indexes are not 1..n"
    if entry.command <= before.command:
        return f"{entry} is valid, and command {before.command} was decided: it is answered twice, or out of order"
    if entry.command != before.command + 1:
        return f"{entry} is valid, and command {before.command + 1} was never answered"
    if entry.figure != before.seqs[entry.by] + 1:
        return f"{entry} is valid, and chat {NAMES[entry.by]} stands at seq {before.seqs[entry.by]}: a gap or a repeat"
    return None


def not_in_the_log(append: Append, log: Log, at: int) -> str | None:
    """A reply is true when its outcome stands valid in the log; a valid record stays valid for ever."""
    if at >= 0 and log.records[at : at + len(append)] == tuple((entry, Row.VALID) for entry in append):
        return None
    valid = {entry for entry, row in log.records if row is Row.VALID}
    missing = [entry for entry in append if entry not in valid]
    return f"a client was told of {listed(tuple(missing))}, which is not in the log" if missing else None


def listed(append: Append) -> str:
    return "[" + ", ".join(map(str, append)) + "]"
