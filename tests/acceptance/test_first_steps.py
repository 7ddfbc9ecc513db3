"""What somebody does who has just cloned it: start it, send, look, stop it from elsewhere, start it again.

All of it in a folder whose name is long and has everything in it that a shell or a markup could trip over.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.ids import group_chat_id
from services.runtime.auth import user_id_of
from tests.support import plain_wire
from tests.support.chat_log import BEN
from tests.support.newcomer import GAPLESS, Newcomer, Started
from tests.support.running_stack import RunningStack

README = Path(__file__).parents[2] / "README.md"
NAME = 'Änna\'s [bold] stack, for $HOME & "others" ' + "in a folder with a long name " * 3
ANNA = user_id_of("anna")
OPS = group_chat_id(ANNA, "ops")  # type: ignore[arg-type]  # the user that the name anna stands for
REPLY_PARTITIONS = 16

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed on this machine")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Home:
    """Where the newcomer sits, with a stack that runs on `.gapless` there."""

    def __init__(self, folder: Path) -> None:
        # A state folder of its own: the very first start of all on a machine makes the secret there.
        variables = {"XDG_STATE_HOME": str(folder / "state")}
        self.here = Newcomer(folder / NAME.strip(), variables)
        self.elsewhere = Newcomer(folder / "elsewhere", variables)
        self.data_dir = self.here.folder / ".gapless"
        self.here.settle()
        self.elsewhere.settle()
        self._held = AsyncExitStack()
        self.started: Started

    @property
    def stack(self) -> RunningStack:
        return self.started.stack

    async def up(self, who: Newcomer, program: str, *options: str) -> None:
        self.started = await self._held.enter_async_context(who.up(program, *options, data_dir=self.data_dir))

    async def ended(self) -> None:
        """Ctrl-C, unless it was stopped otherwise; `up` is to have ended with 0."""
        await self._held.aclose()


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    home = Home(tmp_path_factory.mktemp("first-steps"))
    assert len(str(home.data_dir)) > 150
    try:
        await home.up(home.here, ".venv/bin/gapless")
        yield home
    finally:
        await home.ended()


async def first_chat(home: Home, who: Newcomer) -> dict[str, Any]:
    """Runs the lines that `up` printed as they stand there; again, as a person would, where it took too long."""
    deadline_s = time.monotonic() + 60
    while True:
        ran = await who.bash(home.started.printed_commands)
        assert ran.code == 0, ran
        answer: dict[str, Any] = json.loads(ran.out)
        if "token" in answer:
            return answer
        assert "at" in answer, answer
        assert time.monotonic() < deadline_s, answer


@needs_curl
async def test_the_lines_that_up_prints_work_as_printed(home: Home) -> None:
    assert (await first_chat(home, home.here))["chat_id"] == OPS
    again = await first_chat(home, home.here)
    assert (again["chat_id"], again["duplicate"]) == (OPS, True)


@needs_curl
async def test_the_first_request_of_the_readme_works_as_printed(home: Home) -> None:
    blocks = re.findall(r"^```\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [script] = [block for block in blocks if block.startswith("API=")]
    await first_chat(home, home.here)  # who follows both gets one chat

    async def follow() -> tuple[int, dict[str, Any], dict[str, Any]]:
        ran = await home.here.bash(script)
        assert (ran.code, ran.err) == (0, ""), ran
        head, _, bodies = ran.out.partition("\r\n\r\n")
        status_line, *_ = head.splitlines()
        sent, end = json.JSONDecoder().raw_decode(bodies)
        return int(status_line.split()[1]), sent, json.loads(bodies[end:])

    status, sent, history = await follow()
    assert status in (201, 202)
    deadline_s = time.monotonic() + 60
    while status != 200 or not history["messages"]:
        assert time.monotonic() < deadline_s, (status, sent, history)
        status, sent, history = await follow()
    assert (sent["chat_id"], sent["seq"], sent["duplicate"]) == (OPS, 1, True)
    [message] = history["messages"]
    assert (message["seq"], message["sender_id"], message["text"]) == (1, ANNA, "Is the log gap-free?")


async def test_a_second_up_on_the_same_folder_is_refused_in_one_sentence(home: Home) -> None:
    before = home.stack.document
    for who, options in ((home.here, ()), (home.elsewhere, ("--data-dir", str(home.data_dir)))):
        ran = await who.gapless("up", *options)
        assert ran.code == 2, ran
        assert ran.out == ""
        sentence = ran.err.strip().splitlines()[-1]
        assert sentence.startswith(f"The data folder {home.data_dir} is in use by process {home.stack.process.pid} ")
        assert sentence.endswith("stop that one first, or choose another data folder.")
        assert "Traceback" not in ran.err
    assert home.stack.document == before, "the first one was disturbed"
    async with home.stack.client() as http:
        assert (await http.get("/readyz")).status_code == 200


async def test_commands_find_the_stack_of_the_folder_that_they_are_run_in_or_told(home: Home) -> None:
    await say(home, "something to look at", "look-1")

    async def of(who: Newcomer, *arguments: str) -> str:
        ran = await who.gapless(*arguments)
        assert (ran.code, ran.err) == (0, ""), ran
        return ran.out

    told = ("--data-dir", str(home.data_dir))
    assert await of(home.here, "topics", "check") == "All topics are as they must be.\n"
    topics = json.loads(await of(home.elsewhere, "topics", "check", "--json", *told))
    assert topics == {"topics": ["chat.commands", "chat.events", "chat.replies"], "ok": True, "notes": []}

    tail = ("log", "tail", "--from-beginning", "--no-follow")
    assert "something to look at" in await of(home.elsewhere, *tail, *told)
    records = [json.loads(line) for line in (await of(home.here, *tail, "--json")).splitlines()]
    assert {record["verdict"] for record in records} == {"opens", "valid"}
    [looked_at] = [r for r in records if r.get("client_generated_id") == "look-1" and r["type"] == "message.sent.v1"]
    assert json.loads(looked_at["body"]) == {"text": "something to look at"}
    assert looked_at["chat_id"] == OPS

    assert "undecided commands" in await of(home.elsewhere, "lag", *told)
    deadline_s = time.monotonic() + 60
    while True:
        lag = json.loads(await of(home.here, "lag", "--json"))["partitions"]
        assert [p["partition"] for p in lag] == list(range(8))
        assert all(p["unprojected"].keys() == {"v1"} for p in lag)
        if not any(p["undecided"]["records"] + p["unprojected"]["v1"]["records"] for p in lag):
            break
        assert time.monotonic() < deadline_s, lag

    elsewhere = await home.elsewhere.gapless("log", "tail", "--no-follow", "--data-dir", str(home.elsewhere.folder))
    assert elsewhere.code == 2
    assert "start one with `gapless up --data-dir" in " ".join(elsewhere.err.replace("│", " ").split())


async def say(home: Home, text: str, key: str) -> dict[str, Any]:
    """A message of Anna's in `ops`, which is made if it is not there."""
    token = (await home.here.gapless("token", "--user", "anna")).out.strip()
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=30"}
    async with home.stack.client(headers=headers) as http:
        chat = {"kind": "group", "name": "ops", "members": []}
        made = await http.post("/v1/chats", json=chat, headers={"Idempotency-Key": "my-first-chat"})
        assert made.status_code in (200, 201), made.text
        assert (await http.put(f"/v1/chats/{OPS}/members/{BEN}")).status_code == 200
        sent = await http.post(f"/v1/chats/{OPS}/messages", json={"text": text}, headers={"Idempotency-Key": key})
        assert sent.status_code in (200, 201), sent.text
        answer: dict[str, Any] = sent.json()
        return answer


