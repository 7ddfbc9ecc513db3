"""Changes settings of topics as an operator does, by the admin client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.topics import TopicSpec


@asynccontextmanager
async def admin(kafka: str) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await asyncio.wait_for(client.start(), 20)
    try:
        yield client
    finally:
        await asyncio.wait_for(client.close(), 10)


async def alter(kafka: str, spec: TopicSpec, **settings: str) -> None:
    """Gives a topic its settings, but these (`cleanup_policy="compact"`) in place of the right ones."""
    config = {**spec.config, **{name.replace("_", "."): value for name, value in settings.items()}}
    async with admin(kafka) as client:
        answers = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=config)])
    for answer in answers:
        for code, message, *_ in answer.resources:
            assert code == 0, message


async def delete(kafka: str, *topics: str) -> None:
    """Deletes topics; returns when the broker no longer lists them."""
    async with admin(kafka) as client:
        await client.delete_topics(list(topics))
        for _ in range(200):
            if not set(topics) & set(await client.list_topics()):
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"{topics} are still there")
