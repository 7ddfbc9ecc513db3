"""All paths of ingest."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from services.ingest.api.handler import CommandHandler, SendAll
from services.ingest.api.paths import batch, chats, members, messages, reactions
from services.ingest.api.paths import receipts as receipt_paths
from services.ingest.api.rate import RateLimit
from services.ingest.api.route import BATCH_PATH, CommandRoute
from services.ingest.sending.receipts import ReceiptCoalescer, Send
from services.runtime.web.openapi import operation_id

BODY_LIMIT_BYTES_BY_PATH: Final = {BATCH_PATH: 4 * 1024 * 1024}
"""For `build_app`: paths with a higher limit than GAPLESS_HTTP_BODY_LIMIT_BYTES."""


def ingest_router(
    *, send: Send, send_all: SendAll, receipts: ReceiptCoalescer, default_wait_s: float, rate: RateLimit | None
) -> APIRouter:
    """Return a router with all paths of ingest. `send` and `send_all` are the Dispatcher's, or a guard around them."""
    router = APIRouter(tags=["commands"], route_class=CommandRoute, generate_unique_id_function=operation_id)
    handler = CommandHandler(send, send_all, receipts, default_wait_s, rate)
    for paths in (messages, batch, reactions, chats, members, receipt_paths):
        paths.add_routes(router, handler)
    return router
