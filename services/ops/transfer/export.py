"""Copies a log into an archive: what is new since the last export, up to ends that were asked first.

The ends of the events are asked before those of the commands, so each outcome that is kept has its command, and every
command that has no outcome yet is kept too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from schemas.cursor import LogCursor
from schemas.topics import TopicNames
from services.ops.errors import FaultFound
from services.ops.transfer.archive import MANIFEST, Archive
from services.ops.transfer.checks import segment_entries
from services.ops.transfer.entries import YOUNG_OBJECTS, pack_entry
from services.ops.transfer.manifest import (
    LogIdentity,
    Manifest,
    ManifestBroken,
    PartitionCopy,
    StoppedAt,
    Topic,
    TopicCopy,
    check_whole,
    empty_manifest,
)
from services.ops.transfer.reading import batches_until
from services.ops.transfer.segments import Segment, SegmentBuilder, digest_of
from services.ops.verify.reading import OnProgress, partition_reader, topics_of
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import topic_id
from services.runtime.process.collector import infrequent_gc
from services.runtime.settings import KafkaSettings

SEGMENT_BYTES: Final = 32 * 1024 * 1024
"""Size at which a segment is closed, uncompressed: a transfer holds one in memory, or two."""
SMALL: Final = 8
"""The last segment is written again, together with what is new, if it is smaller than this part of a segment: hourly
exports of a quiet log would otherwise leave a hundred thousand segments a year."""
KEEP_EVERY_S: Final = 5.0
"""How often an unfinished export writes down what it has copied."""
OnPlan = Callable[[int], OnProgress]


@dataclass(slots=True)
class ExportReport:
    """What was done, and what the archive holds now."""

    manifest: Manifest
    records: dict[Topic, int] = field(default_factory=lambda: dict.fromkeys(Topic, 0))
    """Number of records that this run copied."""
    segments: int = 0
    stored_bytes: int = 0
    fault: str | None = None
    """Why it cannot be imported, if the log itself lacks commands that a sequencer needs to go on."""
    went_on: bool = False
    """Whether there was an export at this place before, finished or not."""

    @property
    def stopped(self) -> list[PartitionCopy]:
        """The partitions with a record that no reader can pass. They are copied whole all the same."""
        return [partition for partition in self.manifest.partitions if partition.stopped is not None]


async def export_log(
    kafka: KafkaSettings,
    archive: Archive,
    *,
    on_plan: OnPlan | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    keep_every_s: float = KEEP_EVERY_S,
) -> ExportReport:
    """Copy what is new. Run it again if it was killed: it goes on.

    :raises FaultFound: the archive is of another log, or broken; or records of the log are missing.
    :raises UsageError: these settings are not those of the log.
    :raises KafkaError: the log cannot be read.
    :raises ArchiveUnavailable: the store does not work.
    """
    names = await topics_of(kafka)
    log = LogIdentity(
        partitions=kafka.partitions,
        events=names.events,
        events_id=await topic_id(kafka.connection, names.events),
        commands=names.commands,
        commands_id=await topic_id(kafka.connection, names.commands),
    )
    before = await archive.exported()
    if before is not None and before.log != log:
        raise FaultFound(
            f"{archive.name(MANIFEST)} is of another log ({before.log.events}, topic id {before.log.events_id}, and"
            f" this one is {log.events_id}): export into another place."
        )
    export = _Export(kafka, names, archive, before or empty_manifest(log), segment_bytes, keep_every_s)
    export.report.went_on = before is not None
    with infrequent_gc(YOUNG_OBJECTS):
        await export.run(on_plan)
    return export.report


class _Export:
    def __init__(
        self,
        kafka: KafkaSettings,
        names: TopicNames,
        archive: Archive,
        before: Manifest,
        segment_bytes: int,
        keep_every_s: float,
    ) -> None:
        self._kafka = kafka
        self._names = {Topic.EVENTS: names.events, Topic.COMMANDS: names.commands}
        self._archive = archive
        self._segment_bytes = segment_bytes
        self._keep_every_s = keep_every_s
        self._kept_s = time.monotonic()
        self._on_progress: OnProgress | None = None
        self.report = ExportReport(before)

    async def run(self, on_plan: OnPlan | None) -> None:
        bounds = {(topic, p): await self._bounds(topic, p) for topic in Topic for p in range(self._kafka.partitions)}
        for partition in self.report.manifest.partitions:
            for topic in Topic:
                await self._refuse_another(topic, partition, *bounds[topic, partition.partition])
        if on_plan is not None:
            self._on_progress = on_plan(self._offsets_to_copy(bounds))
        for number in range(self._kafka.partitions):
            for topic in Topic:
                await self._copy(topic, number, *bounds[topic, number])
        manifest = structs.replace(self.report.manifest, exported_at=datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            check_whole(manifest)
        except ManifestBroken as error:
            self.report.fault = f"This export cannot be imported, because it {error}."
        await self._archive.finish(manifest)
        self.report.manifest = manifest

    def _offsets_to_copy(self, bounds: dict[tuple[Topic, int], tuple[int, int]]) -> int:
        copies = {(topic, p.partition): p.of(topic) for p in self.report.manifest.partitions for topic in Topic}
        return sum(end - max(begin, copies[place].end) for place, (begin, end) in bounds.items())

    async def _bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        async with partition_reader(self._kafka, self._names[topic], partition) as reader:
            return await reader.bounds()

    async def _refuse_another(self, topic: Topic, partition: PartitionCopy, begin: int, end: int) -> None:
        """Check that the log still holds the last record that was kept. Raises FaultFound."""
        copy, name = partition.of(topic), f"{self._names[topic]}-{partition.partition}"
        if topic is Topic.EVENTS and begin > 0:
            raise FaultFound(f"{name} begins at offset {begin}: its history was deleted; restore it from a backup.")
        if end < copy.end:
            raise FaultFound(
                f"{name} ends at offset {end}, and {self._archive.place} has it up to {copy.end}: records of the log"
                " were lost. Keep this archive, and export into another place."
            )
        if not copy.segments or copy.segments[-1].last < begin:
            return
        last = copy.segments[-1]
        async with partition_reader(self._kafka, self._names[topic], partition.partition) as reader:
            await reader.seek(last.last)
            async for entries, _, _ in batches_until(reader, last.last + 1):
                if not any(digest_of(pack_entry(entry)) == last.last_digest for entry in entries[:1]):
                    raise FaultFound(
                        f"{name} has another record at offset {last.last} than {self._archive.place}: it is another"
                        " log. Keep this archive, and export into another place."
                    )

    async def _copy(self, topic: Topic, number: int, begin: int, end: int) -> None:
        before = self.report.manifest.partitions[number]
        copy = structs.replace(before.of(topic), begin=begin)
        self._replace(before.with_copy(topic, copy))
        async with partition_reader(self._kafka, self._names[topic], number) as reader:
            await reader.seek(max(begin, copy.end))
            await self._copy_from(reader, topic, number, end)
        done = self.report.manifest.partitions[number]
        self._replace(done.with_copy(topic, structs.replace(done.of(topic), end=end)))

    async def _copy_from(self, reader: PartitionReader, topic: Topic, number: int, end: int) -> None:
        before = self.report.manifest.partitions[number]
        cursor = LogCursor(before.head, next_offset=reader.position)
        builder, small = SegmentBuilder(), self._small(before.of(topic), reader.position)
        folded = topic is Topic.EVENTS and before.stopped is None
        async for entries, records, offsets in batches_until(reader, end):
            if small is not None and not builder.records:
                for entry in await segment_entries(self._archive, topic, number, small):
                    builder.add(entry)
            for entry in entries:
                builder.add(entry)
            if folded and cursor.stopped is None:
                cursor.read_outcomes(records, _not_decoded)
            if self._on_progress is not None:
                self._on_progress(offsets)
            if builder.bytes >= self._segment_bytes:
                await self._put(builder, topic, number, cursor if folded else None, small)
                builder, small = SegmentBuilder(), None
        if builder.records:
            await self._put(builder, topic, number, cursor if folded else None, small)

    def _small(self, copy: TopicCopy, position: int) -> Segment | None:
        """Return the last segment if it is small, and what is new follows it."""
        if not copy.segments or copy.end != position:
            return None
        last = copy.segments[-1]
        return last if last.bytes < self._segment_bytes // SMALL else None

    async def _put(
        self, builder: SegmentBuilder, topic: Topic, number: int, cursor: LogCursor | None, small: Segment | None
    ) -> None:
        """Store a segment, and then write down that it is there, in place of `small` if that is in it.

        After a crash in between it is copied again.
        """
        segment, stored = builder.seal()
        await self._archive.put_segment(topic, number, segment, stored)
        partition = self.report.manifest.partitions[number]
        copy = partition.of(topic)
        before = copy.segments if small is None else copy.segments[:-1]
        copy = TopicCopy(begin=copy.begin, end=segment.last + 1, segments=(*before, segment))
        partition = partition.with_copy(topic, copy)
        if cursor is not None:
            stopped = cursor.stopped
            partition = structs.replace(
                partition,
                head=cursor.head,
                stopped=StoppedAt(offset=stopped.offset, reason=str(stopped.error)) if stopped is not None else None,
            )
        self._replace(partition)
        self.report.segments += 1
        self.report.records[topic] += segment.records - (small.records if small is not None else 0)
        self.report.stored_bytes += segment.stored_bytes
        if time.monotonic() - self._kept_s >= self._keep_every_s:
            await self._archive.keep_unfinished(self.report.manifest)
            self._kept_s = time.monotonic()

    def _replace(self, partition: PartitionCopy) -> None:
        partitions = list(self.report.manifest.partitions)
        partitions[partition.partition] = partition
        self.report.manifest = structs.replace(self.report.manifest, partitions=tuple(partitions))


def _not_decoded(_decided: object) -> None:
    """Decode nothing: only the head is wanted."""
