"""A folder for the states of one process: the first slot that no running process holds.

A restarted process finds its predecessor's state and folds only what came since. Two processes on one machine never
share a folder, even if one of them was paused for minutes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

_MAX_SLOTS: Final = 1_000


class StateSlot:
    """Held by a lock that the kernel releases when the process ends, however it ends."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def take(cls, root: Path) -> StateSlot:
        """Take the first free slot in `root`. Raises OSError if `root` cannot be written."""
        root.mkdir(parents=True, exist_ok=True)
        for number in range(_MAX_SLOTS):
            lock = os.open(root / f"slot-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            folder = root / f"slot-{number}"
            folder.mkdir(exist_ok=True)
            slot = cls(folder, lock)
            shutil.rmtree(slot.snapshots, ignore_errors=True)  # of one that was interrupted
            return slot
        raise OSError(
            f"all {_MAX_SLOTS} state slots in {root} are held; set GAPLESS_SEQUENCER_STATE_DIR to another folder"
        )

    @property
    def snapshots(self) -> Path:
        """Folder for snapshots in transfer: on the disk of the states, and empty when the process starts."""
        return self.folder / "snapshots"

    def release(self) -> None:
        os.close(self._lock)
