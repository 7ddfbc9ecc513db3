"""The children of the embedded stack's supervisor: our services, and devstack's servers.

devstack is imported only by the code that creates these: production images do not contain it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.ops.stack.supervisor import StartFailed

if TYPE_CHECKING:
    from devstack.broker import Broker
    from devstack.life import Watch
    from devstack.postgres import PostgresServer
    from devstack.process import ServerProcess

STOP_TIMEOUT_S: Final = 15.0
"""Longer than a service's own deadline (lifecycle), so that a service that stops by itself is not killed."""


class Service:
    """One of our services, started as `gapless <command>`."""

    def __init__(
        self,
        name: str,
        command: str,
        *,
        folder: Path,
        log_path: Path,
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        """Describe the service.

        :param environment: called at each start, so that a port that is in use by now can be replaced.
        """
        self.name = name
        self._command = command
        self._folder = folder
        self._log_path = log_path
        self._environment = environment
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.is_running else None

    async def start(self) -> None:
        from devstack.process import Launch, ServerProcess

        # -P: so that a folder `services` in the current directory is not imported. The service gets SIGKILL when we
        # die: every service survives it.
        launch = Launch(
            name=self.name,
            command=[sys.executable, "-P", "-m", "services.ops", self._command],
            log_path=self._log_path,
            environment=self._environment(),
            folder=self._folder,
            death_signal=signal.SIGKILL,
        )
        try:
            self._process = await ServerProcess.spawn(launch)
        except OSError as error:
            raise StartFailed(f"{self.name} cannot be started ({error.strerror}).") from error

    def watch(self, silence_s: float) -> Watch | None:
        """Start watching the running process for signs of life; returns None if none runs."""
        return self._process.watch(silence_s) if self._process is not None and self._process.is_running else None

    async def ended(self) -> int:
        assert self._process is not None, "ended before it was started"
        code = await self._process.wait()
        assert code is not None, "waited without a deadline"
        return code

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(number=signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)


class Server:
    """A broker or the Postgres server of devstack: first started by its stack, restarted by us."""

    def __init__(self, name: str, server: Broker | PostgresServer) -> None:
        self.name = name
        self._server = server

    @property
    def pid(self) -> int | None:
        return self._server.pid

    async def start(self) -> None:
        from devstack.errors import DevstackError

        if self._server.is_running:
            return
        try:
            await self._server.start()
        except DevstackError as error:
            raise StartFailed(str(error)) from error

    async def ended(self) -> int:
        process = self._server.process
        assert process is not None, "ended before it was started"
        code = await process.wait()
        assert code is not None, "waited without a deadline"
        return code

    async def stop(self) -> None:
        await self._server.stop()
