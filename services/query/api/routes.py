"""All paths of query."""

from __future__ import annotations

from fastapi import APIRouter

from services.query.api.paths import (
    changes,
    chats,
    commands,
    edits,
    me,
    members,
    messages,
    reactions,
    receipts,
    search,
    sync,
    threads,
)
from services.query.api.reads import Reads
from services.query.api.route import QueryRoute
from services.runtime.web.openapi import operation_id


def query_router(reads: Reads) -> APIRouter:
    """Return a router with all paths. The application that mounts it has the authenticator (`http.build_app`)."""
    router = APIRouter(prefix="/v1", tags=["query"], route_class=QueryRoute, generate_unique_id_function=operation_id)
    for paths in (me, chats, messages, threads, edits, reactions, receipts, members, commands, search, changes, sync):
        paths.add_routes(router, reads)
    return router
