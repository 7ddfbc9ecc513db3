"""Facts of messages and chats: what few messages have, such as edits, and what few commands ask of a chat. Pure.

A kind of fact is declared here once, with its letter and its packed form. Batches, stores, snapshots and tests carry
all kinds alike, as bytes by key. To add one: declare it, add it to `FACTS`, raise `FORMAT` in store/format.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct, msgpack
from msgspec.json import Encoder
from msgspec.structs import astuple

from schemas.bodies import MessageEdit
from services.sequencer.rules.state import FactKey, MessageKey, ReactorKey, StateChanges, View

Subject = TypeVar("Subject", MessageKey, ReactorKey)
Value = TypeVar("Value")


class Fact(Struct, Generic[Subject, Value], frozen=True):
    """One kind of fact. Its subject has at most one of each kind, and a new value replaces the old one.

    A subject is a message, (chat, seq); a chat itself, (chat, 0); or a user's part in a message, (chat, seq, user).
    """

    name: str
    letter: bytes
    """First byte of its keys: no other kind of key may begin with it (store/format.py)."""
    pack: Callable[[Value], bytes]
    """Never returns empty bytes."""
    unpack: Callable[[bytes], Value]

    def key(self, subject: Subject) -> FactKey:
        return (self.letter, *subject)

    def of(self, view: View, subject: Subject) -> Value | None:
        raw = view.fact(self.key(subject))
        return self.unpack(raw) if raw is not None else None

    def record(self, changes: StateChanges, subject: Subject, value: Value) -> None:
        changes.facts[self.key(subject)] = self.pack(value)


NEVER_NAMED: Final = bytes(16)
"""Stands for the digest of a part that no edit has named: the text as it was sent is not remembered (decision 38)."""
_POSITION: Final = struct.Struct(">Q")


def _unpack_position(raw: bytes) -> int:
    position: int = _POSITION.unpack(raw)[0]
    return position


class Edit(Struct, frozen=True, gc=False):
    """The last edit of a message, with a digest of each part that an edit has named so far."""

    revision: int = 0
    """The number of edits."""
    position: int = 0
    text: bytes = NEVER_NAMED
    media_urls: bytes = NEVER_NAMED
    metadata: bytes = NEVER_NAMED

    def then(self, position: int, body: MessageEdit) -> Edit:
        """Return the next edit. A part that it does not name stays as it was."""
        return Edit(
            self.revision + 1,
            position,
            part_digest(body.text),
            self.media_urls if body.media_urls is None else part_digest(body.media_urls),
            self.metadata if body.metadata is None else part_digest(body.metadata),
        )

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        return self.text, self.media_urls, self.metadata


def part_digest(part: object) -> bytes:
    """Return 16 bytes that do not depend on how the part is spelt: keys of metadata are sorted."""
    return blake2b(_SORTED.encode(part), digest_size=len(NEVER_NAMED)).digest()


_SORTED: Final = Encoder(order="deterministic")
_EDIT: Final = struct.Struct(">QQ16s16s16s")


def _pack_edit(edit: Edit) -> bytes:
    return _EDIT.pack(*astuple(edit))


def _unpack_edit(raw: bytes) -> Edit:
    return Edit(*_EDIT.unpack(raw))


DELETED: Final = Fact[MessageKey, int]("deleted", b"d", _POSITION.pack, _unpack_position)
"""The position at which the message was deleted."""
NAME: Final = Fact[MessageKey, bytes]("name", b"n", bytes, bytes)
"""The digest of a group's name: enough to see that a new name is the present one."""
EDITED: Final = Fact[MessageKey, Edit]("edited", b"e", _pack_edit, _unpack_edit)
"""The last edit of a message."""
REACTED: Final = Fact[ReactorKey, tuple[str, ...]](
    "reacted", b"u", msgpack.encode, msgpack.Decoder(tuple[str, ...]).decode
)
"""The emojis with which a user reacts to a message, in the order in which they were added."""
REACTION_COUNTS: Final = Fact[MessageKey, dict[str, int]](
    "reaction counts", b"k", msgpack.encode, msgpack.Decoder(dict[str, int]).decode
)
"""How many users react to a message with each emoji. Without it the limit of different emojis would cost a look at
every user's reactions."""
FACTS: Final[tuple[Fact[Any, Any], ...]] = (DELETED, NAME, EDITED, REACTED, REACTION_COUNTS)
"""All kinds."""
