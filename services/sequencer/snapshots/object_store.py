"""The object store that snapshots are in, by its URL: a folder, S3, Google's, Azure's. Every call blocks: in threads.

How it is reached beyond the URL (keys, region, endpoint) is the library's own: AWS_*, GOOGLE_*, AZURE_* variables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.store import from_url

from services.runtime.settings import SettingsError
from services.sequencer.snapshots.manifest import DIGEST_BYTES, RejectReason, SnapshotFile, SnapshotRejected, Stored

REQUEST_S: Final = "20s"
CONNECT_S: Final = "3s"
RETRIED: Final = 2
RETRIED_FOR: Final = timedelta(seconds=20)
CHUNK_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
"""Of a file on this machine: it stays in the processor's caches from the disk to its digest."""
MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""A longer one is none: a state of a thousand files has one of 150 kB."""

_NEVER_WRITTEN_AGAIN: Final = ".sst"
"""RocksDB's files of this kind are made once and deleted; it writes on in others."""

_NO_SUCH_OBJECT: Final = "gapless-is-the-store-there"

P = ParamSpec("P")
T = TypeVar("T")


class SnapshotStoreUnavailable(Exception):
    """The store does not do what it is asked; it may later."""


class DownloadStopped(Exception):
    """Whoever asked no longer wants it."""


def _call(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return call(*args, **kwargs)
    except FileNotFoundError:
        raise
    except Exception as error:
        # The library's errors have many roots; their first line says what happened, the rest is for its authors.
        raise SnapshotStoreUnavailable(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error


class SnapshotStore:
    """Puts, lists, fetches, deletes. Everything raises SnapshotStoreUnavailable."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. Raises SettingsError where the URL is none that can be used."""
        self._folder: Path | None = None
        """Of the store, where it is one of this machine."""
        try:
            if url.startswith("file:"):
                self._store: Any = from_url(url, mkdir=True)
                self._folder = Path(url2pathname(urlsplit(url).path))
            else:
                options: Any = {"timeout": REQUEST_S, "connect_timeout": CONNECT_S}
                retries: Any = {"max_retries": RETRIED, "retry_timeout": RETRIED_FOR}
                self._store = from_url(url, client_options=options, retry_config=retries)
        except Exception as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SettingsError(f"GAPLESS_SEQUENCER_SNAPSHOTS: {url!r} names no object store: {first}") from error

    def probe(self) -> None:
        """Ask the store for something that is not there: it answers, or this raises SnapshotStoreUnavailable."""
        if self._folder is not None:
            if not self._folder.is_dir():
                raise SnapshotStoreUnavailable(f"there is no folder {self._folder}")
            return
        with suppress(FileNotFoundError):
            _call(obstore.head, self._store, _NO_SUCH_OBJECT)

    def put(self, path: str, content: bytes) -> None:
        """There is all of it, or nothing."""
        _call(obstore.put, self._store, path, content)

    def put_file(self, path: str, file: Path) -> None:
        _call(obstore.put, self._store, path, file)

    def list_objects(self, prefix: str) -> Sequence[Stored]:
        found = _call(lambda: obstore.list(self._store, prefix=prefix).collect())
        return [Stored(path=str(o["path"]), bytes=int(o["size"]), modified=o["last_modified"]) for o in found]

    def read(self, path: str) -> bytes:
        """A manifest. Raises SnapshotRejected where it is gone, or far too long."""
        try:
            got = _call(obstore.get, self._store, path)
            if got.meta["size"] > MANIFEST_BYTES:
                raise SnapshotRejected(RejectReason.TORN, f"a manifest of {got.meta['size']} bytes")
            return bytes(_call(got.bytes))
        except FileNotFoundError as error:
            raise SnapshotRejected(RejectReason.MISSING, "the manifest is gone") from error

    def fetch(self, path: str, file: SnapshotFile, folder: Path, stopped: Callable[[], bool]) -> None:
        """A file into a folder, its digest computed on the way.

        Raises SnapshotRejected if it is another file, DownloadStopped, OSError.

        Nothing is synced: after a power cut RocksDB finds what is torn by its own checksums, and the state is wiped.
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
        """What was written to `target`, piece by piece."""
        chunks = iter(_call(obstore.get, self._store, path).stream(min_chunk_size=CHUNK_BYTES))
        with target.open("xb") as file:
            while (chunk := _call(next, chunks, None)) is not None:
                file.write(chunk)
                yield chunk

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):  # another was faster
                _call(obstore.delete, self._store, path)


def _link_or_copy(stored: Path, target: Path) -> Iterator[memoryview]:
    """What `target` then is, piece by piece: a second name of the stored file where that is possible, or a copy of it.

    It is read where it is now: what the digest is made of is what will be opened."""
    linked = False
    if target.suffix == _NEVER_WRITTEN_AGAIN:
        with suppress(OSError):  # another disk, or another's file
            os.link(stored, target)
            linked = True
    if not linked:
        shutil.copyfile(stored, target)
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with target.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


def describe_files(folder: Path, known: dict[tuple[int, int, int], str]) -> list[SnapshotFile]:
    """The files of a folder with their digests; `known` spares reading a file again that a former folder had too.

    By the file itself (inode, bytes, time of its last write): RocksDB's files are never changed once they are there.
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
