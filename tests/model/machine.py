"""The writer of docs/log-protocol.md as a small state machine: two of them, one log, and appends in flight.

Everything is a value and every step a pure function, so that the explorer can try each step in each state. A step is
what can be observed from outside: one fold, one append sent, one landing, one acknowledgement, one crash.

The two writers decide differently whatever the command (the worst case of a rolling deploy): A puts it into chat A, B
into chat B, each with the next seq of that chat as far as its state knows. So a writer that builds on what it should
not have seen shows as a gap in a chat.

The beginning of the log that every writer has passed is kept only as a summary: a fold is the same wherever it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from schemas.log import Stamp, Verdict, classify
from tests.model.mistakes import RESUME, RULES, Mistake
from tests.model.rule import VOID_ROWS, Place, Row, Ruling, reader
from tests.model.values import (
    NAMES,
    Append,
    Bounds,
    Entry,
    Log,
    Phase,
    Step,
    Summary,
    Writer,
    broken_by,
    listed,
    not_in_the_log,
    stamp_of,
    under_way,
)

Reads = Callable[[Place, Stamp], Ruling]


class Machine:
    """The steps, with or without a mistake."""

    def __init__(self, bounds: Bounds, mistake: Mistake | None = None) -> None:
        self.bounds = bounds
        self.mistake = mistake
        self._taken: dict[tuple[Summary, Entry], tuple[Summary, Ruling]] = {}
        self._ruled: Reads = reader(RULES.get(mistake, classify) if mistake is not None else classify)

    def begin(self) -> tuple[Log, Writer, Writer]:
        writer = Writer(Phase.DOWN, self.bounds.starts)
        return Log(Summary(), (), Summary()), writer, writer

    # --- readers ----------------------------------------------------------------------------------------------

    def _take(self, summary: Summary, entry: Entry) -> tuple[Summary, Ruling]:
        """Apply the rule to one record and return the reader's new state; cached, since the same ones come again."""
        key = (summary, entry)
        taken = self._taken.get(key)
        if taken is None:
            taken = self._taken[key] = self._ruled_and_summed(summary, entry)
        return taken

    def _ruled_and_summed(self, summary: Summary, entry: Entry) -> tuple[Summary, Ruling]:
        ruling = self._ruled(Place(summary.term, summary.index, summary.command), stamp_of(entry))
        seqs = summary.seqs
        if ruling.verdict is Verdict.VALID:
            seqs = (entry.figure, seqs[1]) if entry.by == 0 else (seqs[0], entry.figure)
        return Summary(*ruling.place, seqs), ruling

    def fold(self, state: Summary, log: Log, start: int, end: int) -> tuple[Summary, list[Verdict | None]]:
        """Fold from one position to another, with each record's verdict; ends early if the log is corrupt."""
        verdicts: list[Verdict | None] = []
        for entry, _ in log.records[start:end]:
            state, ruling = self._take(state, entry)
            verdicts.append(ruling.verdict)
            if ruling.verdict is None:
                break
        return state, verdicts

    def folds(self, log: Log) -> list[Summary]:
        """Return the fold of the log up to each of its records, and up to its end."""
        found = [log.base]
        for entry, _ in log.records:
            found.append(self._take(found[-1], entry)[0])
        return found

    def land(self, log: Log, append: Append) -> tuple[Log, tuple[Row, ...], str | None]:
        """Land an append: return the log after it, and the invariant that it breaks, or None."""
        tail, records, rows = log.tail, list(log.records), []
        for entry in append:
            before = tail
            tail, ruling = self._take(tail, entry)
            # The record's row is kept, so that a reply can be checked against it.
            row = ruling.row if self.mistake not in RULES else _row_of_verdict(entry, ruling)
            records.append((entry, row))
            rows.append(row)
            if ruling.verdict is None:
                return log, tuple(rows), f"the log is corrupt at {entry}, after {before}"
            if ruling.verdict is Verdict.VALID and (broken := broken_by(before, entry)):
                return log, tuple(rows), broken
        return Log(log.base, tuple(records), tail), tuple(rows), None

    # --- the writer -------------------------------------------------------------------------------------------

    def steps(self, me: int, writer: Writer, log: Log) -> Iterator[Step]:
        """Yield all steps that writer `me` can take now."""
        phase = writer.phase
        if phase is not Phase.DOWN:
            down = Writer(Phase.DOWN, writer.starts)
            yield Step("crash", f"{NAMES[me]} crashes {_WHERE[phase]}", down, abandons=under_way(writer))
        if phase in (Phase.DOWN, Phase.BACKED_OFF):
            if writer.starts:
                yield self._folds(me, writer, log)
        elif phase is Phase.FOLDED:
            yield self._opens(me, writer)
        elif phase is Phase.SERVING:
            yield from self._serves(me, writer, log)
        else:
            yield from self._gives_up(me, writer, log)
            if phase is Phase.OPENED:
                yield from self._is_told_of_its_opening(me, writer, log)
            elif phase is Phase.APPENDED:
                yield from self._is_told_of_its_append(me, writer, log)

    def _folds(self, me: int, writer: Writer, log: Log) -> Step:
        """Step 2: fold from the stored position, or from the beginning, to the end."""
        fresh = writer.phase is Phase.DOWN
        start, state = (0, log.base) if fresh else (writer.position, writer.state)
        end = len(log.records)
        state, verdicts = self.fold(state, log, start, end)
        whence = "the beginning" if fresh else "its state"
        term = state.term + (self.mistake is not Mistake.OPENS_HEADS_TERM)
        return Step(
            "fold",
            f"{NAMES[me]} folds from {whence} to the end: {_told(state)}",
            writer._replace(phase=Phase.FOLDED, position=end, state=state, term=term),
            violates=_CORRUPT if None in verdicts else None,
        )

    def _opens(self, me: int, writer: Writer) -> Step:
        """Step 3, its first half: send the opening."""
        opening = (Entry(writer.term, 0, 0, me, writer.starts),)
        return Step(
            "open",
            f"{NAMES[me]} sends its opening of term {writer.term}",
            writer._replace(phase=Phase.OPENING, starts=writer.starts - 1, append=opening),
        )

    def _is_told_of_its_opening(self, me: int, writer: Writer, log: Log) -> Iterator[Step]:
        """Step 3, its second half: fold on through the opening, exactly or to the end of the log."""
        through = writer.landed + 1
        for end in dict.fromkeys((through, len(log.records))):
            if self.mistake is Mistake.NO_FOLD_THROUGH_OPENING:
                state, opened = writer.state._replace(term=writer.term), True
                end = through
                verdicts: list[Verdict | None] = []
            else:
                state, verdicts = self.fold(writer.state, log, writer.position, end)
                opened = verdicts[writer.landed - writer.position : through - writer.position] == [Verdict.OPENS]
            violates = _CORRUPT if None in verdicts else None
            if self.mistake is Mistake.OPENING_NOT_VERIFIED:
                opened = True
            if self.mistake is Mistake.OPENING_OF_ANY_OWNER:
                opened = opened or state.term == writer.term
            serves = opened and (
                state.term == writer.term or self.mistake in (Mistake.LATER_TERM_ADOPTED, Mistake.OPENING_NOT_VERIFIED)
            )
            rested = writer._replace(position=end, state=state, append=(), landed=0)
            if serves:
                told = f"{NAMES[me]} hears of its opening, folds through it and serves term {writer.term}"
                yield Step("opened", told, rested._replace(phase=Phase.SERVING), violates=violates)
            else:
                told = f"{NAMES[me]} hears of its opening, folds through it and finds term {state.term} of another"
                yield Step("superseded", told, _backed_off(rested), violates=violates)

    def _serves(self, me: int, writer: Writer, log: Log) -> Iterator[Step]:
        """Steps 4 and 5, and the check for a later term by a writer that lost the hint."""
        state = writer.state
        yield Step("gives up", f"{NAMES[me]} cannot read commands, and ends its term", _backed_off(writer))
        first = state.command + (RESUME.get(self.mistake, 1) if self.mistake is not None else 1)
        # A command that is decided again, at another time and with other knowledge, may have another outcome.
        by = me if writer.tries % 2 == 0 else 1 - me
        term = state.term if self.mistake is Mistake.LATER_TERM_ADOPTED else writer.term
        first = max(first, 0)
        for size in range(1, min(self.bounds.batch, self.bounds.commands - first) + 1):
            append = tuple(Entry(term, state.index + 1 + i, first + i, by, state.seqs[by] + 1 + i) for i in range(size))
            after = writer._replace(phase=Phase.APPENDING, append=append)
            violates = None
            if self.mistake is Mistake.APPLY_BEFORE_ACKNOWLEDGEMENT:
                after = after._replace(state=_applied(state, append))
            if self.mistake is Mistake.REPLY_BEFORE_ACKNOWLEDGEMENT:
                violates = not_in_the_log(append, log, -1)
            yield Step("append", f"{NAMES[me]} sends {listed(append)}", after, violates)
        end = len(log.records)
        if writer.position < end:
            state, verdicts = self.fold(state, log, writer.position, end)
            violates = _CORRUPT if None in verdicts else None
            looked = writer._replace(position=end, state=state)
            if state.term == writer.term or self.mistake is Mistake.LATER_TERM_ADOPTED:
                yield Step("looks", f"{NAMES[me]} folds to the end and goes on", looked, violates=violates)
            else:
                told = f"{NAMES[me]} folds to the end and finds term {state.term} of another"
                yield Step("superseded", told, _backed_off(looked), violates=violates)

    def _is_told_of_its_append(self, me: int, writer: Writer, log: Log) -> Iterator[Step]:
        """Step 6: the expected offset, or the fold through the append, exactly or to the end of the log."""
        through = writer.landed + len(writer.append)
        state = _applied(writer.state, writer.append)
        if self.mistake is Mistake.APPLY_BEFORE_ACKNOWLEDGEMENT:
            state = writer.state
        rested = writer._replace(phase=Phase.SERVING, append=(), landed=0)
        if writer.landed == writer.position or self.mistake is Mistake.NO_OFFSET_CHECK:
            told = f"{NAMES[me]} hears of it where it expected it, applies and replies"
            after = rested._replace(position=through, state=state)
            yield Step("equal", told, after, violates=not_in_the_log(writer.append, log, writer.landed))
            return
        for end in dict.fromkeys((through, len(log.records))):
            state, verdicts = self.fold(writer.state, log, writer.position, end)
            violates = _CORRUPT if None in verdicts else None
            ours = verdicts[writer.landed - writer.position : through - writer.position]
            after = rested._replace(position=end, state=state)
            valid = all(verdict is Verdict.VALID for verdict in ours) or self.mistake is Mistake.VOID_COUNTS
            if not valid:
                told = f"{NAMES[me]} hears of it further on, folds through it and finds it void"
                yield Step("void", told, _backed_off(after), violates=violates)
                continue
            violates = violates or not_in_the_log(writer.append, log, writer.landed)
            if state.term == writer.term or self.mistake is Mistake.LATER_TERM_ADOPTED:
                told = f"{NAMES[me]} hears of it further on, folds through it, finds it valid and replies"
                yield Step("fold through", told, after, violates=violates)
            else:
                told = f"{NAMES[me]} hears of it further on, folds, replies and finds term {state.term} of another"
                yield Step("fold through", told, _backed_off(after), violates=violates)

    def _gives_up(self, me: int, writer: Writer, log: Log) -> Iterator[Step]:
        """Step 7: the result is unknown, whatever happened to the append."""
        serving = writer._replace(phase=Phase.SERVING, append=(), landed=0)
        told = f"{NAMES[me]} does not know what became of its append"
        if writer.phase in (Phase.APPENDING, Phase.APPENDED) and self.mistake is Mistake.RETRY_ON_UNKNOWN:
            again = serving._replace(tries=writer.tries + 1)
            yield Step("unknown", f"{told} and decides again", again, abandons=under_way(writer))
        elif writer.phase in (Phase.APPENDING, Phase.APPENDED) and self.mistake is Mistake.GO_ON_AFTER_UNKNOWN:
            state = _applied(writer.state, writer.append)
            violates = not_in_the_log(writer.append, log, writer.landed)
            goes_on = serving._replace(state=state)
            yield Step("unknown", f"{told} and goes on", goes_on, violates, under_way(writer))
        else:
            yield Step("unknown", f"{told} and ends its term", _backed_off(writer), abandons=under_way(writer))


