"""Waits until a connection's socket is readable, by a reader that stays registered with the event loop.

psycopg registers a reader for each wait and removes it again, which with uvloop is a new handle and six system calls:
for a page of history, whose response is read in one or two pieces, more than reading it.
"""

from __future__ import annotations

import asyncio
import os


class Readable:
    """A socket as one task at a time waits for it.

    The reader has a file descriptor of its own for it: libpq closes the socket when a connection breaks, and its number
    may belong to another socket at once. So psycopg's readers and this one do not meet either.
    """

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._own_fileno: int | None = None
        """The registered descriptor; None if none is."""
        self._loop: asyncio.AbstractEventLoop
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait until the socket has input, or its end."""
        if self._own_fileno is None:
            self._loop = asyncio.get_running_loop()
            self._own_fileno = os.dup(self._fileno)
            self._loop.add_reader(self._own_fileno, self._wake)
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def stop(self) -> None:
        """Remove the reader; the next wait registers it again."""
        if self._own_fileno is not None:
            self._loop.remove_reader(self._own_fileno)
            os.close(self._own_fileno)
            self._own_fileno = None

    def _wake(self) -> None:
        if self._waiting is None:  # psycopg waits itself, or the connection is idle: the loop would call this on and on
            self.stop()
        elif not self._waiting.done():
            self._waiting.set_result(None)
