"""What every HTTP service does with a request before and after its own handler, over ASGI and a real socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, SecretStr

from services.runtime.access.auth import Authenticator, Caller, caller_dependency, current_caller, mint_token
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.serving.server import HttpServer
from services.runtime.settings import AuthSettings, HttpSettings
from services.runtime.web.cors import EXPOSED_HEADERS
from services.runtime.web.openapi import problem_responses
from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import Problem
from services.runtime.web.request_bodies import DRAIN_LIMIT_BYTES

SECRET = "a development secret of 32 bytes!"
LIMIT_BYTES = 1000
PRIVATE = "a very private sentence"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str
    count: int = 1


ROUTES = APIRouter(prefix="/v1")


@ROUTES.post("/chats/{chat}/messages", responses=problem_responses("unknown_chat", "not_member", "forbidden"))
async def send(chat: int, body: Body, limit: int = 5) -> dict[str, int]:
    return {"chat": chat, "length": len(body.text), "limit": limit}


@ROUTES.post("/messages:batch")
async def batch(request: Request) -> int:
    return len(await request.body())


@ROUTES.get("/me")
async def me(caller: Annotated[Caller, Depends(current_caller)]) -> str:
    return caller.user_id


@ROUTES.get("/ids")
async def ids(request: Request) -> dict[str, Any]:
    return {
        "request_id": request.state.request_id,
        "traceparent": request.state.traceparent,
        "log": structlog.contextvars.get_contextvars(),
    }


@ROUTES.get("/refused")
async def refused() -> None:
    raise Problem("chat_exists", "You have a group of this name.", chat_id="c-1")


@ROUTES.get("/busy")
async def busy() -> None:
    raise Problem("unavailable", "The queue is full.", retry_after_s=0.2)


@ROUTES.get("/broken")
async def broken() -> None:
    raise RuntimeError("the reason that stays in the log")


@ROUTES.get("/half")
async def half() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("gone")

    return StreamingResponse(parts())


def app_under_test(**settings: Any) -> FastAPI:
    app = build_app(
        title="Test",
        service="test",
        http=HttpSettings(body_limit_bytes=LIMIT_BYTES, **settings),
        readiness=Readiness(),
        authenticator=Authenticator(AuthSettings(secret=SecretStr(SECRET))),
        body_limit_bytes_by_path={"/v1/messages:batch": 5 * LIMIT_BYTES},
    )
    app.include_router(ROUTES)
    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_under_test()) as client:
        yield client


def problem(answer: httpx.Response, reason: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{reason}"
    assert document["status"] == answer.status_code == PROBLEM_TYPES[reason].status
    assert document["title"] == PROBLEM_TYPES[reason].title
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


async def test_a_good_request_is_answered(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chats/7/messages", json={"text": "hi"})
    assert (answer.status_code, answer.json()) == (200, {"chat": 7, "length": 2, "limit": 5})


async def test_every_wrong_place_is_named_by_a_pointer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chats/x/messages?limit=y", json={"count": [PRIVATE], "a/b~c": PRIVATE})
    document = problem(answer, "malformed")
    places = {(error["in"], error["pointer"]) for error in document["errors"]}
    assert places == {
        ("path", "/chat"),
        ("query", "/limit"),
        ("body", "/text"),
        ("body", "/count"),
        ("body", "/a~1b~0c"),
    }
    assert PRIVATE not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'{"text": "\xff"}',
        b"[" * 900,
        b"[]",
        b"null",
        b'{"text": 1e400}',
        b'{"text": ' + b"9" * 800,
        b'{"\\ud800": 1}',
    ],
)
async def test_a_body_nobody_can_read_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    for headers in ({}, {"Content-Type": "application/json"}):
        problem(await client.post("/v1/chats/7/messages", content=body, headers=headers), "malformed")


@pytest.mark.parametrize("value", [b"[" * 20_000, b"1" * 5_000 + b"}"])
async def test_what_a_parser_gives_up_on_is_malformed(value: bytes) -> None:
    app = build_app(title="T", service="t", http=HttpSettings(), readiness=Readiness())
    app.include_router(ROUTES)
    async with client_of(app) as client:
        answer = await client.post("/v1/chats/7/messages", content=b'{"count":' + value)
        problem(answer, "malformed")


async def test_a_form_is_told_to_be_json(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/v1/chats/7/messages", data={"text": "hi"}), "malformed")
    assert "Content-Type: application/json" in document["detail"]


async def test_a_problem_carries_its_members(client: httpx.AsyncClient) -> None:
    document = problem(await client.get("/v1/refused"), "chat_exists")
    assert document["chat_id"] == "c-1"
    assert document["detail"] == "You have a group of this name."


async def test_retry_after_is_in_whole_seconds(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/busy")
    assert problem(answer, "unavailable")["retry_after_s"] == 1
    assert answer.headers["retry-after"] == "1"


async def test_paths_and_methods_that_are_not_there_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v2"), "not_found")
    answer = await client.get("/v1/chats/7/messages")
    problem(answer, "method_not_allowed")
    assert answer.headers["allow"] == "POST, OPTIONS"


async def test_an_unexpected_error_is_a_500_that_tells_nothing(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as events:
        answer = await client.get("/v1/broken")
    problem(answer, "internal")
    assert "reason that stays" not in answer.text
    (event,) = [event for event in events if event["event"] == "request_failed"]
    assert event["route"] == "/v1/broken"
    assert str(event["exc_info"]) == "the reason that stays in the log"


async def test_an_answer_that_breaks_off_is_not_made_to_look_whole(client: httpx.AsyncClient) -> None:
    with pytest.raises(RuntimeError, match="gone"):
        await client.get("/v1/half")


async def test_the_type_of_each_problem_resolves_to_a_page(client: httpx.AsyncClient) -> None:
    for reason, kind in PROBLEM_TYPES.items():
        answer = await client.get(f"/problems/{reason}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert f"<h1>{kind.title}</h1>" in answer.text
        assert f"<code>/problems/{reason}</code>" in answer.text
        assert f'href="/problems/{reason}"' in (await client.get("/problems")).text
    problem(await client.get("/problems/<script>"), "not_found")


async def test_a_request_id_is_taken_over(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/ids", headers={"X-Request-Id": "abc/1"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "abc/1"
    assert answer.json()["log"]["request_id"] == "abc/1"


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xfc"])
async def test_a_bad_request_id_is_replaced(client: httpx.AsyncClient, given: bytes) -> None:
    answer = await client.get("/v1/ids", headers=[(b"X-Request-Id", given)])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_two_request_ids_are_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/ids", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert answer.headers["x-request-id"] not in ("a", "b", "a, b")


async def test_a_traceparent_is_passed_along(client: httpx.AsyncClient) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await client.get("/v1/ids", headers={"traceparent": given})
    assert answer.headers["traceparent"] == answer.json()["traceparent"] == given
    assert answer.json()["log"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_bad_traceparent_is_replaced_by_a_fresh_one(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/v1/ids", headers={"traceparent": "00-zz"}) for _ in range(2)]
    first, second = (answer.headers["traceparent"] for answer in answers)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", first)
    assert first != second


async def test_errors_have_ids_too(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/v1/broken", "/v1/refused"):
        answer = await client.get(path, headers={"X-Request-Id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["traceparent"]


async def pieces(total_bytes: int) -> AsyncIterator[bytes]:
    yield b'{"text":"'
    for _ in range(total_bytes // 100):
        yield b"x" * 100
    yield b'"}'


async def test_a_body_over_the_limit_is_too_large_announced_or_streamed(client: httpx.AsyncClient) -> None:
    whole = b"".join([piece async for piece in pieces(2 * LIMIT_BYTES)])
    for path in ("/v1/chats/7/messages", "/nope"):
        problem(await client.post(path, content=whole), "too_large")
    streamed = await client.post("/v1/chats/7/messages", content=pieces(2 * LIMIT_BYTES))
    assert problem(streamed, "too_large")["limit_bytes"] == LIMIT_BYTES


async def test_a_body_at_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    body = b'{"text":"' + b"x" * (LIMIT_BYTES - 11) + b'"}'
    assert len(body) == LIMIT_BYTES
    assert (await client.post("/v1/chats/7/messages", content=body)).status_code == 200


async def test_a_path_can_have_a_limit_of_its_own(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/messages:batch", content=b"x" * 5 * LIMIT_BYTES)).status_code == 200
    answer = await client.post("/v1/messages:batch", content=b"x" * (5 * LIMIT_BYTES + 1))
    assert problem(answer, "too_large")["limit_bytes"] == 5 * LIMIT_BYTES


async def test_a_request_too_many_is_sent_away_but_health_never_is() -> None:
    app = app_under_test(max_concurrent_requests=1)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        inside.set()
        await leave.wait()
        return "done"

    app.get("/slow")(slow)
    async with client_of(app) as client:
        first = asyncio.create_task(client.get("/slow"))
        await inside.wait()
        refused = await client.get("/v1/ids")
        problem(refused, "unavailable")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        leave.set()
        assert (await first).json() == "done"
        assert (await client.get("/v1/ids")).status_code == 200


async def test_one_token_takes_its_share_of_the_places_and_no_more() -> None:
    app = app_under_test(max_concurrent_requests=8)
    inside, leave = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> str:
        inside.release()
        await leave.wait()
        return "done"

    app.get("/slow")(slow)
    greedy, other = {"Authorization": "Bearer greedy"}, {"Authorization": "Bearer other"}
    async with client_of(app) as client:
        held = [asyncio.create_task(client.get("/slow", headers=greedy)) for _ in range(2)]
        for _ in held:
            await inside.acquire()
        refused = await client.get("/v1/ids", headers=greedy)
        problem(refused, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        for headers in (other, {}):
            assert (await client.get("/v1/ids", headers=headers)).status_code == 200
        leave.set()
        assert {(await each).status_code for each in held} == {200}
        assert (await client.get("/v1/ids", headers=greedy)).status_code == 200


async def test_requests_are_measured_by_route_template(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chats/4711/messages", json={"text": "hi"})
    await client.get("/no/such/4712")
    await client.request("BREW", "/v1/ids")
    metrics = (await client.get("/metrics")).text
    name = "gapless_http_request_duration_seconds_count"
    assert f'{name}{{method="POST",route="/v1/chats/{{chat}}/messages",status="200"}}' in metrics
    assert f'{name}{{method="GET",route="unmatched",status="404"}}' in metrics
    assert f'{name}{{method="other",route="/v1/ids",status="405"}}' in metrics
    labels = re.findall(r"\{.*\}", metrics)  # a measured figure may hold any digits
    assert not [label for label in labels if "4711" in label or "4712" in label]
    assert 'gapless_build_info{python="' in metrics


async def test_without_a_token_the_answer_says_how_to_authenticate(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        answer = await client.get("/v1/me", headers=headers)
        problem(answer, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    bad = await client.get("/v1/me", headers={"Authorization": "Bearer x.y.z"})
    assert bad.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_with_a_token_the_route_knows_the_caller(client: httpx.AsyncClient) -> None:
    user = "11111111-1111-4111-8111-111111111111"
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {mint_token(SECRET, user)}"})
    assert answer.json() == user


async def test_a_dependency_can_be_bound_to_an_authenticator() -> None:
    app = build_app(title="T", service="t", http=HttpSettings(), readiness=Readiness())
    dependency = caller_dependency(Authenticator(AuthSettings(secret=SecretStr(SECRET))))

    async def who(caller: Caller) -> str:
        return caller.claim

    who.__annotations__["caller"] = Annotated[Caller, Depends(dependency)]
    app.get("/who")(who)
    async with client_of(app) as client:
        token = mint_token(SECRET, "bob")
        assert (await client.get("/who", headers={"Authorization": f"Bearer {token}"})).json() == "bob"
        problem(await client.get("/who"), "unauthorized")


PREFLIGHT = {
    "Origin": "https://a.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,idempotency-key,gapless-at-least,prefer",
}


async def test_a_browser_of_an_allowed_origin_may_call_and_read_even_errors() -> None:
    async with client_of(app_under_test(cors_origins=("https://a.example",))) as client:
        for path in ("/v1/ids", "/v1/broken", "/nowhere"):
            answer = await client.get(path, headers={"Origin": "https://a.example"})
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
            assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED_HEADERS)
        other = await client.get("/v1/ids", headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_a_preflight_is_told_the_methods_of_its_path_and_has_an_id() -> None:
    async with client_of(app_under_test(cors_origins=("https://a.example",))) as client:
        for path, methods in (("/v1/chats/7/messages", "POST, OPTIONS"), ("/v1/ids", "GET, HEAD, OPTIONS")):
            answer = await client.options(path, headers=PREFLIGHT)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["access-control-allow-methods"] == methods
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
            assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
            assert answer.headers["x-request-id"]


async def test_a_preflight_of_another_origin_is_refused_with_a_problem() -> None:
    async with client_of(app_under_test(cors_origins=("https://a.example",))) as client:
        answer = await client.options("/v1/ids", headers=PREFLIGHT | {"Origin": "https://b.example"})
        problem(answer, "forbidden")
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_any_origin_may_call_where_the_settings_say_so() -> None:
    async with client_of(app_under_test(cors_origins=("*",))) as client:
        answer = await client.options("/v1/ids", headers=PREFLIGHT)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")


async def test_without_origins_no_browser_of_another_site_may_call(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/ids", headers={"Origin": "https://a.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_openapi_describes_errors_as_problem_documents(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/chats/{chat}/messages"]["post"]["responses"]
    assert set(responses) == {"200", "403", "404", "default"}
    assert "`not_member`" in responses["403"]["description"]
    assert "`forbidden`" in responses["403"]["description"]
    schema = responses["404"]["content"]["application/problem+json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in str(document)
    assert document["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status"]


async def test_a_client_that_sends_far_too_much_still_gets_the_answer_over_a_real_socket() -> None:
    server = HttpServer(app_under_test(), host="127.0.0.1", port=0)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, verify=False) as client:
            small = await client.post("/v1/messages:batch", content=b"x" * 2_000_000)
            problem(small, "too_large")
            assert "connection" not in small.headers
            assert (await client.get("/v1/ids")).status_code == 200
            streamed = await client.post("/v1/chats/7/messages", content=pieces(500_000))
            problem(streamed, "too_large")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /v1/ids HTTP/1.1\r\nHost: x\r\nContent-Length: {DRAIN_LIMIT_BYTES * 4}\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        async with asyncio.timeout(30):
            answer = await reader.read()  # to the end: the connection is closed, as no body will follow
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.close()
    finally:
        await server.stop()
