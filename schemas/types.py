"""The command types, each declared once.

`CommandType` is the only list of them. A member holds what its type is: its name on the wire, the outcome that accepts
it, its body, its noun, whether it has a key, and whether its outcome takes a seq. Tables by type are
derived from it, here and elsewhere. What a type does is not said here: every room that acts on commands has one entry
for each type, or names the type as planned (tests/unit/house/test_types.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
)


class EventType(StrEnum):
    """`ce_type` of a record of `chat.events`."""

    CHAT_CREATED = "chat.created.v1"
    MEMBER_ADDED = "member.added.v1"
    MEMBER_REMOVED = "member.removed.v1"
    MEMBER_ROLE_CHANGED = "member.role.changed.v1"
    CHAT_RENAMED = "chat.renamed.v1"
    MESSAGE_SENT = "message.sent.v1"
    MESSAGE_EDITED = "message.edited.v1"
    MESSAGE_DELETED = "message.deleted.v1"
    REACTION_ADDED = "reaction.added.v1"
    REACTION_REMOVED = "reaction.removed.v1"
    READ_ADVANCED = "read.advanced.v1"
    DELIVERED_ADVANCED = "delivered.advanced.v1"
    DUPLICATE = "command.duplicate.v1"
    UNCHANGED = "command.unchanged.v1"
    REJECTED = "command.rejected.v1"
    TERM_OPENED = "term.opened.v1"


class Noun(StrEnum):
    """What a command acts on. A room that acts on commands has one file for each noun."""

    CHATS = "chats"
    MEMBERS = "members"
    MESSAGES = "messages"
    REACTIONS = "reactions"
    RECEIPTS = "receipts"


class Declared(Struct, frozen=True):
    """What a command type is."""

    name: str
    """On the wire: `ce_type`."""
    event: EventType
    """The type of its accepted outcome, whose body is the command's body, byte for byte."""
    body: type[Body]
    noun: Noun
    since: str | None = None
    """The first release that decides it. None: no release does yet, and the sequencer rejects it as `unknown_type`."""
    keyed: bool = True
    """It carries a client_generated_id and is remembered under it. A type without a key is idempotent by nature."""
    takes_seq: bool = False
    """Its accepted outcome takes the chat's next seq: it is a message."""


class CommandType(StrEnum):
    """`ce_type` of a command, with what is declared of its type. A type never changes: a new version is added to it.

    To add a type: one member here, its outcome above, its body in bodies/. CONTRIBUTING.md names what follows.
    """

    _value_: str
    declared: Declared

    def __new__(cls, declared: Declared) -> CommandType:
        member = str.__new__(cls, declared.name)
        member._value_ = declared.name
        member.declared = declared
        return member

    CHAT_CREATE = Declared("chat.create.v1", EventType.CHAT_CREATED, ChatCreate, Noun.CHATS, "0.1.0")
    MEMBER_ADD = Declared("member.add.v1", EventType.MEMBER_ADDED, MemberAdd, Noun.MEMBERS, "0.1.0")
    MEMBER_REMOVE = Declared("member.remove.v1", EventType.MEMBER_REMOVED, MemberRemove, Noun.MEMBERS, "0.1.0")
    MEMBER_ROLE = Declared("member.role.v1", EventType.MEMBER_ROLE_CHANGED, MemberRole, Noun.MEMBERS, "0.1.0")
    CHAT_RENAME = Declared("chat.rename.v1", EventType.CHAT_RENAMED, ChatRename, Noun.CHATS, "0.1.0")
    MESSAGE_SEND = Declared(
        "message.send.v1", EventType.MESSAGE_SENT, MessageSend, Noun.MESSAGES, "0.1.0", takes_seq=True
    )
    MESSAGE_EDIT = Declared("message.edit.v1", EventType.MESSAGE_EDITED, MessageEdit, Noun.MESSAGES, "0.1.0")
    MESSAGE_DELETE = Declared("message.delete.v1", EventType.MESSAGE_DELETED, MessageDelete, Noun.MESSAGES, "0.1.0")
    REACTION_ADD = Declared("reaction.add.v1", EventType.REACTION_ADDED, Reaction, Noun.REACTIONS, "0.1.0")
    REACTION_REMOVE = Declared("reaction.remove.v1", EventType.REACTION_REMOVED, Reaction, Noun.REACTIONS, "0.1.0")
    READ_MARK = Declared("read.mark.v1", EventType.READ_ADVANCED, Mark, Noun.RECEIPTS, "0.1.0", keyed=False)
    DELIVERED_MARK = Declared(
        "delivered.mark.v1", EventType.DELIVERED_ADVANCED, Mark, Noun.RECEIPTS, "0.1.0", keyed=False
    )


# Keys are plain strings: a look-up by a member of an enum would not hash and compare as fast.
BODY_OF: Final[dict[str, type[Body]]] = {each.value: each.declared.body for each in CommandType}
EVENT_OF: Final[dict[str, EventType]] = {each.value: each.declared.event for each in CommandType}
"""The accepted outcome of each command type."""
COMMAND_OF: Final[dict[str, CommandType]] = {each.declared.event.value: each for each in CommandType}
"""The command type behind an accepted outcome; no other outcome type is a key here."""
MARKS: Final = frozenset(each.value for each in CommandType if not each.declared.keyed)
"""The types without a key: idempotent by nature, they leave nothing to remember."""
TAKES_SEQ: Final = frozenset(each.declared.event.value for each in CommandType if each.declared.takes_seq)
"""The outcomes that have a seq: messages."""
KNOWN_TYPES: Final[dict[bytes, str]] = {each.value.encode(): each.value for each in CommandType}
"""The known command types, by the bytes of `ce_type`."""
