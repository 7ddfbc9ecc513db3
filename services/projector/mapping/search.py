"""Search: from a batch of events to the rows of message_search that it changes, merged to the batch's end state. Pure.

It follows the log by a position of its own, so it shares neither batches nor lookups with the other tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, TypeGuard

from schemas.bodies import MessageDelete, MessageEdit
from schemas.errors import LogCorrupt
from schemas.ids import ChatId, UserId
from schemas.search import lexemes, tokens
from schemas.types import EventType
from schemas.wire.records import MessageView
from services.projector.mapping.decode import AnyEvent, ChangeEvent, MessageEvent, instant

Lexemes: TypeAlias = Annotated[list[str], "text"]
"""Distinct lexemes; a statement takes them as the text of an array."""


class MessageFound(NamedTuple):
    """A message that was sent in the batch and is there at its end."""

    chat_id: ChatId
    seq: int
    sender_id: UserId
    at_ms: int
    text: str


AnyFound: TypeAlias = MessageFound | MessageView
"""Most messages are plain and stay as they are in their records. `search_row` returns the row of either."""


class SearchAdded(NamedTuple):
    """The row of a message that was sent in the batch and is there at its end."""

    chat_id: ChatId
    seq: int
    sender_id: UserId
    sent_at: datetime
    lexemes: Lexemes


class SearchReworded(NamedTuple):
    """A message from before the batch that was edited in it."""

    chat_id: ChatId
    seq: int
    lexemes: Lexemes
    """The tokens of its text alone: its chat and its time stay."""


class SearchForgotten(NamedTuple):
    """A message from before the batch that was deleted in it."""

    chat_id: ChatId
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchChanges:
    """Everything that a batch changes in message_search. The fields but `search_added` are statements of the same name
    in writing/sql/search.sql."""

    search_forgotten: list[SearchForgotten] = field(default_factory=list)
    search_reworded: list[SearchReworded] = field(default_factory=list)
    search_added: list[AnyFound] = field(default_factory=list)
    """Without their lexemes: to make those of a large batch takes longer than other work of the process may wait."""

    @property
    def rows(self) -> int:
        """The number of rows that are written."""
        return sum(len(getattr(self, part.name)) for part in fields(self))


SEARCH_ROW_TYPES: Final[dict[str, type[NamedTuple]]] = {  # by field of SearchChanges
    "search_forgotten": SearchForgotten,
    "search_reworded": SearchReworded,
    "search_added": SearchAdded,
}

_CHANGES: Final = frozenset({EventType.MESSAGE_EDITED.value, EventType.MESSAGE_DELETED.value})
_Key: TypeAlias = tuple[ChatId, int]


def search_changes_of(events: Sequence[AnyEvent]) -> SearchChanges:
    """Return the rows of message_search that these events change.

    The events are in log order. Raises LogCorrupt for a message that is edited or deleted after it was deleted.
    """
    if not any(type(event) is ChangeEvent and event.type in _CHANGES for event in events):
        return SearchChanges(search_added=[_found(event) for event in events if _is_message(event)])
    sent: dict[_Key, AnyFound] = {}
    edited: dict[_Key, str] = {}
    deleted: dict[_Key, bool] = {}
    for event in events:
        if _is_message(event):
            sent[event.chat_id, event.seq] = _found(event)
        elif type(event) is ChangeEvent and event.type in _CHANGES:
            _change(event, event.body, sent, edited, deleted)
    return SearchChanges(
        search_forgotten=[SearchForgotten(*key) for key, is_old in deleted.items() if is_old],
        search_reworded=[SearchReworded(*key, tokens(text)) for key, text in edited.items()],
        search_added=list(sent.values()),
    )


def _is_message(event: AnyEvent) -> TypeGuard[MessageView | MessageEvent]:
    return event.is_view or type(event) is MessageEvent


def _found(event: MessageView | MessageEvent) -> AnyFound:
    if event.is_view:
        return event
    return MessageFound(event.chat_id, event.seq, event.sender_id, event.at_ms, event.body.text)


def search_row(message: AnyFound) -> SearchAdded:
    """Return the row. Raises LogCorrupt for an invalid timestamp."""
    chat_id, at_ms = message.chat_id, message.at_ms
    return SearchAdded(chat_id, message.seq, message.sender_id, instant(at_ms), lexemes(chat_id, at_ms, message.text))


def _change(
    event: ChangeEvent, body: Any, sent: dict[_Key, AnyFound], edited: dict[_Key, str], deleted: dict[_Key, bool]
) -> None:
    key = (event.chat_id, body.seq)
    if key in deleted:
        raise LogCorrupt(f"message {body.seq} of chat {event.chat_id} is changed after it was deleted")
    here = sent.get(key)
    if isinstance(body, MessageDelete):
        sent.pop(key, None)
        edited.pop(key, None)
        deleted[key] = here is None
    elif isinstance(body, MessageEdit):
        if here is None:
            edited[key] = body.text
        else:
            sent[key] = MessageFound(here.chat_id, here.seq, here.sender_id, here.at_ms, body.text)
