"""What is looked at before a parser sees a body, so that a bad one costs no more than the answer to it is worth.

A parser builds every value before anyone can count them. So depth, digits and the number of values are bounded here,
on the bytes.
"""

from __future__ import annotations

import re
from typing import Final

from schemas import limits
from schemas.errors import Reason, Refused

_EACH: Final = 3
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_ZEROS: Final = b"0" * ((limits.NUMBER_DIGITS + 1) // _EACH)
_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % (limits.NUMBER_DIGITS + 1))
_AS_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def guard_before_parsing(raw: bytes) -> None:
    """Refuse nesting, numbers and amounts of values that would cost a parser more than they can be worth.

    The common body passes by a few searches and a look at every third byte, without being taken apart: of more than 32
    digits in a row eleven would be among these, one behind the other, which ids and times hardly ever have.

    Raises Refused.
    """
    flat = raw.find(b"{", 1) < 0 and raw.find(b"[", 1) < 0
    if (
        (flat or raw.count(b"{") + raw.count(b"[") <= limits.BODY_DEPTH)
        and (
            len(raw) <= limits.NUMBER_DIGITS
            or _ZEROS not in raw[::_EACH].translate(_DIGITS_AS_ZEROS)
            or _MANY_DIGITS.search(raw) is None
        )
        and (len(raw) <= limits.BODY_PARTS or raw.count(b",") <= limits.BODY_PARTS)
    ):
        return
    bare = _outside_strings(raw)
    if _MANY_DIGITS.search(bare) is not None:
        raise Refused(Reason.INVALID, f"a number has at most {limits.NUMBER_DIGITS} digits")
    brackets = bare.translate(_AS_BRACKETS, _NO_BRACKETS)
    if _deeper_than(limits.BODY_DEPTH, brackets):
        raise Refused(Reason.INVALID, f"metadata nests at most {limits.METADATA_DEPTH} levels", "/metadata")
    if max(brackets.count(b"["), bare.count(b",")) > limits.BODY_PARTS:
        raise Refused(Reason.TOO_LARGE, "the body holds more values than any command can have")


def _deeper_than(depth: int, brackets: bytes) -> bool:
    """Take the innermost level away `depth` times, and see whether anything nests on. What is left without a pair
    closes nothing, or is never closed: no parser follows it deeper than it opens."""
    for _ in range(depth):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            break
        brackets = inner
    return b"[]" in brackets or brackets.count(b"[") > depth


def _outside_strings(raw: bytes) -> bytes:
    """The body with a single quote in place of each string; an unclosed string reaches to the end."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b'"'.join(raw.split(b'"')[::2])
