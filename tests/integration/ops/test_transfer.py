"""`log export` and `log import` on a real Kafka: what comes back is the same log, and its sequencer goes on.

The other cluster is the same broker with another prefix of topic names: nothing of an archive depends on names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from schemas.events import decode_duplicate
from schemas.log import Verdict
from schemas.topics import TopicNames
from schemas.wire.encoding import Undecodable
from services.ops.errors import FaultFound, UsageError
from services.ops.transfer import export as exporting
from services.ops.transfer.archive import MANIFEST, UNFINISHED, Archive
from services.ops.transfer.export import ExportReport, export_log
from services.ops.transfer.import_ import ImportReport, import_log
from services.ops.transfer.manifest import Topic, encode_manifest
from services.ops.transfer.writing import KnownOffsets
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topics import delete_records
from services.runtime.settings import KafkaSettings
from services.sequencer.partition.writer import Status
from tests.support.forged_batches import Forged, ForgedRecord, RawProducer, raw
from tests.support.sequencing import Chat, Scene

SMALL = 2_000
"""Bytes of a segment, so that a short log has several."""
UNDECODABLE = ForgedRecord(value=b"{}", headers=[(b"\xff\xfe", b"a name that is not UTF-8")])


def settings_of(scene: Scene) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=scene.kafka,
        partitions=scene.partitions,
        reply_partitions=scene.reply_partitions,
        topic_prefix=scene.names.commands.removesuffix("chat.commands"),
    )


def elsewhere(settings: KafkaSettings) -> KafkaSettings:
    """Return the settings of an empty cluster."""
    return settings.model_copy(update={"topic_prefix": f"t{uuid4().hex[:8]}."})


@asynccontextmanager
async def scene_on(settings: KafkaSettings) -> AsyncIterator[Scene]:
    """Yield a scene with topics that are there already."""
    kafka = KafkaConnection.plain(settings.bootstrap_servers)
    scene = Scene(
        kafka=settings.bootstrap_servers,
        names=TopicNames.prefixed(settings.topic_prefix),
        partitions=settings.partitions,
        reply_partitions=settings.reply_partitions,
        producer=Producer(kafka=kafka, client_id="test"),
    )
    try:
        yield scene
    finally:
        await scene.producer.stop()
        for reader in scene._readers:
            await reader.close()


async def exported(settings: KafkaSettings, place: Path) -> ExportReport:
    archive = Archive(str(place), create=True)
    return await export_log(settings, archive, segment_bytes=SMALL, keep_every_s=0.0)


async def imported(settings: KafkaSettings, place: Path) -> ImportReport:
    report = await import_log(settings, Archive(str(place), create=False))
    assert report.log.violations == []
    return report


async def aborted_transaction(scene: Scene, chat: Chat) -> None:
    """Append a command, and a marker behind it."""
    async with scene.plain_producer(transactional_id=f"tx-{uuid4()}") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(scene.names.commands, value=b"{}", key=b"k", partition=chat.partition)
        await producer.abort_transaction()


async def conversation(scene: Scene, chat_name: str = "archived") -> Chat:
    """Write a log with everything that can be in one, and undecided commands at its end."""
    chat = await scene.create(chat_name)
    async with scene.writer(chat.partition), RawProducer.on(scene.kafka, scene.names.commands) as forger:
        for n in range(30):
            await scene.send(chat, f"message {n} " + "x" * 100, key=f"m{n}")
        await forger.put(scene.names.commands, chat.partition, raw(Forged(records=[UNDECODABLE, UNDECODABLE])))
        await aborted_transaction(scene, chat)
        decided = await scene.send(chat, "after the marker", key="m30")
        await scene.outcome_of(chat.partition, decided)
    await scene.send(chat, "undecided", key="m31")
    await aborted_transaction(scene, chat)
    return chat


async def records_of(scene: Scene, topic: str, partition: int) -> list[tuple[object, ...]]:
    """Return all that a record holds, without the time for commands, which a broker sets; and of batches that cannot be
    decoded every byte."""
    reader = await scene.reader(topic, partition)
    begin, end = await reader.bounds()
    await reader.seek(begin)
    timed = topic == scene.names.events
    found: list[tuple[object, ...]] = []
    while reader.position < end:
        for batch, records in await reader.read_batches(timeout_s=0.2):
            if any(isinstance(record, Undecodable) for record in records):
                found.append((batch.base_offset, batch.next_offset, batch.body().data))
                continue
            kept = [r for r in records if r.offset >= begin]
            found += [(r.offset, r.timestamp if timed else None, r.key, r.value, list(r.headers)) for r in kept]
    return found


async def bounds_of(scene: Scene, topic: str, partition: int) -> tuple[int, int]:
    return await (await scene.reader(topic, partition)).bounds()


async def assert_same_log(one: Scene, other: Scene) -> None:
    for partition in range(one.partitions):
        for topic, there in ((one.names.events, other.names.events), (one.names.commands, other.names.commands)):
            assert await bounds_of(one, topic, partition) == await bounds_of(other, there, partition)
            assert await records_of(one, topic, partition) == await records_of(other, there, partition)


def test_an_imported_log_is_the_exported_one_and_its_sequencer_goes_on(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat, settings = await conversation(scene), settings_of(scene)
            await delete_records(settings.connection, scene.names.commands, {chat.partition: 5})
            report = await exported(settings, tmp_path)
            assert report.segments > 3
            copy = elsewhere(settings)
            restored = await imported(copy, tmp_path)
            assert restored.written == sum(report.records.values())
            assert [p.head for p in restored.partitions] == [p.head for p in report.manifest.partitions]
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)
                async with other.writer(chat.partition):
                    undecided = await bounds_of(scene, scene.names.commands, chat.partition)
                    assert (await other.outcome_of(chat.partition, undecided[1] - 3)).seq == 32
                    again = await other.send(chat, "message 3 " + "x" * 100, key="m3")
                    original = await other.outcome_of(chat.partition, again)
                    assert original.type == "command.duplicate.v1"
                    first = next(e.outcome for e in await scene.log(chat.partition) if e.outcome.seq == 4)
                    figures = decode_duplicate(original.body)
                    assert (figures.seq, figures.position, figures.sent_at_ms) == (4, first.position, first.at_ms)
                    fresh = await other.send(chat, "after the import", key="m32")
                    assert (await other.outcome_of(chat.partition, fresh)).seq == 33
                terms = [e.stamp.term for e in await other.log(chat.partition) if e.verdict is Verdict.OPENS]
                assert terms == [1, 2]

    asyncio.run(main())


def test_a_later_export_adds_what_is_new_and_nothing_else(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat, settings = await conversation(scene), settings_of(scene)
            first = await exported(settings, tmp_path)
            assert not first.went_on
            nothing = await exported(settings, tmp_path)
            assert nothing.went_on
            assert (nothing.segments, set(nothing.records.values())) == (0, {0})
            async with scene.writer(0):
                more = await scene.send(chat, "more", key="more")
                await scene.outcome_of(0, more)
            await delete_records(settings.connection, scene.names.commands, {0: more - 1})
            second = await exported(settings, tmp_path)
            # The two undecided commands, their outcomes and an opening; and the new command, of the commands.
            assert second.records == {Topic.EVENTS: 4, Topic.COMMANDS: 1}
            kept = first.manifest.partitions[0].events.segments
            assert second.manifest.partitions[0].events.segments[: len(kept)] == kept
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)

    asyncio.run(main())


def test_small_segments_of_earlier_exports_are_put_together(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat, settings = await conversation(scene), settings_of(scene)
            archive, copied = Archive(str(tmp_path), create=True), 0
            for n in range(3):
                await scene.send(chat, "once more", key=f"once-{n}")
                report = await export_log(settings, archive)
                assert len(report.manifest.partitions[0].events.segments) == 1
                copied += report.records[Topic.COMMANDS]
            assert copied == sum(segment.records for segment in report.manifest.partitions[0].commands.segments)
            assert len(list(tmp_path.rglob("*.zst"))) == 2, "one of events, one of commands"
            assert (await export_log(settings, archive)).segments == 0
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)

    asyncio.run(main())


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_commands_that_were_decided_and_trimmed_between_two_exports_are_not_needed(
    kafka: str, tmp_path: Path, kept: int
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat, settings = await conversation(scene), settings_of(scene)
            first = await exported(settings, tmp_path)
            async with scene.writer(0):
                for n in range(5):
                    last = await scene.send(chat, f"more {n}", key=f"more-{n}")
                await scene.outcome_of(0, last)
            await delete_records(settings.connection, scene.names.commands, {0: last + 1 - kept})
            second = await exported(settings, tmp_path)
            commands = second.manifest.partitions[0].commands
            assert (commands.begin, commands.end, second.records[Topic.COMMANDS]) == (last + 1 - kept, last + 1, kept)
            assert commands.begin > first.manifest.partitions[0].commands.end, "the archive leaves some out"
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)
                async with other.writer(0):
                    sent = await other.send(chat, "after the import", key="after")
                    again = await other.send(chat, "more 0", key="more-0")
                    assert (await other.outcome_of(0, sent)).seq == 38
                    assert (await other.outcome_of(0, again)).type == "command.duplicate.v1"

    asyncio.run(main())


class Killed(Exception):
    """Stands for SIGKILL: the run ends in the middle."""


def test_a_killed_export_goes_on_with_what_it_has_copied(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings, puts, put = settings_of(scene), 0, Archive.put_segment

            async def killed_at_the_third(*args: object) -> None:
                nonlocal puts
                puts += 1
                if puts == 3:
                    raise Killed
                await put(*args)  # type: ignore[arg-type]

            with monkeypatch.context() as patched:
                patched.setattr(Archive, "put_segment", killed_at_the_third)
                with pytest.raises(Killed):
                    await exported(settings, tmp_path)
            assert (tmp_path / UNFINISHED).exists()
            with pytest.raises(UsageError, match="no export to that place has finished"):
                await imported(elsewhere(settings), tmp_path)
            rest = await exported(settings, tmp_path)
            assert rest.went_on
            assert rest.segments == sum(1 for _ in rest.manifest.segments()) - 2
            assert not (tmp_path / UNFINISHED).exists()
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)

    asyncio.run(main())


@pytest.mark.parametrize("at", [1, 2, 4, 6, 8])
def test_a_killed_import_goes_on(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat = await conversation(scene)
            settings = settings_of(scene)
            await delete_records(settings.connection, scene.names.commands, {chat.partition: 7})
            everything = sum((await exported(settings, tmp_path)).records.values())
            copy, steps = elsewhere(settings), 0

            def killed(step: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
                async def wrapped(*args: object) -> None:
                    nonlocal steps
                    steps += 1
                    if steps == at:
                        raise Killed
                    await step(*args)

                return wrapped

            with monkeypatch.context() as patched:
                for name in ("append", "fill"):
                    patched.setattr(KnownOffsets, name, killed(getattr(KnownOffsets, name)))
                with pytest.raises(Killed):
                    await imported(copy, tmp_path)
            rest = await imported(copy, tmp_path)
            assert rest.written <= everything
            async with scene_on(copy) as other:
                await assert_same_log(scene, other)
            assert (await imported(copy, tmp_path)).written == 0, "a finished import has nothing left to do"

    asyncio.run(main())


async def refused(settings: KafkaSettings, place: Path, match: str) -> None:
    with pytest.raises(FaultFound, match=match):
        await imported(settings, place)


def test_a_damaged_archive_is_refused_by_the_name_of_the_file_before_anything_is_written(
    kafka: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            await exported(settings, tmp_path)
            for file in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
                good, name = file.read_bytes(), str(file)
                copy = elsewhere(settings)
                file.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
                await refused(copy, tmp_path, name)
                if file.name != MANIFEST:
                    file.unlink()
                    await refused(copy, tmp_path, f"{name} is missing")
                file.write_bytes(good)
                async with scene_on(copy) as other, other.plain_producer() as producer:
                    there = await producer.client.fetch_all_metadata()
                    assert not {copy.topic_prefix + "chat.events"} & there.topics()

    asyncio.run(main())


def test_an_archive_is_imported_into_empty_topics_and_as_many_of_them(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            await exported(settings, tmp_path)
            await refused(settings, tmp_path, "was exported from this cluster")
            with pytest.raises(UsageError, match="GAPLESS_KAFKA_PARTITIONS"):
                await imported(elsewhere(settings).model_copy(update={"partitions": 2}), tmp_path)
        async with Scene.on(kafka, partitions=1) as used:
            await used.create("something else")
            await refused(settings_of(used), tmp_path, "its record at offset 0 is another one")
            assert await bounds_of(used, used.names.events, 0) == (0, 0), "nothing was written"

    asyncio.run(main())


def test_nothing_is_exported_into_the_archive_of_another_log(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            await exported(settings, tmp_path)
            before = (tmp_path / MANIFEST).read_bytes()
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            with pytest.raises(FaultFound, match="is of another log"):
                await exported(copy, tmp_path)
            assert (tmp_path / MANIFEST).read_bytes() == before

    asyncio.run(main())


def test_an_import_notices_that_another_program_writes(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            await exported(settings, tmp_path)
            copy, fill = elsewhere(settings), KnownOffsets.fill
            async with scene_on(copy) as other:

                async def meanwhile(log: KnownOffsets, until: int) -> None:
                    await fill(log, until)
                    if log.at == 0:
                        await other.create("too early")

                monkeypatch.setattr(KnownOffsets, "fill", meanwhile)
                await refused(copy, tmp_path, "Another program writes into .*chat.commands-0")

    asyncio.run(main())


def test_what_is_decided_during_an_export_is_for_the_next_one(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever end was asked when, each event that is kept has its command."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat, settings = await conversation(scene), settings_of(scene)
            ask, asked = exporting._Export._bounds, 0

            async def meanwhile(export: exporting._Export, topic: Topic, partition: int) -> tuple[int, int]:
                nonlocal asked
                bounds = await ask(export, topic, partition)
                asked += 1
                sent = await scene.send(chat, "meanwhile", key=f"meanwhile-{asked}")
                await scene.outcome_of(0, sent)
                return bounds

            async with scene.writer(0):
                monkeypatch.setattr(exporting._Export, "_bounds", meanwhile)
                report = await exported(settings, tmp_path)
            assert asked == 2
            assert report.fault is None
            end = report.manifest.partitions[0].events.end
            copy = elsewhere(settings)
            await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                everything = await records_of(scene, scene.names.events, 0)
                assert await records_of(other, other.names.events, 0) == everything[:end]
                assert end < len(everything)

    asyncio.run(main())


def test_a_log_that_lost_records_is_not_exported_over_its_archive(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            manifest = (await exported(settings, tmp_path)).manifest
            (partition,) = manifest.partitions
            longer = structs.replace(partition.events, end=partition.events.end + 1)
            *before, last = partition.events.segments
            other = structs.replace(partition.events, segments=(*before, structs.replace(last, last_digest="0" * 64)))
            for events, why in ((longer, "records of the log were lost"), (other, "has another record at offset")):
                changed = structs.replace(manifest, partitions=(structs.replace(partition, events=events),))
                raw = encode_manifest(changed)
                (tmp_path / MANIFEST).write_bytes(raw)
                with pytest.raises(FaultFound, match=why):
                    await exported(settings, tmp_path)
                assert (tmp_path / MANIFEST).read_bytes() == raw

    asyncio.run(main())


def test_a_sequencer_that_is_started_before_the_commands_are_there_decides_nothing(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            await conversation(scene)
            settings = settings_of(scene)
            await delete_records(settings.connection, scene.names.commands, {0: 7})
            await exported(settings, tmp_path)
            copy, fill = elsewhere(settings), KnownOffsets.fill

            async def killed_behind_the_empty_records(log: KnownOffsets, until: int) -> None:
                await fill(log, until)
                if until:
                    raise Killed

            with monkeypatch.context() as patched:
                patched.setattr(KnownOffsets, "fill", killed_behind_the_empty_records)
                with pytest.raises(Killed):
                    await imported(copy, tmp_path)
            async with scene_on(copy) as other:
                assert await bounds_of(other, other.names.commands, 0) == (0, 7)
                async with other.writer(0) as running:
                    await running.until(Status.STOPPED)
                ends = [await bounds_of(one, one.names.events, 0) for one in (scene, other)]
                assert ends[1] == (0, ends[0][1] + 1), "it has opened a term, and decided nothing"
            await refused(copy, tmp_path, "is not the beginning of .*: it has offsets")

    asyncio.run(main())
