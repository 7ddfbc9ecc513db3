"""Watches whether the serving projection is still fed, by polling the read model; shown as a metric and on /readyz.

A projector confirms each partition every few seconds, even if there is nothing to write. Without confirmations reads
still work, but with increasingly old data: that deserves a note and an alarm, but is no reason to take query out of a
load balancer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from services.query.errors import QueryError
from services.query.metrics import PARTITIONS_NOT_FED
from services.query.snapshot.reader import Statement

if TYPE_CHECKING:
    from services.query.snapshot.reader import SnapshotReader
    from services.runtime.health.health import Readiness

NOT_FED_S: Final = 30.0
"""Several times the interval of a projector's confirmations, and more than a takeover between projectors takes."""
CHECK_EVERY_S: Final = 5.0
_NOTE: Final = "feeding"


class FeedingWatch:
    """Watches all partitions of the serving projection."""

    def __init__(self, snapshots: SnapshotReader, readiness: Readiness, *, partitions: int) -> None:
        self._snapshots = snapshots
        self._readiness = readiness
        self._partitions = partitions
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Watch until cancelled. While the read model cannot be read, which is reported elsewhere, the last finding
        stays."""
        while True:
            try:
                await self.look()
            except QueryError:
                pass
            await asyncio.sleep(CHECK_EVERY_S)

    async def look(self) -> None:
        """Check all partitions once. Raises QueryError."""
        (rows,) = await self._snapshots.read(Statement("confirmed", {}))
        # The age of a partition that no projector has started yet counts from our own start.
        ages_s = dict.fromkeys(range(self._partitions), time.monotonic() - self._began_s) | {
            partition: float(age_s) for partition, age_s in rows
        }
        not_fed = {partition: age_s for partition, age_s in ages_s.items() if age_s > NOT_FED_S}
        PARTITIONS_NOT_FED.set(len(not_fed))
        if not not_fed:
            self._readiness.clear_note(_NOTE)
            return
        named = ", ".join(str(partition) for partition in sorted(not_fed))
        self._readiness.note(
            _NOTE,
            f"No projector has fed partition{'s' if len(not_fed) > 1 else ''} {named} of the serving projection for"
            f" {max(not_fed.values()):.0f} s: reads show old data; /readyz of the projectors says why, if any runs.",
        )
