"""The topics of a cluster: create them right, describe them, and tell a topic from its successor of the same name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from schemas.topics import TopicFound, TopicNames, TopicSpec, faults
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import NOT_ALLOWED, not_allowed, within
from services.runtime.kafka.errors import KafkaError, KafkaRefused, KafkaUnavailable, TopicsWrong
from services.runtime.kafka.refusals import opened

ANSWER_TIMEOUT_S: Final = 15.0
CLIENT_ID: Final = "gapless-topics"


async def create_topics(kafka: KafkaConnection, specs: Sequence[TopicSpec]) -> list[str]:
    """Creates those that are not there, with their settings; the names of the created ones.

    Raises KafkaUnavailable, or TopicsWrong where the broker refuses a setting.
    """
    created = []
    async with _admin(kafka) as admin:
        there = set(await within(ANSWER_TIMEOUT_S, "list its topics", admin.list_topics()))
        for spec in specs:
            if spec.name in there:
                continue
            topic = NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=dict(spec.config))
            response = await within(ANSWER_TIMEOUT_S, f"create {spec.name}", admin.create_topics([topic]))
            for name, code, *rest in response.topic_errors:
                error = kafka_errors.for_code(code)
                _refuse_unless_allowed(code, f"create {name}")
                if error is kafka_errors.TopicAlreadyExistsError:
                    continue  # another process was quicker; check_topics looks at what it made
                if error is not kafka_errors.NoError:
                    raise TopicsWrong([f"Kafka refused to create {name}: {error.__name__} {rest[0] if rest else ''}"])
                created.append(name)
        await _until_led(admin, [spec.name for spec in specs])
    return created


async def _until_led(admin: Any, names: list[str]) -> None:
    """Creating is done by the controller; what a broker says of it follows. Raises KafkaUnavailable."""
    deadline = monotonic() + ANSWER_TIMEOUT_S
    while True:
        described = await within(ANSWER_TIMEOUT_S, "describe its topics", admin.describe_topics(names))
        led = [d for d in described if d["error_code"] == 0 and all(p["leader"] >= 0 for p in d["partitions"])]
        if len(led) == len(names):
            return
        if monotonic() > deadline:
            raise KafkaUnavailable(f"some of {', '.join(names)} got no leaders within {ANSWER_TIMEOUT_S:g} s")
        await asyncio.sleep(0.05)


async def check_topics(kafka: KafkaConnection, names: TopicNames, specs: Sequence[TopicSpec]) -> None:
    """Raises TopicsWrong with every fault of the topics that are there, KafkaUnavailable where none can be asked."""
    found = await describe_topics(kafka, [spec.name for spec in specs])
    wrong: list[str] = []
    for spec in specs:
        if spec.name not in found:
            wrong.append(f"{spec.name} is not there; create it with `gapless topics create`")
            continue
        wrong += faults(
            spec,
            found[spec.name],
            log_starts_at_zero=spec.name == names.events,
            replies=spec.name == names.replies,
        )
    if wrong:
        raise TopicsWrong(wrong)


async def describe_topics(kafka: KafkaConnection, names: Sequence[str]) -> dict[str, TopicFound]:
    """What the cluster says of those topics that exist. Raises KafkaUnavailable."""
    async with _admin(kafka) as admin:
        described = await within(ANSWER_TIMEOUT_S, "describe its topics", admin.describe_topics(list(names)))
        for each in described:
            _refuse_unless_allowed(each["error_code"], f"describe {each['topic']}")
        there = {d["topic"]: d["partitions"] for d in described if d["error_code"] == 0}
        if not there:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
        answers = await within(ANSWER_TIMEOUT_S, "tell its topics' settings", admin.describe_configs(resources))
    configs: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, _, _, name, entries in answer.resources:
            _refuse_unless_allowed(code, f"see the settings of {name}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    starts = await _log_starts(kafka, {name: len(partitions) for name, partitions in there.items()})
    return {
        name: TopicFound(
            name=name,
            partitions=len(partitions),
            replication_factor=len(partitions[0]["replicas"]),
            config=configs.get(name, {}),
            log_start_offsets=starts[name],
        )
        for name, partitions in there.items()
    }


async def topic_id(kafka: KafkaConnection, topic: str) -> str:
    """The id that Kafka gave the topic when it was created: another one means another topic of the same name.

    Raises KafkaUnavailable; KafkaError where there is no such topic.
    """
    async with _admin(kafka) as admin:
        client: Any = admin._client
        answer = await within(
            ANSWER_TIMEOUT_S, "tell a topic's id", client.send(client.get_random_node(), TopicIdRequest(topic))
        )
    for code, name, raw_id, *_ in answer.topics:
        _refuse_unless_allowed(code, f"describe {topic}")
        if name == topic and code == 0:
            return str(uuid.UUID(bytes=raw_id))
    raise KafkaError(f"there is no topic {topic}; create it with `gapless topics create`")


async def delete_records(kafka: KafkaConnection, topic: str, before: dict[int, int]) -> None:
    """Deletes what stands before the given offset in each partition. Raises KafkaUnavailable."""
    async with _admin(kafka) as admin:
        wanted = {TopicPartition(topic, p): RecordsToDelete(offset) for p, offset in before.items()}
        await within(ANSWER_TIMEOUT_S, f"trim {topic}", admin.delete_records(wanted))


async def first_offsets_since(
    kafka: KafkaConnection, topic: str, partitions: Sequence[int], since_ms: int
) -> dict[int, int | None]:
    """Per partition the first offset whose timestamp is `since_ms` or later; None where there is none.

    Raises KafkaUnavailable.
    """
    consumer = AIOKafkaConsumer(**kafka.client_options(), client_id=CLIENT_ID, group_id=None)
    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "let us read", consumer.start())
        asked = {TopicPartition(topic, p): since_ms for p in partitions}
        found = await within(ANSWER_TIMEOUT_S, "tell offsets by time", consumer.offsets_for_times(asked))
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=3.0)
    return {tp.partition: (at.offset if at is not None else None) for tp, at in found.items()}


async def _log_starts(kafka: KafkaConnection, topics: dict[str, int]) -> dict[str, dict[int, int]]:
    consumer = AIOKafkaConsumer(**kafka.client_options(), client_id=CLIENT_ID, group_id=None)
    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "let us read", consumer.start())
        tps = [TopicPartition(topic, p) for topic, count in topics.items() for p in range(count)]
        starts = await within(ANSWER_TIMEOUT_S, "tell where its topics begin", consumer.beginning_offsets(tps))
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=3.0)
    return {topic: {tp.partition: o for tp, o in starts.items() if tp.topic == topic} for topic in topics}


def _refuse_unless_allowed(code: int, what: str) -> None:
    """Raises KafkaRefused where the answer of an admin request is that we lack the right."""
    error = kafka_errors.for_code(code)
    if issubclass(error, NOT_ALLOWED):
        raise KafkaRefused(not_allowed(what, error()))


@asynccontextmanager
async def _admin(kafka: KafkaConnection) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**kafka.client_options(), client_id=CLIENT_ID, request_timeout_ms=10_000)
    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "answer", admin.start())
        yield admin
    finally:
        await asyncio.wait([asyncio.ensure_future(admin.close())], timeout=3.0)


# Metadata in version 12, which tells topic ids; aiokafka 0.14 itself stops at version 5.


class _RawUuid:
    """Sixteen bytes as they stand."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))

    @classmethod
    def repr(cls, value: bytes) -> str:
        return repr(value)


class _MetadataResponseV12(Response):  # type: ignore[misc]  # aiokafka is not typed
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _RawUuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka is not typed
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponseV12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _RawUuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdRequest(Request[_MetadataRequestV12]):  # type: ignore[misc]  # aiokafka is not typed
    """Asks for one topic's metadata with its id."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> _MetadataRequestV12:
        return request_struct_class([(bytes(16), self._topic, {})], False, False, {})
