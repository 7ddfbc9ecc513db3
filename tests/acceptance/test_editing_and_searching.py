"""Messages are edited, deleted and searched over HTTP on a whole stack, and every reading of the log agrees on them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from schemas import ids
from schemas.ids import ChatId
from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.running_stack import RunningStack
from tests.unit.schemas.test_search import WORDS_IN_RUNS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with RunningStack.up(tmp_path_factory.mktemp("messages")) as stack:
        yield stack


class Client:
    """Calls the API of a stack as any user."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient) -> None:
        self._stack = stack
        self._http = http

    async def __call__(self, user: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self._stack.token(user)}", "Prefer": "wait=30"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self._http.request(method, path, json=body, headers=sent)
        return response.status_code, response.json()

    async def found(self, user: str, q: str, token: str) -> list[int]:
        """Return the seqs that a search finds once the token is in its snapshot; a 503 is asked again."""
        headers = {"Authorization": f"Bearer {self._stack.token(user)}", "Gapless-At-Least": token}
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            response = await self._http.get("/v1/search", params={"q": q}, headers=headers)
            if response.status_code != 503:
                assert response.status_code == 200, response.text
                return [item["seq"] for item in response.json()["items"]]
            assert time.monotonic() < deadline_s, "search does not reach the token"


@pytest.fixture
async def call(stack: RunningStack) -> AsyncIterator[Client]:
    async with stack.client() as http:
        yield Client(stack, http)


async def test_an_edit_is_read_and_its_retry_undoes_nothing(call: Client) -> None:
    group = {"kind": "group", "name": "ops", "members": [BEN]}
    _, created = await call(ANNA, "POST", "/v1/chats", group, Idempotency_Key="create")
    chat = f"/v1/chats/{created['chat_id']}"
    for n in (1, 2):
        body = {"text": f"message {n}", "media_urls": ["https://a.example/x"]}
        assert (await call(ANNA, "POST", f"{chat}/messages", body, Idempotency_Key=f"m-{n}"))[0] == 201
    first, second = f"{chat}/messages/1", f"{chat}/messages/2"

    original = await call(ANNA, "PATCH", first, {"text": "B"}, Idempotency_Key="phone", If_Match='"0"')
    await call(ANNA, "PATCH", first, {"text": "C", "metadata": {"k": 1}}, Idempotency_Key="laptop")
    retry = await call(ANNA, "PATCH", first, {"text": "B"}, Idempotency_Key="phone", If_Match='"0"')
    assert (original[0], original[1]["revision"], retry[0]) == (200, 1, 200)
    assert retry[1] | {"token": ""} == original[1] | {"token": "", "duplicate": True}
    status, stale = await call(ANNA, "PATCH", first, {"text": "D"}, If_Match='"1"')
    assert (status, stale["type"], stale["revision"]) == (412, "/problems/stale", 2)
    status, present = await call(ANNA, "GET", stale["message_url"], Gapless_At_Least=stale["token"])
    assert (status, present["revision"]) == (200, 2), "the read model may be behind, but not for this read"
    assert (await call(BEN, "PATCH", first, {"text": "D"}))[0] == 403
    await call(ANNA, "PATCH", second, {"text": "secret"})
    _, gone = await call(ANNA, "DELETE", second)
    assert (await call(ANNA, "PATCH", second, {"text": "back again"}))[0] == 404

    _, read = await call(BEN, "GET", first, Gapless_At_Least=gone["token"])
    assert (read["text"], read["revision"], read["metadata"]) == ("C", 2, {"k": 1})
    assert read["media_urls"] == ["https://a.example/x"], "no edit named them"
    assert read["edited_at"] > read["sent_at"]
    command_id = ids.command_id(ChatId(created["chat_id"]), ANNA, "phone")
    _, edit = await call(ANNA, "GET", f"{chat}/commands/{command_id}", Gapless_At_Least=gone["token"])
    assert (edit["outcome"], edit["revision"], edit["position"]) == ("accepted", 1, original[1]["position"])
    _, read = await call(BEN, "GET", second, Gapless_At_Least=gone["token"])
    assert (read["text"], read["revision"], read["deleted_at"] is None) == (None, 1, False)
    assert (await call(BEN, "GET", f"{chat}/unread"))[1] == {"unread": 1}


async def test_messages_are_found_by_their_present_words_by_present_members(stack: RunningStack, call: Client) -> None:
    """Last in this file: a rebuilt version, which it switches to, has all that the tests before it left."""
    group = {"kind": "group", "name": "zoo", "members": [BEN]}
    _, created = await call(ANNA, "POST", "/v1/chats", group, Idempotency_Key="create-zoo")
    chat = f"/v1/chats/{created['chat_id']}"
    texts = ["The quick wombat", "A lazy wombat", *(text for text, _ in WORDS_IN_RUNS)]
    answer: Any = None
    for n, text in enumerate(texts):
        status, answer = await call(ANNA, "POST", f"{chat}/messages", {"text": text}, Idempotency_Key=f"m-{n}")
        assert status == 201
    assert await call.found(BEN, "wombat", answer["token"]) == [2, 1]
    for n, (_, words) in enumerate(WORDS_IN_RUNS):
        for word in words:
            assert n + 3 in await call.found(BEN, word, answer["token"]), word

    _, edited = await call(ANNA, "PATCH", f"{chat}/messages/1", {"text": "The quick numbat"})
    assert await call.found(BEN, "wombat", edited["token"]) == [2]
    assert await call.found(BEN, '"quick numbat"', edited["token"]) == [1]
    _, gone = await call(ANNA, "DELETE", f"{chat}/messages/2")
    assert await call.found(BEN, "wombat", gone["token"]) == []

    _, left = await call(BEN, "DELETE", f"{chat}/members/{BEN}")
    assert await call.found(BEN, "numbat", left["token"]) == []
    assert await call.found(CARL, "numbat", left["token"]) == []
    assert await call.found(ANNA, "numbat", left["token"]) == [1]
    _, back = await call(ANNA, "PUT", f"{chat}/members/{BEN}", {})
    assert await call.found(BEN, "numbat", back["token"]) == [1]

    await stack.gapless("log", "verify")
    await stack.gapless("projection", "verify")
    await stack.gapless("projection", "rebuild", "--to", "v2")
    await stack.gapless("projection", "verify", "--version", "v2")
    await stack.gapless("projection", "cutover", "--to", "v2")
    assert await call.found(BEN, "numbat", back["token"]) == [1]
    assert await call.found(ANNA, "東京", back["token"]) == [3]
