"""The paths of ingest behind the real application, with the writer's decisions scripted."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from schemas.encoding import Command
from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.replies import Reply
from services.ingest.answers import Pending
from services.ingest.dispatch import ClientGone
from services.ingest.marks import MarkMerger
from services.ingest.rate import RateLimit
from services.ingest.routes import ingest_router
from services.runtime.auth import Authenticator, mint_token
from services.runtime.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import AuthSettings, HttpSettings

SECRET = "a secret of at least thirty-two bytes"
ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
MESSAGES = f"/v1/chats/{CHAT}/messages"


class Writer:
    """Answers every command with `answer`, and notes the commands and how long they would be waited for."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.waits_s: list[float] = []
        self.answer: dict[str, Any] = {"outcome": OutcomeKind.ACCEPTED, "seq": 1, "position": 2, "sent_at_ms": 0}

    async def send(self, command: Command, wait_s: float, _: ClientGone | None) -> Reply | Pending:
        self.commands.append(command)
        self.waits_s.append(wait_s)
        if wait_s == 0:
            return Pending(command=command, partition=5, offset=99)
        return Reply(request_id="r", partition=5, index=1, command_offset=0, **self.answer)


class Api:
    def __init__(self, *, rate: RateLimit | None = None) -> None:
        self.writer = Writer()
        self.app = build_app(
            title="test",
            service="ingest",
            http=HttpSettings(),
            readiness=Readiness(),
            authenticator=Authenticator(AuthSettings(secret=SECRET)),
        )
        marks = MarkMerger(self.writer.send, window_s=0.01)
        self.app.include_router(ingest_router(send=self.writer.send, marks=marks, default_wait_s=2.0, rate=rate))

    def call(
        self, method: str, path: str, *, scopes: str = "", token: str | None = None, headers: Any = None, **body: Any
    ) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                bearer = mint_token(SECRET, ALICE, scopes=scopes.split()) if token is None else token
                sent = httpx.Headers(headers if headers is not None else {"Idempotency-Key": "k-1"})
                if bearer:
                    sent["Authorization"] = f"Bearer {bearer}"
                return await client.request(method, path, headers=sent, **body)

        return asyncio.run(call())


@pytest.fixture
def api() -> Api:
    return Api()


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    return response.status_code, document["type"].removeprefix("/problems/")


def test_a_message_is_201_with_the_shape_of_the_contract(api: Api) -> None:
    response = api.call("POST", MESSAGES, json={"text": "Hi"})
    assert response.status_code == 201
    assert response.headers["location"] == f"{MESSAGES}/1"
    assert response.json() == {
        "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
        "chat_id": CHAT,
        "seq": 1,
        "position": 2,
        "sent_at": "1970-01-01T00:00:00.000Z",
        "token": "5:1",
        "duplicate": False,
    }


def test_the_trace_of_a_request_goes_with_its_command(api: Api) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    api.call("POST", MESSAGES, json={"text": "Hi"}, headers={"Idempotency-Key": "k", "traceparent": traceparent})
    assert api.writer.commands[0].traceparent == traceparent


@pytest.mark.parametrize(
    ("prefer", "wait_s"), [(None, 2.0), ("wait=7", 7.0), ("wait=70", 30.0), ("respond-async, wait=3", 3.0)]
)
def test_prefer_says_how_long_the_outcome_is_waited_for(api: Api, prefer: str | None, wait_s: float) -> None:
    headers = {"Idempotency-Key": "k"} | ({"Prefer": prefer} if prefer is not None else {})
    response = api.call("POST", MESSAGES, json={"text": "Hi"}, headers=headers)
    assert response.status_code == 201
    assert api.writer.waits_s == [wait_s]


