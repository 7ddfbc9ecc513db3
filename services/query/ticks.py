"""The sender's tick of every message of a page, from four cursors: pure.

A message is `read` when every other present member has read it, `delivered` when it has reached each of them (who
has read a message has received it). Every other member's cursor has passed a seq exactly if the lowest of them
has; leaving out the sender, that is the lowest of the two lowest that is not the sender's own. So two cursors of
each kind, read by index, serve a whole page, whatever the number of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.ids import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """The two lowest cursors of the present members of a chat, ascending: (whose, seq)."""

    read: Sequence[tuple[UserId, int]]
    delivered: Sequence[tuple[UserId, int]]
    """Of GREATEST(read_seq, delivered_seq)."""

    _of_sender: dict[UserId, tuple[int | None, int | None]] = field(default_factory=dict, init=False, compare=False)

    def status(self, sender_id: UserId, seq: int) -> str:
        """`read`, `delivered` or `sent`; alone in a chat nobody else can have read anything: `sent`."""
        lowest = self._of_sender.get(sender_id)
        if lowest is None:  # once for each sender of a page
            lowest = _lowest_of_others(self.read, sender_id), _lowest_of_others(self.delivered, sender_id)
            self._of_sender[sender_id] = lowest
        return tick(*lowest, seq)


def tick(read_by_all: int | None, delivered_to_all: int | None, seq: int) -> str:
    """The tick of a message, by the lowest cursors of the others; None where there is nobody else."""
    if read_by_all is not None and read_by_all >= seq:
        return "read"
    if delivered_to_all is not None and delivered_to_all >= seq:
        return "delivered"
    return "sent"


def _lowest_of_others(lowest_two: Sequence[tuple[UserId, int]], sender_id: UserId) -> int | None:
    for user_id, seq in lowest_two:
        if user_id != sender_id:
            return seq
    return None
