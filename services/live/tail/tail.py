"""The tail: reads all partitions of `chat.events` from where the read model stands, into the hub.

It begins at the positions of the serving projection, which hold whole heads, so that the validity rule applies from the
first record on. Everything before is in the read model, everything after in the ring. After an outage of Kafka each
partition goes on where it was. A record that no reader can pass stops its partition, and the process is not ready: its
streams would be incomplete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct

from schemas.cursor import Decided, LogCursor, LogEvent, Stop
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import AcceptedOutcome, OutcomeKind
from schemas.log import Head, Stamp
from schemas.topics import TopicNames
from schemas.wire.encoding import Record
from services.live import metrics
from services.live.hub.entry import Entry
from services.live.hub.hub import Hub
from services.runtime.health.health import Readiness
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.partitions_reader import PartitionsReader
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.backoff import Backoff
from services.runtime.settings import KafkaSettings

PIECE_RECORDS: Final = 500
READ_TIMEOUT_S: Final = 1.0
BACKOFF_MAX_S: Final = 2.0
_READING: Final = "live tail"

OnAccepted = Callable[[int, Stamp, AcceptedOutcome], None]
"""Gets a valid outcome, with its partition and its place there."""

_log = structlog.get_logger(__name__)


class TailPosition(Struct, frozen=True):
    """Where the read model stands in one partition."""

    next_offset: int = 0
    head: Head = Head()


class LogTail:
    """Follows all partitions."""

    def __init__(
        self,
        kafka: KafkaSettings,
        hub: Hub,
        readiness: Readiness,
        *,
        after_piece: Callable[[], None] = lambda: None,
        on_accepted: OnAccepted | None = None,
    ) -> None:
        """:param after_piece: called after each piece of records that held events.
        :param on_accepted: called with each accepted outcome.
        """
        self._kafka = kafka
        self._topic = TopicNames.prefixed(kafka.topic_prefix).events
        self._hub = hub
        self._readiness = readiness
        self._after_piece = after_piece
        self._on_accepted = on_accepted
        self._cursors: dict[int, LogCursor] = {}
        """The partitions that are followed."""

    async def run(self, positions: Mapping[int, TailPosition]) -> None:
        """Follow until cancelled."""
        for partition in range(self._kafka.partitions):
            position = positions.get(partition, TailPosition())
            self._hub.begin(partition, position.head.index)
            self._cursors[partition] = LogCursor(position.head, next_offset=position.next_offset)
        backoff = Backoff(BACKOFF_MAX_S)
        while True:
            reader = PartitionsReader(
                kafka=self._kafka.connection, topic=self._topic, client_id=f"{self._kafka.client_id}-live"
            )
            try:
                await reader.start({partition: cursor.next_offset for partition, cursor in self._cursors.items()})
                while True:
                    found = await reader.read(max_records=PIECE_RECORDS, timeout_s=READ_TIMEOUT_S)
                    backoff.reset()
                    self._readiness.clear_trouble(_READING)
                    for partition, records in found.items():
                        self._read(reader, partition, records)
                    for partition, error in tuple(reader.lost.items()):
                        if partition in self._cursors:
                            self._stop(partition, f"{error}: its history was deleted, or this is another log")
            except KafkaError as error:
                self._readiness.report_trouble(_READING, f"The log cannot be read for live: {error}.")
                warn_throttled(_log, "live.waiting", kind=type(error).__name__, error=str(error))
                await backoff.pause()
            finally:
                await reader.close()

    def _read(self, reader: PartitionsReader, partition: int, records: Sequence[Record]) -> None:
        try:
            self._take(partition, self._cursors[partition].read(records))
        except (LogCorrupt, UnknownType) as error:
            reader.drop(partition)
            self._stop(partition, str(error))

    def _take(self, partition: int, events: Sequence[LogEvent]) -> None:
        """Pass the events of a piece on. Raises LogCorrupt, UnknownType; the events before are passed on."""
        entries: list[Entry] = []
        passed_over = 0
        try:
            for event in events:
                if type(event) is Decided:
                    outcome = event.outcome
                    if type(outcome) is AcceptedOutcome:
                        if self._on_accepted is not None:
                            self._on_accepted(partition, event.stamp, outcome)
                        entries.append(Entry(partition, event.stamp.index, outcome))
                    elif outcome.kind is OutcomeKind.ACCEPTED:
                        raise UnknownType(f"an outcome of type {outcome.type!r:.100}: deploy a newer release")
                    else:
                        passed_over = event.stamp.index
                elif type(event) is Stop:
                    raise event.error
        finally:
            self._hub.take(entries, time.monotonic())
            if passed_over and (not entries or passed_over > entries[-1].index):
                self._hub.pass_over(partition, passed_over)
            if entries:
                metrics.EVENTS.inc(len(entries))
                metrics.DELAY_SECONDS.observe(max(0.0, time.time() - entries[-1].outcome.at_ms / 1000))
            self._after_piece()

    def _stop(self, partition: int, reason: str) -> None:
        del self._cursors[partition]
        metrics.PARTITIONS_STOPPED.set(self._kafka.partitions - len(self._cursors))
        sentence = f"Partition {partition} of the log cannot be followed: {reason}; prove it with `gapless log verify`."
        self._readiness.report_trouble(f"live partition {partition}", sentence, needs_operator=True)
        _log.error("live.partition_stopped", partition=partition, reason=reason)
