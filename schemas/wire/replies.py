"""Replies from the writer to waiting ingest processes over `chat.replies`: one record per append and reply partition.

Replies may be lost; the log is the truth. A reader ignores request ids it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.json import Decoder, encode

from schemas.errors import Reason
from schemas.events import OutcomeKind


class AnyFigures(Struct, frozen=True, gc=False):
    """The figures of an answer, from the rule that decides them to the HTTP response. None if a command has no such.

    A new figure is one field here, for the answers of the types that have it, and one property in asyncapi.yaml. The
    position is the last field of both kinds below.
    """

    seq: int | None = None
    """Seq of the message; for a repeat this, the position and the revision are the original's."""
    revision: int | None = None
    """For an edit: the message's revision afterwards; for a stale one, the revision that it has."""
    updated_count: int | None = None
    """For a receipt: how far the cursor moved."""
    read_seq: int | None = None
    """For a receipt: the member's read cursor afterwards."""


class AcceptedFigures(AnyFigures, frozen=True, kw_only=True, gc=False):
    """The figures of a command that is accepted, now or when it was sent first."""

    position: int


class Figures(AnyFigures, frozen=True, gc=False):
    """The figures of any answer."""

    position: int | None = None


class Reply(Figures, frozen=True, kw_only=True, gc=False):
    """The outcome of one command, for the process that waits for it. Absent fields are omitted on the wire."""

    request_id: str
    outcome: OutcomeKind
    partition: int
    index: int
    command_offset: int
    command_id: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    sent_at_ms: int | None = None


_FIRST: Final = ("request_id", "command_id", "outcome", "reason", "detail", "seq", "position", "sent_at_ms")
_LAST: Final = ("partition", "index", "command_offset")
_ORDER: Final = (*_FIRST, *(name for name in AnyFigures.__struct_fields__ if name not in _FIRST), *_LAST)


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """Return a JSON array, with fields in the order of the wire contract."""
    return encode([{name: value for name in _ORDER if (value := getattr(r, name)) is not None} for r in replies])


_DECODER = Decoder(list[Reply])


def decode_replies(raw: bytes) -> list[Reply]:
    """Ignores unknown fields. Raises ValueError if it is not such an array."""
    try:
        return _DECODER.decode(raw)
    except RecursionError:
        raise ValueError("a record of replies nests too deep") from None
