"""What the rules of all nouns share: the shape of a rule, and the checks and steps that several of them need.

A rule is one command type: `decide` says what becomes of a command, `evolve` what its accepted outcome changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from schemas.errors import LogCorrupt, Reason, Refused
from schemas.events import AcceptedOutcome
from schemas.ids import ChatId, UserId
from schemas.wire.encoding import Command
from schemas.wire.replies import AcceptedFigures, Figures
from services.sequencer.rules.state import Chat, Member, MemberKey, StateChanges, View

NO_FIGURES: Final = Figures()


class Unchanged(Exception):
    """The effect of the command is already there."""

    def __init__(self, figures: AcceptedFigures | Figures = NO_FIGURES) -> None:
        """:param figures: its position is that of the outcome which had the effect, if that is known."""
        self.figures = figures


class Stale(Refused):
    """The message does not have the revision that the command names."""

    def __init__(self, revision: int) -> None:
        super().__init__(Reason.STALE, f"the message has revision {revision}", "/if_revision")
        self.figures = Figures(revision=revision)


class Rule(Struct, frozen=True):
    """How the sequencer treats one command type."""

    decide: Callable[[View, Command, Any], AcceptedFigures]
    """Takes the state, a command and its parsed body. Raises Refused or Unchanged."""
    evolve: Callable[[View, AcceptedOutcome, StateChanges], int | None]
    """Takes the state and an accepted outcome, and adds the new values to the changes. Returns the revision for the
    answer to a repeat, if the type has one. Raises LogCorrupt if the outcome cannot follow the state."""


# --- deciding -------------------------------------------------------------------------------------------------


def as_member(view: View, command: Command) -> tuple[Chat, Member]:
    """Return the chat, and the membership of the command's sender, who is present. Raises Refused."""
    chat, member = chat_and_sender(view, command)
    require_present(member)
    return chat, member


def chat_and_sender(view: View, command: Command) -> tuple[Chat, Member]:
    """Return the chat and the sender's membership, whether or not the sender has left.

    Raises Refused. A sender who was never a member learns no more than about a chat that does not exist.
    """
    chat = view.chat(command.chat_id)
    member = view.member((command.chat_id, command.sender_id)) if chat is not None else None
    if chat is None or member is None:
        raise Refused(Reason.UNKNOWN_CHAT, "no such chat, or none of yours")
    return chat, member


def require_present(member: Member) -> None:
    if not member.present:
        raise Refused(Reason.NOT_MEMBER, "you are no longer a member of this chat")


# --- evolving -------------------------------------------------------------------------------------------------


def known_member(view: View, outcome: AcceptedOutcome, user: UserId) -> tuple[MemberKey, Member]:
    """Return a member of the outcome's chat, with its key. Raises LogCorrupt if the user was never one."""
    key = (outcome.chat_id, user)
    member = view.member(key)
    if member is None:
        raise LogCorrupt(f"a {outcome.type} of {user}, who never was a member of chat {outcome.chat_id}")
    return key, member


def move_head(
    view: View, outcome: AcceptedOutcome, changes: StateChanges, *, members: int = 0, owners: int = 0
) -> tuple[ChatId, Chat]:
    """Write the chat's next head, and return the chat's id and the head before it.

    Raises LogCorrupt if the position or the seq leaves a gap.
    """
    chat_id = outcome.chat_id
    chat = view.chat(chat_id)
    if chat is None:
        raise LogCorrupt(f"a {outcome.type} in chat {chat_id}, which was never created")
    seq = chat.last_seq if outcome.seq is None else outcome.seq
    if outcome.position != chat.last_position + 1 or (outcome.seq is not None and seq != chat.last_seq + 1):
        raise LogCorrupt(
            f"chat {chat_id} stands at position {chat.last_position}, seq {chat.last_seq};"
            f" {outcome.type} has position {outcome.position}, seq {outcome.seq}"
        )
    changes.chats[chat_id] = Chat(
        kind=chat.kind,
        last_seq=seq,
        last_position=outcome.position,
        members=chat.members + members,
        owners=chat.owners + owners,
    )
    return chat_id, chat
