"""Describes topics through one client that stays open: for the check at start-up and the periodic ones later."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.offset import OffsetRequest

from schemas.errors import SchemaError
from schemas.events import decode_term_opened
from schemas.topics import (
    AS_THE_SETTINGS,
    UNREADABLE,
    LogPartitions,
    TopicFound,
    TopicNames,
    TopicSpec,
    extra_partitions,
    faults,
    notes,
    short_of_replicas,
)
from schemas.types import EventType
from schemas.wire.encoding import Undecodable
from schemas.wire.records import outcome_of
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import refuse_unless_allowed, within
from services.runtime.kafka.errors import KafkaError, KafkaRefused, KafkaUnavailable
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.refusals import opened
from services.runtime.kafka.topic_metadata import TopicMetadataRequest

ANSWER_TIMEOUT_S: Final = 15.0
REQUEST_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 3.0
CLIENT_ID: Final = "gapless-topics"
_EARLIEST: Final = -2
_END: Final = -1
_READ_UNCOMMITTED: Final = 0

AskLog = Literal["always", "if_allowed", "if_needed"]


@dataclass(slots=True, kw_only=True)
class TopicReport:
    """The findings of one check of a log's topics, each a sentence."""

    faults: list[str] = field(default_factory=list)
    """Faults with which a process refuses to start."""
    notes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Faults that prevent writing at present, and pass by themselves."""
    faults_by_topic: dict[str, int] = field(default_factory=dict)
    ignored_by_topic: dict[str, int] = field(default_factory=dict)
    """Topic → number of partitions that are not part of the log."""


def compare_topics(
    names: TopicNames, specs: Sequence[TopicSpec], found: Mapping[str, TopicFound], log_partitions: LogPartitions
) -> TopicReport:
    """Compare the topics with the protocol's needs."""
    looked = TopicReport()
    for spec in specs:
        there = found.get(spec.name)
        if there is None:
            wrong = [f"{spec.name} does not exist; create it with `gapless topics create`"]
        else:
            wrong = faults(
                spec,
                there,
                log_starts_at_zero=spec.name == names.events,
                replies=spec.name == names.replies,
                log_partitions=log_partitions,
            )
            looked.notes += notes(spec, there)
            short = short_of_replicas(spec, there)
            if short is not None:
                looked.troubles.append(short)
            looked.ignored_by_topic[spec.name] = max(0, there.partitions - spec.partitions)
        looked.faults_by_topic[spec.name] = len(wrong)
        looked.faults += wrong
    return looked


