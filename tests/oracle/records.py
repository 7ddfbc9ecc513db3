"""Commands and outcomes as the oracle reads them from their records, without the code of `schemas`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas import ids
from schemas.ids import ChatId, UserId

Json = dict[str, Any]
Headers = Mapping[str, str]

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_KINDS: Final = {
    "command.duplicate.v1": "duplicate",
    "command.unchanged.v1": "unchanged",
    "command.rejected.v1": "rejected",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A valid outcome."""

    partition: int
    offset: int
    term: int
    index: int
    command_offset: int
    type: str
    at_ms: int
    chat: str | None
    sender: str | None
    command_id: str | None
    client_id: str | None
    position: int | None
    seq: int | None
    raw: bytes
    body: Json

    @property
    def kind(self) -> str:
        """accepted, duplicate, unchanged or rejected."""
        return _KINDS.get(self.type, "accepted")

    @property
    def place(self) -> str:
        return f"events {self.partition}@{self.offset}"


def text_headers(headers: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """Decode headers to text: the last value of a repeated name counts, and a value that is not UTF-8 is absent."""
    found: dict[str, str] = {}
    for name, value in headers:
        try:
            found[name] = value.decode()
        except UnicodeDecodeError:
            found.pop(name, None)
    return found


def uuid_or_none(raw: bytes | str | None) -> str | None:
    """Return a lower-case UUID as text, or None for anything else."""
    text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw
    return text if text is not None and _UUID.fullmatch(text) is not None else None


def command_id_of(chat: str, sender: str, key: str) -> str | None:
    """Return the command_id that belongs to an idempotency key, or None for a key that is not valid."""
    if _CLIENT_ID.fullmatch(key) is None:
        return None
    return str(ids.command_id(ChatId(chat), UserId(sender), key))


def read_outcome(
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int,
    offset: int,
    at_ms: int,
    stamp: tuple[int, int, int],
) -> Outcome:
    """Read an outcome whose `stamp` (term, index, command offset) is known. Raises ValueError if it has no valid body
    or figures."""
    position, seq = headers.get("ce_position"), headers.get("ce_seq")
    body = json.loads(value or b"")
    if not isinstance(body, dict):
        raise ValueError("its body is no object")
    term, index, command_offset = stamp
    return Outcome(
        partition=partition,
        offset=offset,
        term=term,
        index=index,
        command_offset=command_offset,
        type=headers.get("ce_type", ""),
        at_ms=at_ms,
        chat=uuid_or_none(key),
        sender=headers.get("ce_sender"),
        command_id=headers.get("ce_commandid"),
        client_id=headers.get("ce_clientid"),
        position=None if position is None else int(position),
        seq=None if seq is None else int(seq),
        raw=value or b"",
        body=body,
    )
