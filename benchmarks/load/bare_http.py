"""The baseline of ingest: the same route in the same framework, which takes the same body and answers.

    python -m uvicorn benchmarks.load.bare_http:app

Nothing is behind it: what it costs is what HTTP costs here, and the rest of a send is ours.
"""

from __future__ import annotations

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI()


class Send(BaseModel):
    """As a client sends it."""

    text: str


class Sent(BaseModel):
    """As long as a real answer."""

    message_id: str = "11111111-1111-4111-8111-111111111111"
    chat_id: str
    seq: int = 1
    position: int = 1
    sent_at: str = "2026-01-01T00:00:00.000Z"
    token: str = "0:1"
    duplicate: bool = False


@app.get("/readyz")
async def ready() -> str:
    """It has nothing to wait for."""
    return "ready"


@app.post("/v1/chats/{chat_id}/messages", status_code=201)
async def send(chat_id: str, _body: Send, _key: str = Header(alias="Idempotency-Key")) -> Sent:
    """Answers as ingest would, and does nothing."""
    return Sent(chat_id=chat_id)