def _row_of_verdict(entry: Entry, ruling: Ruling) -> Row:
    """Return the row that a rule with a mistake took this record for."""
    match ruling.verdict:
        case Verdict.OPENS:
            return Row.OPENS
        case Verdict.VALID:
            return Row.VALID
        case Verdict.VOID:
            return ruling.row if ruling.row in VOID_ROWS else Row.COPY if entry.index else Row.OPENING_VOID
        case _:
            return Row.CORRUPT


_CORRUPT: Final = "a writer finds the log corrupt"
_WHERE: Final = {
    Phase.BACKED_OFF: "between two terms",
    Phase.FOLDED: "before its opening",
    Phase.OPENING: "with its opening under way",
    Phase.OPENED: "before it hears of its opening",
    Phase.SERVING: "between two appends",
    Phase.APPENDING: "with its append under way",
    Phase.APPENDED: "before it hears of its append",
}


def _backed_off(writer: Writer) -> Writer:
    return writer._replace(phase=Phase.BACKED_OFF, term=0, append=(), landed=0, tries=0)


def _applied(state: Summary, append: Append) -> Summary:
    for entry in append:
        seqs = (entry.figure, state.seqs[1]) if entry.by == 0 else (state.seqs[0], entry.figure)
        state = Summary(entry.term, entry.index, entry.command, seqs)
    return state


def _told(state: Summary) -> str:
    return f"term {state.term}, index {state.index}, last command {state.command}"
