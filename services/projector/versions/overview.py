"""What operators see of the versions: their states, how far each partition is, and what feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.versions.operators import Holder, holders
from services.projector.versions.registry import REGISTRY, Projection, State, list_projections, version_sql
from services.runtime.postgres.pool import Connection, connect
from services.runtime.settings import PostgresSettings

APPLICATION: Final = "gapless-list"
FED_WITHIN_S: Final = 30.0
"""Age of the last confirmation above which no process feeds a partition. Projectors confirm every few seconds; query
reports a partition from the same age on."""
ABANDONED: Final = "abandoned"
"""The state of a version that is not built and that no process builds. The next rebuild continues it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStand:
    """How far a partition of a version is."""

    partition: int
    next_offset: int
    search_offset: int
    seen_s: float
    """Time since its tables moved or were confirmed."""

    def behind(self, ends: Mapping[int, int]) -> int | None:
        """Return how many records its tables lack; None if the end of its log is not known."""
        end = ends.get(self.partition)
        return None if end is None else max(0, end - self.next_offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A version."""

    projection: Projection
    size_bytes: int
    holder: Holder | None
    """The process that changes it now."""
    stands: tuple[PartitionStand, ...]

    @property
    def of_this_release(self) -> bool:
        """Whether projectors of this release feed it."""
        return self.projection.mapping_version == MAPPING_VERSION

    @property
    def state(self) -> str:
        """Its state, or ABANDONED."""
        state = self.projection.state
        return ABANDONED if state is State.BUILDING and self.holder is None else state.value

    def share(self, ends: Mapping[int, int]) -> tuple[int, int]:
        """Return how many records of the log are in its tables, and how many there are."""
        at = {stand.partition: stand.next_offset for stand in self.stands}
        return sum(min(end, at.get(p, 0)) for p, end in ends.items()), sum(ends.values())

    def feeder(self, stand: PartitionStand) -> str | None:
        """Return what feeds a partition; None if nothing does."""
        if self.projection.state is State.BUILDING:
            return f"rebuild by {self.holder.operator}" if self.holder is not None else None
        if self.projection.state is State.STOPPED or stand.seen_s > FED_WITHIN_S:
            return None
        return "projector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """All versions of a database."""

    overviews: tuple[Overview, ...]
    projectors: Mapping[str, int]
    """Addresses from which projectors are connected to Postgres → connections. Behind a pooler it is the pooler's."""


async def overview(*, postgres: PostgresSettings) -> Versions:
    """Return all versions; none in a database where no projector ever ran. It changes nothing. Raises psycopg.Error."""
    connection = await connect(postgres, application_name=APPLICATION, autocommit=True, read_only=True)
    try:
        async with connection.work():
            there = await list_projections(connection)
            held = await _holders(connection) if there else {}
            overviews = [await _overview(connection, projection, held.get(projection.version)) for projection in there]
            rows = await (await connection.execute(REGISTRY["projectors"])).fetchall()
    finally:
        await connection.close()
    return Versions(overviews=tuple(overviews), projectors=dict(rows))


async def _holders(connection: Connection) -> dict[int, Holder]:
    try:
        async with connection.transaction():
            return await holders(connection)
    except psycopg.errors.UndefinedTable:  # the control schema is of an older release
        return {}


async def _overview(connection: Connection, projection: Projection, holder: Holder | None) -> Overview:
    row = await (await connection.execute(REGISTRY["schema_bytes"], {"schema": projection.schema})).fetchone()
    assert row is not None  # an aggregate
    try:
        async with connection.transaction():
            rows = await (await connection.execute(version_sql(projection.version)["progress"])).fetchall()
    except psycopg.errors.UndefinedTable:  # of a release without search, or dropped a moment ago
        rows = []
    stands = tuple(
        PartitionStand(partition=partition, next_offset=next_offset, search_offset=search_offset, seen_s=seen_s)
        for partition, next_offset, search_offset, seen_s in rows
    )
    return Overview(projection=projection, size_bytes=int(row[0]), holder=holder, stands=stands)
