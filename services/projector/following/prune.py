"""Deletes outcomes after their 7 days, a little at a time, while the workers run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import psycopg
import structlog

from services.projector import metrics
from services.projector.following.feeds import OUTCOMES_KEPT, outcomes_since_ms
from services.projector.mapping.decode import instant
from services.projector.writing.apply import apply_sql, schema_name
from services.runtime.postgres.pool import Connection, PostgresPool

PIECE: Final = 5_000
"""Maximum rows deleted by one statement."""

log = structlog.get_logger(__name__)

Owned = Callable[[], tuple[frozenset[int], frozenset[int]]]
"""Returns the (versions, partitions) that are ours now."""


async def keep_pruning(pool: PostgresPool, *, interval_s: float, owned: Owned) -> None:
    """Prune until cancelled. A row that cannot be deleted now is deleted in the next round: nothing waits."""
    while True:
        await asyncio.sleep(interval_s)
        versions, partitions = owned()
        before = instant(outcomes_since_ms())
        for version in sorted(versions):
            for partition in sorted(partitions):
                try:
                    async with pool.connection() as connection:
                        await prune(connection, version, partition, before)
                except psycopg.Error as error:
                    log.info("prune_put_off", projection=schema_name(version), error=type(error).__name__)


async def prune(connection: Connection, version: int, partition: int, before: datetime) -> int:
    """Delete, in pieces, the outcomes of a partition that are older than `before` and, by the log's latest time, older
    than OUTCOMES_KEPT. Returns how many were deleted."""
    deleted = 0
    while True:
        values = {"partition": partition, "piece": PIECE, "before": before, "kept": OUTCOMES_KEPT}
        piece = (await connection.execute(apply_sql(version)["prune_outcomes"], values)).rowcount
        deleted += piece
        metrics.PRUNED_OUTCOMES.labels(schema_name(version)).inc(piece)
        if piece < PIECE:
            return deleted
