"""A Kafka record, for tests that need one without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.wire.encoding import Encoded


@dataclass(frozen=True)
class StoredRecord:
    """What a reader would get for an appended record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @classmethod
    def of(cls, encoded: Encoded, *, offset: int) -> StoredRecord:
        return cls(offset, 1_700_000_000_000, encoded.key, encoded.value, encoded.headers)
