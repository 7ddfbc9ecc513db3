"""The mapping: a batch of one partition's events becomes the rows it changes, merged to the batch's end state. Pure.

However a history is cut into batches, the tables come out the same. What a batch cannot know of the rows before it
is asked for (`lookups_of`), given back (`LookedUp`), or left to the database in relative form: `own_in_batch` is added
to what sql/apply.sql finds above the new cursor, and None means "as it was".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.bodies import ChatCreate, MemberAdd, MemberRemove, MemberRole
from schemas.errors import LogCorrupt
from schemas.events import Duplicate, OutcomeKind, Rejected
from schemas.ids import ChatId, CommandId, MessageId, UserId
from schemas.types import COMMAND_OF, EventType
from services.projector.mapping.decode import AnyEvent, Deleted, Event, Marked, Sent, instant, original_instant
from services.projector.mapping.deletions import blocks_deleted, chats_deleted
from services.projector.mapping.tables import (
    AnyMessageRow,
    AnyOutcomeRow,
    ChatCreated,
    ChatMoved,
    MessageDeleted,
    MessageRow,
    OutcomeRow,
    ParticipantJoined,
    ParticipantMoved,
    RoleChanged,
    RootReplied,
    RowChanges,
)

if TYPE_CHECKING:
    from schemas.wire._records import ScannedMessage

MAPPING_VERSION: Final = 1
"""Raise it with any change that gives other rows for a log that older releases could already fold. A projector
feeds only projections of its own mapping, so that the rows of one schema are all made by one mapping.

