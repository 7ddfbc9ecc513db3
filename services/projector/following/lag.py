"""How far a partition of a projection is behind its log, computed at the moment it is asked for.

A gauge that the worker sets stands still when the worker does: during an outage, or in a stopped partition, it would
show the last good value.
"""

from __future__ import annotations

import time
from typing import Final

from services.projector.following.consumer import PartitionConsumer

END_IS_FRESH_S: Final = 10.0
"""Age of the known end of the log, in seconds, from which there may be more than we know. It is asked for about once a
second."""


def lag_seconds(
    now_s: float, *, oldest_ms: int | None, behind_since_s: float | None, end_known_s: float, stopped_s: float | None
) -> float:
    """Return the age of the oldest record that is not applied, or the least that it can be; 0 at the end of the log.

    :param oldest_ms: the timestamp of that record, if it was read.
    :param behind_since_s: since when the log is known to go on beyond what is applied; None at its end.
    :param end_known_s: when the end of the log was last asked for.
    :param stopped_s: when the partition stopped, if it did.
    """
    if oldest_ms is not None:
        since_s = oldest_ms / 1000
    else:
        since_s = min((at_s for at_s in (behind_since_s, stopped_s) if at_s is not None), default=now_s)
    if now_s - end_known_s > END_IS_FRESH_S:
        since_s = min(since_s, end_known_s)
    return max(0.0, now_s - since_s)


class PartitionLag:
    """The lag of one consumer, whether or not it is running."""

    def __init__(self, consumer: PartitionConsumer) -> None:
        self._consumer = consumer
        self._end = 0
        self._end_known_s = time.time()
        self._behind_since_s: float | None = None
        self._stopped_s: float | None = None

    def saw_end(self, end_offset: int) -> None:
        """Record that the log ended at this offset a moment ago."""
        self._end, self._end_known_s = end_offset, time.time()
        if not self.events():
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = self._end_known_s

    def stopped(self) -> None:
        """Record that nothing more is applied until the process restarts."""
        self._stopped_s = time.time()

    def events(self) -> int:
        """Return how many records are not applied."""
        return max(0, max(self._end, self._consumer.read_to) - self._consumer.position.next_offset)

    def seconds(self) -> float:
        """Return the lag in seconds; see lag_seconds."""
        return lag_seconds(
            time.time(),
            oldest_ms=self._consumer.oldest_ms,
            behind_since_s=self._behind_since_s if self.events() else None,
            end_known_s=self._end_known_s,
            stopped_s=self._stopped_s,
        )
