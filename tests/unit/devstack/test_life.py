"""Slow is not dead: a server is given up only when it shows no sign of life."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.kafka_config import BrokerAddress, server_properties
from devstack.life import WORKING_BYTES, WORKING_SHARE, Pulse, Vitals, Watch, is_silent
from devstack.postgres import LOG_NOISE
from devstack.process import Launch, ServerProcess

LIMIT_S = 60.0
NOTHING = Vitals(lines=0, cpu_s=0.0, moved_bytes=0)
BUSY = "while True: pass"
IDLE = "import time; time.sleep(600)"


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text("[2026-01-01 10:00:00,001] INFO what an earlier run said\n")
    return path


def say(log: Path, *lines: str) -> None:
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


@given(
    st.lists(st.tuples(st.floats(0.0, LIMIT_S * 0.99), st.sampled_from(["lines", "cpu_s", "moved_bytes"])), max_size=50)
)
def test_whoever_works_or_has_news_within_the_limit_is_waited_for_however_long(steps: list[tuple[float, str]]) -> None:
    pulse, seen, now_s = Pulse(LIMIT_S, 0.0), NOTHING, 0.0
    more = {"lines": 1, "cpu_s": WORKING_SHARE * LIMIT_S * 1.01, "moved_bytes": WORKING_BYTES}
    for pause_s, what in steps:
        now_s += pause_s
        seen = replace(seen, **{what: getattr(seen, what) + more[what]})
        assert pulse.look(seen, now_s) == 0.0
        assert pulse.look(seen, now_s + LIMIT_S * 0.99) <= LIMIT_S


def test_whoever_only_waits_uses_too_little_to_count_as_working() -> None:
    pulse, idle_share = Pulse(LIMIT_S, 0.0), 0.04
    silent_s = [pulse.look(replace(NOTHING, cpu_s=idle_share * now_s), float(now_s)) for now_s in range(1, 62)]
    assert silent_s[-1] > LIMIT_S


def test_work_done_before_is_not_counted_again_and_the_end_of_a_child_is_no_work() -> None:
    pulse = Pulse(LIMIT_S, 0.0)
    assert pulse.look(Vitals(lines=5, cpu_s=30.0, moved_bytes=10), 10.0) == 0.0
    assert pulse.look(Vitals(lines=5, cpu_s=2.0, moved_bytes=10), 20.0) == 10.0  # a child ended, and its share with it
    assert pulse.look(Vitals(lines=5, cpu_s=2.0, moved_bytes=10), 71.0) > LIMIT_S
    assert pulse.look(Vitals(lines=5, cpu_s=2.0 + WORKING_SHARE * LIMIT_S, moved_bytes=10), 72.0) == 0.0


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[psutil.Process]:
    yield from child(tmp_path, IDLE)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[psutil.Process]:
    yield from child(tmp_path, BUSY)


def child(folder: Path, program: str) -> Iterator[psutil.Process]:
    launch = Launch(
        name="child",
        command=[sys.executable, "-I", "-S", "-c", program],
        log_path=folder / "output",
        environment=dict(os.environ),
        folder=folder,
    )
    process = asyncio.run(ServerProcess.spawn(launch))
    try:
        yield psutil.Process(process.pid)
    finally:
        asyncio.run(process.kill())


def test_a_log_that_says_something_new_is_a_sign_of_life_and_one_that_repeats_itself_is_none(
    log: Path, idle: psutil.Process
) -> None:
    clock = Clock()
    watch = Watch(idle.pid, log, silence_s=LIMIT_S, clock=clock)
    for news in ("loading", "recovering", "catching up"):
        clock.now_s += LIMIT_S * 0.9
        say(log, f"[2026-01-01 10:{clock.now_s:.0f}] INFO {news} in {clock.now_s} ms")
        assert not is_silent([watch])
    for _ in range(7):
        clock.now_s += LIMIT_S * 0.15
        say(log, f"[2026-01-01 10:{clock.now_s:.0f}] INFO loading in {clock.now_s} ms")
        watch.silent_s()
    assert is_silent([watch])


def test_what_postgres_has_come_to_is_news_and_our_own_knocking_is_none(log: Path, idle: psutil.Process) -> None:
    clock = Clock()
    watch = Watch(idle.pid, log, silence_s=LIMIT_S, noise=LOG_NOISE, clock=clock)
    for second in range(10, 70, 10):
        clock.now_s += LIMIT_S * 0.9
        at = f"2026-11-30 06:59:{second}.123 UTC [{1000 + second}]"
        say(log, f"{at} LOG:  redo in progress, elapsed time: {second}.00 s, current LSN: 0/3A{second}B8")
        assert not is_silent([watch])
    for second in range(10, 20):
        clock.now_s += LIMIT_S * 0.15
        at = f"2026-11-30 07:59:{second}.123 UTC [{2000 + second}]"
        say(log, f"{at} FATAL:  the database system is starting up")
        watch.silent_s()
    assert is_silent([watch])


def test_a_process_that_computes_is_alive_without_a_word_and_one_that_is_stopped_is_not(
    log: Path, busy: psutil.Process
) -> None:
    clock, limit_s = Clock(), 1.0
    watch = Watch(busy.pid, log, silence_s=limit_s, clock=clock)
    for _ in range(3):
        used_s = busy.cpu_times().user
        until(lambda: busy.cpu_times().user >= used_s + 2 * WORKING_SHARE * limit_s)  # noqa: B023 - called at once
        clock.now_s += 10 * limit_s
        assert watch.silent_s() == 0.0
    busy.send_signal(signal.SIGSTOP)
    until(lambda: busy.status() == psutil.STATUS_STOPPED)
    clock.now_s += limit_s
    watch.silent_s()
    clock.now_s += 1.1 * limit_s
    assert is_silent([watch])


def test_who_waits_for_another_is_not_given_up_while_that_one_works(
    log: Path, idle: psutil.Process, tmp_path: Path
) -> None:
    clock, other = Clock(), tmp_path / "other.log"
    waiting = Watch(idle.pid, log, silence_s=LIMIT_S, clock=clock)
    working = Watch(idle.pid, other, silence_s=LIMIT_S, clock=clock)
    clock.now_s += LIMIT_S * 1.5
    say(other, "recovering")
    assert not is_silent([waiting, working])
    clock.now_s += LIMIT_S * 1.5
    assert is_silent([waiting, working])


def test_no_request_between_brokers_has_a_deadline_that_a_busy_machine_misses() -> None:
    one = BrokerAddress(node_id=1, port=11000, controller_port=12000)
    properties = server_properties(one, (one,))
    # Kafka uses the interval as the deadline of each request to the controller.
    assert int(properties["broker.heartbeat.interval.ms"]) >= 2000
    assert int(properties["broker.session.timeout.ms"]) >= 3 * int(properties["broker.heartbeat.interval.ms"])
    # Nor does a broker give up by itself: its signs of life decide that.
    assert int(properties["initial.broker.registration.timeout.ms"]) >= 24 * 3600 * 1000


def until(met: object) -> None:
    assert callable(met)
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)
