"""Search: the lexemes of a message, and the words of a query, by the same rules. Pure.

The projector stores the lexemes; query turns what a user types into words by the same steps, and looks for them in
texts. docs/read-model.md, "Words", has the rules, from which the verifiers have code of their own.

1. `normalized`  one spelling of a text: compatibility forms, case and accents make no difference
2. `masked`      without the parts of URLs that are not searched
3. `pieces`      words, and runs of the scripts that are written without spaces
4. `tokens`      words as they are; runs as pairs of characters, so that each word inside a run is found
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from schemas.ids import ChatId
from schemas.wire.extensions import extension

MAX_TOKENS: Final = 256
"""Maximum distinct tokens of a message: the first ones. The rest of a longer text is not found."""
MAX_TOKEN_CHARACTERS: Final = 64
"""Longer words are cut, in messages and in queries."""
HOUR_MS: Final = 3_600_000
BLOCK_HOURS: Final = 32
"""Number of hours in a block, and of blocks in a long block."""

UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Han: iteration mark, closing mark, zero
    (0x3021, 0x3029),
    (0x3031, 0x3035),  # Kana
    (0x3038, 0x303C),
    (0x3040, 0x31FF),  # Kana, Bopomofo, Hangul
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),  # Hangul
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Han
    (0x1AFF0, 0x1B16F),  # Kana
    (0x20000, 0x3FFFF),  # Han
)
"""Scripts without spaces between words, or with endings that grow into them: Han, Kana, Hangul, Thai and kin."""
STRIPPED: Final = (
    (0x0300, 0x036F),  # Latin, Greek, Cyrillic
    (0x0483, 0x0489),
    (0x0591, 0x05C7),  # Hebrew points
    (0x0610, 0x061A),  # Arabic vowels
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
"""Blocks whose marks are dropped. Marks elsewhere are letters: vowel signs of Thai and Indic scripts, voiced Kana."""
SELECTORS: Final = ((0x180B, 0x180D), (0x180F, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""Variation selectors, which are dropped."""
TATWEEL: Final = 0x0640
ZERO_WIDTH_SPACE: Final = 0x200B
"""It separates words; all other format characters are dropped."""


def _classes() -> tuple[str, str, str]:
    """Return the insides of three character classes: what is dropped, characters of words, characters of runs."""
    unspaced, stripped, selectors = map(_codes, (UNSPACED, STRIPPED, SELECTORS))
    dropped: list[int] = []
    word: list[int] = []
    run: list[int] = []
    for code in (*range(0x40000), *range(0xE0000, 0xE0200)):  # no letter, mark or number is elsewhere
        category = unicodedata.category(chr(code))
        if category == "Cf":
            if code != ZERO_WIDTH_SPACE:
                dropped.append(code)
        elif category[0] in "LMN":
            if code == TATWEEL or code in selectors or (category[0] == "M" and code in stripped):
                dropped.append(code)
            else:
                (run if code in unspaced else word).append(code)
    return _class(dropped), _class(word), _class(run)


def _codes(ranges: Iterable[tuple[int, int]]) -> frozenset[int]:
    return frozenset(code for first, last in ranges for code in range(first, last + 1))


def _class(codes: Iterable[int]) -> str:
    found = []
    for _, group in groupby(enumerate(codes), key=lambda place: place[1] - place[0]):
        among = list(map(itemgetter(1), group))
        found.append(f"{_escaped(among[0])}-{_escaped(among[-1])}" if len(among) > 1 else _escaped(among[0]))
    return "".join(found)


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


_DROPPED, _WORD, _RUN = _classes()
_dropped: Final = re.compile(f"[{_DROPPED}]+")
is_dropped: Final = re.compile(f"[{_DROPPED}]").match
_piece: Final = re.compile(f"(?P<run>[{_RUN}]+)|[{_WORD}]+")
_ascii_word: Final = re.compile("[0-9a-z]+")
_url: Final = re.compile(
    r"(?P<scheme>https?://)(?P<user>[^\s/?#@]*@)?[^\s/?#:]*(?P<port>:[0-9]+)?(?P<path>[^\s?#]*)(?P<rest>[?#][!-~]*)?"
)
_escape: Final = re.compile("%[0-9a-f]{2}")


