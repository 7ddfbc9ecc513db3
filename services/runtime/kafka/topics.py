"""Creates and describes a cluster's topics, and distinguishes a topic from a later one of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from schemas.topics import TopicNames, TopicSpec
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import refuse_unless_allowed, within
from services.runtime.kafka.errors import KafkaUnavailable, TopicsWrong
from services.runtime.kafka.refusals import opened
from services.runtime.kafka.topic_reader import CLIENT_ID, AskLog, TopicReader, compare_topics

ANSWER_TIMEOUT_S: Final = 15.0


async def create_topics(kafka: KafkaConnection, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that do not exist, with their settings. Returns the names of the created ones.

    Raises KafkaUnavailable, or TopicsWrong if the broker refuses a setting.
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
                refuse_unless_allowed(code, f"create {name}")
                if error is kafka_errors.TopicAlreadyExistsError:
                    continue  # another process was faster; check_topics checks its topic
                if error is not kafka_errors.NoError:
                    raise TopicsWrong([f"Kafka refused to create {name}: {error.__name__} {rest[0] if rest else ''}"])
                created.append(name)
        await _until_led(admin, [spec.name for spec in specs])
    return created


async def _until_led(admin: Any, names: list[str]) -> None:
    """Wait until the brokers know the leaders of topics that the controller created. Raises KafkaUnavailable."""
    deadline = monotonic() + ANSWER_TIMEOUT_S
    while True:
        described = await within(ANSWER_TIMEOUT_S, "describe its topics", admin.describe_topics(names))
        led = [d for d in described if d["error_code"] == 0 and all(p["leader"] >= 0 for p in d["partitions"])]
        if len(led) == len(names):
            return
        if monotonic() > deadline:
            raise KafkaUnavailable(f"some of {', '.join(names)} got no leaders within {ANSWER_TIMEOUT_S:g} s")
        await asyncio.sleep(0.05)


async def check_topics(
    kafka: KafkaConnection, names: TopicNames, specs: Sequence[TopicSpec], *, ask_log: AskLog = "always"
) -> list[str]:
    """Check the topics and return notes for an operator. `ask_log`: see TopicReader.log_says.

    Raises TopicsWrong with every fault of the topics, KafkaUnavailable if no broker answers.
    """
    reader = TopicReader(kafka)
    try:
        found = await reader.describe(specs)
        looked = compare_topics(names, specs, found, await reader.log_says(names, specs, found, ask_log=ask_log))
    finally:
        await reader.close()
    if looked.faults:
        raise TopicsWrong(looked.faults)
    return looked.notes


async def topic_id(kafka: KafkaConnection, topic: str) -> str:
    """Return the id that Kafka assigned when the topic was created. A different id means another topic of that name.

    Raises KafkaUnavailable; KafkaError if there is no such topic.
    """
    reader = TopicReader(kafka)
    try:
        return await reader.topic_id(topic)
    finally:
        await reader.close()


async def delete_records(kafka: KafkaConnection, topic: str, before: dict[int, int]) -> None:
    """Delete the records before the given offset in each partition. Raises KafkaUnavailable."""
    async with _admin(kafka) as admin:
        wanted = {TopicPartition(topic, p): RecordsToDelete(offset) for p, offset in before.items()}
        await within(ANSWER_TIMEOUT_S, f"trim {topic}", admin.delete_records(wanted))


async def first_offsets_since(
    kafka: KafkaConnection, topic: str, partitions: Sequence[int], since_ms: int
) -> dict[int, int | None]:
    """Return per partition the first offset with a timestamp of `since_ms` or later, or None.

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


AskEnds = Callable[[], Awaitable[dict[int, int]]]
"""Returns partition → the end offset of its log now. Raises KafkaUnavailable."""


@asynccontextmanager
async def end_offsets(kafka: KafkaConnection, topic: str, partitions: Sequence[int]) -> AsyncIterator[AskEnds]:
    """Yield a function that asks for the ends of several partitions, over connections that stay open.

    Raises KafkaUnavailable.
    """
    consumer = AIOKafkaConsumer(**kafka.client_options(), client_id=CLIENT_ID, group_id=None)
    wanted = [TopicPartition(topic, p) for p in partitions]

    async def ask() -> dict[int, int]:
        found = await within(ANSWER_TIMEOUT_S, "tell where the log ends", consumer.end_offsets(wanted))
        return {tp.partition: offset for tp, offset in found.items()}

    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "let us read", consumer.start())
        yield ask
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=3.0)


@asynccontextmanager
async def _admin(kafka: KafkaConnection) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**kafka.client_options(), client_id=CLIENT_ID, request_timeout_ms=10_000)
    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "answer", admin.start())
        yield admin
    finally:
        await asyncio.wait([asyncio.ensure_future(admin.close())], timeout=3.0)
