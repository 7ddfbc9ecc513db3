"""What a snapshot of a partition's state says of itself, when it is of no use, and which old ones may go. Pure.

A snapshot is a manifest and the files it names. The files lie beside it under their digests, so that two snapshots
share what they have in common; the manifest is written last, so that half a snapshot is none.

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
"""Of manifests. What is in the files has a number of its own."""

KEPT: Final = 2
"""Snapshots of a partition, the newest ones."""
FILE_KEPT: Final = timedelta(hours=24)
"""A younger file is never deleted: somebody may be about to name it."""
FILE_FRESH: Final = FILE_KEPT / 2
"""An older file that is there already is uploaded again before it is named: nobody takes long enough between the two
for it to be deleted under his hands, and clocks may differ by hours."""

DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(r"[0-9]{6,20}\.sst|MANIFEST-[0-9]{6,20}|CURRENT", re.ASCII)
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}", re.ASCII)


class RejectReason(StrEnum):
    """Why a snapshot is of no use; the values are those of the metric's label."""

    TORN = "torn"
    """The manifest is not what somebody wrote."""
    FORMAT = "format"
    """Of another release."""
    FOREIGN = "foreign"
    """Of another log, or of another partition of it."""
    STALE = "stale"
    """The log does not have the record it ended with: it was truncated since."""
    MISSING = "missing"
    """A file is not there."""
    DIGEST = "digest"
    """A file is not what it was."""
    STATE = "state"
    """The files make no state at the position that the manifest tells."""
    USED = "used"
    """It was installed once already, and that state broke."""


class SnapshotRejected(Exception):
    """A snapshot that is not installed."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SnapshotFile(Struct, frozen=True, kw_only=True):
    """One file of a state's folder."""

    name: str
    bytes: int
    digest: str
    """blake2b, in hex."""


class Manifest(Struct, frozen=True, kw_only=True):
    """A state at one position of one partition of one log."""

    format: int = FORMAT
    state_format: int
    """Of keys and values, services.sequencer.store.rocks.FORMAT."""
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
    """Its digest, and then itself."""
    body = msgspec.json.encode(manifest)
    return digest_of(body).encode() + b"\n" + body


def decode_manifest(raw: bytes) -> Manifest:
    """Raises SnapshotRejected for whatever `encode_manifest` has not made, and for what it made in another format."""
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
        # A name is a place on our disk.
        if not _NAME.fullmatch(file.name) or not _DIGEST.fullmatch(file.digest) or file.bytes < 0:
            raise SnapshotRejected(RejectReason.TORN, f"no file of a state: {file!r:.200}")
    if len(names) != len(set(names)):
        raise SnapshotRejected(RejectReason.TORN, "a file is named twice")
    return manifest


class _ManifestHeader(Struct):
    """What every format says."""

    format: int


def check_belongs(manifest: Manifest, *, state_format: int, topic_id: str, partition: int, partitions: int) -> None:
    """Raises SnapshotRejected where it is of another release, log or partition."""
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
    """`chance` keeps two writers apart that show the same position."""
    return f"{folder}/manifests/{manifest.position.next_offset:020d}-{chance}"


def to_upload(files: Iterable[SnapshotFile], there: Iterable[Stored], now: datetime) -> list[SnapshotFile]:
    """Those that are not there, or have been there for so long that another may be deleting them. Each digest once."""
    fresh = {_last(stored.path) for stored in there if now - stored.modified < FILE_FRESH}
    wanted = {file.digest: file for file in files if file.digest not in fresh}
    return list(wanted.values())


def manifests_to_keep(manifests: Sequence[Stored]) -> list[Stored]:
    """The last ones that were written: by the store's clock, not by their positions, which may be of a log that was
    truncated since."""
    return sorted(manifests, key=lambda stored: (stored.modified, stored.path), reverse=True)[:KEPT]


def files_to_delete(files: Sequence[Stored], named: set[str], now: datetime) -> list[Stored]:
    """Those that no kept manifest names and that nobody can be about to name. `now` is by the store's clock."""
    return [s for s in files if _last(s.path) not in named and now - s.modified > FILE_KEPT]


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]
