"""A response takes its connection over from HTTP, over real sockets, in the clear and over TLS."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from devstack.certificates import Authority
from services.runtime.serving.connection import Connection
from services.runtime.serving.framing import LAST_CHUNK, chunk
from services.runtime.serving.takeover import takeover_of
from tests.support.raw_http import RawHttp
from tests.support.taking_over import Served, eventually, get, taking_over

pytestmark = pytest.mark.anyio

EVENT = b"data: 1\n\n"


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.in_folder(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, authority: Authority) -> Authority | None:
    return authority if request.param == "https" else None


@pytest.fixture
async def served(tls: Authority | None) -> AsyncIterator[Served]:
    async with taking_over(tls) as served:
        yield served


@pytest.fixture
async def plain() -> AsyncIterator[Served]:
    async with taking_over() as served:
        yield served


@pytest.fixture
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    logged = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in logged if record.levelname in ("WARNING", "ERROR")] == []


async def begun(client: RawHttp, served: Served, path: str = "/stream") -> None:
    """Ask for a stream and read the beginning of it."""
    number = len(served.takers)
    answer = await client.ask(get(path))
    assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "private, no-store"
    assert await client.exactly(len(chunk(served.first))) == chunk(served.first)
    await eventually(lambda: len(served.takers) > number)


@pytest.mark.usefixtures("nothing_is_logged")
async def test_a_response_begins_over_http_and_goes_on_in_the_hands_of_its_taker(served: Served) -> None:
    async with served.client() as client:
        await begun(client, served)
        taker = served.takers[0]
        for number in range(3):
            taker.transport.write(chunk(b"data: %d\n\n" % number))
        taker.transport.write(LAST_CHUNK)
        expected = b"".join(chunk(b"data: %d\n\n" % number) for number in range(3)) + LAST_CHUNK
        assert await client.exactly(len(expected)) == expected
        await client.send(b"whatever")
        await eventually(lambda: taker.received == b"whatever")
        assert taker.lost == 0
        taker.transport.close()
        assert await client.closed() == b""
        await eventually(lambda: taker.lost)
    assert taker.lost == 1


@pytest.mark.usefixtures("nothing_is_logged")
async def test_the_server_forgets_a_connection_that_was_taken_over_and_still_counts_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Connection]] = []
    connection_made = Connection.connection_made

    def noted(self: Connection, transport: asyncio.Transport) -> None:
        made.append(weakref.ref(self))
        connection_made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", noted)
    gc.disable()  # it is freed without a search for cycles, which production makes rarely
    try:
        async with served.client() as client:
            await begun(client, served)
            await eventually(lambda: made[0]() is None)
            shared = served.shared
            assert (len(shared.connections), len(shared.tasks), len(shared.waiting)) == (0, 0, 0)
            assert shared.taken == 1
        await eventually(lambda: served.takers[0].lost)
        assert shared.taken == 0
    finally:
        gc.enable()


async def test_a_stream_is_measured_as_a_request_that_ended_when_it_was_taken_over(plain: Served) -> None:
    def counted() -> float:
        labels = {"method": "GET", "route": "/stream", "status": "200"}
        return REGISTRY.get_sample_value("gapless_http_request_duration_seconds_count", labels) or 0

    before = counted()
    async with plain.client() as client:
        await begun(client, plain)
        await eventually(lambda: counted() == before + 1)
        assert REGISTRY.get_sample_value("gapless_http_requests_in_flight") == 0


async def test_a_stream_over_http_1_0_is_not_chunked_and_ends_with_its_connection(plain: Served) -> None:
    async with plain.client() as client:
        answer = await client.ask(get("/stream", version="1.0"))
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert await client.exactly(len(plain.first)) == plain.first
        await eventually(lambda: plain.takers)
        plain.takers[0].transport.write(EVENT)
        plain.takers[0].transport.close()
        assert await client.closed() == EVENT


async def test_no_response_over_http_1_0_is_chunked(plain: Served) -> None:
    async with plain.client() as client:
        answer = await client.ask(get("/plain", version="1.0"))
        assert "transfer-encoding" not in answer.headers
        assert await client.closed() == b"one two"
    async with plain.client() as client:
        answer = await client.ask(get("/ids", version="1.0"))
        assert answer.status == 200
        assert len(answer.body) == int(answer.headers["content-length"])
        assert await client.closed() == b""


async def test_head_of_a_stream_is_a_head_and_its_connection_stays(plain: Served) -> None:
    async with plain.client() as client:
        await client.send(get("/stream", method="HEAD"))
        assert (await client.answer(head_only=True)).status == 200
        assert (await client.ask(get("/ids"))).status == 200
    assert plain.takers == []


@pytest.mark.usefixtures("nothing_is_logged")
@pytest.mark.parametrize(
    "more",
    [get("/ids"), get("/ids")[:10], get("/ids") * 3, b"\x00 nonsense", b"x" * 20_000],
    ids=["a request", "half a head", "requests", "nonsense", "a lot"],
)
async def test_a_client_that_sends_more_than_its_request_is_closed_instead(served: Served, more: bytes) -> None:
    async with served.client() as client:
        await client.send(get("/held") + more)
        assert (await client.answer()).status == 200
        await served.held.wait()
        await client.exactly(len(chunk(served.first)))
        served.leave.set()
        assert await client.closed() == b""
    await eventually(lambda: not served.shared.connections)
    assert (served.refused, served.takers, served.shared.taken) == (1, [], 0)


@pytest.mark.usefixtures("nothing_is_logged")
async def test_the_connection_of_a_client_that_has_gone_is_not_taken_over(served: Served) -> None:
    async with served.client() as client:
        await client.send(get("/held"))
        await served.held.wait()
    await eventually(lambda: not served.shared.connections)
    served.leave.set()
    await eventually(lambda: served.refused)
    assert (served.takers, served.shared.taken) == ([], 0)


@pytest.mark.usefixtures("nothing_is_logged")
async def test_a_stop_of_the_server_neither_waits_for_taken_connections_nor_closes_them(served: Served) -> None:
    async with served.client() as client, asyncio.timeout(60):
        await begun(client, served)
        await served.server.stop(timeout_s=60)
        with pytest.raises(OSError):
            async with served.client():
                pass
        served.takers[0].transport.write(EVENT)
        assert await client.exactly(len(EVENT)) == EVENT
        served.takers[0].transport.close()
        assert await client.closed() == b""


async def test_the_servers_deadlines_do_not_apply_to_a_taken_connection(served: Served) -> None:
    async with served.client() as client:
        await begun(client, served)
        served.shared.check(asyncio.get_running_loop().time() + 1e6)
        served.takers[0].transport.write(EVENT)
        assert await client.exactly(len(EVENT)) == EVENT


async def test_taken_connections_count_against_the_servers_limit(tls: Authority | None) -> None:
    async with taking_over(tls, max_connections=2) as served:
        async with served.client() as first, served.client() as second:
            await begun(first, served)
            await begun(second, served)
            async with served.client() as third:
                answer = await third.answer()
                assert (answer.status, answer.reason) == (503, "unavailable")
        await eventually(lambda: served.shared.taken == 0)
        async with served.client() as client:
            assert (await client.ask(get("/ids"))).status == 200


@pytest.mark.parametrize("path", ["/stream", "/held"])
async def test_the_taker_hears_that_its_client_does_not_read_even_if_it_was_so_before(
    served: Served, path: str
) -> None:
    served.first = b"x" * 16 * 1024 * 1024
    if served.tls is not None:  # a TLS transport does not count what it has handed to the one below
        served.second = b"x" * 1024 * 1024
    async with served.client() as client:
        await client.send(get(path))
        if path == "/held":
            await served.held.wait()
            (connection,) = served.shared.connections
            await eventually(lambda: connection.flow.write_paused)  # type: ignore[union-attr]
            served.leave.set()
        await eventually(lambda: served.takers and served.takers[0].paused == [True])
        assert (await client.answer()).status == 200
        expected = b"".join(chunk(body) for body in (served.first, served.second) if body)
        assert await client.exactly(len(expected)) == expected
        await eventually(lambda: served.takers[0].paused == [True, False])


async def test_an_application_that_fails_after_it_took_over_closes_the_connection(plain: Served) -> None:
    async with plain.client() as client:
        assert (await client.ask(get("/fails"))).status == 200
        assert await client.closed() == chunk(plain.first)
        await eventually(lambda: plain.takers[0].lost)


async def test_a_takeover_needs_our_server_and_a_response_that_was_begun() -> None:
    async def never(_message: Message) -> None:
        raise AssertionError

    errors: list[str] = []

    async def begin(scope: Scope, send: Send) -> None:
        try:
            takeover_of(scope).take(asyncio.Protocol())
        except RuntimeError as error:
            errors.append(str(error))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with taking_over(endpoint=begin) as served, served.client() as client:
        assert (await client.ask(get("/ws"))).status == 204
        assert (await client.ask(get("/ids"))).status == 200

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(scope, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as other:
        await other.get("/")
    assert [error.split(" ")[0] for error in errors] == ["a", "only"]
