"""Snapshots for a state that is far behind its log: found, fetched and verified while the fold runs."""

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
"""Maximum time that a fold waits for a snapshot before both run at once, or a fifth of the fold's own time if that is
longer."""
SHORTEST_START_S: Final = 1.0
FOLDED_PER_S: Final = 200_000
"""Upper bound for the records that are folded in a second. A fold that would end sooner does not wait for a snapshot;
by the default of the setting, a state that lacks fewer than SHORTEST_START_S of folding does not fetch one."""
SLICE: Final = 20_000
"""Records folded between two checks for the snapshot."""

CRASH_DOWNLOADED: Final = declare_crash_point(
    "snapshot.downloaded", "The files of a snapshot are on the disk, next to the state; the next start deletes them."
)


class SnapshotRestorer:
    """The snapshots of one partition that this process may install."""

    def __init__(
        self, snapshot_store: SnapshotStore, folder: Path, *, partition: int, partitions: int, ahead: int
    ) -> None:
        """`folder` is on the disk of the state and used by this restorer only."""
        self._snapshot_store = snapshot_store
        self._folder = folder
        self._partition = partition
        self._partitions = partitions
        self._ahead = ahead
        self._used: set[str] = set()
        """Snapshots that were installed or rejected: a state that was lost may have been broken by its content."""
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
                    # Each attempt has its own folder: threads of an abandoned one may still write.
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
        """Return the readable manifests of this partition and log, the furthest first."""
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

        # The longest first, so that it is not the last one to end.
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
        """Report a snapshot once for each reason: standbys and retries find it again and again."""
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
    """Fold to `end`, from a snapshot if that is faster: it is fetched while the fold runs, and the first one wins.

    A slow store costs at most two seconds or a fifth of the fold.

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
        # If the fold was faster, the threads stop at their next chunk, and the next start deletes their files.
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
