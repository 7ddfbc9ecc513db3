"""How often one user's signals in one chat are passed on. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from services.live.signals.signal import Signal

EVERY_S: Final = 3.0
CHANGES: Final = 4
"""Maximum signals within EVERY_S, if they say something new each time."""
REMEMBERED: Final = 50_000


class _Sent:
    __slots__ = ("changes", "since_s", "state")

    def __init__(self, state: str, since_s: float) -> None:
        self.state = state
        self.since_s = since_s
        self.changes = 0


class SignalLimit:
    """Admits a signal every EVERY_S, and between them a few that say something new."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str, str], _Sent] = OrderedDict()

    def admits(self, signal: Signal, now_s: float) -> bool:
        key = (signal.kind, signal.chat_id, signal.user_id)
        sent = self._sent.get(key)
        if sent is None or now_s - sent.since_s >= EVERY_S:
            self._sent[key] = _Sent(signal.state, now_s)
            self._sent.move_to_end(key)
            if len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
            return True
        if signal.state == sent.state or sent.changes >= CHANGES:
            return False
        sent.state = signal.state
        sent.changes += 1
        return True
