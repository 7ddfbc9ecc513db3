"""Follows one chat: history first, then its stream, again after every cut, and history for what a stream left out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from services.ops.chat_client import LARGEST_PAGE, ApiAway, ApiRefused, ChatClient
from services.ops.following.event_stream import EventStreamParser
from services.ops.following.followed_chat import FollowedChat, Frame
from services.runtime.process.backoff import Backoff

LONGEST_PAUSE_S: Final = 15.0
STEADY_S: Final = 10.0
"""A stream that lasted this long works: pauses begin anew with the shortest."""
FAILURES_TO_NOTICE: Final = 3
"""One cut, and a reconnect that fails while a process restarts, concern no reader."""
SILENT_HEARTBEATS: Final = 2.5
"""A stream without a byte for this many heartbeats is given up."""
FIRST_SILENCE_S: Final = 50.0
"""The same until the first stream has said how often it has a heartbeat."""
NOT_EVENTS: Final = frozenset({"ready", "bye", "gap", "lagged", "removed"})


class Follower:
    """One user's view of one chat. Raises ApiRefused, also at the end of the membership; ApiAway only at the start.

    :param all_receipts: whether receipts are shown, also those of large chats.
    :param notice: gets a sentence when the API stays away, and when it is back.
    """

    def __init__(
        self,
        client: ChatClient,
        chat_id: str,
        *,
        all_receipts: bool,
        notice: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._chat_id = chat_id
        self._all_receipts = all_receipts
        self._notice = notice
        self._pause = pause
        self._chat = FollowedChat()
        self._silence_s = FIRST_SILENCE_S

    def follow(self, *, after_seq: int | None, newest: int) -> Iterator[Frame]:
        """Yield the newest messages, or those after a seq, and then every event of the chat, each once. Endless."""
        self._chat.name = self._client.chat(self._chat_id)["name"]
        self._chat.roles = {member["user_id"]: member["role"] for member in self._client.members(self._chat_id)}
        if after_seq is None:
            page = self._client.history(self._chat_id, after_seq=None, limit=newest)
            yield from self._chat.of_page(page["messages"])
            self._chat.caught_up(page["position"])
        else:
            self._chat.last_seq = after_seq
            self._chat.caught_up((yield from self._newer_messages(None)))
        backoff = Backoff(LONGEST_PAUSE_S)
        failures = 0
        while True:
            began_s, after_s = time.monotonic(), None
            try:
                for frame in self._stream():
                    if frame["type"] == "ready":
                        if failures >= FAILURES_TO_NOTICE:
                            self._notice("Connected again.")
                        failures = 0
                    elif frame["type"] == "bye":
                        after_s = frame["after_ms"] / 1000
                    elif frame["type"] not in NOT_EVENTS:
                        yield frame
            except ApiAway as away:
                after_s = away.retry_after_s
                failures += 1
                if failures == FAILURES_TO_NOTICE:
                    self._notice(f"Reconnecting: {away}")
            if time.monotonic() - began_s > STEADY_S:
                backoff.reset()
            self._pause(backoff.next_s() if after_s is None else after_s)

    def _stream(self) -> Iterator[Frame]:
        """Yield the frames of one stream, from the chat's position on. Raises ApiAway if it is cut."""
        parser = EventStreamParser()
        with self._client.live(
            self._chat_id,
            after_position=self._chat.position,
            all_receipts=self._all_receipts,
            silence_s=self._silence_s,
        ) as pieces:
            for piece in pieces:
                for event in parser.feed(piece):
                    yield from self._take(json.loads(event.data))

    def _take(self, frame: Frame) -> Iterator[Frame]:
        kind = frame["type"]
        if kind == "gap":
            yield from self._missed(frame["token"])
        elif kind == "removed":
            raise ApiRefused("You are no longer a member of this chat.")
        elif kind in NOT_EVENTS:
            if kind == "ready":
                self._silence_s = frame["heartbeat_s"] * SILENT_HEARTBEATS
            yield frame
        else:
            if self._chat.misses_something_before(frame):
                yield from self._missed(frame["token"])
            new = self._chat.of_stream(frame)
            if new is not None:
                yield new

    def _missed(self, at_least: str) -> Iterator[Frame]:
        """Yield what the stream left out, from a snapshot that holds it: what has changed, and then what is new.

        What is sent after the changes were read comes as frames, and messages among it are shown only once.
        """
        after = self._chat.position
        while True:
            page = self._client.changes(self._chat_id, after_position=after, at_least=at_least)
            yield from self._chat.of_changes(page)
            after = page["next_position"]
            if not page["has_more"]:
                break
        yield from self._newer_messages(at_least)
        self._chat.caught_up(after)

    def _newer_messages(self, at_least: str | None) -> Generator[Frame, None, int]:
        """Yield all messages after the last one that was shown, and return the position of the first page.

        What happens while the other pages are read comes as frames after that position.
        """
        position = None
        while True:
            page = self._client.history(
                self._chat_id, after_seq=self._chat.last_seq, limit=LARGEST_PAGE, at_least=at_least
            )
            position = page["position"] if position is None else position
            yield from self._chat.of_page(page["messages"])
            if not page["has_more_after"]:
                return int(position)
