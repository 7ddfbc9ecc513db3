"""Sends this process's signals to `chat.signals`, and passes those of all processes to the hub.

No Kafka error ends it, and none is shown to a client: a signal that is lost would have been worth nothing in a moment.
"""

from __future__ import annotations

import time
from typing import Final

import structlog

from schemas.topics import TopicNames, signals_spec
from schemas.wire.encoding import Encoded, Undecodable
from services.live import metrics
from services.live.frames import control
from services.live.hub.hub import Hub
from services.live.signals.limit import SignalLimit
from services.live.signals.signal import FOR_S, Signal, decode_signal, encode_signal
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import create_topics
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.backoff import Backoff
from services.runtime.settings import KafkaSettings

SEND_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 1.0
READ_RECORDS: Final = 500
UNDER_WAY: Final = 200
"""Maximum signals being sent; more are dropped."""
BACKOFF_MAX_S: Final = 5.0

_log = structlog.get_logger(__name__)


class SignalExchange:
    """The one partition of `chat.signals`, created by the first process that needs it."""

    def __init__(self, kafka: KafkaSettings, hub: Hub) -> None:
        self._kafka = kafka
        self._hub = hub
        self._spec = signals_spec(TopicNames.prefixed(kafka.topic_prefix), replication_factor=kafka.replication_factor)
        self._client_id = f"{kafka.client_id}-live-signals"
        self._producer = Producer(kafka=kafka.connection, client_id=self._client_id)
        self._limit = SignalLimit()
        self._under_way = 0
        self._ready = False

    def send(self, signal: Signal) -> None:
        """Send a signal to all processes, or drop it: if the user sends too many, or Kafka does not take them."""
        if not self._ready or self._under_way >= UNDER_WAY or not self._limit.admits(signal, time.monotonic()):
            metrics.SIGNALS.labels(result="dropped").inc()
            return
        self._under_way += 1
        record = Encoded(None, encode_signal(signal), [])
        self._producer.append(self._spec.name, 0, (record,), SEND_TIMEOUT_S, self._settled)

    def _settled(self, _offset: int, error: KafkaError | None) -> None:
        self._under_way -= 1
        metrics.SIGNALS.labels(result="sent" if error is None else "dropped").inc()

    async def run(self) -> None:
        """Pass signals to the hub until cancelled."""
        backoff = Backoff(BACKOFF_MAX_S)
        while True:
            reader = PartitionReader(
                kafka=self._kafka.connection, topic=self._spec.name, partition=0, client_id=self._client_id
            )
            try:
                await create_topics(self._kafka.connection, [self._spec])
                await reader.start(0)
                _, end = await reader.bounds()
                await reader.seek(end)
                self._ready = True
                while True:
                    for record in await reader.read(max_records=READ_RECORDS, timeout_s=READ_TIMEOUT_S):
                        if not isinstance(record, Undecodable):
                            self._take(record.value or b"")
                    backoff.reset()
            except KafkaError as error:
                warn_throttled(_log, "signals.not_received", kind=type(error).__name__, error=str(error))
            finally:
                await reader.close()
            await backoff.pause()

    def _take(self, raw: bytes) -> None:
        try:
            signal = decode_signal(raw)
        except ValueError:
            return  # of another release or another program
        frame = control.signal(signal.kind, signal.chat_id, signal.user_id, signal.state, FOR_S)
        self._hub.signal(signal.chat_id, signal.user_id, frame)

    async def stop(self) -> None:
        await self._producer.stop()
