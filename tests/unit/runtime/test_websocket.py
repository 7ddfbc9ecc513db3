"""WebSockets on connections that were taken over, with the client of `websockets` and with bytes of our own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.types import Scope, Send
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from devstack.certificates import Authority
from services.runtime.serving.connection_limits import LINGER_BYTES, LINGER_S
from services.runtime.serving.framing import text_frame
from services.runtime.serving.websocket import (
    MESSAGE_BYTES,
    WebSocketConnection,
    accept,
    wants_websocket,
)
from services.runtime.web.problems import Problem
from tests.support.raw_http import PATIENCE_S, RawHttp
from tests.support.taking_over import Served, eventually, get, taking_over

pytestmark = pytest.mark.anyio

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")
VERSION = b"Sec-WebSocket-Version: 13"
PROTOCOL = b"Sec-WebSocket-Protocol: other, gapless.v1"
HANDSHAKE = get("/ws", *UPGRADE, VERSION, KEY, PROTOCOL)


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.in_folder(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, authority: Authority) -> Authority | None:
    return authority if request.param == "https" else None


class Owner:
    """Owns one WebSocket, and notes what happens to it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.writable: list[bool] = []
        self.lost = 0
        self.connection = WebSocketConnection(
            on_text=self.texts.append,
            on_lost=self.on_lost,
            on_unwritable=lambda: self.writable.append(False),
            on_writable=lambda: self.writable.append(True),
        )
        self.transport: asyncio.Transport | None = None

    def on_lost(self) -> None:
        self.lost += 1


class Sockets:
    """The endpoint of `/ws`."""

    def __init__(self) -> None:
        self.owners: list[Owner] = []
        self.served: Served
        self.port = 0

    async def __call__(self, scope: Scope, send: Send) -> None:
        if not wants_websocket(scope):
            raise Problem("malformed", "This path speaks WebSocket.")
        owner = Owner()
        owner.transport = await accept(scope, send, owner.connection)
        self.owners.append(owner)

    def client(self) -> Any:
        return self.served.client()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientConnection]:
        """Open a connection of the library's own client, which blocks: use it in threads."""
        with ExitStack() as stack:

            def open_one() -> ClientConnection:
                connection = connect(
                    f"{'ws' if self.served.tls is None else 'wss'}://127.0.0.1:{self.served.server.port}/ws",
                    ssl=self.served.tls,
                    subprotocols=[Subprotocol("other"), Subprotocol("gapless.v1")],
                    open_timeout=PATIENCE_S,
                    close_timeout=PATIENCE_S,
                    proxy=None,
                )
                return stack.enter_context(connection)

            yield await asyncio.to_thread(open_one)
            await asyncio.to_thread(stack.close)


@pytest.fixture
async def sockets(tls: Authority | None) -> AsyncIterator[Sockets]:
    sockets = Sockets()
    async with taking_over(tls, endpoint=sockets) as sockets.served:
        yield sockets
        for owner in sockets.owners:
            if owner.transport is not None:
                owner.transport.abort()


@pytest.fixture
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    logged = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in logged if record.levelname in ("WARNING", "ERROR")] == []


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a client's frame."""
    return Frame(opcode, data, fin).serialize(mask=True)


async def opened(client: RawHttp, sockets: Sockets) -> Owner:
    answer = await client.ask(HANDSHAKE)
    assert answer.status == 101
    await eventually(lambda: sockets.owners)
    return sockets.owners[-1]


async def closed_with(client: RawHttp, code: int) -> None:
    """Check that the next thing that the server sends is a close frame of this code."""
    head = await client.exactly(2)
    assert head[0] == 0x80 | Opcode.CLOSE
    assert Close.parse(await client.exactly(head[1])).code == code


