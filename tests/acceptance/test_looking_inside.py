"""What an SRE sees of a running stack: `gapless status`, `top`, `show` and `lag`, while processes stop and go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from subprocess import PIPE
from typing import Any

import pytest

from services.runtime.access.auth import user_id_of
from tests.support.chat_log import BEN
from tests.support.forked import start_gapless
from tests.support.running_stack import GAPLESS, RunningStack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
ANNA = user_id_of("anna")
SEQUENCERS = ("sequencer-1", "sequencer-2")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with RunningStack.up(tmp_path_factory.mktemp("looking"), "--sequencers", "2") as stack:
        yield stack


async def look(stack: RunningStack, *arguments: str) -> tuple[int | None, str, str]:
    """Run a command against the stack's folder; returns the exit code, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAPLESS_")}
    given = (*arguments, "--data-dir", str(stack.folder))
    process = await start_gapless(*given, env=environment, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def document(stack: RunningStack, *arguments: str) -> tuple[int | None, Any]:
    code, out, err = await look(stack, *arguments, "--json")
    assert out.count("\n") == 1, (code, out, err)
    return code, json.loads(out)


async def send(stack: RunningStack, name: str, texts: int, **headers: str) -> tuple[str, list[Any]]:
    """Create a group and send messages to it over HTTP; returns its chat_id and the answers."""
    authorized = {"Authorization": f"Bearer {stack.token('anna')}", **headers}
    async with stack.client(headers=authorized) as http:
        group = {"kind": "group", "name": name, "members": [BEN]}
        opened = await http.post("/v1/chats", json=group, headers={"Idempotency-Key": name})
        chat = opened.json()["chat_id"]
        answers = []
        for n in range(texts):
            key = {"Idempotency-Key": f"{name}-{n}"}
            answers.append(await http.post(f"/v1/chats/{chat}/messages", json={"text": f"{n}"}, headers=key))
        assert {answer.status_code for answer in answers} <= {201}
        return chat, [answer.json() for answer in answers]


async def test_a_status_says_who_writes_and_what_is_stopped(stack: RunningStack) -> None:
    await send(stack, "status", 3)

    async def well() -> Any:
        code, found = await document(stack, "status")
        return found if code == 0 and all(each["standbys"] for each in found["partitions"]) else None

    found = await well()
    for _ in range(60):  # the standbys may still be folding
        found = found or await well()
    assert found is not None, await document(stack, "status")
    assert {each["writer"] for each in found["partitions"]} <= set(found["sequencers_heard"])
    assert all(each["term"] and each["owner"] and each["host"] for each in found["partitions"])
    assert {each["name"] for each in found["processes"]} >= {"api-1", *SEQUENCERS}
    assert (found["serving"], found["stopped"]) == ("v1", [])
    code, said, _ = await look(stack, "status")
    assert (code, "Nothing is stopped" in said) == (0, True)
    assert len(said.splitlines()) <= 24

    for name in SEQUENCERS:
        stack.signal(name, signal.SIGSTOP)
    try:
        code, found = await document(stack, "status")
    finally:
        for name in SEQUENCERS:
            stack.signal(name, signal.SIGCONT)
    assert (code, found["sequencers_heard"]) == (1, [])
    assert any("No sequencer is heard to write partitions 0-7" in each for each in found["stopped"]), found["stopped"]
    assert any(each.startswith("sequencer-1 is not ready: It does not answer") for each in found["stopped"])


async def test_a_message_sent_over_http_is_shown_with_its_writer(stack: RunningStack) -> None:
    _, [answer] = await send(stack, "show", 1)
    code, found = await document(stack, "show", "message", answer["message_id"])
    assert (code, found["agree"], found["http_status"]) == (0, True, 201)
    [outcome] = found["outcomes"]
    assert (outcome["seq"], f"{outcome['partition']}:{outcome['index']}") == (1, answer["token"])
    assert outcome["writer"]["host"]
    assert found["command"]["sender_id"] == ANNA


async def test_top_shows_what_flows_now(stack: RunningStack) -> None:
    flowing = True

    async def flow() -> None:
        n = 0
        while flowing:
            await send(stack, f"flow-{n}", 20)
            n += 1

    sending = asyncio.create_task(flow())
    try:
        code, found = await document(stack, "top", "--once", "--interval", "1")
        text_code, said, _ = await look(stack, "top", "--once", "--interval", "1")
    finally:
        flowing = False
        await sending
    assert (code, found["ok"], found["serving"]) == (0, True, "v1")
    assert found["commands_per_s"] > 0
    assert found["events_per_s"] > 0
    assert found["live_streams"] == 0
    assert len(found["takeovers"]) == 5
    assert all(each["records_without_outcome"] >= 1 for each in found["partitions"])
    assert (text_code, "nothing is stopped" in said, "last takeovers: partition" in said) == (0, True, True)


async def test_top_shows_one_look_after_another_until_q(stack: RunningStack) -> None:
    terminal, its_end = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAPLESS_")}
    process = await asyncio.create_subprocess_exec(
        *GAPLESS, "top", "--interval", "0.2", "--data-dir", str(stack.folder),
        stdin=its_end, stdout=its_end, stderr=its_end, env={**environment, "TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(its_end)
    shown = b""
    loop = asyncio.get_running_loop()
    try:
        while shown.count(b"last takeovers") < 3:
            shown += await asyncio.wait_for(loop.run_in_executor(None, os.read, terminal, 65_536), 60)
        os.write(terminal, b"q")
        with contextlib.suppress(OSError):  # EIO: the terminal's other end is closed
            while await asyncio.wait_for(loop.run_in_executor(None, os.read, terminal, 65_536), 60):
                pass
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(terminal)
    code, _, said = await look(stack, "top")
    assert (code, said.strip()) == (2, "Without a terminal, use --once or --json.")


async def test_a_request_id_leads_to_its_commands_and_what_became_of_them(stack: RunningStack) -> None:
    authorized = {"Authorization": f"Bearer {stack.token('anna')}"}
    chat, _ = await send(stack, "trace", 0)
    messages = f"/v1/chats/{chat}/messages"
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    async with stack.client(headers=authorized) as http:
        plain = await http.post(messages, json={"text": "1"}, headers={"Idempotency-Key": "trace-1"})
        name = {"X-Request-Id": "order-17", "Idempotency-Key": "trace-2"}
        named = await http.post(messages, json={"text": "2"}, headers=name)
        reply = {"text": "3", "reply_to_message_id": BEN}
        refused = await http.post(messages, json=reply, headers={"Idempotency-Key": "trace-3"})
        for _ in range(2):
            traced = await http.post(
                messages,
                json={"text": "4"},
                headers={"traceparent": traceparent, "X-Request-Id": "order-18", "Idempotency-Key": "trace-4"},
            )
    for answer, request_id in ((plain, plain.headers["X-Request-Id"]), (named, "order-17")):
        assert answer.status_code == 201, answer.text
        code, found = await document(stack, "show", "trace", request_id)
        [outcome] = found["outcomes"]
        assert (code, outcome["outcome"], outcome["command_id"]) == (0, "accepted", answer.json()["message_id"])
        assert found["trace_id"] == answer.headers["traceparent"][3:35]
    code, found = await document(stack, "show", "trace", refused.json()["request_id"])
    assert (code, [each["reason"] for each in found["outcomes"]]) == (0, ["unknown_message"])
    assert traced.headers["X-Request-Id"] == "order-18"
    for trace in (traceparent, "ab" * 16):
        code, found = await document(stack, "show", "trace", trace, "--since", "10m")
        assert (code, [each["outcome"] for each in found["outcomes"]]) == (0, ["accepted", "duplicate"])
    code, said, _ = await look(stack, "show", "trace", "ab" * 16)
    assert (code, len(said.splitlines())) == (0, 3)
    code, said, _ = await look(stack, "show", "trace", "order-18")
    assert (code, "no command of it in that time" in said) == (1, True)
