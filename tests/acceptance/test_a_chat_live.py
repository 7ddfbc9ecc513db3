"""A chat followed live by people, on the whole system: in a terminal and in browsers, through cuts, kills and gaps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.browser import ENTER, Browser, browser, driver, needs_chromium
from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.cuttable import CuttableProxy
from tests.support.forked import Process, start_gapless
from tests.support.running_stack import RunningStack

RING_BYTES = 1024 * 1024
"""The smallest ring: a flood in another chat makes a gap."""
PATIENCE_S = 120.0

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    folder, ring = tmp_path_factory.mktemp("live"), {"GAPLESS_LIVE_RING_BYTES": str(RING_BYTES)}
    async with RunningStack.up(folder, "--sequencers", "1", environment=ring) as stack:
        yield stack


class Person:
    """One user's requests, each repeated under its key until it is answered."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient, user: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {stack.token(user)}", "Prefer": "wait=30"}
        self._keys = 0

    async def __call__(
        self, method: str, path: str, body: Any = None, *, at_least: str | None = None
    ) -> dict[str, Any]:
        """:param at_least: a token; the answer to a read shows what it stands for."""
        self._keys += 1
        headers = dict(self._headers)
        if at_least is not None:
            headers["Gapless-At-Least"] = at_least
        if not path.endswith(":batch"):
            headers["Idempotency-Key"] = f"k-{self._keys}"
        sent = {} if body is None else {"json": body}
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                response = await self._http.request(method, path, headers=headers, **sent)
            except httpx.TransportError as error:
                said = repr(error)
            else:
                if response.status_code in (200, 201):
                    answer: dict[str, Any] = response.json()
                    return answer
                said = response.text
                assert response.status_code == 202 or response.is_server_error, said
            assert time.monotonic() < deadline_s, said
            await asyncio.sleep(0.1)


