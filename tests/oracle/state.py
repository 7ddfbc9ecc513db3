"""What the oracle knows after a prefix of the log: chats, their members and their messages.

Nothing is counted while the log is folded; a count is taken from the rows when it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.oracle.records import Json, Outcome


@dataclass(slots=True, kw_only=True)
class Member:
    role: str
    joined_at: int
    joined_seq: int
    read_seq: int
    delivered_seq: int
    changed_position: int
    changed_index: int
    left_at: int | None = None
    last_read_at: int | None = None

    @property
    def present(self) -> bool:
        return self.left_at is None

    def changed_by(self, outcome: Outcome) -> None:
        self.changed_position, self.changed_index = outcome.position or 0, outcome.index


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
    """The body as it was sent."""
    root_seq: int | None
    changed_position: int
    edits: list[Outcome] = field(default_factory=list)
    deleted_at: int | None = None
    deleted_position: int | None = None
    deleted_index: int | None = None
    """The index of the outcome that deleted the message."""
    reactions: dict[tuple[str, str], int] = field(default_factory=dict)
    """(user, emoji) → the position at which it was added."""
    first_uses: dict[str, int] = field(default_factory=dict)
    """emoji → the position since which there has always been a reaction with it."""

    def edited(self, name: str) -> Any:
        """Return the text, media_urls or metadata as the last edit that names them left them, or None."""
        named = [edit.body[name] for edit in self.edits if edit.body.get(name) is not None]
        return named[-1] if named else None

    def said(self, name: str) -> Any:
        """Return the same; what no edit has named is as it was sent."""
        edited = self.edited(name)
        return self.body.get(name) if edited is None else edited


@dataclass(slots=True, kw_only=True)
class Chat:
    kind: str
    name: str | None
    created_by: str
    created_at: int
    partition: int
    last_seq: int = 0
    last_position: int = 1
    changed_index: int = 0
    last_message_at: int | None = None
    members: dict[str, Member] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    """By seq."""
    seq_of: dict[str, int] = field(default_factory=dict)
    """message_id → seq."""

    def live_replies(self, root_seq: int) -> list[int]:
        """Return the seqs of the replies in a thread that are not deleted."""
        return [m.seq for m in self.messages.values() if m.root_seq == root_seq and m.deleted_at is None]

    def present(self) -> dict[str, Member]:
        return {user: member for user, member in self.members.items() if member.present}

    def owners(self) -> list[str]:
        return [user for user, member in self.present().items() if member.role == "owner"]

    def join(self, user: str, role: str, outcome: Outcome) -> None:
        """Add a member from this outcome on. A member who returns begins with fresh cursors."""
        before = self.members.get(user)
        self.members[user] = Member(
            role=role, joined_at=outcome.at_ms, joined_seq=self.last_seq, read_seq=self.last_seq,
            delivered_seq=self.last_seq, changed_position=outcome.position or 0,
            changed_index=outcome.index, last_read_at=before.last_read_at if before is not None else None,
        )  # fmt: skip


@dataclass(slots=True)
class State:
    """The chats of all partitions: a chat lives in one."""

    chats: dict[str, Chat] = field(default_factory=dict)
    accepted: dict[str, Outcome] = field(default_factory=dict)
    """command_id → the accepted outcome, for commands with an idempotency key."""
    revisions: dict[str, int] = field(default_factory=dict)
    """command_id of an edit → the message's revision after it."""
