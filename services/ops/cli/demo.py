"""`gapless demo`: a real conversation through the real system, step by step, with a sequencer killed in the middle.

Every claim is checked before it is printed: the demo exits with 1 at the first one that does not hold.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from rich.table import Table

from schemas import ids
from services.ops.cli.stack import stack_errors
from services.ops.cli.terminal import OUT, Part, cell, exit_on_error, run
from services.ops.errors import FaultFound
from services.ops.producer import Ack, ProducerClient
from services.ops.stack.embedded import EmbeddedStack, StackPlan
from services.ops.verify.log.verify import verify_log
from services.ops.verify.projection.verify import verify_projection
from services.projector.versions.cutover import cutover
from services.projector.versions.rebuild import rebuild
from services.runtime.access.auth import mint_token
from services.runtime.observe.logs import configure_logging
from services.runtime.settings import LogSettings, PostgresSettings

ANNA: Final = "11111111-1111-4111-8111-111111111111"
BEN: Final = "22222222-2222-4222-8222-222222222222"
PRODUCERS: Final = 8
MESSAGES_EACH: Final = 60
IDLE_SENDS: Final = 60
KILL_AFTER: Final = 120
"""Number of messages answered before the sequencer is killed."""


def demo(data_dir: Path | None, *, secure: bool) -> None:
    """Run `gapless demo` (main.py has its options). Keeps its data in `data_dir`, or in a temporary folder if None."""
    with exit_on_error(), stack_errors():
        configure_logging(LogSettings.model_validate({"level": "error"}), service="gapless")  # the demo prints the rest
        if data_dir is not None:
            run(_demo(data_dir, secure=secure))
            return
        with tempfile.TemporaryDirectory(prefix="gapless-demo-") as folder:
            run(_demo(Path(folder), secure=secure))


async def _demo(folder: Path, *, secure: bool) -> None:
    began = time.monotonic()
    _chapter("The stack: Kafka, Postgres, two sequencers, a projector, the API, each a process of its own")
    async with _stack(folder, secure=secure) as stack, _client(stack) as http:
        _say(f"ready after {time.monotonic() - began:.1f} s at {stack.api_url}")
        if secure:
            _say(
                "TLS 1.2 or newer on every connection; SCRAM-SHA-512 and the rights of `gapless topics acls` in Kafka,"
                " the roles of `gapless projection roles` in Postgres"
            )
        story = _Story(stack, http)
        await story.conversation()
        await story.idle_latency()
        await story.kill_in_the_middle()
        await story.reading()
        await story.replay()
    OUT.print()
    _say(("Everything held.", "bold green"), f" {time.monotonic() - began:.0f} s in all; the stack is stopped.")


def _client(stack: EmbeddedStack) -> httpx.AsyncClient:
    # Our own processes on this machine, which a proxy from the environment does not reach.
    return httpx.AsyncClient(base_url=stack.api_url, timeout=35.0, trust_env=False, verify=stack.verify)


@asynccontextmanager
async def _stack(folder: Path, *, secure: bool) -> AsyncIterator[EmbeddedStack]:
    stack = EmbeddedStack(StackPlan(data_dir=folder, secure=secure), on_step=lambda step: _say((step, "dim")))
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


class _Story:
    def __init__(self, stack: EmbeddedStack, http: httpx.AsyncClient) -> None:
        self._stack = stack
        self._http = http
        environment = stack.environment()
        self._tokens = {user: mint_token(environment["GAPLESS_JWT_SECRET"], user) for user in (ANNA, BEN)}
        self._kafka = stack.settings()
        self._postgres = PostgresSettings.model_validate({"dsn": stack.postgres})
        self._chat_id = ""

    async def conversation(self) -> None:
        _chapter("A conversation: each message gets the next seq, a retry gets the original's")
        created = await self._post(ANNA, "/v1/chats", {"kind": "group", "name": "ops", "members": [BEN]}, key="create")
        self._chat_id = created.json()["chat_id"]
        table = Table("who", "key", "text", "answer", "seq")
        script = [
            (ANNA, "k-1", "Is the log gap-free?", 201),
            (BEN, "k-1", "Try to break it.", 201),
            (ANNA, "k-2", "I'll send this twice.", 201),
            (ANNA, "k-2", "I'll send this twice.", 200),
            (ANNA, "k-2", "Another text under the same key.", 422),
        ]
        for user, key, text, expected in script:
            answer = await self._post(user, f"{self._chat}/messages", {"text": text}, key=key)
            _expect(answer.status_code == expected, f"{key} was answered {answer.status_code}: {answer.text}")
            body = answer.json()
            table.add_row(
                "Anna" if user == ANNA else "Ben", key, text, str(expected), str(body.get("seq", body.get("type")))
            )
        OUT.print(table)

    async def idle_latency(self) -> None:
        _chapter("The idle stack: from the request to 201 with seq, and from there to visible in history")
        answered, visible = [], []
        for n in range(IDLE_SENDS):
            began = time.perf_counter()
            sent = await self._post(ANNA, f"{self._chat}/messages", {"text": f"idle {n}"}, key=f"idle-{n}")
            answered.append(time.perf_counter() - began)
            _expect(sent.status_code == 201, sent.text)
            began = time.perf_counter()
            page = await self._get(f"{self._chat}/messages?limit=1", at_least=sent.json()["token"])
            visible.append(time.perf_counter() - began)
            _expect(page["messages"][-1]["seq"] == sent.json()["seq"], f"history does not show {sent.text}")
        _say(f"201 with seq: p50 {_ms(answered, 0.5)} ms, p90 {_ms(answered, 0.9)} ms over {IDLE_SENDS} sends")
        _say(f"visible in history after that: p50 {_ms(visible, 0.5)} ms, p90 {_ms(visible, 0.9)} ms")

    async def kill_in_the_middle(self) -> None:
        _chapter(f"{PRODUCERS} producers send, a fifth of the messages twice; the sequencer of their chat is SIGKILLed")
        answers: list[Ack] = []
        producers = [ProducerClient(self._http, self._tokens[ANNA if n % 2 else BEN]) for n in range(PRODUCERS)]

        async def produce(n: int) -> None:
            for m in range(MESSAGES_EACH):
                copies = 2 if m % 5 == 0 else 1
                sends = [
                    producers[n].send(self._chat_id, f"message {m} of producer {n}", key=f"p{n}-{m}")
                    for _ in range(copies)
                ]
                answers.extend(await asyncio.gather(*sends))

        sending = asyncio.gather(*(produce(n) for n in range(PRODUCERS)))
        try:
            await _until(lambda: len(answers) >= KILL_AFTER, sending)
            victim = await self._owner()
            killed_at = time.monotonic()
            unanswered = sum(producer.unanswered for producer in producers)
            os.kill(self._stack.pids[victim], signal.SIGKILL)
            _say(f"{victim} killed with {unanswered} sends unanswered")
            await sending
        finally:
            sending.cancel()
        takeover_s = min(a.answered_s for a in answers if a.answered_s > killed_at + 0.5) - killed_at
        by_key: dict[str, set[int]] = {}
        for answer in answers:
            by_key.setdefault(answer.key, set()).add(answer.seq)
        _expect(len(by_key) == PRODUCERS * MESSAGES_EACH, f"{len(by_key)} messages were answered")
        _expect(all(len(seqs) == 1 for seqs in by_key.values()), "a retry got another seq")
        seqs = sorted(seq for seqs in by_key.values() for seq in seqs)
        first = 3 + IDLE_SENDS + 1
        _expect(seqs == list(range(first, first + len(seqs))), "the seqs have a gap or a duplicate")
        retried = sum(answer.attempts > 1 for answer in answers)
        _say(
            f"the next answer came {takeover_s:.1f} s after the kill, from {await self._owner()}; {retried} sends were"
            f" retried under their keys, {sum(a.duplicate for a in answers)} copies got the original's seq"
        )
        _say(f"{len(by_key)} messages: seqs {first} to {first + len(seqs) - 1}, none missing, none twice")

    async def reading(self) -> None:
        _chapter("Reading: history, unread, ticks")
        latest = (await self._get(f"{self._chat}/latest-seq"))["seq"]
        unread = (await self._get(f"{self._chat}/unread", user=BEN))["unread"]
        marked = await self._post(BEN, f"{self._chat}/read", {"up_to_seq": latest})
        _expect(marked.status_code == 200, marked.text)
        left = (await self._get(f"{self._chat}/unread", user=BEN, at_least=await self._token_now()))["unread"]
        _expect(left == 0, f"{left} unread after reading everything")
        _say(f"latest seq {latest}; Ben had {unread} unread, marks all read, has {left}")
        page = await self._get(f"{self._chat}/messages?limit=3")
        table = Table("seq", "text", "status")
        for message in page["messages"]:
            table.add_row(str(message["seq"]), cell(message["text"]), message["status"])
        OUT.print(table)

    async def replay(self) -> None:
        _chapter("Replay: the log is folded into a second projection next to the live one, verified, and switched to")
        done = await rebuild(2, kafka=self._kafka, postgres=self._postgres)
        _say(f"chat_v2 built from offset 0: {done.records_done:,} records in {done.seconds:.1f} s")
        await self._prove("v2")
        before = (await self._get(f"{self._chat}/messages?limit=1"))["messages"]
        switched = await cutover(2, kafka=self._kafka, postgres=self._postgres)
        after = (await self._get(f"{self._chat}/messages?limit=1"))["messages"]
        _expect(before == after, "readers see another history after the switch")
        _say(f"readers see chat_v2 now; chat_v1 was held for {switched.held_s * 1000:.0f} ms and stays fed, to go back")
        report = await verify_log(self._kafka)
        _expect(report.sound, f"the log has {report.violation_count} violations, first {report.violations[:1]}")
        _say("log verify: indexes, seqs and positions dense, one outcome per command, no message twice")

    async def _prove(self, version: str) -> None:
        report = await verify_projection(self._kafka, self._postgres, version=version)
        _expect(report.equal, f"{report.difference_count} differences, first {report.differences[:1]} {report.faults}")
        table = Table("table", "rows", "digest by the log", "digest held", title=f"the proof that {version} is the log")
        for name, said in report.log.items():
            table.add_row(name, f"{said.rows:,}", said.hex[:16], report.held[name].hex[:16])
        OUT.print(table)

    async def _owner(self) -> str:
        """Return the sequencer that writes in the chat's partition, according to its metrics."""
        partition = ids.partition_of(self._chat_id, self._kafka.partitions)
        for name, url in self._stack.ops_urls.items():
            if not name.startswith("sequencer"):
                continue
            try:
                metrics = (await self._http.get(f"{url}/metrics")).text
            except httpx.TransportError:
                continue
            for line in metrics.splitlines():
                if (
                    line.startswith(f'gapless_sequencer_term{{partition="{partition}"}}')
                    and float(line.split()[-1]) > 0
                ):
                    return name
        raise FaultFound(f"no sequencer writes in partition {partition}")

    async def _token_now(self) -> str:
        """Return a token that covers everything decided in the chat so far: that of a repeated send."""
        again = await self._post(ANNA, f"{self._chat}/messages", {"text": "idle 0"}, key="idle-0")
        return str(again.json()["token"])

    @property
    def _chat(self) -> str:
        return f"/v1/chats/{self._chat_id}"

    async def _post(self, user: str, path: str, body: dict[str, Any], *, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._tokens[user]}", "Prefer": "wait=10"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._http.post(path, json=body, headers=headers)

    async def _get(self, path: str, *, user: str = ANNA, at_least: str | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        if at_least is not None:
            headers["Gapless-At-Least"] = at_least
        answer = await self._http.get(path, headers=headers)
        _expect(answer.status_code == 200, f"GET {path} was answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found


def _expect(holds: bool, sentence: str) -> None:
    if not holds:
        raise FaultFound(sentence)


async def _until(condition: Any, work: asyncio.Future[Any]) -> None:
    while not condition():
        if work.done():
            work.result()
            raise FaultFound("the producers ended before the sequencer could be killed")
        await asyncio.sleep(0.005)


def _ms(seconds: Iterable[float], quantile: float) -> str:
    ordered = sorted(seconds)
    return f"{ordered[int(quantile * (len(ordered) - 1))] * 1000:.1f}"


def _chapter(title: str) -> None:
    OUT.print()
    OUT.say(title, style="bold")


def _say(*parts: Part) -> None:
    OUT.say("  ", *parts)