`outcomes.detail` was added without raising it, because every row says whether a release that stores details wrote it
(docs/decisions/0031-outcome-rows-say-whether-they-hold-the-detail.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What a batch needs to know of the tables before it."""

    replied: frozenset[MessageId]
    """Messages that are replied to and are not in the batch."""
    joined: frozenset[ChatId]
    """Chats that somebody joins before the batch itself tells their last seq."""


class Root(NamedTuple):
    """Of a message that is replied to: the first message of its thread."""

    chat_id: ChatId
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """The answer to `Lookups`; what is not in it is not in the tables."""

    roots: Mapping[MessageId, Root] = field(default_factory=dict)
    last_seqs: Mapping[ChatId, int] = field(default_factory=dict)


def lookups_of(events: Sequence[AnyEvent]) -> Lookups:
    """What `changes_of` will need to know for these events."""
    asking = [event for event in events if isinstance(event, Event) and _may_ask(event)]
    if not asking:
        return _NO_LOOKUPS
    last = asking[-1]
    sent: set[str] = set()
    replied: set[MessageId] = set()
    joined: set[ChatId] = set()
    told: set[ChatId] = set()
    for event in events:
        if not isinstance(event, Event):
            told.add(event.chat_id)
            sent.add(event.message_id)
            continue
        body = event.body
        if isinstance(body, Sent):
            assert event.chat_id is not None  # events.py refused it otherwise
            assert event.command_id is not None
            told.add(event.chat_id)
            sent.add(event.command_id)
            if body.reply_to_message_id is not None and body.reply_to_message_id not in sent:
                replied.add(MessageId(body.reply_to_message_id))
        elif isinstance(body, ChatCreate):
            assert event.chat_id is not None
            told.add(event.chat_id)
        elif isinstance(body, MemberAdd) and event.chat_id not in told:
            assert event.chat_id is not None
            joined.add(event.chat_id)
        if event is last:
            break
    return Lookups(replied=frozenset(replied), joined=frozenset(joined))


_NO_LOOKUPS: Final = Lookups(replied=frozenset(), joined=frozenset())


def _may_ask(event: Event) -> bool:
    body = event.body
    return body.reply_to_message_id is not None if isinstance(body, Sent) else isinstance(body, MemberAdd)


def changes_of(
    events: Sequence[AnyEvent], looked_up: LookedUp, *, partition: int, outcomes_since_ms: int
) -> RowChanges:
    """The rows that these events, in the order of their log, change; of outcomes those not older than given.

    Raises LogCorrupt where a timestamp is none, where a reply or a joining refers to what is neither in `known` nor in
    the batch, and where a message is deleted twice.
    """
    batch = _RowBuilder(looked_up)
    outcomes: list[AnyOutcomeRow] = []
    for event in events:
        if not isinstance(event, Event):
            batch.add_message(event)
            if event.at_ms >= outcomes_since_ms:
                outcomes.append(event)
            continue
        if event.type in COMMAND_OF:
            batch.add(event)
        if event.command_id is not None and event.at_ms >= outcomes_since_ms:
            outcomes.append(_outcome_row(event, partition))
    return batch.changes(outcomes)


def _outcome_row(event: Event, partition: int) -> OutcomeRow:
    body = event.body
    assert event.command_id is not None
    seq, position = event.seq, event.position
    command_type: str | None = COMMAND_OF.get(event.type)
    reason: str | None = None
    detail: str | None = None
    if command_type is None:
        if isinstance(body, Duplicate):
            seq, position = body.seq, body.position
        elif isinstance(body, Rejected):
            command_type, reason, detail = body.command_type, body.reason.value, body.detail
        elif isinstance(body, int):
            position = body
    return OutcomeRow(
        partition, event.index, event.command_id, event.sender_id, command_type, event.kind, reason, seq, position,
        instant(event.at_ms), detail,
    )  # fmt: skip


def message_row(message: AnyMessageRow) -> MessageRow:
    """The row in full."""
    if isinstance(message, MessageRow):
        return message
    return MessageRow(
        message.chat_id, message.seq, CommandId(message.message_id), message.sender_id, message.text,
        message.client_generated_id, None, None, 0, [], None, instant(message.at_ms), None, None, message.position,
        message.position,
    )  # fmt: skip


def outcome_row(outcome: AnyOutcomeRow, partition: int) -> OutcomeRow:
    """The row in full, of an outcome of that partition."""
    if isinstance(outcome, OutcomeRow):
        return outcome
    return OutcomeRow(
        partition, outcome.index, CommandId(outcome.message_id), outcome.sender_id, *SENT, outcome.seq,
        outcome.position, instant(outcome.at_ms), None,
    )  # fmt: skip


SENT: Final = (COMMAND_OF[EventType.MESSAGE_SENT], OutcomeKind.ACCEPTED.value, None)
"""What every outcome of a message that was sent says: type, outcome, reason."""


@dataclass(slots=True)
class _Chat:
    """A chat as far as the batch tells it."""

    position: int
    last_seq: int | None = None
    last_message_at: datetime | None = None
    created: ChatCreated | None = None


@dataclass(slots=True)
class _Member:
    """A member as far as the batch tells it; with `joined_at` the batch tells everything but an older last_read_at."""

    role: str | None = None
    joined_at: datetime | None = None
    joined_seq: int = 0
    left_at: datetime | None = None
    read_seq: int | None = None
    last_read_at: datetime | None = None
    delivered_seq: int | None = None
    own_after_read: list[int] = field(default_factory=list)
    """Seqs of the batch's own messages above the cursor, ascending."""
    changed_position: int | None = None


@dataclass(slots=True)
class _Replies:
    count: int = 0
    position: int = 0


class _Deletion(NamedTuple):
    at: datetime
    position: int


class _RowBuilder:
    """Folds events one by one into the state at the end of the batch."""

    def __init__(self, looked_up: LookedUp) -> None:
        self._looked_up = looked_up
        self._chats: dict[ChatId, _Chat] = {}
        self._members: dict[tuple[ChatId, UserId], _Member] = {}
        self._messages: list[AnyMessageRow] = []
        self._sent: dict[str, AnyMessageRow] = {}
        """The first `len(self._sent)` of the same by message id: as far as a reply has asked."""
        self._replies: dict[tuple[ChatId, int], _Replies] = {}
        self._deletions: dict[tuple[ChatId, int], _Deletion] = {}

    def add(self, event: Event) -> None:
        chat_id, sender_id, position, body = event.chat_id, event.sender_id, event.position, event.body
        assert chat_id is not None  # events.py refused it otherwise
        assert sender_id is not None
        assert position is not None
        at = instant(event.at_ms)
        chat = self._moved(chat_id, position)
        match body:
            case Sent():
                self._message_sent(event, body, chat, at)
            case Marked():
                self._marked(self._member(chat_id, sender_id), event.type, body.up_to_seq, position, at)
            case Deleted():
                if (chat_id, body.seq) in self._deletions:
                    raise LogCorrupt(f"message {body.seq} of chat {chat_id} is deleted twice")
                self._deletions[chat_id, body.seq] = _Deletion(at, position)
            case ChatCreate():
                chat.created = ChatCreated(chat_id, body.kind, body.name, sender_id, at, 0, position, None)
                chat.last_seq = 0
                others = "owner" if body.kind == "direct" else "member"
                for user_id, role in {**dict.fromkeys(body.members, others), sender_id: "owner"}.items():
                    self._joined(chat_id, UserId(user_id), role, 0, position, at)
            case MemberAdd():
                last_seq = chat.last_seq if chat.last_seq is not None else self._last_seq_before(chat_id)
                self._joined(chat_id, UserId(body.user_id), body.role, last_seq, position, at)
            case MemberRemove():
                member = self._member(chat_id, UserId(body.user_id))
                member.left_at, member.changed_position = at, position
            case MemberRole():
                member = self._member(chat_id, UserId(body.user_id))
                member.role, member.changed_position = body.role, position
            case _:
                raise AssertionError(f"{event.type} is accepted by events.py but has no rows")

    def add_message(self, message: ScannedMessage) -> None:
        """A message.sent of a text and nothing else."""
        self._append(message, self._moved(message.chat_id, message.position), instant(message.at_ms))

    def _moved(self, chat_id: ChatId, position: int) -> _Chat:
        chat = self._chats.get(chat_id)
        if chat is None:
            chat = self._chats[chat_id] = _Chat(position)
        chat.position = position
        return chat

    def _message_sent(self, event: Event, body: Sent, chat: _Chat, at: datetime) -> None:
        chat_id, sender_id, seq, position = event.chat_id, event.sender_id, event.seq, event.position
        assert chat_id is not None
        assert sender_id is not None
        assert position is not None
        assert seq is not None
        assert event.command_id is not None
        assert event.client_generated_id is not None
        reply_to: MessageId | None = None
        root_seq: int | None = None
        if body.reply_to_message_id is not None:
            reply_to = MessageId(body.reply_to_message_id)
            root_seq = self._root_seq_of(reply_to, chat_id)
            replies = self._replies.setdefault((chat_id, root_seq), _Replies())
            replies.count += 1
            replies.position = position
        row = MessageRow(
            chat_id, seq, event.command_id, sender_id, body.text, event.client_generated_id, reply_to, root_seq, 0,
            body.media_urls or [], body.metadata, at,
            original_instant(body.original_sent_at) if body.original_sent_at else None, None, position, position,
        )  # fmt: skip
        self._append(row, chat, at)

    def _append(self, message: AnyMessageRow, chat: _Chat, at: datetime) -> None:
        chat.last_seq, chat.last_message_at = message.seq, at
        # A send is always above its sender's cursor: no receipt goes beyond the last message before it.
        self._member(message.chat_id, message.sender_id).own_after_read.append(message.seq)
        self._messages.append(message)

    def _root_seq_of(self, message_id: MessageId, chat_id: ChatId) -> int:
        """Of the first message of the thread of the one that is replied to."""
        for message in self._messages[len(self._sent) :]:
            self._sent[message.message_id] = message
        sent = self._sent.get(message_id)
        if sent is not None and sent.chat_id == chat_id:
            return sent.seq if not isinstance(sent, MessageRow) or sent.root_seq is None else sent.root_seq
        root = self._looked_up.roots.get(message_id)
        if sent is not None or root is None or root.chat_id != chat_id:
            raise LogCorrupt(f"a reply in chat {chat_id} to message {message_id}, which is not in that chat")
        return root.seq

    def _last_seq_before(self, chat_id: ChatId) -> int:
        last_seq = self._looked_up.last_seqs.get(chat_id)
        if last_seq is None:
            raise LogCorrupt(f"a member is added to chat {chat_id}, which was never created")
        return last_seq

    def _member(self, chat_id: ChatId, user_id: UserId) -> _Member:
        member = self._members.get((chat_id, user_id))
        if member is None:
            member = self._members[chat_id, user_id] = _Member()
        return member

    def _joined(self, chat_id: ChatId, user_id: UserId, role: str, last_seq: int, position: int, at: datetime) -> None:
        """Everything starts anew, in the same batch or not; only when they last read is kept."""
        before = self._members.get((chat_id, user_id))
        self._members[chat_id, user_id] = _Member(
            role=role,
            joined_at=at,
            joined_seq=last_seq,
            read_seq=last_seq,
            delivered_seq=last_seq,
            last_read_at=before.last_read_at if before else None,
            changed_position=position,
        )

    @staticmethod
    def _marked(member: _Member, event_type: str, up_to_seq: int, position: int, at: datetime) -> None:
        member.changed_position = position
        if event_type == EventType.DELIVERED_ADVANCED:
            member.delivered_seq = up_to_seq
            return
        member.read_seq, member.last_read_at = up_to_seq, at
        if member.own_after_read:
            member.own_after_read = [seq for seq in member.own_after_read if seq > up_to_seq]

    def changes(self, outcomes: list[AnyOutcomeRow]) -> RowChanges:
        changes = RowChanges(outcomes=outcomes)
        if self._deletions:
            self._delete_messages(changes)
        for chat_id, chat in self._chats.items():
            if chat.created is not None:
                changes.chats_created.append(
                    chat.created._replace(
                        last_seq=chat.last_seq or 0, last_position=chat.position, last_message_at=chat.last_message_at
                    )
                )
            else:
                changes.chats_moved.append(ChatMoved(chat_id, chat.last_seq, chat.position, chat.last_message_at))
        for (chat_id, user_id), m in self._members.items():
            if m.joined_at is not None:
                assert m.role is not None
                assert m.read_seq is not None
                assert m.delivered_seq is not None
                assert m.changed_position is not None
                changes.participants_joined.append(
                    ParticipantJoined(
                        chat_id, user_id, m.role, m.joined_at, m.joined_seq, m.left_at, m.read_seq, m.last_read_at,
                        m.delivered_seq, len(m.own_after_read), m.changed_position,
                    )
                )  # fmt: skip
            else:
                changes.participants_moved.append(
                    ParticipantMoved(
                        chat_id, user_id, m.read_seq, m.last_read_at, m.delivered_seq, m.left_at,
                        len(m.own_after_read), m.changed_position,
                    )
                )  # fmt: skip
                if m.role is not None:
                    changes.roles_changed.append(RoleChanged(chat_id, user_id, m.role))
        changes.messages.extend(map(self._with_replies, self._messages) if self._replies else self._messages)
        changes.roots_replied.extend(
            RootReplied(chat_id, seq, replies.count, replies.position)
            for (chat_id, seq), replies in self._replies.items()
        )
        return changes

    def _with_replies(self, message: AnyMessageRow) -> AnyMessageRow:
        replies = self._replies.pop((message.chat_id, message.seq), None)
        if replies is None:
            return message
        row = message_row(message)
        changed_position = max(row.changed_position, replies.position)
        return row._replace(reply_count=replies.count, changed_position=changed_position)

    def _delete_messages(self, changes: RowChanges) -> None:
        """A message of the batch itself is written as deleted, and is no longer among its sender's; what an older one
        was to its sender is left to the database."""
        here: set[tuple[ChatId, int]] = set()
        for at, message in enumerate(self._messages):
            deletion = self._deletions.get((message.chat_id, message.seq))
            if deletion is not None:
                here.add((message.chat_id, message.seq))
                self._messages[at] = message_row(message)._replace(
                    message_text=None, media_urls=[], metadata=None, deleted_at=deletion.at,
                    changed_position=deletion.position,
                )  # fmt: skip
        for (chat_id, _), member in self._members.items():
            member.own_after_read = [seq for seq in member.own_after_read if (chat_id, seq) not in here]
        changes.messages_deleted.extend(
            MessageDeleted(*key, deletion.at, deletion.position)
            for key, deletion in self._deletions.items()
            if key not in here
        )
        changes.chats_deleted.extend(chats_deleted(self._deletions))
        changes.blocks_deleted.extend(blocks_deleted(self._deletions))
