"""The part of a message's text that an answer shows, with its matches. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.query.search.matching import Span, joins

SNIPPET_CHARACTERS: Final = 200
BEFORE_CHARACTERS: Final = 60
"""Code points shown before the first match."""


class Snippet(NamedTuple):
    text: str
    start: int
    """Its place in the text, in code points."""
    matches: Sequence[Span]
    """In the snippet, in code points."""


def snippet_of(text: str, matches: Sequence[Span]) -> Snippet:
    """Return the part of a text around its first match. It begins and ends between characters with their marks."""
    start, end = 0, len(text)
    if len(text) > SNIPPET_CHARACTERS:
        start = max(0, min(matches[0].start - BEFORE_CHARACTERS, len(text) - SNIPPET_CHARACTERS))
        while start > 0 and joins(text[start]) and start < matches[0].start:
            start += 1
        end = min(len(text), start + SNIPPET_CHARACTERS)
        while start < end < len(text) and joins(text[end]):
            end -= 1
    shown = [Span(max(span.start, start) - start, min(span.end, end) - start) for span in matches]
    return Snippet(text[start:end], start, [span for span in shown if 0 <= span.start < span.end])
