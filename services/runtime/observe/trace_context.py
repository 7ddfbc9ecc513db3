"""W3C Trace Context: reads and creates the `traceparent` that follows a command from HTTP through the log.

No exporter is needed: an incoming traceparent is passed on unchanged, and a request without one starts a trace.
"""

from __future__ import annotations

import random
import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
MAX_TRACEPARENT_CHARS: Final = 128


def valid_traceparent(value: str) -> bool:
    """Return whether value is a valid traceparent, see https://www.w3.org/TR/trace-context/#traceparent-header."""
    if len(value) > MAX_TRACEPARENT_CHARS or (match := _TRACEPARENT.fullmatch(value)) is None:
        return False
    version, trace_id, parent_id, _flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return False  # ff is forbidden; version 00 has exactly four fields, later ones may have more
    return trace_id.strip("0") != "" and parent_id.strip("0") != ""


def new_traceparent() -> str:
    """Return the traceparent of a new trace. It is not sampled, since we record no spans."""
    while True:
        # The ids are names, not secrets: no need for the system's random source. Each process seeds its generator.
        trace_id, parent_id = random.getrandbits(128), random.getrandbits(64)
        if trace_id and parent_id:  # all zeros is not a valid id
            return f"00-{trace_id:032x}-{parent_id:016x}-00"


def trace_id_of(traceparent: str) -> str:
    """Return the trace id (32 hex digits) of a valid traceparent."""
    return traceparent[3:35]
