"""The whole system with TLS everywhere, under the rights that `gapless topics acls` and `projection roles` print.

Kafka denies what no ACL allows, and logs for each request whether it was allowed: a missing right and an unused one
both fail the test.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any, get_args

import httpx
import psutil
import psycopg
import pytest

from devstack import broker
from services.ops.rights.kafka import USER_PREFIX, rights_by_service
from services.ops.rights.postgres import READER
from services.ops.stack.embedded import EmbeddedStack, StackPlan
from services.ops.stack.security import SERVICES
from services.runtime.access.auth import mint_token
from services.runtime.kafka.acls import Operation, Right
from tests.support.forked import start_gapless

DEADLINE_S = 120.0
ANNA = "11111111-1111-4111-8111-111111111111"
DECISION = re.compile(
    r"Principal = User:(?P<user>[^ ]+) is (?P<answer>Allowed|Denied) operation = (?P<operation>\w+)"
    r".* on resource = (?P<resource>[A-Za-z_]+):LITERAL:(?P<name>[^ ]+)"
)
OPERATIONS: Mapping[str, Operation] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", each).upper(): each for each in get_args(Operation)
}


@pytest.fixture
def _decisions_in_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "log4j2.properties"
    said = "logger.authorizer.name = kafka.authorizer.logger\nlogger.authorizer.level = debug\n"
    settings.write_text(broker.LOG_SETTINGS.read_text() + said)
    monkeypatch.setattr(broker, "LOG_SETTINGS", settings)


def decisions(stack: EmbeddedStack, answer: str) -> set[tuple[str, Right]]:
    """Return the service and right of each request that the broker allowed or denied."""
    text = (stack.plan.data_dir / "logs" / "kafka-1.log").read_text()
    found = set()
    for line in DECISION.finditer(text):
        user, resource, operation = line["user"], line["resource"].lower(), OPERATIONS.get(line["operation"])
        if line["answer"] == answer and user.startswith(USER_PREFIX) and operation and resource in ("topic", "group"):
            right = Right(resource=resource, name=line["name"], operation=operation)  # type: ignore[arg-type]
            found.add((user.removeprefix(USER_PREFIX), right))
    return found


@pytest.mark.usefixtures("_decisions_in_the_log")
def test_the_whole_system_runs_under_exactly_the_rights_that_are_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in {"TRIM_EVERY_S": "1", "KEEP_COMMANDS_S": "30"}.items():
        monkeypatch.setenv(f"GAPLESS_SEQUENCER_{variable}", value)
    stack = EmbeddedStack(StackPlan(data_dir=tmp_path / "d", sequencers=1, secure=True))

    async def main() -> None:
        try:
            await stack.start()
            await use(stack)
            arguments = [process.cmdline() for process in psutil.Process().children(recursive=True)]
            reader_may_only_read(stack)
        finally:
            await stack.stop()
        secrets = [path.read_text() for path in (tmp_path / "d" / "secrets").iterdir()]
        assert len(secrets) == 8
        logs = [path.read_text() for path in (tmp_path / "d" / "logs").iterdir()]
        for secret in [*secrets, stack.environment()["GAPLESS_JWT_SECRET"]]:
            assert not any(secret in argument for words in arguments for argument in words), "in a process list"
            assert not any(secret in log for log in logs), "in a log"

    asyncio.run(main())


async def use(stack: EmbeddedStack) -> None:
    """Do everything that needs a right once."""
    token = mint_token(stack.environment()["GAPLESS_JWT_SECRET"], ANNA)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
    async with httpx.AsyncClient(
        base_url=stack.api_url, headers=headers, verify=stack.verify, trust_env=False, timeout=35.0
    ) as http:
        assert stack.api_url.startswith("https://")

        async def post(path: str, key: str, body: dict[str, object]) -> dict[str, Any]:
            """Send until there is an outcome: on a busy machine the first answers may be 202."""
            deadline = time.monotonic() + DEADLINE_S
            while True:
                answer = await http.post(path, json=body, headers={"Idempotency-Key": key})
                if answer.status_code in (200, 201):
                    found: dict[str, Any] = answer.json()
                    return found
                assert answer.status_code in (202, 503) and time.monotonic() < deadline, answer.text  # noqa: PT018

        chat = (await post("/v1/chats", "c", {"kind": "group", "name": "ops"}))["chat_id"]

        async def send(number: int) -> None:
            sent = await post(f"/v1/chats/{chat}/messages", f"k-{number}", {"text": "Hi"})
            assert sent["seq"] == number
            seqs = None
            while seqs != list(range(1, number + 1)):  # 503 while the read model is behind
                read = await http.get(f"/v1/chats/{chat}/messages", headers={"Gapless-At-Least": sent["token"]})
                assert read.status_code in (200, 503), read.text
                seqs = [message["seq"] for message in read.json().get("messages", [])]

        await send(1)
        await command(stack, "log", "verify")  # first: it reads commands that are trimmed half a minute later
        await command(stack, "topics", "check")
        await command(stack, "lag")
        await command(stack, "status")
        await command(stack, "projection", "plan", "--to", "v2")
        await command(stack, "projection", "rebuild", "--to", "v2", "--max-lag", "1000")
        await command(stack, "projection", "verify", "--version", "v2")
        await command(stack, "projection", "cutover", "--to", "v2", "--require-verified", "--max-behind", "1000")
        await command(stack, "projection", "rollback")
        await command(stack, "projection", "rollback")
        await command(stack, "projection", "list")
        signals = ("api", Right(resource="topic", name="chat.signals", operation="Write"))
        while signals not in decisions(stack, "Allowed"):  # dropped until the topic is there
            typing = await http.post(f"/v1/chats/{chat}/typing", json={"state": "started"})
            assert typing.status_code in (204, 503), typing.text
            await asyncio.sleep(0.2)
        await send(2)  # query reads the other version by the same rights

    kafka = stack.settings()
    # One process runs ingest and live here, under the rights of `api`, which are those of both (test_kafka_rights).
    granted = {(service, right) for service in SERVICES for right in rights_by_service(kafka)[service]}
    # Wait for the last thing that happens by itself, allowed or denied, so that a right that was never granted shows
    # too.
    trim = ("sequencer", Right(resource="topic", name="chat.commands", operation="Delete"))
    await until(lambda: trim in decisions(stack, "Allowed") | decisions(stack, "Denied"), lambda: trim)
    await until(lambda: granted <= decisions(stack, "Allowed"), lambda: granted - decisions(stack, "Allowed"))
    assert decisions(stack, "Denied") == set()


async def command(stack: EmbeddedStack, *words: str) -> None:
    """Run a `gapless` command with the stack's variables, as an operator would."""
    process = await start_gapless(*words, env=stack.environment(), stdout=PIPE, stderr=PIPE)
    said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 0, said


def reader_may_only_read(stack: EmbeddedStack) -> None:
    security = stack.environment("api-1")
    with psycopg.connect(security["GAPLESS_POSTGRES_DSN"], autocommit=True) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (READER,)
        connection.execute("SET default_transaction_read_only = off")
        for statement in (
            "UPDATE chat.active_projection SET version = 1",
            "INSERT INTO chat.chats (chat_id) VALUES (gen_random_uuid())",
            "SELECT * FROM chat_v1.chat_messages",
            "CREATE TABLE chat.mine (x int)",
            "CREATE SCHEMA mine",
            "CREATE TEMPORARY TABLE mine (x int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def until(condition: Callable[[], bool], otherwise: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(0.2)
