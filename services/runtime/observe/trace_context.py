"""W3C Trace Context: reads and creates the `traceparent` that follows a command from HTTP through the log.

No exporter is needed: an incoming traceparent is passed on unchanged, and a request without one
starts a trace, named by its request id.
"""

from __future__ import annotations

import random
import re
from hashlib import sha256
from typing import Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
MAX_TRACEPARENT_CHARS: Final = 128


def valid_traceparent(value: str) -> bool:
    """Return whether value is a valid traceparent, see https://www.w3.org/TR/trace-context/#traceparent-header."""
    if len(value) > MAX_TRACEPARENT_CHARS or (match := _TRACEPARENT.fullmatch(value)) is None:
        return False
    version, trace_id, parent_id, _flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return False  # ff is forbidden; version 00 has exactly four fields, later ones may have more
    return trace_id.strip("0") != "" and parent_id.strip("0") != ""


def new_traceparent(request_id: str) -> str:
    """Return the traceparent of the trace that a request starts. It is not sampled, since we record no spans."""
    # A name, not a secret: no need for the system's random source. Each process seeds its generator.
    return f"00-{trace_id_for(request_id)}-{random.getrandbits(64) or 1:016x}-00"


def trace_id_for(request_id: str) -> str:
    """Return the trace id of a request that brought no traceparent: its request id if that can be one, as all that we
    generate can, otherwise the beginning of its SHA-256. So a request id, as a client reports it, finds its commands in
    the log (`gapless show trace`)."""
    if _TRACE_ID.fullmatch(request_id) and request_id.strip("0"):
        return request_id
    return sha256(request_id.encode()).hexdigest()[:32]


def trace_id_of(traceparent: str) -> str:
    """Return the trace id (32 hex digits) of a valid traceparent."""
    return traceparent[3:35]
