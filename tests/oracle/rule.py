"""The parts that the rules of all nouns share: the question, the answer, and the shape of a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.oracle.records import Json, Outcome
from tests.oracle.state import Chat, Member, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The one outcome that a command may have in a state, with every figure that a client may receive."""

    kind: str
    reason: str | None = None
    figures: Json = field(default_factory=dict)
    """By the name on the wire; those that the answer does not have are left out."""

    def __str__(self) -> str:
        return self.kind if self.reason is None else f"{self.kind} ({self.reason})"


class Rejected(Exception):
    """The command is rejected for this reason."""

    def __init__(self, reason: str, **figures: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.figures = figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A readable command of a known type, and the chat it is about; None if there is no such chat."""

    chat_id: str
    sender: str
    key: str
    body: Json
    chat: Chat | None
    at_ms: int
    text_characters: int

    def ever_member(self) -> tuple[Chat, Member]:
        """Return the chat and its present or former member who asks. Raises Rejected for anyone else."""
        if self.chat is None or self.sender not in self.chat.members:
            raise Rejected("unknown_chat")
        return self.chat, self.chat.members[self.sender]

    def member(self) -> tuple[Chat, Member]:
        """Return the chat and its present member who asks. Raises Rejected for anyone else."""
        chat, member = self.ever_member()
        if not member.present:
            raise Rejected("not_member")
        return chat, member

    def accepted(self, **figures: int) -> Answer:
        position = 1 if self.chat is None else self.chat.last_position + 1
        return Answer(kind="accepted", figures={"position": position, "sent_at_ms": self.at_ms, **figures})

    def unchanged(self, **figures: int | None) -> Answer:
        known = {name: figure for name, figure in figures.items() if figure is not None}
        return Answer(kind="unchanged", figures={"sent_at_ms": self.at_ms, **known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one command type does."""

    event: str
    """The type of its accepted outcome."""
    expect: Callable[[Ask], Answer]
    """What the command comes to. Raises Rejected."""
    fold: Callable[[State, Outcome], None]
    """Apply the accepted outcome, as far as it has a place in the state."""
    creates: bool = False
    """Whether it makes a chat; all others need one."""
    keyed: bool = True
    """Whether it has an idempotency key, by which a repeat is known."""
    takes_seq: bool = False
