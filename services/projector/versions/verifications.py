"""Records what `gapless projection verify` found, and judges whether a version counts as verified.

A verification counts if it found the version equal to the log, is the newest of that version, began after a rebuild
left the version to the projectors, and compared at least what that rebuild had loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from services.projector.versions.operators import this_operator
from services.projector.versions.registry import REGISTRY, Projection
from services.runtime.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A verification on record."""

    began_at: datetime
    at: datetime
    equal: bool
    positions: Mapping[int, int]
    """Partition → next offset of the tables that were compared."""
    operator: str


async def record_verification(
    connection: Connection,
    *,
    version: int,
    positions: Mapping[int, int],
    equal: bool,
    digest: str,
    took_s: float,
) -> None:
    """Record a verification that has just ended. Raises psycopg.Error.

    :param took_s: time since it began; the server's clock turns it into an instant.
    """
    values: dict[str, Any] = {
        "version": version,
        "positions": Jsonb({str(partition): offset for partition, offset in positions.items()}),
        "equal": equal,
        "digest": digest,
        "took_s": took_s,
        "operator": this_operator(),
    }
    await connection.execute(REGISTRY["record_verification"], values)


async def last_verification(connection: Connection, version: int) -> Verification | None:
    """Return the newest verification of a version, or None. Raises psycopg.Error."""
    row = await (await connection.execute(REGISTRY["last_verification"], {"version": version})).fetchone()
    if row is None:
        return None
    began_at, at, equal, positions, operator = row
    return Verification(began_at=began_at, at=at, equal=equal, positions=_by_partition(positions), operator=operator)


async def loaded_to(connection: Connection, version: int) -> Mapping[int, int]:
    """Return partition → next offset at which a rebuild left the version to the projectors; empty if none did."""
    row = await (await connection.execute(REGISTRY["loaded_to"], {"version": version})).fetchone()
    return _by_partition(row[0]) if row is not None and row[0] is not None else {}


def _by_partition(stored: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in stored.items()}


def why_unverified(projection: Projection, loaded: Mapping[int, int], last: Verification | None) -> str | None:
    """Return why a version does not count as verified, as a clause, or None if it does.

    :param loaded: what `loaded_to` returned for it.
    :param last: its newest verification.
    """
    if last is None:
        return "no verification of it is on record"
    ended = f"the last verification, of {last.at:%Y-%m-%d %H:%M:%S} by {last.operator},"
    if not last.equal:
        return f"{ended} found differences"
    since = projection.fed_since
    if since is not None and last.began_at < since:
        return f"{ended} began before it was built, at {since:%Y-%m-%d %H:%M:%S}"
    short = [p for p, offset in sorted(loaded.items()) if last.positions.get(p, 0) < offset]
    if short:
        return f"{ended} covers less than was loaded, in partitions {', '.join(map(str, short))}"
    return None
