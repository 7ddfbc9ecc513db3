"""What can be wrong after a chaos run: one name for each broken promise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The broken promise."""

    LOG_CORRUPT = "log_corrupt"
    """A record that the validity rule does not allow (a skipped index is one), or a hole in the offsets."""
    TIME = "time"
    """An outcome has an earlier time than the one before it."""
    SEQ = "seq"
    """A chat's messages are not numbered 1, 2, 3 …"""
    POSITION = "position"
    """A chat's accepted events are not numbered 1, 2, 3 …"""
    ACCEPTED_TWICE = "accepted_twice"
    """Two accepted commands with one key."""
    COMMAND_SKIPPED = "command_skipped"
    """A command in chat.commands has no outcome."""
    COMMAND_INVENTED = "command_invented"
    """An outcome answers no command, or is not about the one that it names."""
    WRONG_DECISION = "wrong_decision"
    """The outcome is not the one that the wire contract requires in this state."""
    LOG_REWRITTEN = "log_rewritten"
    """A reader of the log received a record that is no longer there."""
    COMMAND_LOST = "command_lost"
    """A command's append was acknowledged, but the command is missing."""
    ANSWER_NOT_IN_LOG = "answer_not_in_log"
    """A client got an outcome that is not in the log."""
    ANSWER_DIFFERS = "answer_differs"
    """A client got other figures than those in the log."""
    REPEAT_DIFFERS = "repeat_differs"
    """Two answers to one key have different figures."""
    TOLD_TWICE = "told_twice"
    """Two attempts with one key both got the answer that theirs was the first."""
    REFUSED_YET_ACCEPTED = "refused_yet_accepted"
    """A refused command became an event."""
    REFUSAL_NOT_IN_LOG = "refusal_not_in_log"
    """A client got a refusal that is not in the log."""
    REAL_TIME = "real_time"
    """An answered command comes after one that was sent only after the answer."""
    READ_GAP = "read_gap"
    """A page of history leaves something out."""
    READ_STEPPED_BACK = "read_stepped_back"
    """A read shows less than a read that was answered before it was sent."""
    READ_DIFFERS = "read_differs"
    """A read shows what the log does not say, at that place or at any time."""
    READ_AHEAD = "read_ahead"
    """A read shows an event whose command was sent only after the answer."""
    READ_TOO_OLD = "read_too_old"
    """A read with a token lacks what the token stands for."""
    LIVE_GAP = "live_gap"
    """A stream leaves an event out."""
    LIVE_REPEATED = "live_repeated"
    """A connection brings an event twice, or after a later one."""
    LIVE_DIFFERS = "live_differs"
    """A frame says what the log does not say."""
    LIVE_AFTER_REMOVAL = "live_after_removal"
    """A frame of a chat goes to a reader who is not a member, or does not know to be one again."""
    COPY_DIFFERS = "copy_differs"
    """A reader's copy is not the fold of the log, or is not complete in the end."""
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
