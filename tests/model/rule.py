"""The validity rule for the model: the production functions behind a small domain of integers, and its rows.

The model's log has no timestamps, so every head has timestamp 0 and every answer can be cached: the domain is small,
and each answer still comes from the production `classify`, once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple

from schemas.errors import LogCorrupt
from schemas.log import Head, Stamp, Verdict, advance, classify

Classify = Callable[[Head, Stamp], Verdict]


class Row(StrEnum):
    """The rows of the rule's table, as in the design."""

    __hash__ = str.__hash__  # an enum's own is Python, and states are hashed millions of times

    OPENS = "opening, later term: opens"
    OPENING_VOID = "opening, no later term: void"
    FENCED = "outcome, earlier term: void"
    COPY = "outcome, same term, index taken: void"
    VALID = "outcome, same term, next index, later command: valid"
    CORRUPT = "outcome, anything else: corrupt"


VOID_ROWS: Final = frozenset({Row.OPENING_VOID, Row.FENCED, Row.COPY})


class Place(NamedTuple):
    """A head without its timestamp."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    command_offset: int


def row_of(head: Head, stamp: Stamp) -> Row:
    """Return the matching row of the table, by the table and not by the code under test."""
    if stamp.index == 0:
        return Row.OPENS if stamp.term > head.term else Row.OPENING_VOID
    if stamp.term < head.term:
        return Row.FENCED
    if stamp.term == head.term and stamp.index <= head.index:
        return Row.COPY
    if (stamp.term, stamp.index) == (head.term, head.index + 1) and stamp.command_offset > head.command_offset:
        return Row.VALID
    return Row.CORRUPT


_VERDICT_OF_ROW: Final = {Row.OPENS: Verdict.OPENS, Row.VALID: Verdict.VALID} | dict.fromkeys(VOID_ROWS, Verdict.VOID)


class Ruling(NamedTuple):
    """A reader's result for one record; verdict None means that the rule found the log corrupt."""

    verdict: Verdict | None
    place: Place
    row: Row


def reader(rule: Classify) -> Callable[[Place, Stamp], Ruling]:
    """Return a reader for a rule, with its answers cached."""

    @cache
    def ruled(place: Place, stamp: Stamp) -> Ruling:
        head = Head(place.term, place.index, place.command_offset)
        row = row_of(head, stamp)
        try:
            verdict = rule(head, stamp)
        except LogCorrupt:
            return Ruling(None, place, row)
        if rule is classify:
            assert verdict is _VERDICT_OF_ROW.get(row), f"{stamp} after {head} is {verdict}, and the table says {row}"
        if verdict is Verdict.VOID:
            return Ruling(verdict, place, row)
        next_head = advance(head, stamp, 0)
        return Ruling(verdict, Place(next_head.term, next_head.index, next_head.command_offset), row)

    return ruled


# --- seeded mistakes in the rule ------------------------------------------------------------------------------


def classify_without_terms(head: Head, stamp: Stamp) -> Verdict:
    """Omit the row of the fenced writer and ignore the writer: the next index wins."""
    return classify(head, stamp if stamp.index == 0 else Stamp(head.term, stamp.index, stamp.command_offset))


def classify_without_fencing(head: Head, stamp: Stamp) -> Verdict:
    """Omit the row of the fenced writer, so that its records match "anything else"."""
    if stamp.index and stamp.term < head.term:
        raise LogCorrupt("an earlier term")
    return classify(head, stamp)


def classify_without_copies(head: Head, stamp: Stamp) -> Verdict:
    """Omit the row of the repeated copy."""
    if stamp.index and stamp.term == head.term and stamp.index <= head.index:
        raise LogCorrupt("an index that was there before")
    return classify(head, stamp)


def classify_opening_the_same_term_again(head: Head, stamp: Stamp) -> Verdict:
    """Let an opening of the head's own term open once more: two writers in one term."""
    if stamp.index == 0 and stamp.term == head.term:
        return Verdict.OPENS
    return classify(head, stamp)


def classify_any_opening(head: Head, stamp: Stamp) -> Verdict:
    """Let every opening open, even one that is late by a term."""
    return Verdict.OPENS if stamp.index == 0 else classify(head, stamp)
