"""`GET /v1/live` with Upgrade: a WebSocket for all chats, or for some."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from schemas.ids import ChatId, UserId
from services.live.api.opening import Opener
from services.live.connections.session import Auth, Ping, Refused, Start, chats_of, kind_of
from services.live.connections.streams import Streams
from services.live.connections.websocket import WebSocketStream
from services.live.errors import LiveError
from services.live.frames import control
from services.live.frames.frame import Form
from services.live.signals.exchange import SignalExchange
from services.live.signals.signal import Signal
from services.runtime.access.auth import Authenticator
from services.runtime.serving.websocket import accept
from services.runtime.web.problems import Problem

_REASONS = {"unauthorized": "unauthorized", "malformed": "protocol", "cursor_of_another_log": "cursor_of_another_log"}
"""Reason of a problem → that of a bye; any other passes, and the client comes back."""


class WebSockets:
    """Answers the messages of all WebSockets of a process."""

    def __init__(self, opener: Opener, streams: Streams, signals: SignalExchange) -> None:
        self._opener = opener
        self._streams = streams
        self._signals = signals

    def response(self, authenticator: Authenticator) -> WebSocketResponse:
        """Return the response to a request that asks for a WebSocket. Raises Problem if there is no room."""
        self._opener.refuse_if_full(None)
        return WebSocketResponse(self, authenticator, self._streams)

    async def message(self, authenticator: Authenticator, connection: WebSocketStream, text: str) -> None:
        """Do what a message of a client asks."""
        try:
            message = connection.session.take(text)
            if isinstance(message, Auth):
                await self._authenticate(authenticator, connection, message.token)
            elif isinstance(message, Start):
                await self._start(connection, message)
            elif isinstance(message, Ping):
                connection.write(control.pong().in_form(Form.WEBSOCKET))
            else:
                signal = Signal(kind_of(message), ChatId(message.chat_id), _user(connection), message.state)
                self._signal(connection, signal)
        except Refused as refused:
            connection.write(control.error("protocol", str(refused)).in_form(Form.WEBSOCKET))
            self._streams.end(connection, "protocol")
        except Problem as problem:
            detail = problem.detail or problem.title
            connection.write(control.error(problem.reason, detail).in_form(Form.WEBSOCKET))
            self._streams.end(connection, _REASONS.get(problem.reason, "unavailable"))
        except LiveError as error:
            connection.write(control.error("unavailable", str(error)).in_form(Form.WEBSOCKET))
            self._streams.end(connection, "unavailable")

    async def _authenticate(self, authenticator: Authenticator, connection: WebSocketStream, token: str) -> None:
        caller = await authenticator.authenticate(token)
        if connection.user_id is None:
            self._opener.refuse_if_full(UserId(caller.user_id))
        elif connection.user_id != caller.user_id:
            raise Refused("A token is renewed for the same user.")
        connection.authenticated(caller.user_id, caller.expires_at_s)
        connection.write(control.authenticated(caller.user_id, caller.expires_at_s).in_form(Form.WEBSOCKET))

    async def _start(self, connection: WebSocketStream, start: Start) -> None:
        opening = await self._opener.of_all(
            _user(connection),
            connection,
            Form.WEBSOCKET,
            since=start.since,
            only=chats_of(start),
            all_receipts=start.receipts == "all",
        )
        connection.started()
        for frame in opening.first:
            connection.write(frame.in_form(Form.WEBSOCKET))
        self._streams.add(connection, opening.stream, opening.standing)

    def _signal(self, connection: WebSocketStream, signal: Signal) -> None:
        stream = connection.stream
        if stream is not None and signal.chat_id in stream.user.chats:
            self._signals.send(signal)


class WebSocketResponse(Response):
    """Accepts a WebSocket, and takes its connection over."""

    def __init__(self, sockets: WebSockets, authenticator: Authenticator, streams: Streams) -> None:
        super().__init__(None, 101)
        self._sockets = sockets
        self._authenticator = authenticator
        self._streams = streams

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        sockets, authenticator = self._sockets, self._authenticator

        async def on_message(connection: WebSocketStream, text: str) -> None:
            await sockets.message(authenticator, connection, text)

        connection = WebSocketStream(self._streams, on_message)
        transport = await accept(scope, send, connection.wire)
        if transport is not None:
            connection.transport = transport
            self._streams.track(connection)


def _user(connection: WebSocketStream) -> UserId:
    assert connection.user_id is not None, "the session lets nothing through before"
    return UserId(connection.user_id)
