"""Snapshots in a simulated world: a shelf that all machines share, behind a network that is slow or down.

The shelf holds what a machine's disk held at some moment: any prefix of the fold. A fetched snapshot may differ from
its manifest; the state must refuse it.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from msgspec.structs import replace

from services.runtime.kafka.errors import KafkaError
from services.sequencer.ports import FetchedSnapshot, LogPosition
from tests.support.simulated_log import Network
from tests.support.simulated_store import Image

Shelf = dict[Path, Image]
"""Folder that a snapshot is fetched into → its image."""


class SimulatedSnapshots:
    """Simulates services.sequencer.snapshots.restore.SnapshotRestorer for one process."""

    ahead = 1

    def __init__(self, shelf: Shelf, network: Network, random: Random, count: Callable[[str], None]) -> None:
        self._shelf = shelf
        self._network = network
        self._random = random
        self._count = count
        self._used: set[Path] = set()
        self._copies = 0

    async def fetch(
        self, topic_id: str, position: LogPosition, end: int, in_log: Callable[[LogPosition], Awaitable[bool]]
    ) -> FetchedSnapshot | None:
        try:
            await self._network.pass_by()
            for folder, image in reversed(self._shelf.items()):
                told = image.position
                if folder in self._used or not position.next_offset < told.next_offset <= end:
                    continue
                if self._random.random() < 0.2:  # its manifest is wrong
                    told = replace(told, head=replace(told.head, command_offset=told.head.command_offset + 1))
                if await in_log(told):
                    await self._network.pass_by()
                    return FetchedSnapshot(name=str(folder), folder=self._fetched(folder), position=told)
                self._count("snapshots not of the log")
        except KafkaError:
            self._count("snapshots away")
        return None

    def _fetched(self, folder: Path) -> Path:
        """Return the folder, or with real RocksDB a copy of it, since the state consumes it."""
        if not folder.exists():
            return folder
        self._copies += 1
        return Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-{id(self):x}-{self._copies}")))

    def installed(self, fetched: FetchedSnapshot) -> None:
        self._used.add(Path(fetched.name))
        self._count("snapshots installed")

    def reject(self, fetched: FetchedSnapshot) -> None:
        self._used.add(Path(fetched.name))
        self._count("snapshots refused")
