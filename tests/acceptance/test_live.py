"""Readers follow their chats on the real stack, through cuts, kills, stalls and cutovers, and are complete.

Each test's name says what happens meanwhile. The reader is tests/support/live_reader.py: it applies frames by
docs/live.md, and notes every hole, repeat and frame after a removal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from schemas.ids import parse_token
from schemas.sync_cursor import decode_sync_cursor
from services.ops.stack.secret import token_secret
from services.runtime.access.auth import mint_token
from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.cuttable import CuttableProxy
from tests.support.live_reader import LiveReader, known_of
from tests.support.pausing import paused
from tests.support.running_stack import RunningStack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    small = {"GAPLESS_LIVE_RING_BYTES": str(1024 * 1024), "GAPLESS_LIVE_HEARTBEAT_S": "1"}
    async with RunningStack.up(tmp_path_factory.mktemp("live"), "--sequencers", "1", environment=small) as stack:
        yield stack


@pytest.fixture
async def http(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    async with stack.client() as http:
        yield http


class Room:
    """A group of Anna and Ben, and what happens in it."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient, chat_id: str) -> None:
        self._stack = stack
        self._http = http
        self.chat_id = chat_id
        self.position = 0
        self.token: str | None = None
        self._key = 0

    @classmethod
    async def create(cls, stack: RunningStack, http: httpx.AsyncClient, name: str, *members: str) -> Room:
        room = cls(stack, http, "")
        body = {"kind": "group", "name": name, "members": [BEN, *members]}
        room.chat_id = (await room("POST", "/v1/chats", body))["chat_id"]
        await room.readable()
        return room

    async def __call__(self, method: str, path: str, body: Any = None, *, user: str = ANNA) -> dict[str, Any]:
        """Do it, and again under the same key while the servers cannot answer. A path without / is in the chat."""
        self._key += 1
        url = path if path.startswith("/") else f"/v1/chats/{self.chat_id}/{path}"
        headers = {
            "Authorization": f"Bearer {self._stack.token(user)}",
            "Idempotency-Key": f'"{self.chat_id}-{self._key}-{user}"',
            "Prefer": "wait=20",
        }
        async with asyncio.timeout(180):
            while True:
                try:
                    answer = await self._http.request(method, url, json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                    continue
                if answer.status_code in (200, 201):
                    done: dict[str, Any] = answer.json()
                    self.position = max(self.position, done.get("position") or 0)
                    self.token = done.get("token", self.token)
                    return done
                assert answer.status_code in (202, 503), answer.text
                await asyncio.sleep(0.1)

    async def say(self, text: str, *, user: str = ANNA) -> int:
        seq: int = (await self("POST", "messages", {"text": text}, user=user))["seq"]
        return seq

    async def say_many(self, count: int, text: str) -> None:
        """Send a batch of texts."""
        self._key += 1
        items = [
            {"chat_id": self.chat_id, "client_generated_id": f"{self._key}-{number}", "text": text}
            for number in range(count)
        ]
        headers = {"Authorization": f"Bearer {self._stack.token(ANNA)}", "Prefer": "wait=30"}
        async with asyncio.timeout(180):
            while True:
                answer = await self._http.post("/v1/messages:batch", json=items, headers=headers)
                assert answer.status_code == 200, answer.text
                results = [each["result"] for each in answer.json() if each["status"] in (200, 201)]
                if len(results) == count:
                    break
                assert {each["status"] for each in answer.json()} <= {200, 201, 202, 503}, answer.text[:500]
                await asyncio.sleep(0.1)
        self.position = max(self.position, *(result["position"] for result in results))
        self.token = results[-1]["token"]

    async def a_few_of_each(self) -> None:
        """Send, edit, react, delete."""
        first = await self.say("one")
        second = await self.say("two", user=BEN)
        await self("PATCH", f"messages/{first}", {"text": "one, edited"})
        await self("PUT", f"messages/{first}/reactions/👍", user=BEN)
        await self("PUT", f"messages/{first}/reactions/👍")
        await self("DELETE", f"messages/{first}/reactions/👍", user=BEN)
        await self("DELETE", f"messages/{second}", user=BEN)

    async def readable(self) -> None:
        """Wait until the read model has everything."""
        headers = {"Authorization": f"Bearer {self._stack.token(ANNA)}", "Gapless-At-Least": self.token or ""}
        async with asyncio.timeout(180):
            while (await self._http.get(f"/v1/chats/{self.chat_id}/latest-seq", headers=headers)).status_code != 200:
                await asyncio.sleep(0.05)

    async def truth(self) -> dict[int, dict[str, Any]]:
        """Return the messages in the read model."""
        await self.readable()
        headers = {"Authorization": f"Bearer {self._stack.token(ANNA)}", "Gapless-At-Least": self.token or ""}
        found: dict[int, dict[str, Any]] = {}
        after = 0
        while True:
            url, page = f"/v1/chats/{self.chat_id}/changes", {"after_position": after}
            answer = (await self._http.get(url, params=page, headers=headers)).json()
            found |= {message["seq"]: known_of(message) for message in answer["messages"]}
            if not answer["has_more"]:
                return found
            after = answer["next_position"]


def reader_of(stack: RunningStack, user: str, *, room: Room | None = None, url: str | None = None) -> LiveReader:
    chat_id = None if room is None else room.chat_id
    return LiveReader(url or stack.api_url, lambda: stack.token(user), user, chat_id=chat_id)


async def comes_back(reader: LiveReader, connections: int) -> None:
    await reader.until(lambda: reader.connections > connections, "it is back")


async def is_complete(reader: LiveReader, room: Room) -> None:
    await reader.reaches({room.chat_id: room.position})
    assert reader.copy(room.chat_id) == await room.truth()


async def test_both_kinds_of_streams_bring_what_happens(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "both kinds")
    await room.a_few_of_each()
    async with reader_of(stack, BEN) as of_all, reader_of(stack, BEN, room=room) as of_one:
        await room.a_few_of_each()
        other = await Room.create(stack, http, "a chat that comes")
        await other.a_few_of_each()
        await is_complete(of_one, room)
        await is_complete(of_all, room)
        await is_complete(of_all, other)
        assert (of_all.connections, of_one.connections) == (1, 1)


async def test_messages_are_answered_from_the_log_with_the_figures_of_their_repeats(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    room = await Room.create(stack, http, "answered")
    before = await stack.metric("api-1", "gapless_ingest_answered_from_log_total")
    headers = {"Authorization": f"Bearer {stack.token(ANNA)}", "Prefer": "wait=30"}
    for number in range(20):
        keyed = headers | {"Idempotency-Key": f'"answered-{number}"'}
        first, again = [
            (await http.post(f"/v1/chats/{room.chat_id}/messages", json={"text": "hello"}, headers=keyed)).json()
            for _ in range(2)
        ]
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert (first["seq"], first["position"]) == (number + 1, number + 2)
        assert {**first, "duplicate": True, "token": again["token"]} == again
    assert await stack.metric("api-1", "gapless_ingest_answered_from_log_total") > before


async def test_the_reader_does_not_read(stack: RunningStack, http: httpx.AsyncClient) -> None:
    """A slow reader is no burden, falls out of the ring, hears of it, and is complete once it reads."""
    room = await Room.create(stack, http, "slow")
    await room.say("first")
    await room.readable()
    at = urlsplit(stack.api_url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().run_in_executor(None, slow.connect, (at.hostname, at.port))
        request = f"GET /v1/live HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {stack.token(BEN)}\r\n\r\n"
        slow.sendall(request.encode())
        while b"event: ready" not in await asyncio.to_thread(slow.recv, 4096):
            pass
        behind = 0.0
        while not behind:  # the socket's buffers hold megabytes
            await room.say_many(200, "x" * 16_000)
            behind = await stack.metric("api-1", "gapless_live_catching_up")
        await room.say_many(200, "x" * 16_000)  # three times what the ring holds
        received = b""
        slow.settimeout(60)
        while b"event: gap" not in received:
            piece = await asyncio.to_thread(slow.recv, 65_536)
            assert piece, received[-500:]
            received += piece
    assert b"event: lagged" in received
    assert b'"token":"' in received
    async with reader_of(stack, BEN, room=room) as reader:
        await is_complete(reader, room)


async def test_ten_thousand_messages_were_missed(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "ten thousand")
    async with reader_of(stack, BEN) as reader:
        await room.say("the last that is seen")
        await reader.until(lambda: _covers(reader.cursor, room.token), "the cursor has the message")
    kept, cursor = reader.chats, reader.cursor
    for _ in range(10):
        await room.say_many(1_000, "missed")
    await room.readable()
    back = reader_of(stack, BEN)
    back.chats, back.cursor = kept, cursor
    back._sync = _nothing  # type: ignore[method-assign]  # it comes back with its cursor alone
    async with back:
        await is_complete(back, room)
        assert any(frame["type"] == "gap" for frame in back.frames)
        assert len(back.copy(room.chat_id)) == 10_001


async def _nothing() -> None: ...


def _covers(cursor: str | None, token: str | None) -> bool:
    if cursor is None or token is None:
        return False
    partition, index = parse_token(token)
    return decode_sync_cursor(cursor).indexes.get(partition, 0) >= index


async def test_the_reader_is_removed_and_joins_again(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "removed", CARL)
    async with reader_of(stack, CARL) as of_all, reader_of(stack, CARL, room=room) as of_one:
        await room.say("seen")
        await room("DELETE", f"members/{CARL}")
        await room.say("not for Carl")
        await of_one.until(lambda: of_one.ended == "removed", "the stream of the chat ends")
        await of_all.until(lambda: of_all.chats[room.chat_id].removed, "the removal is said")
        await room("PUT", f"members/{CARL}")
        await room.say("seen again")
        await is_complete(of_all, room)
        said = [frame for frame in of_one.frames if frame.get("chat_id") == room.chat_id]
        assert said[-1]["type"] == "removed"
        assert "not for Carl" not in json.dumps(of_one.frames)
        assert "not for Carl" not in json.dumps(of_all.frames)
    async with reader_of(stack, CARL) as again:
        await is_complete(again, room)


async def test_the_token_expires(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "expires")
    secret = token_secret(stack.folder)
    short = mint_token(secret, BEN, ttl_s=3)
    async with http.stream("GET", "/v1/live", headers={"Authorization": f"Bearer {short}"}) as response:
        lines = [line async for line in response.aiter_lines()]
    assert json.loads(lines[-2].removeprefix("data: "))["reason"] == "token_expired"
    assert any(line.startswith("retry: ") for line in lines[-6:])
    reader = LiveReader(stack.api_url, lambda: mint_token(secret, BEN, ttl_s=2), BEN)
    async with reader:
        for number in range(10):
            await room.say(f"{number}")
            await asyncio.sleep(0.5)  # so that tokens expire in between
        await is_complete(reader, room)
        assert reader.connections > 1


@pytest.mark.parametrize("killed", ["api-1", "kafka-1", "sequencer-1", "projector-1"])
async def test_a_process_is_killed(stack: RunningStack, http: httpx.AsyncClient, killed: str) -> None:
    room = await Room.create(stack, http, f"killed {killed}")
    async with reader_of(stack, BEN) as of_all, reader_of(stack, BEN, room=room) as of_one:
        await room.a_few_of_each()
        await stack.kill(killed)
        await room.a_few_of_each()
        await is_complete(of_all, room)
        await is_complete(of_one, room)


async def test_postgres_stands_still(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "no Postgres")
    async with reader_of(stack, BEN) as of_all, reader_of(stack, BEN, room=room) as of_one:
        with paused(stack, "postgres"):
            await room.a_few_of_each()
            await of_all.reaches({room.chat_id: room.position})
            await of_one.reaches({room.chat_id: room.position})
        await is_complete(of_all, room)
        await is_complete(of_one, room)
        assert (of_all.connections, of_one.connections) == (1, 1)


async def test_the_projector_stands_still(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "no projector")
    async with reader_of(stack, BEN) as of_all, reader_of(stack, BEN, room=room) as of_one:
        with paused(stack, "projector-1"):
            await room.a_few_of_each()
            await of_all.reaches({room.chat_id: room.position})
            await of_one.reaches({room.chat_id: room.position})
            async with reader_of(stack, BEN, room=room) as came_now:
                await came_now.reaches({room.chat_id: room.position})
        await is_complete(of_all, room)
        await is_complete(of_one, room)


async def test_the_projection_is_switched(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "switched")
    async with reader_of(stack, BEN) as of_all, reader_of(stack, BEN, room=room) as of_one:
        await room.a_few_of_each()
        await stack.gapless("projection", "rebuild", "--to", "v2")
        await stack.gapless("projection", "cutover", "--to", "v2")
        await room.a_few_of_each()
        await is_complete(of_all, room)
        await is_complete(of_one, room)
        assert (of_all.connections, of_one.connections) == (1, 1)
    async with reader_of(stack, BEN) as came_after:
        await is_complete(came_after, room)


async def test_a_proxy_cuts_connections_all_the_time(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "proxy")
    at = urlsplit(stack.api_url)
    chance = random.Random(14)
    async with CuttableProxy(str(at.hostname), int(at.port or 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with reader_of(stack, BEN, url=url) as of_all, reader_of(stack, BEN, room=room, url=url) as of_one:
            for number in range(40):
                await room.say(f"{number}")
                if chance.random() < 0.3:
                    before = {reader: reader.connections for reader in (of_all, of_one)}
                    await proxy.cut()
                    await proxy.mend()
                    for reader, connections in before.items():
                        await comes_back(reader, connections)
            await is_complete(of_all, room)
            await is_complete(of_one, room)


async def test_a_websocket_brings_the_same_and_signals(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "websocket")
    address = stack.api_url.replace("http", "ws", 1) + "/v1/live"
    async with connect(address, subprotocols=["gapless.v1"]) as socket_:  # type: ignore[list-item]
        await socket_.send(json.dumps({"type": "auth", "token": stack.token(BEN)}))
        assert json.loads(await socket_.recv())["type"] == "authenticated"
        await socket_.send(json.dumps({"type": "start", "chats": [room.chat_id]}))
        ready = json.loads(await socket_.recv())
        assert ready["type"] == "ready"
        await room.say("hello")
        message = (await frame_of(socket_, "message"))["message"]
        assert {message["seq"]: known_of(message)} == await room.truth()
        assert (await frame_of(socket_, "cursor"))["cursor"] != ready["cursor"]
        headers = {"Authorization": f"Bearer {stack.token(ANNA)}"}
        typed = asyncio.create_task(frame_of(socket_, "typing"))
        async with asyncio.timeout(180):
            while not typed.done():  # dropped until the first process has created the topic of signals
                sent = await http.post(f"/v1/chats/{room.chat_id}/typing", json={"state": "started"}, headers=headers)
                assert sent.status_code == 204
                await asyncio.wait({typed}, timeout=1)
        assert (typed.result()["user_id"], typed.result()["state"]) == (ANNA, "started")
        stranger = {"Authorization": f"Bearer {stack.token(CARL)}"}
        answer = await http.post(f"/v1/chats/{room.chat_id}/typing", json={"state": "started"}, headers=stranger)
        assert answer.status_code == 404
        await socket_.send('{"type":"start"}')
        assert [json.loads(frame)["type"] async for frame in until_closed(socket_)][-2:] == ["error", "bye"]
        assert socket_.close_code == 4400
    async with connect(address, subprotocols=["gapless.v1"]) as again:  # type: ignore[list-item]
        await again.send(json.dumps({"type": "auth", "token": stack.token(BEN)}))
        await again.recv()
        await again.send(json.dumps({"type": "start", "since": ready["cursor"], "chats": [room.chat_id]}))
        assert (await frame_of(again, "ready"))["cursor"] == ready["cursor"]
        assert (await frame_of(again, "message"))["message"] == message


async def frame_of(socket_: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next frame of a kind. Cursors come between at any time."""
    while True:
        frame: dict[str, Any] = json.loads(await socket_.recv())
        if frame["type"] == kind:
            return frame


async def until_closed(socket_: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket_.recv()


async def test_a_stop_says_when_to_come_back(stack: RunningStack, http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/v1/live", headers={"Authorization": f"Bearer {stack.token(BEN)}"}) as response:
        lines = response.aiter_lines()
        async for line in lines:
            if line.startswith("data: "):
                break
        pid = stack.signal("api-1", signal.SIGTERM)
        rest = [line async for line in lines]
    bye = json.loads(next(line for line in rest if line.startswith('data: {"type":"bye"')).removeprefix("data: "))
    assert bye["reason"] == "draining"
    assert 0 <= bye["after_ms"] <= 15_000
    await stack.replaced("api-1", pid)


async def test_a_reader_who_goes_makes_room_at_once(stack: RunningStack, http: httpx.AsyncClient) -> None:
    """Twenty streams of a user is the limit, and a browser that is reloaded often must not meet it."""
    await Room.create(stack, http, "comes and goes", CARL)  # the API may just be starting again
    carl = {"Authorization": f"Bearer {stack.token(CARL)}"}
    for _ in range(60):
        async with stack.client() as browser, browser.stream("GET", "/v1/live", headers=carl) as response:
            assert response.status_code == 200


async def test_a_stranger_learns_nothing(stack: RunningStack, http: httpx.AsyncClient) -> None:
    room = await Room.create(stack, http, "strangers")
    carl = {"Authorization": f"Bearer {stack.token(CARL)}"}
    for chat_id in (room.chat_id, "11111111-1111-4111-8111-111111111111"):
        answer = await http.get(f"/v1/chats/{chat_id}/live", headers=carl)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown_chat")
    async with reader_of(stack, CARL) as reader:
        other = await Room.create(stack, http, "with Carl", CARL)
        await room.say("secret")
        await other.say("for Carl")
        await reader.reaches({other.chat_id: other.position})
        assert "secret" not in json.dumps(reader.frames)


async def test_bad_cursors_and_no_token(stack: RunningStack, http: httpx.AsyncClient) -> None:
    ben = {"Authorization": f"Bearer {stack.token(BEN)}"}
    assert (await http.get("/v1/live")).status_code == 401
    assert (await http.get("/v1/live", params={"ticket": "x"})).status_code == 401
    assert (await http.get("/v1/live", params={"since": "x"}, headers=ben)).status_code == 400
    ticket = (await http.post("/v1/live-tickets", headers=ben)).json()["ticket"]
    assert (await http.get("/v1/me", headers={"Authorization": f"Bearer {ticket}"})).status_code == 401
    async with http.stream("GET", "/v1/live", params={"ticket": ticket}) as response:
        assert response.status_code == 200
    head = await http.head("/v1/live", headers=ben)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
