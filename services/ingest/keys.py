"""The client's key of a command: from the header `Idempotency-Key`, the body, or made here where none is needed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Final

from schemas import ids, limits
from services.runtime.problems import Problem

_STRUCTURED_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_FORM: Final = f"A key is 1 to {limits.CLIENT_GENERATED_ID_CHARACTERS} visible ASCII characters without a space."


def key_in_header(values: Sequence[str]) -> str | None:
    """The key in the header lines of `Idempotency-Key`, quoted (RFC 8941 string) or bare; None where there is none.

    Raises Problem `malformed`: no key in it, or several different ones.
    """
    keys = {_unquoted(value.strip(" \t")) for value in values}
    if not keys or keys == {""}:
        return None
    if len(keys) > 1:
        raise _malformed("header", "/idempotency-key", "The header Idempotency-Key is there twice, with two keys.")
    (key,) = keys
    if not ids.is_client_generated_id(key):
        raise _malformed("header", "/idempotency-key", _FORM)
    return key


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


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    match = _STRUCTURED_STRING.fullmatch(value)
    if match is None:
        detail = "A quoted Idempotency-Key ends with a quote, and has quotes and backslashes inside escaped."
        raise _malformed("header", "/idempotency-key", detail)
    if not match[1]:
        raise _malformed("header", "/idempotency-key", _FORM)
    return _ESCAPED.sub(r"\1", match[1])


def _malformed(where: str, pointer: str, detail: str) -> Problem:
    error = {"pointer": pointer, "detail": detail} if where == "body" else {
        "in": where, "pointer": pointer, "detail": detail,
    }  # fmt: skip
    return Problem("malformed", detail, errors=[error])
