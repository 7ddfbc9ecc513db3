"""Reads a partition from its beginning to an end that is known in advance; for the verifiers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from schemas.topics import TopicNames
from schemas.wire.encoding import Record
from services.ops.errors import UsageError
from services.ops.topics import specs_of
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topic_reader import TopicReader
from services.runtime.settings import KafkaSettings

READ_TIMEOUT_S: Final = 2.0
SILENCE_LIMIT_S: Final = 30.0
BATCH_RECORDS: Final = 2_000

OnProgress = Callable[[int], None]
"""Called with the number of offsets by which the reader has advanced."""


async def topics_of(settings: KafkaSettings) -> TopicNames:
    """Return the names of the topics, after a check that the log has as many partitions as these settings say.

    With a smaller number, a verifier would call a log sound after reading only a part of it; partitions that an
    operator added to the topics do not belong to the log. Raises UsageError, KafkaError.
    """
    names = TopicNames.prefixed(settings.topic_prefix)
    specs = [spec for spec in specs_of(settings) if spec.name in (names.commands, names.events)]
    reader = TopicReader(settings.connection)
    try:
        found = await reader.describe(specs)
        written_for = await reader.log_partitions(names.events)
    finally:
        await reader.close()
    for spec in specs:
        if spec.name not in found:
            raise UsageError(f"There is no topic {spec.name}: create it with `gapless topics create`.")
        partitions = written_for or found[spec.name].partitions
        if partitions != settings.partitions or found[spec.name].partitions < settings.partitions:
            raise UsageError(
                f"The log in {spec.name} has {partitions} partitions: set GAPLESS_KAFKA_PARTITIONS to that,"
                f" it is {settings.partitions}."
            )
    return names


@asynccontextmanager
async def partition_reader(settings: KafkaSettings, topic: str, partition: int) -> AsyncIterator[PartitionReader]:
    """Open a reader at offset 0, and close it at the end. Raises KafkaUnavailable."""
    reader = PartitionReader(
        kafka=settings.connection,
        topic=topic,
        partition=partition,
        client_id=f"{settings.client_id}-ops",
    )
    await reader.start(0)
    try:
        yield reader
    finally:
        await reader.close()


async def records_until(
    reader: PartitionReader, end: int, on_progress: OnProgress | None = None
) -> AsyncGenerator[Record]:
    """Yield every record from the reader's position to `end` (exclusive), which must not be beyond the log's end.

    Raises KafkaUnavailable if nothing arrives for SILENCE_LIMIT_S, OffsetMissing.
    """
    silent_s = 0.0
    while reader.position < end:
        before = reader.position
        for record in await reader.read(max_records=BATCH_RECORDS, timeout_s=READ_TIMEOUT_S):
            if record.offset < end:
                yield record
        moved = min(reader.position, end) - before
        if moved > 0:
            silent_s = 0.0
            if on_progress is not None:
                on_progress(moved)
            continue
        silent_s += READ_TIMEOUT_S
        if silent_s >= SILENCE_LIMIT_S:
            raise KafkaUnavailable(
                f"{reader.topic}-{reader.partition} gave nothing from offset {before} on for {SILENCE_LIMIT_S:g} s"
            )