def normalized(text: str) -> str:
    """Return the one spelling of a text in which texts are compared: NFKC, case folded, without accents."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFC", _dropped.sub("", unicodedata.normalize("NFD", folded)))


def masked(text: str) -> str:
    """Return a normalized text of the same length, with spaces for what is not searched of its URLs: scheme, user,
    port, query, fragment and escapes like `%20`."""
    if "://" not in text:
        return text
    characters = list(text)
    for url in _url.finditer(text):
        hidden = [url.span(part) for part in ("scheme", "user", "port", "rest")]
        hidden += [escape.span() for escape in _escape.finditer(text, *url.span("path"))]
        for start, end in hidden:
            characters[start:end] = " " * (end - start)  # (-1, -1) for a part that is not there: nothing
    return "".join(characters)


class Piece(NamedTuple):
    """A word or a run of a text, and its place there."""

    text: str
    is_run: bool
    start: int
    end: int


def pieces(text: str) -> Iterator[Piece]:
    """Yield the words and runs of a normalized and masked text, in order. Long words are cut; their places are not."""
    for found in _piece.finditer(text):
        start, end = found.span()
        if found.lastgroup is None:
            yield Piece(text[start : min(end, start + MAX_TOKEN_CHARACTERS)], False, start, end)
        else:
            yield Piece(text[start:end], True, start, end)


def pairs(run: str) -> list[str]:
    """Return each two neighbours of a run."""
    return [run[at : at + 2] for at in range(len(run) - 1)]


def tokens(text: str) -> list[str]:
    """Return the distinct tokens of a message's text, in the order of the text, at most MAX_TOKENS.

    The last character of a run is a token too: with it, each character of the run begins a token, so that a query of
    one character finds it as a prefix.
    """
    if _compiled is not None:
        found: list[str] | None = _compiled.ascii_tokens(text, MAX_TOKENS, MAX_TOKEN_CHARACTERS)
        if found is not None:
            return found
    return plain_tokens(text)


_compiled: Final = extension("schemas._tokens")


def plain_tokens(text: str) -> list[str]:
    """As `tokens`, without compiled code."""
    plain = masked(normalized(text))
    found: dict[str, None] = {}
    if plain.isascii():
        for word in _ascii_word.findall(plain):
            found[word[:MAX_TOKEN_CHARACTERS]] = None
    else:
        for piece in pieces(plain):
            if piece.is_run:
                found.update(dict.fromkeys(pairs(piece.text)))
                found[piece.text[-1]] = None
            else:
                found[piece.text] = None
            if len(found) >= MAX_TOKENS:
                break
    return list(found)[:MAX_TOKENS]


CHAT_MARK: Final = "c:"
"""What the lexeme of a chat begins with. No token holds a colon."""


def chat_lexeme(chat_id: ChatId) -> str:
    """Return the lexeme of a message's chat."""
    return f"{CHAT_MARK}{chat_id}"


def time_lexemes(sent_ms: int) -> tuple[str, str, str]:
    """Return the lexemes of the hour in which a message was sent, of its block and of its long block.

    A search walks back in time by them, hours first, and stops when its page is full.
    """
    hour = sent_ms // HOUR_MS
    return f"h:{hour}", f"i:{hour // BLOCK_HOURS}", f"j:{hour // BLOCK_HOURS**2}"


def lexemes(chat_id: ChatId, sent_ms: int, text: str | None) -> list[str]:
    """Return all lexemes of a message, in no particular order."""
    return [chat_lexeme(chat_id), *time_lexemes(sent_ms), *(tokens(text) if text else ())]
