"""Writes an archive into empty topics, or goes on with its own import, and compares what is there with the archive.

The events are written first, then the commands: a sequencer that is started too early opens a term, finds that commands
are missing, and stops its partition. It has decided nothing, but the import refuses to go on behind that term.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import zip_longest
from typing import Final

from schemas.log import Head
from schemas.topics import COMMAND_RECORD_BYTES, EVENT_BATCH_BYTES, TopicNames
from services.ops.errors import FaultFound, UsageError
from services.ops.topics import create_and_check
from services.ops.transfer.archive import MANIFEST, Archive
from services.ops.transfer.checks import OnPlan, check_archive, manifest_of, segment_entries
from services.ops.transfer.entries import YOUNG_OBJECTS, Entry, KeptRecord, pack_entry, without_time
from services.ops.transfer.manifest import Manifest, Topic, TopicCopy
from services.ops.transfer.plan import Markers, pieces
from services.ops.transfer.reading import EntryStream
from services.ops.transfer.segments import DIGEST_BYTES
from services.ops.transfer.writing import KnownOffsets
from services.ops.verify.log.verify import LogReport, verify_log
from services.ops.verify.reading import OnProgress, partition_reader
from services.runtime.kafka.topics import delete_records, topic_id
from services.runtime.process.collector import infrequent_gc
from services.runtime.settings import KafkaSettings

BATCH_BYTES: Final = {Topic.EVENTS: EVENT_BATCH_BYTES - 148_588, Topic.COMMANDS: COMMAND_RECORD_BYTES - 20_000}
"""Size at which a batch is closed, below what the topic takes. A record that is larger has a batch of its own."""
COMPARED_AT_ONCE: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One partition, as it was read back."""

    partition: int
    head: Head
    events: int
    """Number of events."""
    events_digest: str
    """BLAKE2b-256 of all of them, however the archive is cut into segments."""
    commands_begin: int
    commands_end: int


@dataclass(slots=True)
class ImportReport:
    """What is in the topics now. Every record was compared with the archive."""

    log: LogReport
    written: int = 0
    """Number of records that this run wrote; less than all if it went on with an earlier one."""
    partitions: list[Imported] = field(default_factory=list)


async def import_log(kafka: KafkaSettings, archive: Archive, *, on_plan: OnPlan | None = None) -> ImportReport:
    """Import, read back, and verify the log by its rules. Run it again if it was killed: it goes on.

    :raises FaultFound: a file is not what was exported (then nothing was written), the topics hold something else, or
        another program writes into them.
    :raises UsageError: there is no archive, or these settings have another number of partitions.
    :raises TopicsWrong: the topics are not as the protocol needs them.
    :raises KafkaError: Kafka does not work.
    :raises ArchiveUnavailable: the store does not work.
    """
    manifest = await manifest_of(archive)
    _refuse_another_number(kafka, archive, manifest)
    with infrequent_gc(YOUNG_OBJECTS):
        await check_archive(archive, manifest, on_plan)
    return await import_checked(kafka, archive, manifest, on_plan=on_plan)


async def import_checked(
    kafka: KafkaSettings, archive: Archive, manifest: Manifest, *, on_plan: OnPlan | None = None
) -> ImportReport:
    """Import an archive whose files have been checked. Raises what import_log raises."""
    _refuse_another_number(kafka, archive, manifest)
    run = _Import(kafka, archive, manifest, on_plan)
    with infrequent_gc(YOUNG_OBJECTS):
        partitions = await run.run()
    return ImportReport(await verify_log(kafka), run.written, partitions)


def _refuse_another_number(kafka: KafkaSettings, archive: Archive, manifest: Manifest) -> None:
    if manifest.log.partitions != kafka.partitions:
        raise UsageError(
            f"{archive.name(MANIFEST)} is of a log with {manifest.log.partitions} partitions, which never changes: set"
            f" GAPLESS_KAFKA_PARTITIONS to that, it is {kafka.partitions}."
        )


