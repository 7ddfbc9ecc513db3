"""The HTTP paths of query, and how a request becomes a read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from inspect import signature
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute

from schemas.ids import ChatId, CommandId, UserId, partition_of
from services.query.api import responses, serializers
from services.query.api.fast_params import READERS, refuse_repeats
from services.query.api.parameters import (
    AtLeastHeader,
    ChatIdInPath,
    CommandIdInPath,
    CommandParameters,
    HistoryParameters,
    ListParameters,
    SeqInPath,
)
from services.query.api.reads import Reads
from services.query.errors import QueryError
from services.query.problems import RETRY_AFTER_S, problem_of
from services.query.snapshot.at_least import Token, read_token
from services.runtime.access.auth import Caller, authenticated, current_caller
from services.runtime.web.fast_routes import FastRequest, FastResponse, FastRoute
from services.runtime.web.openapi import headers, operation_id, problem_responses

PRODUCER_SCOPE: Final = "producer"

CallerOfRequest = Annotated[Caller, Depends(current_caller)]
HistoryQuery = Annotated[HistoryParameters, Query()]
ListQuery = Annotated[ListParameters, Query()]
CommandQuery = Annotated[CommandParameters, Query()]

_ANY: Final = problem_responses("unauthorized", "malformed", "unavailable")
_OF_A_CHAT: Final = problem_responses("unauthorized", "malformed", "not_member", "unknown_chat", "unavailable")
_OF_A_MESSAGE: Final = problem_responses(
    "unauthorized", "malformed", "not_member", "unknown_chat", "unknown_message", "unavailable"
)
_OF_A_COMMAND: Final = problem_responses("unauthorized", "malformed", "unknown_command", "unavailable")


class QueryRoute(FastRoute):
    """Takes valid requests through the fast path; FastAPI handles the others and says what is wrong with them.

    Either way query's exceptions become problem documents, wherever the router is mounted.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **described: Any) -> None:
        super().__init__(path, endpoint, **described)
        self._readers = [(name, READERS[name]) for name in signature(endpoint).parameters if name != "caller"]
        self._for_caller = "caller" in signature(endpoint).parameters

    async def respond(self, request: FastRequest) -> FastResponse:
        asked: dict[str, Any] = {}
        if self._for_caller:  # first: an unauthenticated caller learns nothing about its request
            authenticator = request.scope["app"].state.authenticator
            asked["caller"] = await authenticated(authenticator, request.header(b"authorization"))
        for name, read in self._readers:
            asked[name] = read(request)
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
                return await handle(request)
            except QueryError as error:
                raise problem_of(error) from error

        return handle_or_refuse


