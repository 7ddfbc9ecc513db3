"""Bad input and stalled servers, through the whole system: a clear answer to each, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from services.runtime.access.auth import mint_token
from services.runtime.web.cors import EXPOSED_HEADERS
from services.runtime.web.problem_types import PROBLEM_TYPES
from tests.support.chat_log import ANNA, BEN, CARL, DORA
from tests.support.pausing import family, paused
from tests.support.refusals import REFUSALS, SECRET, Bad, in_chunks
from tests.support.running_stack import RunningStack

NOWHERE = "99999999-9999-4999-8999-999999999999"
RECOVERY_S = 120.0

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(slots=True)
class World:
    """A stack with one chat of Anna's: Ben is a member, Dora was one, Carl never was."""

    stack: RunningStack
    http: httpx.AsyncClient
    chat: str
    tokens: dict[str, str]
    seq: int = 0
    """Seq of the last message."""
    sends: int = 0

    @property
    def messages(self) -> str:
        return f"/v1/chats/{self.chat}/messages"

    def names(self) -> dict[str, str]:
        """Return the values of the braces in a request."""
        return {**self.tokens, "chat": self.chat, "nowhere": NOWHERE, "anna": ANNA, "carl": CARL}

    def as_(self, who: str, **headers: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}", **headers}

    async def send(self, text: str, key: str, *, prefer: str | None = "wait=30") -> httpx.Response:
        """Send a message as Ben."""
        preferred = {} if prefer is None else {"Prefer": prefer}
        headers = self.as_("ben", **{"Idempotency-Key": key}, **preferred)
        return await self.http.post(self.messages, json={"text": f"{text} {SECRET}"}, headers=headers)

    async def good(self) -> None:
        """Check that a good send is the next message, at once, and in history for a reader with its token."""
        self.sends += 1
        sent = await self.send(f"good {self.sends}", f"good-{self.sends}")
        assert sent.status_code == 201, sent.text
        assert sent.json()["seq"] == self.seq + 1, "something else became a message, or a seq was lost"
        self.seq += 1
        [message] = await self.history(self.seq - 1, at_least=sent.json()["token"])
        assert (message["message_id"], message["text"]) == (sent.json()["message_id"], f"good {self.sends} {SECRET}")

    async def history(self, after_seq: int, *, at_least: str | None = None) -> list[dict[str, Any]]:
        """Return up to 200 messages; retries while the read model cannot answer."""
        headers = self.as_("ben") if at_least is None else self.as_("ben", **{"Gapless-At-Least": at_least})
        params = {"after_seq": after_seq, "limit": 200}
        deadline_s = time.monotonic() + RECOVERY_S
        while (page := await self.http.get(self.messages, params=params, headers=headers)).status_code != 200:
            _assert_problem(page, 503, "unavailable")
            assert time.monotonic() < deadline_s, f"no history: {page.text}"
            await asyncio.sleep(0.1)
        found: list[dict[str, Any]] = page.json()["messages"]
        return found

    async def outcome(self, accepted: httpx.Response) -> dict[str, Any]:
        """Poll the Location of a command that was answered with 202, until its outcome is known."""
        deadline_s = time.monotonic() + RECOVERY_S
        while True:
            answer = await self.http.get(accepted.headers["Location"], headers=self.as_("ben"))
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            if found["outcome"] != "pending":
                return found
            assert int(answer.headers["Retry-After"]) >= 1
            assert time.monotonic() < deadline_s, "the outcome stays pending"
            await asyncio.sleep(0.05)


async def _readable_by_browsers(answer: httpx.Response) -> None:
    """Check that a script of an allowed origin can read all headers of an answer."""
    safe = {"cache-control", "content-length", "content-type"}
    hidden = {"connection", "date", "x-content-type-options"}
    assert answer.headers.keys() <= safe | hidden | {name.lower() for name in EXPOSED_HEADERS}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, no-store"


