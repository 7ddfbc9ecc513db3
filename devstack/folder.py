"""The data folder: locked by one process at a time, with small JSON files that are written atomically."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from devstack.errors import FolderTakenError


def write_json(path: Path, value: dict[str, Any], *, mode: int = 0o644) -> None:
    """Replace `path` by rename: a crash leaves either the old content or the new."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=mode)
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in `path`, or None if it is missing or not a JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class FolderLock:
    """This process's lock on a data folder. The kernel releases it when the process ends, in whatever way."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises FolderTakenError, which names the process that holds it."""
        assert self._descriptor is None, "the lock is held already"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000)
            os.close(descriptor)
            raise FolderTakenError(self._refusal(holder)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_this_process()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. The file stays: if it were removed, two processes could lock two different files."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, holder: bytes) -> str:
        try:
            who = json.loads(holder)
            named = f"process {who['pid']} ({who['command']}, since {who['since']})"
        except (ValueError, TypeError, KeyError):  # it is just writing its name
            named = "another process"
        return (
            f"The data folder {self._folder} is in use by {named}: stop that one first, or choose another data folder."
        )


def _this_process() -> dict[str, Any]:
    program = Path(sys.argv[0]).name or "python"
    return {
        "pid": os.getpid(),
        "command": " ".join([program, *sys.argv[1:]])[:200],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
