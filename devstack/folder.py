"""The data folder: held by one process at a time, and small JSON files in it that are whole or not there."""

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
    """Replaces `path` by rename: a crash leaves the old content or the new, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=mode)
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`, or None when there is none (missing, or not a JSON object)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class FolderLock:
    """Holds a data folder for this process. The kernel lets go of it when the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock or raises FolderTakenError, naming the process that holds it."""
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
        """Gives the folder back; the file stays, as removing it would let two holders lock two files."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, holder: bytes) -> str:
        try:
            who = json.loads(holder)
            named = f"process {who['pid']} ({who['command']}, since {who['since']})"
        except (ValueError, TypeError, KeyError):  # it was just writing its name
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
