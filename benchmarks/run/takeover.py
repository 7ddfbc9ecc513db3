"""Takeover: from a signal to the owner of a partition until the next owner's first outcome, as a consumer sees it.

    python -m benchmarks.run.takeover --rounds 20 --way all

Real Kafka (embedded, one broker), two `gapless sequencer` processes with the default settings, eight partitions, one of
them under a steady stream of commands. Each round signals the process that writes to that partition:

- `kill`: SIGKILL; the process is started again afterwards.
- `term`: SIGTERM, the graceful hand-over; the process is started again afterwards.
- `stop`: SIGSTOP, a process that hangs; it is resumed once the group has removed it, and discovers that it was
  replaced.

A round begins when both processes are members of the group, both report that they are ready, and the stream gets its
outcomes. All times are from this process's monotonic clock, read when the consumer returns the record, so a figure
includes the consumer's own fetch.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.servers.processes import environment
from devstack.kafka import KafkaCluster
from devstack.ports import choose_ports
from schemas import ids
from schemas.bodies import ChatCreate, MessageSend, canonical_body
from schemas.cursor import Decided, LogCursor, Opened, Stop
from schemas.ids import UserId
from schemas.topics import TopicNames, topic_specs
from schemas.types import CommandType
from schemas.wire.encoding import Command, encode_command
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import create_topics
from services.sequencer.assignment import GROUP

PARTITIONS: Final = 8
COMMANDS_PER_S: Final = 200
TEXT_BYTES: Final = 250
DEADLINE_S: Final = 90.0
"""Deadline for each wait in a round; a takeover that takes longer is an error, not a figure."""
CALM_S: Final = 1.5
"""Minimum time without changes before a round begins."""
INTERVALS_S: Final = 1.0
"""At least the longest interval at which members contact the group."""
WAYS: Final = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
ANNA: Final = UserId("11111111-1111-4111-8111-111111111111")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Times in seconds, all from the signal except the last."""

    opened_s: float
    """Time until the next owner's opening was seen."""
    first_outcome_s: float
    """Time until its first outcome was seen: the main figure."""
    silence_s: float
    """Longest gap between outcomes around the takeover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All rounds of one signal."""

    way: str
    rounds: tuple[Round, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(r.first_outcome_s for r in self.rounds)

    @property
    def worst_s(self) -> float:
        return max(r.first_outcome_s for r in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The result of a run."""

    ways: tuple[Way, ...]
    settings: Mapping[str, str]
    commands_per_s: int = COMMANDS_PER_S
    partitions: int = PARTITIONS
    load_average: float = 0.0
    """The machine's load average over the last minute of the run; shows other work during the benchmark."""

    def document(self) -> dict[str, Any]:
        """Return the document for --json."""
        ways = {
            w.way: {
                "rounds": len(w.rounds),
                "median_s": round(w.median_s, 3),
                "worst_s": round(w.worst_s, 3),
                "opened_median_s": round(statistics.median(r.opened_s for r in w.rounds), 3),
                "silence_median_s": round(statistics.median(r.silence_s for r in w.rounds), 3),
                "each": [{name: round(value, 3) for name, value in asdict(r).items()} for r in w.rounds],
            }
            for w in self.ways
        }
        return {
            "ways": ways,
            "settings": dict(self.settings),
            "commands_per_s": self.commands_per_s,
            "partitions": self.partitions,
            "load_average": round(self.load_average, 2),
        }


async def run(
    *,
    rounds: int,
    ways: Sequence[str] = tuple(WAYS),
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
    on_round: Callable[[str, int, Round], None] = lambda _way, _number, _round: None,
) -> Figures:
    """Run the benchmark. `settings` are variables of the sequencers, none by default; `folder` keeps their logs."""
    chosen = dict(settings or {})
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="takeover-")))
        cluster = KafkaCluster(root / "kafka")
        await cluster.start()
        try:
            found = []
            async with _Scene.on(cluster.bootstrap_servers, root, chosen) as scene:
                for way in ways:
                    measured = []
                    for number in range(1, rounds + 1):
                        measured.append(await scene.round(WAYS[way]))
                        on_round(way, number, measured[-1])
                    found.append(Way(way=way, rounds=tuple(measured)))
            return Figures(ways=tuple(found), settings=chosen, load_average=os.getloadavg()[0])
        finally:
            await cluster.stop()


