"""What `log verify` has to know of a chat to check the next decision: its counters and its members."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Member:
    """A user who is, or was, a member."""

    role: str
    read_seq: int
    delivered_seq: int
    present: bool = True


@dataclass(slots=True)
class Chat:
    """A chat after the last accepted outcome."""

    kind: Literal["group", "direct"]
    creator: str | None = None
    name: str | None = None
    last_seq: int = 0
    last_position: int = 0
    members: dict[str, Member] = field(default_factory=dict)

    def present(self, user_id: str | None) -> Member | None:
        member = self.members.get(user_id) if user_id is not None else None
        return member if member is not None and member.present else None

    def was_member(self, user_id: str | None) -> bool:
        """Return whether the user was a member once and is not one now."""
        member = self.members.get(user_id) if user_id is not None else None
        return member is not None and not member.present

    def join(self, user_id: str, role: str) -> None:
        self.members[user_id] = Member(role=role, read_seq=self.last_seq, delivered_seq=self.last_seq)

    def owners(self) -> int:
        return sum(member.present and member.role == "owner" for member in self.members.values())

    def deserted(self) -> bool:
        """Return whether every member has left."""
        return not any(member.present for member in self.members.values())

    def others(self, user_id: str) -> bool:
        return any(member.present for other, member in self.members.items() if other != user_id)
