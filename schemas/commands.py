"""Parses and checks the body of a command.

A body is checked in three steps, each with its own answer: guarded before it is parsed (depth, digits and the number
of values: a parser must not be the first to see 20,000 levels), decoded (`malformed`), and held against the limits
(`too_large`, `invalid`). Ingest runs the same checks to answer early; what the writer says counts.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from schemas import limits
from schemas.bodies import Body, decoder, malformed
from schemas.errors import Reason, Refused
from schemas.guard import guard_before_parsing
from schemas.types import BODY_OF

_DECODE: Final[dict[str, Callable[[bytes], Body]]] = {name: decoder(model) for name, model in BODY_OF.items()}


def digest(command_type: str, body: bytes) -> bytes:
    """Return the digest that compares payloads under one key: blake2b-128 over type, a zero byte and the body."""
    begun = _BEGUN.get(command_type)
    hashed = begun.copy() if begun is not None else digest_begun(command_type)
    hashed.update(body)
    return hashed.digest()


def digest_begun(command_type: str) -> blake2b:
    """Return the hash to which only the body is missing."""
    return blake2b(command_type.encode() + b"\0", digest_size=16)


_BEGUN: Final = {command_type: digest_begun(command_type) for command_type in BODY_OF}


def parse_body(command_type: str, raw: bytes) -> Body:
    """Return the checked body of a command of a known type.

    Raises Refused: `too_large`, `malformed` (not the JSON this type has) or `invalid` (outside a limit).
    Never raises anything else, whatever the bytes.
    """
    if len(raw) > limits.COMMAND_BYTES:
        raise Refused(Reason.TOO_LARGE, f"a command has at most {limits.COMMAND_BYTES} bytes")
    guard_before_parsing(raw)
    try:
        body = _DECODE[command_type](raw)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
    body.check_limits()
    return body
