"""Appends commands to `chat.commands`, each to the partition of its chat, with a bound on those in flight."""

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
"""`ce_source` of commands sent over HTTP."""


@lru_cache(maxsize=64)
def _appended(command_type: str) -> Counter:
    """Return the series of a command type, cached: finding it costs more than adding to it."""
    return metrics.COMMANDS_APPENDED.labels(command_type=command_type)


class TooManyAppends(Exception):
    """Commands arrive faster than Kafka accepts them: this one was not sent. Retry a little later."""


class CommandProducer(Protocol):
    """The part of `services.runtime.kafka.producer.Producer` that is needed here."""

    def append(
        self, topic: str, partition: int, records: Sequence[Encoded], timeout_s: float, settled: Settled
    ) -> None: ...


class Appended(NamedTuple):
    """The place of a command in `chat.commands`."""

    partition: int
    offset: int


class Append:
    """Commands of one partition in flight: they are logged consecutively, or not at all.

    `on_failure` is called when they turn out not to be acknowledged, `on_acknowledged` when they are.
    """

    __slots__ = ("_awaited", "error", "first_offset", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.first_offset: int | None = None
        """Offset of the first command, once they are acknowledged."""
        self.error: KafkaError | None = None
        """KafkaUnavailable if they are not in the log, AppendUnknown if they may be."""
        self._awaited: asyncio.Future[None] | None = None

    async def acknowledged(self) -> Appended:
        """Return the place of the first command; the producer's deadline bounds the wait. Raises KafkaUnavailable or
        AppendUnknown. May be awaited repeatedly."""
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
    """Appends commands, bounded in number and bytes: otherwise a slow broker would fill our memory with them."""

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
        return ids.partition_of(command.chat_id, self._partitions)

    def append(self, partition: int, commands: Sequence[Command], on_settled: Callable[[Append], None]) -> Append:
        """Append commands of one type and partition as one record batch. `on_settled` is called once they are settled.

        Raises TooManyAppends if they were not sent.
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
