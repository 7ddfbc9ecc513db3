"""The cost of a bad body is bounded by what is reported of it, not by how much is wrong with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from schemas import limits
from schemas.commands import parse_body
from schemas.errors import Reason, Refused
from schemas.types import CommandType
from services.ingest.api.paths import batch, chats, members, messages, receipts
from services.ingest.api.paths.batch import BATCH_ITEMS, ERRORS_PER_ITEM, ITEM_BYTES
from services.ingest.api.requests import Envelope
from services.runtime.access.auth import Authenticator
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import AuthSettings, HttpSettings
from services.runtime.web.problems import Problem
from services.runtime.web.query_strings import MAX_QUERY_BYTES, MAX_QUERY_PARAMETERS
from services.runtime.web.validation_problems import MAX_ERRORS

ALICE = "11111111-1111-4111-8111-111111111111"
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
KEYED = Envelope(caller_id=ALICE, scopes=frozenset(), key="k")
BATCHED = Envelope(caller_id=ALICE, scopes=frozenset())
HTTP_BODY = 512 * 1024
BATCH_BODY = 4 * 1024 * 1024
TIMES_JSON = 4.0
"""Maximum cost of a refusal, as a multiple of what the standard library takes to parse the same bytes.

When errors were collected before they were cut, it cost from seven to a hundred times as much.
"""


def filled(head: bytes, item: bytes, tail: bytes, size: int) -> bytes:
    count = (size - len(head) - len(tail)) // (len(item) + 1)
    return head + b",".join([item] * count) + tail


def fields(count: int, value: bytes = b"1") -> bytes:
    """Return an object with this number of unknown fields."""
    return b"{" + b",".join(b'"%x":%b' % (number, value) for number in range(count)) + b"}"


def outcome_of(act: Callable[[], object]) -> object:
    try:
        return act()
    except (Problem, Refused) as refusal:
        return refusal


def cpu_s(act: Callable[[], object]) -> float:
    """Return the CPU time of the fastest of three runs."""
    found = []
    for _ in range(3):
        began = time.process_time()
        outcome_of(act)
        found.append(time.process_time() - began)
    return min(found)


MANY: list[tuple[str, Callable[[int], bytes]]] = [
    ("numbers for members", lambda size: filled(b'{"kind":"group","name":"x","members":[', b"1", b"]}", size)),
    ("strings for members", lambda size: filled(b'{"kind":"group","name":"x","members":[', b'""', b"]}", size)),
    ("numbers for urls", lambda size: filled(b'{"text":"x","media_urls":[', b"1", b"]}", size)),
    ("empty urls", lambda size: filled(b'{"text":"x","media_urls":[', b'""', b"]}", size)),
    ("arrays in metadata", lambda size: filled(b'{"text":"x","metadata":{"a":[', b"[]", b"]}}", size)),
    ("unknown fields", lambda size: fields(size // 9)),
    ("unknown fields of arrays", lambda size: fields(size // 14, b"[[[]]]")),
    ("as many unknown fields as are parsed", lambda _: fields(limits.BODY_PARTS)),
    ("as many wrong members as are parsed", lambda _: b'{"kind":"group","members":[' + b"1," * 9_000 + b"1]}"),
]


@pytest.mark.parametrize(("_name", "body_of"), MANY, ids=[name for name, _ in MANY])
def test_a_bad_request_costs_no_more_than_to_read_it(_name: str, body_of: Callable[[int], bytes]) -> None:
    raw = body_of(HTTP_BODY)
    bound_s = TIMES_JSON * cpu_s(lambda: json.loads(raw))
    ways: list[Callable[[], object]] = [
        lambda: messages.build_send(raw, CHAT, KEYED),
        lambda: chats.build_create(raw, KEYED),
        lambda: receipts.build_mark(CommandType.READ_MARK, raw, CHAT, KEYED),
        lambda: messages.build_delete(raw, CHAT, 1, KEYED),
        lambda: members.build_add(raw, CHAT, ALICE, KEYED),
    ]
    for way in ways:
        refusal = outcome_of(way)
        assert isinstance(refusal, Problem)
        assert 0 < len(refusal.errors) <= MAX_ERRORS
        assert cpu_s(way) < bound_s


@pytest.mark.parametrize(("_name", "body_of"), MANY, ids=[name for name, _ in MANY])
def test_a_bad_command_costs_the_sequencer_no_more_than_to_read_it(_name: str, body_of: Callable[[int], bytes]) -> None:
    raw = body_of(limits.COMMAND_BYTES)
    bound_s = TIMES_JSON * cpu_s(lambda: json.loads(raw))
    for command_type in CommandType:
        parse = partial(parse_body, command_type, raw)
        assert isinstance(outcome_of(parse), Refused)
        assert cpu_s(parse) < bound_s


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"1," * (BATCH_BODY // 2) + b"1]",
        b"1\n" * (BATCH_BODY // 2),
        b"\n" * BATCH_BODY,
        b"[" + b"[]," * (BATCH_BODY // 3) + b"1]",
    ],
    ids=["numbers", "lines", "empty lines", "arrays"],
)
def test_a_batch_of_too_many_is_given_up_at_the_first_too_many(raw: bytes) -> None:
    assert isinstance(outcome_of(lambda: batch.batch_items(raw, BATCHED)), Problem)
    whole = filled(b"[", b"1", b"]", BATCH_BODY)
    assert cpu_s(lambda: batch.batch_items(raw, BATCHED)) < cpu_s(lambda: json.loads(whole)) / 2


def test_a_batch_reports_a_few_errors_of_each_of_its_messages() -> None:
    raw = b"[" + b",".join([fields(600)] * BATCH_ITEMS) + b"]"
    items = batch.batch_items(raw, BATCHED)
    problems = [batch.batch_message(item, BATCHED) for item in items]
    assert len(problems) == BATCH_ITEMS
    assert {len(each.errors) for each in problems if isinstance(each, Problem)} == {ERRORS_PER_ITEM}


def test_a_message_of_a_batch_is_no_longer_than_one_by_itself() -> None:
    raw = b"[" + filled(b'{"media_urls":[', b"1", b"]}", BATCH_BODY - 2) + b"]"
    (item,) = batch.batch_items(raw, BATCHED)
    refusal = batch.batch_message(item, BATCHED)
    assert isinstance(refusal, Problem)
    assert (refusal.reason, refusal.members["limit_bytes"]) == ("too_large", ITEM_BYTES)


def send_of(**given: Any) -> bytes:
    return json.dumps({"text": "x"} | given).encode()


@pytest.mark.parametrize(
    "raw",
    [
        send_of(metadata={"a": [1] * 8_100}),
        send_of(metadata={"a": [[]] * 4_000}),
        send_of(metadata={f"{n:x}": 1 for n in range(1_500)}),
        json.dumps({"text": "x", "metadata": {"a": [[1, 2]] * 2_000}}, indent=8).encode(),
        send_of(text="," * limits.TEXT_CHARACTERS),
        send_of(text='"[{,' * (limits.TEXT_CHARACTERS // 4)),
        send_of(text="\\" * limits.TEXT_CHARACTERS, metadata={"\\": ["\\", '"', [], ["]"] * 9]}),
        send_of(media_urls=["https://" + "," * 2_000] * limits.MEDIA_URLS, text="," * limits.TEXT_CHARACTERS),
    ],
    ids=["numbers", "arrays", "fields", "white space", "commas", "quotes", "backslashes", "urls"],
)
def test_nothing_within_the_limits_is_refused_for_its_amount(raw: bytes) -> None:
    parse_body(CommandType.MESSAGE_SEND, raw)
    messages.build_send(raw, CHAT, KEYED)


@pytest.mark.parametrize("count", [9, 50, 51, 400])
def test_unknown_fields_are_refused_whatever_their_number(count: int) -> None:
    raw = fields(count)
    with pytest.raises(Refused) as refused:
        parse_body(CommandType.MEMBER_REMOVE, raw)
    assert refused.value.reason is Reason.MALFORMED
    with pytest.raises(Problem) as caught:
        messages.build_delete(raw, CHAT, 1, KEYED)
    assert caught.value.reason == "malformed"
    assert [error["pointer"] for error in caught.value.errors] == [f"/{n:x}" for n in range(min(count, MAX_ERRORS))]
    assert {error["in"] for error in caught.value.errors} == {"body"}
    counted_first = caught.value.detail == f"The request has more than {MAX_ERRORS} fields that are not known."
    assert counted_first == (count > MAX_ERRORS)


def test_a_long_query_string_is_refused_before_it_is_parsed() -> None:
    app = build_app(
        title="t",
        service="t",
        http=HttpSettings(),
        readiness=Readiness(),
        authenticator=Authenticator(AuthSettings(secret="a secret of at least thirty-two bytes")),
    )

    def status(query: str) -> int:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
                return await client.get(f"/healthz?{query}")

        return asyncio.run(call()).status_code

    assert status("a" * MAX_QUERY_BYTES) == 200
    assert status("a" * (MAX_QUERY_BYTES + 1)) == 414
    assert status("&".join(["a=1"] * MAX_QUERY_PARAMETERS)) == 200
    assert status("&".join(["a=1"] * (MAX_QUERY_PARAMETERS + 1))) == 414