# --- the scene --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Scene:
    admin: Any
    partition: int
    watch: _Watch
    sequencers: tuple[_Sequencer, _Sequencer]
    _random: random.Random = field(default_factory=lambda: random.Random(4))

    @classmethod
    @asynccontextmanager
    async def on(cls, kafka: str, root: Path, settings: Mapping[str, str]) -> AsyncIterator[_Scene]:
        names = TopicNames()
        specs = topic_specs(names, partitions=PARTITIONS, reply_partitions=16, replication_factor=1)
        await create_topics(KafkaConnection.plain(kafka), specs)
        chat = _Chat()
        watch = _Watch(PartitionReader(
            kafka=KafkaConnection.plain(kafka), topic=names.events, partition=chat.partition, client_id="takeover"
        ))  # fmt: skip
        sequencers = (
            _Sequencer("sequencer-1", kafka, root, settings),
            _Sequencer("sequencer-2", kafka, root, settings),
        )
        admin = AIOKafkaAdminClient(**KafkaConnection.plain(kafka).client_options())
        await admin.start()
        tasks = [asyncio.create_task(watch.run()), asyncio.create_task(_stream(kafka, names.commands, chat))]
        try:
            for sequencer in sequencers:
                await sequencer.start()
            yield cls(admin=admin, partition=chat.partition, watch=watch, sequencers=sequencers)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for sequencer in sequencers:
                await sequencer.kill()
            await watch.reader.close()
            await admin.close()

    async def round(self, number: signal.Signals) -> Round:
        owner = await self._settled()
        before = self.watch.newest
        signalled_s = time.monotonic()
        owner.signal(number)
        term = await self.watch.outcome_of_a_later_term(before.term)
        found = Round(
            opened_s=term.opened_s - signalled_s,
            first_outcome_s=term.first_outcome_s - signalled_s,
            silence_s=self.watch.longest_silence_s(signalled_s, term.first_outcome_s),
        )
        if number is signal.SIGSTOP:
            async with asyncio.timeout(DEADLINE_S):
                while await _members(self.admin) != len(self.sequencers) - 1:
                    await asyncio.sleep(0.1)
            owner.signal(signal.SIGCONT)
        else:
            await owner.ended()
            await owner.start()
        return found

    async def _settled(self) -> _Sequencer:
        """Wait for a steady state and return the owner.

        Both processes must be members and ready, and the stream must get its outcomes in one term from one of them.
        This must hold for a while, so that the after-effects of a rebalance have shown. The while is random, so that
        signals fall evenly on everything that happens at intervals (heartbeats, polls).
        """
        deadline_s = time.monotonic() + DEADLINE_S
        calm_s = CALM_S + self._random.uniform(0, INTERVALS_S)
        since_s = 0.0
        seen: tuple[str, int] | None = None
        while time.monotonic() < deadline_s:
            owner = await self._owner_if_all_is_well()
            now_s = time.monotonic()
            state = (owner.name, self.watch.newest.term) if owner is not None else None
            if state is None or state != seen:
                seen, since_s = state, now_s
            elif owner is not None and now_s - since_s > calm_s:
                return owner
            await asyncio.sleep(0.02)
        raise TimeoutError(f"the two sequencers did not settle within {DEADLINE_S:g} s")

    async def _owner_if_all_is_well(self) -> _Sequencer | None:
        if await _members(self.admin) != len(self.sequencers):
            return None
        if not all([await sequencer.is_ready() for sequencer in self.sequencers]):
            return None
        if not self.watch.is_flowing():
            return None
        owners = [s for s in self.sequencers if await s.term_in(self.partition) == self.watch.newest.term]
        return owners[0] if len(owners) == 1 else None


async def _members(admin: Any) -> int:
    """Return the number of members in the sequencers' group if it is stable, or 0 while it rebalances."""
    try:
        (answer,) = await admin.describe_consumer_groups([GROUP])
    except kafka_errors.GroupCoordinatorNotAvailableError:
        return 0  # no process has ever joined it
    ((_, _, state, _, _, members, *_),) = answer.groups
    return len(members) if state == "Stable" else 0


# --- the stream of commands -------------------------------------------------------------------------------------------


class _Chat:
    """One group chat of Anna's, and her messages."""

    def __init__(self) -> None:
        self.chat_id = ids.group_chat_id(ANNA, "takeover")
        self.partition = ids.partition_of(self.chat_id, PARTITIONS)
        self._text = "x" * TEXT_BYTES

    def creation(self) -> Command:
        body = ChatCreate(kind="group", name="takeover", members=[])
        return self._command(CommandType.CHAT_CREATE, canonical_body(body), "create")

    def message(self, number: int) -> Command:
        return self._command(
            CommandType.MESSAGE_SEND, canonical_body(MessageSend(text=self._text)), f"m-{number}"
        )  # fmt: skip

    def _command(self, kind: CommandType, body: bytes, key: str) -> Command:
        return Command(
            offset=-1,
            type=kind.value,
            body=body,
            chat_id=self.chat_id,
            sender_id=ANNA,
            client_generated_id=key,
            command_id=ids.command_id(self.chat_id, ANNA, key),
        )


async def _stream(kafka: str, topic: str, chat: _Chat) -> None:
    """Send commands on a schedule: never wait for outcomes, and make up for delays."""
    producer = AIOKafkaProducer(**KafkaConnection.plain(kafka).client_options(), acks="all", linger_ms=0)
    await producer.start()
    try:
        began_s, number = time.monotonic(), 0
        while True:
            command = chat.message(number) if number else chat.creation()
            record = encode_command(command, "/benchmarks/takeover")
            await producer.send(
                topic, key=record.key, value=record.value, headers=record.headers, partition=chat.partition
            )
            number += 1
            await asyncio.sleep(max(0.0, began_s + number / COMMANDS_PER_S - time.monotonic()))
    finally:
        await producer.stop()


