"""The lexemes of a message, by docs/read-model.md, "Words". The verifier's own reading of that page.

It shares no line with schemas/search.py, by which projector and query work: this one goes through a text character by
character. It must stay so: a line shared with them would let one bug hide in the table and in its proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final
from unicodedata import category, normalize

TOKENS_OF_A_MESSAGE: Final = 256
TOKEN_CHARACTERS: Final = 64
MS_OF_HOUR: Final = 3_600_000
SPACELESS: Final = (
    "0E00-0EFF 1000-109F 1100-11FF 1780-17FF 3005-3007 3021-3029 3031-3035 3038-303C 3040-31FF 3400-4DBF 4E00-9FFF"
    " A960-A97F A9E0-A9FF AA60-AA7F AC00-D7FF F900-FAFF 1AFF0-1B16F 20000-3FFFF"
)
"""Blocks of Thai, Lao, Myanmar, Khmer, Hangul, Kana and Han."""
ACCENTS: Final = (
    "0300-036F 0483-0489 0591-05C7 0610-061A 064B-065F 0670-0670 06D6-06ED 1AB0-1AFF 1DC0-1DFF 20D0-20FF FE20-FE2F"
)
"""Blocks of the marks that are dropped."""
SELECTORS: Final = "180B-180D 180F-180F FE00-FE0F E0100-E01EF"


def _blocks(text: str) -> list[tuple[str, str]]:
    ends = [block.split("-") for block in text.split()]
    return [(chr(int(first, 16)), chr(int(last, 16))) for first, last in ends]


_SPACELESS: Final = _blocks(SPACELESS)
_ACCENTS: Final = _blocks(ACCENTS)
_SELECTORS: Final = _blocks(SELECTORS)


def _among(character: str, blocks: list[tuple[str, str]]) -> bool:
    return any(first <= character <= last for first, last in blocks)


def all_lexemes(chat_id: str, sent_us: int, text: str) -> list[str]:
    """Return all lexemes of a message, sorted."""
    hour = sent_us // 1000 // MS_OF_HOUR
    times = [f"h:{hour}", f"i:{hour // 32}", f"j:{hour // 1024}"]
    return sorted(["c:" + chat_id, *times, *tokens_of(text)])


def tokens_of(text: str) -> list[str]:
    """Return the distinct tokens of a text, at most TOKENS_OF_A_MESSAGE."""
    found: list[str] = []
    known: set[str] = set()
    for token in _tokens(_without_url_parts(_one_spelling(text))):
        if token not in known:
            known.add(token)
            found.append(token)
            if len(found) == TOKENS_OF_A_MESSAGE:
                break
    return found


def _one_spelling(text: str) -> str:
    folded = normalize("NFD", normalize("NFKC", text).casefold())
    return normalize("NFC", "".join(character for character in folded if not _is_dropped(character)))


def _is_dropped(character: str) -> bool:
    kind = category(character)
    if kind == "Cf":
        return character != "\N{ZERO WIDTH SPACE}"
    if kind[0] == "M" and _among(character, _ACCENTS):
        return True
    return character == "\N{ARABIC TATWEEL}" or _among(character, _SELECTORS)


def _without_url_parts(text: str) -> str:
    shown = list(text)
    at = 0
    while (start := text.find("http", at)) >= 0:
        after = start + len("http")
        if text.startswith("s", after):
            after += 1
        if not text.startswith("://", after):
            at = start + 1
            continue
        at = _hide_parts(text, shown, start, after + len("://"))
    return "".join(shown)


def _hide_parts(text: str, shown: list[str], start: int, host: int) -> int:
    """Put spaces for the parts of a URL that are not searched. Returns where it ends."""
    _hide(shown, start, host)
    user = _until(text, host, "/?#@")
    if text.startswith("@", user):
        _hide(shown, host, user + 1)
        host = user + 1
    path = _until(text, host, "/?#:")
    if text.startswith(":", path):
        digits = path + 1
        while digits < len(text) and text[digits] in "0123456789":
            digits += 1
        if digits > path + 1:
            _hide(shown, path, digits)
            path = digits
    end = _until(text, path, "?#")
    escape = path
    while escape + 3 <= end:
        if text[escape] == "%" and all(digit in "0123456789abcdef" for digit in text[escape + 1 : escape + 3]):
            _hide(shown, escape, escape + 3)
            escape += 3
        else:
            escape += 1
    if end < len(text) and text[end] in "?#":
        rest = end + 1
        while rest < len(text) and "!" <= text[rest] <= "~":
            rest += 1
        _hide(shown, end, rest)
        end = rest
    return end


def _until(text: str, at: int, stops: str) -> int:
    while at < len(text) and text[at] not in stops and not text[at].isspace():
        at += 1
    return at


def _hide(shown: list[str], start: int, end: int) -> None:
    for at in range(start, end):
        shown[at] = " "


def _tokens(text: str) -> Iterator[str]:
    for is_run, piece in _pieces(text):
        if not is_run:
            yield piece[:TOKEN_CHARACTERS]
            continue
        for left, right in pairwise(piece):
            yield left + right
        yield piece[-1]


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield words and runs: (whether it is a run, its text)."""
    piece, of_run = "", False
    for character in text:
        searched = category(character)[0] in "LMN"
        is_run = searched and _among(character, _SPACELESS)
        if piece and (not searched or is_run != of_run):
            yield of_run, piece
            piece = ""
        if searched:
            piece, of_run = piece + character, is_run
    if piece:
        yield of_run, piece
