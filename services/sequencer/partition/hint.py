"""What others say of one partition: the group's words, and what the beats of the other sequencers call for.

It allows opening; it never takes writing away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Hint:
    """The group's words on one partition, counted, so that one can wait for the next; and the beats' calls beside."""

    def __init__(
        self,
        still_ours: Callable[[], bool],
        *,
        called: Callable[[int], bool] = lambda _term: False,
        stands_by: Callable[[], bool] = lambda: False,
        announced: Callable[[], int] = lambda: 0,
    ) -> None:
        """`still_ours` tells whether the group says so right now: between two words nothing is ours. `called` tells
        whether we are to take over from the writer of a term, though the group has not spoken; `stands_by` whether
        we are to be ready for that, `announced` the latest term that another says it serves. By default nobody is
        there."""
        self._still_ours = still_ours
        self._called = called
        self._stands_by = stands_by
        self._announced = announced
        self._ours = False
        self.words = 0
        self._spoke = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def ours(self) -> bool:
        return self._ours and self._still_ours()

    @property
    def given(self) -> bool:
        """Whether the group's last word gave the partition to this process, also while the group is silent since."""
        return self._ours

    def undisputed(self, term: int) -> bool:
        """Whether the group says that the partition is ours, and nobody says that he serves it in a later term."""
        return self.ours and self._announced() <= term

    @property
    def stands_by(self) -> bool:
        return self._stands_by()

    def called(self, term: int) -> bool:
        """Whether the writer of this term, the one that stands in the log, is to be replaced by us now."""
        return self._called(term)

    def say(self, ours: bool) -> None:
        """The group has spoken."""
        self._ours = ours
        self.words += 1
        self._spoke.set()
        self._spoke = asyncio.Event()
        self.look()

    def look(self) -> None:
        """The beats have news."""
        self._news.set()
        self._news = asyncio.Event()

    async def next_word(self, timeout_s: float) -> None:
        """Returns at the group's next word, or when the time is up."""
        await _within(self._spoke, timeout_s)

    async def next_news(self, timeout_s: float) -> None:
        """Returns when the group or the beats have something new, or the time is up."""
        await _within(self._news, timeout_s)


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
