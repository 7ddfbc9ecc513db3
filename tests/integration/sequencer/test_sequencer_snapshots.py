"""Snapshots on a real broker, with a real folder as the store.

They are taken while a writer serves, installed by a writer without state, and refused in every way that they can be
wrong. Each test compares with a state folded from 0.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from typing_extensions import override

from schemas.log import Verdict
from services.runtime.kafka.connection import KafkaConnection
from services.sequencer.kafka import KafkaLogs
from services.sequencer.partition.writer import Status
from services.sequencer.ports import FetchedSnapshot, LogPosition
from services.sequencer.snapshots import restore as snapshot_restoring
from services.sequencer.snapshots.manifest import Manifest, decode_manifest, encode_manifest
from services.sequencer.snapshots.object_store import SnapshotStore, SnapshotStoreUnavailable
from services.sequencer.snapshots.restore import SnapshotRestorer
from services.sequencer.snapshots.take import SnapshotTaker
from services.sequencer.store.fold import fold
from services.sequencer.store.rocks import RocksStore
from tests.support.sequencing import Chat, Running, Scene

MESSAGES = 40


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fold wait as for a long log; forty messages would be folded before a snapshot could be found."""
    monkeypatch.setattr(snapshot_restoring, "FOLDED_PER_S", 10)


class Place:
    """A store of snapshots, and changes to it from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        self._work = folder
        self._restorers = 0
        self.snapshot_store = SnapshotStore(self.folder.as_uri())

    def taker(self, *, partitions: int = 4) -> SnapshotTaker:
        return SnapshotTaker(
            self.snapshot_store, dict, partitions=partitions, folder=self._work / "taking", every=1, every_s=1.0
        )

    def restorer(self, partition: int, *, ahead: int = 1) -> SnapshotRestorer:
        self._restorers += 1
        folder = self._work / f"fetched-{self._restorers}"
        return SnapshotRestorer(self.snapshot_store, folder, partition=partition, partitions=4, ahead=ahead)

    @property
    def manifests(self) -> list[Path]:
        return sorted(self.folder.glob("*/*/manifests/*"))

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*/files/*"))

    def rewrite(self, **changes: Any) -> None:
        """Rewrite each manifest with other values and a correct digest."""
        for path in self.manifests:
            path.write_bytes(encode_manifest(msgspec.structs.replace(decode_manifest(path.read_bytes()), **changes)))


def _refused(partition: int, reason: str) -> float:
    labels = {"partition": str(partition), "reason": reason}
    return REGISTRY.get_sample_value("gapless_sequencer_snapshots_rejected_total", labels) or 0.0


async def _served(scene: Scene, chat: Chat, running: Running, first: int, last: int) -> None:
    await running.until(Status.SERVING)
    sent = [await scene.send(chat, f"text {n}", key=f"m{n}") for n in range(first, last)]
    assert (await scene.outcome_of(chat.partition, sent[-1])).seq == last


async def _taken(scene: Scene, place: Place, name: str) -> Chat:
    """Create a chat of 40 messages with a snapshot in the middle of them, and lose its state folder."""
    chat = await scene.create(name)
    async with scene.writer(chat.partition) as running:
        await _served(scene, chat, running, 0, MESSAGES // 2)
        manifest = await place.taker().take(chat.partition, running.stores[-1])
        assert manifest.position.head.index == 1 + MESSAGES // 2
        await _served(scene, chat, running, MESSAGES // 2, MESSAGES)
    return chat


async def _goes_on_as_if_folded(scene: Scene, chat: Chat, running: Running, sent: int = MESSAGES) -> None:
    """Check that the next message has the next seq, that old ones are known, and that the log is dense."""
    await running.until(Status.SERVING)
    offset = await scene.send(chat, "next", key=f"m{sent}")
    assert (await scene.outcome_of(chat.partition, offset)).seq == sent + 1
    for old in (0, MESSAGES // 2, sent - 1):
        repeat = await scene.outcome_of(chat.partition, await scene.send(chat, f"text {old}", key=f"m{old}"))
        assert repeat.type == "command.duplicate.v1"
    valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
    assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))
    assert [e.outcome.seq for e in valid if e.outcome.type == "message.sent.v1"] == list(range(1, sent + 2))


async def _same_as_folded(scene: Scene, chat: Chat, state_dir: Path, tmp_path: Path) -> None:
    """Compare every key and value, in RocksDB's own order."""
    logs = KafkaLogs(
        kafka=KafkaConnection.plain(scene.kafka), names=scene.names, partition=chat.partition, client_id="test"
    )
    topic_id = await logs.events_topic_id()
    left, fresh = RocksStore(state_dir / str(chat.partition), topic_id), RocksStore(tmp_path / "fresh", topic_id)
    events = await logs.read_events(0)
    try:
        _, end = await events.bounds()
        for store in (left, fresh):
            await fold(events, store, end=end, partitions=scene.partitions)
        assert left.position == fresh.position
        assert _content(left) == _content(fresh)
    finally:
        await events.close()
        left.close()
        fresh.close()


