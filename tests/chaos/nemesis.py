"""The faults of a chaos run: two sequences, one for the services and one for the servers, each drawn from the seed.

Every fault is written to faults.jsonl with its time, so that a violation can be compared with what happened then. Each
fault is undone when it is over, even if the run is interrupted in the middle of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from devstack.process import Launch, ServerProcess
from tests.chaos.kafka_clients import TROUBLES, in_time
from tests.support.running_stack import RunningStack

SESSION_TIMEOUT_S: Final = 3.0
"""Session timeout of the embedded stack's consumer groups; brokers have the same."""
ISR_TIMEOUT_S: Final = 120.0
Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """Injects faults until it is stopped; `counts` has the number of each."""

    def __init__(self, stack: RunningStack, folder: Path, seed: int, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._folder = folder
        self._clock = clock
        self._stop = asyncio.Event()
        self._log = (folder / "faults.jsonl").open("w", encoding="utf-8", buffering=1)
        self._services_rng = random.Random(f"{seed}/services")
        self._servers_rng = random.Random(f"{seed}/servers")
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Run until `stop`, then undo the current fault and wait for that."""
        names = self._stack.document["processes"]
        self._sequencers = [name for name in names if name.startswith("sequencer")]
        self._services = [name for name in names if name.startswith(("sequencer", "projector", "api"))]
        self._brokers = [name for name in names if name.startswith("kafka")]
        await asyncio.gather(
            self._hand(self._services_rng, self._faults_of_services(), 0.5, 3.0),
            self._hand(self._servers_rng, self._faults_of_servers(), 3.0, 9.0),
        )

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._log.close()

    async def _hand(
        self, rng: random.Random, faults: list[tuple[int, Fault]], shortest_s: float, longest_s: float
    ) -> None:
        weights, choices = [weight for weight, _ in faults], [fault for _, fault in faults]
        while not self._stop.is_set():
            await self._wait(rng.uniform(shortest_s, longest_s))
            if not self._stop.is_set():
                await rng.choices(choices, weights)[0]()

    async def _wait(self, timeout_s: float) -> None:
        """Wait until the time is up or `stop` is called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._stop.wait()

    def _note(self, fault: str, **others: Any) -> None:
        self.counts[fault] += 1
        self._write({"s": self._clock(), "fault": fault, **others})

    def _write(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps(line) + "\n")

    # --- services -------------------------------------------------------------------------------------------------

    def _faults_of_services(self) -> list[tuple[int, Fault]]:
        return [
            (5, self._kill_one),
            (1, self._kill_all_sequencers),
            (4, self._stall_one_past_its_session),
            (2, self._stall_one_briefly),
            (2, self._stall_a_sequencer_again_and_again),
            (2, self._ask_a_sequencer_to_stop),
            (2, self._stall_one_sequencer_and_kill_another),
            (2, self._delete_state),
            (1, self._bring_old_state_back),
            (2, self._sequencer_comes_and_goes),
            (1, self._projector_comes_and_goes),
        ]

    async def _kill_one(self) -> None:
        await self._kill(self._services_rng.choice(self._services), "kill")

    async def _kill_all_sequencers(self) -> None:
        await asyncio.gather(*(self._kill(name, "kill") for name in self._sequencers))

    async def _stall_one_past_its_session(self) -> None:
        seconds = self._services_rng.uniform(SESSION_TIMEOUT_S + 1, SESSION_TIMEOUT_S + 5)
        with self._stalled(self._services_rng.choice(self._services), "stall", seconds):
            await self._wait(seconds)

    async def _stall_one_briefly(self) -> None:
        seconds = self._services_rng.uniform(0.1, SESSION_TIMEOUT_S / 2)
        with self._stalled(self._services_rng.choice(self._services), "stall", seconds):
            await self._wait(seconds)

    async def _stall_a_sequencer_again_and_again(self) -> None:
        """Stall a sequencer for about as long as its standby waits: slow but alive, so it is replaced sometimes."""
        name, rng = self._services_rng.choice(self._sequencers), self._services_rng
        for _ in range(rng.randint(2, 6)):
            seconds = rng.uniform(0.4, 1.2)
            with self._stalled(name, "short_stall", seconds):
                await self._wait(seconds)
            await self._wait(rng.uniform(0.1, 1.0))

    async def _ask_a_sequencer_to_stop(self) -> None:
        """Stop a sequencer, which hands over to its standby, and wait until it is back."""
        name = self._services_rng.choice(self._sequencers)
        pid = self._pid(name)
        if pid is not None:
            self._note("stop", process=name, pid=pid)
            _send(pid, signal.SIGTERM)
            await self._stack.until(lambda: self._pid(name) != pid, f"{name} stops when asked", 30.0)
        await self._back(name)

    async def _stall_one_sequencer_and_kill_another(self) -> None:
        """Leave the group without a live member for a while; then the zombie and a new process return at once."""
        zombie, victim = self._services_rng.sample(self._sequencers, 2)
        with self._stalled(zombie, "stall", SESSION_TIMEOUT_S + 2):
            await self._kill(victim, "kill")
            await self._wait(SESSION_TIMEOUT_S + 2)

    async def _delete_state(self) -> None:
        """Delete state folders while no process holds them: a running RocksDB is never touched."""
        for name in self._sequencers:
            await self._kill(name, "kill", wait=False)
        for slot in self._free_slots():
            self._note("state_deleted", slot=slot.name)
            shutil.rmtree(slot)
        await self._all_back()

    async def _bring_old_state_back(self) -> None:
        """Restore older state folders, as on a machine that was restored from a backup: valid, but old."""
        for name in self._sequencers:
            await self._kill(name, "kill", wait=False)
        for slot in self._free_slots():
            backup = self._folder / "backups" / slot.name
            if backup.exists():
                self._note("old_state", slot=slot.name)
                shutil.rmtree(slot)
                shutil.move(backup, slot)
            else:
                shutil.copytree(slot, backup)
        await self._all_back()

    def _free_slots(self) -> Iterator[Path]:
        """Yield state folders that no process holds; none can take one while it is yielded."""
        root = self._stack.folder / "state" / "sequencer"
        for lock_path in sorted(root.glob("slot-*.lock")):
            lock = os.open(lock_path, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                slot = lock_path.with_suffix("")
                if slot.is_dir():
                    yield slot
            except BlockingIOError:
                continue
            finally:
                os.close(lock)

    async def _sequencer_comes_and_goes(self) -> None:
        await self._guest("sequencer", {"GAPLESS_SEQUENCER_STATE_DIR": str(self._folder / "guest-state")})

    async def _projector_comes_and_goes(self) -> None:
        await self._guest("projector", {})

    async def _guest(self, command: str, environment: dict[str, str]) -> None:
        """Add one process to the group for a while: two rebalances."""
        number = self._services_rng.choice([signal.SIGTERM, signal.SIGKILL])
        launch = Launch(
            name=f"guest-{command}",
            command=[sys.executable, "-P", "-m", "services.ops", command],
            log_path=self._folder / f"guest-{command}.log",
            environment={
                **os.environ, **self._stack.environment, **environment, "GAPLESS_LOG_FORMAT": "json",
                "GAPLESS_KAFKA_REPLICATION_FACTOR": "3", "GAPLESS_KAFKA_SESSION_TIMEOUT_S": f"{SESSION_TIMEOUT_S:g}",
            },
            folder=Path.cwd(),
        )  # fmt: skip
        self._note("rebalance", by=command, ends=number.name)
        guest = await ServerProcess.spawn(launch)
        try:
            await self._wait(self._services_rng.uniform(4.0, 12.0))
        finally:
            await guest.stop(number=number, timeout_s=15.0)

    # --- servers --------------------------------------------------------------------------------------------------

    def _faults_of_servers(self) -> list[tuple[int, Fault]]:
        return [
            (4, self._kill_a_broker),
            (2, self._stall_a_broker),
            (3, self._kill_postgres),
            (1, self._stall_postgres),
        ]

    async def _kill_a_broker(self) -> None:
        await self._kill(self._servers_rng.choice(self._brokers), "broker_kill")
        await self._until_in_sync()

    async def _stall_a_broker(self) -> None:
        """Stall a broker past its controller session: it returns and believes that it leads what others lead now."""
        seconds = self._servers_rng.uniform(SESSION_TIMEOUT_S + 1, SESSION_TIMEOUT_S + 4)
        with self._stalled(self._servers_rng.choice(self._brokers), "broker_stall", seconds):
            await self._wait(seconds)
        await self._until_in_sync()

    async def _kill_postgres(self) -> None:
        await self._kill("postgres", "postgres_kill")

    async def _stall_postgres(self) -> None:
        seconds = self._servers_rng.uniform(2.0, 6.0)
        with self._stalled("postgres", "postgres_stall", seconds):
            await self._wait(seconds)

    async def _until_in_sync(self) -> None:
        """Wait until every partition is on all its brokers again: the next fault must not take a second copy."""
        began_s, whole = time.monotonic(), 0
        while whole < 3:  # in a row: a broker that has just returned may report an old state
            if time.monotonic() - began_s > ISR_TIMEOUT_S:
                raise TimeoutError(f"the brokers did not get in sync within {ISR_TIMEOUT_S:g} s")
            whole = whole + 1 if await in_sync(self._stack.document["kafka"]) else 0
            await asyncio.sleep(0.3)
        self._write({"s": self._clock(), "in_sync_after_s": round(time.monotonic() - began_s, 3)})

    # --- signals --------------------------------------------------------------------------------------------------

    def _pid(self, name: str) -> int | None:
        """Return the id of the live process of that name if it is still the stack's own child: ids are reused."""
        pid = int(self._stack.document["processes"][name])
        try:
            process = psutil.Process(pid)
            ours = process.ppid() == self._stack.process.pid and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return pid if ours else None

    async def _kill(self, name: str, fault: str, *, wait: bool = True) -> None:
        pid = self._pid(name)
        if pid is not None:
            self._note(fault, process=name, pid=pid)
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)  # the supervisor notices
        if wait:
            await self._back(name)

    async def _back(self, name: str) -> None:
        await self._stack.until(lambda: self._pid(name) is not None, f"{name} is started again", 120.0)

    async def _all_back(self) -> None:
        for name in self._sequencers:
            await self._back(name)

    @contextmanager
    def _stalled(self, name: str, fault: str, seconds: float) -> Iterator[None]:
        pid = self._pid(name)
        pids = [] if pid is None else [pid, *(c.pid for c in psutil.Process(pid).children(recursive=True))]
        if pid is not None:
            self._note(fault, process=name, pid=pid, seconds=round(seconds, 1))
        try:
            for each in pids:
                _send(each, signal.SIGSTOP)
            yield
        finally:
            for each in pids:
                _send(each, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def in_sync(kafka: str) -> bool:
    """Return whether every partition of every topic has all its replicas in sync, according to one broker."""
    try:
        async with _admin(kafka) as admin:
            topics = await in_time(5.0, admin.describe_topics())
    except TROUBLES:
        return False
    partitions = [partition for topic in topics for partition in topic["partitions"]]
    return bool(partitions) and all(len(p["isr"]) == len(p["replicas"]) for p in partitions)


@asynccontextmanager
async def _admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, request_timeout_ms=4_000)
    try:
        await in_time(5.0, admin.start())
        yield admin
    finally:
        with contextlib.suppress(*TROUBLES):
            await in_time(3.0, admin.close())
