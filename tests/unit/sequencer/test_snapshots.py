"""Manifests, what makes a snapshot useless, what may be deleted; and the files of a state while it is written."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.ids import CommandKey, UserId
from schemas.log import Head
from services.sequencer.errors import FilesMoved, StateBroken
from services.sequencer.ports import LogPosition
from services.sequencer.rules.state import DedupBytes, StateChanges, pack_dedup
from services.sequencer.snapshots.manifest import (
    FILE_FRESH,
    FILE_KEPT,
    KEPT,
    Manifest,
    RejectReason,
    SnapshotFile,
    SnapshotRejected,
    Stored,
    check_belongs,
    decode_manifest,
    digest_of,
    encode_manifest,
    files_to_delete,
    manifests_to_keep,
    to_upload,
)
from services.sequencer.store.format import FORMAT
from services.sequencer.store.rocks import Frozen, RocksStore

CHAT = ids.group_chat_id(UserId("a1111111-1111-4111-8111-111111111111"), "a")
TOPIC = "pGb1QmZ-S_yk3Xw0aLq7bA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

numbers = st.integers(0, 2**62)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
files = st.lists(
    st.builds(
        SnapshotFile,
        name=st.one_of(
            st.integers(0, 10**9).map(lambda n: f"{n:06d}.sst"), st.sampled_from(["CURRENT", "MANIFEST-000005"])
        ),
        bytes=numbers,
        digest=digests,
    ),
    unique_by=lambda file: file.name,
    max_size=5,
)
manifests = st.builds(
    Manifest,
    state_format=st.integers(0, 9),
    topic_id=st.text(max_size=30),
    partition=numbers,
    partitions=numbers,
    position=st.builds(
        LogPosition,
        next_offset=numbers,
        head=st.builds(
            Head, term=numbers, index=numbers, command_offset=st.integers(-1, 2**62), last_timestamp_ms=numbers
        ),
        last_record=st.binary(max_size=16),
    ),
    files=files,
)


@given(manifests)
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(manifests, st.data())
def test_a_manifest_that_is_not_whole_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    raw = encode_manifest(manifest)
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged = data.draw(
        st.sampled_from([raw[:at], raw + b" ", raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], raw[at:] + raw[:at]])
    )
    if damaged != raw:
        with pytest.raises(SnapshotRejected):
            decode_manifest(damaged)


@given(st.binary(max_size=300))
def test_whatever_lies_there_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    for content in (raw, digest_of(raw).encode() + b"\n" + raw):
        with pytest.raises(SnapshotRejected) as caught:
            decode_manifest(content)
        assert caught.value.reason is RejectReason.TORN


@pytest.mark.parametrize(
    "name", ["../000001.sst", "000001.sst/../x", "/etc/passwd", "LOCK", "", ".", "000001.sst\n", "OPTIONS-000007"]
)
def test_a_file_that_no_state_has_is_not_written_anywhere(name: str) -> None:
    manifest = _manifest([SnapshotFile(name=name, bytes=1, digest="0" * 64)])
    with pytest.raises(SnapshotRejected, match="torn"):
        decode_manifest(encode_manifest(manifest))


def test_another_format_is_told_from_a_torn_one() -> None:
    body = b'{"format":2,"whatever":{"comes":"later"}}'
    with pytest.raises(SnapshotRejected) as caught:
        decode_manifest(digest_of(body).encode() + b"\n" + body)
    assert caught.value.reason is RejectReason.FORMAT


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state_format": FORMAT + 1}, RejectReason.FORMAT),
        ({"topic_id": "another"}, RejectReason.FOREIGN),
        ({"partition": 1}, RejectReason.FOREIGN),
        ({"partitions": 8}, RejectReason.FOREIGN),
    ],
)
def test_what_belongs_to_another_is_refused(change: dict[str, int | str], reason: RejectReason) -> None:
    ours = {"state_format": FORMAT, "topic_id": TOPIC, "partition": 0, "partitions": 4}
    check_belongs(_manifest([]), **ours)  # type: ignore[arg-type]
    with pytest.raises(SnapshotRejected) as caught:
        check_belongs(_manifest([]), **{**ours, **change})  # type: ignore[arg-type]
    assert caught.value.reason is reason


ages = st.integers(0, 72 * 3600).map(lambda s: NOW - timedelta(seconds=s))


@given(st.lists(st.tuples(st.integers(0, 20), ages), unique_by=lambda each: each[0]), st.sets(st.integers(0, 20)))
def test_a_file_that_somebody_names_or_may_be_about_to_name_is_not_deleted(
    there: list[tuple[int, datetime]], wanted: set[int]
) -> None:
    """A process that finds a file fresh and names it within FILE_KEPT - FILE_FRESH still finds it there."""
    stored = [Stored(path=f"t/0/files/{n:064x}", bytes=1, modified=modified) for n, modified in there]
    files = [SnapshotFile(name=f"{n:06d}.sst", bytes=1, digest=f"{n:064x}") for n in sorted(wanted)]
    uploaded = {file.digest for file in to_upload(files, stored, NOW)}
    named_later = {file.digest for file in files} - uploaded
    soon = NOW + (FILE_KEPT - FILE_FRESH)
    deleted = {s.path.rsplit("/", 1)[1] for s in files_to_delete(stored, set(), soon)}
    assert not deleted & named_later
    assert named_later <= {s.path.rsplit("/", 1)[1] for s in stored}
    named = {file.digest for file in files}
    late = NOW + timedelta(days=9)
    assert {s.path for s in stored} - {s.path for s in files_to_delete(stored, named, late)} == {
        s.path for s in stored if s.path.rsplit("/", 1)[1] in named
    }


def test_the_manifests_that_are_kept_are_the_last_written_whatever_their_position() -> None:
    """After a log was truncated, the older ones are further on, and useless."""
    stored = [
        Stored(path=f"t/0/manifests/{offset:020d}-x", bytes=1, modified=NOW + timedelta(seconds=at))
        for at, offset in enumerate([500, 900, 100, 200])
    ]
    assert [s.path for s in manifests_to_keep(stored)] == [stored[3].path, stored[2].path]
    assert KEPT == 2


def test_a_frozen_state_is_that_of_its_moment_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    """Enough is written for RocksDB to flush and compact by itself, again and again."""
    store = RocksStore(tmp_path / "s", TOPIC)
    writes = _Writes(store)
    frozen, taken = None, 0
    deadline = time.monotonic() + 120
    while taken < 12:
        assert time.monotonic() < deadline, f"{taken} snapshots after {writes.count} writes"
        writes.write()
        store.write_out()
        if frozen is None:
            frozen = store.freeze()
        try:
            linked = store.link(frozen, tmp_path / "linked")
        except FilesMoved:
            frozen = None
            continue
        if linked:
            assert _opened(tmp_path, frozen.position) == frozen.position.next_offset, (
                "the files are of that very moment"
            )
            frozen, taken = None, taken + 1
    store.close()


def test_a_state_that_was_written_out_again_is_not_that_of_its_moment(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "s", TOPIC)
    writes = _Writes(store)
    writes.write()
    frozen = store.freeze()
    for _ in range(250):  # more than RocksDB keeps in memory
        writes.write()
        store.write_out()
    with pytest.raises(FilesMoved):
        _at_rest(store, frozen, tmp_path)
    store.close()


@pytest.mark.parametrize("after", [1, 3])
def test_files_that_are_put_together_while_they_are_linked_are_linked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    store = RocksStore(tmp_path / "s", TOPIC)
    writes = _Writes(store)
    for _ in range(3):
        writes.write()
        frozen = store.freeze()
        _at_rest(store, frozen, tmp_path)
    link, links = os.link, 0

    def compacting(source: Path, target: Path) -> None:
        nonlocal links
        link(source, target)
        links += 1
        if links == after:
            frozen.db.compact_range(None, None)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", compacting)
        assert not store.link(frozen, tmp_path / "linked")
    assert links == after
    _at_rest(store, frozen, tmp_path)
    assert _opened(tmp_path, frozen.position) == 3
    store.close()


class _Writes:
    """Writes of two thousand random keys and one that identifies the last write."""

    def __init__(self, store: RocksStore) -> None:
        self._store = store
        self._random = Random(1)
        self.count = 0

    def write(self) -> None:
        self.count += 1
        random = self._random
        keys = [CommandKey(b"r" + ids.uuid_bytes(CHAT) + random.randbytes(16)) for _ in range(2_000)]
        changes = StateChanges(dedup={key: _dedup(1, random.randbytes(16)) for key in keys})
        changes.dedup[LAST] = _dedup(self.count)
        self._store.apply(changes, _position(self.count))


def _at_rest(store: RocksStore, frozen: Frozen, tmp_path: Path) -> None:
    deadline = time.monotonic() + 120
    while not store.link(frozen, tmp_path / "linked"):
        assert time.monotonic() < deadline


def _opened(tmp_path: Path, position: LogPosition) -> int | None:
    """Open the linked files in place of another state, and return the last write in them."""
    shutil.copytree(tmp_path / "linked", tmp_path / "copied")
    other = RocksStore(tmp_path / "other", TOPIC)
    try:
        assert other.replace(tmp_path / "copied", position), "the state is at that position"
        dedup = other.load([], [], []).dedup(LAST)
        return None if dedup is None else dedup.seq
    finally:
        other.wipe()
        other.close()


LAST = CommandKey(b"\xff" * 33)


def test_what_was_thrown_away_meanwhile_is_not_linked(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "s", TOPIC)
    store.apply(StateChanges(), _position(3))
    frozen = store.freeze()
    store.wipe()
    with pytest.raises(FilesMoved):
        store.link(frozen, tmp_path / "linked")
    store.close()
    with pytest.raises(StateBroken):
        store.freeze()


@pytest.mark.parametrize("what", ["another position", "another topic", "no state", "nothing", "torn", "empty"])
def test_a_folder_that_is_not_what_it_should_be_leaves_the_state_as_it_was(tmp_path: Path, what: str) -> None:
    store = RocksStore(tmp_path / "s", TOPIC)
    store.apply(StateChanges(dedup={LAST: _dedup(5)}), _position(5))
    other = tmp_path / "other"
    if what in ("another position", "another topic", "torn"):
        made = RocksStore(other, "another" if what == "another topic" else TOPIC)
        made.apply(StateChanges(), _position(8 if what == "another position" else 9))
        made.close()
    if what == "torn":
        (other / "CURRENT").write_bytes(b"nonsense")
    if what == "no state":
        other.mkdir()
        (other / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    if what == "empty":
        other.mkdir()
    assert not store.replace(other, _position(9))
    assert store.position == _position(5)
    found = store.load([], [], [LAST]).dedup(LAST)
    assert found is not None
    assert found.seq == 5
    store.apply(StateChanges(), _position(6))
    store.close()
    assert RocksStore(tmp_path / "s", TOPIC).position == _position(6)


def test_a_state_that_was_moved_aside_by_a_process_that_died_is_put_back(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "s", TOPIC)
    store.apply(StateChanges(), _position(5))
    store.close()
    (tmp_path / "s").rename(tmp_path / "s.former")
    assert RocksStore(tmp_path / "s", TOPIC).position == _position(5)
    assert not (tmp_path / "s.former").exists()


def _position(next_offset: int) -> LogPosition:
    head = Head(term=1, index=next_offset, command_offset=next_offset, last_timestamp_ms=1)
    return LogPosition(next_offset=next_offset, head=head, last_record=b"%d" % next_offset)


def _manifest(files: list[SnapshotFile]) -> Manifest:
    return Manifest(state_format=FORMAT, topic_id=TOPIC, partition=0, partitions=4, position=_position(5), files=files)


def _dedup(seq: int, digest: bytes = b"x" * 16) -> DedupBytes:
    return pack_dedup(digest, seq, 1, 1)
