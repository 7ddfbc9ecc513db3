"""`POST /v1/chats/{chat_id}/typing` and `…/presence`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict

from schemas.ids import ChatId, UserId
from services.live.api.opening import problem_of
from services.live.connections.streams import Streams
from services.live.errors import LiveError
from services.live.signals.exchange import SignalExchange
from services.live.signals.signal import Signal
from services.runtime.access.auth import Caller, current_caller
from services.runtime.web.openapi import example, problem_responses

_RESPONSES: Final[dict[int | str, dict[str, Any]]] = problem_responses(
    "unauthorized", "malformed", "not_member", "unknown_chat", "unavailable"
)
CallerOfSignal = Annotated[Caller, Depends(current_caller)]
ChatInPath = Annotated[UUID, Path()]


class TypingState(BaseModel):
    model_config = example({"state": "started"}) | ConfigDict(extra="forbid")

    state: Literal["started", "stopped"]


class PresenceState(BaseModel):
    model_config = example({"state": "here"}) | ConfigDict(extra="forbid")

    state: Literal["here", "away"]


def add_routes(router: APIRouter, streams: Streams, signals: SignalExchange) -> None:
    async def send(caller: Caller, signal: Signal) -> Response:
        try:
            user = await streams.user(UserId(caller.user_id))
            if signal.chat_id not in user.chats:
                raise await streams.no_member(user.user_id, signal.chat_id)
        except LiveError as error:
            raise problem_of(error) from error
        signals.send(signal)
        return Response(status_code=204)

    @router.post("/chats/{chat_id}/typing", status_code=204, responses=_RESPONSES, response_class=Response)
    async def send_typing(caller: CallerOfSignal, chat_id: ChatInPath, body: TypingState) -> Response:
        """Tell the others in the chat that you are typing. Repeat it every 3 s; it is over after 6 s.

        It is passed on if it can be, and never stored.
        """
        return await send(caller, _signal("typing", caller, chat_id, body.state))

    @router.post("/chats/{chat_id}/presence", status_code=204, responses=_RESPONSES, response_class=Response)
    async def send_presence(caller: CallerOfSignal, chat_id: ChatInPath, body: PresenceState) -> Response:
        """Tell the others that you look at the chat. Repeat it every 3 s; it is over after 6 s.

        It is passed on if it can be, and never stored.
        """
        return await send(caller, _signal("presence", caller, chat_id, body.state))


def _signal(kind: Literal["typing", "presence"], caller: Caller, chat_id: UUID, state: str) -> Signal:
    return Signal(kind, ChatId(str(chat_id)), UserId(caller.user_id), state)
