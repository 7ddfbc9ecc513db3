"""Which unserved partitions this process must report. Pure.

The process that the group last assigned a partition to reports it, also while the group is unreachable. The process
that served it last reports it too, until a peer announces that it serves it: otherwise a partition that every process
has released would not be reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.sequencer.partition.writer import Status

ORPHANED_AFTER_S: Final = 5.0
"""Longer than a takeover takes: the next owner has announced itself by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """One partition as this process sees it now."""

    status: Status
    reason: str | None
    assigned: bool
    """Whether the group's last assignment gave it to this process."""
    served_elsewhere: bool
    """Whether a peer announces that it serves it."""


class Responsibility:
    """Remembers which partitions this process served, and since when no process does."""

    def __init__(self, *, hears_peers: bool) -> None:
        """Without `hears_peers` (no heartbeats), only the group says which process has a partition."""
        self._hears_others = hears_peers
        self._served: set[int] = set()
        self._orphaned_since_s: dict[int, float] = {}

    def troubles(self, partitions: Mapping[int, PartitionView], now_s: float) -> dict[int, str]:
        """Return partition → why this process reports it. Call it about every second and for each /readyz."""
        found: dict[int, str] = {}
        for partition, view in sorted(partitions.items()):
            if view.status is Status.SERVING:
                self._served.add(partition)
                self._orphaned_since_s.pop(partition, None)
            elif view.status is Status.STOPPED or view.assigned:
                self._orphaned_since_s.pop(partition, None)
                found[partition] = f"partition {partition} is {view.status}" + (
                    f": {view.reason}" if view.reason else ""
                )
            elif self._is_orphan(partition, view, now_s):
                found[partition] = (
                    f"partition {partition} was served by this process, and no sequencer is heard to serve it now"
                    + (f" (here it is {view.status}: {view.reason})" if view.reason else "")
                )
        return found

    def _is_orphan(self, partition: int, view: PartitionView, now_s: float) -> bool:
        if not self._hears_others or partition not in self._served:
            return False
        if view.served_elsewhere:
            self._served.discard(partition)  # from now on the peer reports it
            self._orphaned_since_s.pop(partition, None)
            return False
        since_s = self._orphaned_since_s.setdefault(partition, now_s)
        return now_s - since_s >= ORPHANED_AFTER_S


def joined(troubles: Iterable[str]) -> str | None:
    """Return one sentence with all of them, or None."""
    return "; ".join(troubles) or None
