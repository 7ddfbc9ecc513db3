"""Makes text of users harmless where people read it: in a terminal a character can move the cursor, change what was
printed before, type into the shell's input, or reverse the order of what follows. Pure.

What is escaped: control characters (C0 with escape and newline, DEL, C1), format characters (bidirectional controls,
zero-width marks, tags), line and paragraph separators, and lone surrogates. What is kept: everything with a shape of
its own, and the two joiners, without which many emojis and some scripts cannot be written.
"""

from __future__ import annotations

import unicodedata
from typing import Final

ESCAPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
KEPT: Final = frozenset("\u200c\u200d")
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def controls(character: str) -> bool:
    """Whether a terminal may do something else with it than to show it."""
    return unicodedata.category(character) in ESCAPED_CATEGORIES and character not in KEPT


def visible(text: str) -> str:
    """The text on one line: what controls a terminal is written as Python would write it, `\\x1b` or `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(_escape(character) if controls(character) else character for character in text)


def visible_lines(text: str) -> str:
    """The same for text of several lines: newlines stay."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


def json_safe(document: str) -> str:
    """The same for a JSON document: what controls a terminal becomes JSON's own escape, so its value stays the same.

    Expects `json.dumps` without indentation: then nothing that is escaped stands outside of a string.
    """
    if document.isprintable():
        return document
    return "".join(_json_escape(character) if controls(character) else character for character in document)


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