@pytest.mark.parametrize("prefer", ["respond-async", "wait=0"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", MESSAGES, {"text": "Hi"}),
        ("POST", "/v1/chats", {"kind": "group", "name": "Ops room", "members": []}),
        ("PUT", f"/v1/direct-chats/{BOB}", None),
        ("PUT", f"/v1/chats/{CHAT}/members/{BOB}", None),
        ("DELETE", f"/v1/chats/{CHAT}/members/{BOB}", None),
        ("POST", f"/v1/chats/{CHAT}/read", {"up_to_seq": 1}),
        ("POST", f"/v1/chats/{CHAT}/delivered", {"up_to_seq": 1}),
    ],
)
def test_any_command_can_be_answered_202(api: Api, prefer: str, method: str, path: str, body: Any) -> None:
    response = api.call(method, path, json=body, headers={"Idempotency-Key": "k-1", "Prefer": prefer})
    command = api.writer.commands[0]
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/chats/{command.chat_id}/commands/{command.command_id}?at=5:99"
    assert response.headers["retry-after"] == "1"
    assert response.headers["preference-applied"] == prefer
    assert response.json() == {"chat_id": command.chat_id, "command_id": command.command_id, "at": "5:99"}


def test_ids_in_the_path_are_taken_in_any_case(api: Api) -> None:
    api.call("PUT", f"/v1/chats/{CHAT.upper()}/members/{BOB.upper()}")
    command = api.writer.commands[0]
    assert (command.chat_id, command.body) == (CHAT, b'{"user_id":"%s","role":"member"}' % BOB.encode())


@pytest.mark.parametrize(
    ("method", "path", "pointer"),
    [
        ("POST", "/v1/chats/7/messages", "/chat_id"),
        ("POST", f"/v1/chats/{CHAT.replace('-', '')}/messages", "/chat_id"),
        ("POST", f"/v1/chats/{CHAT}x/read", "/chat_id"),
        ("POST", f"/v1/chats/{CHAT}%0A/read", "/chat_id"),
        ("PUT", "/v1/direct-chats/bob", "/user_id"),
        ("PUT", f"/v1/chats/{CHAT}/members/b%C3%B6b", "/user_id"),
    ],
)
def test_an_invalid_uuid_in_the_path_is_400_and_says_which(api: Api, method: str, path: str, pointer: str) -> None:
    response = api.call(method, path, json={"text": "Hi"})
    assert problem(response) == (400, "malformed")
    assert [(e["in"], e["pointer"]) for e in response.json()["errors"]] == [("path", pointer)]
    assert api.writer.commands == []


@pytest.mark.parametrize("token", ["", "x", mint_token("another secret of thirty-two bytes!!", ALICE)])
def test_without_a_good_token_nothing_is_sent(api: Api, token: str) -> None:
    response = api.call("POST", MESSAGES, token=token, json={"text": "Hi"})
    assert problem(response) == (401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert api.writer.commands == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "malformed")),
        (b"{", (400, "malformed")),
        (b'{"text":"\xff"}', (400, "malformed")),
        (b'{"text":"a\\u0000"}', (422, "invalid")),
        (b'{"text":"a","metadata":{"n":1e400}}', (422, "invalid")),
        (b'{"text":"a","metadata":{"n":NaN}}', (422, "invalid")),
        (b'{"text":"a","metadata":{"n":' + b"[" * 20_000 + b"]" * 20_000 + b"}}", (422, "invalid")),
        (b'{"text":"' + b"x" * 16_385 + b'"}', (413, "too_large")),
        (b'{"text":"' + b"x" * 600_000 + b'"}', (413, "too_large")),
        (b'{"text":"a","unknown\\u0000":1}', (400, "malformed")),
    ],
)
def test_a_bad_body_is_a_problem_and_never_a_500(api: Api, body: bytes, expected: tuple[int, str]) -> None:
    assert problem(api.call("POST", MESSAGES, content=body)) == expected
    assert api.writer.commands == []


def test_the_content_type_of_a_body_does_not_matter(api: Api) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/x-www-form-urlencoded"}  # curl -d
    assert api.call("POST", MESSAGES, content=b'{"text":"a"}', headers=headers).status_code == 201


