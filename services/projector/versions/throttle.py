"""Makes a rebuild wait while the projection that serves is behind: both use the same disk and the same brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from services.projector.settings import topic_names
from services.projector.versions.registry import Place, State, list_projections, positions
from services.runtime.kafka.topics import AskEnds, end_offsets
from services.runtime.postgres.pool import PostgresPool
from services.runtime.settings import KafkaSettings

ASK_INTERVAL_S: Final = 1.0
"""Time for which a measured lag holds."""


class Throttle:
    """Lets loaders pass while the lag is at most `max_lag`. For any number of tasks."""

    def __init__(
        self,
        max_lag: int,
        ask_lag: Callable[[], Awaitable[int]],
        on_lag: Callable[[int | None], None] = lambda _lag: None,
    ) -> None:
        """`on_lag` is called with the lag at each measurement that makes a loader wait, and then once with None."""
        self._max_lag = max_lag
        self._ask_lag = ask_lag
        self._on_lag = on_lag
        self._asked_s: float | None = None
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the lag is at most `max_lag`. Raises what asking for the lag raises."""
        async with self._turn:
            waited = False
            while self._asked_s is None or time.monotonic() - self._asked_s >= ASK_INTERVAL_S:
                lag = await self._ask_lag()
                if lag <= self._max_lag:
                    self._asked_s = time.monotonic()
                    if waited:
                        self._on_lag(None)
                    return
                waited = True
                self._on_lag(lag)
                await asyncio.sleep(ASK_INTERVAL_S)


@asynccontextmanager
async def throttle_by_lag(
    max_lag: int | None,
    *,
    pool: PostgresPool,
    kafka: KafkaSettings,
    on_lag: Callable[[int | None], None] = lambda _lag: None,
) -> AsyncIterator[Throttle | None]:
    """Yield a throttle by the number of events that the serving projection has not applied; None without a limit.

    Raises KafkaUnavailable.
    """
    if max_lag is None:
        yield None
        return
    async with end_offsets(kafka.connection, topic_names(kafka).events, range(kafka.partitions)) as ask_ends:
        yield Throttle(max_lag, lambda: serving_lag(pool, ask_ends), on_lag)


async def serving_lag(pool: PostgresPool, ask_ends: AskEnds) -> int:
    """Return how many events the serving projection has not applied, in all partitions; 0 if none serves.

    Raises KafkaUnavailable, psycopg.Error.
    """
    async with pool.connection() as connection:
        serving = next((p.version for p in await list_projections(connection) if p.state is State.SERVING), None)
        there = await positions(connection, serving) if serving is not None else {}
    if serving is None:
        return 0
    return sum(max(0, end - there.get(Place(False, p), 0)) for p, end in (await ask_ends()).items())
