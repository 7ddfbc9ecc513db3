"""The fast path into query and FastAPI's own parsing read the same from a request, and refuse the same."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from schemas.ids import UserId, partition_of
from services.query.api.cursors import encode_members
from services.query.api.reads import Reads
from services.query.api.route import QueryRoute
from services.query.api.routes import query_router
from services.query.errors import ReadModelUnavailable
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row, SnapshotReader, Statement
from services.runtime.access.auth import Authenticator, mint_token
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import AuthSettings, HttpSettings
from services.runtime.web.fast_routes import FastRequest, NotFastPath
from services.runtime.web.problem_handlers import install_problems
from services.runtime.web.problems import Problem
from services.runtime.web.validation_problems import install_validation_problems

SECRET = "a secret of at least thirty-two bytes"
ANNA = "11111111-1111-4111-8111-111111111111"
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
COMMAND = "c6e6b694-c64b-5364-9024-70428ec7b06e"
HISTORY = f"/v1/chats/{CHAT}/messages"
HERE = partition_of(CHAT, 8)


class Noted:
    """Snapshots that record what is read, and are unavailable."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Statement, ...], Token | None]] = []

    async def read(self, *statements: Statement, at_least: Token | None) -> list[list[Row]]:
        self.asked.append((statements, at_least))
        raise ReadModelUnavailable("ask again")


@cache
def served(*, short_way: bool) -> tuple[FastAPI, Noted]:
    """Return an application, and what it reads. Building one takes longer than a request to it."""
    noted = Noted()
    authenticator = Authenticator(AuthSettings(secret=SECRET))
    if short_way:
        app = build_app(title="t", service="t", http=HttpSettings(), readiness=Readiness(), authenticator=authenticator)
    else:
        app = FastAPI(redirect_slashes=False)
        app.state.authenticator = authenticator
        install_problems(app)
        install_validation_problems(app)
    app.include_router(query_router(Reads(cast(SnapshotReader, noted), partitions=8)))
    return app, noted


def asked(path: str, at_least: tuple[str, ...], *, short_way: bool) -> tuple[int, list[Any], Any]:
    """Return the status, what was read, and the places of the errors."""
    app, noted = served(short_way=short_way)
    noted.asked = []
    headers = [("Authorization", f"Bearer {mint_token(SECRET, ANNA)}")]
    headers += [("Gapless-At-Least", value) for value in at_least]

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path, headers=headers)

    answer = asyncio.run(call())
    errors = answer.json().get("errors") if answer.status_code >= 400 else answer.headers["content-type"]
    return answer.status_code, noted.asked, errors


RIGHT = [
    HISTORY,
    f"{HISTORY}?before_seq=5",
    f"{HISTORY}?before_seq=0&limit=200",
    f"{HISTORY}?after%5Fseq=%35&limit=1",
    f"{HISTORY}?around_seq=9223372036854775807&sender_id={ANNA.upper()}",
    f"/v1/chats/{CHAT.upper()}/messages",
    f"{HISTORY}/1",
    f"/v1/chats/{CHAT}/unread?whatever=1",
    f"/v1/chats/{CHAT}/latest-seq",
    f"/v1/chats/{CHAT}/members?limit=7",
    f"/v1/chats/{CHAT}/read-state?cursor={encode_members(UserId(ANNA))}",
    f"/v1/chats/{CHAT}",
    "/v1/chats?limit=3",
    "/v1/unread",
    f"/v1/chats/{CHAT}/commands/{COMMAND}",
    f"/v1/chats/{CHAT}/commands/{COMMAND.upper()}?at={HERE}:12",
]
NUMBERS = [
    f"{HISTORY}/007",
    f"{HISTORY}/+7",
    f"{HISTORY}/7.0",
    f"{HISTORY}/1_0",
    *(f"{HISTORY}?before_seq={number}" for number in ("+5", "%205", "5%20", "5.0", "1_000", "05", "0x5", "%D9%A5")),
    f"/v1/chats/{CHAT}/members?limit=7.0",
]
"""Numbers that are not valid."""
WRONG = [
    *NUMBERS,
    f"{HISTORY}?before_seq=",
    f"{HISTORY}?before_seq=x",
    f"{HISTORY}?before_seq=5&before_seq=6",
    f"{HISTORY}?limit=201",
    f"{HISTORY}?befor_seq=1",
    f"{HISTORY}?before_seq=1&after_seq=1",
    f"{HISTORY}?sender_id=%00",
    f"{HISTORY}/0",
    f"{HISTORY}/{2**63}",
    f"{HISTORY}/%D9%A3",
    "/v1/chats/7/unread",
    f"/v1/chats/{CHAT}/members?cursor=",
    f"/v1/chats/{CHAT}/members?cursor={'a' * 300}",
    f"/v1/chats/{CHAT}/commands/{COMMAND}?at=x",
]
ODD = [
    f"{HISTORY}?before_seq=+5",
    f"{HISTORY}?before_seq=%2B5",
    f"{HISTORY}?before_seq=1_0",
    f"{HISTORY}?limit=05",
    f"{HISTORY}?limit=5.0",
    f"{HISTORY}?limit=5&",
    f"{HISTORY}?",
    f"{HISTORY}?sender_id=%C3%A9",
    f"{HISTORY}/+5",
    f"{HISTORY}/5.0",
]


@pytest.mark.parametrize("path", [*RIGHT, *WRONG, *ODD])
def test_both_ways_read_the_same_and_refuse_the_same(path: str) -> None:
    assert asked(path, (), short_way=True) == asked(path, (), short_way=False)


@pytest.mark.parametrize("query", ["before_seq=5&before_seq=5", "limit=1&before_seq=5&limit=2", "befor=1&befor=1"])
def test_a_parameter_is_there_once(query: str) -> None:
    status, _, errors = asked(f"{HISTORY}?{query}", (), short_way=True)
    assert (status, errors[0]["pointer"]) == (400, f"/{query.partition('=')[0]}")


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_is_written_in_digits_alone(path: str) -> None:
    assert asked(path, (), short_way=True)[0] == 400


@pytest.mark.parametrize("lines", [("1:2",), ("7:999",), ("8:1",), ("x",), ("",), ("9" * 65,), ("1:2", "1:3")])
def test_both_ways_read_the_same_token(lines: tuple[str, ...]) -> None:
    path = f"/v1/chats/{CHAT}/unread"
    assert asked(path, lines, short_way=True) == asked(path, lines, short_way=False)


@pytest.mark.parametrize("path", RIGHT)
def test_what_is_right_takes_the_short_way(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise this file would compare FastAPI with itself."""
    taken: list[bool] = []
    respond = QueryRoute.respond

    async def noted(self: QueryRoute, request: FastRequest) -> Any:
        try:
            return await respond(self, request)
        except Problem:
            taken.append(True)
            raise
        except NotFastPath:
            taken.append(False)
            raise

    monkeypatch.setattr(QueryRoute, "respond", noted)
    status, read, _ = asked(path, (), short_way=True)
    assert (status, len(read), taken) == (503, 1, [True])
