"""One server for all workers of a test run: the first that needs it starts it, and stops it after the last one's end.

Workers coordinate by files in the folder of the run. The kernel releases the locks of a worker that dies.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


@contextmanager
def shared(folder: Path, name: str, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Yield the address of the server called `name`, started by `start` if no worker of this run has started it."""
    address = folder / f"{name}.address"
    with (folder / f"{name}.users").open("w") as users, (folder / f"{name}.starting").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if address.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield address.read_text(encoding="utf-8")
            return
        with start() as started:
            address.write_text(started, encoding="utf-8")
            fcntl.flock(starting, fcntl.LOCK_UN)
            try:
                yield started
            finally:
                fcntl.flock(starting, fcntl.LOCK_EX)  # from here on, a worker that needs a server starts its own
                address.unlink()
                fcntl.flock(starting, fcntl.LOCK_UN)
                fcntl.flock(users, fcntl.LOCK_EX)
