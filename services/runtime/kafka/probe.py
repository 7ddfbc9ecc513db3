"""Checks that the brokers that lead a process's partitions answer: the Kafka probe of `health.dependencies`.

It keeps one client open and sends each leader one small request (ListOffsets), so it notices a leader that is gone or
hangs, and a partition without a leader, even if nothing else is sent. If a consumer group is named, the group must also
have a coordinator: without one, the members do not learn that a process died.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from services.runtime.health.dependencies import ProbeResult
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.kafka.refusals import why_refused

REQUEST_TIMEOUT_S: Final = 1.5
WHY_TIMEOUT_S: Final = 0.5
CLOSE_TIMEOUT_S: Final = 1.0
METADATA_AGE_S: Final = 5.0
_END: Final = -1
_READ_UNCOMMITTED: Final = 0

OnEnds = Callable[[str, Mapping[int, int]], None]
"""Callback for the end offsets in a broker's response: topic, and partition → offset."""
Partitions = Callable[[], Mapping[str, Collection[int]]]
"""Returns topic → the partitions that this process needs now."""


class KafkaProbe:
    """A probe: call it repeatedly, one call at a time, and `close` it at the end."""

    def __init__(
        self,
        *,
        kafka: KafkaConnection,
        client_id: str,
        partitions: Partitions,
        group_id: str | None = None,
        all_needed: bool = True,
        on_ends: OnEnds | None = None,
    ) -> None:
        """Prepare the probe. If not `all_needed`, unreachable partitions are only a note while one can be reached."""
        self._kafka = kafka
        self._client_id = f"{client_id}-probe"
        self._partitions = partitions
        self._group_id = group_id
        self._on_ends = on_ends
        self._all_needed = all_needed
        self._client: AIOKafkaClient | None = None

    async def __call__(self) -> ProbeResult:
        wanted = {topic: sorted(numbers) for topic, numbers in self._partitions().items()}
        try:
            client = await self._connected(wanted)
            bad = await self._unreachable(client, wanted)
            if not bad and self._group_id is not None:
                await client.coordinator_lookup(CoordinationType.GROUP, self._group_id)
        except kafka_errors.GroupCoordinatorNotAvailableError:
            return ProbeResult(trouble=f"Kafka has no coordinator for the consumer group {self._group_id}.")
        except (kafka_errors.KafkaError, OSError, AssertionError) as error:
            await self.close()  # the next probe begins with the bootstrap servers
            return ProbeResult(trouble=await self._why(error))
        except asyncio.CancelledError:
            await self.close()
            raise
        if not bad:
            return ProbeResult()
        client.force_metadata_update()
        sentence = f"Kafka does not serve {_listed(bad)}."
        if self._all_needed or len(bad) == sum(len(numbers) for numbers in wanted.values()):
            return ProbeResult(trouble=sentence)
        return ProbeResult(note=sentence)

    async def close(self) -> None:
        """Close the connections, in bounded time."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaUnavailable):
                await within(CLOSE_TIMEOUT_S, "close a probe", client.close())

    async def _connected(self, wanted: Mapping[str, Collection[int]]) -> AIOKafkaClient:
        client = self._client
        if client is None:
            servers = self._kafka.bootstrap_servers.split(",")
            random.shuffle(servers)  # so that a server that hangs does not always come first
            client = self._client = AIOKafkaClient(
                **replace(self._kafka, bootstrap_servers=",".join(servers)).client_options(),
                client_id=self._client_id,
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                metadata_max_age_ms=int(METADATA_AGE_S * 1000),
            )
            await client.bootstrap()
        await client.set_topics(list(wanted))
        return client

    async def _why(self, error: Exception) -> str:
        """Return the reason in one sentence. If a broker refuses us, only one more connection reveals why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHY_TIMEOUT_S):
                refusal = await why_refused(self._kafka)
                if refusal is not None and refusal.certain:
                    return refusal.sentence
        return f"Kafka cannot be reached at {self._kafka.bootstrap_servers} ({_short(error)})."

    async def _unreachable(
        self, client: AIOKafkaClient, wanted: Mapping[str, Collection[int]]
    ) -> dict[TopicPartition, str]:
        """Return the partitions that cannot be used, with the reason. Raises KafkaError if no broker answers at all."""
        bad: dict[TopicPartition, str] = {}
        by_leader: defaultdict[int, list[TopicPartition]] = defaultdict(list)
        for topic, numbers in wanted.items():
            for number in numbers:
                tp = TopicPartition(topic, number)
                leader = client.cluster.leader_for_partition(tp)
                if leader is None or leader == -1:
                    bad[tp] = "no leader"
                else:
                    by_leader[leader].append(tp)
        if not by_leader:
            await self._any_broker(client)
        for found in await asyncio.gather(*(self._ask(client, leader, tps) for leader, tps in by_leader.items())):
            bad |= found
        if bad and all(tp in bad for tps in by_leader.values() for tp in tps):
            await self._any_broker(client)
        return bad

    async def _ask(self, client: AIOKafkaClient, leader: int, tps: list[TopicPartition]) -> dict[TopicPartition, str]:
        topics: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for tp in tps:
            topics[tp.topic].append((tp.partition, _END))
        request = OffsetRequest(-1, _READ_UNCOMMITTED, list(topics.items()))
        try:
            response = await client.send(leader, request)
        except (kafka_errors.KafkaError, OSError) as error:
            return dict.fromkeys(tps, f"broker {leader}: {_short(error)}")
        if self._on_ends is not None:
            for topic, partitions in response.topics:
                self._on_ends(topic, {number: offset for number, code, _, offset, *_ in partitions if not code})
        return {
            TopicPartition(topic, number): kafka_errors.for_code(code).__name__
            for topic, partitions in response.topics
            for number, code, *_ in partitions
            if code
        }

    async def _any_broker(self, client: AIOKafkaClient) -> None:
        """Check that any broker answers. Raises KafkaError if none does."""
        error: Exception = kafka_errors.NoBrokersAvailable()
        brokers = list(client.cluster.brokers())
        random.shuffle(brokers)
        for broker in brokers:
            try:
                await client.send(broker.nodeId, MetadataRequest([]))
            except (kafka_errors.KafkaError, OSError) as failed:
                error = failed
            else:
                return
        raise error


def _listed(bad: Mapping[TopicPartition, str]) -> str:
    """Return a clause such as `partitions 1, 4 of chat.events (no leader) and …`."""
    grouped: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for tp, reason in bad.items():
        grouped[tp.topic, reason].append(tp.partition)
    parts = []
    for (topic, reason), numbers in sorted(grouped.items()):
        shown = ", ".join(str(number) for number in sorted(numbers)[:20])
        more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
        parts.append(f"partition{'s' if len(numbers) > 1 else ''} {shown}{more} of {topic} ({reason})")
    return " and ".join(parts)


def _short(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]