def _content(store: RocksStore) -> dict[bytes, bytes]:
    """Return everything that RocksDB holds.

    The authors of messages are listed one by one, since their grouping depends on when they were written.
    """
    content: dict[bytes, bytes] = {}
    for key, value in store.freeze().db.items():
        assert isinstance(key, bytes)
        assert isinstance(value, bytes)
        if key.startswith(b"a"):
            first = int.from_bytes(key[-8:], "big")
            for place in range(0, len(value), 16):
                content[key[:-8] + (first + place // 16).to_bytes(8, "big")] = value[place : place + 16]
        else:
            content[key] = value
    return content


def test_a_writer_without_a_state_installs_a_snapshot_and_goes_on_as_if_it_had_folded(
    kafka: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await _taken(scene, place, "snapshot")
            restorer = _Watched(place.restorer(chat.partition))
            state = tmp_path / "state"
            async with scene.writer(chat.partition, state_dir=state, snapshots=restorer) as running:
                await _goes_on_as_if_folded(scene, chat, running)
            assert [f.position.head.index for f in restorer.installs] == [1 + MESSAGES // 2]
            await _same_as_folded(scene, chat, state, tmp_path)
            assert not list((tmp_path / "taking").iterdir())

    asyncio.run(main())


def test_a_state_that_is_near_enough_is_not_replaced(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await _taken(scene, place, "near")
            restorer = _Watched(place.restorer(chat.partition, ahead=1_000))
            async with scene.writer(chat.partition, snapshots=restorer) as running:
                await _goes_on_as_if_folded(scene, chat, running)
            assert restorer.asked == 0

    asyncio.run(main())


Damage = Callable[[Place], object]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _largest(place: Place) -> Path:
    return max(place.files, key=lambda path: path.stat().st_size)


def _moved_on(place: Place) -> None:
    """Let the manifest claim that its state is further than it is, at a record that is in the log."""
    manifest = decode_manifest(place.manifests[0].read_bytes())
    position = msgspec.structs.replace(manifest.position, head=msgspec.structs.replace(manifest.position.head, term=9))
    place.rewrite(position=position)


def _other_record(place: Place) -> None:
    position = decode_manifest(place.manifests[0].read_bytes()).position
    place.rewrite(position=msgspec.structs.replace(position, last_record=b"another"))


def _beyond(place: Place) -> None:
    position = decode_manifest(place.manifests[0].read_bytes()).position
    place.rewrite(position=msgspec.structs.replace(position, next_offset=10_000))


DAMAGES: dict[str, tuple[str, Damage]] = {
    "a bit of a file": ("digest", lambda place: _flip(_largest(place))),
    "a file that ends early": (
        "digest", lambda place: _largest(place).write_bytes(_largest(place).read_bytes()[:-1]),
    ),
    "a file that goes on": ("digest", lambda place: _largest(place).write_bytes(_largest(place).read_bytes() + b"x")),
    "a file that is gone": ("missing", lambda place: _largest(place).unlink()),
    "a bit of the manifest": ("torn", lambda place: _flip(place.manifests[0])),
    "half a manifest": ("torn", lambda place: place.manifests[0].write_bytes(place.manifests[0].read_bytes()[:99])),
    "another format": ("format", lambda place: place.rewrite(state_format=99)),
    "another topic": ("foreign", lambda place: place.rewrite(topic_id="another")),
    "another number of partitions": ("foreign", lambda place: place.rewrite(partitions=64)),
    "another record": ("stale", _other_record),
    "beyond the log": ("stale", _beyond),
    "another position than its files": ("state", _moved_on),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_snapshot_that_is_not_what_it_should_be_is_refused_and_the_log_is_folded(
    kafka: str, tmp_path: Path, damage: str
) -> None:
    reason, do = DAMAGES[damage]

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await _taken(scene, place, "damaged")
            do(place)
            before = _refused(chat.partition, reason)
            restorer = _Watched(place.restorer(chat.partition))
            state = tmp_path / "state"
            async with scene.writer(chat.partition, state_dir=state, snapshots=restorer) as running:
                await _goes_on_as_if_folded(scene, chat, running)
                assert running.writer.status is Status.SERVING
            assert restorer.installs == []
            assert _refused(chat.partition, reason) == before + 1, "counted once, by its reason"
            await _same_as_folded(scene, chat, state, tmp_path)

    asyncio.run(main())


def test_the_snapshot_before_it_serves_where_the_last_one_is_of_no_use(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await scene.create("second")
            taker = place.taker()
            async with scene.writer(chat.partition) as running:
                await _served(scene, chat, running, 0, 10)
                first = await taker.take(chat.partition, running.stores[-1])
                await _served(scene, chat, running, 10, MESSAGES)
                last = await taker.take(chat.partition, running.stores[-1])
            only_last = {file.digest for file in last.files} - {file.digest for file in first.files}
            sst = next(f for f in last.files if f.name.endswith(".sst") and f.digest in only_last)
            _flip(next(path for path in place.files if path.name == sst.digest))
            restorer = _Watched(place.restorer(chat.partition))
            async with scene.writer(chat.partition, snapshots=restorer) as running:
                await _goes_on_as_if_folded(scene, chat, running)
            assert [f.position for f in restorer.installs] == [first.position]

    asyncio.run(main())


def test_a_state_that_broke_after_it_was_installed_is_not_installed_again(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await _taken(scene, place, "broke")
            restorer = _Watched(place.restorer(chat.partition))
            for _ in range(2):
                async with scene.writer(chat.partition, snapshots=restorer) as running:
                    await running.until(Status.SERVING)
            assert len(restorer.installs) == 1
            assert restorer.asked == 2

    asyncio.run(main())


class _Slow(SnapshotStore):
    """A store that does not answer until the test lets it, and then is unavailable."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.answer = threading.Event()

    @override
    def list_objects(self, prefix: str) -> Sequence[Any]:
        self.answer.wait(300)
        raise SnapshotStoreUnavailable("it never comes back")


def test_a_store_that_does_not_answer_holds_up_nobody(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await _taken(scene, place, "away")
            slow = place.snapshot_store = _Slow(place.folder.as_uri())
            restorer = _Watched(place.restorer(chat.partition))
            async with scene.writer(chat.partition, snapshots=restorer) as running:
                await _goes_on_as_if_folded(scene, chat, running)
                assert not slow.answer.is_set()
            assert (restorer.asked, restorer.installs) == (1, [])
            slow.answer.set()

    asyncio.run(main())


def test_only_what_is_new_is_uploaded_and_what_nobody_needs_goes(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            place = Place(tmp_path)
            chat = await scene.create("shared")
            taker = place.taker()
            manifests: list[Manifest] = []
            put: list[str] = []
            put_file = place.snapshot_store.put_file

            def watched(path: str, file: Path) -> None:
                put.append(path)
                put_file(path, file)

            monkeypatch.setattr(place.snapshot_store, "put_file", watched)
            async with scene.writer(chat.partition) as running:
                for n in range(3):
                    put.clear()
                    await _served(scene, chat, running, n * 5, n * 5 + 5)
                    manifests.append(await taker.take(chat.partition, running.stores[-1]))
                    known = {file.digest for manifest in manifests[:-1] for file in manifest.files}
                    new = {file.digest for file in manifests[-1].files} - known
                    assert {path.rsplit("/", 1)[1] for path in put} == new
                shared = {f.digest for f in manifests[0].files} & {f.digest for f in manifests[1].files}
                assert shared, "RocksDB's files are not written again"
                kept = [decode_manifest(path.read_bytes()) for path in place.manifests]
                assert kept == manifests[1:], "two are kept"
                assert {f.digest for m in manifests for f in m.files} == {path.name for path in place.files}

                monkeypatch.setattr("services.sequencer.snapshots.manifest.FILE_KEPT", timedelta(0))
                await asyncio.sleep(0.01)  # by the store's clock a file is older than the next manifest
                manifests.append(await taker.take(chat.partition, running.stores[-1]))
                named = {f.digest for m in manifests[2:] for f in m.files}
                assert {path.name for path in place.files} == named, "no file is left that no snapshot names"

    asyncio.run(main())


class _Watched:
    """A restorer that records what happened to its snapshots."""

    def __init__(self, inner: SnapshotRestorer) -> None:
        self._inner = inner
        self.asked = 0
        self.installs: list[FetchedSnapshot] = []

    @property
    def ahead(self) -> int:
        return self._inner.ahead

    async def fetch(
        self, topic_id: str, position: LogPosition, end: int, in_log: Callable[[LogPosition], Awaitable[bool]]
    ) -> FetchedSnapshot | None:
        self.asked += 1
        return await self._inner.fetch(topic_id, position, end, in_log)

    def installed(self, fetched: FetchedSnapshot) -> None:
        self.installs.append(fetched)
        self._inner.installed(fetched)

    def reject(self, fetched: FetchedSnapshot) -> None:
        self._inner.reject(fetched)
