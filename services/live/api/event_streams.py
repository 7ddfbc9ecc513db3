"""`GET /v1/live` and `GET /v1/chats/{chat_id}/live`: server-sent events."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from schemas.ids import ChatId, UserId
from services.live.api.opening import Opener, Opening, problem_of
from services.live.api.route import StreamRoute
from services.live.api.tickets import MAX_CHARACTERS, Tickets
from services.live.api.websockets import WebSockets
from services.live.connections.event_stream import EventStream
from services.live.connections.streams import Streams
from services.live.errors import LiveError
from services.live.frames.frame import Form, event_block
from services.runtime.access.auth import Caller, CredentialsOfRequest, current_caller
from services.runtime.serving.takeover import takeover_of
from services.runtime.serving.websocket import wants_websocket
from services.runtime.web.openapi import operation_id, problem_responses
from services.runtime.web.problems import Problem

_MEDIA_TYPE: Final = "text/event-stream"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
CHATS_IN_URL: Final = 24
"""Maximum chats that a URL names; a WebSocket names more."""
_RETRY_MS: Final = 1_000
EXAMPLE: Final = (
    'retry: 1000\nevent: ready\ndata: {"type":"ready","heartbeat_s":20.0}\n\n'
    'id: 7\nevent: deleted\ndata: {"type":"deleted","chat_id":"f89e858f-5f2e-5152-b188-6a52cbec990b","position":7,'
    '"token":"5:1042","prev":6,"seq":1,"by":"11111111-1111-4111-8111-111111111111","at":"2026-01-31T12:00:00.045Z"}\n\n'
)
"""The beginning of a stream."""
_OF_STREAM: Final[dict[str, Any]] = {
    "description": "A stream of frames: docs/live.md.",
    "content": {_MEDIA_TYPE: {"schema": {"type": "string", "examples": [EXAMPLE]}}},
}
_OF_ALL: Final = problem_responses(
    "unauthorized", "malformed", "cursor_of_another_log", "rate_limited", "unavailable"
) | {200: _OF_STREAM}
_OF_A_CHAT: Final = problem_responses(
    "unauthorized", "malformed", "not_member", "unknown_chat", "rate_limited", "unavailable"
) | {200: _OF_STREAM}

SinceQuery = Annotated[str | None, Query(max_length=16_384, description="A cursor: of a stream, or `next` of a sync.")]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="The same; it goes before `since`."),
]
ChatsQuery = Annotated[
    list[UUID] | None, Query(max_length=CHATS_IN_URL, description="Follow only these chats; repeat it for each.")
]
ReceiptsQuery = Annotated[
    Literal["all", "some"],
    Query(description="`some`: of large chats only your own receipts."),
]
PositionQuery = Annotated[
    int | None, Query(ge=0, le=2**53 - 1, description="The `position` of the page, or the id of the last event.")
]


class StreamResponse(Response):
    """Begins an event stream, and takes its connection over."""

    def __init__(self, opening: Opening, connection: EventStream, streams: Streams) -> None:
        super().__init__(None, 200)
        self._opening = opening
        self._connection = connection
        self._streams = streams

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        takeover = takeover_of(scope)
        if takeover.head_only:
            await send({"type": "http.response.body", "body": b""})
            return
        first = b"".join(event_block(frame.kind, frame.json()) for frame in self._opening.first)
        await send({"type": "http.response.body", "body": b"retry: %d\n%b" % (_RETRY_MS, first), "more_body": True})
        self._connection.chunked = takeover.chunked
        if takeover.take(self._connection) is not None:
            self._streams.add(self._connection, self._opening.stream, self._opening.standing)


def add_routes(into: APIRouter, opener: Opener, streams: Streams, sockets: WebSockets, tickets: Tickets | None) -> None:
    router = APIRouter(route_class=StreamRoute, generate_unique_id_function=operation_id)

    async def caller_of(
        request: Request,
        credentials: CredentialsOfRequest,
        ticket: Annotated[
            str | None,
            Query(max_length=MAX_CHARACTERS, description="In place of a token, for a browser's EventSource."),
        ] = None,
    ) -> Caller | None:
        """Return the caller by token or ticket, or None for a WebSocket, which says it in its first message."""
        if wants_websocket(request.scope):
            return None
        if ticket is not None and tickets is not None:
            return tickets.caller(ticket)
        return await current_caller(request, credentials)

    of_stream = Depends(caller_of)  # a default, because an annotation is looked up among the names of the module

    @router.get("/live", responses=_OF_ALL, response_class=Response)
    async def follow_all(
        request: Request,
        since: SinceQuery = None,
        chats: ChatsQuery = None,
        receipts: ReceiptsQuery = "some",
        last_event_id: LastEventId = None,
        caller: Caller | None = of_stream,
    ) -> Response:
        """Follow all of your chats, also those that you join: as server-sent events, or by WebSocket (Upgrade)."""
        if caller is None:
            return sockets.response(request.app.state.authenticator)
        user_id = UserId(caller.user_id)
        opener.refuse_if_full(user_id)
        connection = EventStream(streams, Form.SSE, expires_at_s=caller.expires_at_s)
        try:
            opening = await opener.of_all(
                user_id,
                connection,
                Form.SSE,
                since=last_event_id or since or None,
                only=None if chats is None else frozenset(ChatId(str(chat_id)) for chat_id in chats),
                all_receipts=receipts == "all",
            )
        except LiveError as error:
            raise problem_of(error) from error
        return StreamResponse(opening, connection, streams)

    @router.get("/chats/{chat_id}/live", responses=_OF_A_CHAT, response_class=Response)
    async def follow_one(
        chat_id: Annotated[UUID, Path()],
        after_position: PositionQuery = None,
        receipts: ReceiptsQuery = "some",
        last_event_id: LastEventId = None,
        caller: Caller | None = of_stream,
    ) -> Response:
        """Follow one chat, as server-sent events whose ids are positions. It ends with your membership."""
        if caller is None:
            raise Problem("malformed", "A WebSocket follows all chats, or those that it names: use /v1/live.")
        user_id = UserId(caller.user_id)
        opener.refuse_if_full(user_id)
        connection = EventStream(streams, Form.SSE_OF_A_CHAT, expires_at_s=caller.expires_at_s)
        try:
            opening = await opener.of_one(
                user_id,
                connection,
                Form.SSE_OF_A_CHAT,
                ChatId(str(chat_id)),
                after_position=after_position if last_event_id is None else _position_of(last_event_id, after_position),
                all_receipts=receipts == "all",
            )
        except LiveError as error:
            raise problem_of(error) from error
        return StreamResponse(opening, connection, streams)

    into.include_router(router)


def _position_of(last_event_id: str, after_position: int | None) -> int | None:
    """Return the later of both: a native EventSource sends its last id, and the URL that it began with."""
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 16):
        raise Problem("malformed", "`Last-Event-ID` of a chat's stream is a position.")
    return max(int(last_event_id), after_position or 0)
