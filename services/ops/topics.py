"""The topics of the log on a cluster: created if they are missing, and checked against what the protocol needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from schemas.topics import TopicNames, TopicSpec, topic_specs
from services.ops.errors import UsageError
from services.runtime.settings import KafkaSettings

HEARD_OF_WITHIN_S: Final = 15.0
ASK_AGAIN_S: Final = 0.2
BROKERS_FOR_COPIES: Final = 3


def specs_of(settings: KafkaSettings) -> tuple[TopicSpec, ...]:
    """Return the specification of each topic that these settings name."""
    return topic_specs(
        TopicNames.prefixed(settings.topic_prefix),
        partitions=settings.partitions,
        reply_partitions=settings.reply_partitions,
        replication_factor=settings.replication_factor,
        min_insync_replicas=settings.min_insync_replicas,
    )


async def check(settings: KafkaSettings) -> list[str]:
    """Check all topics; returns notes for the operator. Raises TopicsWrong, KafkaUnavailable."""
    from services.runtime.kafka.topics import check_topics

    specs = specs_of(settings)
    notes = await check_topics(
        settings.connection, TopicNames.prefixed(settings.topic_prefix), specs, ask_log="if_allowed"
    )
    _, brokers = await _missing(settings, specs)
    if _copies_are_missing(settings, brokers):
        notes.append(f"{_one_copy(brokers)}: {_SET_COPIES}")
    return notes


async def _missing(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> tuple[list[str], int]:
    """Return the names of the missing topics, and the number of brokers."""
    from services.runtime.kafka.topic_reader import TopicReader

    reader = TopicReader(settings.connection)
    try:
        found = await reader.describe(specs)
        return [spec.name for spec in specs if spec.name not in found], await reader.brokers()
    finally:
        await reader.close()


def _copies_are_missing(settings: KafkaSettings, brokers: int) -> bool:
    """Return whether the number of copies is not set although there are brokers for three."""
    return brokers >= BROKERS_FOR_COPIES and "replication_factor" not in settings.model_fields_set


def _one_copy(brokers: int) -> str:
    return (
        f"GAPLESS_KAFKA_REPLICATION_FACTOR is not set, so each record has one copy although there are {brokers} brokers"
    )


_SET_COPIES: Final = "set it to 3, in every process, or to 1 if the log may be lost with a broker"


async def create_and_check(settings: KafkaSettings) -> tuple[list[str], list[str]]:
    """Create the missing topics, then check all of them; returns the names of those created, and notes.

    One of several brokers may not know yet what another has just created, so the check is repeated for a while.
    Raises TopicsWrong, KafkaUnavailable, and UsageError if the number of copies has to be set first.
    """
    from services.runtime.kafka.errors import TopicsWrong
    from services.runtime.kafka.topics import check_topics, create_topics

    specs, names = specs_of(settings), TopicNames.prefixed(settings.topic_prefix)
    missing, brokers = await _missing(settings, specs)
    if missing and _copies_are_missing(settings, brokers):
        raise UsageError(f"{_one_copy(brokers)}: {_SET_COPIES}. Nothing was created.")
    created = await create_topics(settings.connection, specs)
    deadline_s = time.monotonic() + HEARD_OF_WITHIN_S
    while True:
        try:
            notes = await check_topics(settings.connection, names, specs, ask_log="if_allowed")
        except TopicsWrong:
            if not created or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return created, notes