def query_router(reads: Reads, *, partitions: int) -> APIRouter:
    """Return a router with all paths of query. The application that mounts it has the authenticator (`http.build_app`).

    :param partitions: number of partitions of the log, to validate tokens and find a chat's partition.
    """
    router = APIRouter(prefix="/v1", tags=["query"], route_class=QueryRoute, generate_unique_id_function=operation_id)

    def token_of(text: str | None) -> Token | None:
        return None if text is None else read_token(text, partitions)

    @router.get("/me", response_model=responses.Me, responses=problem_responses("unauthorized"))
    async def get_me(caller: CallerOfRequest) -> Response:
        """The user that your token identifies."""
        expires_at = datetime.fromtimestamp(min(caller.expires_at_s, _LAST_INSTANT_S), UTC)
        return _json(
            serializers.dumps(
                {
                    "user_id": caller.user_id,
                    "claim": caller.claim,
                    "scopes": sorted(caller.scopes),
                    "expires_at": serializers.instant(expires_at),
                }
            )
        )

    @router.get("/chats", response_model=responses.Chats, responses=_ANY)
    async def list_chats(caller: CallerOfRequest, page: ListQuery, at_least: AtLeastHeader = None) -> Response:
        """Your chats, newest activity first, each with its last message and your unread count.

        A chat that becomes active while you page moves to the front: request the first page again to see it.
        """
        return _json(await reads.chats(UserId(caller.user_id), page.cursor, page.limit, token_of(at_least)))

    @router.get("/unread", response_model=responses.AllUnread, responses=_ANY)
    async def get_unread_of_all_chats(caller: CallerOfRequest, at_least: AtLeastHeader = None) -> Response:
        """The number of messages of others that you have not read, in total and per chat."""
        return _json(await reads.unread_of_all(UserId(caller.user_id), token_of(at_least)))

    @router.get("/chats/{chat_id}", response_model=responses.Chat, responses=_OF_A_CHAT)
    async def get_chat(caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None) -> Response:
        """One of your chats."""
        return _json(await reads.chat(UserId(caller.user_id), ChatId(chat_id), token_of(at_least)))

    @router.get("/chats/{chat_id}/messages", response_model=responses.History, responses=_OF_A_CHAT)
    async def list_messages(
        caller: CallerOfRequest, chat_id: ChatIdInPath, bounds: HistoryQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """A page of messages, ascending by seq. Bounds are exclusive, except that around_seq is in its page."""
        return _json(
            await reads.history(
                UserId(caller.user_id), ChatId(chat_id), bounds.window, bounds.sender, token_of(at_least)
            )
        )

    @router.get("/chats/{chat_id}/messages/{seq}", response_model=responses.Message, responses=_OF_A_MESSAGE)
    async def get_message(
        caller: CallerOfRequest, chat_id: ChatIdInPath, seq: SeqInPath, at_least: AtLeastHeader = None
    ) -> Response:
        """One message."""
        return _json(await reads.message(UserId(caller.user_id), ChatId(chat_id), seq, token_of(at_least)))

    @router.get("/chats/{chat_id}/latest-seq", response_model=responses.LatestSeq, responses=_OF_A_CHAT)
    async def get_latest_seq(
        caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None
    ) -> Response:
        """The seq of the newest message."""
        return _json(await reads.latest_seq(UserId(caller.user_id), ChatId(chat_id), token_of(at_least)))

    @router.get("/chats/{chat_id}/unread", response_model=responses.Unread, responses=_OF_A_CHAT)
    async def get_unread(caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None) -> Response:
        """The number of messages above your read cursor that are neither yours nor deleted."""
        return _json(await reads.unread(UserId(caller.user_id), ChatId(chat_id), token_of(at_least)))

    @router.get("/chats/{chat_id}/read-state", response_model=responses.ReadState, responses=_OF_A_CHAT)
    async def list_read_state(
        caller: CallerOfRequest, chat_id: ChatIdInPath, page: ListQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """The read and delivered cursors of each present member, by user_id."""
        return _json(
            await reads.read_state(UserId(caller.user_id), ChatId(chat_id), page.cursor, page.limit, token_of(at_least))
        )

    @router.get("/chats/{chat_id}/members", response_model=responses.Members, responses=_OF_A_CHAT)
    async def list_members(
        caller: CallerOfRequest, chat_id: ChatIdInPath, page: ListQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """The present members, by user_id."""
        return _json(
            await reads.members(UserId(caller.user_id), ChatId(chat_id), page.cursor, page.limit, token_of(at_least))
        )

    @router.get(
        "/chats/{chat_id}/commands/{command_id}",
        response_model=responses.CommandStatus,
        response_model_exclude_none=True,
        responses=_OF_A_COMMAND | {200: headers("Location", "Retry-After")},
    )
    async def get_command(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        command_id: CommandIdInPath,
        place: CommandQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The status of a command that you sent; with the scope `producer`, of any user's command."""
        partition = partition_of(chat_id, partitions)
        status = await reads.command_status(
            UserId(caller.user_id),
            ChatId(chat_id),
            CommandId(command_id),
            partition,
            place.offset_in(partition),
            any_sender=PRODUCER_SCOPE in caller.scopes,
            at_least=token_of(at_least),
        )
        more = {}
        if status.pending:
            more["Retry-After"] = f"{RETRY_AFTER_S:.0f}"
        if status.message_seq is not None:
            more["Location"] = f"/v1/chats/{chat_id}/messages/{status.message_seq}"
        return _json(status.body, more)

    return router


_LAST_INSTANT_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The latest time that can be written; a token may expire later."""


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers=headers, media_type="application/json")
