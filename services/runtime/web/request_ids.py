"""The ids of a request: taken from its headers if valid, otherwise generated."""

from __future__ import annotations

import random
import re
from typing import Final

from services.runtime.observe.trace_context import new_traceparent, valid_traceparent

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")


def request_id_of(given: bytes | None) -> str:
    """Return the value of `X-Request-Id` if it is 1-128 visible ASCII characters, otherwise a new id."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"


def traceparent_of(given: bytes | None, request_id: str) -> str:
    """Return the value of `traceparent` if it is valid W3C, otherwise one of a new trace, named by the request id."""
    if given is not None and valid_traceparent(text := given.decode("latin-1").strip()):
        return text
    return new_traceparent(request_id)
