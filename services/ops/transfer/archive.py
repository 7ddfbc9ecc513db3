"""An archive in a folder or an object store: its segments, its manifest, and that of an unfinished export.

An object is put whole or not at all. In a folder it also survives a power cut, before the next one is put.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import obstore

from services.ops.errors import Exit, FaultFound, OpsError, UsageError
from services.ops.transfer.manifest import (
    Manifest,
    ManifestBroken,
    Topic,
    decode_manifest,
    encode_manifest,
    newer,
    segment_path,
)
from services.ops.transfer.segments import Segment, SegmentBroken, content_of
from services.runtime.object_stores import first_line, open_store

MANIFEST: Final = "manifest.json"
UNFINISHED: Final = "unfinished.json"
"""What an export has copied so far; the next one goes on from there, and removes it at its end."""

T = TypeVar("T")


class ArchiveUnavailable(OpsError):
    """The store does not answer, refuses or is full; it may work later."""

    exit_code = Exit.UNAVAILABLE


class Archive:
    """The segments and manifests at a place. Every method raises ArchiveUnavailable."""

    def __init__(self, place: str, *, create: bool) -> None:
        """`place` is a folder or a URL. Raises UsageError if it cannot be used; does not connect yet."""
        self.place = place
        url = place if "://" in place else Path(place).absolute().as_uri()
        try:
            self._store, self._folder = open_store(url, create=create)
        except ValueError as error:
            raise UsageError(f"{error}.") from None

    def name(self, path: str) -> str:
        """Return an object's full name, for a person."""
        return f"{self.place.rstrip('/')}/{path}"

    async def put_segment(self, topic: Topic, partition: int, segment: Segment, stored: bytes) -> None:
        await self._put(segment_path(topic, partition, segment), stored)

    async def content(self, topic: Topic, partition: int, segment: Segment) -> bytes:
        """Return a segment's content. Raises FaultFound if it is missing or not a single bit as it was stored."""
        path = segment_path(topic, partition, segment)
        stored = await self._get(path)
        if stored is None:
            raise FaultFound(f"{self.name(path)} is missing: the archive is not whole.")
        try:
            return await asyncio.to_thread(content_of, segment, stored)
        except SegmentBroken as error:
            raise FaultFound(f"{self.name(path)} {error}.") from None

    async def manifest(self) -> Manifest | None:
        """Return the manifest of the last finished export, or None if no export has finished. Raises FaultFound."""
        return await self._manifest(MANIFEST)

    async def exported(self) -> Manifest | None:
        """Return what the next export goes on from: an unfinished one that got further, or the last finished one."""
        return newer(await self.manifest(), await self._manifest(UNFINISHED))

    async def keep_unfinished(self, manifest: Manifest) -> None:
        await self._put(UNFINISHED, encode_manifest(manifest))

    async def finish(self, manifest: Manifest) -> None:
        """Make the manifest that of the archive, and delete what only the one before it names.

        After a crash in between, some segments stay that no manifest names.
        """
        before, named = await self.manifest(), {segment_path(*place) for place in manifest.segments()}
        await self._put(MANIFEST, encode_manifest(manifest))
        await self._call(_delete, self._store, UNFINISHED)
        for place in before.segments() if before is not None else ():
            if segment_path(*place) not in named:
                with suppress(ArchiveUnavailable):  # a store may not let anyone delete, and then it only takes space
                    await self._call(_delete, self._store, segment_path(*place))

    async def _manifest(self, path: str) -> Manifest | None:
        raw = await self._get(path)
        try:
            return decode_manifest(raw) if raw is not None else None
        except ManifestBroken as error:
            raise FaultFound(f"{self.name(path)} {error}.") from None

    async def _put(self, path: str, content: bytes) -> None:
        await self._call(_put, self._store, self._folder, path, content)

    async def _get(self, path: str) -> bytes | None:
        return await self._call(_get, self._store, path)

    async def _call(self, call: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.to_thread(call, *args)
        except Exception as error:
            # The library's errors have many roots.
            raise ArchiveUnavailable(
                f"{self.place} cannot be used: {type(error).__name__}: {first_line(error)}. Run it again to go on."
            ) from error


def _put(store: Any, folder: Path | None, path: str, content: bytes) -> None:
    obstore.put(store, path, content)
    if folder is not None:
        for synced in (folder / path, (folder / path).parent):
            descriptor = os.open(synced, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _get(store: Any, path: str) -> bytes | None:
    try:
        return bytes(obstore.get(store, path).bytes())
    except FileNotFoundError:
        return None


def _delete(store: Any, path: str) -> None:
    try:
        obstore.delete(store, path)
    except FileNotFoundError:
        return
