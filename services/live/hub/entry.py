"""An event in the ring."""

from __future__ import annotations

from typing import Final, final

from schemas.events import AcceptedOutcome, decode_accepted
from schemas.ids import ChatId, UserId, token
from services.live.frames.events import RECEIPTS, frame_of, named_users
from services.live.frames.frame import Frame

OVERHEAD_BYTES: Final = 1_000
"""Roughly what an entry takes besides its body: the outcome, its strings, its places in the ring."""


@final
class Entry:
    """A valid event, with its place among the events of its partition. Its frame is made when it is first sent."""

    __slots__ = ("_frame", "index", "is_receipt", "named", "outcome", "partition", "prev", "serial")

    def __init__(self, partition: int, index: int, outcome: AcceptedOutcome) -> None:
        """Raises LogCorrupt if the body does not parse; so no frame ever does."""
        decode_accepted(outcome)
        self.partition = partition
        self.index = index
        self.outcome = outcome
        self.is_receipt = outcome.type in RECEIPTS
        self.named: list[tuple[UserId, bool]] = named_users(outcome)
        """The users whose membership it changes, each with whether they are members after it."""
        self.prev: int | None = None
        """Position of the chat's event before, receipts not counted; None if it is not known."""
        self.serial = 0
        """Its place in the order in which this process read events, of all partitions."""
        self._frame: Frame | None = None

    @property
    def chat_id(self) -> ChatId:
        return self.outcome.chat_id

    @property
    def position(self) -> int:
        return self.outcome.position

    @property
    def size_bytes(self) -> int:
        return len(self.outcome.body) + OVERHEAD_BYTES

    @property
    def change_of_size(self) -> int:
        """How many members the chat has more after it than before."""
        return sum(1 if is_member else -1 for _, is_member in self.named)

    def frame(self) -> Frame:
        if self._frame is None:
            self._frame = frame_of(self.outcome, self.prev, token(self.partition, self.index))
        return self._frame
