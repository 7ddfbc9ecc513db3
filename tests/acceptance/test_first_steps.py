"""A new user's first steps: start the system, send, look, stop it from elsewhere, start it again.

All of it happens in a folder with a long name that contains everything that could confuse a shell or markup.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.ids import group_chat_id
from services.runtime.access.auth import user_id_of
from tests.support import plain_wire
from tests.support.chat_log import BEN
from tests.support.newcomer import GAPLESS, Newcomer, Started
from tests.support.running_stack import RunningStack

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"
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
    """The newcomer's folder, with a stack that runs on `.gapless` there."""

    def __init__(self, folder: Path) -> None:
        # A separate state folder: the very first start on a machine creates the secret there.
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
        """Send Ctrl-C, unless it was stopped otherwise; `up` must have ended with 0."""
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
    """Run the lines that `up` printed, as printed; retry, as a user would, if they took too long."""
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


def readme_block(first_words: str) -> str:
    blocks = re.findall(r"^```\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [script] = [block for block in blocks if block.startswith(first_words)]
    return str(script)


@needs_curl
async def test_the_first_conversation_of_the_readme_works_as_printed(home: Home) -> None:
    await first_chat(home, home.here)  # a newcomer who follows both gets one chat
    script = readme_block("source .venv")
    # The terminal has only what the README sets up: `gapless` is found because the first line activates .venv.
    ran = await home.here.bash(script)
    assert (ran.code, ran.err) == (0, ""), ran
    made, sent, *table = ran.out.splitlines()
    assert made == f"ops: there already, chat_id {OPS}"
    assert sent == "seq 1"
    assert [line for line in table if "Is the log gap-free?" in line and ANNA in line]
    again = await home.here.bash(script)
    assert (again.code, again.err) == (0, ""), again
    assert again.out.splitlines()[1] == "seq 1, the original's: this key was used before"

    setup = "".join(script.splitlines(keepends=True)[:2])
    curl = readme_block("CHAT=")
    assert f"CHAT={OPS} " in curl, "the id that `gapless chat new` prints for anna's group ops"
    for status, duplicate in (201, False), (200, True):
        ran = await home.here.bash(setup + curl)
        assert (ran.code, ran.err) == (0, ""), ran
        head, _, bodies = ran.out.partition("\r\n\r\n")
        answer, end = json.JSONDecoder().raw_decode(bodies)
        assert (int(head.split()[1]), answer["seq"], answer["duplicate"]) == (status, 2, duplicate)
        assert (json.loads(bodies[end:])["messages"] or [{"seq": 2}])[0]["seq"] == 2


async def test_two_commands_of_the_readme_show_a_chat_live(home: Home) -> None:
    ran = await home.here.gapless("chat", "new", "ops", "--user", "anna", "--member", "ben")
    assert ran.code == 0, ran
    activate = readme_block("source .venv").splitlines()[0]
    follow, send = readme_block("gapless chat follow").splitlines()
    before = await say(home, "before the live one", "before-live")
    async with home.here.running(f"{activate}\nexec {follow}") as terminal:
        assert terminal.stdout is not None

        async def line() -> str:
            assert terminal.stdout is not None
            return (await asyncio.wait_for(terminal.stdout.readline(), 60)).decode().rstrip("\n")

        while not (await line()).endswith("  before the live one"):
            pass
        ran = await home.here.bash(f"{activate}\n{send}")
        assert (ran.code, ran.out, ran.err) == (0, f"seq {before['seq'] + 1}\n", "")
        said = await line()
        assert said.split()[0] == str(before["seq"] + 1)
        assert said.endswith(f"  {ANNA[:8]}  And now live")


async def test_a_browser_can_open_the_links_that_up_prints(home: Home) -> None:
    links = re.findall(r"^  (anna|ben): (\S+)#token=(\S+)$", home.started.log.read_text(), re.MULTILINE)
    async with home.stack.client() as http:
        for (user, page, token), expected in zip(links, ("anna", "ben"), strict=True):
            assert (user, page) == (expected, f"{home.stack.api_url}/demo")
            assert (await http.get(page)).status_code == 200
            me = (await http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).json()
            assert me["user_id"] == user_id_of(user)


async def test_chat_commands_work_by_variables_alone_and_say_what_is_missing(home: Home) -> None:
    where = json.loads((await home.elsewhere.gapless("env", "--data-dir", str(home.data_dir), "--json")).out)
    assert where["GAPLESS_API_URL"] == home.stack.api_url
    token = (await home.here.gapless("token", "--user", "Zoë")).out.strip()
    zoe = Newcomer(home.elsewhere.folder, {"GAPLESS_API_URL": where["GAPLESS_API_URL"], "GAPLESS_API_TOKEN": token})

    made = json.loads((await zoe.gapless("chat", "new", 'a "b" [c]', "--member", "anna", "--json")).out)
    assert made["new"] is True
    assert json.loads((await zoe.gapless("chat", "new", 'a "b" [c]', "--json")).out) == made | {"new": False}
    sent = json.loads((await zoe.gapless("chat", "send", made["chat_id"], "[red]x[/]", "--key", 'a "k"', "--json")).out)
    # After `send` has reported a message, every reader sees it.
    page = json.loads((await home.here.gapless("chat", "read", made["chat_id"], "--user", "anna", "--json")).out)
    assert [(m["seq"], m["text"]) for m in page["messages"]] == [(sent["seq"], "[red]x[/]")]
    assert "[red]x[/]" in (await zoe.gapless("chat", "read", 'a "b" [c]')).out
    assert made["chat_id"] in (await zoe.gapless("chat", "list")).out

    async def refused(who: Newcomer, *arguments: str) -> tuple[int, str]:
        ran = await who.gapless("chat", *arguments)
        assert ran.out == ""
        return ran.code, " ".join(ran.err.split())

    nowhere = Newcomer(home.elsewhere.folder)
    assert await refused(zoe, "read", "no such group") == (
        1, "You have no chat named no such group: make one with `gapless chat new`, or name its chat_id.",
    )  # fmt: skip
    assert (await refused(zoe, "send", OPS, "x"))[0] == 1
    code, sentence = await refused(nowhere, "list")
    assert (code, sentence.split(":")[0]) == (2, "No stack runs on .gapless here")
    code, sentence = await refused(home.here, "list")
    assert (code, sentence) == (2, "Say who you are: --user anna, or set GAPLESS_API_TOKEN.")
    ran = await nowhere.gapless("env")
    assert (ran.code, ran.out, ran.err) == (2, "", "No stack runs on .gapless: start one with `gapless up`.\n")


async def test_the_examples_do_what_they_say(home: Home) -> None:
    await say(home, "before the examples", "before-examples")

    async def example(name: str, *arguments: str) -> str:
        words = shlex.join([".venv/bin/python", str(EXAMPLES / name), *arguments])
        ran = await home.here.bash(f'eval "$(.venv/bin/gapless env --user anna)" && {words}')
        assert (ran.code, ran.err) == (0, ""), ran
        return ran.out

    seq = int((await example("producer_http.py", OPS, "over HTTP", "example-1")).removeprefix("seq "))
    assert await example("producer_http.py", OPS, "over HTTP", "example-1") == f"seq {seq}\n"
    for _ in range(2):
        assert await example("producer_kafka.py", OPS, ANNA, "straight to Kafka", "example-2") == ""
    last = await say(home, "after the examples", "after-examples")
    assert last["seq"] == seq + 2
    lines = (await example("reader.py", OPS)).splitlines()
    assert lines[-3:] == [
        f"{OPS} {seq} {ANNA} over HTTP",
        f"{OPS} {seq + 1} {ANNA} straight to Kafka",
        f"{OPS} {seq + 2} {ANNA} after the examples",
    ]
    assert [int(line.split()[1]) for line in lines] == list(range(1, seq + 3))
    assert len((await example("reader.py")).splitlines()) > len(lines), "of every chat, Zoë's too"


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
        assert all(p["unprojected"].keys() == {"v1", "v1 search"} for p in lag)
        behind = [each for p in lag for each in (p["undecided"], *p["unprojected"].values())]
        if not any(each["records"] for each in behind):
            break
        assert time.monotonic() < deadline_s, lag

    elsewhere = await home.elsewhere.gapless("log", "tail", "--no-follow", "--data-dir", str(home.elsewhere.folder))
    assert elsewhere.code == 2
    assert "start one with `gapless up --data-dir" in " ".join(elsewhere.err.replace("│", " ").split())


async def say(home: Home, text: str, key: str) -> dict[str, Any]:
    """Send a message of Anna's to `ops`, which is created if it does not exist."""
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
    """Yield a function that reads `ops` as Anna: from `after_seq` and a token to the messages."""
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
    # Events first, so that the command of each is already there.
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
    for message in (each for each in messages if each["chat_id"] == OPS):
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
    assert await asyncio.wait_for(home.stack.process.wait(), 120) == 0
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
        # The printed lines now contain the folder's whole name.
        assert str(home.data_dir.name) in home.started.printed_commands
        assert (await first_chat(home, home.elsewhere))["duplicate"] is True
