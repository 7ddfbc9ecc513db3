"""Appends commands to `chat.commands`, each to the partition of its chat, with a bound on how many are on the way."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from schemas import ids
from schemas.encoding import Command, Encoded, encode_command
from services.ingest import metrics
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable

SOURCE = "/gapless/ingest"
"""`ce_source` of the commands that came over HTTP."""


class TooManyAppends(Exception):
    """Kafka takes commands more slowly than they come: this one was not handed over. Send it again a little later."""


class CommandProducer(Protocol):
    """What is needed of `services.runtime.kafka.producer.Producer`."""

    async def send(self, topic: str, partition: int, record: Encoded, timeout_s: float) -> int: ...


class Appended(NamedTuple):
    """Where a command stands in `chat.commands`."""

    partition: int
    offset: int


class Publisher:
    """Bounded in number and in bytes: without it, a slow broker would fill the memory with waiting commands."""

    def __init__(
        self,
        producer: CommandProducer,
        *,
        topic: str,
        partitions: int,
        append_timeout_s: float,
        max_appends: int,
        max_append_bytes: int,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._append_timeout_s = append_timeout_s
        self._max_appends = max_appends
        self._max_append_bytes = max_append_bytes
        self._appends = 0
        self._append_bytes = 0

    async def append(self, command: Command) -> Appended:
        """Where the command stands, once it is acknowledged with acks=all.

        Raises TooManyAppends and KafkaUnavailable: it is not in the log; AppendUnknown: nobody knows.
        """
        size = len(command.body)
        if self._appends >= self._max_appends or self._append_bytes + size > self._max_append_bytes:
            metrics.APPENDS_REFUSED.inc()
            raise TooManyAppends
        assert command.chat_id is not None
        partition = ids.partition_of(command.chat_id, self._partitions)
        self._appends += 1
        self._append_bytes += size
        metrics.APPENDS_IN_FLIGHT.inc()
        started_at_s = time.perf_counter()
        try:
            offset = await self._producer.send(
                self._topic, partition, encode_command(command, SOURCE), self._append_timeout_s
            )
        except KafkaUnavailable:
            metrics.APPENDS_FAILED.inc()
            raise
        except AppendUnknown:
            metrics.APPENDS_UNKNOWN.inc()
            raise
        finally:
            self._appends -= 1
            self._append_bytes -= size
            metrics.APPENDS_IN_FLIGHT.dec()
        metrics.APPEND_SECONDS.observe(time.perf_counter() - started_at_s)
        metrics.COMMANDS_APPENDED.labels(command_type=command.type).inc()
        return Appended(partition, offset)
