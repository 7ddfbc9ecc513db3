"""Errors of the contract.

SchemaError
├── Refused        a command breaks the contract: answered with `command.rejected`, never a crash
├── LogCorrupt     a record of `chat.events` that no correct writer can have written: stop this partition
└── UnknownType    an event type this reader was built before: stop, deploy the newer reader first
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a command was rejected: the closed list of the wire contract."""

    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_PARTITION = "wrong_partition"
    CONFLICT = "conflict"
    UNKNOWN_CHAT = "unknown_chat"
    CHAT_EXISTS = "chat_exists"
    NOT_MEMBER = "not_member"
    FORBIDDEN = "forbidden"
    UNKNOWN_MESSAGE = "unknown_message"
    TOO_LARGE = "too_large"
    INVALID = "invalid"


class SchemaError(Exception):
    """The root of everything that `schemas` raises."""


class Refused(SchemaError):
    """A command, or a request that would become one, is outside the contract.

    `detail` is a sentence for the sender that never repeats the content; `pointer` is the JSON pointer
    of the part at fault in the body ("" for the whole).
    """

    def __init__(self, reason: Reason, detail: str, pointer: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.pointer = pointer


class LogCorrupt(SchemaError):
    """A record breaks the validity rule in a way that no crash, delay or second writer explains.

    A reader that finds one stops reading the partition and reports it; continuing would build on a broken log.
    """


class UnknownType(SchemaError):
    """A valid record of an event type that this reader does not know. Skipping it would lose its effect."""