# --- the consumer -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Term:
    """A term as the consumer saw it; times are of the monotonic clock."""

    term: int
    opened_s: float
    first_outcome_s: float = 0.0
    """0 until the first outcome."""


@dataclass(slots=True)
class _Watch:
    """A consumer of the partition that applies the validity rule and records when it saw what."""

    reader: PartitionReader
    terms: list[_Term] = field(default_factory=list)
    outcomes_s: list[float] = field(default_factory=list)
    """When batches with valid outcomes arrived."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def newest(self) -> _Term:
        """The latest term with an outcome."""
        return next((t for t in reversed(self.terms) if t.first_outcome_s), _Term(0, 0.0))

    def is_flowing(self) -> bool:
        """Return whether an outcome arrived within the last quarter of a second."""
        return bool(self.outcomes_s) and time.monotonic() - self.outcomes_s[-1] < 0.25

    def longest_silence_s(self, from_s: float, to_s: float) -> float:
        """Return the longest gap between outcomes, from the last before `from_s` to the first at or after `to_s`."""
        before = max((at for at in self.outcomes_s if at <= from_s), default=from_s)
        times = [before, *(at for at in self.outcomes_s if before < at <= to_s)]
        return max((b - a for a, b in pairwise(times)), default=0.0)

    async def outcome_of_a_later_term(self, term: int) -> _Term:
        """Wait for the first term after `term` that has an outcome, and return it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for each in self.terms:
                    if each.term > term and each.first_outcome_s:
                        return each
                await self._news.wait()

    async def run(self) -> None:
        await self.reader.start(0)
        cursor = LogCursor()
        while True:
            records = await self.reader.read(max_records=10_000, timeout_s=1.0)
            now_s = time.monotonic()
            valid = 0
            for event in cursor.read(records):
                match event:
                    case Opened():
                        self.terms.append(_Term(event.term, now_s))
                    case Decided():
                        valid += 1
                        if not self.terms[-1].first_outcome_s:
                            self.terms[-1].first_outcome_s = now_s
                    case Stop():
                        raise event.error
            if valid:
                self.outcomes_s.append(now_s)
            if records:
                self._news.set()
                self._news = asyncio.Event()


# --- the processes ----------------------------------------------------------------------------------------------------


class _Sequencer:
    """A `gapless sequencer` with the default settings, except for addresses and paths."""

    def __init__(self, name: str, kafka: str, root: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        (self._port,) = choose_ports(1)
        self._log_path = root / f"{name}.log"
        ours = {
            "GAPLESS_KAFKA_BOOTSTRAP": kafka,
            "GAPLESS_KAFKA_PARTITIONS": str(PARTITIONS),
            "GAPLESS_SEQUENCER_STATE_DIR": str(root / "state"),
            "GAPLESS_OPS_PORT": str(self._port),
            "GAPLESS_LOG_FORMAT": "json",
        }
        self._environment = environment({**ours, **settings})
        self._process: asyncio.subprocess.Process | None = None
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}", timeout=3.0, trust_env=False, verify=False
        )

    async def start(self) -> None:
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "services.ops", "sequencer",
                env=self._environment, stderr=log, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> None:
        assert self._process is not None
        await asyncio.wait_for(self._process.wait(), DEADLINE_S)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._http.aclose()

    async def is_ready(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {self._log_path}")
        try:
            return (await self._http.get("/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def term_in(self, partition: int) -> int:
        """Return the term in which it writes to the partition, or 0 if it does not."""
        try:
            text = (await self._http.get("/metrics")).text
        except httpx.TransportError:
            return 0
        series = f'gapless_sequencer_term{{partition="{partition}"}} '
        return next((int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(series)), 0)


# --- the command ------------------------------------------------------------------------------------------------------


def table(figures: Figures) -> str:
    """Return the table as docs/proofs.md shows it."""
    lines = [
        "| way | rounds | median | worst | its opening, median | longest silence, median |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in figures.document()["ways"].items():
        lines.append(
            f"| SIG{name.upper()} | {way['rounds']} | {way['median_s']:.2f} s | {way['worst_s']:.2f} s |"
            f" {way['opened_median_s']:.2f} s | {way['silence_median_s']:.2f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.run.takeover", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--way", choices=[*WAYS, "all"], default="all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the sequencers")
    parser.add_argument("--keep", type=Path, help="a folder for servers and logs, kept afterwards")
    arguments = parser.parse_args()

    def tell(way: str, number: int, found: Round) -> None:
        sys.stderr.write(f"{way} {number}: {found.first_outcome_s:.3f} s (opened {found.opened_s:.3f} s)\n")

    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    figures = asyncio.run(
        run(
            rounds=arguments.rounds,
            ways=tuple(WAYS) if arguments.way == "all" else (arguments.way,),
            settings=dict(pair.split("=", 1) for pair in arguments.set),
            folder=arguments.keep,
            on_round=tell,
        )
    )
    sys.stdout.write((json.dumps(figures.document()) if arguments.json else table(figures)) + "\n")


if __name__ == "__main__":
    main()