def _bad_tokens(secret: str) -> dict[str, str]:
    claims = {"sub": BEN, "exp": int(time.time()) + 3600}
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "forged": mint_token("another secret that is as long as it must be", BEN),
        "unsigned": jwt.encode(claims, "", algorithm="none"),
        "rs256": jwt.encode(claims, private_key, algorithm="RS256"),
        "hs512": jwt.encode(claims, secret, algorithm="HS512"),
        "expired": mint_token(secret, BEN, ttl_s=-10),
        "endless": jwt.encode({"sub": BEN}, secret, algorithm="HS256"),
        "nobody": jwt.encode({"exp": claims["exp"]}, secret, algorithm="HS256"),
    }


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with RunningStack.up(tmp_path_factory.mktemp("bad-input")) as stack, stack.client() as http:
        http.event_hooks["response"].append(_readable_by_browsers)
        secret = (stack.folder / "jwt-secret").read_text().strip()
        users = {"anna": ANNA, "ben": BEN, "carl": CARL, "dora": DORA}
        tokens = {name: mint_token(secret, user) for name, user in users.items()} | _bad_tokens(secret)
        world = World(stack, http, "", tokens)
        anna = world.as_("anna", **{"Idempotency-Key": "ops", "Prefer": "wait=30"})
        created = await http.post(
            "/v1/chats", json={"kind": "group", "name": "ops", "members": [BEN, DORA]}, headers=anna
        )
        assert created.status_code == 201, created.text
        world.chat = created.json()["chat_id"]
        removed = await http.delete(f"/v1/chats/{world.chat}/members/{DORA}", headers=world.as_("anna"))
        assert removed.status_code == 200, removed.text
        assert (await world.send("first", "first")).status_code == 201
        world.seq = 1
        yield world


