"""Makes the views show another version.

No reader steps back: the serving version is held still at its guard until the other one is at or past it in every
partition. Only then are the views re-pointed, all in one transaction that overlaps with no reader
(sql/control/0001_registry.sql says how readers are kept out, and why). No reader gets an error: a view is replaced in
place, and a reader that begins just then waits for at most LOCK_READERS_S.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog

from services.projector.errors import LostRace, PartitionStopped, ProjectionMissing, SwitchFailed
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import HISTORY, SEARCH
from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.versions.operators import VIEWS, only_one, this_operator
from services.projector.versions.registry import (
    LOCK_FEEDERS_S,
    REGISTRY,
    Place,
    Projection,
    State,
    StoredPosition,
    get_projection,
    list_projections,
    point_views,
    positions,
    set_lock_timeout,
    stored_positions,
    version_sql,
)
from services.projector.versions.verifications import last_verification, loaded_to, why_unverified
from services.runtime.postgres.pool import Connection, PostgresPool, open_pool
from services.runtime.settings import KafkaSettings, PostgresSettings

APPLICATION: Final = "gapless-cutover"
LOCK_READERS_S: Final = 0.2
"""Maximum time for which new readers wait behind one that is slow to end; then the attempt ends and they continue."""
HOLD_S: Final = 5.0
"""Maximum time for which the serving version is held still while the other one catches up."""
STALL_S: Final = 0.3
"""Time without progress after which no process seems to feed the other version, and the cutover feeds it."""
POLL_S: Final = 0.01
PAUSE_S: Final = (0.1, 0.5)
"""Shortest and longest pause between two attempts."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverResult:
    """What a cutover did."""

    from_version: int
    to_version: int
    attempts: int
    """Number of attempts; 0 if the version served already."""
    held_s: float
    """Time for which the old version was held still in the attempt that succeeded."""
    not_of_this_log: tuple[int, ...] = ()
    """Partitions in which the old version is not of this log: a cutover back to it would be refused."""


class _NotYet(Exception):
    """The other version did not catch up in time."""


async def cutover(
    to_version: int,
    *,
    kafka: KafkaSettings,
    postgres: PostgresSettings,
    timeout_s: float = 60.0,
    from_version: int | None = None,
    require_verified: bool = False,
    max_behind: int | None = None,
) -> CutoverResult:
    """Make the views show chat_v<to_version> from now on; going back is the same call with the old version.

    If `from_version` is given, the cutover is refused unless that version serves; with `require_verified`, unless a
    verification of the new version counts (verifications.py); with `max_behind`, if the new version is more records
    than that behind the end of the log in any partition, search included.

    Raises ProjectionMissing (no such version, one that no projector of this release can feed, or one that another
    process is changing), SwitchFailed after `timeout_s`, with nothing changed; KafkaError, psycopg.Error, TimeoutError
    if a server is unavailable.
    """
    deadline_s = time.monotonic() + timeout_s
    command = (
        f"gapless projection cutover --to v{to_version}" if from_version is None else "gapless projection rollback"
    )
    async with (
        only_one(postgres, VIEWS, to_version, command=command),
        open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool,
    ):
        async with pool.connection() as connection:
            new = await get_projection(connection, to_version)
            (old,) = [p for p in await list_projections(connection) if p.state is State.SERVING]
        if from_version not in (None, old.version):
            raise _was_quicker(old.version)
        if new.state is State.SERVING:
            return CutoverResult(from_version=to_version, to_version=to_version, attempts=0, held_s=0.0)
        _refuse_unfed(new)
        if require_verified:
            async with pool.connection() as connection:
                await _refuse_unverified(connection, new)
        return await _Cutover(old, new, pool, kafka, max_behind).run(deadline_s, timeout_s)


def _refuse_unfed(new: Projection) -> None:
    """Raise ProjectionMissing if no projector of this release feeds the version.

    Readers would be stuck at its present state, and rows that this release wrote to it would be wrong.
    """
    if new.state is State.BUILDING:
        raise ProjectionMissing(
            f"{new.schema} is not built yet; finish it with `gapless projection rebuild --to v{new.version}`"
        )
    if new.state is State.STOPPED:
        raise ProjectionMissing(
            f"{new.schema} is no longer fed; bring it up to date with `gapless projection rebuild --to v{new.version}`"
        )
    if new.mapping_version != MAPPING_VERSION:
        raise ProjectionMissing(
            f"{new.schema} is of row mapping {new.mapping_version} and this release writes {MAPPING_VERSION}: cut over"
            f" with the release whose projectors feed it, or build another version with `gapless projection rebuild`"
        )


