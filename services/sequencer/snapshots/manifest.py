"""The manifest of a snapshot, why a snapshot is rejected, and which old objects may be deleted. Pure.

A snapshot is a manifest and the files it references. Files are stored under their digests, so that snapshots share
equal files; the manifest is written last, so that an incomplete snapshot has none.

    <topic id>/<partition>/files/<digest>
    <topic id>/<partition>/manifests/<next offset>-<chance>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from services.sequencer.ports import LogPosition

FORMAT: Final = 1
"""Format of manifests; the content of the files has a format number of its own."""

KEPT: Final = 2
"""Number of snapshots kept for each partition, the newest ones."""
FILE_KEPT: Final = timedelta(hours=24)
"""A younger file is never deleted: another process may be about to reference it."""
FILE_FRESH: Final = FILE_KEPT / 2
"""Files older than this are uploaded again before a manifest references them, so that garbage collection cannot delete
a file between upload and manifest write, even with hours of clock skew."""

DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(r"[0-9]{6,20}\.sst|MANIFEST-[0-9]{6,20}|CURRENT", re.ASCII)
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}", re.ASCII)


class RejectReason(StrEnum):
    """Why a snapshot is rejected; the values are those of the metric's label."""

    TORN = "torn"
    """The manifest is incomplete or was changed."""
    FORMAT = "format"
    """It was written by an incompatible release."""
    FOREIGN = "foreign"
    """It belongs to another log, or to another partition."""
    STALE = "stale"
    """The log no longer has the record that the snapshot ended with: it was truncated since."""
    MISSING = "missing"
    """A file does not exist."""
    DIGEST = "digest"
    """A file has changed."""
    STATE = "state"
    """The files are not a state at the position in the manifest."""
    USED = "used"
    """It was installed before, and that state was broken."""


class SnapshotRejected(Exception):
    """A snapshot must not be installed."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SnapshotFile(Struct, frozen=True, kw_only=True):
    """One file of a state folder."""

    name: str
    bytes: int
    digest: str
    """blake2b in hex."""


class Manifest(Struct, frozen=True, kw_only=True):
    """A state at one position of one partition of one log."""

    format: int = FORMAT
    state_format: int
    """Format of keys and values, `FORMAT` of services/sequencer/store/format.py."""
    topic_id: str
    partition: int
    partitions: int
    position: LogPosition
    files: Sequence[SnapshotFile]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Stored(Struct, frozen=True, kw_only=True):
    """An object in the store."""

    path: str
    bytes: int
    modified: datetime
    """By the store's clock."""


def digest_of(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the digest of the manifest, followed by the manifest."""
    body = msgspec.json.encode(manifest)
    return digest_of(body).encode() + b"\n" + body


def decode_manifest(raw: bytes) -> Manifest:
    """Raises SnapshotRejected for anything that `encode_manifest` did not write, and for another format."""
    digest, _, body = raw.partition(b"\n")
    if digest != digest_of(body).encode():
        raise SnapshotRejected(RejectReason.TORN, "the manifest does not have its own digest")
    try:
        header = msgspec.json.decode(body, type=_ManifestHeader)
        if header.format != FORMAT:
            raise SnapshotRejected(
                RejectReason.FORMAT, f"manifests of format {header.format} are not read, only {FORMAT}"
            )
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotRejected(RejectReason.TORN, f"the manifest cannot be read: {error}") from error
    names = [file.name for file in manifest.files]
    for file in manifest.files:
        # A name becomes a path on our disk.
        if not _NAME.fullmatch(file.name) or not _DIGEST.fullmatch(file.digest) or file.bytes < 0:
            raise SnapshotRejected(RejectReason.TORN, f"no file of a state: {file!r:.200}")
    if len(names) != len(set(names)):
        raise SnapshotRejected(RejectReason.TORN, "a file is named twice")
    return manifest


class _ManifestHeader(Struct):
    """The fields that every format has."""

    format: int


def check_belongs(manifest: Manifest, *, state_format: int, topic_id: str, partition: int, partitions: int) -> None:
    """Raises SnapshotRejected if the snapshot is of another release, log or partition."""
    if manifest.state_format != state_format:
        raise SnapshotRejected(
            RejectReason.FORMAT, f"a state of format {manifest.state_format}, this release has {state_format}"
        )
    theirs = (manifest.topic_id, manifest.partition, manifest.partitions)
    if theirs != (ours := (topic_id, partition, partitions)):
        raise SnapshotRejected(RejectReason.FOREIGN, f"of topic, partition and partitions {theirs}, not {ours}")


def folder_of(topic_id: str, partition: int) -> str:
    return f"{topic_id}/{partition}"


def file_path(folder: str, digest: str) -> str:
    return f"{folder}/files/{digest}"


def manifest_path(folder: str, manifest: Manifest, chance: str) -> str:
    """`chance` makes the paths of two writers at the same position differ."""
    return f"{folder}/manifests/{manifest.position.next_offset:020d}-{chance}"


def to_upload(files: Iterable[SnapshotFile], there: Iterable[Stored], now: datetime) -> list[SnapshotFile]:
    """Return the files that do not exist or are old enough to be deleted by another process; each digest once."""
    fresh = {_last(stored.path) for stored in there if now - stored.modified < FILE_FRESH}
    wanted = {file.digest: file for file in files if file.digest not in fresh}
    return list(wanted.values())


def manifests_to_keep(manifests: Sequence[Stored]) -> list[Stored]:
    """Return those written last, by the store's clock. Positions do not count: the log may have been truncated."""
    return sorted(manifests, key=lambda stored: (stored.modified, stored.path), reverse=True)[:KEPT]


def files_to_delete(files: Sequence[Stored], named: set[str], now: datetime) -> list[Stored]:
    """Return the files that no kept manifest references and none can be about to. `now` is by the store's clock."""
    return [s for s in files if _last(s.path) not in named and now - s.modified > FILE_KEPT]


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]