@asynccontextmanager
async def reading(home: Home) -> AsyncIterator[Any]:
    """As Anna: a function from `after_seq` and a token to the messages of `ops`."""
    token = (await home.here.gapless("token", "--user", "anna")).out.strip()
    async with home.stack.client(headers={"Authorization": f"Bearer {token}"}) as http:

        async def history(after_seq: int, at_least: str) -> list[dict[str, Any]]:
            deadline_s = time.monotonic() + 60
            while True:
                page = await http.get(
                    f"/v1/chats/{OPS}/messages",
                    params={"after_seq": after_seq, "limit": 200},
                    headers={"Gapless-At-Least": at_least},
                )
                if page.status_code == 200:
                    messages: list[dict[str, Any]] = page.json()["messages"]
                    return messages
                assert page.status_code == 503, page.text
                assert time.monotonic() < deadline_s, page.text

        yield history


async def test_a_plain_consumer_finds_what_the_contract_says(home: Home) -> None:
    sent = [await say(home, f"plain {n}, “quoted” and in UTF-8: ✓", f"plain-{n}") for n in (1, 2, 2)]
    assert [answer["duplicate"] for answer in sent] == [False, False, True]
    kafka, partitions = home.stack.document["kafka"], home.stack.partitions
    # Events first: each has its command before it.
    events = await plain_wire.read_topic(kafka, "chat.events", partitions)
    commands = await plain_wire.read_topic(kafka, "chat.commands", partitions)
    by_place = plain_wire.check_commands(commands, REPLY_PARTITIONS)
    messages = plain_wire.check_events(events, by_place)
    types = {plain_wire.headers_of(record)["ce_type"] for records in events for record in records}
    assert types >= {
        "term.opened.v1", "chat.created.v1", "member.added.v1", "message.sent.v1", "command.duplicate.v1",
    }  # fmt: skip
    async with reading(home) as history:
        told = {m["message_id"]: m for m in await history(0, sent[-1]["token"])}
    assert {answer["message_id"] for answer in sent} <= told.keys()
    for message in messages:
        assert {name: told[message["message_id"]][name] for name in message} == message

    replies = await plain_wire.read_topic(kafka, "chat.replies", REPLY_PARTITIONS)
    answers = [answer for records in replies for record in records for answer in json.loads(record.value)]
    assert all(record.key is None for records in replies for record in records)
    of_first = [answer for answer in answers if answer.get("command_id") == sent[0]["message_id"]]
    assert [(a["outcome"], a["seq"], a["position"]) for a in of_first] == [
        ("accepted", sent[0]["seq"], sent[0]["position"])
    ]


