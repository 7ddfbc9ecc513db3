"""The writer of one partition: the protocol of docs/log-protocol.md, as one loop around the terms it opens.

hint → fold (→ stand by) → open → serve … → unknown, superseded or broken → hint → …
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import structlog

from schemas.errors import LogCorrupt, UnknownType
from schemas.wire.encoding import Record
from services.runtime.kafka.errors import AppendUnknown, KafkaError, OffsetMissing
from services.runtime.process.backoff import Backoff
from services.sequencer import metrics
from services.sequencer.errors import PartitionStopped, StateBroken, Superseded
from services.sequencer.partition.hint import OwnershipHint
from services.sequencer.partition.term import Term, TermSettings
from services.sequencer.ports import LogAppender, LogReader, Logs, ReplyPublisher, SnapshotSource, StateStore
from services.sequencer.snapshots.restore import catch_up
from services.sequencer.store.fold import ReplayStats, check_stored_position, fold_read

ASSIGNMENT_TIMEOUT_S: Final = 10.0
"""Maximum time that a superseded writer waits for the group's next assignment before it opens another term: the newer
term may belong to a dead process. Any value is safe; it only bounds how often two disagreeing processes compete."""

MAX_UNEXPECTED_ERRORS: Final = 5
"""Unexpected errors in a row, without an acknowledged batch between them, after which the writer stops retrying."""
LONGEST_PAUSE_S: Final = 5.0
"""Maximum pause after an unknown result: 100 ms at first, doubling to this, reset by an acknowledged batch."""
HINT_POLL_S: Final = 1.0
"""Interval at which the hint is checked without being notified."""

STANDBY_RECORDS: Final = 500
"""Records that a standby folds at once: some milliseconds, during which the served partitions wait."""
STANDBY_READ_S: Final = 0.5
STANDBY_PAUSE_S: Final = 0.1
"""Pause between two reads of a standby that has caught up; a takeover folds what arrives meanwhile within
milliseconds."""

log = structlog.get_logger(__name__)


class Status(StrEnum):
    """The state of a writer, as /readyz and the metrics show it."""

    WAITING = "waiting"
    """The partition is not ours."""
    FOLDING = "folding"
    STANDING_BY = "standing_by"
    """Another process serves it, and this one folds along."""
    OPENING = "opening"
    SERVING = "serving"
    SUPERSEDED = "superseded"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"
    """An operator has to decide. The partition is kept, so that the failure does not move from process to process."""


class PartitionWriter:
    """Owns one partition's state folder and, while it serves, its term."""

    def __init__(
        self,
        settings: TermSettings,
        *,
        hint: OwnershipHint,
        logs: Logs,
        open_store: Callable[[str], StateStore],
        replies: ReplyPublisher,
        now_ms: Callable[[], int],
        snapshots: SnapshotSource | None = None,
        assignment_timeout_s: float = ASSIGNMENT_TIMEOUT_S,
        on_status: Callable[[], None] = lambda: None,
    ) -> None:
        """`open_store` is called with the topic id of the event log; `on_status` is called when the status changes."""
        self._settings = settings
        self._hint = hint
        self._logs = logs
        self._open_store = open_store
        self._replies = replies
        self._now_ms = now_ms
        self._snapshots = snapshots
        self._assignment_timeout_s = assignment_timeout_s
        self._on_status = on_status
        self._backoff = Backoff(LONGEST_PAUSE_S)
        self._stopping = asyncio.Event()
        self._unexpected_errors = 0
        self._ended_unserved = False
        """Whether a term has ended and nothing has been acknowledged since."""
        self._assignment_seq = 0
        """The group's assignment number when our term was last known to be the latest."""
        self._store: StateStore | None = None
        self._topic_id = ""
        self._log = log.bind(partition=settings.partition)
        metrics.begin(settings.partition)
        self.status = Status.WAITING
        self.reason: str | None = None
        """Why it is stopped or backing off."""

    @property
    def term(self) -> int | None:
        """The term it serves; None unless serving."""
        if self.status is not Status.SERVING or self._store is None:
            return None
        return self._store.position.head.term

    @property
    def decided_offset(self) -> int | None:
        """Offset of the last command decided in our term; None unless serving. Commands before it may be trimmed."""
        if self.status is not Status.SERVING or self._store is None:
            return None
        return self._store.position.head.command_offset

    def stop(self) -> None:
        """Ask `run` to end, after it has appended and answered what it has decided."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped. Failures end a term, never this loop."""
        try:
            while not self._stopping.is_set():
                if not (self._hint.ours or self._hint.stands_by):
                    self._set_status(Status.WAITING)
                    await self._pause(self._hint.wait_change(HINT_POLL_S))
                    continue
                await self._one_term()
        finally:
            if self._store is not None:
                self._store.close()

    async def _one_term(self) -> None:
        """Run one term, from the fold to its end, and react to the way it ended."""
        self._assignment_seq = self._hint.assignment_seq
        try:
            await self._take_over()
        except Superseded as error:
            metrics.SUPERSEDED.labels(self._settings.partition).inc()
            self._log.info("term.superseded", reason=str(error))
            self._set_status(Status.SUPERSEDED, str(error))
            if self._hint.ours and self._hint.assignment_seq == self._assignment_seq:
                # No assignment since we last wrote: by the last one we are the owner, yet another process wrote.
                await self._pause(self._hint.wait_assignment(self._assignment_timeout_s))
        except (PartitionStopped, LogCorrupt, UnknownType) as error:
            reason = f"{type(error).__name__}: {error}"
            if self._hint.ours:
                await self._halt(reason)
            else:
                await self._step_down(reason)
        except StateBroken as error:
            metrics.STATE_WIPES.labels(self._settings.partition).inc()
            self._log.warning("state.wiped", reason=str(error))
            await self._back_off(str(error), wipe=True)
        except (AppendUnknown, OffsetMissing) as error:
            metrics.UNKNOWN_RESULTS.labels(self._settings.partition).inc()
            await self._back_off(str(error))
        except KafkaError as error:
            await self._back_off(str(error))
        except Exception as error:  # noqa: BLE001  (one command that triggers a bug must not stop the process)
            self._log.exception("term.unexpected_error")
            self._unexpected_errors += 1
            if self._unexpected_errors >= MAX_UNEXPECTED_ERRORS:
                await self._halt(f"{self._unexpected_errors} times in a row {error!r:.300}")
            else:
                await self._back_off(f"{error!r:.300}")

    async def _halt(self, reason: str) -> None:
        """Serve nothing until the process is stopped: an operator has to decide."""
        self._set_status(Status.STOPPED, reason)
        self._log.critical("partition.stopped", reason=reason)
        await self._stopping.wait()

    async def _step_down(self, reason: str) -> None:
        """Stop standing by until the partition is ours. The process that serves it reports what is wrong, and may be a
        newer release that writes records this one cannot read."""
        self._set_status(Status.WAITING, reason)
        self._log.warning("standby.ended", reason=reason)
        while not (self._hint.ours or self._stopping.is_set()):
            await self._pause(self._hint.wait_change(HINT_POLL_S))

    def _acknowledged(self) -> None:
        self._assignment_seq = self._hint.assignment_seq
        self._backoff.reset()
        self._unexpected_errors = 0
        self._ended_unserved = False

    async def _take_over(self) -> None:
        """Steps 2 to 6 of the protocol; between 2 and 3, stand by while the partition is not ours."""
        self._set_status(Status.FOLDING)
        store = await self._state()
        events = await self._logs.read_events(store.position.next_offset)
        appender: LogAppender | None = None
        known = False
        try:
            await self._fold(events, store)
            if not self._hint.ours:
                await events.close()
                if not await self._stand_by(store):
                    return
                events = await self._logs.read_events(store.position.next_offset)
            if self._stopping.is_set():
                return
            self._set_status(Status.OPENING)
            appender = await self._logs.append_events()
            term = Term(
                self._settings,
                logs=self._logs,
                store=store,
                replies=self._replies,
                appender=appender,
                now_ms=self._now_ms,
                is_uncontested=self._hint.is_uncontested,
                on_acknowledged=self._acknowledged,
            )
            await term.open(events)
            await events.close()  # an open reader would fetch everything that we append
            self._serving(store)
            await term.serve(self._stopping)
            known = True
        finally:
            metrics.TERM.labels(self._settings.partition).set(0)
            if appender is not None:
                # Unless the stop was clean, an append may be in flight: discard everything that could still write.
                if known:
                    await appender.stop()
                elif not await appender.discard():
                    self._log.error("producer.not_discarded")  # it has no connection left and cannot open one
            await events.close()

    async def _state(self) -> StateStore:
        topic_id = await self._logs.events_topic_id()
        if self._store is not None and topic_id != self._topic_id:
            # Clients have answers from the former log: deciding its commands again needs an operator's consent.
            raise PartitionStopped(
                f"the event log was topic {self._topic_id} and is now {topic_id}: it was deleted and made again."
                " Restore the topic from a backup, or restart the sequencers to begin a new log"
            )
        if self._store is None:
            self._store, self._topic_id = self._open_store(topic_id), topic_id
        return self._store

    async def _fold(self, events: LogReader, store: StateStore) -> None:
        """Step 2."""
        await check_stored_position(events, store)
        _, end = await events.bounds()
        stats = await catch_up(
            events,
            store,
            end=end,
            partitions=self._settings.partitions,
            snapshots=self._snapshots,
            logs=self._logs,
            topic_id=self._topic_id,
        )
        self._count(stats)

    async def _stand_by(self, store: StateStore) -> bool:
        """Fold along until the group assigns the partition to us or the failure detector says to take over. Returns
        False if we should no longer stand by.

        By a patient reader of its own. The takeover opens another, which need not wait for the last fetch of this one.
        """
        events: LogReader | None = None
        reading: asyncio.Task[list[Record]] | None = None
        try:
            while not self._stopping.is_set():
                if self._hint.ours:
                    return True
                if self._hint.should_take_over(store.position.head.term):
                    metrics.STANDBY_TAKEOVERS.labels(self._settings.partition).inc()
                    self._log.info("standby.takes_over", term=store.position.head.term)
                    return True
                if not self._hint.stands_by:
                    return False
                if self.status is not Status.STANDING_BY:
                    self._log.info("standby.began", term=store.position.head.term)
                    self._set_status(Status.STANDING_BY)
                if events is None:
                    events = await self._logs.read_events(store.position.next_offset, patient=True)
                if reading is None:
                    reading = asyncio.create_task(
                        events.read(max_records=STANDBY_RECORDS, timeout_s=STANDBY_READ_S), name="standby"
                    )
                if await self._done_or_news(reading):
                    found = reading.result()
                    reading = None
                    self._backoff.reset()
                    self._count(fold_read(found, events.position, store, self._settings.partitions))
                    if not found:
                        store.write_out()
                    if len(found) < STANDBY_RECORDS:
                        await self._pause(self._hint.wait_change(STANDBY_PAUSE_S))
            return False
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
            if events is not None:
                await events.close()

    async def _done_or_news(self, reading: asyncio.Task[list[Record]]) -> bool:
        """Wait for a read, at most until there is news or a stop. Returns whether the read is done."""
        others = [
            asyncio.create_task(self._hint.wait_change(HINT_POLL_S)),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait({reading, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for other in others:
                other.cancel()
        return reading.done()

    def _count(self, stats: ReplayStats) -> None:
        partition = self._settings.partition
        metrics.FOLDED_RECORDS.labels(partition).inc(stats.records)
        if stats.voids:
            metrics.VOID_RECORDS.labels(partition).inc(stats.voids)

    def _serving(self, store: StateStore) -> None:
        head = store.position.head
        metrics.TERMS_OPENED.labels(self._settings.partition).inc()
        metrics.TERM.labels(self._settings.partition).set(head.term)
        self._log.info("term.opened", term=head.term, index=head.index, next_command=head.command_offset + 1)
        self._set_status(Status.SERVING)

    async def _back_off(self, reason: str, *, wipe: bool = False) -> None:
        self._set_status(Status.BACKING_OFF, reason)
        pause_s = self._backoff.next_s()
        # An outage ends one term after another: log the first end as a warning and the rest as debug.
        say = self._log.debug if self._ended_unserved else self._log.warning
        say("term.ended", reason=reason, pause_s=round(pause_s, 3))
        self._ended_unserved = True
        if wipe and self._store is not None:
            with contextlib.suppress(StateBroken):  # a full disk: opening the store reports it again
                self._store.wipe()
        await self._pause(asyncio.sleep(pause_s))

    async def _pause(self, until: object) -> None:
        """Wait for `until`, or for the stop."""
        waiting = asyncio.ensure_future(until)  # type: ignore[call-overload]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()

    def _set_status(self, status: Status, reason: str | None = None) -> None:
        changed = status is not self.status
        if changed:
            metrics.STATUS.labels(self._settings.partition, self.status.value).set(0)
            metrics.STATUS.labels(self._settings.partition, status.value).set(1)
        self.status = status
        self.reason = reason
        if changed:
            self._on_status()
