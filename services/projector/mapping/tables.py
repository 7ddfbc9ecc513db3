"""The rows that the projector writes, and the changes of one batch.

The fields of a row type are the columns that its statement in writing/sql/apply.sql writes, in order: its lists of
columns, and their SQL types, are derived from here. A column that no row type has is filled by its default.

They are tuples, not dataclasses, because COPY and unnest take tuples as they are, a hundred thousand a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from schemas.ids import ChatId, CommandId, MessageId, UserId
from schemas.wire.records import MessageView

Integer: TypeAlias = Annotated[int, "integer"]
"""A number that Postgres stores in four bytes; any other is a bigint."""


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
    changed_index: int


class ChatMoved(NamedTuple):
    """A chat from before the batch. None means unchanged."""

    chat_id: ChatId
    last_seq: int | None
    last_position: int
    last_message_at: datetime | None
    changed_index: int


class ChatRenamed(NamedTuple):
    """A chat from before the batch that was renamed in it; `ChatMoved` has the rest."""

    chat_id: ChatId
    name: str


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
    """None means unchanged, if the row exists."""
    delivered_seq: int
    own_live_after_read: int
    changed_position: int
    changed_index: int


class ParticipantMoved(NamedTuple):
    """A member from before the batch. None means unchanged."""

    chat_id: ChatId
    user_id: UserId
    read_seq: int | None
    last_read_at: datetime | None
    delivered_seq: int | None
    left_at: datetime | None
    own_in_batch: int
    """Number of own messages of the batch above the cursor at its end."""
    changed_position: int | None
    changed_index: int | None


class RoleChanged(NamedTuple):
    """A member from before the batch whose role changed in it; `ParticipantMoved` has the rest."""

    chat_id: ChatId
    user_id: UserId
    role: str


class MessageRow(NamedTuple):
    chat_id: ChatId
    seq: int
    message_id: CommandId
    """The command_id of its send: a message's identity is its idempotency key."""
    sender_id: UserId
    message_text: str | None
    """None if the batch deletes the message; `media_urls` and `metadata` are then empty too."""
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
    last_reply_seq: int | None

    @property
    def is_view(self) -> Literal[False]:
        return False


class MessageEdited(NamedTuple):
    """A message that was edited in the batch, sent before it or in it. None means unchanged."""

    chat_id: ChatId
    seq: int
    message_text: str
    media_urls: str | None
    """A JSON array, because arrays of unequal length do not fit into one."""
    metadata: str | None
    edited_at: datetime
    revision: int
    deleted: Annotated[bool, "boolean"]
    """Whether the batch deletes it after its edits: then its content stays empty."""
    changed_position: int


class TextReplaced(NamedTuple):
    """A text that an edit of the batch replaced, of a message that the batch does not delete."""

    chat_id: ChatId
    seq: int
    revision: int
    """The revision that had the text."""
    message_text: str
    written_at: datetime


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
    """Number of those messages."""


class BlockDeleted(NamedTuple):
    """A block of a chat's seqs that had messages deleted in the batch."""

    chat_id: ChatId
    span: Integer
    """Number of seqs in the block: one of deletions.SPANS."""
    block: int
    """Its first seq, divided by `span`."""
    deleted: Integer
    places: Annotated[str, "bit(256)"] | None
    """For the shortest span, a bit for each seq of the block, 1 if its message was deleted; else None."""


class RootReplied(NamedTuple):
    """A message from before the batch that got replies in it, of which all or some may be deleted at its end."""

    chat_id: ChatId
    seq: int
    replies: int
    """Number of live ones."""
    last_reply_seq: int | None
    """Seq of the last of them, or None."""
    changed_position: int


class ReactionAdded(NamedTuple):
    """A reaction that is there at the end of the batch and was added, or added again, in it."""

    chat_id: ChatId
    seq: int
    emoji: str
    user_id: UserId
    changed_position: int


class ReactionRemoved(NamedTuple):
    """A reaction from before the batch that is no longer there at its end."""

    chat_id: ChatId
    seq: int
    emoji: str
    user_id: UserId


class ReactionsCounted(NamedTuple):
    """How many users react to a message with an emoji at the end of a batch in which that changed; at least one."""

    chat_id: ChatId
    seq: int
    emoji: str
    users: int
    first_position: int
    """Position of the first of these reactions; later ones do not move it, even if the first is removed."""


class ReactionsGone(NamedTuple):
    """An emoji with which users reacted to a message before the batch and no user does at its end."""

    chat_id: ChatId
    seq: int
    emoji: str