class TopicReader:
    """Reads topics through one client. Must not be used by two tasks at once. All methods raise KafkaUnavailable."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._client: AIOKafkaClient | None = None

    async def close(self) -> None:
        """Close the connections, in bounded time."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaUnavailable):
                await within(CLOSE_TIMEOUT_S, "close a client", client.close())

    async def brokers(self) -> int:
        """Return the number of brokers in the cluster."""
        return len((await self._metadata([])).brokers)

    async def topic_id(self, topic: str) -> str:
        """Return the topic's id. Raises KafkaError if there is no such topic."""
        for code, name, raw_id, *_ in (await self._metadata([topic])).topics:
            refuse_unless_allowed(code, f"describe {topic}")
            if name == topic and code == 0:
                return str(uuid.UUID(bytes=raw_id))
        raise KafkaError(f"there is no topic {topic}; create it with `gapless topics create`")

    async def describe(self, specs: Sequence[TopicSpec]) -> dict[str, TopicFound]:
        """Return the topics that exist. Includes the end offsets of partitions beyond a spec's number."""
        metadata = await self._metadata([spec.name for spec in specs])
        for code, name, *_ in metadata.topics:
            refuse_unless_allowed(code, f"describe {name}")
        there = {name: partitions for code, name, _, _, partitions, *_ in metadata.topics if code == 0}
        if not there:
            return {}
        configs = await self._configs([spec for spec in specs if spec.name in there])
        leaders = {
            TopicPartition(name, number): leader
            for name, partitions in there.items()
            for _, number, leader, *_ in partitions
            if leader >= 0
        }
        beyond = {spec.name: spec.partitions for spec in specs}
        extra = {tp: leader for tp, leader in leaders.items() if tp.partition >= beyond[tp.topic]}
        starts = await self._offsets(leaders, _EARLIEST)
        ends = await self._offsets(extra, _END)
        return {
            name: TopicFound(
                name=name,
                copies={number: len(replicas) for _, number, _, _, replicas, *_ in partitions},
                in_sync={number: len(in_sync) for _, number, _, _, _, in_sync, *_ in partitions},
                config=configs.get(name, {}),
                log_start_offsets={tp.partition: offset for tp, offset in starts.items() if tp.topic == name},
                end_offsets={tp.partition: offset for tp, offset in ends.items() if tp.topic == name},
            )
            for name, partitions in there.items()
        }

    async def log_says(
        self,
        names: TopicNames,
        specs: Sequence[TopicSpec],
        found: Mapping[str, TopicFound],
        *,
        ask_log: AskLog,
    ) -> LogPartitions:
        """Return the number of partitions that the log was written for, as `faults` expects it.

        A process that does not read the log may lack the right to. `if_needed`: read the log only if the topics have
        more partitions than the settings say. `if_allowed`: read it, but ignore a refusal while the numbers agree.
        """
        more = [spec for spec in specs if spec.name in found and spec.name != names.replies]
        if ask_log == "if_needed" and not any(extra_partitions(spec, found[spec.name]) for spec in more):
            return AS_THE_SETTINGS
        try:
            return await self.log_partitions(names.events)
        except KafkaRefused:
            if ask_log == "always":
                raise
            return UNREADABLE

    async def log_partitions(self, events: str) -> int | None:
        """Return the number of partitions that the log in this topic was written for, as stated in the first record of
        the lowest partition that has one. Returns None if there is no record, or it cannot be read."""
        metadata = await self._metadata([events])
        leaders = {
            TopicPartition(events, number): leader
            for code, name, _, _, partitions, *_ in metadata.topics
            if code == 0 and name == events
            for _, number, leader, *_ in partitions
            if leader >= 0
        }
        ends = await self._offsets(leaders, _END)
        written = sorted(tp.partition for tp, end in ends.items() if end > 0)
        return await self._first_opening(events, written[0]) if written else None

    async def _first_opening(self, events: str, partition: int) -> int | None:
        reader = PartitionReader(kafka=self._kafka, topic=events, partition=partition, client_id=CLIENT_ID)
        try:
            await reader.start(0)
            first, _ = await reader.bounds()
            await reader.seek(first)
            records = await reader.read(max_records=1, timeout_s=REQUEST_TIMEOUT_S)
        except KafkaUnavailable:
            raise
        except KafkaError as error:
            raise KafkaUnavailable(f"the first record of {events}-{partition} was not read: {error}") from error
        finally:
            await reader.close()
        if not records or isinstance(records[0], Undecodable):
            return None
        try:
            outcome = outcome_of(records[0])
            return decode_term_opened(outcome.body).partitions if outcome.type == EventType.TERM_OPENED else None
        except SchemaError:
            return None

    async def _open(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                **self._kafka.client_options(),
                client_id=CLIENT_ID,
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            )
            self._client = client
            try:
                await opened(self._kafka, ANSWER_TIMEOUT_S, "answer", client.bootstrap())
            except KafkaUnavailable:
                await self.close()
                raise
        return self._client

    async def _metadata(self, topics: Sequence[str]) -> Any:
        return await self._ask("describe its topics", TopicMetadataRequest(topics))

    async def _configs(self, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
        """Return topic → the settings that the protocol needs."""
        asked = [(ConfigResourceType.TOPIC, spec.name, list(spec.config)) for spec in specs]
        request = DescribeConfigsRequest(asked)
        answer = await self._ask("tell its topics' settings", request)
        found: dict[str, dict[str, str]] = {}
        for code, _, _, name, entries in answer.resources:
            refuse_unless_allowed(code, f"see the settings of {name}")
            found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def _ask(self, what: str, request: Any) -> Any:
        """Send a request to any broker; to another one if the first does not answer."""
        client = await self._open()
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        random.shuffle(nodes)
        failure: KafkaUnavailable | None = None
        for node in nodes:
            try:
                return await within(ANSWER_TIMEOUT_S, what, client.send(node, request))
            except KafkaRefused:
                raise
            except KafkaUnavailable as error:
                failure = error
        await self.close()  # the brokers that it knows may all be outdated
        raise failure or KafkaUnavailable(f"Kafka did not {what}: it has no brokers")

    async def _offsets(self, leaders: Mapping[TopicPartition, int], timestamp: int) -> dict[TopicPartition, int]:
        """Return the offsets of the partitions whose leaders answer."""
        by_leader: defaultdict[int, list[TopicPartition]] = defaultdict(list)
        for tp, leader in leaders.items():
            by_leader[leader].append(tp)
        found: dict[TopicPartition, int] = {}
        for offsets in await asyncio.gather(
            *(self._of_leader(node, tps, timestamp) for node, tps in by_leader.items())
        ):
            found |= offsets
        return found

    async def _of_leader(
        self, leader: int, tps: Collection[TopicPartition], timestamp: int
    ) -> dict[TopicPartition, int]:
        client = await self._open()
        topics: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for tp in tps:
            topics[tp.topic].append((tp.partition, timestamp))
        request = OffsetRequest(-1, _READ_UNCOMMITTED, list(topics.items()))
        if client.cluster.broker_metadata(leader) is None:
            await within(ANSWER_TIMEOUT_S, "describe its brokers", client.force_metadata_update())
        answer = await within(ANSWER_TIMEOUT_S, "tell where its topics begin", client.send(leader, request))
        return {
            TopicPartition(topic, number): int(offset)
            for topic, partitions in answer.topics
            for number, code, _, offset in partitions
            if code == 0
        }
