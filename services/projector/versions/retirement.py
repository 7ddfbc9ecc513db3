"""Retires a projection that no longer serves: stops feeding it, or drops it with everything in it."""

from __future__ import annotations

import psycopg

from services.projector.errors import ProjectionMissing, SwitchFailed
from services.projector.versions.operators import only_one
from services.projector.versions.registry import (
    LOCK_FEEDERS_S,
    REGISTRY,
    Projection,
    State,
    get_projection,
    set_lock_timeout,
    version_sql,
)
from services.runtime.postgres.pool import Connection
from services.runtime.settings import PostgresSettings


async def drop(version: int, *, postgres: PostgresSettings) -> int:
    """Delete a projection and everything in it; the projectors stop feeding it within moments.

    Returns the disk space that it took, in bytes. Raises ProjectionMissing if it does not exist or serves, SwitchFailed
    if its tables cannot be locked.
    """
    async with only_one(postgres, version, command=f"gapless projection drop v{version}") as connection:
        return await drop_held(connection, version)


async def drop_held(connection: Connection, version: int) -> int:
    """Do what `drop` does; the caller holds the version's lock."""
    there = await get_projection(connection, version)
    _refuse_serving(there)
    of_version = version_sql(version)
    try:
        async with connection.transaction():
            await set_lock_timeout(connection, LOCK_FEEDERS_S)
            await connection.execute(of_version["lock_all_feeders_out"])
            sized = await connection.execute(REGISTRY["schema_bytes"], {"schema": there.schema})
            row = await sized.fetchone()
            # chat.active_projection references the row: this fails if a cutover was faster.
            await connection.execute(REGISTRY["unregister"], {"version": version})
            await connection.execute(REGISTRY["forget_verifications"], {"version": version})
            await connection.execute(REGISTRY["forget_migrations"], {"schema": there.schema})
            await connection.execute(of_version["drop_schema"])
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise SwitchFailed(
            f"{there.schema} is in use (see pg_stat_activity); nothing was dropped, try again"
        ) from error
    except psycopg.errors.ForeignKeyViolation as error:
        raise _serves(there) from error
    assert row is not None  # an aggregate
    return int(row[0])


async def stop_feeding(version: int, *, postgres: PostgresSettings) -> None:
    """Stop feeding a projection and keep its rows: a rebuild of the same version catches up from its position.

    The projectors stop within moments. Does nothing if it was stopped before. Raises ProjectionMissing if it does not
    exist, serves, or is still being built.
    """
    command = f"gapless projection stop-feeding v{version}"
    async with only_one(postgres, version, command=command) as connection, connection.transaction():
        # A cutover to this version holds the row until it commits, so what is read from here on includes its result.
        await connection.execute(REGISTRY["lock_projection_row"], {"version": version})
        there = await get_projection(connection, version)
        _refuse_serving(there)
        if there.state is State.BUILDING:
            raise ProjectionMissing(
                f"{there.schema} is not fed yet: stop the process that rebuilds it, or drop what is built of it with"
                f" `gapless projection drop v{version}`"
            )
        await connection.execute(REGISTRY["mark_stopped"], {"version": version})


def _refuse_serving(there: Projection) -> None:
    if there.state is State.SERVING:
        raise _serves(there)


def _serves(there: Projection) -> ProjectionMissing:
    return ProjectionMissing(
        f"{there.schema} is what readers see now; cut over to another version first, with `gapless projection cutover`"
    )
