"""The store of snapshots, as a folder: what is fetched from it is what was stored, and the store keeps it."""

from __future__ import annotations

import errno
from hashlib import blake2b
from pathlib import Path
from unittest import mock

import pytest

from services.runtime.settings import SettingsError
from services.sequencer.snapshots.manifest import DIGEST_BYTES, SnapshotFile, SnapshotRejected
from services.sequencer.snapshots.object_store import DownloadStopped, SnapshotStore

WAYS = ("linked", "copied", "downloaded")


def _snapshot_store(folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> SnapshotStore:
    """Return a store on a folder: on the state's disk, on another one, or as if it were no folder."""
    snapshot_store = SnapshotStore(folder.as_uri())
    if way == "copied":
        monkeypatch.setattr("os.link", mock.Mock(side_effect=OSError(errno.EXDEV, "another disk")))
    elif way == "downloaded":
        monkeypatch.setattr(snapshot_store, "_folder", None)
    return snapshot_store


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_linked_where_that_is_possible_and_else_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A file that RocksDB modifies is never linked: the store must keep what its digest says."""
    snapshot_store = _snapshot_store(tmp_path / "a store", way, monkeypatch)
    content = bytes(range(256)) * 10_000
    (tmp_path / "state").mkdir()
    for name in ("000007.sst", "MANIFEST-000005", "CURRENT"):
        (tmp_path / "file").write_bytes(content)
        digest = blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
        snapshot_store.put_file(f"t/0/files/{digest}", tmp_path / "file")
        file = SnapshotFile(name=name, bytes=len(content), digest=digest)
        snapshot_store.fetch(f"t/0/files/{digest}", file, tmp_path / "state", lambda: False)
        fetched, stored = tmp_path / "state" / name, tmp_path / "a store" / "t" / "0" / "files" / digest
        assert fetched.read_bytes() == content
        assert fetched.samefile(stored) == (way == "linked" and name.endswith(".sst"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stored", [b"", b"another", b"right, and more", None])
def test_a_file_that_is_not_what_was_stored_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, stored: bytes | None
) -> None:
    snapshot_store = _snapshot_store(tmp_path, way, monkeypatch)
    file = SnapshotFile(name="000007.sst", bytes=5, digest=blake2b(b"right", digest_size=DIGEST_BYTES).hexdigest())
    if stored is not None:
        snapshot_store.put("files/it", stored)
    (tmp_path / "state").mkdir()
    with pytest.raises(SnapshotRejected, match="missing" if stored is None else "digest"):
        snapshot_store.fetch("files/it", file, tmp_path / "state", lambda: False)
    snapshot_store.put("files/it", b"right")
    (tmp_path / "state" / file.name).unlink(missing_ok=True)
    with pytest.raises(DownloadStopped):
        snapshot_store.fetch("files/it", file, tmp_path / "state", lambda: True)


@pytest.mark.parametrize("url", ["nonsense", "gopher://x/y", "s3://"])
def test_a_url_that_names_no_store_is_told_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="GAPLESS_SEQUENCER_SNAPSHOTS"):
        SnapshotStore(url)