async def test_a_plain_producer_that_knows_the_contract_only_is_heard(home: Home) -> None:
    before = await say(home, "before", "before-plain")
    kafka, partitions = home.stack.document["kafka"], home.stack.partitions
    body = {"text": "by a program of somebody else", "metadata": {"any": ["thing", 1, None]}}
    for _ in range(2):  # it retries, too
        partition, _offset = await plain_wire.send_message(
            kafka, chat_id=OPS, sender_id=ANNA, key="plain-producer", body=body, partitions=partitions
        )
    after = await say(home, "after", "after-plain")
    assert after["token"].startswith(f"{partition}:")
    async with reading(home) as history:
        [plain, last] = await history(before["seq"], after["token"])
    assert (plain["seq"], last["seq"]) == (before["seq"] + 1, before["seq"] + 2)
    assert plain["message_id"] == plain_wire.command_id(OPS, ANNA, "plain-producer")
    assert {name: plain[name] for name in body} == body


async def test_down_from_elsewhere_and_up_again_keep_everything(home: Home) -> None:
    sent = await say(home, "kept", "kept-1")
    token = (await home.here.gapless("token", "--user", "anna")).out.strip()
    document = home.stack.document
    ran = await home.elsewhere.gapless("down", "--data-dir", str(home.data_dir))
    assert (ran.code, ran.err) == (0, ""), ran
    assert ran.out == f"Stopped; the data is kept in {home.data_dir}.\n"
    assert await asyncio.wait_for(home.stack.process.wait(), 20) == 0
    assert not (home.data_dir / "stack.json").exists()
    ran = await home.here.gapless("down")
    assert (ran.code, ran.out) == (0, "Nothing runs on .gapless.\n")

    await home.ended()
    await home.up(home.elsewhere, str(GAPLESS), "--data-dir", str(home.data_dir))
    assert home.stack.api_url == document["api_url"]
    async with home.stack.client(headers={"Authorization": f"Bearer {token}"}) as http:
        page = await http.get(f"/v1/chats/{OPS}/messages", params={"after_seq": sent["seq"] - 1, "limit": 1})
    assert page.status_code == 200, page.text
    [message] = page.json()["messages"]
    assert (message["message_id"], message["text"]) == (sent["message_id"], "kept")
    repeat = await say(home, "kept", "kept-1")
    assert (repeat["seq"], repeat["duplicate"]) == (sent["seq"], True)
    assert (await say(home, "and on", "kept-2"))["seq"] == sent["seq"] + 1
    if shutil.which("curl") is not None:
        # Now with the folder's whole name in the lines that are printed.
        assert str(home.data_dir.name) in home.started.printed_commands
        assert (await first_chat(home, home.elsewhere))["duplicate"] is True
