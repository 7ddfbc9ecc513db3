"""Which rows of a chat a page of history is made of: pure, and the same for every kind of bound.

A window splits the chat at a seq. Statements fetch rows below the split (descending) and rows from it on
(ascending), on each side one more than a page can take: that one is never shown, it is how a page knows that
there is more. With a sender filter both sides are filtered, so `has_more` speaks of what the filter lets through.

    newest      split = beyond the last seq     all below
    before b    split = b                       all below; from b on only to know that there is more
    after a     split = a + 1                   all above; below only to know that there is more
    around s    split = s                       half below, s and the rest above; a short side leaves its share
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_SEQ: Final = 2**63 - 1
"""Of Postgres' bigint. No message ever has it, so a split there lies beyond every chat."""

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`keep_below` and `keep_above` are the most rows a page may take of each side, `share_below` what the lower
    side may take when both have plenty, `limit` the most in all."""

    split: int
    limit: int
    keep_below: int
    keep_above: int
    share_below: int

    @property
    def fetch_below(self) -> int:
        return self.keep_below + 1

    @property
    def fetch_above(self) -> int:
        return self.keep_above + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RowT]):
    """Rows ascending by seq. The flags say whether the chat has rows before the first and after the last; of an
    empty page, whether it has any before and after the bound."""

    rows: list[RowT]
    has_more_before: bool
    has_more_after: bool


def newest(limit: int) -> Window:
    return before(MAX_SEQ, limit)


def before(seq: int, limit: int) -> Window:
    return Window(split=seq, limit=limit, keep_below=limit, keep_above=0, share_below=limit)


def after(seq: int, limit: int) -> Window:
    return Window(split=min(seq + 1, MAX_SEQ), limit=limit, keep_below=0, keep_above=limit, share_below=0)


def around(seq: int, limit: int) -> Window:
    return Window(split=seq, limit=limit, keep_below=limit, keep_above=limit, share_below=limit // 2)


def cut(window: Window, below: Sequence[RowT], above: Sequence[RowT]) -> Page[RowT]:
    """The page out of what was fetched: `below` descending from the split, `above` ascending from it."""
    share_below = max(window.share_below, window.limit - len(above))
    take_below = min(len(below), window.keep_below, share_below)
    take_above = min(len(above), window.keep_above, window.limit - take_below)
    rows = [*reversed(below[:take_below]), *above[:take_above]]
    return Page(rows=rows, has_more_before=len(below) > take_below, has_more_after=len(above) > take_above)