def _assert_problem(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{reason}"
    assert document["title"] == PROBLEM_TYPES[reason].title
    assert document["status"] == status
    assert document["detail"].endswith(".")
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert SECRET not in answer.text + str(answer.headers), "a refusal repeats what the message says"
    if status == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    return document


async def _ask(world: World, bad: Bad, key: str) -> httpx.Response:
    names = world.names()
    headers = {"Content-Type": "application/json", "Prefer": "wait=30", "X-Request-Id": f"request-{key}"}
    if bad.keyed:
        headers["Idempotency-Key"] = key
    if bad.who is not None:
        headers |= world.as_(bad.who)
    headers |= {name: value.format(**names) for name, value in bad.headers.items()}
    body: Any = in_chunks(bad.body) if bad.streamed and bad.body is not None else bad.body
    return await world.http.request(bad.method, bad.path.format(**names), content=body, headers=headers)


@pytest.mark.parametrize("name", REFUSALS)
async def test_bad_input_is_answered_and_the_next_good_send_is_in_history(world: World, name: str) -> None:
    bad = REFUSALS[name]
    key = f"bad-{list(REFUSALS).index(name)}"
    answer = await _ask(world, bad, key)
    document = _assert_problem(answer, bad.status, bad.reason)
    assert answer.headers["X-Request-Id"] == f"request-{key}"
    for header in bad.answer_headers:
        assert answer.headers[header]
    assert answer.headers.get("Allow") == bad.allow
    if bad.pointer is not None:
        assert bad.pointer in [error["pointer"] for error in document["errors"]]
    for error in document.get("errors", ()):
        assert error["detail"]
    if bad.reason == "chat_exists":
        assert document["chat_id"] == world.chat
    await world.good()


@pytest.mark.parametrize("reason", sorted({bad.reason for bad in REFUSALS.values()}))
async def test_the_type_of_a_refusal_is_the_address_of_a_page_about_it(world: World, reason: str) -> None:
    page = await world.http.get(f"/problems/{reason}")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert PROBLEM_TYPES[reason].title in page.text


async def test_a_body_that_breaks_off_stops_nothing(world: World) -> None:
    url = httpx.URL(world.stack.api_url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        f"POST {world.messages} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {world.tokens['ben']}\r\n"
        f'Idempotency-Key: broken-off\r\nContent-Length: 1000\r\n\r\n{{"text": "{SECRET}'.encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await world.good()


async def test_json_is_taken_without_a_content_type_and_with_the_one_that_curl_sends(world: World) -> None:
    headers = world.as_("ben", **{"Idempotency-Key": "as-a-form", "Prefer": "wait=30"})
    for content_type, status in (("application/x-www-form-urlencoded", 201), (None, 200)):
        given = headers if content_type is None else {**headers, "Content-Type": content_type}
        sent = await world.http.post(world.messages, content=b'{"text":"as curl sends it"}', headers=given)
        assert sent.status_code == status, sent.text
    world.seq += 1
    await world.good()


async def test_head_and_options_are_answered_wherever_get_is(world: World) -> None:
    """As monitors, load balancers and browsers send them."""
    ben = world.as_("ben")
    paths = ("/healthz", "/readyz", "/v1/me", "/v1/chats", f"/v1/chats/{world.chat}", world.messages, "/v1/chats/7")
    for path in paths:
        got, head = await world.http.get(path, headers=ben), await world.http.head(path, headers=ben)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["Content-Type"] == got.headers["Content-Type"], path
        options = await world.http.options(path)
        assert (options.status_code, "HEAD" in options.headers["Allow"]) == (204, True), path


async def test_neither_a_message_nor_a_token_is_in_any_log(world: World) -> None:
    await world.good()
    await _ask(world, REFUSALS["broken JSON"], "for-the-log")
    logs = {path.name: path.read_text(errors="replace") for path in (world.stack.folder / "logs").glob("*.log")}
    assert {"api-1.log", "sequencer-1.log", "sequencer-2.log", "projector-1.log", "postgres.log"} <= logs.keys()
    assert any("listening" in log for log in logs.values())
    for name, log in logs.items():
        assert SECRET not in log, name
        assert not [who for who, token in world.tokens.items() if token in log], name


async def test_who_does_not_want_to_wait_is_told_where_to_ask(world: World) -> None:
    async def without_waiting(text: str, key: str) -> httpx.Response:
        answer = await world.send(text, key, prefer="respond-async")
        assert answer.status_code == 202, answer.text
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Location"].startswith(
            f"/v1/chats/{world.chat}/commands/{answer.json()['command_id']}?at="
        )
        return answer

    first = await without_waiting("later", "async-1")
    outcome = await world.outcome(first)
    assert (outcome["outcome"], outcome["seq"]) == ("accepted", world.seq + 1)
    [message] = await world.history(world.seq)
    assert message["message_id"] == first.json()["command_id"]
    world.seq += 1

    repeat = await without_waiting("later", "async-1")
    assert await world.outcome(repeat) == outcome, "a repeat is not another outcome"
    conflict = await without_waiting("something else", "async-1")
    assert await world.outcome(conflict) == outcome, "the id was accepted, whatever came under it afterwards"
    refused = await world.http.post(
        f"/v1/chats/{world.chat}/read",
        json={"up_to_seq": 1_000_000},
        headers=world.as_("ben", Prefer="respond-async"),
    )
    assert refused.status_code == 202
    told = await world.outcome(refused)
    assert (told["outcome"], told["reason"]) == ("rejected", "invalid")
    assert told["detail"] == f"The chat's last seq is {world.seq}."
    for who, status in (("carl", 404), ("anna", 404), ("ben", 200)):
        seen = await world.http.get(first.headers["Location"], headers=world.as_(who))
        assert seen.status_code == status, "only the sender may ask"
    await world.good()


async def test_the_status_of_a_rejection_has_the_detail_of_the_answer_also_after_a_rebuild(world: World) -> None:
    async def mark(prefer: str) -> httpx.Response:
        body, headers = {"up_to_seq": 1_000_000}, world.as_("ben", Prefer=prefer)
        return await world.http.post(f"/v1/chats/{world.chat}/read", json=body, headers=headers)

    detail = _assert_problem(await mark("wait=30"), 422, "invalid")["detail"]
    assert detail == f"The chat's last seq is {world.seq}.", "what was wrong with this very command"
    asked = await mark("respond-async")
    told = await world.outcome(asked)
    assert (told["outcome"], told["reason"], told["detail"]) == ("rejected", "invalid", detail)

    await world.stack.gapless("projection", "rebuild", "--to", "v2")
    await world.stack.gapless("projection", "cutover", "--to", "v2")
    assert await world.outcome(asked) == told
    assert (await world.stack.gapless("projection", "verify", "--version", "v2"))["equal"]
    await world.stack.gapless("projection", "cutover", "--to", "v1")
    await world.stack.gapless("projection", "drop", "v2", "--yes")
    await world.good()


async def test_while_the_sequencers_stand_still_sends_are_202_and_each_becomes_one_message(world: World) -> None:
    base = world.seq
    with paused(world.stack, "sequencer-1", "sequencer-2"):
        began_s = time.monotonic()
        first = await world.send("held up 0", "held-0", prefer="wait=0")
        waited = await world.send("held up 1", "held-1", prefer="wait=1")
        assert time.monotonic() - began_s >= 1
        assert waited.headers["Preference-Applied"] == "wait=1"
        began_s = time.monotonic()
        unasked = await world.send("held up 2", "held-2", prefer=None)
        assert time.monotonic() - began_s >= 2, "the wait that nobody asked for is two seconds"
        again = await asyncio.gather(*(world.send("held up 0", "held-0", prefer="wait=0") for _ in range(3)))
        mark = await world.http.post(
            f"/v1/chats/{world.chat}/read", json={"up_to_seq": base}, headers=world.as_("ben", Prefer="wait=1")
        )
        for answer in (first, waited, unasked, *again, mark):
            assert answer.status_code == 202, answer.text
            asked = await world.http.get(answer.headers["Location"], headers=world.as_("ben"))
            assert (asked.status_code, asked.json()["outcome"]) == (200, "pending")
            assert int(asked.headers["Retry-After"]) >= 1
        assert len({answer.headers["Location"] for answer in (first, *again)}) == 4, "each copy has its own place"
        assert len({answer.json()["command_id"] for answer in (first, *again)}) == 1
    outcomes = [await world.outcome(answer) for answer in (first, waited, unasked, *again)]
    assert [outcome["outcome"] for outcome in outcomes] == ["accepted"] * 6
    assert [outcome["seq"] for outcome in outcomes] == [base + 1, base + 2, base + 3, *[base + 1] * 3]
    assert (await world.outcome(mark))["outcome"] == "accepted"
    found = await world.history(base)
    assert [(m["seq"], m["client_generated_id"]) for m in found] == [(base + n + 1, f"held-{n}") for n in range(3)]
    repeat = await world.send("held up 1", "held-1")
    assert (repeat.status_code, repeat.json()["seq"], repeat.json()["duplicate"]) == (200, base + 2, True)
    world.seq = base + 3
    await world.good()


async def test_while_kafka_stands_still_sends_are_503_and_their_retries_are_one_message_each(world: World) -> None:
    base = world.seq
    texts = {f"silent-{n}": f"into the silence {n}" for n in range(5)}
    with paused(world.stack, "kafka-1"):
        began_s = time.monotonic()
        refused = await asyncio.gather(*(world.send(text, key, prefer=None) for key, text in texts.items()))
        assert time.monotonic() - began_s < 120
        for answer in refused:
            _assert_problem(answer, 503, "unavailable")
        assert [m["seq"] for m in await world.history(base - 1)] == [base], "readers do not need Kafka"
        await _ready(world, "api-1", 503)
        assert (await world.http.get("/healthz")).status_code == 200
    told = dict(zip(texts, await asyncio.gather(*(_until_told(world, texts[key], key) for key in texts)), strict=True))
    assert sorted(answer["seq"] for answer in told.values()) == list(range(base + 1, base + 6))
    found = await world.history(base, at_least=max((a["token"] for a in told.values()), key=_index))
    assert {m["client_generated_id"]: m["seq"] for m in found} == {key: answer["seq"] for key, answer in told.items()}
    await _ready(world, "api-1", 200)
    world.seq = base + 5
    await world.good()


def _index(token: str) -> int:
    return int(token.split(":")[1])


async def _until_told(world: World, text: str, key: str) -> Mapping[str, Any]:
    """Retry under the same key until the outcome is known."""
    deadline_s = time.monotonic() + RECOVERY_S
    while (answer := await world.send(text, key)).status_code not in (200, 201):
        if answer.status_code != 202:
            _assert_problem(answer, 503, "unavailable")
        assert time.monotonic() < deadline_s, answer.text
        await asyncio.sleep(0.2)
    told: Mapping[str, Any] = answer.json()
    return told


async def _ready(world: World, name: str, status: int) -> None:
    """Wait until /readyz of a process has this status."""
    url = f"{world.stack.document['ops_urls'][name]}/readyz"
    deadline_s = time.monotonic() + RECOVERY_S
    while (answer := await world.http.get(url)).status_code != status:
        assert time.monotonic() < deadline_s, answer.text
        await asyncio.sleep(0.1)


async def test_while_postgres_stands_still_sends_go_on_and_reads_recover_by_themselves(world: World) -> None:
    with paused(world.stack, "postgres"):
        reading = [
            asyncio.create_task(world.http.get(path, headers=world.as_("ben")))
            for path in (world.messages, f"/v1/chats/{world.chat}/latest-seq", "/v1/unread")
        ]
        for n in range(3):
            sent = await world.send(f"unread {n}", f"unread-{n}")
            assert (sent.status_code, sent.json()["seq"]) == (201, world.seq + 1), sent.text
            world.seq += 1
        for answer in await asyncio.gather(*reading):
            _assert_problem(answer, 503, "unavailable")
        await _ready(world, "api-1", 503)
    found = await world.history(world.seq - 3, at_least=sent.json()["token"])
    assert [m["client_generated_id"] for m in found] == ["unread-0", "unread-1", "unread-2"]
    await _ready(world, "api-1", 200)
    await world.good()


async def test_while_postgres_is_killed_and_comes_back_sends_go_on_and_reads_recover(world: World) -> None:
    document = world.stack.document
    killed = int(document["processes"]["postgres"])
    others = family(killed)[1:]
    base, reads = world.seq, list[int]()
    world.stack.signal("postgres", signal.SIGKILL)
    deadline_s = time.monotonic() + RECOVERY_S
    while not reads or reads[-1] != 200 or world.stack.document["processes"]["postgres"] == killed:
        assert time.monotonic() < deadline_s, reads
        sent = await world.send(f"meanwhile {world.seq}", f"meanwhile-{world.seq}")
        assert (sent.status_code, sent.json()["seq"]) == (201, world.seq + 1), sent.text
        world.seq += 1
        page = await world.http.get(world.messages, params={"limit": 1}, headers=world.as_("ben"))
        if page.status_code != 200:
            _assert_problem(page, 503, "unavailable")
        reads.append(page.status_code)
    assert others, "the server had no sessions: nothing was taken from anybody"
    found = await world.history(base, at_least=sent.json()["token"])
    assert [m["seq"] for m in found] == list(range(base + 1, world.seq + 1))[: len(found)]
    assert found[-1]["seq"] == min(world.seq, base + 200)
    for name in ("api-1", "projector-1"):
        assert world.stack.document["processes"][name] == document["processes"][name], "nobody had to be restarted"
    await world.good()
    assert (await world.stack.gapless("projection", "verify"))["equal"]
    assert (await world.stack.gapless("log", "verify"))["sound"]
