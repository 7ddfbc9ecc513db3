"""Which partitions this process has to answer for although nobody serves them. Pure.

A partition is the trouble of the process that the group last gave it to, also while the group is silent. It stays the
trouble of the process that served it last until another is heard to serve it: otherwise a partition that everybody
let go of would be reported by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.sequencer.partition.writer import Status

ORPHANED_AFTER_S: Final = 5.0
"""A takeover takes less: the next owner is heard by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """One partition as this process sees it now."""

    status: Status
    reason: str | None
    assigned: bool
    """The group's last word gave it to this process."""
    served_elsewhere: bool
    """Another process is heard to serve it."""


class Responsibility:
    """Remembers which partitions this process served, and since when nobody does."""

    def __init__(self, *, hears_peers: bool) -> None:
        """Without `hears_peers` (no heartbeats) only the group says who has a partition."""
        self._hears_others = hears_peers
        self._served: set[int] = set()
        self._orphaned_since_s: dict[int, float] = {}

    def troubles(self, partitions: Mapping[int, PartitionView], now_s: float) -> dict[int, str]:
        """Partition → why it is this process's trouble. Call it every second or so, and whenever somebody asks."""
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
            self._served.discard(partition)  # from now on it is the other's trouble
            self._orphaned_since_s.pop(partition, None)
            return False
        since_s = self._orphaned_since_s.setdefault(partition, now_s)
        return now_s - since_s >= ORPHANED_AFTER_S


def joined(troubles: Iterable[str]) -> str | None:
    """One sentence of all of them, or None."""
    return "; ".join(troubles) or None
