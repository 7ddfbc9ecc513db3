"""How long a WebSocket may be open: until it is authenticated, until it is started, until its token ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from unittest.mock import Mock, patch

import pytest

from services.live.connections.session import AUTH_WITHIN_S, START_WITHIN_S
from services.live.connections.websocket import WAITING_MESSAGES, WebSocketStream

NOW_S = 1_000_000.0
ANNA = "11111111-1111-4111-8111-111111111111"


async def ignore(_connection: WebSocketStream, _text: str) -> None: ...


@pytest.fixture
def owner() -> Iterator[Mock]:
    with patch.object(time, "time", lambda: NOW_S):
        yield Mock()


def test_a_connection_must_be_authenticated_and_then_started_in_time(owner: Mock) -> None:
    connection = WebSocketStream(owner, ignore)
    assert connection.expires_at_s == NOW_S + AUTH_WITHIN_S
    connection.authenticated(ANNA, NOW_S + 3_600)
    assert connection.expires_at_s == NOW_S + START_WITHIN_S
    connection.authenticated(ANNA, NOW_S + 7_200)
    assert connection.expires_at_s == NOW_S + START_WITHIN_S, "a token renewed is no start"
    connection.session.take(json.dumps({"type": "start"}))
    connection.started()
    assert connection.expires_at_s == NOW_S + 7_200
    connection.authenticated(ANNA, NOW_S + 9_000)
    assert connection.expires_at_s == NOW_S + 9_000


def test_a_token_that_ends_sooner_ends_the_connection(owner: Mock) -> None:
    connection = WebSocketStream(owner, ignore)
    connection.authenticated(ANNA, NOW_S + 1)
    assert connection.expires_at_s == NOW_S + 1


@pytest.mark.anyio
async def test_a_client_that_sends_more_than_is_answered_is_ended_by_the_owner(owner: Mock) -> None:
    connection = WebSocketStream(owner, ignore)
    for _ in range(WAITING_MESSAGES):
        connection._text("{}")
    owner.overrun.assert_not_called()
    connection._text("{}")
    owner.overrun.assert_called_once_with(connection)
