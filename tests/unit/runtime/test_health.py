"""Readiness and its reasons, and the server that shows them in a service without an API."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from services.runtime.health import health
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.http import build_app
from services.runtime.serving.server import CannotListen, HttpServer, ServerError
from services.runtime.settings import HttpSettings
from tests.support.sequencing import until

REQUESTS = "gapless_http_request_duration_seconds_count"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def fine() -> None:
    return None


async def missing() -> str:
    return "Postgres does not answer."


async def broken() -> str:
    raise OSError("no route")


async def hanging() -> None:
    await asyncio.Event().wait()


async def test_all_checks_fine_is_ready() -> None:
    readiness = Readiness()
    readiness.add_check("a", fine)
    report = await readiness.report()
    assert (report.ready, report.reasons) == (True, ())


async def test_every_reason_is_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)
    readiness = Readiness()
    for name, check in {"ok": fine, "db": missing, "net": broken, "slow": hanging}.items():
        readiness.add_check(name, check)
    readiness.report_trouble("partition 3", "Partition 3 is corrupt at offset 7.")
    report = await readiness.report()
    assert not report.ready
    assert report.reasons == (
        "Partition 3 is corrupt at offset 7.",
        "Postgres does not answer.",
        "The check net failed (OSError).",
        "The check slow did not answer within 0.05 s.",
    )


async def test_a_check_that_will_not_end_is_neither_waited_for_nor_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)
    thawed, asked = asyncio.Event(), 0

    async def frozen() -> None:
        nonlocal asked
        asked += 1
        while not thawed.is_set():
            try:
                await thawed.wait()
            except asyncio.CancelledError:
                continue

    readiness = Readiness()
    readiness.add_check("db", frozen)
    for _ in range(3):
        async with asyncio.timeout(30):
            assert (await readiness.report()).reasons == ("The check db did not answer within 0.05 s.",)
    assert asked == 1
    thawed.set()
    assert (await readiness.report()).ready


async def test_a_trouble_is_replaced_and_cleared_by_name() -> None:
    readiness = Readiness()
    readiness.report_trouble("p3", "first")
    readiness.report_trouble("p3", "second")
    assert (await readiness.report()).reasons == ("second",)
    readiness.clear_trouble("p3")
    readiness.clear_trouble("p3")
    assert (await readiness.report()).ready


async def test_the_ops_server_shows_health_on_a_free_port_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    readiness = Readiness()
    async with OpsServer(HttpSettings(), readiness, service="projector") as server:
        assert server.port > 0
        assert signal.getsignal(signal.SIGTERM) is before
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, verify=False) as client:
            assert (await client.get("/healthz")).json() == {"status": "alive", "service": "projector"}
            readiness.note("topics", "Partition 9 is not used.")
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()) == (
                200,
                {"ready": True, "reasons": [], "needs_operator": [], "notes": ["Partition 9 is not used."]},
            )
            readiness.clear_note("topics")
            readiness.report_trouble("p", "Partition 3 is corrupt.")
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            sentence = "Partition 3 is corrupt."
            assert ready.json() == {"ready": False, "reasons": [sentence], "needs_operator": [], "notes": []}
            readiness.report_trouble("p", sentence, needs_operator=True)
            assert (await client.get("/readyz")).json()["needs_operator"] == [sentence]
            metrics = await client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=")
            assert "process_cpu_seconds_total" in metrics.text
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


def counted() -> list[float]:
    """Return how many requests of two kinds this process has counted."""
    kinds = [("HEAD", "/healthz"), ("GET", "/problems/{reason}")]
    labels = [{"method": method, "route": route, "status": "200"} for method, route in kinds]
    return [REGISTRY.get_sample_value(REQUESTS, each) or 0.0 for each in labels]


async def test_the_ops_server_answers_all_else_as_a_service_with_an_api_does() -> None:
    plain = build_app(title="A", service="a", http=HttpSettings(), readiness=Readiness())
    with_api = HttpServer(plain, host="127.0.0.1", port=0)
    await with_api.start()
    requests = [
        ("HEAD", "/healthz"), ("POST", "/healthz"), ("OPTIONS", "/metrics"), ("GET", "/v1/chats"),
        ("GET", "/healthz/"), ("GET", f"/readyz?{'a&' * 40}"), ("GET", "/problems"), ("GET", "/problems/forbidden"),
        ("GET", "/problems/none"),
    ]  # fmt: skip
    before = counted()  # other tests of this process have asked too
    try:
        async with OpsServer(HttpSettings(), Readiness(), service="a") as ops:
            for method, path in requests:
                answers = []
                for url in (ops.url, with_api.url):
                    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
                        answer = await client.request(method, path, headers={"X-Request-Id": "one"})
                    varying = {"date", "traceparent"}
                    kept = {name: value for name, value in answer.headers.items() if name not in varying}
                    answers.append((answer.status_code, kept, answer.content))
                assert answers[0] == answers[1], (method, path)
            await until(lambda: counted() == [number + 2 for number in before], "one request of each server is counted")
    finally:
        await with_api.stop()


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"Cannot listen on 127.0.0.1:{port} .* GAPLESS_OPS_PORT"):
            await OpsServer(HttpSettings(ops_port=port), Readiness(), service="x").start()


async def test_processes_can_share_a_port_when_asked_to() -> None:
    first = HttpServer(FastAPI(), host="127.0.0.1", port=0, reuse_port=True)
    await first.start()
    second = HttpServer(FastAPI(), host="127.0.0.1", port=first.port, reuse_port=True)
    await second.start()
    assert second.port == first.port
    await first.stop()
    await second.stop()


async def test_an_application_that_does_not_start_is_an_error_and_not_the_end_of_the_process() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if app.title:
            raise RuntimeError("no")
        yield

    with pytest.raises(ServerError, match="did not start"):
        await HttpServer(FastAPI(lifespan=lifespan), host="127.0.0.1", port=0).start()
