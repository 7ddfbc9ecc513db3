"""Whether what readers see is still fed: asked of the read model now and then, shown as a metric and on /readyz.

A projector confirms each partition every few seconds, also when there is nothing to write. Without that word reads
still answer, with data that grows old: worth a note and an alarm, but no reason to take query out of a load balancer.
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
"""Several times what lies between two words of a projector, and more than a takeover between projectors takes."""
CHECK_EVERY_S: Final = 5.0
_NOTE: Final = "feeding"


class FeedingWatch:
    """Looks after all partitions of the version that serves."""

    def __init__(self, snapshots: SnapshotReader, readiness: Readiness, *, partitions: int) -> None:
        self._snapshots = snapshots
        self._readiness = readiness
        self._partitions = partitions
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Until cancelled. While the read model cannot be read, the last finding stands: that it cannot be read is
        told elsewhere."""
        while True:
            try:
                await self.look()
            except QueryError:
                pass
            await asyncio.sleep(CHECK_EVERY_S)

    async def look(self) -> None:
        """Raises QueryError."""
        (rows,) = await self._snapshots.read(Statement("confirmed", {}))
        # A partition that no projector has ever begun is waited for from our own start on.
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
            f"No projector has fed partition{'s' if len(not_fed) > 1 else ''} {named} of what readers see for"
            f" {max(not_fed.values()):.0f} s: reads show old data; /readyz of the projectors says why, if any runs.",
        )
