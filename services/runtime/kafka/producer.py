"""Single records to any partition: ingest's commands and the sequencer's replies.

The records of all callers share batches. After any error the aiokafka producer is thrown away and the next send
gets a fresh one: what the old one had in flight is unknown, and each of its callers is told so.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors

from schemas.encoding import Encoded
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable

START_TIMEOUT_S: Final = 10.0


class Producer:
    """Sends single records with acks=all, idempotently, to partitions that the caller names."""

    def __init__(self, *, bootstrap_servers: str, client_id: str, linger_ms: int = 0) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._discards: set[asyncio.Task[bool]] = set()

    async def start(self) -> None:
        """Connects. Raises KafkaUnavailable; a later send tries again, so a caller may go on."""
        await self._live()

    async def send(self, topic: str, partition: int, record: Encoded, timeout_s: float) -> int:
        """The offset of the acknowledged record.

        Raises KafkaUnavailable where it was never handed over, AppendUnknown where it may be in the log.
        """
        try:
            async with asyncio.timeout(timeout_s):
                producer = await self._live()
        except TimeoutError:
            raise KafkaUnavailable(f"no producer within {timeout_s:g} s") from None
        try:
            async with asyncio.timeout(timeout_s):
                done = await producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    partition=partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=record.headers,
                )
                metadata = await asyncio.shield(done)
        except TimeoutError:
            self._throw_away(producer)
            raise AppendUnknown(f"no acknowledgement within {timeout_s:g} s") from None
        except (kafka_errors.KafkaError, OSError, AssertionError) as error:
            self._throw_away(producer)
            raise AppendUnknown(f"{error!r:.300}") from error
        return int(metadata.offset)

    async def stop(self) -> None:
        """Leaves in bounded time; whoever still waits for an acknowledgement has its own deadline."""
        producer, self._current = self._current, None
        if producer is not None:
            try:
                await within(3.0, "close a producer", producer.stop())
            except KafkaUnavailable:
                await discard(producer)
        if self._discards:
            await asyncio.wait(self._discards)

    async def _live(self) -> AIOKafkaProducer:
        if self._current is not None:
            return self._current
        async with self._starting:
            if self._current is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers,
                    client_id=self._client_id,
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=self._linger_ms,
                    max_batch_size=262_144,
                    request_timeout_ms=10_000,
                )
                try:
                    await within(START_TIMEOUT_S, "open a producer", producer.start())
                except BaseException:
                    await discard(producer)
                    raise
                self._current = producer
            return self._current

    def _throw_away(self, producer: AIOKafkaProducer) -> None:
        """At once for the next caller; being rid of it goes on beside."""
        if self._current is producer:
            self._current = None
            task = asyncio.create_task(discard(producer))
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)
