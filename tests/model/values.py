"""The parts of the model: records, appends, a log, a writer, one step; and their invariants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from schemas.log import Stamp
from tests.model.rule import Row

NAMES: Final = "AB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The size of the model. Everything else is left to the explorer."""

    commands: int = 3
    starts: int = 2
    """How often each writer goes from the fold to an opening of a term; a crash or an unknown result may end one at any
    step.
    """
    batch: int = 2
    """Maximum number of commands in one append."""
    copies: int = 1
    """Number of appends that land once more, any time later."""


class Summary(NamedTuple):
    """The state after a fold."""

    term: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which is not used
    command: int = -1
    seqs: tuple[int, int] = (0, 0)
    """The last seq of chat A and of chat B."""


class Entry(NamedTuple):
    """A record: an opening has index 0, and its `figure` distinguishes it from its writer's other openings (its
    owner).
    """

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    command: int
    by: int
    figure: int
    """For an outcome, the seq in its writer's chat."""

    def __str__(self) -> str:
        if self.index == 0:
            return f"{NAMES[self.by]} opens {self.term}"
        return f"{NAMES[self.by]} {self.term}/{self.index} command {self.command} seq {self.figure}"


VOID: Final = Entry(0, 0, 0, 0, 0)
"""Stands for any void record: the rule finds it void after any head, as an opening of term 0."""

Append = tuple[Entry, ...]
"""One record batch."""


class Log(NamedTuple):
    base: Summary
    """Summary of what every writer has passed."""
    records: tuple[tuple[Entry, Row], ...]
    tail: Summary
    """Summary of the whole log, on which every reader agrees."""


class Phase(IntEnum):
    __hash__ = int.__hash__  # an enum's own is Python, and states are hashed millions of times

    DOWN = 0
    """Crashed, or not started: the next fold begins at the beginning."""
    BACKED_OFF = 1
    """Between two terms, with the state that it has applied."""
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
    """Where `append` landed, counted in `Log.records`."""
    tries: int = 0
    """Unknown results in this term; always 0 for a correct writer."""


class Step(NamedTuple):
    """One possible step of a writer."""

    kind: str
    says: str
    writer: Writer
    violates: str | None = None
    abandons: Append = ()
    """An append in flight that no writer waits for any more; it may still land."""


def stamp_of(entry: Entry) -> Stamp:
    return Stamp(entry.term, entry.index, entry.command if entry.index else -1)


def under_way(writer: Writer) -> Append:
    """Return what this writer has sent and waits for, if it has not landed yet."""
    return writer.append if writer.phase in (Phase.OPENING, Phase.APPENDING) else ()


def landed(writer: Writer, at: int) -> Writer:
    """Return the writer after its append has landed: an acknowledgement is possible now."""
    return writer._replace(phase=Phase(writer.phase + 1), landed=at)


# --- the log's beginning --------------------------------------------------------------------------------------


def floor_of(writer: Writer) -> int | None:
    """Return the first record that this writer may still read, or None if it will begin at the beginning."""
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
    """Return which invariant a valid outcome breaks, by counting and not by the rule."""
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
    """Return which outcomes are missing: a reply is true if its outcome is valid in the log, and valid records stay
    valid.
    """
    if at >= 0 and log.records[at : at + len(append)] == tuple((entry, Row.VALID) for entry in append):
        return None
    valid = {entry for entry, row in log.records if row is Row.VALID}
    missing = [entry for entry in append if entry not in valid]
    return f"a client was told of {listed(tuple(missing))}, which is not in the log" if missing else None


def listed(append: Append) -> str:
    return "[" + ", ".join(map(str, append)) + "]"
