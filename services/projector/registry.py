"""Which projections exist, which one serves, and which are to be fed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.projector.apply import schema_name
from services.projector.errors import ProjectionMissing
from services.runtime.postgres import Connection
from services.runtime.sql import BoundSql, load_sql

REGISTRY: Final[BoundSql] = load_sql("services.projector.sql", "registry.sql").bind()
_OF_VERSION: Final = load_sql("services.projector.sql", "registry_of_version.sql")
_VIEWS: Final = load_sql("services.projector.sql", "views.sql")


class State(StrEnum):
    """Of a projection."""

    BUILDING = "building"
    """A rebuild loads it; nobody else writes it."""
    STANDBY = "standby"
    """Fed by the projectors; a cutover to it takes moments."""
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
    serving_since: datetime | None

    @property
    def schema(self) -> str:
        return schema_name(self.version)


async def list_projections(connection: Connection) -> list[Projection]:
    """All of them, lowest version first; none in a database where no projector ever ran."""
    installed = await (await connection.execute(REGISTRY["is_installed"])).fetchone()
    if installed is None or not installed[0]:
        return []
    rows = await (await connection.execute(REGISTRY["list"])).fetchall()
    return [
        Projection(
            version=version,
            mapping_version=mapping_version,
            state=State.SERVING if serving_since else State.STANDBY if fed_since else State.BUILDING,
            created_at=created_at,
            fed_since=fed_since,
            serving_since=serving_since,
        )
        for version, mapping_version, created_at, fed_since, serving_since in rows
    ]


async def get_projection(connection: Connection, version: int) -> Projection:
    """Raises ProjectionMissing with the versions that are there."""
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
    """The statements of sql/registry_of_version.sql on one version."""
    return _OF_VERSION.bind(schema=schema_name(version))


async def point_views(connection: Connection, version: int) -> None:
    """Makes the views of schema chat show this version. Takes ACCESS EXCLUSIVE on each until the transaction ends."""
    await connection.execute(_VIEWS.compose("views", schema=schema_name(version)))


async def create_functions(connection: Connection) -> None:
    """The SQL functions, which stand on the views."""
    await connection.execute(_VIEWS.compose("functions"))


async def positions(connection: Connection, version: int) -> dict[int, int]:
    """Partition → next offset, of the partitions that were ever begun."""
    rows = await (await connection.execute(version_sql(version)["positions"])).fetchall()
    return dict(rows)
