"""The manifest of an archive: which log it is of, and for each partition the segments, the ends and the head. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct, structs

from schemas.log import EMPTY, Head
from services.ops.transfer.segments import Segment, digest_of

FORMAT: Final = 1


class Topic(StrEnum):
    """The topics that are kept, and the folders of their segments."""

    EVENTS = "events"
    COMMANDS = "commands"


class ManifestBroken(Exception):
    """The bytes are no manifest, or one that cannot be imported. The message ends a sentence that names the file."""


class LogIdentity(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The topics that were exported. Kafka assigns each topic an id of its own, whatever its name."""

    partitions: int
    events: str
    events_id: str
    commands: str
    commands_id: str


class TopicCopy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of one partition of a topic."""

    begin: int = 0
    """First offset that the topic held at the last export. Commands before it had been decided and trimmed."""
    end: int = 0
    """The offset after the last one kept. The last offsets may be those of transaction markers."""
    segments: tuple[Segment, ...] = ()

    def present(self) -> tuple[Segment, ...]:
        """Return the segments with records that the topic held at the last export."""
        return tuple(segment for segment in self.segments if segment.last >= self.begin)


class StoppedAt(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of chat.events that no reader can pass."""

    offset: int
    reason: str


class PartitionCopy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One partition of both topics."""

    partition: int
    head: Head = EMPTY
    """After the last event that counts."""
    stopped: StoppedAt | None = None
    events: TopicCopy = TopicCopy()
    commands: TopicCopy = TopicCopy()

    def of(self, topic: Topic) -> TopicCopy:
        return self.events if topic is Topic.EVENTS else self.commands

    def with_copy(self, topic: Topic, copy: TopicCopy) -> PartitionCopy:
        return structs.replace(self, **{topic.value: copy})


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An archive's content."""

    format: int = FORMAT
    exported_at: str
    log: LogIdentity
    partitions: tuple[PartitionCopy, ...]
    digest: str = ""
    """BLAKE2b-256 of the manifest with this field empty."""

    def segments(self) -> Iterator[tuple[Topic, int, Segment]]:
        for partition in self.partitions:
            for topic in Topic:
                for segment in partition.of(topic).segments:
                    yield topic, partition.partition, segment


def empty_manifest(log: LogIdentity) -> Manifest:
    partitions = tuple(PartitionCopy(partition=partition) for partition in range(log.partitions))
    return Manifest(exported_at="", log=log, partitions=partitions)


def segment_path(topic: Topic, partition: int, segment: Segment) -> str:
    """Return the path of a segment in its archive. It names the content, so no other segment has the same path."""
    return f"{topic.value}/{partition:05d}/{segment.first:019d}-{segment.last:019d}-{segment.digest[:16]}.zst"


def encode_manifest(manifest: Manifest) -> bytes:
    plain = structs.replace(manifest, digest="")
    return msgspec.json.encode(structs.replace(plain, digest=digest_of(msgspec.json.encode(plain)))) + b"\n"


def decode_manifest(raw: bytes) -> Manifest:
    """Return the manifest with exactly these bytes. Raises ManifestBroken if one of them was changed."""
    try:
        if msgspec.json.decode(raw, type=_AnyFormat).format != FORMAT:
            raise ManifestBroken(f"is not of format {FORMAT}: use the release that wrote it")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestBroken(f"cannot be read: {error}") from None
    if encode_manifest(manifest) != raw:
        raise ManifestBroken("has another digest than it says: it was changed")
    return manifest


class _AnyFormat(Struct):
    format: int


def check_whole(manifest: Manifest) -> None:
    """Check that the archive is of a log that a sequencer can go on with. Raises ManifestBroken."""
    numbers = [partition.partition for partition in manifest.partitions]
    if numbers != list(range(manifest.log.partitions)):
        raise ManifestBroken(f"names partitions {numbers}, not 0 to {manifest.log.partitions - 1}")
    for partition in manifest.partitions:
        for topic in Topic:
            _check_row(partition.partition, topic, partition.of(topic))
        events, commands = partition.events, partition.commands
        at = 0
        for segment in events.segments:
            if segment.first != at or segment.records != segment.last - segment.first + 1:
                raise ManifestBroken(f"leaves out events of partition {partition.partition} from offset {at} on")
            at = segment.last + 1
        if events.begin or at != events.end:
            raise ManifestBroken(f"leaves out events of partition {partition.partition} from offset {at} on")
        next_command = partition.head.command_offset + 1
        if not commands.begin <= next_command <= commands.end:
            raise ManifestBroken(
                f"has commands {commands.begin} to {commands.end - 1} of partition {partition.partition}, and the next"
                f" one to decide is {next_command}"
            )


def _check_row(partition: int, topic: Topic, copy: TopicCopy) -> None:
    at = 0
    for segment in copy.segments:
        if not at <= segment.first <= segment.last < copy.end:
            raise ManifestBroken(f"names segments of {topic.value} of partition {partition} out of order")
        at = segment.last + 1


def newer(one: Manifest | None, other: Manifest | None) -> Manifest | None:
    """Return the manifest with more records; `one` if both have as many."""
    if one is None or other is None:
        return one or other
    records = [sum(segment.records for _, _, segment in manifest.segments()) for manifest in (one, other)]
    return other if records[1] > records[0] else one
