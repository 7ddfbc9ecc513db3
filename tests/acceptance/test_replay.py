"""The log is folded anew next to the serving version, verified, and switched to and back, under reads and writes.

One stack and one log serve all tests here; each test can be run alone. `make test` uses a short log and few readers,
`make proofs` a log of 50,000 messages and 200 reads a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from schemas.ids import ChatId, UserId, group_chat_id
from tests.support.bulk_commands import ROOTS, Talk, put_commands
from tests.support.running_stack import RunningStack
from tests.support.steady_readers import KINDS, SteadyReaders
from tests.support.steady_sends import SteadySends

CHATS = 10
READERS = 8
DEADLINE_S = 240.0
KILLED_BATCH_RECORDS = 500
KILLED_AFTER_COMMITS = 4
"""A rebuild kills itself after so many commits of such batches."""

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much there is to fold and to read."""

    messages: int
    reads_per_s: float
    sends_per_s: float
    reads_at_least: int
    """Number of reads of each kind before the readers are stopped."""
    compared_at_least: int


SHORT = Size(messages=15_000, reads_per_s=50, sends_per_s=8, reads_at_least=25, compared_at_least=1_000)
LONG = Size(messages=50_000, reads_per_s=200, sends_per_s=15, reads_at_least=100, compared_at_least=10_000)
LONG_PROOF = (pytest.mark.proof, pytest.mark.long)


@dataclass(slots=True)
class World:
    """A stack whose log holds the messages of CHATS chats, all of them projected."""

    size: Size
    stack: RunningStack
    http: httpx.AsyncClient
    tokens: list[str]
    talks: list[Talk]

    @property
    def quiet(self) -> Talk:
        """A chat without writes after the start, so that damage planted there stays."""
        return self.talks[0]

    @property
    def busy(self) -> list[Talk]:
        return self.talks[1:]

    async def ask(self, statement: str, *values: object) -> list[Any]:
        """Run a statement on Postgres as superuser and return its rows, if any."""
        dsn = self.stack.document["postgres"]
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description is not None else []

    async def folded(self, version: int) -> int:
        """Return how many offsets of the log a version holds, or 0 if it does not exist."""
        try:
            [row] = await self.ask(f"SELECT coalesce(sum(next_offset), 0) FROM chat_v{version}.projection_positions")
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return 0
        return int(row[0])

    async def state(self, version: int) -> str | None:
        there = await self.stack.gapless("projection", "list")
        return next((p["state"] for p in there if p["version"] == f"v{version}"), None)

    async def rebuilt(self, version: int) -> None:
        if await self.state(version) is None:
            await self.stack.gapless("projection", "rebuild", "--to", f"v{version}")

    async def settled(self) -> None:
        """Wait until all versions that are fed are at the end of the log."""
        deadline_s = time.monotonic() + 60
        while True:
            lag = await self.stack.gapless("lag")
            behind = [p for p in lag["partitions"] if any(b["records"] for b in _distances(p))]
            if not behind:
                return
            assert time.monotonic() < deadline_s, behind


def _distances(partition: dict[str, Any]) -> list[dict[str, Any]]:
    return [partition["undecided"], *partition["unprojected"].values()]


