"""Snapshots for a state that is far behind its log: looked for, fetched and verified beside the fold."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from services.runtime.kafka.errors import KafkaError
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.crashpoints import crash_point, declare_crash_point
from services.runtime.process.threads import run_in_daemon_thread
from services.sequencer import metrics
from services.sequencer.ports import FetchedSnapshot, LogPosition, LogReader, Logs, SnapshotSource, StateStore
from services.sequencer.snapshots.manifest import (
    Manifest,
    RejectReason,
    SnapshotRejected,
    check_belongs,
    decode_manifest,
    file_path,
    folder_of,
    manifests_to_keep,
)
from services.sequencer.snapshots.object_store import DownloadStopped, SnapshotStore, SnapshotStoreUnavailable
from services.sequencer.store.fold import ReplayStats, fold, is_in_log
from services.sequencer.store.format import FORMAT as STATE_FORMAT

log = structlog.get_logger(__name__)

FILES_AT_ONCE: Final = 4
HEAD_START_S: Final = 2.0
"""How long a fold waits for a snapshot, before both go on side by side on the same processors; a fifth of the time that
it takes itself where that is longer."""
SHORTEST_START_S: Final = 1.0
FOLDED_PER_S: Final = 200_000
"""A fold that would be done by then does not wait: records a second, a little more than was ever measured. By the
default of the setting, who lacks fewer than fold in SHORTEST_START_S does not look for a snapshot at all."""
SLICE: Final = 20_000
"""Records folded between two looks at whether the snapshot is there."""

CRASH_DOWNLOADED: Final = declare_crash_point(
    "snapshot.downloaded", "The files of a snapshot are on the disk, beside the state; the next start deletes them."
)


class SnapshotRestorer:
    """The snapshots of one partition, as this process may install them."""

    def __init__(
        self, snapshot_store: SnapshotStore, folder: Path, *, partition: int, partitions: int, ahead: int
    ) -> None:
        """`folder` is on the disk of the state, and this restorer's alone."""
        self._snapshot_store = snapshot_store
        self._folder = folder
        self._partition = partition
        self._partitions = partitions
        self._ahead = ahead
        self._used: set[str] = set()
        """Installed once. Who asks again lost that state: as likely by what was in it as by the disk."""
        self._reported: set[tuple[str, RejectReason]] = set()
        self._began_s = 0.0

    @property
    def ahead(self) -> int:
        return self._ahead

    async def fetch(
        self, topic_id: str, position: LogPosition, end: int, in_log: Callable[[LogPosition], Awaitable[bool]]
    ) -> FetchedSnapshot | None:
        self._began_s = time.monotonic()
        stopped = threading.Event()
        try:
            for name, manifest in await run_in_daemon_thread(partial(self._manifests, topic_id)):
                if manifest.position.next_offset < position.next_offset + self._ahead:
                    continue
                try:
                    if name in self._used:
                        raise SnapshotRejected(RejectReason.USED, "the state that it made broke")
                    if manifest.position.next_offset > end or not await in_log(manifest.position):
                        raise SnapshotRejected(RejectReason.STALE, "the log does not have the record it ended with")
                    # Each try has a folder of its own: the threads of one that was given up may still write.
                    folder = self._folder / f"{time.monotonic_ns()}"
                    await run_in_daemon_thread(partial(self._download, topic_id, manifest, folder, stopped))
                    crash_point(CRASH_DOWNLOADED)
                    return FetchedSnapshot(name=name, folder=folder, position=manifest.position)
                except SnapshotRejected as rejected:
                    self._reject(name, rejected)
        except (SnapshotStoreUnavailable, KafkaError, OSError) as error:
            warn_throttled(
                log, "snapshots.unavailable", partition=self._partition, reason=f"{type(error).__name__}: {error}"
            )
        except Exception:
            log.exception("snapshots.unexpected_error", partition=self._partition)
        finally:
            stopped.set()
        return None

    def installed(self, fetched: FetchedSnapshot) -> None:
        self._used.add(fetched.name)
        seconds = time.monotonic() - self._began_s
        metrics.SNAPSHOT_INSTALL_SECONDS.observe(seconds)
        log.info(
            "snapshot.installed",
            partition=self._partition,
            next_offset=fetched.position.next_offset,
            seconds=round(seconds, 3),
        )

    def reject(self, fetched: FetchedSnapshot) -> None:
        self._used.add(fetched.name)
        self._reject(fetched.name, SnapshotRejected(RejectReason.STATE, "its files make no state at its position"))

    def _manifests(self, topic_id: str) -> list[tuple[str, Manifest]]:
        """Those that can be read and belong to us, the furthest first."""
        found: list[tuple[str, Manifest]] = []
        for stored in manifests_to_keep(
            self._snapshot_store.list_objects(f"{folder_of(topic_id, self._partition)}/manifests")
        ):
            try:
                manifest = decode_manifest(self._snapshot_store.read(stored.path))
                check_belongs(
                    manifest,
                    state_format=STATE_FORMAT,
                    topic_id=topic_id,
                    partition=self._partition,
                    partitions=self._partitions,
                )
                found.append((stored.path, manifest))
            except SnapshotRejected as rejected:
                self._reject(stored.path, rejected)
        return sorted(found, key=lambda each: each[1].position.next_offset, reverse=True)

    def _download(self, topic_id: str, manifest: Manifest, folder: Path, stopped: threading.Event) -> None:
        folder.mkdir(parents=True)
        place = folder_of(topic_id, self._partition)
        failed = threading.Event()

        def fetch(index: int) -> None:
            file = manifest.files[index]
            try:
                self._snapshot_store.fetch(
                    file_path(place, file.digest), file, folder, lambda: stopped.is_set() or failed.is_set()
                )
            except BaseException:
                failed.set()
                raise

        # The longest first, so that no thread is left with it at the end.
        order = sorted(range(len(manifest.files)), key=lambda index: -manifest.files[index].bytes)
        try:
            with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
                tasks = [threads.submit(fetch, index) for index in order]
            errors = [error for task in tasks if (error := task.exception()) is not None]
            for error in sorted(errors, key=lambda error: isinstance(error, DownloadStopped)):
                raise error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _reject(self, name: str, rejected: SnapshotRejected) -> None:
        """Told once of each snapshot: whoever stands by or backs off looks again and again."""
        if (name, rejected.reason) not in self._reported:
            self._reported.add((name, rejected.reason))
            metrics.SNAPSHOTS_REJECTED.labels(self._partition, rejected.reason.value).inc()
            log.warning("snapshot.rejected", partition=self._partition, snapshot=name, reason=str(rejected))


