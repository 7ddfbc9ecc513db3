"""Clients that send commands: they retry with the same key until they are answered, repeat and contradict themselves.

Some of what they send is rubbish.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Final

from msgspec import structs

from schemas import ids
from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    Role,
    canonical_body,
)
from schemas.ids import ChatId, CommandId, UserId
from schemas.types import MARKS, CommandType
from schemas.wire.encoding import Command, Encoded, ReplyTo, encode_command
from schemas.wire.replies import Reply

PARTITION: Final = 0
PARTITIONS: Final = 2
USERS: Final = tuple(UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abc")
_NAMES: Final = [
    name
    for name in (f"group {n}" for n in range(12))
    if ids.partition_of(ids.group_chat_id(USERS[0], name), PARTITIONS) == PARTITION
]
GROUPS: Final = [ids.group_chat_id(USERS[0], name) for name in _NAMES]
_ELSEWHERE: Final = next(
    chat
    for chat in (ids.group_chat_id(USERS[0], f"elsewhere {n}") for n in range(20))
    if ids.partition_of(chat, PARTITIONS) != PARTITION
)

_DESERTED: Final = 0.01
"""Chance that a client makes all members leave a chat instead of sending a request."""

_RENAMED: Final = 0.03
"""Chance that a client renames a group before it sends a request."""
_REACTED: Final = 0.06
"""Chance that it adds or removes a reaction."""
_EMOJIS: Final = ("👍", "❤")

_ROLES: Final[tuple[tuple[int, int, Role], ...]] = (
    (1, 1, "owner"),
    (0, 0, "member"),
    (0, 1, "owner"),
    (1, 0, "admin"),
    (1, 0, "admin"),
    (0, 1, "member"),
    (1, 0, "owner"),
    (1, 1, "admin"),
)
"""Sender, user, role. In this order, and without other commands in between, they produce every possible answer."""
_TYPE_OF: Final[dict[type[Body], str]] = {
    MemberRemove: "member.remove.v1",
    MemberAdd: "member.add.v1",
    MemberRole: "member.role.v1",
}

_CHASED: Final = frozenset(each.value for each in CommandType if each.declared.keyed) - {
    CommandType.CHAT_CREATE.value,
    CommandType.MESSAGE_SEND.value,
}
"""The types whose second command, under another key, has another outcome than the first."""
_IN_FLIGHT_S: Final = 0.003
"""About how long a command waits for its acknowledgement in a network that is not slow."""

Put = Callable[[Encoded], int]


class Client:
    """One client; `put` appends to the commands."""

    def __init__(
        self, number: int, random: Random, put: Put, rubbish: Callable[[], None], founded: asyncio.Event
    ) -> None:
        """`founded` is set when the first client has made its chats; the others wait for it for a while."""
        self._founded = founded
        self._number = number
        self._random = random
        # A separate source for rare choices, so that most runs stay as they are without them.
        self._seldom = Random(repr(random.getstate()[1][:8]))
        self._put = put
        self._rubbish = rubbish
        self._requests = 0
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._sent: list[Command] = []
        self.patience_s = 2.0

    def hear(self, reply: Reply) -> None:
        waiting = self._waiting.pop(reply.request_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    async def run(self, requests: int, bad: float, gap_s: float, *, burst: float = 0.5) -> None:
        """Send requests, each until it is answered; some in a burst, without waiting for the one before."""
        random = self._random
        if self._number == 0 and not self._sent:
            for name, chat in list(zip(_NAMES, GROUPS, strict=True))[:2]:
                body = ChatCreate(kind="group", name=name, members=[USERS[1]])
                await self._ask(self._command("chat.create.v1", chat, USERS[0], body, "create"))
            self._founded.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._founded.wait(), 2 * gap_s)
        under_way: list[asyncio.Task[None]] = []
        for _ in range(requests):
            if random.random() < bad:
                self._rubbish()
            if self._seldom.random() < _DESERTED:
                await self._desert(GROUPS[1])
            if self._seldom.random() < _RENAMED:
                await self._ask_and_chase(self._rename(), under_way)
            if self._seldom.random() < _REACTED:
                command = self._react()
                await self._ask_and_chase(command, under_way, self._same_or_other_emoji(command))
            command = self._something()
            if command.type in _CHASED:
                under_way.append(asyncio.create_task(self._chase(command)))
            asking = self._ask(command)
            if random.random() < burst:
                under_way.append(asyncio.create_task(asking))
            else:
                await asking
                await asyncio.sleep(random.random() * gap_s)
        if under_way:
            await asyncio.wait(under_way)
            for task in under_way:
                task.result()

    async def _desert(self, chat: ChatId) -> None:
        """Make all members leave, the creator last, who then rejoins, perhaps after a wrong or too early attempt."""
        creator, *others = USERS
        other = others[0]
        leaving = [MemberRemove(user_id=user) for user in (*others, creator)]
        wrong = (MemberAdd(user_id=creator, role="admin"), MemberAdd(user_id=other, role="owner"))
        right = MemberAdd(user_id=creator, role="owner")
        steps: list[tuple[UserId, Body]] = [(creator, body) for body in (*leaving, *wrong, right)]
        steps.insert(-1, (other, MemberAdd(user_id=other, role="owner")))
        steps.append((creator, MemberAdd(user_id=other, role="admin")))
        for sender, user, role in _ROLES:
            steps.append((USERS[sender], MemberRole(user_id=USERS[user], role=role)))
        for sender_id, body in steps:
            command_type = _TYPE_OF[type(body)]
            await self._ask(self._command(command_type, chat, sender_id, body, f"k{self._number}-{len(self._sent)}"))

    async def _chase(self, command: Command) -> None:
        """Ask for the same again under another key, most likely while the append that has the first is in flight.

        In a burst both would be in one batch; after the acknowledgement the state would have the first. Only in between
        does the writer have to look into the batch in flight.
        """
        key = f"{command.client_generated_id}-again"
        again = structs.replace(
            command, client_generated_id=key, command_id=ids.command_id(command.chat_id, command.sender_id, key)
        )
        await asyncio.sleep(self._seldom.random() * _IN_FLIGHT_S)
        await self._ask(again)

    async def _ask_and_chase(
        self, command: Command, under_way: list[asyncio.Task[None]], chaser: Command | None = None
    ) -> None:
        under_way.append(asyncio.create_task(self._chase(chaser or command)))
        await self._ask(command)

    def _react(self) -> Command:
        """Return a reaction to one of few messages, added or removed, with one of few emojis."""
        random = self._seldom
        chat, user = random.choice(GROUPS[:2]), random.choice(USERS)
        command_type = random.choice(("reaction.add.v1", "reaction.add.v1", "reaction.remove.v1"))
        body = Reaction(seq=random.randint(1, 3), emoji=random.choice(_EMOJIS))
        return self._command(command_type, chat, user, body, f"k{self._number}-{len(self._sent)}")

    def _same_or_other_emoji(self, command: Command) -> Command:
        """Return the reaction, or one with the other emoji: a message takes only one kind here."""
        used, other = (emoji.encode() for emoji in self._seldom.sample(_EMOJIS, 2))
        return structs.replace(command, body=command.body.replace(used, other))

    def _rename(self) -> Command:
        """Return a new name for a group, sometimes of a member without the right, sometimes the name it has."""
        random = self._seldom
        chat, user = random.choice(GROUPS[:2]), random.choice(USERS)
        body = ChatRename(name=random.choice((*_NAMES, "new", "newer")))
        return self._command("chat.rename.v1", chat, user, body, f"k{self._number}-{len(self._sent)}")

    async def _ask(self, command: Command) -> None:
        """Send a command until it is answered: a retry has the same key and bytes, and a new request id."""
        self._sent.append(command)
        while True:
            self._requests += 1
            request_id = f"c{self._number}-{self._requests}"
            waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
            for _ in range(1 if self._random.random() < 0.9 else 2):  # a producer may put it twice
                self._put(encode_command(_to(command, ReplyTo(self._number, request_id)), "/simulation"))
            done, _ = await asyncio.wait({waiting}, timeout=self.patience_s)
            if done:
                return

    def _something(self) -> Command:
        random = self._random
        dice = random.random()
        chat = random.choice(GROUPS[: 2 if random.random() < 0.9 else 3])  # a client may make the third one
        user = random.choice(USERS[: 2 if random.random() < 0.85 else 3])
        key = f"k{self._number}-{len(self._sent)}"
        if self._sent and dice < 0.12:
            return random.choice(self._sent)
        if self._sent and dice < 0.17:
            old = random.choice(self._sent)
            if old.client_generated_id is not None and old.chat_id is not None and old.sender_id is not None:
                other = MessageSend(text="something else")
                return self._command("message.send.v1", old.chat_id, old.sender_id, other, old.client_generated_id)
        if dice < 0.25:
            return self._command("read.mark.v1", chat, user, Mark(up_to_seq=random.randint(0, 6)), "")
        if dice < 0.30:
            return self._command("delivered.mark.v1", chat, user, Mark(up_to_seq=random.randint(0, 6)), "")
        if dice < 0.36:
            role: Role = random.choice(("member", "admin"))
            return self._command("member.add.v1", chat, user, MemberAdd(user_id=random.choice(USERS), role=role), key)
        if dice < 0.40:
            return self._command("member.remove.v1", chat, user, MemberRemove(user_id=random.choice(USERS)), key)
        if dice < 0.44:
            place = random.randrange(len(GROUPS))
            body = ChatCreate(kind="group", name=_NAMES[place], members=[USERS[2]])
            by_key = self._seldom.random() < 0.3  # half of these belong to another partition, and are answered so
            home = ids.keyed_chat_id(USERS[0], key) if by_key else GROUPS[place]
            return self._command("chat.create.v1", home, USERS[0], body, key)
        if dice < 0.48:
            return self._command("message.edit.v1", chat, user, self._edit(), key)
        if dice < 0.54:
            return self._command("message.delete.v1", chat, user, MessageDelete(seq=random.randint(1, 8)), key)
        text = "x" * random.choice((5, 400))
        replied = [c.command_id for c in self._sent if c.chat_id == chat and c.command_id] if dice > 0.9 else []
        return self._command(
            "message.send.v1",
            chat,
            user,
            MessageSend(text=text, reply_to_message_id=random.choice(replied) if replied else None),
            key,
        )

    def _edit(self) -> MessageEdit:
        random = self._random
        return MessageEdit(
            seq=random.randint(1, 6),
            text=random.choice(("one", "two")),
            media_urls=random.choice((None, None, [], ["https://example.org/a.png"])),
            metadata=random.choice((None, None, {"k": 1})),
            if_revision=random.choice((None, None, 0, 1)),
        )

    def _command(self, command_type: str, chat: ChatId, sender: UserId, body: Body, key: str) -> Command:
        marks = command_type in MARKS
        return Command(
            offset=-1,
            type=command_type,
            body=canonical_body(body),
            chat_id=chat,
            sender_id=sender,
            client_generated_id=None if marks else key,
            command_id=CommandId(ids.uuid5(chat, f"mark {self._number}-{len(self._sent)}"))
            if marks
            else ids.command_id(chat, sender, key),
        )


def rubbish(random: Random) -> Encoded | None:
    """Return a record that is no command; None stands for one that cannot even be parsed."""
    chat = random.choice(GROUPS)
    return random.choice(
        (
            None,
            Encoded(None, b"", []),
            Encoded(chat.encode(), b"{", [("ce_type", b"message.send.v1")]),
            Encoded(chat.encode(), b"{}", [("ce_type", b"message.sing.v9"), ("ce_sender", USERS[0].encode())]),
            Encoded(_ELSEWHERE.encode(), b"{}", [("ce_type", b"read.mark.v1"), ("ce_sender", USERS[0].encode())]),
            Encoded(chat.encode(), b"[" * 90, [("ce_type", b"read.mark.v1"), ("ce_sender", USERS[0].encode())]),
        )
    )


def _to(command: Command, reply_to: ReplyTo) -> Command:
    return Command(
        offset=-1,
        type=command.type,
        body=command.body,
        chat_id=command.chat_id,
        sender_id=command.sender_id,
        client_generated_id=command.client_generated_id,
        command_id=command.command_id,
        reply_to=reply_to,
    )
