"""What a WebSocket's client may say, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.live.connections.session import Auth, Ping, PresenceSignal, Refused, Session, Start, TypingSignal

CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"


def said(session: Session, **message: Any) -> object:
    return session.take(json.dumps(message))


def authenticated() -> Session:
    session = Session()
    session.authenticated()
    return session


def test_the_first_message_is_auth_and_pings_are_always_welcome() -> None:
    session = Session()
    assert said(session, type="ping") == Ping()
    with pytest.raises(Refused, match="auth"):
        said(session, type="start")
    assert said(session, type="auth", token="t") == Auth("t")
    with pytest.raises(Refused, match="auth"):
        said(session, type="start")  # the token was not found valid yet
    session.authenticated()
    assert said(session, type="start", since="c", chats=[CHAT]) == Start(since="c", chats=[CHAT])
    assert said(session, type="auth", token="renewed") == Auth("renewed")


def test_a_connection_is_started_once() -> None:
    session = authenticated()
    said(session, type="start")
    with pytest.raises(Refused, match="once"):
        said(session, type="start")


def test_signals_name_a_chat_and_a_state_of_their_kind() -> None:
    session = authenticated()
    assert said(session, type="typing", chat_id=CHAT, state="started") == TypingSignal(CHAT, "started")
    assert said(session, type="presence", chat_id=CHAT, state="away") == PresenceSignal(CHAT, "away")
    for wrong in ({"chat_id": CHAT, "state": "here"}, {"chat_id": "x", "state": "started"}):
        with pytest.raises(Refused, match="typing"):
            said(session, type="typing", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"chats": ["x"]}, {"chats": [CHAT] * 201}, {"since": 1}, {"receipts": "none"}, {"since": "x" * 20_000}],
    ids=str,
)
def test_a_start_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        said(authenticated(), type="start", **wrong)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_else_is_said_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        authenticated().take(text)
