"""Facts of messages and chats: what few messages have, such as a deletion, and what few commands ask of a chat. Pure.

A kind of fact is declared here once, with its letter and its packed form. Batches, stores, snapshots and tests carry
all kinds alike, as bytes by key. To add one: declare it, add it to `FACTS`, raise `FORMAT` in store/format.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from services.sequencer.rules.state import FactKey, MessageKey, StateChanges, View

Value = TypeVar("Value")


class Fact(Struct, Generic[Value], frozen=True):
    """One kind of fact. A message has at most one of each kind, and a new value replaces the old one.

    A fact of a chat itself has seq 0.
    """

    name: str
    letter: bytes
    """First byte of its keys: no other kind of key may begin with it (store/format.py)."""
    pack: Callable[[Value], bytes]
    """Never returns empty bytes."""
    unpack: Callable[[bytes], Value]

    def key(self, message: MessageKey) -> FactKey:
        chat_id, seq = message
        return self.letter, chat_id, seq

    def of(self, view: View, message: MessageKey) -> Value | None:
        raw = view.fact(self.key(message))
        return self.unpack(raw) if raw is not None else None

    def record(self, changes: StateChanges, message: MessageKey, value: Value) -> None:
        changes.facts[self.key(message)] = self.pack(value)


_POSITION: Final = struct.Struct(">Q")


def _unpack_position(raw: bytes) -> int:
    position: int = _POSITION.unpack(raw)[0]
    return position


DELETED: Final = Fact[int]("deleted", b"d", _POSITION.pack, _unpack_position)
"""The position at which the message was deleted."""
NAME: Final = Fact[bytes]("name", b"n", bytes, bytes)
"""The digest of a group's name: enough to see that a new name is the present one."""
FACTS: Final[tuple[Fact[int] | Fact[bytes], ...]] = (DELETED, NAME)
"""All kinds."""
