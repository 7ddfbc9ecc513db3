"""Makes users' text safe to print: in a terminal, a character can move the cursor, change earlier output, type into the
shell's input, or reverse the text that follows. Pure.

Escaped are control characters (C0 with escape and newline, DEL, C1), format characters (bidirectional controls,
zero-width marks, tags), line and paragraph separators, and lone surrogates. Kept are all visible characters, and the
two joiners, without which many emojis and some scripts cannot be written.
"""

from __future__ import annotations

import unicodedata
from typing import Final

ESCAPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
KEPT: Final = frozenset("\u200c\u200d")
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def controls(character: str) -> bool:
    """Return whether a terminal may do anything but display the character."""
    return unicodedata.category(character) in ESCAPED_CATEGORIES and character not in KEPT


def visible(text: str) -> str:
    """Return the text on one line, with terminal controls escaped as Python does: `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(_escape(character) if controls(character) else character for character in text)


def visible_lines(text: str) -> str:
    """Return the text with terminal controls escaped, except newlines."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


def json_safe(document: str) -> str:
    """Return the JSON document with terminal controls as JSON escapes, so that its value stays the same.

    Expects the output of `json.dumps` without indentation: then everything to escape is inside strings.
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
