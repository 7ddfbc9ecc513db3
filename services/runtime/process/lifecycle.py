"""The life of a service's process: start, supervise, stop within a deadline, exit with a meaningful code.

    async def serve(supervisor: Supervisor) -> None:
        async with open_pool(...) as pool:
            supervisor.start("worker", worker(pool))
            await supervisor.stop_requested()
        # leaving the block is the graceful stop

    sys.exit(run_service(serve, service="projector", logs=settings.logs, shutdown_timeout_s=10))

SIGTERM, SIGINT or a crashed task request the stop; `serve` then has shutdown_timeout_s to return. A supervised task
that fails, or returns before the stop, ends the whole process with an error: a service that half works is worse than
one that is restarted. After a second signal, or past the deadline, the process exits at once; that is safe, because
every service survives SIGKILL at any line.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop

from schemas.wire.extensions import code_in_use
from services.runtime.observe.logs import configure_logging
from services.runtime.process.crashpoints import arm_from_environment
from services.runtime.settings import LogSettings, SettingsError
from services.runtime.tls import reload_server_certificates

CANCEL_GRACE_S: Final = 2.0

_log = structlog.get_logger(__name__)


class ExitCode(enum.IntEnum):
    """Exit codes, for the supervisor that started the process."""

    STOPPED = 0
    """Stopped as requested."""
    CRASHED = 1
    """An unexpected failure; the log has the traceback. Restart the process."""
    WRONG_SETTINGS = 2
    """Restarting will not help; the one sentence on standard error says what to change."""
    STOP_OVERDUE = 3
    """Asked to stop, and killed at the deadline."""


class TaskEnded(Exception):
    """A supervised task returned before a stop was requested."""


class Supervisor:
    """Watches the tasks of a service and signals them to stop."""

    def __init__(self, *, on_stop: Callable[[], None] = lambda: None) -> None:
        """Create a supervisor.

        :param on_stop: called once when the stop is requested, before any waiting task is woken.
        """
        self._on_stop = on_stop
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reason: str | None = None
        self._failure: BaseException | None = None
        self._hangup_reactions: list[Callable[[], None]] = []

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set()

    @property
    def failure(self) -> BaseException | None:
        """The first crash of a supervised task, if any."""
        return self._failure

    async def stop_requested(self) -> None:
        """Wait until the process is asked to stop, by a signal or by a crash."""
        await self._stop.wait()

    def request_stop(self, reason: str) -> None:
        """Request a graceful stop. Only the first reason is logged."""
        if self._reason is None:
            self._reason = reason
            self._on_stop()
            _log.info("stopping", reason=reason)
        self._stop.set()

    def on_hangup(self, reaction: Callable[[], None]) -> None:
        """Call reaction at SIGHUP instead of reloading certificates."""
        self._hangup_reactions.append(reaction)

    def hang_up(self) -> None:
        """Handle SIGHUP: reload what can be replaced at run time; stop if there is nothing to reload."""
        for reaction in self._hangup_reactions:
            reaction()
        if not self._hangup_reactions and not reload_server_certificates():
            self.request_stop("SIGHUP")

    def start(self, name: str, work: Coroutine[Any, Any, Any], *, may_end: bool = False) -> asyncio.Task[Any]:
        """Run work as a supervised task.

        :param may_end: whether work may return before the stop; if not, returning counts as a crash.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, may_end=may_end))
        return task

    def _ended(self, task: asyncio.Task[Any], *, may_end: bool) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None and not may_end and not self.stopping:
            error = TaskEnded(f"The task {task.get_name()} returned before a stop was requested.")
        if error is None:
            return
        _log.critical("task_crashed", task=task.get_name(), exc_info=error)
        if self._failure is None:
            self._failure = error
        self.request_stop(f"task {task.get_name()} crashed")

    async def cancel_all(self) -> None:
        """Cancel all running tasks and wait for them, at most CANCEL_GRACE_S."""
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CANCEL_GRACE_S)


Serve = Callable[[Supervisor], Awaitable[None]]


def run_service(serve: Serve, *, service: str, logs: LogSettings, shutdown_timeout_s: float = 10.0) -> ExitCode:
    """Run serve on a fresh uvloop until it returns. Blocks; call it from the main thread, once per process.

    If even cancelling does not end it by the stop deadline, the process exits at once (os._exit).
    """
    configure_logging(logs, service=service)
    # A thread, so that it works even if the loop is stuck. It is started when the stop is requested.
    watchdog = threading.Timer(shutdown_timeout_s + 2 * CANCEL_GRACE_S, _end_now, (service,))
    watchdog.daemon = True
    try:
        arm_from_environment()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(serve, shutdown_timeout_s, watchdog))
    except SettingsError as error:
        return refuse_settings(error)
    finally:
        watchdog.cancel()


def refuse_settings(error: SettingsError) -> ExitCode:
    """Print the error's sentence to standard error and return the exit code."""
    sys.stderr.write(f"{error}\n")
    return ExitCode.WRONG_SETTINGS


async def _run(serve: Serve, shutdown_timeout_s: float, watchdog: threading.Timer) -> ExitCode:
    supervisor = Supervisor(on_stop=watchdog.start)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, supervisor, number)
    loop.add_signal_handler(signal.SIGHUP, supervisor.hang_up)
    _log.info("started", pid=os.getpid(), code=code_in_use())
    serving = asyncio.ensure_future(serve(supervisor))
    stop = asyncio.create_task(supervisor.stop_requested())
    try:
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({serving}, timeout=shutdown_timeout_s)
        overdue = not serving.done()
        if overdue:
            _log.error("stop_overdue", deadline_s=shutdown_timeout_s)
            serving.cancel()
            await asyncio.wait({serving}, timeout=CANCEL_GRACE_S)
        supervisor.request_stop("the service returned")
        await supervisor.cancel_all()
        return _exit_code(supervisor, serving, overdue=overdue)
    finally:
        stop.cancel()


def _exit_code(supervisor: Supervisor, serving: asyncio.Future[None], *, overdue: bool) -> ExitCode:
    error = serving.exception() if serving.done() and not serving.cancelled() else None
    if isinstance(error, SettingsError):
        return refuse_settings(error)
    if error is not None:
        _log.critical("service_crashed", exc_info=error)
    if error is not None or supervisor.failure is not None:
        return ExitCode.CRASHED
    if overdue:
        return ExitCode.STOP_OVERDUE
    _log.info("stopped")
    return ExitCode.STOPPED


def _on_signal(supervisor: Supervisor, number: signal.Signals) -> None:
    if supervisor.stopping:  # a second signal: its sender will not wait any longer
        _log.warning("stopped_at_once", signal=number.name)
        os._exit(128 + number)
    supervisor.request_stop(number.name)


def _end_now(service: str) -> None:
    os.write(2, f"{service} did not stop in time and was cut off\n".encode())
    os._exit(ExitCode.STOP_OVERDUE)
