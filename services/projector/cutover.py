"""Makes the views show another version, and drops one that is no longer wanted.

No reader steps back: the version that serves is held still at its guard, the other one is waited for until it is at
or past it in every partition, and only then the views are re-pointed, all in one transaction that no reader is in
the middle of (sql/control/0001_registry.sql says how readers are kept out, and why). No reader sees an error: a
view is replaced in place, and whoever reads just then waits for at most LOCK_READERS_S.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog
from psycopg import sql

from services.projector.errors import LostRace, ProjectionMissing, SwitchFailed
from services.projector.feed import PartitionFeed, TopicId
from services.projector.rebuild import only_one
from services.projector.registry import (
    REGISTRY,
    Projection,
    State,
    get_projection,
    list_projections,
    point_views,
    positions,
    version_sql,
)
from services.runtime.postgres import Connection, PostgresPool, open_pool
from services.runtime.settings import KafkaSettings, PostgresSettings

APPLICATION: Final = "gapless-cutover"
LOCK_READERS_S: Final = 0.2
"""How long new readers may have to wait behind one that is slow to end; then we step back and let them pass."""
LOCK_FEEDERS_S: Final = 2.0
HOLD_S: Final = 5.0
"""How long the version that serves is held still for the other one to get there."""
STALL_S: Final = 0.3
"""Without any progress for this long nobody feeds the other version, and we do."""
POLL_S: Final = 0.01
PAUSE_S: Final = (0.1, 0.5)
"""Between two attempts, from and to."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverResult:
    """What a cutover did."""

    from_version: int
    to_version: int
    attempts: int
    """0: it served already."""
    held_s: float
    """How long the old version stood still, in the attempt that succeeded."""


class _NotYet(Exception):
    """The other version is not there in time."""


async def cutover(
    to_version: int, *, kafka: KafkaSettings, postgres: PostgresSettings, timeout_s: float = 60.0
) -> CutoverResult:
    """Readers see chat_v<to_version> from now on; going back is the same call with the old version.

    Raises ProjectionMissing (no such version, or still being built), SwitchFailed after `timeout_s`, with nothing
    changed; KafkaError, psycopg.Error, TimeoutError where a server is away.
    """
    deadline_s = time.monotonic() + timeout_s
    async with open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool:
        async with pool.connection() as connection:
            new = await get_projection(connection, to_version)
            (old,) = [p for p in await list_projections(connection) if p.state is State.SERVING]
        if new.state is State.SERVING:
            return CutoverResult(from_version=to_version, to_version=to_version, attempts=0, held_s=0.0)
        if new.state is State.BUILDING:
            raise ProjectionMissing(
                f"chat_v{to_version} is not built yet; finish it with `gapless projection rebuild --to v{to_version}`"
            )
        return await _Cutover(old, new, pool, kafka).run(deadline_s, timeout_s)


