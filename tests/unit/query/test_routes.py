"""The paths of query before any read: authentication, parameters, and requests without a read model."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from schemas.ids import partition_of
from services.query.app import create_app
from services.query.settings import QueryProcessSettings, QuerySettings
from services.runtime.access.auth import mint_token
from services.runtime.settings import AuthSettings, KafkaSettings

SECRET = "a secret of at least thirty-two bytes"
ANNA = "11111111-1111-4111-8111-111111111111"
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
COMMAND = "c6e6b694-c64b-5364-9024-70428ec7b06e"
PARTITIONS = 8
TOKEN = mint_token(SECRET, ANNA, scopes=["producer", "import"])


def get(path: str, *, token: str | None = TOKEN, headers: dict[str, str] | None = None) -> httpx.Response:
    settings = QueryProcessSettings(
        query=QuerySettings(kafka=KafkaSettings(partitions=PARTITIONS)), auth=AuthSettings(secret=SECRET)
    )
    app, _not_started = create_app(settings)
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://query") as client:
            return await client.get(path, headers=authorization | (headers or {}))

    return asyncio.run(ask())


READS = [
    f"/v1/chats/{CHAT}/messages",
    f"/v1/chats/{CHAT}/messages?before_seq=0",
    f"/v1/chats/{CHAT}/messages?after_seq=9223372036854775807&limit=200",
    f"/v1/chats/{CHAT}/messages?around_seq=3&sender_id={ANNA}&limit=1",
    f"/v1/chats/{CHAT}/messages/1",
    f"/v1/chats/{CHAT}/latest-seq",
    f"/v1/chats/{CHAT}/unread",
    f"/v1/chats/{CHAT}/read-state",
    f"/v1/chats/{CHAT}/members?limit=200",
    f"/v1/chats/{CHAT}",
    "/v1/chats",
    f"/v1/chats/{CHAT}/changes?after_position=9223372036854775807&limit=500",
    "/v1/sync?limit=200",
    "/v1/unread",
    f"/v1/search?q=hello&chat_id={CHAT}&sender_id={ANNA}&before=2026-01-31T12:00:00Z&after=2026-01-01T12:00:00Z",
    f"/v1/chats/{CHAT}/commands/{COMMAND}",
    f"/v1/chats/{CHAT}/commands/{COMMAND}?at={partition_of(CHAT, PARTITIONS)}:12",
]


@pytest.mark.parametrize("path", READS)
def test_without_a_read_model_every_read_is_unavailable_and_says_when_to_come_back(path: str) -> None:
    answer = get(path)
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "/problems/unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", [*READS, "/v1/me"])
def test_without_a_token_nothing_is_read(path: str) -> None:
    answer = get(path, token=None)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/unauthorized"


@pytest.mark.parametrize(
    ("path", "place", "pointer"),
    [
        (f"/v1/chats/{CHAT}/messages?before_seq=abc", "query", "/before_seq"),
        (f"/v1/chats/{CHAT}/messages?before_seq=", "query", "/before_seq"),
        (f"/v1/chats/{CHAT}/messages?before_seq=1.5", "query", "/before_seq"),
        (f"/v1/chats/{CHAT}/messages?before_seq=-1", "query", "/before_seq"),
        (f"/v1/chats/{CHAT}/messages?after_seq=9223372036854775808", "query", "/after_seq"),
        (f"/v1/chats/{CHAT}/messages?around_seq={'9' * 1900}", "query", "/around_seq"),
        (f"/v1/chats/{CHAT}/messages?after_seq=1&before_seq=5", "query", ""),
        (f"/v1/chats/{CHAT}/messages?around_seq=1&before_seq=5", "query", ""),
        (f"/v1/chats/{CHAT}/messages?limit=0", "query", "/limit"),
        (f"/v1/chats/{CHAT}/messages?limit=201", "query", "/limit"),
        (f"/v1/chats/{CHAT}/messages?sender_id=anna", "query", "/sender_id"),
        (f"/v1/chats/{CHAT}/messages?sender_id={CHAT[:-1]}", "query", "/sender_id"),
        (f"/v1/chats/{CHAT}/messages?befor_seq=5", "query", "/befor_seq"),
        (f"/v1/chats/{CHAT}/messages?sender_id=%00", "query", "/sender_id"),
        (f"/v1/chats/{CHAT}/messages/first", "path", "/seq"),
        (f"/v1/chats/{CHAT}/messages/0", "path", "/seq"),
        (f"/v1/chats/{CHAT}/messages/9223372036854775808", "path", "/seq"),
        ("/v1/chats/ops/messages", "path", "/chat_id"),
        ("/v1/chats/ops", "path", "/chat_id"),
        ("/v1/chats/%00/unread", "path", "/chat_id"),
        (f"/v1/chats/{CHAT.replace('-', '')}/latest-seq", "path", "/chat_id"),
        (f"/v1/chats/{CHAT}/members?cursor=abc", "query", "/cursor"),
        (f"/v1/chats/{CHAT}/read-state?cursor=%F0%9F%98%80", "query", "/cursor"),
        (f"/v1/chats/{CHAT}/members?cursor={'a' * 201}", "query", "/cursor"),
        (f"/v1/chats/{CHAT}/members?limit=ten", "query", "/limit"),
        ("/v1/chats?cursor=", "query", "/cursor"),
        (f"/v1/chats/{CHAT}/changes?limit=501", "query", "/limit"),
        (f"/v1/chats/{CHAT}/changes?after_position=-1", "query", "/after_position"),
        ("/v1/sync?since=5:1042", "query", "/since"),
        ("/v1/sync?limit=201", "query", "/limit"),
        (f"/v1/chats/{CHAT}/commands/mine", "path", "/command_id"),
        (f"/v1/chats/{CHAT}/commands/{COMMAND}?at=5", "query", "/at"),
        (f"/v1/chats/{CHAT}/commands/{COMMAND}?at=99:1", "query", "/at"),
        (f"/v1/chats/{CHAT}/commands/{COMMAND}?at={(partition_of(CHAT, PARTITIONS) + 1) % 8}:1", "query", "/at"),
    ],
)
def test_bad_input_is_named_where_it_stands(path: str, place: str, pointer: str) -> None:
    answer = get(path)
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert problem["type"] == "/problems/malformed"
    assert (problem["errors"][0]["in"], problem["errors"][0]["pointer"]) == (place, pointer)
    assert problem["errors"][0]["detail"]


@pytest.mark.parametrize("token", ["x", "1:2:3", "8:1", "-1:1", "9" * 65 + ":1", ""])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    answer = get(f"/v1/chats/{CHAT}/messages", headers={"Gapless-At-Least": token})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["in"] == "header"


def test_me_says_which_user_the_token_stands_for() -> None:
    assert get("/v1/me").json() | {"expires_at": ""} == {
        "user_id": ANNA,
        "claim": ANNA,
        "scopes": ["import", "producer"],
        "expires_at": "",
    }
    named = get("/v1/me", token=mint_token(SECRET, "anna")).json()
    assert named["claim"] == "anna"
    assert named["user_id"] != "anna"


def test_me_answers_for_a_token_that_never_expires_in_our_calendar() -> None:
    answer = get("/v1/me", token=mint_token(SECRET, ANNA, ttl_s=1e13))
    assert answer.json()["expires_at"].startswith("9999-")


def test_the_openapi_document_describes_every_read() -> None:
    document: dict[str, Any] = get("/openapi.json").json()
    paths = {path for path in document["paths"] if path.startswith("/v1/")}
    assert paths == {
        "/v1/me",
        "/v1/chats",
        "/v1/unread",
        "/v1/chats/{chat_id}",
        "/v1/chats/{chat_id}/messages",
        "/v1/chats/{chat_id}/messages/{seq}",
        "/v1/chats/{chat_id}/messages/{seq}/edits",
        "/v1/chats/{chat_id}/messages/{seq}/reactions",
        "/v1/chats/{chat_id}/messages/{seq}/receipts",
        "/v1/chats/{chat_id}/messages/{seq}/replies",
        "/v1/chats/{chat_id}/threads",
        "/v1/chats/{chat_id}/latest-seq",
        "/v1/chats/{chat_id}/unread",
        "/v1/chats/{chat_id}/read-state",
        "/v1/chats/{chat_id}/members",
        "/v1/chats/{chat_id}/commands/{command_id}",
        "/v1/search",
        "/v1/chats/{chat_id}/changes",
        "/v1/sync",
    }
    history = document["paths"]["/v1/chats/{chat_id}/messages"]["get"]
    names = {parameter["name"] for parameter in history["parameters"]}
    assert names == {"chat_id", "before_seq", "after_seq", "around_seq", "limit", "sender_id", "Gapless-At-Least"}
    assert history["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/History")


def test_readyz_says_that_the_read_model_is_missing() -> None:
    answer = get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["postgres has not been probed yet."]