async def _refuse_unverified(connection: Connection, new: Projection) -> None:
    """Raise SwitchFailed if no verification of the version counts."""
    loaded, last = await loaded_to(connection, new.version), await last_verification(connection, new.version)
    why = why_unverified(new, loaded, last)
    if why is not None:
        raise SwitchFailed(
            f"{new.schema} is not verified: {why}; run `gapless projection verify --version v{new.version}`"
        )


def refuse_behind(schema: str, behind: Mapping[Place, int], max_behind: int) -> None:
    """Raise SwitchFailed if a version is more than `max_behind` records behind the end of the log at any place."""
    far = {place: records for place, records in sorted(behind.items()) if records > max_behind}
    if far:
        named = ", ".join(f"partition {place} by {records:,}" for place, records in far.items())
        raise SwitchFailed(
            f"{schema} is more than {max_behind:,} records behind the end of the log: {named}; wait until the"
            " projectors have caught up (`gapless lag`), or allow more with --max-behind"
        )


def _was_quicker(serving: int) -> SwitchFailed:
    return SwitchFailed(f"another cutover was quicker: the views show chat_v{serving}; ask for it again")


def _is_in(stand: StoredPosition, topic_id: str, end_offset: int) -> bool:
    """Return whether the log reaches the position of a projection: only then can another projection reach it."""
    return stand.topic_id == topic_id and stand.next_offset <= end_offset