class MessageReacted(NamedTuple):
    """A message from before the batch whose reactions changed in it."""

    chat_id: ChatId
    seq: int
    changed_position: int


class OutcomeRow(NamedTuple):
    partition: Integer
    log_index: int
    """Column `index`; a tuple has a method of that name."""
    command_id: CommandId
    sender_id: UserId | None
    type: str | None
    outcome: str
    reason: str | None
    seq: int | None
    position: int | None
    at: datetime
    detail: str | None
    """The sequencer's sentence for a rejection."""
    revision: int | None
    """The message's revision after an edit; for a duplicate, after the original."""

    @property
    def is_view(self) -> Literal[False]:
        return False


AnyMessageRow: TypeAlias = MessageRow | MessageView
AnyOutcomeRow: TypeAlias = OutcomeRow | MessageView
"""The record of a plain message holds all of its rows: messages.message_row, rows.outcome_row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChanges:
    """Everything that a batch of one partition changes, merged to the state at its end.

    Each field but COPIED is the statement of the same name in writing/sql/apply.sql. They run in field order, with the
    COPIED between them: members are counted against the messages and the last seqs before the batch, and an edited
    message may be one of the batch itself.
    """

    chats_created: list[ChatCreated] = field(default_factory=list)
    participants_joined: list[ParticipantJoined] = field(default_factory=list)
    participants_moved: list[ParticipantMoved] = field(default_factory=list)
    roles_changed: list[RoleChanged] = field(default_factory=list)
    chats_moved: list[ChatMoved] = field(default_factory=list)
    chats_renamed: list[ChatRenamed] = field(default_factory=list)
    roots_replied: list[RootReplied] = field(default_factory=list)
    messages_reacted: list[MessageReacted] = field(default_factory=list)
    reactions_removed: list[ReactionRemoved] = field(default_factory=list)
    reactions_added: list[ReactionAdded] = field(default_factory=list)
    reactions_gone: list[ReactionsGone] = field(default_factory=list)
    reactions_counted: list[ReactionsCounted] = field(default_factory=list)
    texts_replaced: list[TextReplaced] = field(default_factory=list)
    messages_deleted: list[MessageDeleted] = field(default_factory=list)
    chats_deleted: list[ChatDeleted] = field(default_factory=list)
    blocks_deleted: list[BlockDeleted] = field(default_factory=list)
    messages: list[AnyMessageRow] = field(default_factory=list)
    outcomes: list[AnyOutcomeRow] = field(default_factory=list)
    messages_edited: list[MessageEdited] = field(default_factory=list)

    def statements(self) -> Iterator[tuple[str, Sequence[NamedTuple]]]:
        """Yield (name, rows) of each statement before the COPIED that has rows, in the order in which they run."""
        return self._of(_BEFORE)

    def statements_after(self) -> Iterator[tuple[str, Sequence[NamedTuple]]]:
        """Yield those after the COPIED."""
        return self._of(_AFTER)

    def _of(self, names: Sequence[str]) -> Iterator[tuple[str, Sequence[NamedTuple]]]:
        for name in names:
            rows = getattr(self, name)
            if rows:
                yield name, rows

    @property
    def rows(self) -> int:
        """The number of rows that are written."""
        return sum(len(getattr(self, name)) for name in _FIELDS)


ROW_TYPES: Final[dict[str, type[NamedTuple]]] = {  # by field of RowChanges
    "chats_created": ChatCreated,
    "participants_joined": ParticipantJoined,
    "participants_moved": ParticipantMoved,
    "roles_changed": RoleChanged,
    "chats_moved": ChatMoved,
    "chats_renamed": ChatRenamed,
    "roots_replied": RootReplied,
    "messages_reacted": MessageReacted,
    "reactions_removed": ReactionRemoved,
    "reactions_added": ReactionAdded,
    "reactions_gone": ReactionsGone,
    "reactions_counted": ReactionsCounted,
    "texts_replaced": TextReplaced,
    "messages_deleted": MessageDeleted,
    "chats_deleted": ChatDeleted,
    "blocks_deleted": BlockDeleted,
    "messages": MessageRow,
    "outcomes": OutcomeRow,
    "messages_edited": MessageEdited,
}
COPIED: Final = ("messages", "outcomes")
"""Fields that are written by COPY."""
_FIELDS: Final = tuple(part.name for part in fields(RowChanges))
_BEFORE: Final = _FIELDS[: _FIELDS.index(COPIED[0])]
_AFTER: Final = _FIELDS[_FIELDS.index(COPIED[-1]) + 1 :]
