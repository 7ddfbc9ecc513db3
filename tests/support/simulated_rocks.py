"""A disk with real RocksDB on it, for simulated machines: what SIGKILL leaves is a copy of the live folder's files."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from random import Random

from services.sequencer.errors import StateBroken
from services.sequencer.ports import StateStore
from services.sequencer.store.rocks import RocksStore
from tests.support.simulated_snapshots import Shelf
from tests.support.simulated_store import Damage, Image


class RocksDisk:
    """A disk as in tests/support/simulated_store.py, with real RocksDB.

    The killed process's RocksDB stays open in this one, so each life of the folder continues in a copy of it: the files
    as the operating system has them, including the write-ahead log.
    """

    def __init__(self, random: Random, root: Path, shelf: Shelf) -> None:
        self._random = random
        self._root = root
        self._shelf = shelf
        self._folder = root / "0"
        self._copies: list[Path] = []
        self._opened: list[RocksStore] = []
        self._lives = 0

    def open(self, topic_id: str) -> StateStore:
        self._move_on(self._folder)
        store = RocksStore(self._folder, topic_id, records_per_write=self._random.choice((1, 5, 50)))
        self._opened.append(store)
        return store

    def keep_copy(self) -> None:
        if self._folder.exists():
            copy = self._root / f"copy-{len(self._copies)}"
            copied(self._folder, copy)
            self._copies.append(copy)

    def take_snapshot(self) -> None:
        if not self._opened:
            return
        store, folder = self._opened[-1], self._root / f"snapshot-{len(self._shelf)}"
        with contextlib.suppress(StateBroken):  # wiped, and not opened again
            frozen = store.freeze()
            while not store.link(frozen, folder):
                time.sleep(0.001)
            self._shelf[folder] = Image(store.topic_id, frozen.position)

    def damage(self, damage: Damage) -> None:
        match damage:
            case Damage.SNAPSHOT if self._shelf:
                self._move_on(self._random.choice(list(self._shelf)))
            case Damage.OLDER if self._copies:
                self._move_on(self._random.choice(self._copies))
            case Damage.WIPED:
                self._move_on(None)
            case Damage.FOREIGN:
                self._move_on(None)
                RocksStore(self._folder, "another").close()
            case Damage.TORN:
                self._move_on(self._folder)
                logs = sorted(self._folder.glob("*.log")) if self._folder.exists() else []
                if logs and self._random.random() < 0.7:
                    logs[-1].write_bytes(logs[-1].read_bytes()[: -self._random.randint(1, 60)])
                elif self._folder.exists():
                    (self._folder / "CURRENT").write_bytes(b"nonsense")
            case _:
                pass

    def close(self) -> None:
        for store in self._opened:
            with contextlib.suppress(Exception):
                store.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _move_on(self, source: Path | None) -> None:
        self._lives += 1
        folder = self._root / str(self._lives)
        if source is not None and source.exists():
            copied(source, folder)
        self._folder = folder


def copied(source: Path, target: Path) -> None:
    """Copy the folder as of one moment.

    RocksDB's threads go on tidying it, even those of the killed process, so the copy is repeated if anything changed
    meanwhile.
    """
    while True:
        with contextlib.suppress(shutil.Error, FileNotFoundError):
            before = _files(source)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("LOCK", "LOG*"))
            if before == _files(source) == _files(target):
                return
        shutil.rmtree(target, ignore_errors=True)


def _files(folder: Path) -> dict[str, int]:
    return {
        entry.name: entry.stat().st_size
        for entry in folder.iterdir()
        if entry.name != "LOCK" and not entry.name.startswith("LOG")
    }
