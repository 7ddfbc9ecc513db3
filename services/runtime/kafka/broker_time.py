"""Reads a broker's clock: the timestamp that the broker sets on a record which we append.

This needs a topic with `message.timestamp.type=LogAppendTime`; then the acknowledgement of an append contains the time.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaUnavailable

ANSWER_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
_LEADER_ONLY: Final = 1
"""The acks of the append: the record carries no data, so it need not be replicated."""


class Reading(NamedTuple):
    """One reading of a broker's clock."""

    broker_ms: int
    """ms since 1970 UTC."""
    sent_s: float
    """Monotonic time, like `answered_s`: the broker read its clock between the two."""
    answered_s: float


class BrokerTime:
    """Reads the clock of the broker that leads partition 0 of a topic, by appending one record to it."""

    def __init__(self, *, kafka: KafkaConnection, client_id: str, topic: str, value: bytes) -> None:
        """Prepare the client. `value` is the value of a record that readers of the topic ignore."""
        self._kafka = kafka
        self._client_id = f"{client_id}-clock"
        self._tp = TopicPartition(topic, 0)
        self._value = value
        self._client: AIOKafkaClient | None = None

    async def read(self) -> Reading:
        """Read the clock. Raises KafkaUnavailable, also if the topic has the timestamps of producers."""
        try:
            return await within(ANSWER_TIMEOUT_S, "tell the time", self._read())
        except BaseException:
            await self.close()  # the next reading begins with the bootstrap servers
            raise

    async def close(self) -> None:
        """Close the connections, in bounded time."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaUnavailable):
                await within(CLOSE_TIMEOUT_S, "close a client", client.close())

    async def _read(self) -> Reading:
        client = await self._connected()
        leader = client.cluster.leader_for_partition(self._tp)
        if leader is None or leader == -1:
            client.force_metadata_update()
            raise kafka_errors.LeaderNotAvailableError(self._tp.topic)
        batch = BatchBuilder(len(self._value) + 1_000, 0)
        batch.append(timestamp=None, key=None, value=self._value, headers=[])
        batch.close()
        request = ProduceRequest(
            None, _LEADER_ONLY, int(ANSWER_TIMEOUT_S * 1000), [(self._tp.topic, [(0, bytes(batch._build()))])]
        )
        sent_s = time.monotonic()
        response: Any = await client.send(leader, request)
        answered_s = time.monotonic()
        ((_, ((_, code, _, broker_ms, *_),)),) = response.topics
        if code:
            client.force_metadata_update()
            raise kafka_errors.for_code(code)(self._tp.topic)
        if broker_ms < 0:
            raise kafka_errors.IllegalStateError(f"{self._tp.topic} has not message.timestamp.type=LogAppendTime")
        return Reading(int(broker_ms), sent_s, answered_s)

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = AIOKafkaClient(
                **self._kafka.client_options(),
                client_id=self._client_id,
                request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000),
            )
            await self._client.bootstrap()
            await self._client.set_topics([self._tp.topic])
        return self._client