class _Import:
    def __init__(self, kafka: KafkaSettings, archive: Archive, manifest: Manifest, on_plan: OnPlan | None) -> None:
        self._kafka = kafka
        names = TopicNames.prefixed(kafka.topic_prefix)
        self._names = {Topic.EVENTS: names.events, Topic.COMMANDS: names.commands}
        self._archive = archive
        self._manifest = manifest
        self._on_plan = on_plan
        self.written = 0
        """Number of records."""

    def _progress(self, what: str, total: int) -> OnProgress | None:
        return self._on_plan(what, total) if self._on_plan is not None else None

    async def run(self) -> list[Imported]:
        """Write what is missing, and read everything back."""
        await create_and_check(self._kafka)
        await self._refuse_the_origin()
        places = [(topic, number) for topic in Topic for number in range(self._kafka.partitions)]
        there = {place: await self._there(*place) for place in places}
        present = sum(s.records for t, p in places for s in self._copy(t, p).present())
        on_progress = self._progress("writing", present)
        for topic, number in places:
            await self._write(topic, number, there[topic, number], on_progress)
        on_progress = self._progress("reading back", present)
        return [await self._read_back(number, on_progress) for number in range(self._kafka.partitions)]

    def _copy(self, topic: Topic, number: int) -> TopicCopy:
        return self._manifest.partitions[number].of(topic)

    async def _refuse_the_origin(self) -> None:
        ids = {await topic_id(self._kafka.connection, name) for name in self._names.values()}
        if ids & {self._manifest.log.events_id, self._manifest.log.commands_id}:
            raise FaultFound(f"{self._archive.place} was exported from this cluster: import it into an empty one.")

    async def _there(self, topic: Topic, number: int) -> tuple[int, int]:
        """Return the bounds of a partition, all of which is the beginning of the archive. Raises FaultFound."""
        copy = self._copy(topic, number)
        async with partition_reader(self._kafka, self._names[topic], number) as reader:
            begin, end = await reader.bounds()
        if end > copy.end or begin not in (0, copy.begin):
            raise self._not_ours(topic, number, f"it has offsets {begin} to {end - 1}")
        if end > begin:
            await self._compare(topic, number, begin, end)
        return begin, end

    async def _write(self, topic: Topic, number: int, there: tuple[int, int], on_progress: OnProgress | None) -> None:
        """Write what is missing. After a crash anywhere here, the next run finds what is there and goes on."""
        copy, (begin, end) = self._copy(topic, number), there
        connection, name = self._kafka.connection, self._names[topic]
        async with KnownOffsets(connection, name, number, at=end, client_id=f"{self._kafka.client_id}-import") as log:
            await log.fill(await self._filled_until(topic, number))
            async for kept in self._entries(topic, number):
                entries = [entry for entry in kept if entry.offset >= log.at]
                for piece in pieces(entries, at=log.at, max_bytes=BATCH_BYTES[topic]):
                    await log.append(piece)
                self.written += sum(entry.next_offset - entry.offset for entry in entries)
                if on_progress is not None:
                    on_progress(len(kept))
            await log.append(Markers(log.at, copy.end))
        if begin < copy.begin:
            await delete_records(connection, name, {number: copy.begin})

    async def _read_back(self, number: int, on_progress: OnProgress | None) -> Imported:
        copies = {topic: self._copy(topic, number) for topic in Topic}
        digests = {}
        for topic, copy in copies.items():
            async with partition_reader(self._kafka, self._names[topic], number) as reader:
                begin, end = await reader.bounds()
            if (begin, end) != (copy.begin, copy.end):
                raise self._not_ours(topic, number, f"it has offsets {begin} to {end - 1}")
            digests[topic] = await self._compare(topic, number, begin, end, on_progress)
        return Imported(
            partition=number,
            head=self._manifest.partitions[number].head,
            events=copies[Topic.EVENTS].end,
            events_digest=digests[Topic.EVENTS],
            commands_begin=copies[Topic.COMMANDS].begin,
            commands_end=copies[Topic.COMMANDS].end,
        )

    async def _compare(
        self, topic: Topic, number: int, begin: int, end: int, on_progress: OnProgress | None = None
    ) -> str:
        """Compare offsets `begin` to `end` (exclusive) with the archive; return the digest of the entries there.

        Raises FaultFound.
        """
        digest = blake2b(digest_size=DIGEST_BYTES)
        async with partition_reader(self._kafka, self._names[topic], number) as reader:
            await reader.seek(begin)
            stream = EntryStream(reader, end)
            if begin < self._copy(topic, number).begin:
                await self._compare_filled(topic, number, stream, min(end, await self._filled_until(topic, number)))
            async for all_kept in self._entries(topic, number):
                if kept := [entry for entry in all_kept if entry.next_offset <= end]:
                    self._compare_entries(topic, number, await stream.until(kept[-1].next_offset), kept)
                    digest.update(b"".join(map(pack_entry, kept)))
                if on_progress is not None:
                    on_progress(len(kept))
                if len(kept) < len(all_kept):
                    break
            self._compare_entries(topic, number, await stream.until(end), [])
        return digest.hexdigest()

    async def _compare_filled(self, topic: Topic, number: int, stream: EntryStream, until: int) -> None:
        for at in range(0, until, COMPARED_AT_ONCE):
            for entry in await stream.until(min(until, at + COMPARED_AT_ONCE)):
                if not isinstance(entry, KeptRecord) or (entry.key, entry.value, entry.headers) != (None, None, []):
                    raise self._not_ours(topic, number, f"it has a record at offset {entry.offset}")

    def _compare_entries(self, topic: Topic, number: int, found: Sequence[Entry], kept: Sequence[Entry]) -> None:
        if topic is Topic.COMMANDS:
            found, kept = without_time(found), without_time(kept)
        if found != kept:
            first = next(one or other for one, other in zip_longest(found, kept) if one != other)
            assert first is not None
            raise self._not_ours(topic, number, f"its record at offset {first.offset} is another one")

    def _not_ours(self, topic: Topic, number: int, why: str) -> FaultFound:
        return FaultFound(
            f"{self._names[topic]}-{number} is not the beginning of {self._archive.place}: {why}. Import it into an"
            " empty cluster."
        )

    async def _filled_until(self, topic: Topic, number: int) -> int:
        """Return the offset from which on the archive has what belongs there: below are commands that were trimmed."""
        begin = self._copy(topic, number).begin
        if begin:
            async for kept in self._entries(topic, number):
                return min(begin, kept[0].offset)
        return begin

    async def _entries(self, topic: Topic, number: int) -> AsyncGenerator[list[Entry]]:
        """Yield what the topic held at the last export, segment by segment."""
        copy = self._copy(topic, number)
        for segment in copy.present():
            entries = await segment_entries(self._archive, topic, number, segment)
            if entries := [entry for entry in entries if entry.next_offset > copy.begin]:
                yield entries
