"""Takes snapshots of the states that this process serves, in the background, and puts them into the store."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from services.runtime.process.crashpoints import crash_point, declare_crash_point
from services.runtime.process.threads import run_in_daemon_thread
from services.sequencer import metrics
from services.sequencer.errors import FilesMoved, StateBroken
from services.sequencer.ports import LogPosition
from services.sequencer.snapshots.manifest import (
    Manifest,
    SnapshotRejected,
    check_belongs,
    decode_manifest,
    encode_manifest,
    file_path,
    files_to_delete,
    folder_of,
    manifest_path,
    manifests_to_keep,
    to_upload,
)
from services.sequencer.snapshots.object_store import SnapshotStore, SnapshotStoreUnavailable, describe_files
from services.sequencer.store.format import FORMAT as STATE_FORMAT
from services.sequencer.store.rocks import RocksStore

log = structlog.get_logger(__name__)

CHECK_EVERY_S: Final = 1.0
LINK_EVERY_S: Final = 0.02
AT_REST_S: Final = 30.0
"""Maximum time to wait for RocksDB to be at rest; after that the snapshot is retried later."""
PAUSE_S: Final = 30.0
"""Minimum time between two snapshots of a partition. By then RocksDB has compacted much of the state into new files, so
that each snapshot can upload up to the whole state."""

CRASH_BEFORE_MANIFEST: Final = declare_crash_point(
    "snapshot.before_manifest",
    "The store has files that no manifest references; the next snapshot uses or deletes them.",
)


@dataclass(slots=True)
class _LastSnapshot:
    """The last snapshot of a partition."""

    topic_id: str
    next_offset: int
    """Its position in the event log."""
    at_s: float
    """When it was taken, by the monotonic clock."""
    digests: dict[tuple[int, int, int], str] = field(default_factory=dict)


class SnapshotTaker:
    """Takes snapshots of all partitions that this process serves, one at a time."""

    def __init__(
        self,
        snapshot_store: SnapshotStore,
        served: Callable[[], Mapping[int, RocksStore]],
        *,
        partitions: int,
        folder: Path,
        every: int,
        every_s: float,
    ) -> None:
        """`served` returns the states that are served now; `folder` is on their disk. A snapshot is due after `every`
        outcomes, or after `every_s` if there was at least one."""
        self._snapshot_store = snapshot_store
        self._served = served
        self._partitions = partitions
        self._folder = folder
        self._every = every
        self._every_s = every_s
        self._taken: dict[int, _LastSnapshot] = {}

    async def run(self) -> None:
        """Run until cancelled. A failure only makes a later fold longer: it is logged, and the snapshot is retried."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            for partition, store in self._served().items():
                try:
                    if await self._is_due(partition, store):
                        await self.take(partition, store)
                except Exception as error:
                    metrics.SNAPSHOTS_FAILED.labels(partition).inc()
                    expected = isinstance(error, SnapshotStoreUnavailable | FilesMoved | StateBroken | OSError)
                    log.warning(
                        "snapshot.failed",
                        partition=partition,
                        reason=f"{type(error).__name__}: {error}",
                        exc_info=not expected,
                    )
                    self._pause(partition, store)

    async def _is_due(self, partition: int, store: RocksStore) -> bool:
        taken = self._taken.get(partition)
        if taken is None or taken.topic_id != store.topic_id:
            # We have just begun to serve it: ask the store how old its newest snapshot is.
            newest = await run_in_daemon_thread(partial(self._newest, store.topic_id, partition))
            taken = self._taken[partition] = self._at(store, newest)
            return store.position.next_offset - newest >= self._every
        more, since_s = store.position.next_offset - taken.next_offset, time.monotonic() - taken.at_s
        return (more >= self._every and since_s >= PAUSE_S) or (more > 0 and since_s >= self._every_s)

    def _pause(self, partition: int, store: RocksStore) -> None:
        """Wait as long as if a snapshot had just been taken."""
        taken = self._taken.get(partition)
        if taken is None or taken.topic_id != store.topic_id:
            taken = self._taken[partition] = self._at(store, 0)
        taken.at_s = time.monotonic()

    def _at(self, store: RocksStore, next_offset: int) -> _LastSnapshot:
        return _LastSnapshot(store.topic_id, next_offset, time.monotonic())

    def _newest(self, topic_id: str, partition: int) -> int:
        """Return the next offset of the newest snapshot; 0 if no snapshot exists."""
        newest = 0
        for stored in manifests_to_keep(
            self._snapshot_store.list_objects(f"{folder_of(topic_id, partition)}/manifests")
        ):
            with suppress(SnapshotRejected):
                manifest = decode_manifest(self._snapshot_store.read(stored.path))
                check_belongs(
                    manifest,
                    state_format=STATE_FORMAT,
                    topic_id=topic_id,
                    partition=partition,
                    partitions=self._partitions,
                )
                newest = max(newest, manifest.position.next_offset)
        return newest

    async def take(self, partition: int, store: RocksStore) -> Manifest:
        """Take a snapshot of the state now. Raises SnapshotStoreUnavailable, FilesMoved, StateBroken, OSError."""
        began_s = time.monotonic()
        folder = self._folder / f"{partition}-taken"
        last = self._taken.get(partition)
        digests = last.digests if last is not None else {}
        try:
            position = await self._linked(store, folder)
            manifest = await run_in_daemon_thread(
                partial(self._put, folder, store.topic_id, partition, position, digests)
            )
        finally:
            await run_in_daemon_thread(partial(shutil.rmtree, folder, ignore_errors=True))
        self._taken[partition] = _LastSnapshot(store.topic_id, manifest.position.next_offset, time.monotonic(), digests)
        metrics.SNAPSHOT_TAKEN_AT.labels(partition).set_to_current_time()
        metrics.SNAPSHOT_OFFSET.labels(partition).set(manifest.position.next_offset)
        metrics.SNAPSHOT_BYTES.labels(partition).set(manifest.bytes)
        log.info(
            "snapshot.taken",
            partition=partition,
            next_offset=manifest.position.next_offset,
            bytes=manifest.bytes,
            seconds=round(time.monotonic() - began_s, 3),
        )
        return manifest

    async def _linked(self, store: RocksStore, folder: Path) -> LogPosition:
        deadline_s = time.monotonic() + AT_REST_S
        while True:
            frozen = store.freeze()
            try:
                while not store.link(frozen, folder):
                    if time.monotonic() > deadline_s:
                        raise FilesMoved(f"RocksDB was at work for {AT_REST_S:g} s without a pause")
                    await asyncio.sleep(LINK_EVERY_S)
            except FilesMoved:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(LINK_EVERY_S)
                continue
            return frozen.position

    def _put(
        self,
        folder: Path,
        topic_id: str,
        partition: int,
        position: LogPosition,
        digests: dict[tuple[int, int, int], str],
    ) -> Manifest:
        """Upload the files, then the manifest, then delete what is no longer needed."""
        manifest = Manifest(
            state_format=STATE_FORMAT,
            topic_id=topic_id,
            partition=partition,
            partitions=self._partitions,
            position=position,
            files=describe_files(folder, digests),
        )
        place = folder_of(topic_id, partition)
        there = self._snapshot_store.list_objects(f"{place}/files")
        for file in to_upload(manifest.files, there, datetime.now(UTC)):
            self._snapshot_store.put_file(file_path(place, file.digest), folder / file.name)
            metrics.SNAPSHOT_UPLOADED.labels(partition).inc(file.bytes)
        crash_point(CRASH_BEFORE_MANIFEST)
        self._snapshot_store.put(manifest_path(place, manifest, uuid.uuid4().hex[:8]), encode_manifest(manifest))
        try:
            self._prune(place)
        except SnapshotStoreUnavailable as error:
            log.warning("snapshots.not_pruned", partition=partition, reason=str(error))
        return manifest

    def _prune(self, place: str) -> None:
        stored = self._snapshot_store.list_objects(f"{place}/manifests")
        kept = manifests_to_keep(stored)
        named: set[str] = set()
        for each in kept:
            try:
                named |= {file.digest for file in decode_manifest(self._snapshot_store.read(each.path)).files}
            except SnapshotRejected:
                # Another release may know which files it references: delete none while it is kept.
                return
        self._snapshot_store.delete([each.path for each in stored if each not in kept])
        files = self._snapshot_store.list_objects(f"{place}/files")
        # The manifest that was just put has the time of the store's clock.
        now = max((each.modified for each in kept), default=None)
        if now is not None:
            self._snapshot_store.delete([each.path for each in files_to_delete(files, named, now)])
