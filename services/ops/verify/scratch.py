"""A SQLite file for what does not fit into memory in one run of a verifier; it is deleted afterwards.

One partition is folded at a time, so the file is about as large as the largest partition of the log. It is not durable:
no journal, no sync; a crash leaves a temporary folder that the system cleans up.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CACHE_KIB: Final = 65_536
NO_STORE: Final = ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE")


class _Bits:
    """The SQL aggregate `bits`: 256 characters, 1 at each given place and 0 elsewhere."""

    def __init__(self) -> None:
        self._characters = ["0"] * 256

    def step(self, place: int) -> None:
        self._characters[place] = "1"

    def finalize(self) -> str:
        return "".join(self._characters)


@contextmanager
def open_scratch(schema: str) -> Iterator[sqlite3.Connection]:
    """Open an empty database, create its tables by the statements of `schema`, and delete it at the end.

    It is in the system's temporary folder: set TMPDIR if that is too small.
    """
    with tempfile.TemporaryDirectory(prefix="gapless-verify-") as folder:
        connection = sqlite3.connect(Path(folder) / "scratch.sqlite", isolation_level=None)
        try:
            for setting in (*NO_STORE, f"cache_size=-{CACHE_KIB}"):
                connection.execute(f"PRAGMA {setting}")
            connection.create_aggregate("bits", 1, _Bits)  # type: ignore[arg-type]  # int, where the stubs say so
            connection.executescript(schema)
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()
