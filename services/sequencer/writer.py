"""The writer of one partition: the protocol of docs/log-protocol.md, told as one loop around the terms it opens.

hint → fold → open → serve … → unknown, superseded or broken → hint → …
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import structlog

from schemas.errors import LogCorrupt, UnknownType
from services.runtime.backoff import Backoff
from services.runtime.kafka.errors import AppendUnknown, KafkaError, OffsetMissing
from services.sequencer import metrics
from services.sequencer.errors import PartitionStopped, StoreBroken, Superseded
from services.sequencer.hint import Hint
from services.sequencer.ports import LogAppender, LogReader, Logs, Replies, Store
from services.sequencer.recovery import check_stored_position, fold
from services.sequencer.term import Term, TermSettings

WORD_TIMEOUT_S: Final = 10.0
"""How long a superseded writer waits for the group's next word before it opens again though none came: the later
term may be of one who is gone. Safe at any length; it only decides how soon two that disagree meet again."""

MOST_SURPRISES: Final = 5
"""Errors that nobody foresaw, in a row without an acknowledged batch, after which trying again is no more use."""
LONGEST_PAUSE_S: Final = 5.0
"""After unknown results: 100 ms at first, doubling to this, reset by an acknowledged batch."""

log = structlog.get_logger(__name__)


class Status(StrEnum):
    """What a writer is at, for readyz and the metrics."""

    WAITING = "waiting"
    """The partition is not ours."""
    FOLDING = "folding"
    OPENING = "opening"
    SERVING = "serving"
    SUPERSEDED = "superseded"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"
    """An operator has to decide. The hint is kept, so that the trouble does not wander through the fleet."""


class PartitionWriter:
    """Owns one partition's state folder and, while it serves, its term."""

    def __init__(
        self,
        settings: TermSettings,
        *,
        hint: Hint,
        logs: Logs,
        open_store: Callable[[str], Store],
        replies: Replies,
        now_ms: Callable[[], int],
        word_timeout_s: float = WORD_TIMEOUT_S,
    ) -> None:
        """`open_store` gets the topic id whose state it shall be."""
        self._settings = settings
        self._hint = hint
        self._logs = logs
        self._open_store = open_store
        self._replies = replies
        self._now_ms = now_ms
        self._word_timeout_s = word_timeout_s
        self._backoff = Backoff(LONGEST_PAUSE_S)
        self._stopping = asyncio.Event()
        self._surprises = 0
        self._store: Store | None = None
        self._topic_id = ""
        self._log = log.bind(partition=settings.partition)
        self.status = Status.WAITING
        self.reason: str | None = None
        """Why it is stopped or backing off."""

    @property
    def decided_offset(self) -> int | None:
        """Of the last command decided in our term; None unless serving. What is before it may be trimmed in time."""
        if self.status is not Status.SERVING or self._store is None:
            return None
        return self._store.position.head.command_offset

    def stop(self) -> None:
        """Asks `run` to end: it finishes what it has decided, and tells it."""
        self._stopping.set()

    async def run(self) -> None:
        """Serves until stopped. Whatever the world does ends a term, never this."""
        try:
            while not self._stopping.is_set():
                if not self._hint.ours:
                    self._be(Status.WAITING)
                    await self._pause(self._hint.next_word(1.0))
                    continue
                await self._one_term()
        finally:
            if self._store is not None:
                self._store.close()

    async def _one_term(self) -> None:
        """From the fold to the end of a term, and what its end asks for."""
        words = self._hint.words
        try:
            await self._take_over()
        except Superseded as error:
            metrics.SUPERSEDED.labels(self._settings.partition).inc()
            self._log.info("term.superseded", reason=str(error))
            self._be(Status.SUPERSEDED, str(error))
            if self._hint.words == words:
                # The group has not spoken since we opened: by its last word we are the owner, yet another wrote.
                await self._pause(self._hint.next_word(self._word_timeout_s))
        except (PartitionStopped, LogCorrupt, UnknownType) as error:
            await self._stand_still(f"{type(error).__name__}: {error}")
        except StoreBroken as error:
            metrics.STATE_WIPES.labels(self._settings.partition).inc()
            self._log.warning("state.wiped", reason=str(error))
            await self._back_off(str(error), wipe=True)
        except (AppendUnknown, OffsetMissing) as error:
            metrics.UNKNOWN_RESULTS.labels(self._settings.partition).inc()
            await self._back_off(str(error))
        except KafkaError as error:
            await self._back_off(str(error))
        except Exception as error:  # noqa: BLE001  (a mistake of ours that one command meets must not take the others)
            self._log.exception("term.surprise")
            self._surprises += 1
            if self._surprises >= MOST_SURPRISES:
                await self._stand_still(f"{self._surprises} times in a row {error!r:.300}")
            else:
                await self._back_off(f"{error!r:.300}")

    async def _stand_still(self, reason: str) -> None:
        """Until the process is stopped: an operator has to decide."""
        self._be(Status.STOPPED, reason)
        self._log.critical("partition.stopped", reason=reason)
        await self._stopping.wait()

    def _acknowledged(self) -> None:
        self._backoff.reset()
        self._surprises = 0

    async def _take_over(self) -> None:
        """Steps 2 to 6."""
        self._be(Status.FOLDING)
        store = await self._state()
        events = await self._logs.read_events(store.position.next_offset)
        appender: LogAppender | None = None
        known = False
        try:
            await self._fold(events, store)
            if not self._hint.ours or self._stopping.is_set():
                return
            self._be(Status.OPENING)
            appender = await self._logs.append_events()
            term = Term(
                self._settings,
                logs=self._logs,
                store=store,
                replies=self._replies,
                appender=appender,
                now_ms=self._now_ms,
                ours=lambda: self._hint.ours,
                on_acknowledged=self._acknowledged,
            )
            await term.open(events)
            await events.close()  # an open reader would fetch all that we append
            self._serving(store)
            await term.serve(self._stopping)
            known = True
        finally:
            metrics.TERM.labels(self._settings.partition).set(0)
            if appender is not None:
                # After anything but a clean stop an append may be under way: nothing of it may be left that writes.
                if known:
                    await appender.stop()
                elif not await appender.discard():
                    self._log.error("producer.not_discarded")  # it has no connection left, and cannot get one
            await events.close()

    async def _state(self) -> Store:
        topic_id = await self._logs.events_topic_id()
        if self._store is not None and topic_id != self._topic_id:
            # Clients were told what the former log held: to decide its commands anew is not ours to choose.
            raise PartitionStopped(
                f"the event log was topic {self._topic_id} and is now {topic_id}: it was deleted and made again."
                " Restore it with an import, or restart the sequencers to begin a new log"
            )
        if self._store is None:
            self._store, self._topic_id = self._open_store(topic_id), topic_id
        return self._store

    async def _fold(self, events: LogReader, store: Store) -> None:
        """Step 2."""
        await check_stored_position(events, store)
        _, end = await events.bounds()
        met = await fold(events, store, end=end, partitions=self._settings.partitions)
        partition = self._settings.partition
        metrics.FOLDED_RECORDS.labels(partition).inc(met.records)
        if met.voids:
            metrics.VOID_RECORDS.labels(partition).inc(met.voids)

    def _serving(self, store: Store) -> None:
        head = store.position.head
        metrics.TERMS_OPENED.labels(self._settings.partition).inc()
        metrics.TERM.labels(self._settings.partition).set(head.term)
        self._log.info("term.opened", term=head.term, index=head.index, next_command=head.command_offset + 1)
        self._be(Status.SERVING)

    async def _back_off(self, reason: str, *, wipe: bool = False) -> None:
        self._be(Status.BACKING_OFF, reason)
        pause_s = self._backoff.next_s()
        self._log.warning("term.ended", reason=reason, pause_s=round(pause_s, 3))
        if wipe and self._store is not None:
            with contextlib.suppress(StoreBroken):  # a full disk: the next opening says so again
                self._store.wipe()
        await self._pause(asyncio.sleep(pause_s))

    async def _pause(self, until: object) -> None:
        """Waits for it, or for the stop."""
        waiting = asyncio.ensure_future(until)  # type: ignore[call-overload]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()

    def _be(self, status: Status, reason: str | None = None) -> None:
        if status is not self.status:
            metrics.STATUS.labels(self._settings.partition, self.status.value).set(0)
            metrics.STATUS.labels(self._settings.partition, status.value).set(1)
        self.status = status
        self.reason = reason