class _Cutover:
    def __init__(self, old: Projection, new: Projection, pool: PostgresPool, kafka: KafkaSettings) -> None:
        self._old = old
        self._new = new
        self._pool = pool
        self._kafka = kafka
        self._topic = TopicId(kafka)

    async def run(self, deadline_s: float, timeout_s: float) -> CutoverResult:
        attempts = 0
        reason = ""
        while time.monotonic() < deadline_s:
            attempts += 1
            try:
                # Most of the way before anything is held still.
                async with self._pool.connection() as connection:
                    there = await positions(connection, self._old.version)
                await self._reach(there, deadline_s)
                held_s = await self._attempt(deadline_s)
            except _NotYet as error:
                reason = str(error)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                reason = "a transaction that reads chat.* or writes the projection did not end (see pg_stat_activity)"
            else:
                result = CutoverResult(
                    from_version=self._old.version, to_version=self._new.version, attempts=attempts, held_s=held_s
                )
                log.info("cut_over", from_=self._old.schema, to=self._new.schema, attempts=attempts, held_s=held_s)
                return result
            log.info("cutover_put_off", reason=reason, attempt=attempts)
            await asyncio.sleep(random.uniform(*PAUSE_S))  # noqa: S311  (jitter, no secret)
        raise SwitchFailed(
            f"the views still show {self._old.schema}: within {timeout_s:g} s {reason}; nothing was changed, try again"
        )

    async def _attempt(self, deadline_s: float) -> float:
        """One transaction; how long the old version was held still.

        A crash anywhere before the commit: Postgres releases the locks and the views show what they showed.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await _lock_timeout(connection, LOCK_FEEDERS_S)
            await connection.execute(version_sql(self._old.version)["lock_positions"])
            held_since_s = time.monotonic()
            await self._refuse_change(connection)
            there = await positions(connection, self._old.version)  # READ COMMITTED: as of now, and it stays so
            await self._reach(there, min(deadline_s, held_since_s + HOLD_S))
            await _lock_timeout(connection, LOCK_READERS_S)
            await connection.execute(REGISTRY["lock_readers_out"])
            await point_views(connection, self._new.version)
            await connection.execute(REGISTRY["activate"], {"version": self._new.version})
        return time.monotonic() - held_since_s

    async def _refuse_change(self, connection: Connection) -> None:
        """Two cutovers at once: the second one waited for the first one's lock, and finds other facts."""
        serving = [p.version for p in await list_projections(connection) if p.state is State.SERVING]
        if serving != [self._old.version]:
            raise SwitchFailed(f"another cutover was quicker: the views show chat_v{serving[0]}; ask for it again")
        await get_projection(connection, self._new.version)

    async def _reach(self, targets: dict[int, int], deadline_s: float) -> None:
        """Returns once the new version is at or past `targets`; feeds it where nobody else does. Raises _NotYet."""
        behind = await self._behind(targets)
        last, moved_s = behind, time.monotonic()
        while behind:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                raise _NotYet(f"{self._new.schema} did not reach {self._old.schema} in partitions {sorted(behind)}")
            if behind != last:
                last, moved_s = behind, now_s
            elif now_s - moved_s >= STALL_S:
                await self._feed(targets, behind, deadline_s)
                moved_s = time.monotonic()
            await asyncio.sleep(POLL_S)
            behind = await self._behind(targets)

    async def _behind(self, targets: dict[int, int]) -> dict[int, int]:
        """Partition → next offset of the new version, where that is less than the target."""
        async with self._pool.connection() as connection:
            there = await positions(connection, self._new.version)
        return {p: there.get(p, 0) for p, target in targets.items() if there.get(p, 0) < target}

    async def _feed(self, targets: dict[int, int], behind: dict[int, int], deadline_s: float) -> None:
        for partition in behind:
            feed = PartitionFeed(
                version=self._new.version, partition=partition, pool=self._pool, kafka=self._kafka, topic=self._topic
            )
            try:
                await feed.open()
                while feed.position.next_offset < targets[partition] and time.monotonic() < deadline_s:
                    await feed.step(max_records=1_000, timeout_s=POLL_S)
            except LostRace:
                continue  # somebody feeds it after all
            finally:
                await feed.close()


async def drop(version: int, *, postgres: PostgresSettings) -> None:
    """Deletes a projection and everything in it; the projectors stop feeding it within moments.

    Raises ProjectionMissing where there is none or it serves, SwitchFailed where its tables cannot be locked.
    """
    async with only_one(version, postgres) as connection:
        there = await get_projection(connection, version)
        if there.state is State.SERVING:
            raise ProjectionMissing(f"{there.schema} is what readers see now; cut over to another version first")
        of_version = version_sql(version)
        try:
            async with connection.transaction():
                await _lock_timeout(connection, LOCK_FEEDERS_S)
                await connection.execute(of_version["lock_all_feeders_out"])
                # Restricted by chat.active_projection: a cutover that was quicker makes it fail.
                await connection.execute(REGISTRY["unregister"], {"version": version})
                await connection.execute(REGISTRY["forget_migrations"], {"schema": there.schema})
                await connection.execute(of_version["drop_schema"])
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            raise SwitchFailed(
                f"{there.schema} is in use (see pg_stat_activity); nothing was dropped, try again"
            ) from error
        except psycopg.errors.ForeignKeyViolation as error:
            raise ProjectionMissing(f"{there.schema} is what readers see now; cut over to another first") from error


async def projections(*, postgres: PostgresSettings) -> list[Projection]:
    """All projections with their states. Raises psycopg.Error."""
    async with (
        open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool,
        pool.connection() as connection,
    ):
        return await list_projections(connection)


async def _lock_timeout(connection: Connection, timeout_s: float) -> None:
    await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{int(timeout_s * 1000)}ms")))
