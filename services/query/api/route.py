"""How a request becomes a call of an endpoint, and what the endpoints share: the caller, problems, the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import signature
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.query.api.fast_params import reader_of, refuse_repeats
from services.query.api.request_body import parse_body
from services.query.errors import QueryError
from services.query.problems import problem_of
from services.runtime.access.auth import Caller, authenticated, current_caller
from services.runtime.web.fast_routes import FastRequest, FastResponse, FastRoute
from services.runtime.web.media_types import check_content
from services.runtime.web.openapi import problem_responses

CallerOfRequest = Annotated[Caller, Depends(current_caller)]

OF_ANY: Final = problem_responses("unauthorized", "malformed", "unavailable")
OF_A_CHAT: Final = problem_responses("unauthorized", "malformed", "not_member", "unknown_chat", "unavailable")
OF_A_MESSAGE: Final = problem_responses(
    "unauthorized", "malformed", "not_member", "unknown_chat", "unknown_message", "unavailable"
)


class QueryRoute(FastRoute):
    """Takes valid requests through the fast path; FastAPI handles the others and says what is wrong with them.

    Either way query's exceptions become problem documents, wherever the router is mounted.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **described: Any) -> None:
        super().__init__(path, endpoint, **described)
        parameters = signature(endpoint, eval_str=True).parameters
        apart = ("caller", "body")
        self._readers = [(name, reader_of(each)) for name, each in parameters.items() if name not in apart]
        self._body: type[BaseModel] | None = parameters["body"].annotation if "body" in parameters else None
        self._for_caller = "caller" in parameters

    async def respond(self, request: FastRequest) -> FastResponse:
        asked: dict[str, Any] = {}
        if self._for_caller:  # first: an unauthenticated caller learns nothing about its request
            authenticator = request.scope["app"].state.authenticator
            asked["caller"] = await authenticated(authenticator, request.header(b"authorization"))
        for name, read in self._readers:
            asked[name] = read(request)
        if self._body is not None:  # last, because a request whose body was read cannot go to FastAPI
            check_content(request, ndjson=False)
            asked["body"] = parse_body(self._body, await request.body())
        try:
            response = await self.endpoint(**asked)
        except QueryError as error:
            raise problem_of(error) from error
        return FastResponse(response.status_code, response.raw_headers, response.body)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = APIRoute.get_route_handler(self)

        async def handle_or_refuse(request: Request) -> Response:
            try:
                refuse_repeats(request.scope["query_string"])
                if self._body is not None:
                    check_content(FastRequest(request.scope, request.receive, {}), ndjson=False)
                    parse_body(self._body, await request.body())  # which FastAPI would read less strictly
                return await handle(request)
            except QueryError as error:
                raise problem_of(error) from error

        return handle_or_refuse


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers=headers, media_type="application/json")
