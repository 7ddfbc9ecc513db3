"""Search over HTTP on a whole stack: every script, after edits, deletions, leaving and joining again; and a rebuild."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.running_stack import RunningStack
from tests.unit.schemas.test_search import WORDS_IN_RUNS


@pytest.mark.timeout(600)
def test_messages_are_found_by_their_present_words_by_present_members(tmp_path: Path) -> None:
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

    async def found(user: str, q: str, token: str) -> list[int]:
        """Return the seqs that a search finds once the token is in its snapshot; a 503 is asked again."""
        for _ in range(20):
            response = await http.get(
                "/v1/search",
                params={"q": q},
                headers={"Authorization": f"Bearer {stack.token(user)}", "Gapless-At-Least": token},
            )
            if response.status_code != 503:
                assert response.status_code == 200, response.text
                return [item["seq"] for item in response.json()["items"]]
        raise AssertionError("search does not reach the token")

    group = {"kind": "group", "name": "ops", "members": [BEN]}
    _, created = await call(ANNA, "POST", "/v1/chats", group, Idempotency_Key="create")
    chat = f"/v1/chats/{created['chat_id']}"
    texts = ["The quick wombat", "A lazy wombat", *(text for text, _ in WORDS_IN_RUNS)]
    answer: Any = None
    for n, text in enumerate(texts):
        status, answer = await call(ANNA, "POST", f"{chat}/messages", {"text": text}, Idempotency_Key=f"m-{n}")
        assert status == 201
    assert await found(BEN, "wombat", answer["token"]) == [2, 1]
    for n, (_, words) in enumerate(WORDS_IN_RUNS):
        for word in words:
            assert n + 3 in await found(BEN, word, answer["token"]), word

    _, edited = await call(ANNA, "PATCH", f"{chat}/messages/1", {"text": "The quick numbat"})
    assert await found(BEN, "wombat", edited["token"]) == [2]
    assert await found(BEN, '"quick numbat"', edited["token"]) == [1]
    _, gone = await call(ANNA, "DELETE", f"{chat}/messages/2")
    assert await found(BEN, "wombat", gone["token"]) == []

    _, left = await call(BEN, "DELETE", f"{chat}/members/{BEN}")
    assert await found(BEN, "numbat", left["token"]) == []
    assert await found(CARL, "numbat", left["token"]) == []
    assert await found(ANNA, "numbat", left["token"]) == [1]
    _, back = await call(ANNA, "PUT", f"{chat}/members/{BEN}", {})
    assert await found(BEN, "numbat", back["token"]) == [1]

    await stack.gapless("projection", "verify")
    await stack.gapless("projection", "rebuild", "--to", "v2")
    await stack.gapless("projection", "verify", "--version", "v2")
    await stack.gapless("projection", "cutover", "--to", "v2")
    assert await found(BEN, "numbat", back["token"]) == [1]
    assert await found(ANNA, "東京", back["token"]) == [3]
