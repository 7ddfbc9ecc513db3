"""One accepted event with the state in which it was accepted: the input of the judges of all nouns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from schemas.events import AcceptedOutcome, OtherOutcome
from services.ops.verify.log.chat import Chat, Member

RuleViolation = tuple[str, str]
"""The rule that is broken, and a sentence about it."""
Found = Iterator[RuleViolation]


class LastEdit(Struct, frozen=True, gc=False):
    """What the edits of a message left."""

    revision: int = 0
    position: int | None = None
    parts: dict[str, Any] = {}
    """Each part that an edit has named, as the last of them left it."""


class Messages(Protocol):
    """The messages of all chats of the partition."""

    def is_message_of(self, message_id: str, chat_id: str) -> bool:
        """Return whether a message_id is that of a message of a chat."""
        ...

    def author_of(self, chat_id: str, seq: int) -> str | None: ...
    def is_deleted(self, chat_id: str, seq: int) -> bool: ...
    def last_edit(self, chat_id: str, seq: int) -> LastEdit: ...
    def sent(self, chat_id: str, seq: int | None, sender_id: str) -> None: ...
    def edited(self, chat_id: str, seq: int, edit: LastEdit) -> None: ...
    def deleted(self, chat_id: str, seq: int) -> None: ...


class Reactions(Protocol):
    """The reactions of all chats of the partition."""

    def reactions_of(self, chat_id: str, seq: int, user_id: str) -> int:
        """Return how many reactions a user has to a message."""
        ...

    def reaction_kinds(self, chat_id: str, seq: int) -> set[str]:
        """Return the emojis with which users react to a message."""
        ...

    def has_reaction(self, chat_id: str, seq: int, user_id: str, emoji: str) -> bool: ...
    def reaction_added(self, chat_id: str, seq: int, user_id: str, emoji: str) -> None: ...
    def reaction_removed(self, chat_id: str, seq: int, user_id: str, emoji: str) -> None: ...


class Case(Struct, frozen=True, gc=False):
    """An accepted event before it is applied."""

    outcome: AcceptedOutcome
    body: Any
    chat: Chat
    """The chat before the event. Blank if the log never created it; readers see its events all the same."""
    known: bool
    """Whether the log created the chat."""
    messages: Messages
    reactions: Reactions


def no_objection(_outcome: OtherOutcome, _body: Any, _messages: Messages) -> Found:
    yield from ()


class Judge(NamedTuple):
    """How `log verify` reads one event type."""

    check: Callable[[Case], Found]
    """Yields the violations of an event: of rights, membership and state."""
    apply: Callable[[Case], int | None]
    """Applies the event to the chat, whether or not it violates a rule: readers see it either way. Returns the revision
    after an edit."""
    without_effect: Callable[[OtherOutcome, Any, Messages], Found] = no_objection
    """Yields the violations of an `unchanged` or a rejection of a command with this body."""


OfMember = Callable[[Case, Member], Found]


def by_member(check: OfMember) -> Callable[[Case], Found]:
    """Turn a check that needs a present member into a check of any event."""

    def checked(case: Case) -> Found:
        outcome = case.outcome
        if not case.known:
            yield "unknown_chat", f"a {outcome.type} in chat {outcome.chat_id}, which was never created"
            return
        sender = case.chat.present(outcome.sender_id)
        if sender is None:
            yield "not_member", f"{outcome.sender_id} is no member of chat {outcome.chat_id} at this point"
            return
        yield from check(case, sender)

    return checked


HIGH_ROLES: Final = ("owner", "admin")
