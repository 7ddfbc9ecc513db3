"""The fast path of streams: a thousand readers who come back at once are a thousand requests.

Requests with a token and the usual parameters take it; FastAPI handles the others, and says what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import signature
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from schemas.ids import is_uuid
from services.runtime.access.auth import authenticated
from services.runtime.serving.websocket import wants_websocket
from services.runtime.web.fast_routes import FastRequest, FastResponse, FastRoute, NotFastPath

Endpoint = Callable[..., Awaitable[Response]]
_POSITION_DIGITS: Final = 15


class StreamRoute(FastRoute):
    """A route whose endpoint returns a StreamResponse."""

    def __init__(self, path: str, endpoint: Endpoint, **described: Any) -> None:
        super().__init__(path, endpoint, **described)
        self._stream: Endpoint = endpoint
        self._takes_request = "request" in signature(endpoint).parameters

    async def respond(self, request: FastRequest) -> FastResponse | Response:
        asked = _parameters(request)
        authenticator = request.scope["app"].state.authenticator
        caller = await authenticated(authenticator, request.header(b"authorization"))
        if self._takes_request:
            asked["request"] = Request(request.scope)
        return await self._stream(caller=caller, **asked)

    def get_route_handler(self) -> Any:
        return APIRoute.get_route_handler(self)


def _parameters(request: FastRequest) -> dict[str, Any]:
    """Return the parameters of a usual request. Raises NotFastPath."""
    if request.header(b"authorization") is None or wants_websocket(request.scope):
        raise NotFastPath
    asked: dict[str, Any] = {}
    chat_id = request.path_params.get("chat_id")
    if chat_id is not None:
        if not is_uuid(chat_id):
            raise NotFastPath
        asked["chat_id"] = UUID(chat_id)
    for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name in asked:
            raise NotFastPath
        if name == "after_position" and chat_id is not None:
            if not (value.isascii() and value.isdigit() and len(value) <= _POSITION_DIGITS):
                raise NotFastPath
            asked[name] = int(value)
        elif (name == "since" and chat_id is None) or (name == "receipts" and value in ("all", "some")):
            asked[name] = value
        else:
            raise NotFastPath
    asked["last_event_id"] = request.header(b"last-event-id")
    return asked
