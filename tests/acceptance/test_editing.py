"""A message is edited over HTTP on a whole stack, from two devices, and both readings of the log agree on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas import ids
from schemas.ids import ChatId
from tests.support.chat_log import ANNA, BEN
from tests.support.running_stack import RunningStack


@pytest.mark.timeout(600)
def test_an_edit_is_read_its_retry_undoes_nothing_and_a_rebuild_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with RunningStack.up(tmp_path) as stack, stack.client() as http:
            await _run(stack, http)

    asyncio.run(main())


async def _run(stack: RunningStack, http: httpx.AsyncClient) -> None:
    async def call(user: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {stack.token(user)}", "Prefer": "wait=30"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        response = await http.request(method, path, json=body, headers=sent)
        return response.status_code, response.json()

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

    await stack.gapless("log", "verify")
    await stack.gapless("projection", "verify")
    await stack.gapless("projection", "rebuild", "--to", "v2")
    await stack.gapless("projection", "verify", "--version", "v2")
