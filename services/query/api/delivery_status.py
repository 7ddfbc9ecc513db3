"""The delivery status of every message of a page, from six numbers: pure.

A message is `read` when every other present member who joined before it has read it, `delivered` when each of them has
received it (a member who has read a message has received it), and `sent` otherwise, also if there is no such member:
members who joined at or after a message do not count.

Every other member's cursor has passed a seq exactly if the lowest one has; excluding the sender, that is one of the two
lowest cursors. Joining sets both cursors to `joined_seq`, and cursors only move forward, so members who joined at or
after a message have cursors at or past it and never hold it back. What remains is whether any other member joined
before it, which the lowest `joined_seq` among the others answers. So two members for each of three columns, read by
index, are enough for a whole page, whatever the number of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.ids import UserId

Steps = tuple[tuple[int, str], ...]
"""The delivery status of one sender's messages as (last seq, status): the first step that reaches a seq holds, and
beyond all of them it is `sent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCursors:
    """The two lowest values of each kind among the present members of a chat, ascending, as (user id, seq)."""

    read: Sequence[tuple[UserId, int]]
    delivered: Sequence[tuple[UserId, int]]
    """The lowest values of GREATEST(read_seq, delivered_seq)."""
    joined: Sequence[tuple[UserId, int]]

    def steps_of(self, sender_id: UserId) -> Steps:
        """Return the delivery status of the messages of one sender."""
        return steps(
            _lowest_of_others(self.read, sender_id),
            _lowest_of_others(self.delivered, sender_id),
            _lowest_of_others(self.joined, sender_id),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatStanding:
    """How far a chat is in the snapshot of a read, and the cursors of its members."""

    position: int
    last_seq: int
    cursors: DeliveryCursors


def steps(read_by_all: int | None, delivered_to_all: int | None, first_joined: int | None) -> Steps:
    """Return the steps from the other members' lowest values, which are None if there are none."""
    if read_by_all is None or delivered_to_all is None or first_joined is None:
        return ()
    return (first_joined, "sent"), (read_by_all, "read"), (delivered_to_all, "delivered")


def status_at(of_sender: Steps, seq: int) -> str:
    """Return the delivery status of a message."""
    for last_seq, status in of_sender:
        if seq <= last_seq:
            return status
    return "sent"


def _lowest_of_others(lowest_two: Sequence[tuple[UserId, int]], sender_id: UserId) -> int | None:
    for user_id, seq in lowest_two:
        if user_id != sender_id:
            return seq
    return None
