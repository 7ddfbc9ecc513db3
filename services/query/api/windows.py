"""Selects the rows of a page of history: pure, and the same for every kind of bound.

A window splits the chat at a seq. Statements fetch rows below the split (descending) and rows from it on (ascending),
on each side one more than a page can take: that row is never returned, it only shows that there is more. With a sender
filter both sides are filtered, so `has_more` refers to the filtered rows.

    newest      split = beyond the last seq     all below
    before b    split = b                       all below; from b on only for has_more
    after a     split = a + 1                   all above; below only for has_more
    around s    split = s                       half below, s and the rest above; a short side yields its share
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_SEQ: Final = 2**63 - 1
"""Maximum of Postgres' bigint. No message has this seq, so a split there is beyond every chat."""

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The limits of a page: `keep_below` and `keep_above` are the maximum rows of each side, `share_below` the rows of
    the lower side if both sides have enough, `limit` the maximum in total."""

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
    """Rows ascending by seq. The flags say whether the chat has rows before the first and after the last one; for an
    empty page, before and after the bound."""

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
    """Return the page from the fetched rows: `below` descending from the split, `above` ascending from it."""
    share_below = max(window.share_below, window.limit - len(above))
    take_below = min(len(below), window.keep_below, share_below)
    take_above = min(len(above), window.keep_above, window.limit - take_below)
    rows = [*reversed(below[:take_below]), *above[:take_above]]
    return Page(rows=rows, has_more_before=len(below) > take_below, has_more_after=len(above) > take_above)
