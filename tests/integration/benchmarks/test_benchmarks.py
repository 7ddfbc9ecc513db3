"""Each benchmark runs once at a tiny size, so that none can rot.

Nothing is timed. The checks are that the work was done, and that the result has the parts that programs and the page
rely on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from benchmarks.load import pgbench
from benchmarks.load.conversations import chats_of, is_repeat, message_body, repeats_among, sends
from benchmarks.load.http_load import Generator, get, host_of
from benchmarks.load.lag import Ages
from benchmarks.load.open_loop import Latencies
from benchmarks.report import report, svg
from benchmarks.run import (
    depth,
    history,
    ingest,
    live,
    live_fanout,
    projector,
    reactions,
    receipts,
    recovery,
    search,
    sequencer,
    snapshot,
    stages,
    sync,
    unread,
    verify,
)
from benchmarks.servers.ground import Ground
from schemas.commands import parse_body

RUNS: Mapping[str, Callable[[Ground], Awaitable[Any]]] = {
    "sequencer": lambda ground: sequencer.run(
        sequencer.Options(commands=400, chats=8, rounds=1, baseline_stored=100, baseline_s=1, latency_s=1), ground
    ),
    "stages": lambda ground: stages.run(stages.Options(commands=400, chats=8, rounds=1), ground),
    "ingest": lambda ground: ingest.run(
        ingest.Options(sends=100, chats=8, connections=4, rounds=1, latency_per_s=50, latency_s=1, batches=1), ground
    ),
    "projector": lambda ground: projector.run(projector.Options(commands=400, chats=8, rounds=1), ground),
    "live": lambda ground: live.run(live.Options(sends=6, chats=8, baseline_s=1), ground),
    "live_fanout": lambda ground: live_fanout.run(
        live_fanout.Options(streams=100, seconds=1, ladder=(5,), missed=3, idle=100, warm_up_s=1, idle_s=1.0), ground
    ),
    "history": lambda ground: history.run(
        history.Options(requests=40, alone=10, chats=3, messages=60, rounds=1, baseline_s=1), ground
    ),
    "unread": lambda ground: unread.run(
        unread.Options(unread=100, members=20, requests=20, rounds=1, baseline_s=1), ground
    ),
    "sync": lambda ground: sync.run(
        sync.Options(chats=(5, 20), messages=60, requests=20, rounds=1, baseline_s=1), ground
    ),
    "reactions": lambda ground: reactions.run(
        reactions.Options(reactions=(0, 5, 10), messages=60, requests=20, rounds=1, baseline_s=1), ground
    ),
    "search": lambda ground: search.run(
        search.Options(
            messages=2_000,
            chats=20,
            mine=4,
            words=50_000,
            requests=10,
            asked_of_baseline=2,
            asked_by_ilike=1,
            indexed=100,
            arrivals_per_s=80,
            arrivals_s=2,
        ),
        ground,
    ),
    "recovery": lambda ground: recovery.run(recovery.Options(commands=400, chats=8, rounds=1), ground),
    "snapshot": lambda ground: snapshot.run(
        snapshot.Options(commands=400, tail=40, chats=8, rounds=1, state=2_000), ground
    ),
    "receipts": lambda ground: receipts.run(receipts.Options(members=20, marks_per_s=10, seconds=3), ground),
    "depth": lambda ground: depth.run(depth.Options(commands=900, chats=8, early_after=100, window=300), ground),
    "verify": lambda ground: verify.run(verify.Options(commands=400, chats=8, rounds=1), ground),
}
EACH = {"baseline", "ratio", "machine"}
PARTS: Mapping[str, set[str]] = {
    "sequencer": {"commands_per_s", "cpu_us_per_command", "p50_ms", "p99_ms"},
    "stages": {"parts", "cpu_us_per_command"},
    "ingest": {"commands_per_s", "cpu_us_per_command", "p50_ms", "p99_ms"},
    "projector": {"events_per_s", "cpu_us_per_event"},
    "live": {"p50_ms", "p99_ms"},
    "live_fanout": {"one_chat", "hundred_chats", "returned_s", "idle_kib"},
    "history": {"requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms"},
    "unread": {"requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms"},
    "sync": {"p50_ms", "p99_ms", "readers", "flatness"},
    "reactions": {"pages", "flatness"},
    "search": {"p50_ms", "p95_ms", "indexed_per_s", "index_mb", "lags"},
    "recovery": {"events_per_s", "cpu_us_per_event"},
    "verify": {"events_per_s", "cpu_us_per_event"},
    "snapshot": {"from_start_s", "from_word_s", "installed_s", "snapshot_mb", "pauses"},
    "receipts": {"p50_ms", "p99_ms", "undecided", "unprojected"},
    "depth": {"commands_per_s", "cpu_us_per_command", "memory_mb"},
}


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def ground(kafka: str, postgres: str, tmp_path: Path) -> Ground:
    return Ground(kafka, postgres, tmp_path, broker_pid=None, postgres_pid=None)


def test_all_benchmarks_are_run_here() -> None:
    assert RUNS.keys() == PARTS.keys() == set(report.NAMES)


@pytest.mark.proof
@pytest.mark.parametrize("name", report.NAMES)
async def test_a_benchmark_does_its_work_and_tells_its_figures(name: str, ground: Ground, tmp_path: Path) -> None:
    figures = json.loads(json.dumps(asdict(await RUNS[name](ground))))
    assert figures.keys() >= EACH | PARTS[name]
    assert all(figures[part] is not None for part in EACH | PARTS[name])
    report.write(tmp_path / "results", {name: figures})
    assert report.read(tmp_path / "results") == {name: figures}
    page = report.update(f"before\n{report.BEGIN}\nwhat was\n{report.END}\nafter\n", {name: figures})
    assert page.startswith(f"before\n{report.BEGIN}\n### ")
    assert page.endswith(f"{report.END}\nafter\n")
    assert "what was" not in page


@pytest.mark.proof
async def test_a_benchmark_whose_work_is_not_done_fails(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "repeats_among", lambda count: repeats_among(count) + 1)
    monkeypatch.setattr(sequencer, "COUNTED_WITHIN_S", 0.5)
    with pytest.raises(RuntimeError, match="the outcomes are"):
        await sequencer.run(sequencer.Options(commands=200, chats=4, rounds=1, only="hot_chat", baseline=False), ground)


def test_sends_are_the_same_each_time_and_two_of_a_hundred_are_repeats() -> None:
    chats = chats_of(1, 4, 5)
    records = list(sends(chats, 1_000))
    assert records == list(sends(chats, 1_000))
    assert len(records) - len({(record.key, record.headers[1]) for record in records}) == repeats_among(1_000) == 20
    assert sum(is_repeat(number) for number in range(250)) == repeats_among(250)


def test_a_body_has_the_length_that_is_named() -> None:
    for number in (0, 7, 1_000_000):
        assert len(message_body(number)) == 250
        parse_body("message.send.v1", message_body(number))


async def test_pgbench_runs_for_longer_if_no_transaction_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    async def run(_dsn: str, _script: Path, *, seconds: int, **_others: object) -> tuple[list[float], str]:
        asked.append(seconds)
        return ([], "no rate") if len(asked) < 3 else ([0.1], "tps = 10.0 (without initial connection time)")

    monkeypatch.setattr(pgbench, "_run", run)
    found = await pgbench.pgbench("postgresql://", tmp_path / "script", clients=1, seconds=1)
    assert (asked, found.per_s) == ([1, 2, 4], 10.0)


def test_percentiles_are_those_of_the_waits() -> None:
    found = Latencies.of([n / 1_000 for n in range(1_000, 0, -1)], 10)
    assert (found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms) == (501.0, 991.0, 1000.0, 1000.0)


def test_the_lag_is_the_age_of_the_oldest_record_that_is_not_in() -> None:
    ages = Ages()
    for at_s, end in ((1.0, 10), (2.0, 10), (3.0, 15), (4.0, 20)):
        ages.saw_end(at_s, end)
    assert [ages.age_s(5.0, position) for position in (0, 9, 10, 14, 15, 19, 20)] == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.0]
    ages.forget_before(15)
    assert [ages.age_s(6.0, position) for position in (15, 20)] == [2.0, 0.0]


@asynccontextmanager
async def server_that_stalls(stall_s: float) -> AsyncIterator[str]:
    """Run a server that answers at once, except for the very first request. Yields its URL."""
    stalls = [stall_s]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                if stalls:
                    await asyncio.sleep(stalls.pop())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_what_is_due_while_the_server_stalls_is_late_from_the_moment_it_was_due() -> None:
    async with server_that_stalls(0.5) as url, Generator.started() as generator:
        requests = [get(host_of(url), f"/{number}", "token") for number in range(40)]
        answers = await generator.ask(url, requests, connections=1, per_s=100)
    assert answers.statuses == {200: 40}
    # Request n was due n hundredths of a second after the first, and none was answered within half a second of that.
    assert all(wait_s >= 0.5 - number / 100 for number, wait_s in enumerate(answers.waits_s))


async def test_a_closed_loop_asks_each_request_once_and_another_status_is_an_error() -> None:
    async with server_that_stalls(0.0) as url, Generator.started() as generator:
        answers = await generator.ask(url, [get(host_of(url), "/", "token")] * 50, connections=3)
    assert answers.statuses == {200: 50}
    assert all(wait_s > 0 for wait_s in answers.waits_s)
    answers.require(200)
    with pytest.raises(RuntimeError, match="200: 50"):
        answers.require(201)


def test_pictures_are_well_formed() -> None:
    drawn = [
        svg.bars("a < b", [svg.Panel(title="t & u", bars=[svg.Bar(label="x", value=0, ours=True)])]),
        svg.percentiles("p", [svg.Line(label="l", points=[(0, 0.0), (50, 1.5), (100, 80)])]),
    ]
    for text in drawn:
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.proof
def test_a_benchmark_that_is_told_to_end_leaves_no_process_behind(tmp_path: Path) -> None:
    words = ("bench", "sequencer", "--only", "latency", "--latency-s", "600")
    in_background = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")  # as a shell starts a job: with SIGINT ignored
    command = [*in_background, sys.executable, "-P", "-m", "services.ops", *words]
    with (tmp_path / "said").open("wb") as said:
        benchmark = psutil.Popen(command, stdout=said, stderr=said)
    started: set[psutil.Process] = set()
    try:
        deadline = time.monotonic() + 120.0
        while not any("sequencer" in _words(process)[-1:] for process in started):
            assert benchmark.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
            started.update(benchmark.children(recursive=True))
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(240.0) != 0
        _, alive = psutil.wait_procs(list(started), timeout=60.0)
        assert [_words(process) for process in alive] == []
    finally:
        for process in (benchmark, *started):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
