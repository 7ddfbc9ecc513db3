"""A retry after another user has changed the same thing, on the whole system: it is answered and it undoes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest

from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.running_stack import RunningStack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with RunningStack.up(tmp_path_factory.mktemp("devices"), "--sequencers", "1") as stack:
        yield stack


@pytest.fixture
async def http(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    async with stack.client() as http:
        yield http


class Device:
    """One user's device, with a chat to act in."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient, user: str) -> None:
        self._http = http
        self._authorization = f"Bearer {stack.token(user)}"

    async def __call__(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, token: str | None = None
    ) -> httpx.Response:
        """:param key: the idempotency key. :param token: of an answer that the read must hold."""
        headers = {"Authorization": self._authorization, "Prefer": "wait=30"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        headers |= {} if token is None else {"Gapless-At-Least": token}
        sent = {} if body is None else {"json": body}
        return await self._http.request(method, path, headers=headers, **sent)


def done(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_retried_rename_does_not_undo_the_name_that_an_admin_gave_since(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben, carl = (Device(stack, http, user) for user in (ANNA, BEN, CARL))
    body = {"kind": "group", "name": "rename", "members": [BEN]}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    path = f"/v1/chats/{chat}"
    assert (await ben("PATCH", path, {"name": "mine"})).status_code == 403
    assert (await carl("PATCH", path, {"name": "mine"})).status_code == 404, "a stranger learns nothing"
    done(await anna("PATCH", f"{path}/members/{BEN}", {"role": "admin"}))

    first = done(await anna("PATCH", path, {"name": "Anna's"}, key="rename-1"))
    second = done(await ben("PATCH", path, {"name": "Ben’s 名前"}, key="rename-1"))
    again = done(await anna("PATCH", path, {"name": "Anna's"}, key="rename-1"))
    assert (again["position"], again["duplicate"]) == (first["position"], True)
    assert second["position"] == first["position"] + 1
    other = await anna("PATCH", path, {"name": "something else"}, key="rename-1")
    assert (other.status_code, other.json()["type"]) == (422, "/problems/conflict")
    same = done(await ben("PATCH", path, {"name": "Ben’s 名前"}))
    assert not same["duplicate"], "another key: the effect is there already"

    shown = done(await anna("GET", path, token=same["token"]))
    assert (shown["name"], shown["last_position"]) == ("Ben’s 名前", second["position"])


async def test_a_retried_reaction_does_not_return_after_another_device_has_removed_it(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben, carl = (Device(stack, http, user) for user in (ANNA, BEN, CARL))
    body = {"kind": "group", "name": "reactions", "members": [BEN]}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    messages = f"/v1/chats/{chat}/messages"
    done(await anna("POST", messages, {"text": "hello"}, key="hello"), 201)
    heart, thumb = f"{messages}/1/reactions/❤️", f"{messages}/1/reactions/👍"
    first = done(await anna("PUT", heart, key="r1"))
    assert first["emoji"] == "❤", "one form"
    done(await anna("DELETE", f"{messages}/1/reactions/❤", key="r2"))  # the other device
    again = done(await anna("PUT", heart, key="r1"))
    assert (again["position"], again["duplicate"]) == (first["position"], True)
    await ben("PUT", thumb)
    last = done(await anna("PUT", thumb))
    assert (await carl("PUT", thumb)).status_code == 404
    assert (await anna("PUT", f"{messages}/1/reactions/a%20b")).status_code == 422

    shown = done(await anna("GET", f"{messages}/1", token=last["token"]))
    assert shown["reactions"] == [{"emoji": "👍", "count": 2, "mine": True}]
    page = done(await ben("GET", messages, token=last["token"]))
    assert page["messages"][0]["reactions"] == [{"emoji": "👍", "count": 2, "mine": True}]
    who = done(await ben("GET", f"{messages}/1/reactions?emoji=👍&limit=1", token=last["token"]))
    assert who["items"] == [{"emoji": "👍", "user_id": min(ANNA, BEN)}]
    rest = done(await ben("GET", f"{messages}/1/reactions?emoji=👍&cursor={who['next']}"))
    assert (rest["items"], rest["next"]) == ([{"emoji": "👍", "user_id": max(ANNA, BEN)}], None)
    done(await ben("DELETE", f"{messages}/1/reactions/👍"))
    gone = done(await anna("DELETE", f"{messages}/1"))
    shown = done(await anna("GET", f"{messages}/1", token=gone["token"]))
    assert shown["reactions"] == []
    assert (await ben("PUT", thumb)).json()["type"] == "/problems/unknown_message"


async def test_a_hundred_users_react_at_once_and_each_is_counted_once(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    users = [str(uuid5(UUID(ANNA), f"reactor {number}")) for number in range(100)]
    anna = Device(stack, http, ANNA)
    body = {"kind": "group", "name": "hundred", "members": users}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    done(await anna("POST", f"/v1/chats/{chat}/messages", {"text": "vote"}, key="vote"), 201)
    path = f"/v1/chats/{chat}/messages/1/reactions/+1"
    answers = await asyncio.gather(*(Device(stack, http, user)("PUT", path) for user in users for _ in range(2)))
    token = max((done(answer)["token"] for answer in answers), key=lambda token: int(token.split(":")[1]))
    shown = done(await anna("GET", f"/v1/chats/{chat}/messages/1", token=token))
    assert shown["reactions"] == [{"emoji": "+1", "count": 100, "mine": False}]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = done(await anna("GET", f"/v1/chats/{chat}/messages/1/reactions?limit=30{more}", token=token))
        seen += [item["user_id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == sorted(users)


async def test_the_read_model_of_all_that_equals_the_log(stack: RunningStack, http: httpx.AsyncClient) -> None:
    """Last in this file: what the tests before it left is compared, in a rebuilt version too."""
    await stack.gapless("projection", "rebuild", "--to", "v2")
    for version in ("v1", "v2"):
        assert (await stack.gapless("projection", "verify", "--version", version))["equal"]
    assert (await stack.gapless("log", "verify"))["violations"] == []
