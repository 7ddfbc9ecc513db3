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

    # To add one: a member here, its entry in services/runtime/web/problem_types.py, its name in docs/asyncapi.yaml, its
    # section in docs/errors.md. Tests name what is missing. (The docstring above is also in the OpenAPI document.)
    _value_: str
    status: int
    """HTTP status of the response; 0 for a reason that no request over HTTP can get."""
    meaning: str
    """Title of the problem document."""
    since: str
    """The first release that rejects for this reason. A reader built before it does not know the reason."""

    def __new__(cls, value: str, status: int = 0, meaning: str = "", since: str = "") -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.status, member.meaning, member.since = status, meaning, since
        return member

    MALFORMED = "malformed", 400, "The request cannot be understood", "0.1.0"
    UNKNOWN_TYPE = "unknown_type", 501, "Not supported yet", "0.1.0"
    WRONG_PARTITION = "wrong_partition", 0, "In the wrong partition", "0.1.0"
    CONFLICT = "conflict", 422, "The key was used for something else", "0.1.0"
    UNKNOWN_CHAT = "unknown_chat", 404, "No such chat", "0.1.0"
    CHAT_EXISTS = "chat_exists", 409, "The chat exists already", "0.1.0"
    NOT_MEMBER = "not_member", 403, "No longer a member", "0.1.0"
    FORBIDDEN = "forbidden", 403, "Not allowed", "0.1.0"
    UNKNOWN_MESSAGE = "unknown_message", 404, "No such message", "0.1.0"
    TOO_LARGE = "too_large", 413, "Too large", "0.1.0"
    INVALID = "invalid", 422, "The command is not valid", "0.1.0"
    STALE = "stale", 412, "The message has another revision", "0.1.0"


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