@pytest.mark.usefixtures("nothing_is_logged")
async def test_texts_go_both_ways_and_pings_are_answered(sockets: Sockets) -> None:
    async with sockets.connected() as client:
        assert client.subprotocol == "gapless.v1"
        assert client.response is not None
        given = {name.lower() for name in client.response.headers}
        assert "x-request-id" in given
        assert not {"transfer-encoding", "content-length", "sec-websocket-extensions"} & given
        await eventually(lambda: sockets.owners)
        (owner,) = sockets.owners
        assert owner.transport is not None
        for size in (0, 125, 126, 65_535, 65_536):
            text = "é" * (size // 2) + "x" * (size % 2)
            owner.transport.write(text_frame(text.encode()))
            assert await asyncio.to_thread(client.recv, PATIENCE_S) == text
        await asyncio.to_thread(client.send, "hello é")
        pong = await asyncio.to_thread(client.ping)
        assert await asyncio.to_thread(pong.wait, PATIENCE_S)
        assert owner.texts == ["hello é"]
        await asyncio.to_thread(client.close, 1000, "done")
        await eventually(lambda: owner.lost)
        assert (client.close_code, client.close_reason) == (1000, "done")
    assert (owner.lost, sockets.served.shared.taken) == (1, 0)


@pytest.mark.usefixtures("nothing_is_logged")
async def test_the_server_closes_with_code_and_reason_behind_what_it_wrote(sockets: Sockets) -> None:
    async with sockets.connected() as client:
        await eventually(lambda: sockets.owners)
        (owner,) = sockets.owners
        assert owner.transport is not None
        owner.transport.write(text_frame(b"last"))
        owner.connection.close(4001, "expired")
        assert owner.connection.closing
        owner.connection.close(4002, "never sent")
        assert await asyncio.to_thread(client.recv, PATIENCE_S) == "last"
        with pytest.raises(ConnectionClosed) as ended:
            await asyncio.to_thread(client.recv, PATIENCE_S)
        assert ended.value.rcvd == Close(4001, "expired")
        await eventually(lambda: owner.lost)


async def test_a_client_that_does_not_answer_the_closing_handshake_is_aborted(sockets: Sockets) -> None:
    async with sockets.client() as client:
        owner = await opened(client, sockets)
        owner.connection.close(CloseCode.GOING_AWAY)
        await closed_with(client, CloseCode.GOING_AWAY)
        await client.send(frame(Opcode.TEXT, b"too late"))
        before_s = asyncio.get_running_loop().time()
        assert await client.closed() == b""
        assert asyncio.get_running_loop().time() - before_s > LINGER_S / 2
    await eventually(lambda: owner.lost)
    assert owner.texts == []


@pytest.mark.usefixtures("nothing_is_logged")
@pytest.mark.parametrize("size", [1, 3, 10_000])
async def test_frames_cut_anywhere_are_the_messages_that_were_sent(sockets: Sockets, size: int) -> None:
    sent = b"".join(
        [
            frame(Opcode.TEXT, "é1".encode()),
            frame(Opcode.TEXT, "é".encode()[:1], fin=False),
            frame(Opcode.PING, b"within"),
            frame(Opcode.CONT, b"", fin=False),
            frame(Opcode.CONT, "é2".encode()[1:]),
            frame(Opcode.PONG, b"unasked"),
            frame(Opcode.TEXT, b"3" * 200),
            frame(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize()),
        ]
    )
    if size > len(sent):
        sent += frame(Opcode.TEXT, b"behind the close")
    async with sockets.client() as client:
        owner = await opened(client, sockets)
        for start in range(0, len(sent), size):
            await client.send(sent[start : start + size])
            await asyncio.sleep(0)
        rest = await client.closed()
    pong = Frame(Opcode.PONG, b"within").serialize(mask=False)
    assert rest == pong + Frame(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize()).serialize(mask=False)
    assert owner.texts == ["é1", "é2", "3" * 200]
    await eventually(lambda: owner.lost)


@pytest.mark.usefixtures("nothing_is_logged")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.TEXT, b"x" * (MESSAGE_BYTES + 1)), CloseCode.MESSAGE_TOO_BIG),
        (
            frame(Opcode.TEXT, b"x" * MESSAGE_BYTES, fin=False) + frame(Opcode.CONT, b"x", fin=False),
            CloseCode.MESSAGE_TOO_BIG,
        ),
        (frame(Opcode.TEXT, b"x" * 1024 * 1024), CloseCode.MESSAGE_TOO_BIG),
        (frame(Opcode.BINARY, b"x"), CloseCode.UNSUPPORTED_DATA),
        (frame(Opcode.TEXT, b"\xff"), CloseCode.INVALID_DATA),
        (frame(Opcode.TEXT, "é".encode()[:1]), CloseCode.INVALID_DATA),
        (Frame(Opcode.TEXT, b"unmasked").serialize(mask=False), CloseCode.PROTOCOL_ERROR),
        (b"\xc1" + frame(Opcode.TEXT, b"compressed")[1:], CloseCode.PROTOCOL_ERROR),
        (frame(Opcode.CONT, b"of nothing"), CloseCode.PROTOCOL_ERROR),
        (b"\x83\x80abcd", CloseCode.PROTOCOL_ERROR),
    ],
    ids=[
        "too large",
        "too large in two frames",
        "far too large",
        "binary",
        "not UTF-8",
        "half a character",
        "unmasked",
        "a reserved bit",
        "a continuation of nothing",
        "an unknown opcode",
    ],
)
async def test_what_is_not_allowed_closes_with_a_code(sockets: Sockets, sent: bytes, code: int) -> None:
    async with sockets.client() as client:
        owner = await opened(client, sockets)
        await client.send(sent + frame(Opcode.TEXT, b"behind it"))
        await closed_with(client, code)
    await eventually(lambda: owner.lost)
    assert owner.texts == []