class Followed:
    """A running `gapless chat follow`, and what it has printed."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self._out, self._err = folder / "out", folder / "err"

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.endswith("}")]

    @property
    def seqs(self) -> list[int]:
        return [frame["message"]["seq"] for frame in self.frames if frame["type"] == "message"]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.returncode is None, (self.lines, self.errors)
            assert time.monotonic() < deadline_s, (self.lines[-20:], self.errors)
            await asyncio.sleep(0.02)

    async def ended(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


@asynccontextmanager
async def following(
    stack: RunningStack, folder: Path, user: str, *arguments: str, port: int | None = None
) -> AsyncIterator[Followed]:
    """Run `gapless chat follow`.

    :param port: where it finds the API; None for the API's own.
    """
    url = stack.api_url if port is None else f"http://127.0.0.1:{port}"
    environment = {**os.environ, "GAPLESS_API_URL": url, "GAPLESS_API_TOKEN": stack.token(user)}
    folder.mkdir()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = await start_gapless("chat", "follow", *arguments, env=environment, stdout=out, stderr=err)
    try:
        yield Followed(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def group(anna: Person, name: str) -> str:
    made = await anna("POST", "/v1/chats", {"kind": "group", "name": name, "members": [BEN]})
    return f"/v1/chats/{made['chat_id']}"


async def flood(anna: Person, chat: str) -> None:
    """Send so much to a chat that nothing else is left in the ring."""
    chat_id = chat.rsplit("/", 1)[1]
    keys = [f"flood-{n}" for n in range(RING_BYTES // 16_000 + 10)]
    await anna("POST", "/v1/messages:batch", [
        {"chat_id": chat_id, "text": "x" * 16_000, "client_generated_id": key} for key in keys
    ])  # fmt: skip


async def first_frames(http: httpx.AsyncClient, stack: RunningStack, chat: str, at: int) -> list[str]:
    """Return the kinds of the first two frames that a stream from a position on would begin with."""
    headers = {"Authorization": f"Bearer {stack.token(BEN)}"}
    async with http.stream("GET", f"{chat}/live", params={"after_position": at}, headers=headers) as response:
        kinds: list[str] = []
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if len(kinds) == 2:
                    break
        return kinds


async def test_a_terminal_that_was_cut_off_shows_every_message_once_and_in_order(
    stack: RunningStack, tmp_path: Path
) -> None:
    port = int(stack.api_url.rsplit(":", 1)[1])
    async with stack.client() as http, CuttableProxy("127.0.0.1", port) as proxy:
        anna, ben = Person(stack, http, ANNA), Person(stack, http, BEN)
        chat = await group(anna, "cuts")
        elsewhere = await group(anna, "elsewhere")
        sent = 0

        async def say(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                sent += 1
                assert (await anna("POST", f"{chat}/messages", {"text": f"number {sent}"}))["seq"] == sent

        await say(30)
        chat_id = chat.rsplit("/", 1)[1]
        async with following(
            stack, tmp_path / "ben", BEN, chat_id, "--after-seq", "0", "--json", port=proxy.port
        ) as terminal:
            await say(3)
            await terminal.until(lambda: terminal.seqs[-1:] == [sent])

            await proxy.cut()
            await say(3)
            await proxy.mend()
            await terminal.until(lambda: terminal.seqs[-1:] == [sent])

            await proxy.cut()
            at = terminal.frames[-1]["position"]
            await say(250)  # more than one page
            await anna("PATCH", f"{chat}/messages/30", {"text": "edited in the gap"})
            await anna("PUT", f"{chat}/members/{CARL}")
            await flood(anna, elsewhere)
            assert "gap" in await first_frames(http, stack, chat, at), "the ring still has everything"
            await proxy.mend()
            await terminal.until(lambda: terminal.seqs[-1:] == [sent])

            [edit] = [frame["message"] for frame in terminal.frames if frame["type"] == "changed"]
            assert (edit["seq"], edit["text"]) == (30, "edited in the gap")
            assert [frame["user_id"] for frame in terminal.frames if frame["type"] == "member"] == [CARL]

            for _ in range(2):
                sending = asyncio.create_task(say(20))
                await terminal.until(lambda: terminal.seqs[-1] > sent - 20)
                await stack.kill("api-1")
                await sending
            await ben("PUT", f"{chat}/messages/1/reactions/%F0%9F%91%8D")
            await anna("PATCH", f"{chat}/messages/2", {"text": "edited"})
            await anna("DELETE", f"{chat}/messages/3")
            await anna("DELETE", f"{chat}/members/{CARL}")
            await say(1)
            await terminal.until(lambda: terminal.seqs[-1] == sent)

            assert terminal.seqs == list(range(1, sent + 1))
            rest = [frame["type"] for frame in terminal.frames if frame["type"] not in ("message", "chat")]
            assert rest == ["member", "changed", "reaction", "edited", "deleted", "member"]
            assert await terminal.ended(signal.SIGINT) == 0
            assert len(terminal.frames) == len(terminal.lines), "the last line was cut"
            assert "Traceback" not in terminal.errors


async def test_the_lines_of_a_terminal_are_one_for_each_event_until_the_membership_ends(
    stack: RunningStack, tmp_path: Path
) -> None:
    async with stack.client() as http:
        anna, ben = Person(stack, http, ANNA), Person(stack, http, BEN)
        chat = await group(anna, "lines")
        await anna("POST", f"{chat}/messages", {"text": "not shown"})
        await anna("POST", f"{chat}/messages", {"text": "first\nsecond \x1b[31m"})
        async with (
            following(stack, tmp_path / "ben", BEN, "lines", "--after-seq", "1") as terminal,
            following(stack, tmp_path / "receipts", BEN, "lines", "--receipts") as with_receipts,
        ):
            await terminal.until(lambda: len(terminal.lines) == 1)
            await with_receipts.until(lambda: len(with_receipts.lines) == 2)
            await anna("PATCH", f"{chat}/messages/1", {"text": "edited"})
            await anna("POST", f"{chat}/read", {"up_to_seq": 2})
            await ben("PUT", f"{chat}/messages/2/reactions/%F0%9F%91%8D")
            await with_receipts.until(lambda: len(with_receipts.lines) == 5)
            await anna("DELETE", f"{chat}/members/{BEN}")
            assert [await each.ended() for each in (terminal, with_receipts)] == [1, 1]
            for each in (terminal, with_receipts):
                assert each.errors.split() == ["You", "are", "no", "longer", "a", "member", "of", "this", "chat."]
            message, edit, reaction = terminal.lines
            assert message.startswith("     2  ")
            assert message.endswith(f"  {ANNA[:8]}  first\\nsecond \\x1b[31m")
            assert edit.endswith(f"  {ANNA[:8]}  edited 1: edited")
            assert reaction.endswith("  you       reacted to 2 with 👍")
            assert any(line.endswith(f"{ANNA[:8]}  has read up to 2") for line in with_receipts.lines)
            assert (await anna("GET", f"{chat}/latest-seq"))["seq"] == 2
        async with following(stack, tmp_path / "again", BEN, chat.rsplit("/", 1)[1]) as again:
            assert await again.ended() == 1
            assert again.lines == []


HOSTILE = """<script>document.title='run'</script><img src=x onerror="document.title=1"> \u202egnp.txt\u2066 مرحبا"""
OTHERS = "#messages li:not(.mine)"
MINE = "#messages li.mine"


async def sign_in(window: Browser, url: str, token: str) -> None:
    await window.open(f"{url}/demo#token={token}")
    await window.shows("#connection", "live")
    assert await window.script("location.href") == f"{url}/demo", "the token stays in the address"


@needs_chromium
async def test_two_people_talk_in_two_browsers(stack: RunningStack) -> None:
    port = int(stack.api_url.rsplit(":", 1)[1])
    async with stack.client() as http, driver() as chromedriver, CuttableProxy("127.0.0.1", port) as proxy:
        anna, ben = Person(stack, http, ANNA), Person(stack, http, BEN)
        chat, elsewhere = await group(anna, "live"), await group(anna, "somewhere else")
        name = chat.rsplit("/", 1)[1]
        before = [f"before {n}" for n in range(60)]  # more than a page
        await anna("POST", "/v1/messages:batch", [
            {"chat_id": name, "text": text, "client_generated_id": text.replace(" ", "-")} for text in before
        ])  # fmt: skip
        async with browser(chromedriver) as of_anna, browser(chromedriver) as of_ben:
            await sign_in(of_anna, f"http://127.0.0.1:{proxy.port}", stack.token(ANNA))
            await sign_in(of_ben, stack.api_url, stack.token(BEN))
            await of_ben.click(f"#chats [name='{name}']")
            await of_ben.shows(f"{OTHERS}:last-child .text", before[-1])
            await of_ben.click("#older")
            await of_ben.shows(f"{OTHERS} .text", before[0])
            assert await of_ben.texts("#messages p") == before

            # A message, with the sender's typing before it and its ticks after it.
            await of_anna.is_labelled(f"#chats [name='{name}']", f"live {before[-1]}")
            await of_ben.type("#text", "hello")
            await of_ben.type("#text", ENTER)
            await of_ben.is_labelled(f"{MINE} .ticks", "delivered")
            await of_anna.is_labelled(f"#chats [name='{name}']", "live 1 unread hello")
            await of_anna.click(f"#chats [name='{name}']")
            await of_anna.shows(f"{OTHERS} .text", "hello")
            await of_ben.is_labelled(f"{MINE} .ticks", "read")
            await of_anna.is_labelled(f"#chats [name='{name}']", "live hello")
            await of_ben.type("#text", "I am")
            await of_anna.shows("#typing", f"{BEN[:8]} is typing…")
            await of_ben.clear("#text")

            # A text is a text.
            await anna("POST", f"{chat}/messages", {"text": HOSTILE})
            await of_ben.shows(f"{OTHERS}:last-child .text", HOSTILE)
            assert await of_ben.script("document.querySelectorAll('script, img').length") == 1
            assert await of_ben.script("document.title") == "Gapless"

            # An edit, a reaction, a deletion, a member.
            await of_ben.click(f"{MINE} [name=edit]")
            await of_ben.clear("#text")
            await of_ben.type("#text", "hello again" + ENTER)
            await of_anna.shows(f"{OTHERS} .text", "hello again")
            await of_anna.click(f"{OTHERS} [name='react-👍']")
            await of_ben.is_labelled(f"{MINE} [name='react-👍']", "👍 1")
            await of_anna.is_labelled(f"{OTHERS} [name='react-👍']", "👍 1, yours")
            await of_ben.click(f"{MINE} [name=delete]")
            await of_anna.shows(f"{OTHERS} p", "deleted")
            await anna("PUT", f"{chat}/members/{CARL}")
            await of_ben.shows("#member-count", "3")
            joined = (await group(anna, "joined meanwhile")).rsplit("/", 1)[1]
            await of_ben.is_labelled(f"#chats [name='{joined}']", "joined meanwhile")
            assert await of_anna.errors() == await of_ben.errors() == []

            # What a window missed for so long that the stream no longer has it.
            await proxy.cut()
            await of_anna.shows("#connection", "reconnecting…")
            await anna("PATCH", f"{chat}/messages/{len(before)}", {"text": "edited in the gap"})
            await ben("POST", f"{chat}/messages", {"text": "sent in the gap"})
            await flood(anna, elsewhere)
            await proxy.mend()
            await of_anna.shows(f"{OTHERS}:last-child .text", "sent in the gap")
            await of_anna.shows(f"#seq-{len(before)} .text", "edited in the gap")

            # The API is killed, and what is sent meanwhile is there once.
            stack.signal("api-1", signal.SIGKILL)
            await of_ben.type("#text", "while it is away" + ENTER)
            await of_anna.shows(f"{OTHERS}:last-child .text", "while it is away")
            await of_anna.shows("#connection", "live")
            await of_anna.type("#text", "back" + ENTER)
            await of_ben.shows(f"{OTHERS}:last-child .text", "back")
            new = ["edited in the gap", "deleted", HOSTILE, "sent in the gap", "while it is away", "back"]
            texts = before[:-1] + new
            await of_ben.is_gone(".pending")
            assert await of_ben.texts("#messages p") == texts
            assert (await of_anna.texts("#messages p"))[-len(new) :] == new

            back = await anna("POST", f"{chat}/messages", {"text": "end"})
            page = await ben("GET", f"{chat}/messages?limit=200", at_least=back["token"])
            assert [message["text"] or "deleted" for message in page["messages"]] == [*texts, "end"]

            await anna("DELETE", f"{chat}/members/{BEN}")
            await of_ben.is_gone(f"#chats [name='{name}']")
