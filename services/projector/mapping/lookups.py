"""What a batch needs to know of the tables as they were before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from schemas.ids import ChatId, MessageId
from schemas.types import EventType
from services.projector.mapping.decode import AnyEvent, ChangeEvent, Event, MessageEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What a batch needs to know of the tables as they were before it."""

    replied: frozenset[MessageId]
    """Messages that are replied to and are not in the batch."""
    joined: frozenset[ChatId]
    """Chats that a member joins before the batch itself determines their last seq."""
    edited: frozenset[tuple[ChatId, int]] = frozenset()
    """Messages that are edited, by chat and seq."""
    reaction_kinds: frozenset[ReactionKind] = frozenset()
    """Emojis of messages with which a reaction is added or removed."""


class Counted(NamedTuple):
    """How many users react to a message with an emoji, and the position of the first of these reactions."""

    users: int
    first_position: int


ReactionKind = tuple[ChatId, int, str]
"""A message's chat and seq, and an emoji."""


class Written(NamedTuple):
    """The text of a message, with its revision and the time of the send or edit that wrote it."""

    revision: int
    text: str
    at: datetime


class Root(NamedTuple):
    """The first message of the thread to which a replied-to message belongs."""

    chat_id: ChatId
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """The answer to `Lookups`; what is not in it is not in the tables."""

    roots: Mapping[MessageId, Root] = field(default_factory=dict)
    last_seqs: Mapping[ChatId, int] = field(default_factory=dict)
    written: Mapping[tuple[ChatId, int], Written] = field(default_factory=dict)
    """The text of each edited message that the batch does not send itself."""
    reaction_counts: Mapping[ReactionKind, Counted] = field(default_factory=dict)


def lookups_of(events: Sequence[AnyEvent]) -> Lookups:
    """Return what `changes_of` will need to know for these events."""
    asking = [event for event in events if not event.is_view and _may_ask(event)]
    if not asking:
        return _NO_LOOKUPS
    last = asking[-1]
    sent: set[str] = set()
    replied: set[MessageId] = set()
    joined: set[ChatId] = set()
    reacted: set[ReactionKind] = set()
    told: set[ChatId] = set()
    edited: set[tuple[ChatId, int]] = set()
    for event in events:
        if event.is_view:
            told.add(event.chat_id)
            sent.add(event.message_id)
        elif type(event) is MessageEvent:
            told.add(event.chat_id)
            sent.add(event.command_id)
            reply_to = event.body.reply_to_message_id
            if reply_to is not None and reply_to not in sent:
                replied.add(MessageId(reply_to))
        elif type(event) is ChangeEvent:
            if event.type == _CREATED:
                told.add(event.chat_id)
            elif event.type == _ADDED and event.chat_id not in told:
                joined.add(event.chat_id)
            elif event.type == _EDITED:
                edited.add((event.chat_id, event.body.seq))
            elif event.type in _REACTIONS:
                reacted.add((event.chat_id, event.body.seq, event.body.emoji))
        if event is last:
            break
    return Lookups(
        replied=frozenset(replied),
        joined=frozenset(joined),
        edited=frozenset(edited),
        reaction_kinds=frozenset(reacted),
    )


_CREATED: Final = EventType.CHAT_CREATED.value
_ADDED: Final = EventType.MEMBER_ADDED.value
_EDITED: Final = EventType.MESSAGE_EDITED.value
_REACTIONS: Final = frozenset({EventType.REACTION_ADDED.value, EventType.REACTION_REMOVED.value})
_ASKING: Final = _REACTIONS | {_ADDED, _EDITED}
"""The events, besides replies, that need to know something of the tables."""
_NO_LOOKUPS: Final = Lookups(replied=frozenset(), joined=frozenset())


def _may_ask(event: Event) -> bool:
    if type(event) is MessageEvent:
        return event.body.reply_to_message_id is not None
    return type(event) is ChangeEvent and event.type in _ASKING
