"""The client's key of a command: from the header `Idempotency-Key`, the body, or made here where none is needed.

The header is a structured field (RFC 8941, an item): a string in quotes, whose parameters are ignored. A bare key means
the same and is taken as it stands, so it has no parameters. A quoted key may have spaces and a client_generated_id may
not, so such a key is written in a form of its own (`wire_key`, docs/decisions/0023-keys-with-spaces.md).
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
"""What the wire form of a key with spaces begins with."""


def key_in_header(values: Sequence[str]) -> str | None:
    """The key in the header lines of `Idempotency-Key`, in its wire form; None if there is none.

    Raises Problem `malformed`: no key in it, or several different ones.
    """
    keys = {_key_of(value.strip(" \t")) for value in values}
    if not keys or keys == {""}:
        return None
    if len(keys) > 1:
        raise _malformed("header", "/idempotency-key", "The header Idempotency-Key is there twice, with two keys.")
    (key,) = keys
    return key


def wire_key(key: str) -> str:
    """The client_generated_id of a key. A key without a space is its own, unless it looks like that of another.

    No two keys have the same: in the form of others a space is a `+`, and `+` and `%` are escaped.
    """
    if " " not in key and not key.startswith(SPACED):
        return key
    return SPACED + key.replace("%", "%25").replace("+", "%2B").replace(" ", "+")


def required_key(in_header: str | None, in_body: str | None) -> str:
    """The one key of a command that needs one. Raises Problem `missing_key`, or `malformed` where the two differ."""
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
    """For commands that are idempotent by their effect: a repeat is `unchanged`, whatever its key."""
    return str(uuid.uuid4())


def _key_of(value: str) -> str:
    """The wire form of the key in one header line; "" if the line is empty."""
    if not value.startswith('"'):
        if value and not ids.is_client_generated_id(value):
            raise _malformed("header", "/idempotency-key", _FORM_IN_HEADER)
        key = value
    else:
        match = _STRUCTURED_STRING.fullmatch(value)
        if match is None:
            detail = (
                "A quoted Idempotency-Key has quotes and backslashes inside escaped, and nothing but parameters after"
                " its closing quote (RFC 8941)."
            )
            raise _malformed("header", "/idempotency-key", detail)
        key = _ESCAPED.sub(r"\1", match[1][1:-1])
        if not 1 <= len(key) <= _MOST:
            raise _malformed("header", "/idempotency-key", _FORM_IN_HEADER)
    on_the_wire = wire_key(key)
    if len(on_the_wire) > _MOST:
        detail = (
            f"A key with spaces is kept as `{SPACED}` and the key, with each % and + in it as three characters: that is"
            f" {len(on_the_wire)} here, and at most {_MOST} are possible."
        )
        raise _malformed("header", "/idempotency-key", detail)
    return on_the_wire


def _malformed(where: str, pointer: str, detail: str) -> Problem:
    error = {"pointer": pointer, "detail": detail} if where == "body" else {
        "in": where, "pointer": pointer, "detail": detail,
    }  # fmt: skip
    return Problem("malformed", detail, errors=[error])
