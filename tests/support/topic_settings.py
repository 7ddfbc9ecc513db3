"""Changes settings of topics as an operator does, with the admin client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from schemas.topics import TopicSpec


@asynccontextmanager
async def admin(kafka: str) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await asyncio.wait_for(client.start(), 120)
    try:
        yield client
    finally:
        await asyncio.wait_for(client.close(), 120)


async def alter(kafka: str, spec: TopicSpec, **settings: str) -> None:
    """Set a topic's right settings, except for these overrides (`cleanup_policy="compact"`)."""
    config = {**spec.config, **{name.replace("_", "."): value for name, value in settings.items()}}
    async with admin(kafka) as client:
        answers = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=config)])
    for answer in answers:
        for code, message, *_ in answer.resources:
            assert code == 0, message


async def delete(kafka: str, *topics: str) -> None:
    """Delete topics; returns when the broker no longer lists them."""
    async with admin(kafka) as client:
        await client.delete_topics(list(topics))
        for _ in range(200):
            if not set(topics) & set(await client.list_topics()):
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"{topics} are still there")


class _ReassignResponse(Response):  # type: ignore[misc]  # aiokafka is not typed
    API_KEY = 45
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ReassignRequest(RequestStruct):  # type: ignore[misc]  # aiokafka is not typed
    FLEXIBLE_VERSION = True
    API_KEY = 45
    API_VERSION = 0
    RESPONSE_TYPE = _ReassignResponse
    SCHEMA = Schema(
        ("timeout_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("replicas", CompactArray(Int32)), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Reassign(Request[_ReassignRequest]):  # type: ignore[misc]  # aiokafka is not typed
    """AlterPartitionReassignments, which aiokafka does not have."""

    API_KEY = 45

    def __init__(self, topic: str, partition: int, brokers: Sequence[int]) -> None:
        self._wanted = (topic, partition, list(brokers))

    def build(self, request_struct_class: type[_ReassignRequest]) -> _ReassignRequest:
        topic, partition, brokers = self._wanted
        return request_struct_class(10_000, [(topic, [(partition, brokers, {})], {})], {})


async def reassign(kafka: str, topic: str, partition: int, brokers: Sequence[int]) -> None:
    """Assign replicas to one partition; returns when each broker confirms it."""
    async with admin(kafka) as client:
        answer = await client._client.send(client._client.get_random_node(), _Reassign(topic, partition, brokers))
        assert answer.error_code == 0, answer
        assert all(code == 0 for _, partitions, _ in answer.topics for _, code, *_ in partitions), answer
    for server in kafka.split(","):
        async with admin(server) as client, asyncio.timeout(30):
            while True:
                (described,) = await client.describe_topics([topic])
                if {p["partition"]: sorted(p["replicas"]) for p in described["partitions"]}[partition] == list(brokers):
                    break
                await asyncio.sleep(0.05)
