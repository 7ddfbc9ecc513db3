"""Coalesces the receipts of one (chat, user) to the highest: a scrolling client sends many, and only the last counts.

The first receipt is sent at once and opens a window. Later ones wait for the end of the window, when only the highest
is sent, which opens the next window. A receipt never fails because of another: if the coalesced one was rejected as
invalid (it named a seq that does not exist), or got no reply in time, each request sends its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.ids import ChatId, UserId
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest import metrics
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending

Send = Callable[[Command, float, ClientGone | None], Awaitable[Reply | Pending]]
Key = tuple[str, ChatId | None, UserId | None]
"""(command type, chat, user)."""


@dataclass(slots=True)
class CoalescedReceipt:
    """The receipts that wait for the end of one window: the highest of them, and the latest of their deadlines."""

    command: Command
    up_to_seq: int
    deadline_s: float
    outcome: asyncio.Future[Reply | Pending]

    def join(self, command: Command, up_to_seq: int, deadline_s: float) -> None:
        if up_to_seq > self.up_to_seq:
            self.command, self.up_to_seq = command, up_to_seq
        self.deadline_s = max(self.deadline_s, deadline_s)


@dataclass(slots=True)
class CoalescingWindow:
    """A window, open since a receipt of its key was sent."""

    timer: asyncio.TimerHandle
    coalesced: CoalescedReceipt | None = field(default=None)


class ReceiptCoalescer:
    """Keeps a window for each (type, chat, user) that sent a receipt within the last `window_s`."""

    def __init__(self, send: Send, *, window_s: float) -> None:
        self._send = send
        self._window_s = window_s
        self._windows: dict[Key, CoalescingWindow] = {}
        self._carriers: set[asyncio.Task[None]] = set()

    @property
    def open_windows(self) -> int:
        return len(self._windows)

    async def send(
        self, command: Command, up_to_seq: int, wait_s: float, client_gone: ClientGone | None = None
    ) -> Reply | Pending:
        """Return the outcome of this receipt, or of the higher one that replaced it. Pending always names this one.

        Raises Problem as the dispatcher does.
        """
        if wait_s <= 0:  # a client that does not wait gets the place of its own command
            return await self._send(command, 0.0, client_gone)
        key = (command.type, command.chat_id, command.sender_id)
        window = self._windows.get(key)
        if window is None:
            self._open_window(key)
            return await self._send(command, wait_s, client_gone)
        deadline_s = time.monotonic() + wait_s
        coalesced = _join(window, command, up_to_seq, deadline_s)
        outcome = await _outcome(coalesced, deadline_s)
        refused = (
            isinstance(outcome, Reply)
            and outcome.outcome is OutcomeKind.REJECTED
            and outcome.reason is Reason.INVALID
            and coalesced.up_to_seq != up_to_seq
        )
        if isinstance(outcome, Reply) and not refused:
            return outcome
        return await self._send(command, max(0.0, deadline_s - time.monotonic()), client_gone)

    async def stop(self) -> None:
        """Drop all windows. Running requests have been answered by now; receipts without a waiting request are lost,
        like any request that a crash cuts off."""
        for window in self._windows.values():
            window.timer.cancel()
        self._windows.clear()
        for carrier in self._carriers:
            carrier.cancel()
        if self._carriers:
            await asyncio.wait(self._carriers)

    def _open_window(self, key: Key) -> None:
        timer = asyncio.get_running_loop().call_later(self._window_s, self._close_window, key)
        self._windows[key] = CoalescingWindow(timer)

    def _close_window(self, key: Key) -> None:
        coalesced = self._windows.pop(key).coalesced
        if coalesced is None:
            return
        self._open_window(key)
        carrier = asyncio.create_task(self._carry(coalesced), name="coalesced receipt")
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _carry(self, coalesced: CoalescedReceipt) -> None:
        """Send it even if no request waits any more: a client that closes its page wants its receipt stored."""
        try:
            outcome = await self._send(coalesced.command, max(0.0, coalesced.deadline_s - time.monotonic()), None)
        except asyncio.CancelledError:
            coalesced.outcome.cancel()
            raise
        except Exception as error:  # noqa: BLE001  (raised by each waiting request)
            coalesced.outcome.set_exception(error)
            coalesced.outcome.exception()  # marks it as retrieved, even if no request waits any more
        else:
            coalesced.outcome.set_result(outcome)


def _join(window: CoalescingWindow, command: Command, up_to_seq: int, deadline_s: float) -> CoalescedReceipt:
    if window.coalesced is None:
        outcome: asyncio.Future[Reply | Pending] = asyncio.get_running_loop().create_future()
        window.coalesced = CoalescedReceipt(command, up_to_seq, deadline_s, outcome)
    else:
        metrics.RECEIPTS_COALESCED.inc()
        window.coalesced.join(command, up_to_seq, deadline_s)
    return window.coalesced


async def _outcome(coalesced: CoalescedReceipt, deadline_s: float) -> Reply | Pending | None:
    """Return the outcome, or None if it does not arrive in time."""
    try:
        async with asyncio.timeout(deadline_s - time.monotonic()):
            return await asyncio.shield(coalesced.outcome)
    except TimeoutError:
        return None
