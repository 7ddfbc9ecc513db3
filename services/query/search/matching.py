"""Where the terms of a query are in a text. Pure.

The index answers for lexemes: it knows no order, and pairs of characters may come from two places. The text decides. It
is also the present one, while the index may be behind it or ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from unicodedata import category, normalize

from schemas.search import Piece, masked, normalized, pieces
from services.query.search.terms import SearchQuery, Term


class Span(NamedTuple):
    """A part of a text, in code points: from `start` to before `end`."""

    start: int
    end: int


def find(query: SearchQuery, text: str) -> list[Span] | None:
    """Return where the terms are in the text, merged and in order, or None unless the text has every term."""
    plain = normalized(text)
    there = list(pieces(masked(plain)))
    found: list[Span] = []
    for term in query.terms:
        spans = list(_places(term, there))
        if not spans:
            return None
        found += spans
    return _merged(found if text.isascii() else _in_original(text, found))


def _places(term: Term, there: Sequence[Piece]) -> Iterator[Span]:
    if len(term.pieces) > 1:
        yield from _phrase_places(term.pieces, there)
        return
    (wanted,) = term.pieces
    for piece in there:
        if piece.is_run != wanted.is_run:
            continue
        if wanted.is_run:
            at = piece.text.find(wanted.text)
            while at >= 0:
                yield Span(piece.start + at, piece.start + at + len(wanted.text))
                at = piece.text.find(wanted.text, at + len(wanted.text))
        elif piece.text == wanted.text:
            yield Span(piece.start, piece.end)
        elif term.is_prefix and piece.text.startswith(wanted.text):
            yield Span(piece.start, piece.start + len(wanted.text))


def _phrase_places(wanted: Sequence[Piece], there: Sequence[Piece]) -> Iterator[Span]:
    """A run at the edge of a phrase may go on beyond it; everything else is whole."""
    first, *middle, last = wanted
    for at in range(len(there) - len(wanted) + 1):
        begins, *between, ends = there[at : at + len(wanted)]
        if (
            [piece[:2] for piece in between] == [piece[:2] for piece in middle]
            and begins.is_run == first.is_run
            and ends.is_run == last.is_run
            and (begins.text.endswith(first.text) if first.is_run else begins.text == first.text)
            and (ends.text.startswith(last.text) if last.is_run else ends.text == last.text)
        ):
            start = begins.end - len(first.text) if first.is_run else begins.start
            yield Span(start, ends.start + len(last.text) if last.is_run else ends.end)


def _merged(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(span.end, found[-1].end))
        else:
            found.append(span)
    return found


def _in_original(text: str, spans: Sequence[Span]) -> list[Span]:
    """Convert places in the normalized text to places in the text: whole characters with their marks."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in clusters(text):
        length = len(normalized(text[start:end]))
        starts += [start] * length
        ends += [end] * length
    return [Span(starts[span.start], ends[span.end - 1]) for span in spans]


def clusters(text: str) -> Iterator[Span]:
    """Divide a text between characters that are normalized one by one, so that its normalized text is theirs."""
    starts = [at for at, character in enumerate(text) if at == 0 or not joins(character)]
    for start, end in pairwise([*starts, len(text)]):
        yield Span(start, end)


@lru_cache(maxsize=4_096)
def joins(character: str) -> bool:
    """Return whether a character may become one with that before it: a mark, a format character, a Hangul vowel or
    final consonant."""
    first = normalize("NFKD", character)[0]
    return (
        category(first)[0] == "M"
        or category(character) == "Cf"
        or "\u1160" <= first <= "\u11ff"
        or "\ud7b0" <= first <= "\ud7ff"
    )
