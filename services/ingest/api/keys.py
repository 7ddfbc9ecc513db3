"""The client's key of a command: from the header `Idempotency-Key`, the body, or generated if none is needed.

The header is a structured field (RFC 8941, an item): a quoted string, whose parameters are ignored. A bare key means
the same and is taken literally, so it has no parameters. A quoted key may contain spaces and a client_generated_id may
not, so such a key has a wire form of its own (`wire_key`, docs/decisions/0023-keys-with-spaces.md).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Final

from schemas import ids, limits
from services.runtime.web.problems import Problem

_STRING: Final = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_BARE_ITEM: Final = "|".join(
    (
        _STRING,
        r"-?[0-9]{1,12}\.[0-9]{1,3}",
        r"-?[0-9]{1,15}",
        r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*",
        r":[A-Za-z0-9+/=]*:",
        r"\?[01]",
    )
)
_PARAMETER: Final = rf";\x20*[a-z*][a-z0-9_\-.*]*(?:=(?:{_BARE_ITEM}))?"
_STRUCTURED_STRING: Final = re.compile(rf"({_STRING})(?:{_PARAMETER})*", re.ASCII)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_MOST: Final = limits.CLIENT_GENERATED_ID_CHARACTERS
_FORM: Final = f"A key is 1 to {_MOST} visible ASCII characters without a space."
_FORM_IN_HEADER: Final = f"A key is 1 to {_MOST} visible ASCII characters; one with spaces is put in quotes."
SPACED: Final = "spaced:"
"""Prefix of the wire form of a key with spaces."""


def key_in_header(values: Sequence[str]) -> str | None:
    """Return the key in the header lines of `Idempotency-Key`, in its wire form; None without such a header.

    Raises Problem `malformed` if it contains no key, or several different ones.
    """
    keys = {_key_of(value.strip(" \t")) for value in values}
    if not keys or keys == {""}:
        return None
    if len(keys) > 1:
        raise _malformed("header", "/idempotency-key", "The header Idempotency-Key occurs twice, with two keys.")
    (key,) = keys
    return key


def wire_key(key: str) -> str:
    """Return the client_generated_id of a key: the key itself if it has no space and does not begin with SPACED.

    The mapping is injective: in the wire form of other keys a space is `+`, and `+` and `%` are escaped.
    """
    if " " not in key and not key.startswith(SPACED):
        return key
    return SPACED + key.replace("%", "%25").replace("+", "%2B").replace(" ", "+")


def required_key(in_header: str | None, in_body: str | None) -> str:
    """Return the key of a command that needs one. Raises Problem `missing_key`, or `malformed` if the two differ."""
    if in_body is not None and not ids.is_client_generated_id(in_body):
        raise _malformed("body", "/client_generated_id", _FORM)
    if in_header is None and in_body is None:
        raise Problem("missing_key", "Send the header Idempotency-Key or the field client_generated_id.")
    if in_header is not None and in_body is not None and in_header != in_body:
        detail = "It differs from the header Idempotency-Key: send one of the two, or the same key in both."
        raise _malformed("body", "/client_generated_id", detail)
    key = in_header if in_header is not None else in_body
    assert key is not None
    return key


def fresh_key() -> str:
    """Return a random key, for commands that are idempotent by their effect: a repeat is `unchanged` with any key."""
    return str(uuid.uuid4())


def _key_of(value: str) -> str:
    """Return the wire form of the key in one header line; "" if the line is empty."""
    if not value.startswith('"'):
        if value and not ids.is_client_generated_id(value):
            raise _malformed("header", "/idempotency-key", _FORM_IN_HEADER)
        key = value
    else:
        match = _STRUCTURED_STRING.fullmatch(value)
        if match is None:
            detail = (
                "In a quoted Idempotency-Key, escape quotes and backslashes, and put only parameters after the closing"
                " quote (RFC 8941)."
            )
            raise _malformed("header", "/idempotency-key", detail)
        key = _ESCAPED.sub(r"\1", match[1][1:-1])
        if not 1 <= len(key) <= _MOST:
            raise _malformed("header", "/idempotency-key", _FORM_IN_HEADER)
    on_the_wire = wire_key(key)
    if len(on_the_wire) > _MOST:
        detail = (
            f"A key with spaces is stored as `{SPACED}` and the key, with each % and + in it as three characters: here"
            f" that is {len(on_the_wire)}, and the maximum is {_MOST}."
        )
        raise _malformed("header", "/idempotency-key", detail)
    return on_the_wire


def _malformed(where: str, pointer: str, detail: str) -> Problem:
    error = {"pointer": pointer, "detail": detail} if where == "body" else {
        "in": where, "pointer": pointer, "detail": detail,
    }  # fmt: skip
    return Problem("malformed", detail, errors=[error])
