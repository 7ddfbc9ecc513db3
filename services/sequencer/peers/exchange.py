"""Sends this process's heartbeats to `chat.heartbeats`, and passes those of all processes to the failure detector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final, Protocol

import structlog

from schemas.wire.encoding import Encoded, Record
from services.runtime.kafka.errors import KafkaError
from services.runtime.process.backoff import Backoff
from services.sequencer.peers.failure_detector import FailureDetector
from services.sequencer.peers.heartbeat import Heartbeat, decode_heartbeat, encode_heartbeat
from services.sequencer.ports import LogReader

HEARTBEAT_S: Final = 0.15
SEND_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 1.0
GATHERED_S: Final = 0.02
"""Pause between two reads, so that heartbeats of many processes are handled together."""
LATE_AFTER: Final = 3
"""A heartbeat is late if this many intervals have passed since the one before."""
LONGEST_PAUSE_S: Final = 2.0

log = structlog.get_logger(__name__)


class HeartbeatLog(Protocol):
    """The one partition of `chat.heartbeats`. Everything raises KafkaError."""

    async def append(self, record: Encoded, timeout_s: float) -> None: ...

    async def read_from_end(self) -> LogReader: ...


class HeartbeatExchange:
    """Sends one heartbeat at a time: after an outage there is no queue of them about a time that is over."""

    def __init__(
        self,
        detector: FailureDetector,
        heartbeat_log: HeartbeatLog,
        *,
        process: str,
        name: str,
        state: Callable[[], tuple[Mapping[int, int], Set[int]]],
        on_news: Callable[[], None],
        every_s: float = HEARTBEAT_S,
    ) -> None:
        """`state` returns what is served (partition → term) and which partitions this process stands by for; `on_news`
        is called when results of the failure detector may have changed."""
        self._detector = detector
        self._log = heartbeat_log
        self._process = process
        self._name = name
        self._state = state
        self._on_news = on_news
        self._every_s = every_s
        self._leaving = False
        self._number = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled. No Kafka error ends it: without heartbeats the group is the only hint."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._receive())

    def send_now(self) -> None:
        """Send the next heartbeat at once, because something has changed that peers wait for."""
        self._news.set()

    def announce_leaving(self) -> None:
        """Announce in every heartbeat from now on that this process is about to end."""
        self._leaving = True
        self.send_now()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(LONGEST_PAUSE_S)
        unsent = False
        regular_s = loop.time() - LATE_AFTER * self._every_s  # the first heartbeat is a late one
        due_s = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), max(0.0, due_s - loop.time()))
            self._news.clear()
            now_s = loop.time()
            extra = now_s < due_s
            late = not extra and now_s - regular_s >= LATE_AFTER * self._every_s
            if not extra:
                regular_s = now_s
            serves, stands_by = self._state()
            self._number += 1
            heartbeat = Heartbeat(
                process=self._process,
                name=self._name,
                number=self._number,
                serves=serves,
                stands_by=stands_by,
                leaving=self._leaving,
                extra=extra,
                late=late,
            )
            try:
                await self._log.append(Encoded(None, encode_heartbeat(heartbeat), []), SEND_TIMEOUT_S)
                backoff.reset()
                unsent = False
            except KafkaError as error:
                if not unsent:  # once for an outage
                    log.info("heartbeat.not_sent", reason=str(error))
                unsent = True
                await backoff.pause()
            if not extra:
                # From the acknowledgement on: two of ours stand at least a heartbeat apart in the topic.
                due_s = loop.time() + self._every_s

    async def _receive(self) -> None:
        backoff = Backoff(LONGEST_PAUSE_S)
        unheard = False
        while True:
            reader: LogReader | None = None
            try:
                reader = await self._log.read_from_end()
                unheard = False
                while True:
                    self._take(await reader.read(max_records=1_000, timeout_s=READ_TIMEOUT_S))
                    backoff.reset()
                    await asyncio.sleep(GATHERED_S)
            except KafkaError as error:
                if not unheard:
                    log.info("heartbeats.not_received", reason=str(error))
                unheard = True
            finally:
                if reader is not None:
                    await reader.close()
            await backoff.pause()

    def _take(self, records: Sequence[Record]) -> None:
        version = self._detector.version
        for record in records:
            try:
                heartbeat = decode_heartbeat(record.value or b"")
            except ValueError:
                continue  # from another release or another program: ignored
            self._detector.observe(heartbeat)
        if self._detector.version != version:
            self._on_news()