class _Cutover:
    def __init__(
        self, old: Projection, new: Projection, pool: PostgresPool, kafka: KafkaSettings, max_behind: int | None
    ) -> None:
        self._max_behind = max_behind
        self._old = old
        self._new = new
        self._pool = pool
        self._kafka = kafka
        self._topic = TopicId(kafka)
        self._unreachable: dict[Place, int] = {}
        """Places in which the old version is not of this log → the end offset of the log."""

    async def run(self, deadline_s: float, timeout_s: float) -> CutoverResult:
        self._unreachable = await self._survey()
        attempts = 0
        reason = ""
        while time.monotonic() < deadline_s:
            attempts += 1
            try:
                # Catch up most of the way before anything is held still.
                async with self._pool.connection() as connection:
                    targets = await self._targets(connection)
                await self._reach(targets, deadline_s)
                held_s = await self._attempt(deadline_s)
            except _NotYet as error:
                reason = str(error)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                reason = "a transaction that reads chat.* or writes the projection did not end (see pg_stat_activity)"
            else:
                result = CutoverResult(
                    from_version=self._old.version,
                    to_version=self._new.version,
                    attempts=attempts,
                    held_s=held_s,
                    not_of_this_log=tuple(sorted({place.partition for place in self._unreachable})),
                )
                log.info("cut_over", from_=self._old.schema, to=self._new.schema, attempts=attempts, held_s=held_s)
                return result
            log.info("cutover_put_off", reason=reason, attempt=attempts)
            await asyncio.sleep(random.uniform(*PAUSE_S))  # noqa: S311  (jitter, no secret)
        raise SwitchFailed(
            f"the views still show {self._old.schema}: within {timeout_s:g} s {reason}; nothing was changed, try again"
        )

    async def _survey(self) -> dict[Place, int]:
        """Compare both versions with the log as it is now. Returns the places in which the old one is not of this log,
        each with the log's end offset.

        Raises ProjectionMissing if the new one is not of this log either: no process could feed it. Raises SwitchFailed
        if it is too far behind.
        """
        async with self._pool.connection() as connection:
            old = await stored_positions(connection, self._old.version)
            new = await stored_positions(connection, self._new.version)
        topic_id = await self._topic.get()
        begun = old.keys() | new.keys()
        if self._max_behind is not None:  # a partition that no projector has begun is behind by its whole log
            begun |= {Place(search, p) for search in (False, True) for p in range(self._kafka.partitions)}
        places = sorted(begun)
        ends = dict(zip(places, await asyncio.gather(*(self._checked(place) for place in places)), strict=True))
        if self._max_behind is not None:
            async with self._pool.connection() as connection:
                now = await positions(connection, self._new.version)
            behind = {place: max(0, end - now.get(place, 0)) for place, end in ends.items()}
            refuse_behind(self._new.schema, behind, self._max_behind)
        unreachable = {place: ends[place] for place, stand in old.items() if not _is_in(stand, topic_id, ends[place])}
        if unreachable:
            named = {str(place): end for place, end in unreachable.items()}
            log.info("cutover_to_the_end_of_the_log", from_=self._old.schema, ends=named)
        return unreachable

    async def _checked(self, place: Place) -> int:
        """Return the end offset of the log. Raises ProjectionMissing if the new version cannot be fed from it."""
        consumer = self._consumer_of(place)
        try:
            await consumer.open()
            await consumer.check_history()
        except PartitionStopped as stopped:
            raise ProjectionMissing(f"the views still show {self._old.schema}, for nobody can feed {stopped}") from None
        finally:
            await consumer.close()
        return consumer.end_offset

    async def _targets(self, connection: Connection) -> dict[Place, int]:
        """Return the offset that the new version has to reach, by place."""
        return await positions(connection, self._old.version) | self._unreachable

    def _consumer_of(self, place: Place) -> PartitionConsumer:
        return PartitionConsumer(
            version=self._new.version,
            partition=place.partition,
            pool=self._pool,
            kafka=self._kafka,
            topic=self._topic,
            feed=SEARCH if place.of_search else HISTORY,
        )

    async def _attempt(self, deadline_s: float) -> float:
        """Switch in one transaction. Returns how long the old version was held still.

        After a crash anywhere before the commit, Postgres releases the locks and the views are unchanged.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await set_lock_timeout(connection, LOCK_FEEDERS_S)
            await connection.execute(version_sql(self._old.version)["lock_positions"])
            held_since_s = time.monotonic()
            await self._refuse_change(connection)
            targets = await self._targets(connection)  # READ COMMITTED: as of now, and the lock keeps it so
            await self._reach(targets, min(deadline_s, held_since_s + HOLD_S))
            await set_lock_timeout(connection, LOCK_READERS_S)
            await connection.execute(REGISTRY["lock_readers_out"])
            await point_views(connection, self._new.version)
            await connection.execute(REGISTRY["activate"], {"version": self._new.version})
            switched = {"from_version": self._old.version, "to_version": self._new.version}
            await connection.execute(REGISTRY["record_cutover"], {**switched, "operator": this_operator()})
        return time.monotonic() - held_since_s

    async def _refuse_change(self, connection: Connection) -> None:
        """Check under the lock, for which this cutover may have waited, that nothing has changed.

        Raises SwitchFailed if another cutover was faster, ProjectionMissing if the new version is no longer fed.
        """
        serving = [p.version for p in await list_projections(connection) if p.state is State.SERVING]
        if serving != [self._old.version]:
            raise _was_quicker(serving[0])
        # Until this transaction commits, no process can stop the feeding of the new version.
        await connection.execute(REGISTRY["lock_projection_row"], {"version": self._new.version})
        _refuse_unfed(await get_projection(connection, self._new.version))

    async def _reach(self, targets: dict[Place, int], deadline_s: float) -> None:
        """Wait until the new version is at or past `targets`; feed it if no other process does. Raises _NotYet."""
        behind = await self._behind(targets)
        last, moved_s = behind, time.monotonic()
        while behind:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                named = ", ".join(map(str, sorted(behind)))
                raise _NotYet(f"{self._new.schema} did not reach {self._old.schema} in partitions {named}")
            if behind != last:
                last, moved_s = behind, now_s
            elif now_s - moved_s >= STALL_S:
                await self._feed(targets, behind, deadline_s)
                moved_s = time.monotonic()
            await asyncio.sleep(POLL_S)
            behind = await self._behind(targets)

    async def _behind(self, targets: dict[Place, int]) -> dict[Place, int]:
        """Return place → next offset of the new version, for the places that are below their target."""
        async with self._pool.connection() as connection:
            there = await positions(connection, self._new.version)
        return {p: there.get(p, 0) for p, target in targets.items() if there.get(p, 0) < target}

    async def _feed(self, targets: dict[Place, int], behind: dict[Place, int], deadline_s: float) -> None:
        for place in behind:
            consumer = self._consumer_of(place)
            try:
                await consumer.open()
                while consumer.position.next_offset < targets[place] and time.monotonic() < deadline_s:
                    await consumer.step(max_records=1_000, timeout_s=POLL_S)
            except LostRace:
                continue  # another process feeds it after all
            finally:
                await consumer.close()


async def projections(*, postgres: PostgresSettings) -> list[Projection]:
    """Return all projections with their states. Raises psycopg.Error."""
    async with (
        open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool,
        pool.connection() as connection,
    ):
        return await list_projections(connection)
