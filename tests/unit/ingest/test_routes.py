"""The paths of ingest behind the real application, with scripted decisions of the writer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.paths.batch import BATCH_ITEMS
from services.ingest.api.rate import RateLimit
from services.ingest.api.route import CommandRoute
from services.ingest.api.routes import BODY_LIMIT_BYTES_BY_PATH, ingest_router
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending
from services.ingest.sending.receipts import ReceiptCoalescer
from services.runtime.access.auth import Authenticator, mint_token
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import AuthSettings, HttpSettings
from services.runtime.web.problems import Problem

SECRET = "a secret of at least thirty-two bytes"
ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
MESSAGES = f"/v1/chats/{CHAT}/messages"


class Writer:
    """Answers every command with `answer`, and records the commands and how long they would be waited for."""

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

    async def send_all(
        self, commands: Sequence[Command], wait_s: float, client_gone: ClientGone | None
    ) -> list[Reply | Pending | Problem]:
        return [await self.send(command, wait_s, client_gone) for command in commands]


class Api:
    def __init__(self, *, rate: RateLimit | None = None) -> None:
        self.writer = Writer()
        self.app = build_app(
            title="test",
            service="ingest",
            http=HttpSettings(),
            readiness=Readiness(),
            authenticator=Authenticator(AuthSettings(secret=SECRET)),
            body_limit_bytes_by_path=BODY_LIMIT_BYTES_BY_PATH,
        )
        receipts = ReceiptCoalescer(self.writer.send, window_s=0.01)
        self.router = ingest_router(
            send=self.writer.send, send_all=self.writer.send_all, receipts=receipts, default_wait_s=2.0, rate=rate
        )
        self.app.include_router(self.router)

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
        ("DELETE", f"{MESSAGES}/7", None),
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
    told = {"chat_id": command.chat_id, "command_id": command.command_id, "at": "5:99"}
    if command.type == "message.send.v1":
        told["message_id"] = command.command_id
    assert response.json() == told


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
        ("DELETE", f"{MESSAGES}/0", "/seq"),
        ("DELETE", f"{MESSAGES}/-1", "/seq"),
        ("DELETE", f"{MESSAGES}/last", "/seq"),
        ("DELETE", f"{MESSAGES}/%D9%A3", "/seq"),
        ("DELETE", f"{MESSAGES}/{'9' * 20}", "/seq"),
    ],
)
def test_an_invalid_id_or_seq_in_the_path_is_400_and_says_which(api: Api, method: str, path: str, pointer: str) -> None:
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


def test_a_deletion_is_200_the_first_time_and_ever_after(api: Api) -> None:
    answered = []
    for outcome in (OutcomeKind.ACCEPTED, OutcomeKind.UNCHANGED, OutcomeKind.DUPLICATE):
        api.writer.answer = {"outcome": outcome, "position": 9}
        answered.append(api.call("DELETE", f"{MESSAGES}/7", headers={}))
    assert [response.status_code for response in answered] == [200] * 3
    first = answered[0].json()
    assert (first["chat_id"], first["seq"], first["position"], first["duplicate"]) == (CHAT, 7, 9, False)
    assert answered[2].json()["duplicate"]
    command = api.writer.commands[0]
    assert (command.type, command.body) == ("message.delete.v1", b'{"seq":7}')
    assert command.client_generated_id != api.writer.commands[1].client_generated_id


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


def test_a_response_says_what_is_left_of_the_rate_and_a_refusal_does_too() -> None:
    api = Api(rate=RateLimit(rate_per_s=0.001, burst=2))
    responses = [api.call("POST", MESSAGES, json={"text": "a"}) for _ in range(3)]
    assert [response.status_code for response in responses] == [201, 201, 429]
    assert {response.headers["ratelimit-policy"] for response in responses} == {'"requests";q=2;w=2000'}
    assert [response.headers["ratelimit"].split(";t=")[0] for response in responses] == [
        '"requests";r=1',
        '"requests";r=0',
        '"requests";r=0',
    ]
    assert all(0 < int(response.headers["ratelimit"].split(";t=")[1]) <= 2_000 for response in responses)


def test_a_batch_counts_each_message_and_says_once_what_is_left() -> None:
    api = Api(rate=RateLimit(rate_per_s=0.001, burst=2))
    response = api.call("POST", BATCH, json=[item(1), item(2), item(3)], headers={})
    assert [answer["status"] for answer in response.json()] == [201, 201, 429]
    assert response.headers.get_list("ratelimit-policy") == ['"requests";q=2;w=2000']
    assert [value.split(";t=")[0] for value in response.headers.get_list("ratelimit")] == ['"requests";r=0']


def test_without_a_limit_and_for_a_producer_nothing_is_said_of_a_rate(api: Api) -> None:
    limited = Api(rate=RateLimit(rate_per_s=1, burst=1))
    for response in (
        api.call("POST", MESSAGES, json={"text": "a"}),
        limited.call("POST", MESSAGES, json={"text": "a"}, scopes="producer"),
    ):
        assert not {"ratelimit", "ratelimit-policy"} & set(response.headers)


def item(number: int, **fields: Any) -> dict[str, Any]:
    return {"chat_id": CHAT, "client_generated_id": f"k-{number}", "text": f"text {number}"} | fields


BATCH = "/v1/messages:batch"


@pytest.mark.parametrize("lines", [False, True])
def test_a_batch_is_answered_message_by_message_in_its_order(api: Api, lines: bool) -> None:
    """An array, or one message per line; the content type is ignored."""
    items = [item(1), item(2, chat_id=CHAT.upper()), item(3, client_generated_id="k-1")]
    array, ndjson = json.dumps(items), "\r\n\n".join(json.dumps(each) for each in items) + "\n"
    response = api.call("POST", BATCH, content=ndjson if lines else f" {array}", headers={})
    assert response.status_code == 200
    alone = Api().call("POST", MESSAGES, json={"text": "text 1"}).json()
    ids = [command.command_id for command in api.writer.commands]
    assert ids[0] == ids[2] == alone["message_id"]
    assert response.json() == [
        {
            "index": index,
            "status": 201,
            "location": f"{MESSAGES}/1",
            "result": alone | {"message_id": command_id},
        }
        for index, command_id in enumerate(ids)
    ]
    assert [command.body for command in api.writer.commands] == [b'{"text":"text %d"}' % n for n in (1, 2, 3)]


def test_what_is_wrong_with_one_message_of_a_batch_does_not_touch_the_others(api: Api) -> None:
    bad: list[tuple[str, int, str]] = [
        (json.dumps(item(1, text="x" * 16_385)), 413, "too_large"),
        (json.dumps({"chat_id": CHAT, "text": "a"}), 400, "missing_key"),
        (json.dumps(item(1, chat_id="7")), 400, "malformed"),
        (json.dumps(item(1, surplus=1)), 400, "malformed"),
        (json.dumps(item(1, sender_id=BOB)), 403, "forbidden"),
        (json.dumps(item(1, original_sent_at="2020-01-01T00:00:00Z")), 403, "forbidden"),
        (json.dumps(item(1, text="\0")), 422, "invalid"),
        ("[" * 900 + "]" * 900, 422, "invalid"),
        ("7", 400, "malformed"),
        ("null", 400, "malformed"),
    ]
    good = json.dumps(item(0))
    body = "[" + ",".join(f"{good},{text}" for text, _, _ in bad) + "]"
    found = api.call("POST", BATCH, content=body, headers={}).json()
    assert [answer["status"] for answer in found[::2]] == [201] * len(bad)
    problems = [(answer["status"], answer["problem"]["type"]) for answer in found[1::2]]
    assert problems == [(status, f"/problems/{reason}") for _, status, reason in bad]
    assert [answer["index"] for answer in found] == list(range(2 * len(bad)))
    assert len(api.writer.commands) == len(bad)


def test_a_broken_line_of_a_batch_fails_alone(api: Api) -> None:
    body = b"\n".join((json.dumps(item(1)).encode(), b'{"chat_id', b'{"text":"\xff"}', json.dumps(item(2)).encode()))
    found = api.call("POST", BATCH, content=body, headers={}).json()
    assert [answer["status"] for answer in found] == [201, 400, 400, 201]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, (400, "malformed")),
        (b" \n", {}, (400, "malformed")),
        (b"[", {}, (400, "malformed")),
        (b"[1,]", {}, (400, "malformed")),
        (b"[" * 100_000, {}, (400, "malformed")),
        (b"[" + b",".join([b"1"] * (BATCH_ITEMS + 1)) + b"]", {}, (413, "too_large")),
        (b"[" + b" " * 5_000_000 + b"]", {}, (413, "too_large")),
        (b"[]", {"Idempotency-Key": "k"}, (400, "malformed")),
    ],
)
def test_a_batch_that_cannot_be_told_apart_is_a_problem(
    api: Api, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert problem(api.call("POST", BATCH, content=body, headers=headers)) == expected


def test_a_batch_of_nothing_is_answered_with_nothing(api: Api) -> None:
    assert api.call("POST", BATCH, content=b"[ ]", headers={}).json() == []


def test_a_batch_may_be_larger_than_a_command(api: Api) -> None:
    body = json.dumps([item(n, text="x" * 10_000) for n in range(100)])
    assert {answer["status"] for answer in api.call("POST", BATCH, content=body, headers={}).json()} == {201}


def test_while_a_large_batch_is_read_other_requests_have_their_turns(api: Api) -> None:
    """Its messages are valid, and take more than a second together."""
    crowded = item(0, metadata={"a": [[]] * 1_300})
    body = json.dumps([crowded] * BATCH_ITEMS, separators=(",", ":"))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while not api.writer.commands:
            turns += 1
            await asyncio.sleep(0)

    async def call() -> httpx.Response:
        headers = {"Authorization": f"Bearer {mint_token(SECRET, ALICE)}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://test") as client:
            counting = asyncio.create_task(count_turns())
            answer = await client.post(BATCH, content=body, headers=headers)
            await counting
        return answer

    assert {answer["status"] for answer in asyncio.run(call()).json()} == {201}
    assert turns > 20


def test_a_rejection_and_a_command_without_an_outcome_are_told_of_within_the_batch(api: Api) -> None:
    api.writer.answer = {"outcome": OutcomeKind.REJECTED, "reason": Reason.UNKNOWN_CHAT, "detail": "no such chat"}
    (answer,) = api.call("POST", BATCH, json=[item(1)], headers={}).json()
    assert (answer["status"], answer["problem"]["type"]) == (404, "/problems/unknown_chat")
    response = api.call("POST", BATCH, json=[item(1)], headers={"Prefer": "respond-async"})
    command_id = api.writer.commands[-1].command_id
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "respond-async"
    alone = api.call(
        "POST", MESSAGES, json={"text": "text 1"}, headers={"Prefer": "respond-async", "Idempotency-Key": "k-1"}
    )
    assert alone.json()["message_id"] == command_id
    told = {"location": alone.headers["location"], "retry_after_s": int(alone.headers["retry-after"])}
    assert response.json() == [{"index": 0, "status": 202, "result": alone.json()} | told]


def test_each_message_of_a_batch_counts_against_the_rate() -> None:
    api = Api(rate=RateLimit(rate_per_s=0.001, burst=2))
    found = api.call("POST", BATCH, json=[item(n) for n in range(3)], headers={}).json()
    assert [answer["status"] for answer in found] == [201, 201, 429]


def test_openapi_describes_every_body_answer_and_problem(api: Api) -> None:
    document = api.app.openapi()
    operations = {(m, p): operation for p, item in document["paths"].items() for m, operation in item.items()}
    routes = [route for route in api.router.routes if isinstance(route, CommandRoute)]
    assert {(method.lower(), route.path) for route in routes for method in route.methods or ()} == set(operations)
    batch = operations.pop(("post", BATCH))
    assert set(batch["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    assert {"200", "400", "401", "413", "503"} <= set(batch["responses"])
    for operation in operations.values():
        assert {"202", "400", "401", "403", "422", "429", "503"} <= set(operation["responses"])
        assert operation["security"] == [{"HTTPBearer": []}]
    send = operations["post", "/v1/chats/{chat_id}/messages"]
    assert send["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/SendMessage")
    assert document["components"]["schemas"]["SendMessage"]["required"] == ["text"]
    assert {"200", "201", "404", "413"} <= set(send["responses"])
    fields = document["components"]["schemas"]["MessageSent"]["properties"]
    assert list(fields) == ["message_id", "chat_id", "seq", "position", "sent_at", "token", "duplicate"]
    assert "409" in operations["post", "/v1/chats"]["responses"]
    delete = operations["delete", "/v1/chats/{chat_id}/messages/{seq}"]
    assert {"200", "404"} <= set(delete["responses"])
    assert {p["name"]: p["schema"].get("type") for p in delete["parameters"]}["seq"] == "integer"
