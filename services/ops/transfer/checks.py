"""Reads a whole archive against its manifest. An import does it before it writes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.ops.errors import FaultFound, UsageError
from services.ops.transfer.archive import MANIFEST, Archive
from services.ops.transfer.entries import Entry
from services.ops.transfer.manifest import Manifest, ManifestBroken, Topic, check_whole, segment_path
from services.ops.transfer.segments import Segment, SegmentBroken, entries_in
from services.ops.verify.reading import OnProgress

OnPlan = Callable[[str, int], OnProgress]
"""Called with what is done next and its number of records."""


async def manifest_of(archive: Archive) -> Manifest:
    """Return the manifest of a whole archive. Raises UsageError if it has no manifest, FaultFound if that is broken."""
    manifest = await archive.manifest()
    if manifest is None:
        raise UsageError(f"There is no {archive.name(MANIFEST)}: no export to that place has finished.")
    try:
        check_whole(manifest)
    except ManifestBroken as error:
        raise FaultFound(f"{archive.name(MANIFEST)} {error}.") from None
    return manifest


async def check_archive(archive: Archive, manifest: Manifest, on_plan: OnPlan | None = None) -> None:
    """Read every segment. Raises FaultFound, with the name of the first file that is not what was exported."""
    segments = list(manifest.segments())
    records = sum(segment.records for _, _, segment in segments)
    on_progress = on_plan("checking the archive", records) if on_plan is not None else None
    for topic, partition, segment in segments:
        await segment_entries(archive, topic, partition, segment)
        if on_progress is not None:
            on_progress(segment.records)


async def segment_entries(archive: Archive, topic: Topic, partition: int, segment: Segment) -> list[Entry]:
    """Return the entries of a segment. Raises FaultFound, with its name."""
    content = await archive.content(topic, partition, segment)
    try:
        return await asyncio.to_thread(entries_in, segment, content)
    except SegmentBroken as error:
        raise FaultFound(f"{archive.name(segment_path(topic, partition, segment))} {error}.") from None
