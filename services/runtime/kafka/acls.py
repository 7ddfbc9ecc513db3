"""Rights on a broker with ACLs, and how they are granted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import refuse_unless_allowed, within
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.refusals import opened

ANSWER_TIMEOUT_S: Final = 15.0
Resource = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs"]

_RESOURCES: Final[dict[Resource, int]] = {"topic": 2, "group": 3}
_OPERATIONS: Final[dict[Operation, int]] = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Describe": 8,
    "DescribeConfigs": 10,
}
_LITERAL: Final = 3
_ALLOW: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One operation on one topic or consumer group, given by its full name."""

    resource: Resource
    name: str
    operation: Operation


async def grant(kafka: KafkaConnection, user: str, rights: Iterable[Right]) -> None:
    """Grant the user these rights, from any host. Existing rights are kept.

    Raises KafkaUnavailable, KafkaRefused, KafkaError if the broker has no authorizer.
    """
    admin = AIOKafkaAdminClient(**kafka.client_options(), client_id="gapless-acls", request_timeout_ms=10_000)
    try:
        await opened(kafka, ANSWER_TIMEOUT_S, "answer", admin.start())
        client: Any = admin._client
        for right in rights:
            request = CreateAclsRequest(
                _RESOURCES[right.resource],
                right.name,
                _LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[right.operation],
                _ALLOW,
            )
            answer = await within(ANSWER_TIMEOUT_S, "grant a right", client.send(client.get_random_node(), request))
            for code, message in answer.creation_responses:
                refuse_unless_allowed(code, "grant rights")
                error = kafka_errors.for_code(code)
                if error is not kafka_errors.NoError:
                    raise KafkaError(f"Kafka did not grant {right}: {error.__name__} {message or ''}")
    finally:
        await asyncio.wait([asyncio.ensure_future(admin.close())], timeout=3.0)
