"""A chaos run: the real system of many processes, clients that use it, a nemesis that breaks it, and the checker.

    python -m tests.chaos.run --minutes 20 --seed 7
    python -m tests.chaos.run --check FOLDER      checks the evidence of an earlier run, without any server

The seed determines what clients and nemesis choose; the timing differs in each run. So a run that found something keeps
its evidence, and says where.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from schemas.topics import TopicNames
from tests.chaos.checker import Report, check
from tests.chaos.collect import end_offsets, read_tables, read_topic, until_quiet
from tests.chaos.evidence import Recorder, read_evidence, write_records
from tests.chaos.hostile import HostileProducer
from tests.chaos.http_clients import PROMISES, ComerAndGoer, Founder, Http, HttpProducer
from tests.chaos.http_readers import HttpReader
from tests.chaos.kafka_clients import KafkaProducer, LogFollower, ReplyListener
from tests.chaos.live_readers import CuttingReader
from tests.chaos.nemesis import Nemesis
from tests.chaos.raw_log import read_raw
from tests.chaos.stage import Stage
from tests.support.running_stack import RunningStack

HTTP_PRODUCERS: Final = 5
READERS: Final = 3
REPEATS_AT_THE_END: Final = 300
QUIET_TIMEOUT_S: Final = 180.0
STACK: Final = ("--brokers", "3", "--sequencers", "2", "--projectors", "2", "--ingests", "2")
ALARMS: Final = (
    "partition.stopped",
    "partition_stopped",
    "standby.ended",
    "term.unexpected_error",
    "task_crashed",
    "service_crashed",
)
"""Log events that a run must not have: each is a bug or a partition without a server."""


@dataclass(slots=True, kw_only=True)
class Result:
    """The parameters and the result of a run."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    report: Report
    unanswered: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    called: int = 0
    """Number of takeovers by standbys, ahead of the group."""
    forged: int = 0
    """Number of the hostile producer's batches that a broker accepted."""
    verified: dict[str, bool] = field(default_factory=dict)
    """Results of `gapless log verify` and `gapless projection verify`."""

    @property
    def sound(self) -> bool:
        return not (self.report.violations or self.unanswered or self.alarms) and all(self.verified.values())

    def lines(self) -> list[str]:
        """Return the totals as text."""
        r, f = self.report, self.faults
        return [
            f"seed {self.seed}, {self.seconds / 60:.1f} minutes of faults",
            f"faults: {f.total()}: {', '.join(f'{name} {count}' for name, count in sorted(f.items()))}",
            f"terms opened {r.terms}, {self.called} of them by a standby that was called; void records {r.voids}"
            f" (of them openings {r.void_openings})",
            f"batches of a hostile producer: {self.forged}",
            f"commands {r.commands}: {', '.join(f'{kind} {count}' for kind, count in sorted(r.outcomes.items()))}",
            f"checked: answers {r.answers}, in real time {r.ordered}, reads {r.reads}, log records read along"
            f" {r.tailed}, rows {r.rows}",
            f"as of one snapshot: {', '.join(f'{kind} {count}' for kind, count in sorted(r.snapshots.items()))}",
            f"streams: {', '.join(f'{what} {count}' for what, count in sorted(r.live.items()))}",
            *(f"gapless {command}: {'sound' if good else 'NOT SOUND'}" for command, good in self.verified.items()),
            *(f"UNANSWERED {what}" for what in self.unanswered[:20]),
            *(f"ALARM {what}" for what in self.alarms[:20]),
            *(f"VIOLATION {violation}" for violation in r.violations[:50]),
            f"violations {len(r.violations)}",
        ]