@asynccontextmanager
async def world_on(folder: Path, size: Size) -> AsyncIterator[World]:
    async with AsyncExitStack() as held:
        stack = await held.enter_async_context(RunningStack.up(folder, "--ingests", "2"))
        http = await held.enter_async_context(stack.client())
        users = [UserId(f"{n:08d}-0000-4000-8000-000000000000") for n in range(1, READERS + 1)]
        tokens = [stack.token(user) for user in users]
        talks = []
        for n in range(CHATS):
            chat_id = group_chat_id(users[0], f"chat-{n}")
            await _create(http, tokens[0], chat_id, f"chat-{n}", users[1:])
            talks.append(Talk(chat_id=chat_id, members=users, messages=size.messages // CHATS))
        world = World(size, stack, http, tokens, talks)
        # Chat by chat in turn, as in reality: a partition's commands are those of several chats.
        rounds = zip(*(talk.commands() for talk in talks), strict=True)
        count = await put_commands(
            stack.document["kafka"], (command for each in rounds for command in each), partitions=stack.partitions
        )
        assert count > size.messages
        await _projected(world)
        yield world


async def _create(http: httpx.AsyncClient, token: str, chat_id: ChatId, name: str, others: list[UserId]) -> None:
    answer = await http.post(
        "/v1/chats",
        json={"kind": "group", "name": name, "members": others},
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": name, "Prefer": "wait=30"},
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["chat_id"] == chat_id


async def _projected(world: World) -> None:
    deadline_s = time.monotonic() + 240
    while True:
        [(seqs, rows)] = await world.ask(
            "SELECT (SELECT sum(last_seq) FROM chat.chats), (SELECT count(*) FROM chat.chat_messages)"
        )
        if (seqs, rows) == (world.size.messages, world.size.messages):
            return
        assert time.monotonic() < deadline_s, f"{rows} of {world.size.messages} messages are projected"
        await asyncio.sleep(0.3)


@pytest.fixture(
    scope="module", params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=LONG_PROOF)]
)
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_on(tmp_path_factory.mktemp("replay"), request.param) as made:
        yield made


async def test_a_rebuild_that_was_killed_goes_on_and_a_switch_there_and_back_lets_no_reader_step_back(
    world: World,
) -> None:
    stack, size = world.stack, world.size
    roots: dict[str, list[str]] = {
        talk.chat_id: [talk.message_id(seq) for seq in range(1, ROOTS + 1)] for talk in world.busy
    }
    async with (
        SteadySends.going_on(world.http, world.tokens, roots, rate_per_s=size.sends_per_s) as sends,
        SteadyReaders.reading(
            stack.api_url, world.tokens, [t.chat_id for t in world.talks], rate_per_s=size.reads_per_s
        ) as readers,
    ):
        killed_at = await _rebuild_and_kill(world)
        assert await world.state(2) == "abandoned"
        before = await world.folded(1)
        assert killed_at < before / 2, "it was killed too late to show that it goes on"

        done = await stack.gapless("projection", "rebuild", "--to", "v2")
        # It continued where the killed one was; of each partition one record is read again, to identify the log.
        assert done["records"] <= await world.folded(1) - killed_at + stack.partitions
        assert done["records"] >= before - killed_at
        assert await world.state(2) == "standby"

        proof = await stack.gapless("projection", "verify", "--version", "v2")
        _assert_equal(proof)
        assert proof["tables"]["chat_messages"]["held"]["rows"] >= size.messages

        for there, back in (("v2", "v1"), ("v1", "v2"), ("v2", "v1")):
            answered, sent = readers.answered, sends.count
            switched = await stack.gapless("projection", "cutover", "--to", there)
            assert (switched["from"], switched["to"]) == (back, there)
            deadline_s = time.monotonic() + DEADLINE_S
            while readers.answered < answered + len(world.tokens) or sends.count == sent:
                assert time.monotonic() < deadline_s, "nobody reads or writes on the version that serves now"
                await asyncio.sleep(0.05)
        deadline_s = time.monotonic() + DEADLINE_S
        while (
            min(readers.asked[kind] for kind in KINDS) < size.reads_at_least
            or readers.compared < size.compared_at_least
        ):
            assert time.monotonic() < deadline_s, f"{readers.asked}, {readers.compared} messages met again"
            await asyncio.sleep(0.1)
    _say(
        f"{readers.answered:,} reads at {readers.rate_per_s:.0f}/s, p50 {readers.latency_s(0.5) * 1000:.0f} ms, p99 "
        f"{readers.latency_s(0.99) * 1000:.0f} ms, longest {readers.latency_s(1) * 1000:.0f} ms; "
        f"{readers.compared:,} messages met again; {sends.count} sends; killed at {killed_at:,}, "
        f"then {done['records']:,} records in {done['seconds']:.1f} s"
    )
    assert sends.faults == []
    assert readers.errors == []
    assert readers.steps_back == []
    assert readers.answered == readers.asked.total()

    await world.settled()
    proofs = [await stack.gapless("projection", "verify", "--version", version) for version in ("v1", "v2")]
    for proof in proofs:
        _assert_equal(proof)
    assert proofs[0]["positions"] == proofs[1]["positions"]
    assert proofs[0]["tables"] == proofs[1]["tables"], "both versions hold the same rows"
    await _assert_told_is_there(world, sends)


KILLED_REBUILD = """
import sys
from services.ops.cli.main import main
from services.projector.versions import rebuild
from services.runtime.process.crashpoints import arm_crash_point

rebuild.rebuild.__kwdefaults__["max_batch_records"] = int(sys.argv[1])
arm_crash_point("projector.after_commit:" + sys.argv[2])
sys.argv[1:] = ["projection", "rebuild", "--to", "v2"]
main()
"""


async def _rebuild_and_kill(world: World) -> int:
    """Kill a rebuild halfway and return how many offsets it had folded."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", KILLED_REBUILD, str(KILLED_BATCH_RECORDS), str(KILLED_AFTER_COMMITS),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **world.stack.environment},
    )  # fmt: skip
    assert await asyncio.wait_for(process.wait(), DEADLINE_S) == -signal.SIGKILL
    deadline_s = time.monotonic() + DEADLINE_S
    # Its sessions end when Postgres notices; a commit in flight may still land.
    while await world.ask(
        "SELECT 1 FROM pg_stat_activity WHERE application_name IN ('gapless-rebuild', 'gapless-operator')"
    ):
        assert time.monotonic() < deadline_s, "the killed rebuild's sessions stay"
    folded = await world.folded(2)
    assert folded > 0
    return folded


def _assert_equal(proof: dict[str, Any]) -> None:
    assert proof["equal"], (proof["faults"], proof["differences"][:10])
    for name, table in proof["tables"].items():
        assert table["log"] == table["held"], name


async def _assert_told_is_there(world: World, sends: SteadySends) -> None:
    """Check that what each sender received is in the history of the version that serves at the end."""
    for talk in world.busy:
        told = sends.told[talk.chat_id]
        assert sorted(told) == list(range(talk.messages + 1, talk.messages + len(told) + 1))
        after = talk.messages
        while after < max(told, default=0):
            page = await world.http.get(
                f"/v1/chats/{talk.chat_id}/messages",
                params={"after_seq": after, "limit": 200},
                headers={"Authorization": f"Bearer {world.tokens[0]}"},
            )
            for message in page.json()["messages"]:
                answer = told[message["seq"]]
                assert [message[n] for n in ("message_id", "position", "sent_at", "text", "client_generated_id")] == [
                    answer[n] for n in ("message_id", "position", "sent_at", "text", "key")
                ]
                after = message["seq"]


def _say(figures: str) -> None:
    """Print figures, visible with pytest -s."""
    print(f"\n  replay: {figures}")


@asynccontextmanager
async def damaged(world: World) -> AsyncIterator[dict[tuple[str, str, str | None], tuple[Any, Any]]]:
    """Plant four kinds of damage in chat_v2 by hand, as a careless operator would; undo them at the end.

    Yields (table, kind, column) → what the log says and what the table holds.
    """
    chat, user, last = world.quiet.chat_id, world.quiet.members[3], world.quiet.messages
    message = "chat_v2.chat_messages WHERE chat_id = %s AND seq = %s"
    member = "chat_v2.chat_participants SET read_seq = %s WHERE chat_id = %s AND user_id = %s"
    [(text,)] = await world.ask(f"SELECT message_text FROM {message}", chat, 101)
    [(read_seq,)] = await world.ask(
        "SELECT read_seq FROM chat_v2.chat_participants WHERE chat_id = %s AND user_id = %s", chat, user
    )
    await world.ask(f"CREATE TABLE public.missing AS SELECT * FROM {message}", chat, 202)
    await world.ask(f"CREATE TABLE public.extra AS SELECT * FROM {message}", chat, last)
    await world.ask("UPDATE public.extra SET seq = seq + 1, position = position + 1, message_id = gen_random_uuid()")
    set_text = "UPDATE chat_v2.chat_messages SET message_text = %s WHERE chat_id = %s AND seq = 101"
    await world.ask(set_text, "somebody else's words", chat)
    await world.ask(f"DELETE FROM {message}", chat, 202)
    await world.ask("INSERT INTO chat_v2.chat_messages SELECT * FROM public.extra")
    await world.ask(f"UPDATE {member}", read_seq - 1, chat, user)
    try:
        yield {
            ("chat_messages", "changed", "message_text"): (text, "somebody else's words"),
            ("chat_messages", "missing", None): ("a row", "no such row"),
            ("chat_messages", "extra", None): ("no such row", "a row"),
            ("chat_participants", "changed", "read_seq"): (read_seq, read_seq - 1),
        }
    finally:
        await world.ask(set_text, text, chat)
        await world.ask("INSERT INTO chat_v2.chat_messages SELECT * FROM public.missing")
        await world.ask(f"DELETE FROM {message}", chat, last + 1)
        await world.ask(f"UPDATE {member}", read_seq, chat, user)
        await world.ask("DROP TABLE public.missing, public.extra")


async def test_a_changed_text_a_missing_row_an_extra_row_and_a_wrong_cursor_are_each_named(world: World) -> None:
    await world.rebuilt(2)
    chat, last = world.quiet.chat_id, world.quiet.messages
    async with damaged(world) as wrongs:
        proof = await world.stack.gapless("projection", "verify", "--version", "v2", fails=True)
    assert proof["equal"] is False
    assert proof["faults"] == []
    assert proof["difference_count"] == len(wrongs)
    named = {(d["table"], d["kind"], d["column"]): d for d in proof["differences"]}
    assert {key: (d["log"], d["held"]) for key, d in named.items()} == wrongs
    assert {key: d["key"] for key, d in named.items()} == {
        ("chat_messages", "changed", "message_text"): {"chat_id": chat, "seq": 101},
        ("chat_messages", "missing", None): {"chat_id": chat, "seq": 202},
        ("chat_messages", "extra", None): {"chat_id": chat, "seq": last + 1},
        ("chat_participants", "changed", "read_seq"): {"chat_id": chat, "user_id": world.quiet.members[3]},
    }
    for name in ("chat_messages", "chat_participants"):
        assert proof["tables"][name]["log"]["digest"] != proof["tables"][name]["held"]["digest"]
    assert proof["tables"]["chats"]["log"] == proof["tables"]["chats"]["held"]
    _assert_equal(await world.stack.gapless("projection", "verify", "--version", "v2"))


BROKEN_MAPPING = """
import sys
from services.ops.cli.main import main
from services.projector.following import feeds
from services.projector.versions import rebuild
from services.projector.mapping import rows

# Members are to be changed by later batches than the one they joined in.
rebuild.rebuild.__kwdefaults__["max_batch_records"] = 2_000
whole = rows.changes_of
swapped = sys.argv[1]

def broken(*given, **named):
    changes = whole(*given, **named)
    changes.participants_moved[:] = [
        moved._replace(read_seq=moved.delivered_seq, delivered_seq=moved.read_seq)
        if moved.user_id == swapped
        else moved._replace(own_in_batch=moved.own_in_batch + 1)
        for moved in changes.participants_moved
    ]
    changes.messages[:] = [
        message._replace(reply_to_message_id=None) if message.seq == 700 else message for message in changes.messages
    ]
    return changes

rows.changes_of = feeds.changes_of = broken
sys.argv[1:] = ["projection", "rebuild", "--to", "v3", "--json"]
main()
"""
"""Two cursors in each other's column, a count off by one, a missing reference."""


async def test_a_row_mapping_that_was_broken_on_purpose_is_reported(world: World) -> None:
    swapped = world.quiet.members[5]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", BROKEN_MAPPING, swapped,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **world.stack.environment},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, err[-2000:]
    assert json.loads(out)["records"] > world.size.messages

    proof = await world.stack.gapless("projection", "verify", "--version", "v3", fails=True)
    assert proof["faults"] == []
    assert proof["difference_count"] == len(proof["differences"])
    named = {(d["table"], d["column"]) for d in proof["differences"]}
    assert named == {
        ("chat_participants", "read_seq"),
        ("chat_participants", "delivered_seq"),
        ("chat_participants", "own_live_after_read"),
        ("chat_messages", "reply_to_message_id"),
    }
    of_swapped = {d["column"] for d in proof["differences"] if d["key"].get("user_id") == swapped}
    assert {"read_seq", "delivered_seq"} <= of_swapped
    of_others = {d["column"] for d in proof["differences"] if d["key"].get("user_id") not in (None, swapped)}
    assert of_others == {"own_live_after_read"}
    for d in proof["differences"]:
        if d["key"].get("user_id") not in (None, swapped):
            assert d["held"] > d["log"]
    assert {d["key"]["chat_id"] for d in proof["differences"]} == {talk.chat_id for talk in world.talks}
    replies = [d for d in proof["differences"] if d["table"] == "chat_messages"]
    assert {d["key"]["seq"] for d in replies} == {700}
    assert len(replies) == CHATS, "700 is a reply in every chat"
