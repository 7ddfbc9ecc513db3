"""What the clients of one chaos run share: users, chats, and what they know from answers."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from schemas import ids
from schemas.ids import ChatId, UserId
from tests.chaos.evidence import Json, Recorder

SEND = "message.send.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was accepted, as its sender knows it."""

    chat: str
    sender: str
    key: str
    body: Json
    seq: int | None
    """None if its answer did not say it."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """Shared state, created once per run. Everything random in it comes from the seed."""

    seed: int
    partitions: int
    recorder: Recorder
    creator: str = ""
    users: list[str] = field(default_factory=list)
    """Members of every chat for the whole run; the creator is one of them."""
    comer: str = ""
    """The user who is added and removed all the time."""
    stranger: str = ""
    """A user who never was a member."""
    chats: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    """Chat → the last token that any client got."""
    last_seq: dict[str, int] = field(default_factory=dict)
    """Chat → the highest seq that any client got."""
    sent: list[Sent] = field(default_factory=list)
    changed: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """replies, edits, reactions or receipts → (chat, seq) of messages that likely have some."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no client may begin anything new."""
    unanswered: list[str] = field(default_factory=list)
    """Commands that got no answer within their deadline, although everything was healed."""
    forged: int = 0
    """Number of the hostile producer's batches that a broker accepted."""
    _keys: int = 0

    @classmethod
    def of(cls, seed: int, partitions: int, recorder: Recorder, *, users: int = 6, chats: int = 12) -> Stage:
        stage = cls(seed=seed, partitions=partitions, recorder=recorder)
        rng = stage.rng("people")
        people = [str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(users + 2)]
        *stage.users, stage.comer, stage.stranger = people
        stage.creator = stage.users[0]
        stage.chats = [ids.group_chat_id(UserId(stage.creator), f"chat {n}") for n in range(chats)]
        return stage

    def rng(self, who: str) -> random.Random:
        """Return a separate source of randomness, so that one client's pace does not change another's choices."""
        return random.Random(f"{self.seed}/{who}")

    def fresh_key(self, client: str) -> str:
        self._keys += 1
        return f"{client}-{self._keys}"

    def partition_of(self, chat: str) -> int:
        return ids.partition_of(ChatId(chat), self.partitions)

    def told(self, chat: str, seq: int, token: str | None) -> None:
        """Record that a client learned that `seq` is in the chat."""
        self.last_seq[chat] = max(self.last_seq.get(chat, 0), seq)
        if token is not None:
            self.tokens[chat] = token
