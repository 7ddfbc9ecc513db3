"""A generated day of one room, sent by many devices at once through the real API, and read back byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID, uuid5

import httpx
import pytest

from schemas import ids, limits
from schemas.ids import ChatId, UserId
from tests.support.a_day import Change, Day, Hour, Post, Shown, body_of, written
from tests.support.chat_log import ANNA
from tests.support.running_stack import RunningStack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
SEED: Final = 20_260_131
USERS: Final = [ANNA, *(str(uuid5(UUID(ANNA), f"member {number}")) for number in range(11))]
"""Members of the room, the busiest first."""
AT_ONCE: Final = 32
"""Requests in flight."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with RunningStack.up(tmp_path_factory.mktemp("day"), "--sequencers", "1") as stack:
        yield stack


def test_the_day_is_the_same_for_a_seed_and_has_what_systems_damage() -> None:
    day = Day.of(seed=SEED, users=USERS)
    assert written(day) == written(Day.of(seed=SEED, users=USERS)) != written(Day.of(seed=SEED + 1, users=USERS))
    texts = [post.text for post in day.posts]
    everything = "".join(texts)
    for damaged in (
        "👩‍👩‍👧‍👦",
        "🇨🇭",
        "e\u0301",
        "\u200d",
        "\u200c",
        "\u202b",
        "\u200f",
        "\r\n",
        "\t",
        "\\N",
        "</script>",
        '\\"',
        "\x01",
    ):
        assert damaged in everything, ascii(damaged)
    assert {limits.TEXT_CHARACTERS, limits.TEXT_CHARACTERS - 1} <= {len(text) for text in texts}
    assert "" in texts, "media alone"
    changes = [change for hour in day.hours for of_message in hour.changes for change in of_message]
    assert {change.what for change in changes} == {"edit", "delete", "react", "unreact"}
    assert sum(post.reply_to is not None for post in day.posts) > 100
    assert len({post.sender for post in day.posts}) > 8
    assert min(len(day.hours[hour].burst) for hour in (4, 8)) > 50


