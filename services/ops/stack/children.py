"""What the embedded stack runs, as children of the supervisor: our services, and devstack's servers.

devstack is imported by whoever makes these, and only then: no production image has it.
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
"""More than a service takes by its own deadline (lifecycle), so that it is never cut off twice."""


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
        """:param environment: asked at each start, so that a port that was taken meanwhile can be another one."""
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

        # -P: a folder `services` in the current directory is not ours. SIGKILL with us: every service survives it.
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
        """Starts to look for signs of life of the process that runs now; None when there is none."""
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
    """A broker or the Postgres server of devstack: already started by its stack, started again by us."""

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
