"""Appends commands to `chat.commands`, each to the partition of its chat, with a bound on how many are on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from schemas import ids
from schemas.wire.encoding import Command, Encoded, encode_command
from services.ingest import metrics
from services.runtime.kafka.errors import AppendUnknown, KafkaError
from services.runtime.kafka.producer import Settled

SOURCE = "/gapless/ingest"
"""`ce_source` of the commands that came over HTTP."""


@lru_cache(maxsize=64)
def _appended(command_type: str) -> Counter:
    """Kept: to find a series by its labels takes longer than to add to it."""
    return metrics.COMMANDS_APPENDED.labels(command_type=command_type)


class TooManyAppends(Exception):
    """Kafka takes commands more slowly than they come: this one was not handed over. Send it again a little later."""


class CommandProducer(Protocol):
    """What is needed of `services.runtime.kafka.producer.Producer`."""

    def append(
        self, topic: str, partition: int, records: Sequence[Encoded], timeout_s: float, settled: Settled
    ) -> None: ...


class Appended(NamedTuple):
    """Where a command stands in `chat.commands`."""

    partition: int
    offset: int


class Append:
    """Commands of one partition on their way: in the log one behind the other, or none of them.

    `on_failure` is called when it turns out that they are not acknowledged, `on_acknowledged` when they are.
    """

    __slots__ = ("_awaited", "error", "first_offset", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.first_offset: int | None = None
        """Of the first command, once they are acknowledged."""
        self.error: KafkaError | None = None
        """KafkaUnavailable: they are not in the log. AppendUnknown: nobody knows."""
        self._awaited: asyncio.Future[None] | None = None

    async def acknowledged(self) -> Appended:
        """Where the first of them stands; the producer's deadline bounds the wait. Raises KafkaUnavailable or
        AppendUnknown. May be asked again."""
        if self.first_offset is None and self.error is None:
            if self._awaited is None:
                self._awaited = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._awaited)
        if self.error is not None:
            raise self.error
        assert self.first_offset is not None
        return Appended(self.partition, self.first_offset)

    def settle(self, first_offset: int, error: KafkaError | None) -> None:
        if error is None:
            self.first_offset = first_offset
        else:
            self.error = error
        if self._awaited is not None:
            self._awaited.set_result(None)


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

    def partition_of(self, command: Command) -> int:
        assert command.chat_id is not None
        return ids.partition_of(command.chat_id, self._partitions)

    def append(self, partition: int, commands: Sequence[Command], on_settled: Callable[[Append], None]) -> Append:
        """Hands commands of one partition over, for one record batch, and tells when it is known what became of them.
        They are of one type.

        Raises TooManyAppends: they were not handed over.
        """
        count = len(commands)
        size = sum([len(command.body) for command in commands])
        if self._appends + count > self._max_appends or self._append_bytes + size > self._max_append_bytes:
            metrics.APPENDS_REFUSED.inc(count)
            raise TooManyAppends
        self._appends += count
        self._append_bytes += size
        metrics.APPENDS_IN_FLIGHT.inc(count)
        append = Append(partition)
        started_at_s = time.perf_counter()

        def settled(first_offset: int, error: KafkaError | None) -> None:
            self._appends -= count
            self._append_bytes -= size
            metrics.APPENDS_IN_FLIGHT.dec(count)
            if error is None:
                metrics.APPEND_SECONDS.observe(time.perf_counter() - started_at_s)
                _appended(commands[0].type).inc(count)
            elif isinstance(error, AppendUnknown):
                metrics.APPENDS_UNKNOWN.inc(count)
            else:
                metrics.APPENDS_FAILED.inc(count)
            append.settle(first_offset, error)
            on_settled(append)

        records = [encode_command(command, SOURCE) for command in commands]
        self._producer.append(self._topic, partition, records, self._append_timeout_s, settled)
        return append
