"""The assignment of a consumer group, as its coordinator stores it."""

from __future__ import annotations

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from tests.support.topic_settings import admin


async def members_of(kafka: str, group_id: str) -> dict[str, set[int]]:
    """Return the partitions of each member, by member id."""
    async with admin(kafka) as client:
        (answer,) = await client.describe_consumer_groups([group_id])
    ((_, _, _, _, _, members, *_),) = answer.groups
    return {
        member_id: {
            partition
            for _, partitions in ConsumerProtocolMemberAssignment.decode(assignment).assignment
            for partition in partitions
        }
        for member_id, _, _, _, assignment in members
    }
