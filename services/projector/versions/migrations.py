"""Brings a database to what this release needs: numbered steps, forward only, each safe to run again.

Three kinds: `control` (schema chat) and, for each projection, `tables` and `indexes`, which are separate so that a
rebuild loads before it indexes. A step is a file of sql/; its blocks run in order. The
table chat.schema_migrations lists the steps that ran.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

from services.projector.errors import ProjectionMissing
from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.versions.registry import (
    REGISTRY,
    State,
    create_functions,
    get_projection,
    grant_rights,
    list_projections,
    point_views,
    version_sql,
)
from services.projector.writing.apply import schema_name
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import SqlBlocks, load_sql

Connect = Callable[[], AbstractAsyncContextManager[Connection]]
FIRST_VERSION: Final = 1
_CONTROL: Final = load_sql("services.projector.versions.sql.control")
_PROJECTION: Final = load_sql("services.projector.versions.sql.projection")
_BLOCK: Final = re.compile(r"(?P<kind>control|tables|indexes)_(?P<number>\d{4})(_(?P<what>\w+))?")


class _Step(NamedTuple):
    number: int
    block: str
    what: str


async def migrate(connection: Connection) -> None:
    """Run all missing steps in one transaction; two processes that start at once take turns.

    `connection` is in autocommit mode. In an empty database this creates chat_v1, which serves at once, because nothing
    older can. Before the first step that alters a table, readers and feeders are locked out until the transaction ends.
    Raises psycopg.Error.
    """
    async with connection.transaction():
        await connection.execute(REGISTRY["lock_migrations"])
        await connection.execute("SET LOCAL statement_timeout = 0")  # an index on a large table takes long
        changed = await _run(connection, _CONTROL, kind="control", scope="control", schema="chat")
        if not await list_projections(connection):
            await _create(connection, FIRST_VERSION, fed=True)
            await connection.execute(REGISTRY["first_active"], {"version": FIRST_VERSION})
            changed = True
        await _lock_out(connection)
        for projection in await list_projections(connection):
            changed |= await _run_for(connection, projection.version, "tables")
            if projection.state is not State.BUILDING:
                changed |= await _run_for(connection, projection.version, "indexes")
        if changed:
            (serving,) = [p for p in await list_projections(connection) if p.state is State.SERVING]
            await connection.execute(REGISTRY["lock_readers_out"])
            await point_views(connection, serving.version)
            await create_functions(connection)
        for projection in await list_projections(connection):
            await grant_rights(connection, projection.version)  # a role may have been created since the last start


async def bring_up_to_date(connection: Connection) -> None:
    """Migrate a database whose control schema is of an older release, so that a command finds its tables.

    Does nothing in a database in which no projector ever ran. `connection` is in autocommit mode. Raises psycopg.Error.
    """
    installed = await (await connection.execute(REGISTRY["is_installed"])).fetchone()
    if installed is not None and installed[0] and await _missing(connection, _CONTROL, kind="control", scope="control"):
        await migrate(connection)


async def create_projection(connection: Connection, version: int) -> None:
    """Create the tables of a version, without secondary indexes, and register it as building, unless it exists.

    Raises ProjectionMissing if it exists and was begun by another mapping version.
    """
    async with connection.transaction():
        await connection.execute(REGISTRY["lock_migrations"])
        await _create(connection, version, fed=False)
        there = await get_projection(connection, version)
        if there.mapping_version != MAPPING_VERSION:
            raise ProjectionMissing(
                f"{there.schema} was begun by row mapping {there.mapping_version}, and this release has"
                f" {MAPPING_VERSION}: drop it with `gapless projection drop v{version}`, or choose another version"
            )
        await grant_rights(connection, version)


async def create_tables(connection: Connection, version: int) -> None:
    """Create the tables of a version that is not registered, in the transaction of the caller, to be rolled back."""
    for step in _steps(_PROJECTION, "tables"):
        await connection.execute(_PROJECTION.compose(step.block, schema=schema_name(version)))


async def create_indexes(connection: Connection, version: int) -> None:
    """Create the secondary indexes of such tables, one after the other."""
    for step in _steps(_PROJECTION, "indexes"):
        await connection.execute(_PROJECTION.compose(step.block, schema=schema_name(version)))


async def index_projection(
    connect: Connect, version: int, on_index: Callable[[str], None], *, at_once: int = 1
) -> None:
    """Create the missing secondary indexes; `on_index` is called with the name of each one before.

    Each of `at_once` connections creates one after the other, each in a transaction of its own, so that a rebuild that
    is killed here keeps the finished ones. All are given back before the indexes are recorded: behind a pooler a
    connection is one transaction, and what it created can be seen only when that has ended.
    Raises a group of what it raises with one connection: psycopg.Error.

    :param connect: lends a connection.
    """
    async with connect() as connection:
        done = await _applied(connection, f"{schema_name(version)}/indexes")
    # From the end: the index of search takes longest, and the others are created meanwhile.
    lacking = [step for step in _steps(_PROJECTION, "indexes") if step.number not in done]
    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(_create_indexes(connect, version, lacking, on_index))
    async with connect() as connection, connection.transaction():
        await _run_for(connection, version, "indexes")  # all exist by now: this records them


async def _create_indexes(
    connect: Connect, version: int, lacking: list[_Step], on_index: Callable[[str], None]
) -> None:
    while lacking:
        step = lacking.pop()
        on_index(step.what)
        async with connect() as connection, connection.transaction():
            await connection.execute(REGISTRY["take_your_time"])
            await connection.execute(_PROJECTION.compose(step.block, schema=schema_name(version)))


async def _lock_out(connection: Connection) -> None:
    """Lock readers and feeders out, if a step is missing that may alter tables.

    A step locks tables in its own order, and readers and feeders lock them in another. A reader locks
    chat.active_projection first, and a feeder its position. This transaction does the same, so it waits for each of
    them while it holds no table that one may still ask for. Control steps lock no table of a projection.
    """
    altered = [
        projection.version
        for projection in await list_projections(connection)
        if await _missing(connection, _PROJECTION, kind="tables", scope=f"{projection.schema}/tables")
    ]
    if altered:
        await connection.execute(REGISTRY["lock_readers_out"])
    for version in altered:
        await connection.execute(version_sql(version)["lock_all_feeders_out"])


async def _create(connection: Connection, version: int, *, fed: bool) -> None:
    await _run_for(connection, version, "tables")
    values = {"version": version, "mapping_version": MAPPING_VERSION, "fed": fed}
    await connection.execute(REGISTRY["register"], values)


async def _run_for(connection: Connection, version: int, kind: str) -> bool:
    schema = schema_name(version)
    return await _run(connection, _PROJECTION, kind=kind, scope=f"{schema}/{kind}", schema=schema)


async def _run(connection: Connection, blocks: SqlBlocks, *, kind: str, scope: str, schema: str) -> bool:
    """Run the missing steps of a kind. Returns whether there were any."""
    missing = await _missing(connection, blocks, kind=kind, scope=scope)
    for step in missing:
        await connection.execute(blocks.compose(step.block, schema=schema))
    for number in sorted({step.number for step in missing}):
        await connection.execute(REGISTRY["record_applied"], {"scope": scope, "number": number})
    return bool(missing)


async def _missing(connection: Connection, blocks: SqlBlocks, *, kind: str, scope: str) -> list[_Step]:
    done = await _applied(connection, scope)
    return [step for step in _steps(blocks, kind) if step.number not in done]


async def _applied(connection: Connection, scope: str) -> set[int]:
    row = await (await connection.execute(REGISTRY["is_installed"])).fetchone()
    if row is None or not row[0]:
        return set()
    rows = await (await connection.execute(REGISTRY["applied"], {"scope": scope})).fetchall()
    return {number for (number,) in rows}


def _steps(blocks: SqlBlocks, kind: str) -> list[_Step]:
    """Return the steps of a kind by number, and within a file in its order."""
    steps = []
    for name in blocks.names:
        match = _BLOCK.fullmatch(name)
        assert match is not None, f"{name} is no name of a migration"
        if match["kind"] == kind:
            steps.append(_Step(int(match["number"]), name, match["what"] or name))
    return sorted(steps, key=lambda step: step.number)
