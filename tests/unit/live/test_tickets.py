"""Tickets stand for a token in the URL of a stream, for a short while, and nowhere else."""

from __future__ import annotations

import jwt
import pytest

from services.live.api.tickets import LIFE_S, Tickets
from services.runtime.access.auth import Authenticator, Caller
from services.runtime.settings import AuthSettings
from services.runtime.web.problems import Problem

SECRET = "a secret of at least thirty-two bytes"
ANNA = Caller(
    user_id="11111111-1111-4111-8111-111111111111", scopes=frozenset({"producer"}), expires_at_s=2_000_000.0, claim="a"
)
NOW_S = 1_000_000.0


def test_a_ticket_stands_for_its_caller_until_the_token_ends_and_without_its_scopes() -> None:
    caller = Tickets(SECRET, now_s=lambda: NOW_S).caller(Tickets(SECRET, now_s=lambda: NOW_S).issue(ANNA))
    assert (caller.user_id, caller.expires_at_s, caller.scopes) == (ANNA.user_id, ANNA.expires_at_s, frozenset())


def test_a_ticket_expires() -> None:
    ticket = Tickets(SECRET, now_s=lambda: NOW_S).issue(ANNA)
    Tickets(SECRET, now_s=lambda: NOW_S + LIFE_S - 1).caller(ticket)
    with pytest.raises(Problem, match="expired"):
        Tickets(SECRET, now_s=lambda: NOW_S + LIFE_S).caller(ticket)


@pytest.mark.parametrize("ticket", ["", "x", "a.b.c", "é", jwt.encode({"sub": "x"}, SECRET)])
def test_what_is_no_ticket_is_refused(ticket: str) -> None:
    with pytest.raises(Problem) as refused:
        Tickets(SECRET, now_s=lambda: NOW_S).caller(ticket)
    assert refused.value.status == 401


@pytest.mark.anyio
async def test_a_ticket_is_no_token_and_a_token_no_ticket() -> None:
    tickets = Tickets(SECRET)
    ticket = tickets.issue(ANNA)
    with pytest.raises(Problem):
        await Authenticator(AuthSettings.model_validate({"secret": SECRET})).authenticate(ticket)
    token = jwt.encode({"sub": ANNA.user_id, "exp": 4_000_000_000}, SECRET)
    with pytest.raises(Problem):
        tickets.caller(token)
