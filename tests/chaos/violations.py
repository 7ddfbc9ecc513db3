"""What can be wrong after a chaos run: one word for each promise that is broken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The promise that is broken."""

    LOG_CORRUPT = "log_corrupt"
    """A record that the validity rule does not allow (an index left out is one), or a hole in the offsets."""
    TIME = "time"
    """An outcome is dated before the one before it."""
    SEQ = "seq"
    """A chat's messages are not numbered 1, 2, 3 …"""
    POSITION = "position"
    """A chat's accepted events are not numbered 1, 2, 3 …"""
    ACCEPTED_TWICE = "accepted_twice"
    """One key, two accepted commands."""
    COMMAND_SKIPPED = "command_skipped"
    """A command in the log of commands has no outcome."""
    COMMAND_INVENTED = "command_invented"
    """An outcome answers no command, or is not about the one that it names."""
    WRONG_DECISION = "wrong_decision"
    """The outcome is not the one that the wire contract asks for in this state."""
    LOG_REWRITTEN = "log_rewritten"
    """A reader of the log was given a record that does not stand there now."""
    COMMAND_LOST = "command_lost"
    """An append of a command was acknowledged, and it is not there."""
    ANSWER_NOT_IN_LOG = "answer_not_in_log"
    """A client was told of an outcome that the log does not have."""
    ANSWER_DIFFERS = "answer_differs"
    """A client was told other figures than the log has."""
    REPEAT_DIFFERS = "repeat_differs"
    """Two answers to one key have different figures."""
    TOLD_TWICE = "told_twice"
    """Two attempts of one key were both told that theirs was the first."""
    REFUSED_YET_ACCEPTED = "refused_yet_accepted"
    """What was answered by a refusal became an event."""
    REFUSAL_NOT_IN_LOG = "refusal_not_in_log"
    """A client was told of a refusal that the log does not have."""
    REAL_TIME = "real_time"
    """A command that was answered stands behind one that was sent only after that."""
    READ_GAP = "read_gap"
    """A page of history that leaves something out."""
    READ_STEPPED_BACK = "read_stepped_back"
    """A read shows less than a read that was answered before it was asked."""
    READ_DIFFERS = "read_differs"
    """A read shows a message that the log does not have there."""
    READ_TOO_OLD = "read_too_old"
    """A read with a token does not hold what the token stands for."""
    TABLE_DIFFERS = "table_differs"
    """The read model is not the fold of the log."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, where it shows, and both sides of it."""

    kind: Kind
    place: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}: {self.detail}"
