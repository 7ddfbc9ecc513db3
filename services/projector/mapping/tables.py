"""The rows that the projector writes, in the order of the columns in sql/apply.sql, and a batch's worth of them.

They are tuples and not dataclasses because COPY and unnest take them as they are, a hundred thousand a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from schemas.ids import ChatId, CommandId, MessageId, UserId

if TYPE_CHECKING:
    from schemas.wire._records import ScannedMessage


class ChatCreated(NamedTuple):
    """A chat that the batch created, as it is at the end of the batch."""

    chat_id: ChatId
    kind: str
    name: str | None
    created_by: UserId
    created_at: datetime
    last_seq: int
    last_position: int
    last_message_at: datetime | None


class ChatMoved(NamedTuple):
    """A chat that was there before. None: as it was."""

    chat_id: ChatId
    last_seq: int | None
    last_position: int
    last_message_at: datetime | None


class ParticipantJoined(NamedTuple):
    """A member who joined in the batch, for the first time or again: the whole row at the end of the batch."""

    chat_id: ChatId
    user_id: UserId
    role: str
    joined_at: datetime
    joined_seq: int
    left_at: datetime | None
    read_seq: int
    last_read_at: datetime | None
    """None: as it was, if there was a row."""
    delivered_seq: int
    own_live_after_read: int
    changed_position: int


class ParticipantMoved(NamedTuple):
    """A member who was one before the batch. None: as it was."""

    chat_id: ChatId
    user_id: UserId
    read_seq: int | None
    last_read_at: datetime | None
    delivered_seq: int | None
    left_at: datetime | None
    own_in_batch: int
    """Own messages of the batch above the cursor at its end."""
    changed_position: int | None


class RoleChanged(NamedTuple):
    """A member from before the batch who had a role given in it; `ParticipantMoved` has the rest."""

    chat_id: ChatId
    user_id: UserId
    role: str


class MessageRow(NamedTuple):
    chat_id: ChatId
    seq: int
    message_id: CommandId
    """Of its send: a message's identity is its idempotency key."""
    sender_id: UserId
    message_text: str | None
    """None: deleted in the batch, as the two below."""
    client_generated_id: str
    reply_to_message_id: MessageId | None
    root_seq: int | None
    reply_count: int
    media_urls: list[str]
    metadata: dict[str, Any] | None
    sent_at: datetime
    original_sent_at: datetime | None
    deleted_at: datetime | None
    position: int
    changed_position: int


class MessageDeleted(NamedTuple):
    """A message from before the batch that was deleted in it."""

    chat_id: ChatId
    seq: int
    deleted_at: datetime
    changed_position: int


class ChatDeleted(NamedTuple):
    """A chat that had messages deleted in the batch."""

    chat_id: ChatId
    deleted: int
    """How many."""


class BlockDeleted(NamedTuple):
    """A block of a chat's seqs that had messages deleted in the batch."""

    chat_id: ChatId
    span: int
    """How many seqs it has: one of deletions.SPANS."""
    block: int
    """Its first seq, divided by `span`."""
    deleted: int
    places: str | None
    """Of the shortest span: a bit for each seq of the block, 1 where its message was deleted."""


class RootReplied(NamedTuple):
    """A message from before the batch that got replies in it."""

    chat_id: ChatId
    seq: int
    replies: int
    changed_position: int


class OutcomeRow(NamedTuple):
    partition: int
    log_index: int
    """Column `index`, which is a method of every tuple."""
    command_id: CommandId
    sender_id: UserId | None
    type: str | None
    outcome: str
    reason: str | None
    seq: int | None
    position: int | None
    at: datetime
    detail: str | None
    """The sentence that the sequencer gave for a rejection."""


AnyMessageRow: TypeAlias = "MessageRow | ScannedMessage"
AnyOutcomeRow: TypeAlias = "OutcomeRow | ScannedMessage"
"""The record of a message of a text and nothing else holds all of its rows: messages.message_row, rows.outcome_row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChanges:
    """Everything a batch of one partition changes, merged to the state at its end.

    Each field but the last two is one statement of writing/sql/apply.sql, which has its name. They run in the order of
    the fields: members are counted against the messages and the last seqs before the batch.
    """

    chats_created: list[ChatCreated] = field(default_factory=list)
    participants_joined: list[ParticipantJoined] = field(default_factory=list)
    participants_moved: list[ParticipantMoved] = field(default_factory=list)
    roles_changed: list[RoleChanged] = field(default_factory=list)
    chats_moved: list[ChatMoved] = field(default_factory=list)
    roots_replied: list[RootReplied] = field(default_factory=list)
    messages_deleted: list[MessageDeleted] = field(default_factory=list)
    chats_deleted: list[ChatDeleted] = field(default_factory=list)
    blocks_deleted: list[BlockDeleted] = field(default_factory=list)
    messages: list[AnyMessageRow] = field(default_factory=list)
    outcomes: list[AnyOutcomeRow] = field(default_factory=list)

    def statements(self) -> Iterator[tuple[str, Sequence[NamedTuple]]]:
        """Return the rows of each statement that has any, with its name, in the order in which they run."""
        for name in _STATEMENTS:
            rows = getattr(self, name)
            if rows:
                yield name, rows

    @property
    def rows(self) -> int:
        """How many rows are written."""
        return sum(len(rows) for _, rows in self.statements()) + len(self.messages) + len(self.outcomes)


COPIED: Final = ("messages", "outcomes")
"""Fields that are written by COPY."""
_STATEMENTS: Final = tuple(part.name for part in fields(RowChanges) if part.name not in COPIED)
