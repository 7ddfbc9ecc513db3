"""Undoes the last cutover. The control schema lists every cutover, and a rollback is one more of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.projector.errors import ProjectionMissing, SwitchFailed
from services.projector.versions.cutover import APPLICATION, CutoverResult, cutover
from services.projector.versions.migrations import bring_up_to_date
from services.projector.versions.registry import REGISTRY, Projection, State, list_projections
from services.runtime.postgres.pool import Connection, connect
from services.runtime.settings import KafkaSettings, PostgresSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutover:
    """A cutover on record."""

    from_version: int
    to_version: int
    at: datetime
    operator: str
    """`user@host:pid` of the process that did it."""


async def last_cutover(connection: Connection) -> Cutover | None:
    """Return the last cutover on record, or None. Raises psycopg.Error."""
    row = await (await connection.execute(REGISTRY["last_cutover"])).fetchone()
    if row is None:
        return None
    from_version, to_version, at, operator = row
    return Cutover(from_version=from_version, to_version=to_version, at=at, operator=operator)


async def rollback(*, kafka: KafkaSettings, postgres: PostgresSettings, timeout_s: float = 60.0) -> CutoverResult:
    """Make the views show the version that they showed before the last cutover.

    A second rollback undoes the first. Raises SwitchFailed and ProjectionMissing as `cutover` does, and if there is no
    cutover that can be undone.
    """
    connection = await connect(postgres, application_name=APPLICATION, autocommit=True)
    try:
        async with connection.work():
            await bring_up_to_date(connection)
            there = await list_projections(connection)
            last = await last_cutover(connection) if there else None
    finally:
        await connection.close()
    last = undoable(last, there)
    return await cutover(
        last.from_version, kafka=kafka, postgres=postgres, timeout_s=timeout_s, from_version=last.to_version
    )


def undoable(last: Cutover | None, there: list[Projection]) -> Cutover:
    """Return the last cutover if it can be undone. Raises SwitchFailed, ProjectionMissing."""
    serving = next((p.version for p in there if p.state is State.SERVING), None)
    if serving is None:
        raise ProjectionMissing("no projection serves here, so there is nothing to roll back")
    if last is None:
        raise SwitchFailed(
            f"there is no cutover to roll back: none is on record, and readers see v{serving}; switch with"
            " `gapless projection cutover --to vN`"
        )
    if last.to_version != serving:
        raise SwitchFailed(
            f"the last cutover on record went to v{last.to_version} and readers see v{serving}, which another release"
            " switched to: name the version yourself, with `gapless projection cutover --to vN`"
        )
    if last.from_version not in {p.version for p in there}:
        raise ProjectionMissing(
            f"before the last cutover, at {last.at:%Y-%m-%d %H:%M:%S} by {last.operator}, readers saw"
            f" v{last.from_version}, which has been dropped: build it with `gapless projection rebuild --to"
            f" v{last.from_version}`, or fix v{serving}"
        )
    return last