async def run(folder: Path, *, minutes: float, seed: int) -> Result:
    """Run once; the evidence is in `folder` afterwards."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away all the time here
    recorder = Recorder(folder / "history.jsonl", time.monotonic)
    environment = {"GAPLESS_LOG_FORMAT": "json"}
    try:
        async with RunningStack.up(folder, *STACK, environment=environment) as stack:
            partitions = int(stack.document["partitions"])
            (folder / "run.json").write_text(json.dumps({"partitions": partitions, "seed": seed, "minutes": minutes}))
            stage = Stage.of(seed, partitions, recorder)
            token = stack.token(stage.creator, "producer")
            limits = httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=2.0)
            async with httpx.AsyncClient(
                base_url=stack.api_url, limits=limits, trust_env=False, verify=False, timeout=None
            ) as http:
                faults = await _act(stage, stack, http, token, folder, minutes * 60)
            await _collect(stack, folder, partitions)
            verified = {
                "log verify": (await stack.gapless("log", "verify"))["sound"],
                "projection verify": (await stack.gapless("projection", "verify"))["equal"],
            }
    finally:
        recorder.close()
    report = check(read_evidence(folder))
    return Result(
        seed=seed,
        seconds=minutes * 60,
        faults=faults,
        report=report,
        unanswered=stage.unanswered,
        alarms=[f"{name}: {line[:400]}" for name, line in _said(folder, ALARMS)],
        called=sum(1 for _ in _said(folder, ("standby.takes_over",))),
        forged=stage.forged,
        verified=verified,
    )


async def _act(
    stage: Stage, stack: RunningStack, http: httpx.AsyncClient, token: str, folder: Path, seconds: float
) -> Counter[str]:
    """Run all clients and the nemesis until the time is up and everything that was begun has been answered."""
    await _create_chats(Http(stage, "creator", http, token))
    kafka = stack.document["kafka"]
    follower = LogFollower(stage, kafka, "log-reader")
    listener = ReplyListener(kafka, partition=0)
    hostile = HostileProducer(stage, "hostile", kafka)
    nemesis = Nemesis(stack, folder, stage.seed, time.monotonic)
    streams = _streams(stage, stack)
    listening = [
        asyncio.create_task(follower.run()),
        asyncio.create_task(listener.run()),
        *(asyncio.create_task(stream.run()) for stream in streams),
    ]
    clients: list[asyncio.Task[None]] = [
        *(asyncio.create_task(HttpProducer(stage, f"http-{n}", http, token).run()) for n in range(HTTP_PRODUCERS)),
        asyncio.create_task(ComerAndGoer(stage, "comer", http, token).run()),
        asyncio.create_task(Founder(stage, "founder", http, token).run()),
        *(asyncio.create_task(HttpReader(stage, f"reader-{n}", http, token).run()) for n in range(READERS)),
        asyncio.create_task(KafkaProducer(stage, "kafka-log", kafka, follower).run()),
        asyncio.create_task(KafkaProducer(stage, "kafka-reply", kafka, listener).run()),
        asyncio.create_task(hostile.run()),
    ]
    breaking = asyncio.create_task(nemesis.run())
    everybody = {breaking, *clients, *listening}
    try:
        # No task ends before the run does, not even by cancellation, which FIRST_EXCEPTION would not notice.
        done, _ = await asyncio.wait(everybody, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            raise AssertionError(f"{task} ended before the run did")
        nemesis.stop()
        await breaking
        stage.closing.set()
        await asyncio.gather(*clients)
        await _repeat_all(stage, Http(stage, "repeater", http, token))
        await until_quiet(
            kafka, stack.document["postgres"], TopicNames().commands, TopicNames().events, stage.partitions,
            QUIET_TIMEOUT_S,
        )  # fmt: skip
        await asyncio.sleep(1.0)  # so that the log reader, too, gets the last records
        for stream in streams:
            await stream.finish()
    finally:
        nemesis.stop()
        for task in everybody:
            task.cancel()
        await asyncio.gather(*everybody, return_exceptions=True)
        nemesis.close()
    return nemesis.counts


def _streams(stage: Stage, stack: RunningStack) -> list[CuttingReader]:
    """Return readers of all chats of three users, of whom one comes and goes, and one of a single chat."""

    def reader(client: str, user: str, chat_id: str | None = None) -> CuttingReader:
        return CuttingReader(stage, client, stack.api_url, lambda: stack.token(user), user, chat_id)

    return [
        reader("live-creator", stage.creator),
        reader("live-user", stage.users[1]),
        reader("live-comer", stage.comer),
        reader("live-chat", stage.users[2], stage.chats[0]),
    ]


async def _create_chats(creator: Http) -> None:
    stage = creator.stage
    for n, chat in enumerate(stage.chats):
        wanted = {"kind": "group", "name": f"chat {n}", "members": stage.users[1:]}
        answer = await creator.command(
            "chat.create.v1", chat, stage.creator, f"create-{n}", wanted, "POST", "/v1/chats", wanted
        )
        # A machine under load may answer the first attempt too late; then the repeat is a duplicate.
        assert answer is not None and answer["http"] in PROMISES, answer  # noqa: PT018


async def _repeat_all(stage: Stage, client: Http) -> None:
    """Repeat sends at the end: a repeat still gets the original's figures."""
    sample = stage.rng("repeats").sample(stage.sent, min(REPEATS_AT_THE_END, len(stage.sent)))
    for start in range(0, len(sample), 10):
        await asyncio.gather(*(client.send(s.chat, s.sender, s.key, s.body) for s in sample[start : start + 10]))


async def _collect(stack: RunningStack, folder: Path, partitions: int) -> None:
    kafka = stack.document["kafka"]
    ends = await end_offsets(kafka, TopicNames().commands, partitions)
    write_records(folder / "commands.jsonl", await read_raw(kafka, TopicNames().commands, ends))
    write_records(folder / "events.jsonl", await read_topic(kafka, TopicNames().events, partitions))
    (folder / "tables.json").write_text(json.dumps(await read_tables(stack.document["postgres"])))


def _said(folder: Path, events: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the services' logs with one of these events, with the log's name."""
    for path in [*sorted((folder / "d" / "logs").glob("*.log")), *sorted(folder.glob("guest-*.log"))]:
        if path.name.startswith(("kafka", "postgres")):
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if any(f'"{event}"' in line for event in events):
                yield path.name, line


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="how long things are broken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the evidence goes; kept. Default: a temporary one")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge the evidence of an earlier run")
    return parser.parse_args()


def main() -> int:
    """Return the exit code: 0 if nothing is broken, else 1."""
    arguments = _arguments()
    if arguments.check is not None:
        report = check(read_evidence(arguments.check))
        for violation in report.violations:
            print(f"VIOLATION {violation}")
        print(f"violations {len(report.violations)}")
        return 1 if report.violations else 0
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="gapless-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"evidence in {folder}", file=sys.stderr)
    result = asyncio.run(run(folder, minutes=arguments.minutes, seed=arguments.seed))
    print("\n".join(result.lines()))
    if result.sound and arguments.folder is None:
        shutil.rmtree(folder)
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
