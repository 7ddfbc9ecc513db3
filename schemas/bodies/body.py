"""What all bodies share: decoding with the place of the fault, canonical JSON, UUIDs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct, ValidationError
from msgspec.json import Decoder, Encoder

from schemas import limits
from schemas.errors import Reason, Refused

Uuid = Annotated[
    str,
    Meta(
        title="Uuid",
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z",
        extra_json_schema={"maxLength": 36},
    ),
]
r"""A UUID in wire form. `\Z`, because msgspec's patterns are Python's: `$` would let a line end through."""

Seq = Annotated[int, Meta(title="Seq", extra_json_schema={"minimum": 1, "maximum": limits.SAFE_INTEGER})]


class Body(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A command's body. `gc=False`: a batch has a hundred thousand of them, none in a cycle."""

    def check_limits(self) -> None:
        """Raise Refused, with the JSON pointer of the part at fault, if a part is outside its limit.

        Here there is nothing to check: a UUID or a role is in order if it parses.
        """


B = TypeVar("B", bound=Body)


@cache
def decoder(model: type[B]) -> Callable[[bytes], B]:
    """Return the function that decodes JSON as such a body, without its limits.

    It stops at the first fault and raises ValueError (as msgspec's errors are), or RecursionError for deep nesting.
    """
    return Decoder(model).decode


def canonical_body(body: Body) -> bytes:
    """Return the one spelling of a body, so that a retry has the same bytes: keys in declared order, no spaces, absent
    optionals left out, strings unchanged, metadata with keys sorted at every level.

    The body is within its limits. (Of what is not: NaN and infinities would be written as null.)
    """
    return _encode(body)


_encode: Final = Encoder(order="deterministic").encode


def malformed(error: Exception) -> Refused:
    """Return the refusal for an error of a decoder. It names the place and what is expected there, not what was
    sent."""
    if not isinstance(error, ValidationError):
        return Refused(Reason.MALFORMED, "the body is not JSON that can be read")
    message = str(error)
    if message.startswith(_UNKNOWN):  # the name follows, in back-quotes; it may contain anything
        pointer = _pointer([message[len(_UNKNOWN) : -1]])
        return Refused(Reason.MALFORMED, "the body has a field that this command does not have", pointer)
    fault, _, path = message.partition(" - at `$")
    pointer = _pointer([name or index for name, index in _STEPS.findall(path)])
    if fault.startswith(_MISSING):
        pointer = _pointer([fault[len(_MISSING) : -1]])
        return Refused(Reason.MALFORMED, "the body lacks a field that this command must have", pointer)
    if fault == "Number out of range" and "[...]" in path:
        return Refused(Reason.INVALID, "a number is finite", pointer)
    if fault.startswith("Invalid enum value"):
        fault = "not one of the values that this field can have"
    elif "matching regex" in fault:
        fault = "not a UUID in lower case"
    return Refused(Reason.MALFORMED, fault.replace("`", ""), pointer)


_UNKNOWN: Final = "Object contains unknown field `"
_MISSING: Final = "Object missing required field `"
_STEPS: Final = re.compile(r"\.(\w+)|\[(\d+)\]")
"""Steps of a path as `.media_urls[1]`. Members of metadata stand there as `[...]`: the pointer ends above them."""


def _pointer(path: list[str]) -> str:
    """Return a JSON pointer of at most 200 characters: senders choose the names of unknown fields."""
    return "".join("/" + part[:200].replace("~", "~0").replace("/", "~1") for part in path)[:200]
