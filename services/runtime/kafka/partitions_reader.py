"""Reads many partitions of a topic through one client, with one fetch in flight for each broker that leads some.

For a process that follows a whole topic. A `PartitionReader` for each partition would have connections of its own, and
an idle topic would cost two requests a second for each.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from schemas.wire.encoding import Record
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import not_allowed, within
from services.runtime.kafka.errors import KafkaRefused, KafkaUnavailable, OffsetMissing
from services.runtime.kafka.fetched import Fetched
from services.runtime.kafka.reader import (
    ANSWER_TIMEOUT_S,
    PAUSE_S,
    READ_UNCOMMITTED,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
)
from services.runtime.kafka.refusals import opened
from services.runtime.process.tasks import end

FETCH_WAIT_MS: Final = 500
FULL_WAIT_MS: Final = 20
"""The same while a partition is left out because it was fetched faster than it is read."""
FETCH_BYTES: Final = 8 * 1024 * 1024
PARTITION_BYTES: Final = 1024 * 1024
"""Bytes of a partition in a fetch. One that has as many waiting is left out of the next."""
BUSY_S: Final = 0.01
"""A broker that answers more often than this is asked less often."""
GATHER_S: Final = 0.004
"""Pause before a busy broker is asked again: each answer brings several records, at a fraction of the CPU."""
_NO_LEADER: Final = -1

log = structlog.get_logger(__name__)


class PartitionsReader:
    """Reads partitions in order, each for itself. Must not be used by two tasks at once."""

    def __init__(self, *, kafka: KafkaConnection, topic: str, client_id: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._client_id = client_id
        self._client: AIOKafkaClient | None = None
        self._partitions: dict[int, Fetched] = {}
        self._unread: dict[int, None] = {}
        """Partitions of which something was fetched and not read, in the order in which they came."""
        self._news = asyncio.Event()
        self._has_read = asyncio.Event()
        self._answered_s: dict[int, float] = {}
        """Broker → when it last answered."""
        self._fetching: asyncio.Task[None] | None = None
        self._trouble = ""
        self.lost: dict[int, OffsetMissing] = {}
        """Partitions that are not read any more: the log does not hold the offset at which they were to be read."""

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Connect, and start to read each partition at its offset. Raises KafkaUnavailable."""
        client = self._client = AIOKafkaClient(
            **self._kafka.client_options(),
            client_id=self._client_id,
            request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000),
        )
        try:
            await opened(self._kafka, START_TIMEOUT_S, f"let us read {self._topic}", self._connect(client))
        except KafkaUnavailable:
            await self.close()
            raise
        self._partitions = {partition: Fetched(offset) for partition, offset in offsets.items()}
        self._fetching = asyncio.create_task(self._fetch_for_ever(client), name=f"fetch {self._topic}")

    async def _connect(self, client: AIOKafkaClient) -> None:
        await client.bootstrap()
        await client.set_topics([self._topic])

    async def read(self, *, max_records: int, timeout_s: float) -> dict[int, list[Record]]:
        """Return the next records of each partition that has some, at most `max_records` of each; {} if none came in
        time, or if a partition is new in `lost`. Some may be an `Undecodable`.

        Raises KafkaUnavailable if a retry is pointless, after everything that was fetched before was returned. If a
        broker is unreachable, the call waits.
        """
        assert self._fetching is not None, "start() comes first"
        if not self._unread:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.0 if self._has_failed else timeout_s):
                    await self._news.wait()
            if self._has_failed and not self._unread:
                self._fetching.result()
        else:
            await asyncio.sleep(0)  # a long backlog must not keep others from their turn
        found: dict[int, list[Record]] = {}
        for partition in tuple(self._unread):
            fetched = self._partitions[partition]
            records = fetched.take(max_records)
            if records:
                found[partition] = records
            if not fetched.has_unread:
                del self._unread[partition]
        self._has_read.set()
        return found

    @property
    def _has_failed(self) -> bool:
        fetching = self._fetching
        return fetching is not None and fetching.done() and (fetching.cancelled() or fetching.exception() is not None)

    def drop(self, partition: int) -> None:
        """Do not read a partition any more."""
        self._partitions.pop(partition, None)
        self._unread.pop(partition, None)

    async def close(self) -> None:
        """Close the connections, in bounded time: a reader has nothing to lose."""
        if self._fetching is not None:
            await end({self._fetching})
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaUnavailable):
                await within(STOP_TIMEOUT_S, "close a reader", client.close())

    # Fetching

    async def _fetch_for_ever(self, client: AIOKafkaClient) -> None:
        """Keep a fetch in flight for each broker that leads partitions. Raises KafkaRefused, KafkaUnavailable."""
        in_flight: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for leader, partitions in self._by_leader(client).items():
                    if leader not in in_flight:
                        is_led = leader != _NO_LEADER
                        asking = self._fetch(client, leader, partitions) if is_led else self._pause(client, "no leader")
                        in_flight[leader] = asyncio.create_task(asking)
                if not in_flight:
                    return  # every partition is lost or dropped
                await asyncio.wait(in_flight.values(), return_when=asyncio.FIRST_COMPLETED)
                for leader, task in tuple(in_flight.items()):
                    if task.done():
                        del in_flight[leader]
                        task.result()
        except kafka_errors.TopicAuthorizationFailedError as error:
            raise KafkaRefused(not_allowed(f"read {self._topic}", error)) from error
        except kafka_errors.KafkaError as error:
            raise KafkaUnavailable(f"reading {self._topic}: {error!r:.300}") from error
        finally:
            await end(in_flight.values())
            self._news.set()  # last: who waits for news finds this task done

    def _by_leader(self, client: AIOKafkaClient) -> dict[int, list[int]]:
        """Return the partitions that each broker leads. Raises TopicAuthorizationFailedError."""
        if self._topic in client.cluster.unauthorized_topics:
            raise kafka_errors.TopicAuthorizationFailedError(self._topic)
        found: defaultdict[int, list[int]] = defaultdict(list)
        for partition in self._partitions:
            leader = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
            found[_NO_LEADER if leader is None else leader].append(partition)
        return found

    async def _fetch(self, client: AIOKafkaClient, leader: int, partitions: Sequence[int]) -> None:
        """Send one fetch to a broker, and keep what it returns. Raises KafkaError if a retry is pointless."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._answered_s.get(leader, 0.0) < BUSY_S:
            await asyncio.sleep(GATHER_S)
        while not (asked := self._with_room(partitions)):
            self._has_read.clear()
            await self._has_read.wait()
        request = FetchRequest(
            FETCH_WAIT_MS if len(asked) == len(partitions) else FULL_WAIT_MS,
            1,
            FETCH_BYTES,
            READ_UNCOMMITTED,
            [(self._topic, [(partition, offset, PARTITION_BYTES) for partition, offset in asked.items()])],
        )
        try:
            response = await client.send(leader, request)
        except (kafka_errors.KafkaError, OSError) as error:
            await self._pause(client, f"{error!r:.200}")
            return
        trouble = ""
        for _, of_topic in response.topics:
            for partition, code, *answer in of_topic:
                if code:
                    trouble = self._failed(partition, kafka_errors.for_code(code)) or trouble
                elif answer[-1]:
                    self._keep(partition, asked[partition], answer[-1])
                    self._answered_s[leader] = loop.time()
        if trouble:
            await self._pause(client, trouble)
        else:
            self._trouble = ""

    def _with_room(self, partitions: Sequence[int]) -> dict[int, int]:
        """Return the offsets from which to fetch the partitions of which little is waiting to be read."""
        known = ((partition, self._partitions[partition]) for partition in partitions if partition in self._partitions)
        return {partition: each.fetch_offset for partition, each in known if each.waiting_bytes < PARTITION_BYTES}

    def _keep(self, partition: int, offset: int, raw: bytes) -> None:
        fetched = self._partitions.get(partition)
        if fetched is None or fetched.fetch_offset != offset:
            return  # dropped meanwhile, or a batch has to be fetched once more
        fetched.add(raw, PARTITION_BYTES)
        self._unread[partition] = None
        self._news.set()

    def _failed(self, partition: int, error: type[Exception]) -> str:
        """Return the error's name if the fetch is worth a retry. Raises TopicAuthorizationFailedError."""
        if error is kafka_errors.OffsetOutOfRangeError:
            if partition in self._partitions:
                offset = self._partitions[partition].fetch_offset
                self.lost[partition] = OffsetMissing(f"{self._topic}-{partition} does not hold offset {offset}")
                self.drop(partition)
                self._news.set()
            return ""
        if error is kafka_errors.TopicAuthorizationFailedError:
            raise error(self._topic)
        return error.__name__

    async def _pause(self, client: AIOKafkaClient, trouble: str) -> None:
        """Wait before the next attempt, which may go to another broker."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.debug("read.delayed", log=self._topic, reason=trouble)
        client.force_metadata_update()
        await asyncio.sleep(PAUSE_S)