async def catch_up(
    events: LogReader,
    store: StateStore,
    *,
    end: int,
    partitions: int,
    snapshots: SnapshotSource | None,
    logs: Logs,
    topic_id: str,
) -> ReplayStats:
    """`fold` to `end`, from a snapshot where that is nearer: it is fetched beside the fold, and whoever is there first
    wins. A store that is slow costs two seconds or a fifth of the fold, and never more than the fold itself.

    Raises what `fold` raises, and StateBroken.
    """
    missing = end - store.position.next_offset
    if snapshots is None or missing < snapshots.ahead:
        return await fold(events, store, end=end, partitions=partitions)

    async def in_log(position: LogPosition) -> bool:
        reader = await logs.read_events(position.next_offset - 1)
        try:
            return await is_in_log(reader, position)
        finally:
            await reader.close()

    fetching = asyncio.create_task(snapshots.fetch(topic_id, store.position, end, in_log), name="snapshot")
    stats = ReplayStats()
    try:
        fold_s = missing / FOLDED_PER_S
        await asyncio.wait({fetching}, timeout=max(SHORTEST_START_S, min(HEAD_START_S, fold_s), fold_s / 5))
        looked = False
        while store.position.next_offset < end:
            if fetching.done() and not looked:
                looked = True
                _install(store, snapshots, fetching.result())
            step = end if looked else min(end, store.position.next_offset + SLICE)
            folded = await fold(events, store, end=step, partitions=partitions)
            stats.records += folded.records
            stats.voids += folded.voids
    finally:
        # Where the fold was faster, the threads see it at their next piece, and the next start tidies up after them.
        fetching.cancel()
        await asyncio.wait({fetching})
    return stats


def _install(store: StateStore, snapshots: SnapshotSource, fetched: FetchedSnapshot | None) -> None:
    if fetched is None or fetched.position.next_offset <= store.position.next_offset:
        return
    if store.replace(fetched.folder, fetched.position):
        snapshots.installed(fetched)
    else:
        snapshots.reject(fetched)
