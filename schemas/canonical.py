"""Canonical JSON: the one spelling of a value in bodies and replies."""

from __future__ import annotations

import json


def canonical_json(value: object) -> bytes:
    """UTF-8, no spaces, nothing escaped that need not be. Raises ValueError for NaN, infinities, lone surrogates."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
