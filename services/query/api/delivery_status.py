"""The sender's tick of every message of a page, from six numbers: pure.

A message is `read` when every other present member who joined before it has read it, `delivered` when it has reached
each of them (who has read a message has received it), and `sent` when there is no such member: whoever joined at or
after a message says nothing about it.

Every other member's cursor has passed a seq exactly if the lowest of them has; leaving out the sender, that is the
lowest of the two lowest that is not the sender's own. Joining sets both cursors to `joined_seq`, and cursors only move
forward, so those who joined at or after a message have cursors at or past it and never hold it back. All that is left
to ask is whether anybody else joined before it: the earliest `joined_seq` that is not the sender's says so. So two
members for each of three columns, read by index, serve a whole page, whatever the number of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.ids import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCursors:
    """The two lowest values of each kind among the present members of a chat, ascending: (whose, seq)."""

    read: Sequence[tuple[UserId, int]]
    delivered: Sequence[tuple[UserId, int]]
    """Of GREATEST(read_seq, delivered_seq)."""
    joined: Sequence[tuple[UserId, int]]

    _of_sender: dict[UserId, tuple[int | None, int | None, int | None]] = field(
        default_factory=dict, init=False, compare=False
    )

    def status(self, sender_id: UserId, seq: int) -> str:
        """`read`, `delivered` or `sent`."""
        lowest = self._of_sender.get(sender_id)
        if lowest is None:  # once for each sender of a page
            lowest = (
                _lowest_of_others(self.read, sender_id),
                _lowest_of_others(self.delivered, sender_id),
                _lowest_of_others(self.joined, sender_id),
            )
            self._of_sender[sender_id] = lowest
        return delivery_status(*lowest, seq)


def delivery_status(read_by_all: int | None, delivered_to_all: int | None, first_joined: int | None, seq: int) -> str:
    """The delivery status of a message, from the lowest values of the other members; None if there are none."""
    if read_by_all is None or delivered_to_all is None or first_joined is None or first_joined >= seq:
        return "sent"
    if read_by_all >= seq:
        return "read"
    if delivered_to_all >= seq:
        return "delivered"
    return "sent"


def _lowest_of_others(lowest_two: Sequence[tuple[UserId, int]], sender_id: UserId) -> int | None:
    for user_id, seq in lowest_two:
        if user_id != sender_id:
            return seq
    return None
