"""The steps that all paths share: admit the caller, send the command, render the outcome."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest import metrics
from services.ingest.api.preferences import Preference, read_prefer
from services.ingest.api.rate import RateLimit, quota_header
from services.ingest.api.requests import PRODUCER
from services.ingest.api.responses import CommandResponse, outcome_pending
from services.ingest.api.route import CommandRequest
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending
from services.ingest.sending.receipts import ReceiptCoalescer, Send
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.middleware import set_response_header
from services.runtime.web.problems import Problem

_JSON: Final = (b"content-type", b"application/json")
ResponseOf = Callable[[Command, Reply], CommandResponse]
SendPreferred = Callable[[float], Awaitable[Reply | Pending]]
SendAll = Callable[[Sequence[Command], float, ClientGone | None], Awaitable[list[Reply | Pending | Problem]]]


class CommandHandler:
    """Runs the steps that all paths share."""

    def __init__(
        self, send: Send, send_all: SendAll, receipts: ReceiptCoalescer, default_wait_s: float, rate: RateLimit | None
    ) -> None:
        self.send = send
        self.send_all = send_all
        self.receipts = receipts
        self._default_wait_s = default_wait_s
        self._rate = rate

    def admit(self, command_request: CommandRequest) -> None:
        """Check the caller's rate, and let the response say what is left of it. Raises Problem `rate_limited`."""
        if self._rate is None or PRODUCER in command_request.envelope.scopes:
            return
        quota = self._rate.take(command_request.envelope.caller_id, time.monotonic())
        scope = command_request.request.scope
        set_response_header(scope, b"ratelimit-policy", self._rate.policy)
        set_response_header(scope, b"ratelimit", quota_header(quota))
        if quota.retry_after_s > 0:
            metrics.RATE_LIMITED.inc()
            raise Problem("rate_limited", "You send requests faster than allowed.", retry_after_s=quota.retry_after_s)

    def preference(self, command_request: CommandRequest) -> Preference:
        return read_prefer(command_request.prefer, self._default_wait_s)

    async def respond(
        self,
        command_request: CommandRequest,
        command: Command,
        response_of: ResponseOf,
        send: SendPreferred | None = None,
    ) -> FastResponse:
        """Send the command and render its outcome.

        :param send: replaces the default way of sending, which is alone and at once; takes the seconds to wait. After
            the body, a request's `receive` returns when the client has disconnected; senders watch it.
        """
        preference = self.preference(command_request)
        if send is None:
            outcome = await self.send(command, preference.wait_s, command_request.request.receive)
        else:
            outcome = await send(preference.wait_s)
        if isinstance(outcome, Pending):
            return rendered(outcome_pending(outcome), preference)
        return rendered(response_of(command, outcome), preference)


def rendered(answer: CommandResponse, preference: Preference) -> FastResponse:
    headers = [_JSON, (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if preference.applied is not None:
        headers.append((b"preference-applied", preference.applied.encode("latin-1")))
    return FastResponse(answer.status, headers, answer.body)
