"""Replies from the writer to waiting ingest processes over `chat.replies`: one record per append and reply partition.

Replies may be lost; the log is the truth. A reader ignores request ids it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.json import Decoder

from schemas.canonical import canonical_json
from schemas.errors import Reason
from schemas.events import OutcomeKind


class Reply(Struct, frozen=True, kw_only=True):
    """The outcome of one command, for the process that waits for it. Absent fields are omitted on the wire."""

    request_id: str
    outcome: OutcomeKind
    partition: int
    index: int
    command_offset: int
    command_id: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    seq: int | None = None
    position: int | None = None
    sent_at_ms: int | None = None
    updated_count: int | None = None
    """For a receipt: how far the cursor moved."""
    read_seq: int | None = None
    """For a receipt: the member's read cursor afterwards."""


_ORDER = (
    "request_id", "command_id", "outcome", "reason", "detail", "seq", "position", "sent_at_ms",
    "updated_count", "read_seq", "partition", "index", "command_offset",
)  # fmt: skip


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """Return a JSON array, with fields in the order of the wire contract."""
    return canonical_json(
        [{name: value for name in _ORDER if (value := getattr(r, name)) is not None} for r in replies]
    )


_DECODER = Decoder(list[Reply])


def decode_replies(raw: bytes) -> list[Reply]:
    """Ignores unknown fields. Raises ValueError if it is not such an array."""
    try:
        return _DECODER.decode(raw)
    except RecursionError:
        raise ValueError("a record of replies nests too deep") from None