class Room:
    """The room on the real system, and what it answered."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient) -> None:
        self._http = http
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._authorization = {user: f"Bearer {stack.token(user)}" for user in USERS}
        self.chat = ""
        self.answers: dict[int, dict[str, Any]] = {}
        """Number of the message → the answer to its send."""
        self.message_ids: dict[int, str] = {}
        self.token: str = ""
        self.answered = asyncio.Condition()

    async def ask(self, user: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Authorization": self._authorization[user], "Prefer": "wait=30"}
        sent: dict[str, Any] = {} if body is None else {"content": json.dumps(body, ensure_ascii=False).encode()}
        async with self._slots:
            return await self._http.request(method, path, headers=headers, **sent)

    async def create(self) -> None:
        body = {"kind": "group", "name": "a day", "members": USERS[1:]}
        answer = await self.ask(ANNA, "POST", "/v1/chats", body, Idempotency_Key="day")
        assert answer.status_code == 201, answer.text
        self.chat = answer.json()["chat_id"]
        self.messages = f"/v1/chats/{self.chat}/messages"

    async def send_batch(self, batch: list[Post], *, again: bool = False) -> None:
        body = [body_of(post, self.message_ids) | {"chat_id": self.chat} for post in batch]
        answer = await self.ask(batch[0].sender, "POST", "/v1/messages:batch", body)
        assert answer.status_code == 200, answer.text
        for post, item in zip(batch, answer.json(), strict=True):
            assert item["status"] == (200 if again else 201), item
            await self._note(post, item["result"], again=again)

    async def send(self, post: Post, *, again: bool = False) -> None:
        answer = await self.ask(post.sender, "POST", self.messages, body_of(post, self.message_ids))
        assert answer.status_code == (200 if again else 201), answer.text
        await self._note(post, answer.json(), again=again)

    async def _note(self, post: Post, result: dict[str, Any], *, again: bool) -> None:
        if again:
            original = self.answers[post.number]
            assert result | {"token": ""} == original | {"token": "", "duplicate": True}
            return
        assert result["message_id"] == ids.command_id(ChatId(self.chat), UserId(post.sender), post.key)
        async with self.answered:
            self.answers[post.number] = result
            self.message_ids[post.number] = result["message_id"]
            self.token = max(self.token, result["token"], key=index_of)
            self.answered.notify_all()

    async def change(self, of_message: list[Change]) -> None:
        """Make the changes of one message in their order, some twice: as a device does that got no answer."""
        for change in of_message:
            path = f"{self.messages}/{self.answers[change.post.number]['seq']}"
            body = None
            match change.what:
                case "edit":
                    method, body = "PATCH", {"text": change.text}
                case "delete":
                    method = "DELETE"
                case "react" | "unreact":
                    method, path = "PUT" if change.what == "react" else "DELETE", f"{path}/reactions/{change.emoji}"
            first = await self.ask(change.user, method, path, body, Idempotency_Key=f'"{change.key}"')
            assert first.status_code == 200, (change, first.text)
            self.token = max(self.token, first.json()["token"], key=index_of)
            if change.post.number % 3 == 0:
                again = await self.ask(change.user, method, path, body, Idempotency_Key=f'"{change.key}"')
                assert (again.status_code, again.json()["position"]) == (200, first.json()["position"])

    async def pass_hour(self, hour: Hour) -> None:
        jobs = [self.send_batch(batch) for batch in hour.batches]
        jobs += [self.send(post) for post in hour.burst]
        jobs += [self.change(of_message) for of_message in hour.changes]
        await asyncio.gather(*jobs)

    async def follow(self, count: int) -> list[str]:
        """Read the room while it grows, until `count` messages came. Returns their ids in the order they came."""
        seen: list[str] = []
        while len(seen) < count:
            wanted = min(count, len(seen) + 25)
            async with self.answered:
                while len(self.answers) < wanted:
                    await self.answered.wait()
            path = f"{self.messages}?after_seq={len(seen)}&limit=50"
            page = await self.ask(USERS[-1], "GET", path, Gapless_At_Least=self.token)
            assert page.status_code == 200, page.text
            messages = page.json()["messages"]
            assert [message["seq"] for message in messages] == list(
                range(len(seen) + 1, len(seen) + len(messages) + 1)
            ), "a reader that follows sees no gap and no repeat"
            seen += [message["message_id"] for message in messages]
        return seen

    async def whole(self, reader: str, limit: int, *, backward: bool) -> list[dict[str, Any]]:
        """Return all messages, read page by page."""
        found: list[dict[str, Any]] = []
        bound = "" if backward else "&after_seq=0"
        while True:
            answer = await self.ask(reader, "GET", f"{self.messages}?limit={limit}{bound}", Gapless_At_Least=self.token)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            messages = page["messages"]
            assert len(messages) <= limit
            found = [*messages, *found] if backward else [*found, *messages]
            if not page["has_more_before" if backward else "has_more_after"]:
                return found
            bound = f"&before_seq={messages[0]['seq']}" if backward else f"&after_seq={messages[-1]['seq']}"


def index_of(token: str) -> int:
    return int(token.split(":")[1]) if token else -1


def compare(message: dict[str, Any], post: Post, shown: Shown, answer: dict[str, Any], reader: str) -> None:
    """Compare a message of history with what was sent and changed; texts as the bytes that they are."""
    text = None if message["text"] is None else message["text"].encode()
    assert text == (None if shown.text is None else shown.text.encode()), post.number
    assert tuple(message["media_urls"]) == shown.media_urls
    assert message["metadata"] == shown.metadata
    assert (message["sender_id"], message["client_generated_id"]) == (post.sender, post.key)
    assert {name: message[name] for name in ("message_id", "seq", "position", "sent_at")} == {
        name: answer[name] for name in ("message_id", "seq", "position", "sent_at")
    }
    assert (message["revision"], message["reply_count"]) == (shown.revision, len(shown.live_replies)), post.number
    assert (message["last_reply_seq"] is None) == (not shown.live_replies), post.number
    assert (message["edited_at"] is not None, message["deleted_at"] is not None) == (shown.revision > 0, shown.deleted)
    assert {each["emoji"]: (each["count"], each["mine"]) for each in message["reactions"]} == {
        emoji: (len(users), reader in users) for emoji, users in shown.reactions.items()
    }


async def test_a_day_of_one_room_is_read_back_byte_for_byte(stack: RunningStack) -> None:
    day = Day.of(seed=SEED, users=USERS)
    async with stack.client() as http:
        room = Room(stack, http)
        await room.create()
        follower = asyncio.create_task(room.follow(len(day.posts)))
        for hour in day.hours:
            await room.pass_hour(hour)
        followed = await follower
        # Devices that got no answer send again, much later: the originals come back, and nothing is there twice.
        await asyncio.gather(
            *(room.send_batch(hour.batches[-1], again=True) for hour in day.hours),
            *(room.send(post, again=True) for hour in day.hours for post in hour.burst[:10]),
        )

        by_seq = {room.answers[post.number]["seq"]: post for post in day.posts}
        assert sorted(by_seq) == list(range(1, len(day.posts) + 1)), "no gap and no repeat"
        for batch in (batch for hour in day.hours for batch in hour.batches):
            seqs = [room.answers[post.number]["seq"] for post in batch]
            assert seqs == sorted(seqs), "the messages of a request stay in their order"
        shown = day.shown()
        for reader, limit, backward in (
            (ANNA, 200, False),
            (USERS[1], 50, False),
            (USERS[-1], 200, True),
            (ANNA, 37, True),
        ):
            found = await room.whole(reader, limit, backward=backward)
            assert [message["seq"] for message in found] == list(range(1, len(day.posts) + 1)), (limit, backward)
            assert [message["message_id"] for message in found] == followed
            positions = [message["position"] for message in found]
            times = [message["sent_at"] for message in found]
            assert (positions, times) == (sorted(positions), sorted(times))
            for message in found:
                post = by_seq[message["seq"]]
                compare(message, post, shown[post.number], room.answers[post.number], reader)
        live = [post.sender for post in day.posts if not shown[post.number].deleted]
        for user in USERS:
            unread = (await room.ask(user, "GET", f"/v1/chats/{room.chat}/unread", Gapless_At_Least=room.token)).json()
            assert unread == {"unread": len(live) - live.count(user)}


async def test_the_read_model_of_the_day_equals_the_log(stack: RunningStack) -> None:
    """Last in this file: what the day left is compared, in a rebuilt version too."""
    await stack.gapless("projection", "rebuild", "--to", "v2")
    for version in ("v1", "v2"):
        assert (await stack.gapless("projection", "verify", "--version", version))["equal"]
    assert (await stack.gapless("log", "verify"))["violations"] == []