def test_no_key_and_two_keys_are_400(api: Api) -> None:
    assert problem(api.call("POST", MESSAGES, headers={}, json={"text": "a"})) == (400, "missing_key")
    two = {"text": "a", "client_generated_id": "k-2"}
    assert problem(api.call("POST", MESSAGES, json=two)) == (400, "malformed")
    lines = [("Idempotency-Key", "k-1"), ("Idempotency-Key", "k-2")]
    assert problem(api.call("POST", MESSAGES, headers=lines, json={"text": "a"})) == (400, "malformed")
    assert api.writer.commands == []


def test_sending_for_another_needs_the_scope_producer(api: Api) -> None:
    headers = {"Idempotency-Key": "k", "Gapless-Sender": BOB}
    assert problem(api.call("POST", MESSAGES, headers=headers, json={"text": "a"})) == (403, "forbidden")
    assert api.call("POST", MESSAGES, headers=headers, json={"text": "a"}, scopes="producer").status_code == 201
    assert [command.sender_id for command in api.writer.commands] == [BOB]


def test_a_rejection_is_its_problem(api: Api) -> None:
    api.writer.answer = {"outcome": OutcomeKind.REJECTED, "reason": Reason.CHAT_EXISTS, "detail": "there is one"}
    response = api.call("POST", "/v1/chats", json={"kind": "group", "name": "Ops room", "members": []})
    assert problem(response) == (409, "chat_exists")
    assert response.json()["chat_id"] == CHAT


def test_a_direct_chat_is_201_and_again_200(api: Api) -> None:
    api.writer.answer = {"outcome": OutcomeKind.ACCEPTED, "position": 1}
    first = api.call("PUT", f"/v1/direct-chats/{BOB}", headers={})
    api.writer.answer = {"outcome": OutcomeKind.UNCHANGED, "position": 1}
    again = api.call("PUT", f"/v1/direct-chats/{BOB}", headers={})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["chat_id"] == "92829b37-1415-5fdc-927d-ed03f0e25e16"


@pytest.mark.parametrize(("path", "command_type"), [("read", "read.mark.v1"), ("delivered", "delivered.mark.v1")])
def test_a_mark_has_the_shape_of_the_contract(api: Api, path: str, command_type: str) -> None:
    api.writer.answer = {"outcome": OutcomeKind.ACCEPTED, "updated_count": 3, "read_seq": 7}
    response = api.call("POST", f"/v1/chats/{CHAT}/{path}", json={"up_to_seq": 7}, headers={})
    assert (response.status_code, response.json()) == (200, {"updated_count": 3, "read_seq": 7})
    assert api.writer.commands[0].type == command_type


def test_who_sends_too_fast_is_429_and_producers_are_not() -> None:
    api = Api(rate=RateLimit(rate_per_s=0.001, burst=1))
    assert api.call("POST", MESSAGES, json={"text": "a"}).status_code == 201
    response = api.call("POST", MESSAGES, json={"text": "a"})
    assert problem(response) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) > 900
    assert api.call("POST", MESSAGES, json={"text": "a"}, scopes="producer").status_code == 201


def test_openapi_describes_every_body_answer_and_problem(api: Api) -> None:
    document = api.app.openapi()
    operations = {(m, p): operation for p, item in document["paths"].items() for m, operation in item.items()}
    assert len(operations) == 7
    for operation in operations.values():
        assert {"202", "400", "401", "403", "422", "429", "503"} <= set(operation["responses"])
        assert operation["security"] == [{"HTTPBearer": []}]
    send = operations["post", "/v1/chats/{chat_id}/messages"]
    assert send["requestBody"]["content"]["application/json"]["schema"]["required"] == ["text"]
    assert {"200", "201", "404", "413"} <= set(send["responses"])
    fields = document["components"]["schemas"]["MessageSent"]["properties"]
    assert list(fields) == ["message_id", "chat_id", "seq", "position", "sent_at", "token", "duplicate"]
    assert "409" in operations["post", "/v1/chats"]["responses"]