@pytest.mark.parametrize("tls", ["http"], indirect=True)
async def test_a_client_that_is_still_sending_sees_why_it_was_closed(sockets: Sockets) -> None:
    async with sockets.client() as client:
        await opened(client, sockets)
        await client.send(frame(Opcode.TEXT, b"x" * LINGER_BYTES))
        await closed_with(client, CloseCode.MESSAGE_TOO_BIG)
        assert await client.reader.read() == b"", "the connection is not reset"


async def test_the_largest_message_is_read(sockets: Sockets) -> None:
    async with sockets.client() as client:
        owner = await opened(client, sockets)
        await client.send(frame(Opcode.TEXT, b"x" * MESSAGE_BYTES))
        await eventually(lambda: owner.texts == ["x" * MESSAGE_BYTES])


@pytest.mark.usefixtures("nothing_is_logged")
@pytest.mark.parametrize(
    ("request_bytes", "words"),
    [
        (get("/ws", *UPGRADE, b"Sec-WebSocket-Version: 8", KEY, PROTOCOL), "Sec-WebSocket-Version"),
        (get("/ws", *UPGRADE, KEY, PROTOCOL), "Sec-WebSocket-Version"),
        (get("/ws", *UPGRADE, VERSION, PROTOCOL), "Sec-WebSocket-Key"),
        (get("/ws", *UPGRADE, VERSION, b"Sec-WebSocket-Key: short", PROTOCOL), "Sec-WebSocket-Key"),
        (get("/ws", *UPGRADE, VERSION, KEY), "subprotocol"),
        (get("/ws", *UPGRADE, VERSION, KEY, b"Sec-WebSocket-Protocol: other"), "expected one of gapless.v1"),
        (get("/ws", UPGRADE[1], VERSION, KEY, PROTOCOL), "Connection"),
        (get("/ws", *UPGRADE, VERSION, KEY, PROTOCOL, version="1.0"), "HTTP/1.0"),
    ],
    ids=[
        "another version",
        "no version",
        "no key",
        "a bad key",
        "no subprotocol",
        "another subprotocol",
        "not in Connection",
        "HTTP/1.0",
    ],
)
async def test_a_bad_handshake_is_refused_with_a_problem(sockets: Sockets, request_bytes: bytes, words: str) -> None:
    async with sockets.client() as client:
        answer = await client.ask(request_bytes)
        assert (answer.status, answer.reason) == (400, "malformed")
        assert words in answer.problem["detail"]
        assert answer.headers["sec-websocket-version"] == "13"
    async with sockets.client() as client:
        assert (await client.ask(get("/ws"))).problem["detail"] == "This path speaks WebSocket."


async def test_head_opens_no_websocket(sockets: Sockets) -> None:
    async with sockets.client() as client:
        await client.send(HANDSHAKE.replace(b"GET", b"HEAD"))
        assert (await client.answer(head_only=True)).status == 400


@pytest.mark.usefixtures("nothing_is_logged")
async def test_a_client_that_sends_frames_before_it_was_accepted_is_closed(sockets: Sockets) -> None:
    async with sockets.client() as client:
        await client.send(HANDSHAKE + frame(Opcode.TEXT, b"early"))
        await client.closed()
        await eventually(lambda: sockets.owners)
    assert sockets.owners[0].transport is None
    assert sockets.served.shared.taken == 0


@pytest.mark.usefixtures("nothing_is_logged")
async def test_pings_of_a_client_that_does_not_read_fill_no_memory(sockets: Sockets) -> None:
    ping = frame(Opcode.PING, b"x" * 125) * 1_000
    async with sockets.client() as client:
        owner = await opened(client, sockets)
        assert owner.transport is not None
        client.reader._transport.pause_reading()
        sending = asyncio.create_task(_send_for_ever(client, ping))
        await eventually(lambda: owner.writable == [False])
        assert owner.transport.get_write_buffer_size() < 2 * 1024 * 1024
        assert not owner.transport.is_reading()
        client.reader._transport.resume_reading()
        reading = asyncio.create_task(client.closed())
        await eventually(lambda: owner.writable[:2] == [False, True])
        sending.cancel()
        reading.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


async def _send_for_ever(client: RawHttp, data: bytes) -> None:
    while True:
        await client.send(data)
        await asyncio.sleep(0)


@pytest.mark.usefixtures("nothing_is_logged")
async def test_a_lost_connection_is_freed_without_a_search_for_cycles(sockets: Sockets) -> None:
    gc.disable()
    try:
        async with sockets.client() as client:
            owner = await opened(client, sockets)
            await client.send(frame(Opcode.TEXT, b"1"))
            await eventually(lambda: owner.texts)
        await eventually(lambda: owner.lost)
        lost: list[Callable[[], object]] = [weakref.ref(owner), weakref.ref(owner.connection._frames)]
        sockets.owners.clear()
        owner = Owner()
        await eventually(lambda: [each() for each in lost] == [None, None])
    finally:
        gc.enable()
