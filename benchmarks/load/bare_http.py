"""The baseline of ingest: the same route in the same framework, which takes the same body and answers.

    python -m uvicorn benchmarks.load.bare_http:app

It does no work: its cost is that of HTTP, and the rest of a send's cost is ours.
"""

from __future__ import annotations

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI()


class Send(BaseModel):
    """The body that a client sends."""

    text: str


class Sent(BaseModel):
    """A body as long as a real response."""

    message_id: str = "11111111-1111-4111-8111-111111111111"
    chat_id: str
    seq: int = 1
    position: int = 1
    sent_at: str = "2026-01-01T00:00:00.000Z"
    token: str = "0:1"
    duplicate: bool = False


@app.get("/readyz")
async def ready() -> str:
    """Respond at once: there is nothing to wait for."""
    return "ready"


@app.post("/v1/chats/{chat_id}/messages", status_code=201)
async def send(chat_id: str, _body: Send, _key: str = Header(alias="Idempotency-Key")) -> Sent:
    """Respond like ingest, without doing anything."""
    return Sent(chat_id=chat_id)
