"""Parses and checks the body of a command.

A body is checked in three steps, each with its own answer: guarded before it is parsed (depth, digits, and how much
there is of it: a parser must not be the first to see 20,000 levels, or 20,000 unknown fields), parsed into its model
(`malformed`), and held against the limits (`too_large`, `invalid`). Ingest runs the same functions to answer early;
what the writer says counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar, Final

from msgspec import Struct
from msgspec.json import Decoder
from pydantic import ValidationError

from schemas import limits
from schemas.bodies import Body
from schemas.errors import Reason, Refused
from schemas.guard import guard_before_parsing, unknown_fields
from schemas.types import BODY_OF

_PARSE: Final = {name: model.__pydantic_validator__.validate_json for name, model in BODY_OF.items()}
"""The validators behind `model_validate_json`, without its handling of options."""

_MAX_UNKNOWN: Final = 8
"""Number of unknown fields up to which pydantic is left to report the first fault."""


def digest(command_type: str, body: bytes) -> bytes:
    """Return the digest that compares payloads under one key: blake2b-128 over type, a zero byte and the body."""
    begun = _BEGUN.get(command_type)
    hashed = begun.copy() if begun is not None else _begun(command_type)
    hashed.update(body)
    return hashed.digest()


def _begun(command_type: str) -> blake2b:
    return blake2b(command_type.encode() + b"\0", digest_size=16)


_BEGUN: Final = {command_type: _begun(command_type) for command_type in BODY_OF}


def parse_body(command_type: str, raw: bytes) -> Body:
    """Return the checked body of a command of a known type.

    Raises Refused: `too_large`, `malformed` (not the JSON this type has) or `invalid` (outside a limit).
    Never raises anything else, whatever the bytes.
    """
    if len(raw) > limits.COMMAND_BYTES:
        raise Refused(Reason.TOO_LARGE, f"a command has at most {limits.COMMAND_BYTES} bytes")
    guard_before_parsing(raw)
    unknown = unknown_fields(BODY_OF[command_type], raw, _MAX_UNKNOWN, raw.count(b":"))
    if unknown:
        raise Refused(Reason.MALFORMED, "the body has fields that this command does not have", _pointer(unknown[:1]))
    try:
        body: Body = _PARSE[command_type](raw)
    except ValidationError as error:
        raise _malformed(error) from None
    except Exception as error:
        raise Refused(Reason.MALFORMED, "the body is not JSON that can be read") from error
    body.check_limits()
    return body


class PlainSend(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of most sends: a text and nothing else."""

    text: str
    reply_to_message_id: ClassVar[None] = None


_PLAIN_SEND: Final = Decoder(PlainSend)


def plain_send(raw: bytes) -> PlainSend | None:
    """Parse a body that is only an ASCII text within the limits, at an eighth of the cost of `parse_body`.
    None for any other: that tells what it is. It needs no guard, since it stops where anything is nested or a number.
    """
    try:
        body = _PLAIN_SEND.decode(raw)
    except ValueError:  # msgspec's errors and UnicodeDecodeError
        return None
    text = body.text
    return body if 0 < len(text) <= limits.TEXT_CHARACTERS and text.isascii() and "\0" not in text else None


def _malformed(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return Refused(Reason.MALFORMED, first["msg"][:200], _pointer(first["loc"]))


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(part)[:200].replace("~", "~0").replace("/", "~1") for part in path)[:200]
