"""The two steps that compiled code speeds up: collecting the keys to load, and deciding plain sends. See _sends.pyx."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from schemas.ids import ChatId, CommandKey
from schemas.wire.encoding import CommandRead, ReplyTo, SendView, Unreadable
from schemas.wire.extensions import extension
from services.sequencer.rules.state import MemberKey, Prefetched, StateChanges

_sends: Final = extension("services.sequencer.partition._sends")


AwaitedSend: TypeAlias = tuple[SendView, ReplyTo, int, int, int]
"""A send that was decided, where its client waits, and its index, seq and position."""


class SendRun(Struct):
    """Plain sends decided one after the other into one append: what they are decided on, and what came of them."""

    layers: Sequence[Prefetched | StateChanges]
    """The known state, each layer over the next."""
    changes: StateChanges
    """Those of the append; they grow."""
    writer: Any
    """The compiled encoder of the append's records, or None: then no send takes the fast path."""
    at_ms: int
    term: int
    source: bytes
    index: int
    """Index of the last outcome."""
    command_offset: int
    """Offset of the last command; one that does not follow it ends the run."""
    size: int
    """Estimated bytes of the append."""
    count: int = 0
    """Number of sends that the last call decided."""
    last: SendView | None = None
    """The last of them, with its seq and position."""
    seq: int = 0
    position: int = 0
    awaited: Sequence[AwaitedSend] = ()
    """Those of them with a waiting client."""


def decide_sends(run: SendRun, commands: Iterable[CommandRead], most_bytes: int) -> int:
    """Decide commands up to the first that is not a plain send, or that would make the append larger than `most_bytes`.
    Returns how many were decided."""
    run.count = 0
    if run.writer is not None:
        _sends.decide_sends(run, commands, most_bytes)
    return run.count


def keys_of(commands: Iterable[CommandRead], room: int) -> tuple[list[ChatId], list[MemberKey], list[CommandKey]]:
    """Return the keys that deciding will need, as far as headers tell; those in bodies are read when needed.

    They are the keys of the first commands, whose bodies have at most `room` bytes: the others most likely wait for a
    later append. If not, their keys are read when needed.
    """
    if _sends is not None:
        keys: tuple[list[ChatId], list[MemberKey], list[CommandKey]] = _sends.keys_of(commands, room)
        return keys
    chats: list[ChatId] = []
    members: list[MemberKey] = []
    dedup: list[CommandKey] = []
    for command in commands:
        if type(command) is Unreadable:
            continue  # rejected whatever the state is
        room -= len(command.body)
        if room < 0:
            break
        chats.append(command.chat_id)
        members.append((command.chat_id, command.sender_id))
        key = command.command_key
        if key is not None:
            dedup.append(key)
    return chats, members, dedup
