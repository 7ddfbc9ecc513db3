"""Runs one service in the foreground, with its settings from GAPLESS_* variables.

Each service is imported only when it is run: a sequencer does not load a web framework, and a production image needs
only the dependencies of its own service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import structlog
import typer

from services.ops.cli.terminal import exit_on_error
from services.ops.cli.variables import unknown_variables
from services.runtime.settings import LogSettings, Settings, load_settings

if TYPE_CHECKING:
    from services.runtime.process.lifecycle import Supervisor

SHUTDOWN_TIMEOUT_S = 10.0
SERVICES = ("ingest", "sequencer", "projector", "query", "live", "api")
S = TypeVar("S", bound=Settings)
log = structlog.get_logger(__name__)


def ingest(worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False) -> None:
    """Accept commands over HTTP and append them to chat.commands, in GAPLESS_INGEST_WORKERS processes.

    Exit code, of all services: 0 stopped as requested, 1 crashed, 2 wrong settings, 3 killed while stopping.
    """
    from services.ingest.app import run
    from services.ingest.settings import IngestProcessSettings
    from services.ops.processes.ingest_workers import run_ingest_workers, stop_at_end_of_input

    async def serve(settings: IngestProcessSettings, supervisor: Supervisor) -> None:
        if worker:
            supervisor.start("parent", stop_at_end_of_input(supervisor), may_end=True)
        if settings.ingest.workers > 1:
            await run_ingest_workers(settings, supervisor)
        else:
            await run(settings, supervisor)

    _serve("ingest", IngestProcessSettings, serve, lambda settings: settings.logs)


def sequencer() -> None:
    """Decide commands exactly once and in order, and append their outcomes to chat.events."""
    from services.sequencer.app import run
    from services.sequencer.settings import SequencerSettings

    _serve("sequencer", SequencerSettings, run, lambda settings: settings.logs)


def projector() -> None:
    """Write chat.events into the Postgres read model."""
    from services.projector.app import run
    from services.projector.settings import ProjectorSettings

    _serve("projector", ProjectorSettings, run, lambda settings: settings.logs)


def query() -> None:
    """Serve the read model over HTTP."""
    from services.query.app import run
    from services.query.settings import QueryProcessSettings

    _serve("query", QueryProcessSettings, run, lambda settings: settings.logs)


def live() -> None:
    """Stream what happens in chats to their members, over server-sent events and WebSocket."""
    from services.live.app import run
    from services.live.settings import LiveProcessSettings

    _serve("live", LiveProcessSettings, run, lambda settings: settings.logs)


def api() -> None:
    """Run ingest, query and live on one port, which several processes may share (GAPLESS_HTTP_REUSE_PORT=true)."""
    from services.ops.processes.api import ApiSettings, run

    _serve("api", ApiSettings, run, lambda settings: settings.logs)


def _serve(
    service: str,
    settings_type: type[S],
    run: Callable[[S, Supervisor], Awaitable[None]],
    logs: Callable[[S], LogSettings],
) -> None:
    from services.runtime.process.lifecycle import run_service

    with exit_on_error():
        settings = load_settings(settings_type)

    def serve(supervisor: Supervisor) -> Awaitable[None]:
        for unknown in unknown_variables():  # logging is configured by now
            log.warning("unknown_variable", variable=unknown.name, meant=unknown.meant)
        return run(settings, supervisor)

    code = run_service(
        serve,
        service=service,
        logs=logs(settings),
        shutdown_timeout_s=SHUTDOWN_TIMEOUT_S,
    )
    raise typer.Exit(code)
