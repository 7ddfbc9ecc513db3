"""The caller: the user that a token identifies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from services.query.api.examples import ANNA
from services.query.api.json_text import dumps, instant
from services.query.api.reads import Reads
from services.query.api.route import CallerOfRequest, json_response
from services.runtime.web.openapi import example, problem_responses

_LAST_INSTANT_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The latest time that can be written; a token may expire later."""


class Me(BaseModel):
    model_config = example(
        {
            "user_id": ANNA,
            "claim": ANNA,
            "scopes": ["producer"],
            "expires_at": "2026-02-01T12:00:00.000Z",
        }
    )

    user_id: UUID
    claim: str = Field(description="The value of the token's user claim from which user_id is derived.")
    scopes: list[str]
    expires_at: datetime


def add_routes(router: APIRouter, _reads: Reads) -> None:
    @router.get("/me", response_model=Me, responses=problem_responses("unauthorized"))
    async def get_me(caller: CallerOfRequest) -> Response:
        """The user that your token identifies."""
        expires_at = datetime.fromtimestamp(min(caller.expires_at_s, _LAST_INSTANT_S), UTC)
        return json_response(
            dumps(
                {
                    "user_id": caller.user_id,
                    "claim": caller.claim,
                    "scopes": sorted(caller.scopes),
                    "expires_at": instant(expires_at),
                }
            )
        )
