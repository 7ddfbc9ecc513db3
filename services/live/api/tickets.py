"""`POST /v1/live-tickets`: a ticket stands for the token in the URL of an event stream, for thirty seconds.

A browser's EventSource sends no headers of one's own. URLs are logged and kept; a ticket in one is worth nothing soon.
It is signed with a key of its own, so that it is no token elsewhere.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Final

import jwt
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from services.runtime.access.auth import Caller, current_caller
from services.runtime.web.openapi import example, problem_responses
from services.runtime.web.problems import Problem

LIFE_S: Final = 30
MAX_CHARACTERS: Final = 1_024
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "gapless-live"


class Ticket(BaseModel):
    model_config = example({"ticket": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…", "expires_in_s": LIFE_S})

    ticket: str
    expires_in_s: int


class Tickets:
    """Issues and checks tickets. All processes have the same secret."""

    def __init__(self, secret: str, *, now_s: Callable[[], float] = time.time) -> None:
        self._key = hmac.new(secret.encode(), b"gapless live tickets", sha256).digest()
        self._now_s = now_s

    def issue(self, caller: Caller) -> str:
        """Return a ticket for the caller. The stream that it opens ends with the caller's token all the same."""
        claims = {
            "aud": _AUDIENCE,
            "exp": int(self._now_s()) + LIFE_S,
            "sub": caller.user_id,
            "until": caller.expires_at_s,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def caller(self, ticket: str) -> Caller:
        """Return the caller that a ticket stands for. Raises Problem."""
        try:
            claims: dict[str, Any] = jwt.decode(
                ticket,
                self._key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["exp", "sub", "aud"], "verify_exp": False},
            )
            user_id, until_s, exp = str(claims["sub"]), float(claims["until"]), float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            raise Problem("unauthorized", "The ticket cannot be read.") from None
        if exp <= self._now_s():
            raise Problem("unauthorized", "The ticket has expired: get a new one.")
        return Caller(user_id=user_id, scopes=frozenset(), expires_at_s=until_s, claim=user_id)


def add_routes(router: APIRouter, tickets: Tickets) -> None:
    @router.post("/live-tickets", response_model=Ticket, responses=problem_responses("unauthorized", "unavailable"))
    async def issue_ticket(caller: Annotated[Caller, Depends(current_caller)]) -> Ticket:
        """A ticket for `GET …/live?ticket=`, for a browser's EventSource, which cannot send a token."""
        return Ticket(ticket=tickets.issue(caller), expires_in_s=LIFE_S)
