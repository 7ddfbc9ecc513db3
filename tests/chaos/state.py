"""The checker's own fold: what the valid outcomes mean, by wire.md and read-model.md, one plain step per event.

It shares nothing with the sequencer's, the projector's or `gapless projection verify`'s: one bug must not hide on
two sides. Counters are not kept but counted at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.evidence import Json, Rows, message_digest
from tests.chaos.judged import MARKS, Outcome, PartitionLog
from tests.chaos.violations import Kind, Violation


@dataclass(slots=True, kw_only=True)
class Member:
    role: str
    joined_at: int
    joined_seq: int
    read_seq: int
    delivered_seq: int
    changed_position: int
    left_at: int | None = None
    last_read_at: int | None = None


@dataclass(slots=True, kw_only=True)
class Message:
    seq: int
    position: int
    index: int
    message_id: str
    sender: str
    key: str
    sent_at: int
    body: Json
    root_seq: int | None
    changed_position: int
    reply_count: int = 0
    deleted_at: int | None = None
    deleted_index: int | None = None
    """Of the outcome that deleted it."""

    @property
    def digest(self) -> str:
        """As it was sent."""
        return self._digest(self.body["text"])

    @property
    def deleted_digest(self) -> str | None:
        """As it is shown after that; None where it was not deleted."""
        return None if self.deleted_at is None else self._digest(None)

    def _digest(self, text: str | None) -> str:
        return message_digest(
            message_id=self.message_id, sender=self.sender, key=self.key, text=text,
            sent_at_ms=self.sent_at, reply_to=self.body.get("reply_to_message_id"), position=self.position,
        )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Chat:
    kind: str
    name: str | None
    created_by: str
    created_at: int
    partition: int
    last_seq: int = 0
    last_position: int = 1
    last_message_at: int | None = None
    members: dict[str, Member] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    """By seq."""
    seq_of: dict[str, int] = field(default_factory=dict)
    """message_id → seq."""


@dataclass(slots=True)
class State:
    """Of all partitions: chats never cross them."""

    chats: dict[str, Chat] = field(default_factory=dict)
    accepted: dict[str, Outcome] = field(default_factory=dict)
    """command_id → the accepted outcome, of commands with a key."""
    read_seqs: dict[tuple[int, int], int] = field(default_factory=dict)
    """(partition, index) of a mark's outcome → the member's read cursor after it."""

    def apply(self, outcome: Outcome, violations: list[Violation]) -> None:
        """One more valid outcome, in the order of its partition. What has no place in the state is named, and left
        out where it can be."""
        if outcome.kind == "accepted":
            self._accepted(outcome, violations)
        chat = self.chats.get(outcome.chat or "")
        if chat is not None and outcome.sender in chat.members:
            self.read_seqs[outcome.partition, outcome.index] = chat.members[outcome.sender].read_seq

    def _accepted(self, outcome: Outcome, violations: list[Violation]) -> None:
        if outcome.command_type not in MARKS and outcome.command_id is not None:
            original = self.accepted.setdefault(outcome.command_id, outcome)
            if original is not outcome:
                what = f"command {outcome.command_id} was accepted before, at {original.place}"
                violations.append(Violation(Kind.ACCEPTED_TWICE, outcome.place, what))
        chat = self.chats.get(outcome.chat or "")
        last_seq, last_position = (0, 0) if chat is None else (chat.last_seq, chat.last_position)
        if outcome.position != last_position + 1:
            what = f"position {outcome.position} of chat {outcome.chat} follows {last_position}"
            violations.append(Violation(Kind.POSITION, outcome.place, what))
        if outcome.seq is not None and outcome.seq != last_seq + 1:
            what = f"seq {outcome.seq} of chat {outcome.chat} follows {last_seq}"
            violations.append(Violation(Kind.SEQ, outcome.place, what))
        if outcome.type == "chat.created.v1" and chat is None:
            self._created(outcome)
        elif chat is not None:
            self._changed(chat, outcome)

    def _created(self, outcome: Outcome) -> None:
        body, sender = outcome.body, outcome.sender or ""
        chat = self.chats[outcome.chat or ""] = Chat(
            kind=body["kind"], name=body.get("name"), created_by=sender, created_at=outcome.at_ms,
            partition=outcome.partition,
        )  # fmt: skip
        others = "owner" if body["kind"] == "direct" else "member"
        for user, role in {**dict.fromkeys(body["members"], others), sender: "owner"}.items():
            _join(chat, user, role, outcome)

    def _changed(self, chat: Chat, outcome: Outcome) -> None:
        body, at, position = outcome.body, outcome.at_ms, outcome.position or 0
        chat.last_position = position
        match outcome.type:
            case "message.sent.v1":
                _sent(chat, outcome)
            case "message.deleted.v1" if body["seq"] in chat.messages:
                message = chat.messages[body["seq"]]
                message.deleted_at, message.deleted_index, message.changed_position = at, outcome.index, position
            case "member.added.v1":
                _join(chat, body["user_id"], body["role"], outcome)
            case "member.removed.v1" if body["user_id"] in chat.members:
                member = chat.members[body["user_id"]]
                member.left_at, member.changed_position = at, position
            case "member.role.changed.v1" if body["user_id"] in chat.members:
                member = chat.members[body["user_id"]]
                member.role, member.changed_position = body["role"], position
            case "read.advanced.v1" if outcome.sender in chat.members:
                member = chat.members[outcome.sender]
                member.read_seq, member.last_read_at = body["up_to_seq"], at
                member.changed_position = position
            case "delivered.advanced.v1" if outcome.sender in chat.members:
                member = chat.members[outcome.sender]
                member.delivered_seq, member.changed_position = body["up_to_seq"], position


def _join(chat: Chat, user: str, role: str, outcome: Outcome) -> None:
    before = chat.members.get(user)
    chat.members[user] = Member(
        role=role, joined_at=outcome.at_ms, joined_seq=chat.last_seq, read_seq=chat.last_seq,
        delivered_seq=chat.last_seq, changed_position=outcome.position or 0,
        last_read_at=before.last_read_at if before is not None else None,
    )  # fmt: skip


def _sent(chat: Chat, outcome: Outcome) -> None:
    position, seq = outcome.position or 0, outcome.seq or 0
    message_id = outcome.command_id or ""
    root: Message | None = None
    replied = chat.seq_of.get(outcome.body.get("reply_to_message_id", ""))
    if replied is not None:
        parent = chat.messages[replied]
        root = parent if parent.root_seq is None else chat.messages[parent.root_seq]
        root.reply_count += 1
        root.changed_position = position
    message = Message(
        seq=seq, position=position, index=outcome.index, message_id=message_id, sender=outcome.sender or "",
        key=outcome.client_id or "", sent_at=outcome.at_ms, body=outcome.body,
        root_seq=root.seq if root is not None else None, changed_position=position,
    )  # fmt: skip
    chat.messages[seq] = message
    chat.seq_of[message_id] = seq
    chat.last_seq, chat.last_message_at = seq, outcome.at_ms


def rows_of(state: State, logs: dict[int, PartitionLog]) -> dict[str, Rows]:
    """The tables that this state is, with the columns that are compared."""
    return {
        "chats": [
            {
                "chat_id": chat_id, "kind": c.kind, "name": c.name, "created_by": c.created_by,
                "created_at": c.created_at, "last_seq": c.last_seq, "last_position": c.last_position,
                "last_message_at": c.last_message_at,
                "deleted_total": len([m for m in c.messages.values() if m.deleted_at is not None]),
            }
            for chat_id, c in state.chats.items()
        ],
        "chat_participants": [_participant(i, c, user) for i, c in state.chats.items() for user in c.members],
        "chat_messages": [_message(chat_id, m) for chat_id, c in state.chats.items() for m in c.messages.values()],
        "outcomes": [_outcome(o) for log in logs.values() for o in log.outcomes if o.command_id is not None],
        "projection_positions": [
            {
                "partition": partition, "next_offset": log.head.next_offset, "term": log.head.term,
                "index": log.head.index, "command_offset": log.head.command_offset,
                "last_timestamp_ms": log.head.last_timestamp_ms,
            }
            for partition, log in logs.items()
        ],
    }  # fmt: skip


KEYS = {
    "chats": ("chat_id",),
    "chat_participants": ("chat_id", "user_id"),
    "chat_messages": ("chat_id", "seq"),
    "outcomes": ("partition", "index"),
    "projection_positions": ("partition",),
}
"""What a row is found by, table by table."""


def _participant(chat_id: str, chat: Chat, user: str) -> Json:
    m = chat.members[user]
    own = [
        sent
        for sent in chat.messages.values()
        if sent.sender == user and sent.seq > m.read_seq and sent.deleted_at is None
    ]
    return {
        "chat_id": chat_id, "user_id": user, "role": m.role, "joined_at": m.joined_at, "joined_seq": m.joined_seq,
        "left_at": m.left_at, "read_seq": m.read_seq, "last_read_at": m.last_read_at,
        "delivered_seq": m.delivered_seq, "changed_position": m.changed_position,
        "own_live_after_read": len(own),
    }  # fmt: skip


def _message(chat_id: str, m: Message) -> Json:
    said = m.body if m.deleted_at is None else {"text": None}
    return {
        "chat_id": chat_id, "seq": m.seq, "message_id": m.message_id, "sender_id": m.sender,
        "message_text": said["text"], "client_generated_id": m.key,
        "reply_to_message_id": m.body.get("reply_to_message_id"), "root_seq": m.root_seq,
        "reply_count": m.reply_count, "media_urls": said.get("media_urls", []), "metadata": said.get("metadata"),
        "sent_at": m.sent_at, "edited_at": None, "deleted_at": m.deleted_at, "position": m.position,
        "changed_position": m.changed_position,
    }  # fmt: skip


def _outcome(o: Outcome) -> Json:
    row: Json = {
        "partition": o.partition, "index": o.index, "command_id": o.command_id, "sender_id": o.sender,
        "type": o.command_type, "outcome": o.kind, "reason": None, "seq": o.seq, "position": o.position, "at": o.at_ms,
        "detail": None,
    }  # fmt: skip
    if o.kind in ("duplicate", "unchanged"):
        row |= {"seq": o.body.get("seq"), "position": o.body.get("position")}
    elif o.kind == "rejected":
        row |= {"type": o.body.get("command_type"), "reason": o.body["reason"], "detail": o.body["detail"]}
    return row
