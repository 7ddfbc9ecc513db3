"""Which projections exist, which one serves, and which are fed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from psycopg import sql

from services.projector.errors import ProjectionMissing
from services.projector.writing.apply import schema_name
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql, load_sql

REGISTRY: Final[BoundSql] = load_sql("services.projector.versions.sql", "registry.sql").bind()
_OF_VERSION: Final = load_sql("services.projector.versions.sql", "registry_of_version.sql")
_VIEWS: Final = load_sql("services.projector.versions.sql", "views.sql")


LOCK_FEEDERS_S: Final = 2.0
"""Maximum time for which a change of a projection waits for the transactions that feed it."""


class State(StrEnum):
    """The state of a projection."""

    BUILDING = "building"
    """A rebuild loads it; no other process writes it."""
    STANDBY = "standby"
    """Fed by the projectors; a cutover to it takes moments."""
    STOPPED = "stopped"
    """Built, and no longer fed because an operator stopped it; a rebuild catches up from its position."""
    SERVING = "serving"
    """Fed, and shown by the views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A schema `chat_v<version>`."""

    version: int
    mapping_version: int
    state: State
    created_at: datetime
    fed_since: datetime | None
    stopped_at: datetime | None
    serving_since: datetime | None

    @property
    def schema(self) -> str:
        return schema_name(self.version)


async def list_projections(connection: Connection) -> list[Projection]:
    """Return all projections, lowest version first; an empty list in a database where no projector ever ran."""
    installed = await (await connection.execute(REGISTRY["is_installed"])).fetchone()
    if installed is None or not installed[0]:
        return []
    rows = await (await connection.execute(REGISTRY["list"])).fetchall()
    return [
        Projection(
            version=version,
            mapping_version=mapping_version,
            state=_state(fed_since, stopped_at, serving_since),
            created_at=created_at,
            fed_since=fed_since,
            stopped_at=stopped_at,
            serving_since=serving_since,
        )
        for version, mapping_version, created_at, fed_since, stopped_at, serving_since in rows
    ]


def _state(fed_since: datetime | None, stopped_at: datetime | None, serving_since: datetime | None) -> State:
    if serving_since:
        return State.SERVING
    if fed_since:
        return State.STANDBY
    return State.STOPPED if stopped_at else State.BUILDING


async def get_projection(connection: Connection, version: int) -> Projection:
    """Return a projection. Raises ProjectionMissing, which names the versions that exist."""
    there = await list_projections(connection)
    for projection in there:
        if projection.version == version:
            return projection
    known = ", ".join(f"v{p.version}" for p in there) or "none"
    raise ProjectionMissing(
        f"there is no projection v{version} (there: {known}); build it with"
        f" `gapless projection rebuild --to v{version}`"
    )


def version_sql(version: int) -> BoundSql:
    """Return the statements of sql/registry_of_version.sql on one version."""
    return _OF_VERSION.bind(schema=schema_name(version))


async def point_views(connection: Connection, version: int) -> None:
    """Make the views of schema chat show this version. Takes ACCESS EXCLUSIVE on each until the transaction ends."""
    await connection.execute(_VIEWS.compose("views", schema=schema_name(version)))
    await grant_rights(connection, version)  # views that were created just now have their default privileges


async def grant_rights(connection: Connection, version: int) -> None:
    """Grant the readers of the views what they lack on this version's tables; usually nothing."""
    await connection.execute(_VIEWS.compose("grants", schema=schema_name(version)))


async def create_functions(connection: Connection) -> None:
    """Create the SQL functions, which use the views."""
    await connection.execute(_VIEWS.compose("functions"))


class Place(NamedTuple):
    """What has a position: the tables of a partition, or its search."""

    of_search: bool
    partition: int

    def __str__(self) -> str:
        return f"{self.partition} (search)" if self.of_search else str(self.partition)


async def positions(connection: Connection, version: int) -> dict[Place, int]:
    """Return the next offset of each place that was ever begun."""
    rows = await (await connection.execute(version_sql(version)["positions"])).fetchall()
    return {Place(of_search, partition): next_offset for of_search, partition, next_offset in rows}


class StoredPosition(NamedTuple):
    """The position of a place in a projection, and the log that it belongs to."""

    topic_id: str
    next_offset: int


async def stored_positions(connection: Connection, version: int) -> dict[Place, StoredPosition]:
    """Return the stored position of each place that was ever begun."""
    rows = await (await connection.execute(version_sql(version)["stands"])).fetchall()
    return {
        Place(of_search, partition): StoredPosition(topic_id, next_offset)
        for of_search, partition, topic_id, next_offset in rows
    }


async def set_lock_timeout(connection: Connection, timeout_s: float) -> None:
    """Set lock_timeout for the rest of the transaction."""
    await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{int(timeout_s * 1000)}ms")))
