"""One partition, read from an offset: the only way in which this project reads data from Kafka.

A record that the client cannot take apart (a header key that is not UTF-8, a broken codec) would stop a partition
for ever: the reader goes on with single records up to it, gives an `Undecodable` in its place, and passes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors

from schemas.encoding import Record
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaUnavailable, OffsetMissing

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 3.0
ANSWER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands in a batch for the record at `offset`, which the client could not take apart."""

    offset: int
    error: str
    timestamp: int = 0
    key: None = None
    value: None = None
    headers: Sequence[tuple[str, bytes]] = ()


class PartitionReader:
    """Reads one partition in order. Not for use by two tasks at once."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        topic: str,
        partition: int,
        client_id: str,
        fetch_max_wait_ms: int = 500,
        fetch_max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._tp = TopicPartition(topic, partition)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            client_id=client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=fetch_max_wait_ms,
            fetch_max_bytes=fetch_max_bytes,
            max_partition_fetch_bytes=fetch_max_bytes,
            isolation_level="read_uncommitted",
        )
        self._position = 0
        self._one_by_one = False

    @property
    def topic(self) -> str:
        return str(self._tp.topic)

    @property
    def partition(self) -> int:
        return int(self._tp.partition)

    @property
    def position(self) -> int:
        """The next offset to be read. It also passes what is no record (a transaction's markers)."""
        return self._position

    async def start(self, offset: int) -> None:
        """Connects and stands at `offset`. Raises KafkaUnavailable."""
        try:
            await within(START_TIMEOUT_S, f"let us read {self._tp.topic}-{self._tp.partition}", self._consumer.start())
        except KafkaUnavailable:
            await self.close()
            raise
        self._consumer.assign([self._tp])
        self._seek(offset)

    async def seek(self, offset: int) -> None:
        """Goes on at `offset`; what was fetched ahead is dropped."""
        self._seek(offset)

    def _seek(self, offset: int) -> None:
        self._consumer.seek(self._tp, offset)
        self._position = offset
        self._one_by_one = False

    async def read(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """What is there from `position` on, in order: at least one record as soon as there is one, `[]` when none
        came in time. Among the records may be an `Undecodable`.

        Raises OffsetMissing where the log does not hold `position`, KafkaUnavailable where the client gave up.
        """
        try:
            found = await self._consumer.getmany(
                self._tp, timeout_ms=int(timeout_s * 1000), max_records=1 if self._one_by_one else max_records
            )
        except kafka_errors.OffsetOutOfRangeError:
            raise OffsetMissing(
                f"{self._tp.topic}-{self._tp.partition} does not hold offset {self._position}"
            ) from None
        except kafka_errors.KafkaError as error:
            if isinstance(error, kafka_errors.CorruptRecordException | kafka_errors.UnsupportedCodecError):
                return self._pass_undecodable(error)
            raise KafkaUnavailable(f"reading {self._tp.topic}-{self._tp.partition}: {error!r:.300}") from error
        except (ValueError, IndexError) as error:
            # The parser of records, not the client: UnicodeDecodeError of a header key, a length beyond the batch.
            return self._pass_undecodable(error)
        self._position = await self._consumer.position(self._tp)
        records: list[Record] = found.get(self._tp, [])
        return records

    def _pass_undecodable(self, error: Exception) -> list[Record]:
        """First failure: the records before the bad one were lost with it, so read them again one by one.
        Failure in that mode: the record at `position` is the one."""
        if not self._one_by_one:
            self._seek(self._position)
            self._one_by_one = True
            return []
        bad = Undecodable(offset=self._position, error=repr(error)[:200])
        self._seek(self._position + 1)
        return [bad]

    async def bounds(self) -> tuple[int, int]:
        """`(first offset that is there, end offset)`; the end is the high watermark. Raises KafkaUnavailable."""

        async def ask() -> tuple[int, int]:
            first, end = await asyncio.gather(
                self._consumer.beginning_offsets([self._tp]), self._consumer.end_offsets([self._tp])
            )
            return first[self._tp], end[self._tp]

        return await within(ANSWER_TIMEOUT_S, f"tell the bounds of {self._tp.topic}-{self._tp.partition}", ask())

    async def close(self) -> None:
        """Closes the connections, in bounded time: a reader has nothing to lose."""
        with contextlib.suppress(KafkaUnavailable):
            await within(STOP_TIMEOUT_S, "close a reader", self._consumer.stop())
