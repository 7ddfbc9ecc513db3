"""Ownership hints for one partition, from the consumer group and from the failure detector.

A hint may allow opening a term; it never stops a writer: only a later term in the log does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class OwnershipHint:
    """Ownership hints for one partition: consumer-group assignments, numbered so that a caller can await the next,
    and takeover requests from heartbeats."""

    def __init__(
        self,
        still_ours: Callable[[], bool],
        *,
        should_take_over: Callable[[int], bool] = lambda _term: False,
        stands_by: Callable[[], bool] = lambda: False,
        announced: Callable[[], int] = lambda: 0,
    ) -> None:
        """`still_ours` returns whether the group assigns the partition to us now; between two assignments it does not.
        `should_take_over` returns whether to take over from the writer of a term ahead of the group, `stands_by`
        whether to be ready for that, and `announced` the latest term that a peer says it serves. By default there are
        no peers."""
        self._still_ours = still_ours
        self._should_take_over = should_take_over
        self._stands_by = stands_by
        self._announced = announced
        self._ours = False
        self.assignment_seq = 0
        self._assigned_event = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def ours(self) -> bool:
        return self._ours and self._still_ours()

    @property
    def assigned(self) -> bool:
        """Whether the last assignment included the partition, even if the group has been unreachable since."""
        return self._ours

    def is_uncontested(self, term: int) -> bool:
        """Return whether the group assigns the partition to us and no peer announces a later term than `term`."""
        return self.ours and self._announced() <= term

    @property
    def stands_by(self) -> bool:
        return self._stands_by()

    def should_take_over(self, term: int) -> bool:
        """Return whether to take over now from the writer of `term`, the latest in the log."""
        return self._should_take_over(term)

    def on_assignment(self, ours: bool) -> None:
        """Record an assignment by the group: whether it includes the partition."""
        self._ours = ours
        self.assignment_seq += 1
        self._assigned_event.set()
        self._assigned_event = asyncio.Event()
        self.notify()

    def notify(self) -> None:
        """Wake `wait_change`: the failure detector's results may have changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_assignment(self, timeout_s: float) -> None:
        """Return at the group's next assignment, or when the time is up."""
        await _within(self._assigned_event, timeout_s)

    async def wait_change(self, timeout_s: float) -> None:
        """Return when the group or the failure detector has news, or when the time is up."""
        await _within(self._changed, timeout_s)


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
