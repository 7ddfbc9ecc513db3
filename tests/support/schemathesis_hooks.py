"""What schemathesis has to know about our API and cannot read in the OpenAPI document: how NDJSON is written."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def one_value_on_a_line(_context: Any, value: Any) -> bytes:
    """Return a body of one line: the document describes one message of a batch."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
