"""Liveness, readiness and metrics: `/healthz`, `/readyz` and `/metrics`, the same on every service.

A process is alive if its event loop turns; a supervisor restarts a process that is not. It is ready if it can do its
job; a load balancer sends nothing to a process that is not ready, and the reasons say what is missing. The two are
separate so that an outage of Kafka or Postgres does not restart processes that only have to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.runtime.observe.metrics import exposition
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.serving.server import HttpServer
from services.runtime.settings import HttpSettings
from services.runtime.web.middleware_stack import middleware_of
from services.runtime.web.plain_routes import PlainRoute
from services.runtime.web.problem_handlers import install_problems
from services.runtime.web.query_strings import QueryLimitMiddleware

CHECK_TIMEOUT_S: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reason why a process cannot do its job."""

    sentence: str
    needs_operator: bool = False
    """Whether waiting does not help: the trouble lasts until an operator does what the sentence says."""


ReadinessCheck = Callable[[], Awaitable[str | Trouble | None]]
"""Returns None if all is well, otherwise what is missing. A bare string is a trouble that may pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessReport:
    """Whether the process can do its job, and every reason if it cannot."""

    ready: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Faults that an operator should know of although the process can do its job."""
    needs_operator: tuple[str, ...] = ()
    """The reasons that do not pass by themselves."""


class Readiness:
    """The reasons why this process cannot do its job: checks that are polled, and troubles that are reported.

    `add_check` is for conditions that can be checked at any time (does Postgres answer?); `report_trouble` and
    `clear_trouble` are for what a worker finds out (partition 3 is corrupt). A later report replaces the one of the
    same name.
    """

    def __init__(self) -> None:
        self._checks: dict[str, ReadinessCheck] = {}
        self._asked: dict[str, asyncio.Task[str | Trouble | None]] = {}
        self._troubles: dict[str, Trouble] = {}
        self._notes: dict[str, str] = {}

    def add_check(self, name: str, check: ReadinessCheck) -> None:
        """Run check at each /readyz, for at most CHECK_TIMEOUT_S."""
        self._checks[name] = check

    def report_trouble(self, name: str, sentence: str, *, needs_operator: bool = False) -> None:
        """Mark the process as not ready, for this reason."""
        self._troubles[name] = Trouble(sentence, needs_operator)

    def clear_trouble(self, name: str) -> None:
        """Remove the trouble of this name, if any."""
        self._troubles.pop(name, None)

    def note(self, name: str, sentence: str) -> None:
        """Show a note on /readyz without affecting readiness. A later note of the same name replaces it."""
        self._notes[name] = sentence

    def clear_note(self, name: str) -> None:
        """Remove the note of this name, if any."""
        self._notes.pop(name, None)

    async def report(self) -> ReadinessReport:
        """Run all checks concurrently and return what they found."""
        answers = await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
        found = [*self._troubles.values(), *(_trouble(answer) for answer in answers if answer is not None)]
        return ReadinessReport(
            ready=not found,
            reasons=tuple(trouble.sentence for trouble in found),
            needs_operator=tuple(trouble.sentence for trouble in found if trouble.needs_operator),
            notes=tuple(self._notes.values()),
        )

    async def _ask(self, name: str, check: ReadinessCheck) -> str | Trouble | None:
        """Return the answer of one check, in time, without waiting for a check that ignores its cancellation.

        (psycopg takes 10 s to give up a statement on a frozen server.) Such a check is not run again before it has
        ended, so that probes cannot pile up connections.
        """
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = asyncio.ensure_future(_answer(name, check))
        await asyncio.wait({asked}, timeout=CHECK_TIMEOUT_S)
        if asked.done() and not asked.cancelled():
            return asked.result()
        asked.cancel()
        return f"The check {name} did not answer within {CHECK_TIMEOUT_S:g} s."


def _trouble(answer: str | Trouble) -> Trouble:
    return answer if isinstance(answer, Trouble) else Trouble(answer)


async def _answer(name: str, check: ReadinessCheck) -> str | Trouble | None:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - any exception of a check means: not ready
        warn_throttled(_log, "readiness_check_failed", kind=name, check=name, exc_info=error)
        return f"The check {name} failed ({type(error).__name__})."


def health_routes(readiness: Readiness, *, service: str) -> list[PlainRoute]:
    """Return the routes of the three paths."""

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive", "service": service})

    async def readyz(_request: Request) -> JSONResponse:
        report = await readiness.report()
        body = {
            "ready": report.ready,
            "reasons": list(report.reasons),
            "needs_operator": list(report.needs_operator),
            "notes": list(report.notes),
        }
        return JSONResponse(body, status_code=200 if report.ready else 503)

    async def metrics(_request: Request) -> Response:
        content, content_type = exposition()
        return Response(content, headers={"Content-Type": content_type})

    return [PlainRoute("/healthz", healthz), PlainRoute("/readyz", readyz), PlainRoute("/metrics", metrics)]


class OpsServer:
    """The health and metrics server of a service without an API, run by the loop that does the work.

    `async with OpsServer(settings, readiness, service="sequencer") as server:` listens on ops_port until the
    block ends; `server.port` is the actual port. It shares the service's loop on purpose: /healthz answers only while
    that loop turns. It installs no signal handlers.
    """

    def __init__(self, settings: HttpSettings, readiness: Readiness, *, service: str) -> None:
        app = Starlette(
            routes=health_routes(readiness, service=service),
            middleware=[*middleware_of(settings, {}), Middleware(QueryLimitMiddleware)],
        )
        app.router.redirect_slashes = False
        install_problems(app)
        self._server = HttpServer.of(app, settings, port=settings.ops_port, port_variable="GAPLESS_OPS_PORT")

    @property
    def port(self) -> int:
        """The TCP port, known after start()."""
        return self._server.port

    @property
    def url(self) -> str:
        """Base URL, known after start()."""
        return self._server.url

    async def start(self) -> None:
        """Listen.

        :raises CannotListen: the port is taken.
        """
        await self._server.start()
        _log.info("ops_server_listening", url=self.url)

    async def stop(self) -> None:
        """Stop listening. Does nothing if the server was never started."""
        await self._server.stop(timeout_s=1.0)

    async def __aenter__(self) -> OpsServer:
        await self.start()
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.stop()
