"""The state at the end of a batch while its events are folded one by one; the modules of the nouns add to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from schemas.errors import LogCorrupt
from schemas.ids import ChatId, MessageId, UserId
from services.projector.mapping.decode import EPOCH, AcceptedEvent
from services.projector.mapping.lookups import Counted, LookedUp, ReactionKind
from services.projector.mapping.tables import AnyMessageRow, ChatCreated, TextReplaced


@dataclass(slots=True)
class ChatState:
    """A chat as far as the batch knows it."""

    position: int
    index: int
    """The index of the event at that position."""
    last_seq: int | None = None
    last_message_at: datetime | None = None
    created: ChatCreated | None = None
    name: str | None = None
    """The new name, if the batch renamed the chat."""


@dataclass(slots=True)
class MemberState:
    """A member as far as the batch knows it."""

    role: str | None = None
    left_at: datetime | None = None
    read_seq: int | None = None
    last_read_at: datetime | None = None
    delivered_seq: int | None = None
    own_after_read: list[int] = field(default_factory=list)
    """Seqs of the batch's own messages above the cursor, ascending."""
    changed_position: int | None = None
    changed_index: int | None = None

    def changed_by(self, event: AcceptedEvent) -> None:
        self.changed_position, self.changed_index = event.position, event.index


@dataclass(slots=True, kw_only=True)
class JoinedMember(MemberState):
    """A member who joined in the batch: everything is known but an older last_read_at."""

    role: str
    joined_at: datetime
    joined_seq: int
    read_seq: int
    delivered_seq: int
    changed_position: int
    changed_index: int


@dataclass(slots=True)
class Replies:
    """The replies of the batch in one thread."""

    live: list[int] = field(default_factory=list)
    """Seqs of those that are not deleted, ascending."""
    position: int = 0
    """Position of the last event that added or deleted one."""


@dataclass(slots=True)
class Edits:
    """The edits of a message in the batch."""

    revision: int = 0
    text: str | None = None
    """None if the message is not in the tables: then there is nothing to edit, and the batch is refused."""
    at: datetime = EPOCH
    """When the text was written."""
    replaced: list[TextReplaced] = field(default_factory=list)
    position: int = 0
    media_urls: list[str] | None = None
    """None: no edit of the batch names them; so is the metadata."""
    metadata: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class ReactionState:
    """A reaction that was added or removed in the batch."""

    was_there: bool
    """Whether it was there before the batch."""
    position: int | None = None
    """The position at which it was added; None if it is not there."""


class Deletion(NamedTuple):
    at: datetime
    position: int


E = TypeVar("E", bound=AcceptedEvent, covariant=True)


class Accepted(Struct, Generic[E], frozen=True, gc=False):
    """An accepted event in its chat."""

    event: E
    at: datetime
    chat: ChatState


class RowBuilder:
    """Everything that a batch changes, merged."""

    def __init__(self, looked_up: LookedUp) -> None:
        self.looked_up = looked_up
        self.chats: dict[ChatId, ChatState] = {}
        self.members: dict[tuple[ChatId, UserId], MemberState] = {}
        self.messages: list[AnyMessageRow] = []
        self.replies: dict[tuple[ChatId, int], Replies] = {}
        self.edits: dict[tuple[ChatId, int], Edits] = {}
        self.deletions: dict[tuple[ChatId, int], Deletion] = {}
        self.reactions: dict[tuple[ChatId, int, str, UserId], ReactionState] = {}
        self.reaction_counts: dict[ReactionKind, Counted | None] = {}
        """The counts that the batch changed; None if no user reacts with the emoji any more."""
        self.reacted: dict[tuple[ChatId, int], int] = {}
        """The position of the last change to a message's reactions."""
        self._by_id: dict[str, AnyMessageRow] = {}
        """The first `len(self._by_id)` messages, by id: as many as replies have needed."""
        self._by_place: dict[tuple[ChatId, int], AnyMessageRow] = {}
        """The same by chat and seq, as edits have needed them."""

    def moved(self, chat_id: ChatId, position: int, index: int) -> ChatState:
        """Move a chat to the position and the index of an event and return its state."""
        chat = self.chats.get(chat_id)
        if chat is None:
            chat = self.chats[chat_id] = ChatState(position, index)
        chat.position, chat.index = position, index
        return chat

    def member(self, chat_id: ChatId, user_id: UserId) -> MemberState:
        member = self.members.get((chat_id, user_id))
        if member is None:
            member = self.members[chat_id, user_id] = MemberState()
        return member

    def join(self, accepted: Accepted[AcceptedEvent], user_id: UserId, role: str, last_seq: int) -> None:
        """Add a member, or add one again: all of its state is reset except the time of its last read."""
        key = (accepted.event.chat_id, user_id)
        before = self.members.get(key)
        self.members[key] = JoinedMember(
            role=role,
            joined_at=accepted.at,
            joined_seq=last_seq,
            read_seq=last_seq,
            delivered_seq=last_seq,
            last_read_at=before.last_read_at if before else None,
            changed_position=accepted.event.position,
            changed_index=accepted.event.index,
        )

    def append(self, message: AnyMessageRow, chat: ChatState, at: datetime) -> None:
        chat.last_seq, chat.last_message_at = message.seq, at
        # A send is always above its sender's cursor: no receipt goes beyond the last message before it.
        self.member(message.chat_id, message.sender_id).own_after_read.append(message.seq)
        self.messages.append(message)

    def message_by_id(self, message_id: MessageId) -> AnyMessageRow | None:
        """Return a message of the batch, or None if the batch has no such message."""
        for message in self.messages[len(self._by_id) :]:
            self._by_id[message.message_id] = message
        return self._by_id.get(message_id)

    def message_at(self, chat_id: ChatId, seq: int) -> AnyMessageRow | None:
        """Return a message of the batch, or None if the batch has no such message."""
        for message in self.messages[len(self._by_place) :]:
            self._by_place[message.chat_id, message.seq] = message
        return self._by_place.get((chat_id, seq))

    def last_seq_of(self, chat_id: ChatId, chat: ChatState) -> int:
        """Return the last seq of a chat before the event. Raises LogCorrupt if the chat was never created."""
        last_seq = chat.last_seq if chat.last_seq is not None else self.looked_up.last_seqs.get(chat_id)
        if last_seq is None:
            raise LogCorrupt(f"a member is added to chat {chat_id}, which was never created")
        return last_seq
