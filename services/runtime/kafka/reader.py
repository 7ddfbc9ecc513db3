"""Reads one partition from an offset: the only way in which this project reads data from Kafka.

It uses the fetch protocol through aiokafka's client and codec, without aiokafka's consumer: a consumer's additions (a
group, several partitions, deserializers, a second object per record) are not needed here and cost more than the codec.
The next fetch is in flight while the records of the previous one are processed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from schemas.wire.encoding import Record
from services.runtime.kafka.batches import RecordBatch
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import not_allowed, within
from services.runtime.kafka.errors import KafkaRefused, KafkaUnavailable, OffsetMissing
from services.runtime.kafka.fetched import Fetched
from services.runtime.kafka.refusals import opened

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 3.0
ANSWER_TIMEOUT_S: Final = 10.0
PATIENT_BYTES: Final = 64 * 1024
PATIENT_MS: Final = 200
"""A patient reader's fetch is answered with this many bytes, or after this time."""
PAUSE_S: Final = 0.1
"""Pause before the next attempt if a broker is unreachable or no longer leads the partition."""
_EARLIEST: Final = -2
_END: Final = -1
"""Asks for the high watermark, since we read uncommitted."""
READ_UNCOMMITTED: Final = 0

log = structlog.get_logger(__name__)


class PartitionReader:
    """Reads one partition in order. Must not be used by two tasks at once.

    :param patient: let records gather at the broker for up to PATIENT_MS. For readers that no one waits for: otherwise
        each record of a quiet log costs the broker and them a round of their own, and delays those that are waited for.
    """

    def __init__(
        self,
        *,
        kafka: KafkaConnection,
        topic: str,
        partition: int,
        client_id: str,
        fetch_max_wait_ms: int = 500,
        fetch_max_bytes: int = 2 * 1024 * 1024,
        patient: bool = False,
    ) -> None:
        self._tp = TopicPartition(topic, partition)
        self._name = f"{topic}-{partition}"
        self._kafka = kafka
        self._client_id = client_id
        self._fetch_max_wait_ms = PATIENT_MS if patient else fetch_max_wait_ms
        self._fetch_min_bytes = PATIENT_BYTES if patient else 1
        self._fetch_max_bytes = fetch_max_bytes
        self._client: AIOKafkaClient | None = None
        self._fetched = Fetched(0)
        self._fetching: asyncio.Task[bytes] | None = None
        self._fetching_from = 0
        self._trouble = ""

    @property
    def topic(self) -> str:
        return str(self._tp.topic)

    @property
    def partition(self) -> int:
        return int(self._tp.partition)

    @property
    def position(self) -> int:
        """The next offset to read. It also moves past transaction markers, which are not records."""
        return self._fetched.position

    async def start(self, offset: int) -> None:
        """Connect, and start reading at `offset`. Raises KafkaUnavailable."""
        self._client = AIOKafkaClient(
            **self._kafka.client_options(),
            client_id=self._client_id,
            request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000),
        )
        try:
            await opened(self._kafka, START_TIMEOUT_S, f"let us read {self._name}", self._connect())
        except KafkaUnavailable:
            await self.close()
            raise
        self._fetched = Fetched(offset)

    async def _connect(self) -> None:
        await self._open_client.bootstrap()
        await self._open_client.set_topics([self._tp.topic])

    async def seek(self, offset: int) -> None:
        """Continue at `offset`. Data prefetched for another position is dropped."""
        if offset != self._fetched.position:
            self._drop_fetch()
            self._fetched.seek(offset)

    def _drop_fetch(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching.add_done_callback(_nobody_asks)
            self._fetching = None

    async def read(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Return records from `position` on, in order: at least one as soon as one was fetched, `[]` if none came in
        time. Some may be an `Undecodable`. A cancelled call may have consumed records: `seek` before the next one.

        Raises OffsetMissing if the log does not contain `position`, KafkaUnavailable if a retry is pointless. If a
        broker is unreachable, the call waits and returns `[]`.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while not (found := self._fetched.take(max_records)):
            if not await self._next_fetched(deadline_s):
                return []
        return found

    async def read_batches(self, *, timeout_s: float) -> list[tuple[RecordBatch, list[Record]]]:
        """Return the record batches that were fetched, from the one that holds `position` on, each with its records,
        `[]` if none came in time. The first may begin before `position`; transaction markers are left out.

        Raises what `read` raises. `seek` after `read` and before this: it does not continue in the middle of a batch.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while not (found := self._fetched.take_batches()):
            if not await self._next_fetched(deadline_s):
                return []
        return found

    async def _next_fetched(self, deadline_s: float) -> bool:
        """Wait for the fetch in flight; returns False at the deadline. The next fetch is sent at once, so that the
        broker works while we do."""
        if self._fetching is not None and self._fetching_from != self._fetched.fetch_offset:
            self._drop_fetch()  # a batch is fetched once more, and everything after it
        if self._fetching is None:
            self._begin_fetch()
        assert self._fetching is not None
        await asyncio.wait({self._fetching}, timeout=max(0.0, deadline_s - asyncio.get_running_loop().time()))
        if not self._fetching.done():
            return False
        done, self._fetching = self._fetching, None
        try:
            self._fetched.add(done.result(), self._fetch_max_bytes)
        except kafka_errors.OffsetOutOfRangeError:
            raise OffsetMissing(f"{self._name} does not hold offset {self.position}") from None
        except kafka_errors.TopicAuthorizationFailedError as error:
            raise KafkaRefused(not_allowed(f"read {self._tp.topic}", error)) from error
        except kafka_errors.KafkaError as error:
            raise KafkaUnavailable(f"reading {self._name}: {error!r:.300}") from error
        self._begin_fetch()
        return True

    def _begin_fetch(self) -> None:
        self._fetching_from = self._fetched.fetch_offset
        self._fetching = asyncio.create_task(self._fetch(self._fetching_from))

    async def _fetch(self, offset: int) -> bytes:
        """Fetch until there is data at `offset` or beyond. Raises KafkaError if a retry is pointless."""
        request = FetchRequest(
            self._fetch_max_wait_ms,
            self._fetch_min_bytes,
            self._fetch_max_bytes,
            READ_UNCOMMITTED,
            [(self._tp.topic, [(self._tp.partition, offset, self._fetch_max_bytes)])],
        )
        while True:
            *_, raw = await self._ask(request, ConnectionGroup.DEFAULT)
            if raw:
                return bytes(raw)

    async def _ask(self, request: Any, group: ConnectionGroup) -> Sequence[Any]:
        """Return the leader's response for our partition, without the error code. Waits while the leader is unreachable
        or changes. Raises OffsetOutOfRangeError, TopicAuthorizationFailedError."""
        client = self._open_client
        while True:
            leader = client.cluster.leader_for_partition(self._tp)
            if self._tp.topic in client.cluster.unauthorized_topics:
                raise kafka_errors.TopicAuthorizationFailedError(self._tp.topic)
            if leader is None or leader == -1:
                await self._pause("it has no leader")
                continue
            try:
                response = await client.send(leader, request, group=group)
            except (kafka_errors.KafkaError, OSError) as error:
                await self._pause(f"{error!r:.200}")
                continue
            ((_, ((_, code, *answer),)),) = response.topics
            if not code:
                self._trouble = ""
                return tuple(answer)
            error_type = kafka_errors.for_code(code)
            if error_type in (kafka_errors.OffsetOutOfRangeError, kafka_errors.TopicAuthorizationFailedError):
                raise error_type
            await self._pause(error_type.__name__)

    async def _pause(self, trouble: str) -> None:
        """Wait before the next attempt, which may go to another broker."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.debug("read.delayed", log=self._name, reason=trouble)
        self._open_client.force_metadata_update()
        await asyncio.sleep(PAUSE_S)

    async def bounds(self) -> tuple[int, int]:
        """Return `(first available offset, end offset)`; the end is the high watermark. Raises KafkaUnavailable."""

        async def ask() -> tuple[int, int]:
            return await self._offset(_EARLIEST), await self._offset(_END)

        return await within(ANSWER_TIMEOUT_S, f"tell the bounds of {self._name}", ask())

    async def _offset(self, timestamp: int) -> int:
        request = OffsetRequest(-1, READ_UNCOMMITTED, [(self._tp.topic, [(self._tp.partition, timestamp)])])
        # On a separate connection: the other one is blocked by a fetch that waits for data.
        _, offset, *_ = await self._ask(request, ConnectionGroup.COORDINATION)
        return int(offset)

    @property
    def _open_client(self) -> AIOKafkaClient:
        assert self._client is not None, "start() comes first"
        return self._client

    async def close(self) -> None:
        """Close the connections, in bounded time: a reader has nothing to lose."""
        self._drop_fetch()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaUnavailable):
                await within(STOP_TIMEOUT_S, "close a reader", client.close())


def _nobody_asks(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # so that asyncio does not report it as never retrieved
