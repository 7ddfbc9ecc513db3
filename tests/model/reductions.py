"""Fewer states, with nothing left out.

There are two ways to explore. *Plain* takes the machine as it is. *Reduced* leaves out what makes no difference, each
for a reason:

- A record that the rule found void changes no head, now or later: which one it was is forgotten, and consecutive void
  records are merged unless a writer's position lies between them.
- An abandoned append that can only be void by now (the terms have gone past it, or its index is taken) is forgotten
  too. In its place a void record may land at any time, any number of times. That is more than can really happen, and
  includes all copies of anything that landed before.
- A writer that waits for an append does nothing else, and the verdict on what has landed is final: so it gets the
  acknowledgement at once, or never. A late acknowledgement equals one at once followed by a slow writer.
- A writer that ends a term begins with a fold, and one that opens folds through its opening before it does anything. If
  its state equals a fold of the log, keeping it and losing it are the same. That this holds is checked in every state,
  so this reduction proves itself.
- A and B differ in name only (this one also in plain).

tests/model/test_model.py shows that both reach the same logs at sizes that both can explore.
"""

from __future__ import annotations

from tests.model.rule import VOID_ROWS, Row
from tests.model.values import VOID, Append, Entry, Log, Phase, Summary, Writer, floor_of

FOLD_TO_COME = (Phase.FOLDED, Phase.OPENING)
"""Phases in which a writer will fold through its opening before it does anything with its state."""


def folding_again(writer: Writer, log: Log) -> Writer:
    return writer._replace(position=0, state=log.base) if writer.phase in FOLD_TO_COME else writer


def without_voids(log: Log, a: Writer, b: Writer) -> tuple[Log, Writer, Writer]:
    """Erase the content of void records, and merge each run of them that no position and no append divides."""
    records = [(VOID, Row.OPENING_VOID) if row in VOID_ROWS else (entry, row) for entry, row in log.records]
    kept_apart: set[int] = set()
    for writer in (a, b):
        if floor_of(writer) is not None:
            kept_apart.add(writer.position)
            kept_apart.update(range(writer.landed, writer.landed + len(writer.append) + 1))
    place: list[int] = []
    kept: list[tuple[Entry, Row]] = []
    for offset, record in enumerate(records):
        if record[0] is VOID and kept and kept[-1][0] is VOID and offset not in kept_apart:
            place.append(len(kept) - 1)
            continue
        place.append(len(kept))
        kept.append(record)
    place.append(len(kept))
    if len(kept) == len(records) and tuple(records) == log.records:
        return log, a, b
    return Log(log.base, tuple(kept), log.tail), _moved(a, place), _moved(b, place)


def _moved(writer: Writer, place: list[int]) -> Writer:
    if floor_of(writer) is None:
        return writer
    has_landed = writer.phase in (Phase.OPENED, Phase.APPENDED)
    return writer._replace(
        position=place[writer.position], landed=place[writer.landed] if has_landed else writer.landed
    )


def stale(append: Append, tail: Summary) -> bool:
    """Return whether the rule finds all of it void after any log that continues this one."""
    last = append[-1]
    if last.index == 0:
        return last.term <= tail.term
    return last.term < tail.term or (last.term == tail.term and last.index <= tail.index)
