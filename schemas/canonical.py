"""JSON as this project writes it: in outcomes, heartbeats and the projection. Bodies: schemas/bodies/body.py."""

from __future__ import annotations

from typing import Final

from msgspec.json import Encoder

_encode: Final = Encoder().encode


def canonical_json(value: object) -> bytes:
    """Return UTF-8 without spaces, nothing escaped that need not be, keys in the order given.

    Raises ValueError for lone surrogates. NaN and infinities become null: whoever takes numbers from outside checks
    them (schemas/checks.py).
    """
    return _encode(value)
