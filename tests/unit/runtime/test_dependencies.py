"""A dependency's probe: what it reports on /readyz, in the gauge and in the log, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog
from prometheus_client import REGISTRY

from services.runtime.health.dependencies import Dependency, ProbeResult, probed
from services.runtime.health.health import Readiness

pytestmark = pytest.mark.anyio

EVERY_S = 0.01
DOUBT_S = 0.15


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A server that answers as the test says, and counts its requests."""

    def __init__(self) -> None:
        self.answer: ProbeResult | Exception | None = ProbeResult()
        """The answer; None means that it hangs."""
        self.fails_every_second_time = False
        self.asked = 0
        self._asked = asyncio.Event()

    async def __call__(self) -> ProbeResult:
        self.asked += 1
        self._asked.set()
        if self.fails_every_second_time:
            return ProbeResult(trouble="comes and goes") if self.asked % 2 else ProbeResult()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def probed(self, times: int) -> None:
        """Wait until `times` more probes have begun, so at least one fewer have ended."""
        target = self.asked + times
        async with asyncio.timeout(120):
            while self.asked < target:
                self._asked.clear()
                await self._asked.wait()


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value("gapless_dependency_reachable", {"dependency": name})


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while not await condition():
            await asyncio.sleep(EVERY_S)


def dependency(server: Server, readiness: Readiness, *, required: bool = True, doubt_s: float = DOUBT_S) -> Dependency:
    return Dependency("thing", server, readiness, required=required, every_s=EVERY_S, timeout_s=0.2, doubt_s=doubt_s)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (ProbeResult(trouble="Thing has no leader."), "Thing has no leader."),
        (OSError("no route"), "thing cannot be reached (OSError: no route)."),
        (None, "No answer from thing within 0.2 s."),
    ],
    ids=["says so", "fails", "hangs"],
)
async def test_an_outage_makes_unready_with_its_reason_in_the_gauge_and_in_one_line_each_way(
    failure: ProbeResult | Exception | None, says: str
) -> None:
    server, readiness = Server(), Readiness()
    with structlog.testing.capture_logs() as lines:
        async with probed(dependency(server, readiness)):
            assert (await readiness.report()).ready
            assert gauge("thing") == 1
            server.answer = failure
            await until(lambda: _ready(readiness, False))
            assert (await readiness.report()).reasons == (says,)
            assert gauge("thing") == 0
            await server.probed(3)
            server.answer = ProbeResult()
            await until(lambda: _ready(readiness, True))
            assert gauge("thing") == 1
    said = [(line["event"], line["dependency"]) for line in lines]
    assert said == [("dependency.unreachable", "thing"), ("dependency.reachable", "thing")]


async def _ready(readiness: Readiness, expected: bool) -> bool:
    return (await readiness.report()).ready is expected


async def test_a_failure_that_passes_within_the_time_of_doubt_changes_nothing() -> None:
    server, readiness = Server(), Readiness()
    with structlog.testing.capture_logs() as lines:
        async with probed(dependency(server, readiness, doubt_s=60)):
            await server.probed(2)
            server.answer = OSError("a hiccup")
            await server.probed(5)
            assert (await readiness.report()).ready
            assert gauge("thing") == 1
            server.answer = ProbeResult()
            await server.probed(2)
    assert lines == []


async def test_one_success_in_an_outage_is_not_the_end_of_it() -> None:
    server, readiness = Server(), Readiness()
    async with probed(dependency(server, readiness)):
        await until(lambda: _ready(readiness, True))
        server.answer = OSError("gone")
        await until(lambda: _ready(readiness, False))
        server.fails_every_second_time = True
        for _ in range(6):
            await server.probed(2)
            assert not (await readiness.report()).ready
        server.fails_every_second_time = False
        server.answer = ProbeResult()
        await until(lambda: _ready(readiness, True))


async def test_asking_for_readiness_costs_no_probe() -> None:
    server, readiness = Server(), Readiness()
    async with probed(Dependency("thing", server, readiness, every_s=60)):
        for _ in range(50):
            assert (await readiness.report()).ready
    assert server.asked == 1


async def test_what_is_not_required_is_a_note_while_it_is_away_and_the_process_stays_ready() -> None:
    server, readiness = Server(), Readiness()
    async with probed(dependency(server, readiness, required=False)):
        server.answer = ProbeResult(trouble="The store is away.")

        async def noted() -> bool:
            return (await readiness.report()).notes == ("The store is away.",)

        await until(noted)
        assert (await readiness.report()).ready
        assert gauge("thing") == 0
        server.answer = ProbeResult()

        async def over() -> bool:
            return (await readiness.report()).notes == () and gauge("thing") == 1

        await until(over)


async def test_a_probe_that_will_not_end_is_not_started_a_second_time() -> None:
    running = 0
    thawed = asyncio.Event()

    async def frozen() -> ProbeResult:
        nonlocal running
        running += 1
        while not thawed.is_set():
            try:
                await thawed.wait()
            except asyncio.CancelledError:
                continue
        return ProbeResult()

    readiness = Readiness()
    async with probed(Dependency("thing", frozen, readiness, every_s=EVERY_S, timeout_s=0.05, doubt_s=0.1)):
        await until(lambda: _ready(readiness, False))
        await asyncio.sleep(0.3)
        assert running == 1
        thawed.set()
        await until(lambda: _ready(readiness, True))
