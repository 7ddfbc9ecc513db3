"""Reads a search query. Pure.

Words are looked for as they are, runs (Han, Kana, Hangul, Thai …) anywhere inside a run, text in quotes as a phrase.
The last word, unless it is in quotes or shorter than PREFIX_CHARACTERS, may go on: it is a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from schemas.search import Piece, masked, normalized, pairs, pieces

MAX_QUERY_CHARACTERS: Final = 200
MAX_TERMS: Final = 32
PREFIX_CHARACTERS: Final = 3
"""Shortest word that is a prefix: a shorter one would match so many words that their lists take longer to read than the
answer is worth."""
QUOTES: Final = str.maketrans(dict.fromkeys("“”„‟«»＂", '"'))
"""What keyboards write instead of a straight quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word or a run, or a phrase of several."""

    pieces: tuple[Piece, ...]
    is_prefix: bool = False


class NothingToSearch(ValueError):
    """The query has no word, or too many. The message is a sentence for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    terms: tuple[Term, ...]

    @property
    def tsquery(self) -> str:
        """What a message's lexemes must match if its text has all terms. Some may match although the text has not."""
        return " & ".join(self._operands)

    @property
    def exact_tsquery(self) -> str | None:
        """The part of it without prefixes, or None if it has only prefixes: cheap to ask for twice."""
        return " & ".join(operand for operand in self._operands if not operand.endswith("*")) or None

    @property
    def has_prefix(self) -> bool:
        """Whether the index is asked for all words that begin with a prefix."""
        return any(operand.endswith("*") for operand in self._operands)

    @property
    def _operands(self) -> list[str]:
        found: dict[str, None] = {}
        for term in self.terms:
            for piece in term.pieces:
                found.update(dict.fromkeys(_asked(piece, is_prefix=term.is_prefix)))
        return list(found)

    @property
    def needs_text(self) -> bool:
        """Whether many texts may lack a term although their lexemes match: a phrase, or a run of three or more."""
        return any(len(t.pieces) > 1 or (t.pieces[0].is_run and len(t.pieces[0].text) > 2) for t in self.terms)


def parse(text: str) -> SearchQuery:
    """Read a query. Raises NothingToSearch."""
    found: list[Term] = []
    in_quotes = False
    for number, part in enumerate(text.translate(QUOTES).split('"')):
        there = tuple(pieces(masked(normalized(part))))
        if there:
            in_quotes = number % 2 == 1
            found += [Term(pieces=there)] if in_quotes else [Term(pieces=(piece,)) for piece in there]
    if not found:
        raise NothingToSearch("There is no word in it: search for letters or digits.")
    if sum(len(term.pieces) for term in found) > MAX_TERMS:
        raise NothingToSearch(f"There are more than {MAX_TERMS} words in it: search for fewer.")
    (last, *_) = found[-1].pieces
    if not in_quotes and not last.is_run and len(last.text) >= PREFIX_CHARACTERS:
        found[-1] = replace(found[-1], is_prefix=True)
    return SearchQuery(terms=tuple(found))


def _asked(piece: Piece, *, is_prefix: bool) -> list[str]:
    """Return operands of a tsquery. Tokens hold no quotes: they are letters, marks and numbers."""
    if not piece.is_run:
        return [f"'{piece.text}':*" if is_prefix else f"'{piece.text}'"]
    if len(piece.text) == 1:
        return [f"'{piece.text}':*"]
    return [f"'{pair}'" for pair in pairs(piece.text)]
