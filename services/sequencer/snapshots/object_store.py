"""The object store of snapshots, by its URL. All calls block: use threads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import obstore

from services.runtime.object_stores import first_line, open_store
from services.runtime.settings import SettingsError
from services.sequencer.snapshots.manifest import DIGEST_BYTES, RejectReason, SnapshotFile, SnapshotRejected, Stored

CHUNK_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
"""Chunk size for files on this machine: a chunk stays in the processor's caches until it is digested."""
MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a manifest; that of a state with a thousand files has 150 kB."""

_NEVER_WRITTEN_AGAIN: Final = ".sst"
"""RocksDB writes files of this kind once and never changes them, unlike others."""

_NO_SUCH_OBJECT: Final = "gapless-is-the-store-there"

P = ParamSpec("P")
T = TypeVar("T")


class SnapshotStoreUnavailable(Exception):
    """The store does not answer or refuses; it may answer later."""


class DownloadStopped(Exception):
    """The caller no longer wants the file."""


def _call(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return call(*args, **kwargs)
    except FileNotFoundError:
        raise
    except Exception as error:
        # The library's errors have many roots.
        raise SnapshotStoreUnavailable(f"{type(error).__name__}: {first_line(error)}") from error


class SnapshotStore:
    """Puts, lists, fetches and deletes objects. Every method raises SnapshotStoreUnavailable."""

    def __init__(self, url: str) -> None:
        """Does not connect yet. Raises SettingsError if the URL cannot be used."""
        try:
            self._store, self._folder = open_store(url)
        except ValueError as error:
            raise SettingsError(f"GAPLESS_SEQUENCER_SNAPSHOTS: {error}") from error

    def probe(self) -> None:
        """Ask the store for an object that does not exist. Raises SnapshotStoreUnavailable if it does not answer."""
        if self._folder is not None:
            if not self._folder.is_dir():
                raise SnapshotStoreUnavailable(f"there is no folder {self._folder}")
            return
        with suppress(FileNotFoundError):
            _call(obstore.head, self._store, _NO_SUCH_OBJECT)

    def put(self, path: str, content: bytes) -> None:
        """Put an object, atomically."""
        _call(obstore.put, self._store, path, content)

    def put_file(self, path: str, file: Path) -> None:
        _call(obstore.put, self._store, path, file)

    def list_objects(self, prefix: str) -> Sequence[Stored]:
        found = _call(lambda: obstore.list(self._store, prefix=prefix).collect())
        return [Stored(path=str(o["path"]), bytes=int(o["size"]), modified=o["last_modified"]) for o in found]

    def read(self, path: str) -> bytes:
        """Return a manifest's content. Raises SnapshotRejected if it does not exist or is far too long."""
        try:
            got = _call(obstore.get, self._store, path)
            if got.meta["size"] > MANIFEST_BYTES:
                raise SnapshotRejected(RejectReason.TORN, f"a manifest of {got.meta['size']} bytes")
            return bytes(_call(got.bytes))
        except FileNotFoundError as error:
            raise SnapshotRejected(RejectReason.MISSING, "the manifest is gone") from error

    def fetch(self, path: str, file: SnapshotFile, folder: Path, stopped: Callable[[], bool]) -> None:
        """Fetch a file into a folder and verify its digest.

        Nothing is synced: after a power cut RocksDB detects torn files by its checksums, and the state is wiped.
        Raises SnapshotRejected if it is not that file, DownloadStopped, OSError.
        """
        digest = blake2b(digest_size=DIGEST_BYTES)
        count = 0
        target = folder / file.name
        try:
            local = self._folder
            for chunk in self._downloaded(path, target) if local is None else _link_or_copy(local / path, target):
                if stopped():
                    raise DownloadStopped
                count += len(chunk)
                if count > file.bytes:
                    break
                digest.update(chunk)
        except FileNotFoundError as error:
            raise SnapshotRejected(RejectReason.MISSING, f"{file.name} is not there") from error
        if (count, digest.hexdigest()) != (file.bytes, file.digest):
            raise SnapshotRejected(RejectReason.DIGEST, f"{file.name} is not what was stored")

    def _downloaded(self, path: str, target: Path) -> Iterator[Any]:
        """Yield the content in chunks while writing it to `target`."""
        chunks = iter(_call(obstore.get, self._store, path).stream(min_chunk_size=CHUNK_BYTES))
        with target.open("xb") as file:
            while (chunk := _call(next, chunks, None)) is not None:
                file.write(chunk)
                yield chunk

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):  # another process has deleted it
                _call(obstore.delete, self._store, path)


def _link_or_copy(stored: Path, target: Path) -> Iterator[memoryview]:
    """Make `target` a hard link to the stored file if possible, else a copy, and yield its content in chunks.

    The content is read from `target`, so that the digest covers what will be opened."""
    linked = False
    if target.suffix == _NEVER_WRITTEN_AGAIN:
        with suppress(OSError):  # another disk, or the file of another user
            os.link(stored, target)
            linked = True
    if not linked:
        shutil.copyfile(stored, target)
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with target.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


def describe_files(folder: Path, known: dict[tuple[int, int, int], str]) -> list[SnapshotFile]:
    """Return the files of a folder with their digests. `known` caches digests by inode, size and time of last write.

    That is safe because RocksDB never changes a file once it is written.
    """
    files = []
    seen: dict[tuple[int, int, int], str] = {}
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        digest = known.get(key) or _digest_of_file(path)
        seen[key] = digest
        files.append(SnapshotFile(name=path.name, bytes=stat.st_size, digest=digest))
    known.clear()
    known.update(seen)
    return files


def _digest_of_file(path: Path) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
