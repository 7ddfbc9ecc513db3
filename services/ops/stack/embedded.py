"""The embedded stack: real servers, topics, and every service as a process of its own.

    stack = EmbeddedStack(StackPlan(data_dir=Path(".gapless")))
    await stack.start()          # returns when every service is ready
    stack.api_url, stack.pids
    await stack.stop()

The data folder: lock (held while it runs), stack.json (while it runs and is ready), ports.json (kept, so that addresses
do not change), jwt-secret, logs/<process>.log, state/ (disposable), kafka/, postgres/.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from pydantic import TypeAdapter

from services.ops.demo_page.settings import DEMO_PATH
from services.ops.errors import OpsError
from services.ops.stack.address import STACK_FILE, without_security
from services.ops.stack.children import Server, Service
from services.ops.stack.secret import stack_secret
from services.ops.stack.supervisor import ProcessSupervisor
from services.ops.topics import create_and_check
from services.runtime.health.health import Trouble
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from devstack.errors import FolderTakenError
    from devstack.life import Watch
    from devstack.stack import Stack
    from services.ops.stack.security import StackSecurity

HOST: Final = "127.0.0.1"
READY_SILENCE_S: Final = 120.0
"""A limit on silence, not on the total time: a sequencer may have to fold a long log first (see devstack/life.py)."""
POLL_INTERVAL_S: Final = 0.05
ASK_TIMEOUT_S: Final = 15.0
MAX_EARLY_DEATHS: Final = 3
"""A child that dies this often before it was ever ready will not recover by itself."""
PORTS_FILE: Final = "ports.json"
EMBEDDED_DEFAULTS: Final = {
    "GAPLESS_DEMO_PAGE": "true",
    "GAPLESS_LOG_FORMAT": "json",
}

OnStep = Callable[[str], None]
"""Callback for the current step, in a few words."""


def taken(folder: Path) -> FolderTakenError | None:
    """Return the error that a start on this folder would raise now, or None."""
    from devstack.errors import FolderTakenError
    from devstack.folder import FolderLock

    if not folder.is_dir():
        return None
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except FolderTakenError as error:
        return error
    lock.release()
    return None


def _security(folder: Path) -> StackSecurity:
    from services.ops.stack.security import StackSecurity

    return StackSecurity(folder)


class StackFailed(OpsError):
    """The stack did not start. The message says which part failed, and where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPlan:
    """The processes to run, and their folder."""

    data_dir: Path
    brokers: int = 1
    sequencers: int = 2
    projectors: int = 1
    ingests: int = 1
    """Number of processes of ingest and query on the one port."""
    secure: bool = False
    """Whether to use TLS, users and least rights everywhere (see security.py)."""

    @property
    def services(self) -> dict[str, str]:
        """Return process name → its command."""
        counts = {"sequencer": self.sequencers, "projector": self.projectors, "api": self.ingests}
        return {f"{command}-{n}": command for command, count in counts.items() for n in range(1, count + 1)}


class EmbeddedStack:
    """A stack on one data folder. Use it once: `start`, then `stop`, even after a failed start."""

    def __init__(self, plan: StackPlan, *, on_step: OnStep = lambda _step: None) -> None:
        from devstack.stack import Stack

        self.plan = plan
        self._on_step = on_step
        self._folder = plan.data_dir.absolute()
        self._security = _security(self._folder) if plan.secure else None
        self._servers: Stack = Stack(
            self._folder,
            brokers=plan.brokers,
            security=self._security.kafka if self._security is not None else None,
            postgres_certificate=self._security.postgres_certificate if self._security is not None else None,
            progress=on_step,
        )
        self._supervisor = ProcessSupervisor(self._write)
        self._services: dict[str, Service] = {}
        self._ports: dict[str, int] = {}
        self._secret = ""
        self._holds_folder = False
        self._ready = False
        self.troubles: dict[str, str] = {}
        """Process name → its trouble at the start of the stack, if it is not ready and an operator has to act."""

    @property
    def api_url(self) -> str:
        """The URL of ingest and query; restarts keep it while the port is free."""
        return self._url("api")

    @property
    def pids(self) -> dict[str, int]:
        """Process name → pid."""
        return self._supervisor.pids

    @property
    def restarts(self) -> dict[str, int]:
        """Process name → number of restarts."""
        return self._supervisor.restarts

    @property
    def ops_urls(self) -> dict[str, str]:
        """Process name of a service → base URL of its /readyz and /metrics."""
        return {name: self._url(name) for name in self.plan.services}

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """The certificates that HTTP clients of this stack trust; `verify` of httpx."""
        return self._security.verify() if self._security is not None else True

    def _url(self, name: str) -> str:
        return f"{'http' if self._security is None else 'https'}://{HOST}:{self._ports[name]}"

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return self._servers.bootstrap_servers

    @property
    def postgres(self) -> str:
        """The DSN, with a password; for a secure stack, as the owner of the read model."""
        if self._security is not None:
            return self._security.owner_dsn(self._servers)
        return self._servers.postgres_dsn

    @property
    def demo_url(self) -> str | None:
        """The URL of the demo page, or None if it is not served."""
        served = TypeAdapter(bool).validate_python(self.environment()["GAPLESS_DEMO_PAGE"])
        return f"{self.api_url}{DEMO_PATH}" if served else None

    def document(self) -> dict[str, Any]:
        """Return the content of stack.json."""
        return {
            "api_url": self.api_url,
            "kafka": self.kafka,
            "postgres": self.postgres,
            "processes": self.pids,
            "ops_urls": self.ops_urls,
            "supervisor": os.getpid(),
            "partitions": self.settings().partitions,
            "replication_factor": self.settings().replication_factor,
            "security": self._security.kafka_variables("ops") if self._security is not None else {},
            "ca": str(self._security.ca) if self._security is not None else None,
            "data_dir": str(self._folder),
        }

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Return the variables of a service of this stack, or of any `gapless` command that uses it."""
        ours = {
            "GAPLESS_KAFKA_BOOTSTRAP": self.kafka,
            "GAPLESS_KAFKA_REPLICATION_FACTOR": "3" if self.plan.brokers == 3 else "1",
            "GAPLESS_POSTGRES_DSN": self.postgres,
            "GAPLESS_SEQUENCER_STATE_DIR": str(self._folder / "state" / "sequencer"),
            "GAPLESS_HTTP_HOST": HOST,
            "GAPLESS_HTTP_PORT": str(self._ports["api"]),
            "GAPLESS_HTTP_REUSE_PORT": "true",
        }
        if "GAPLESS_JWT_JWKS_URL" not in os.environ:
            ours["GAPLESS_JWT_SECRET"] = self._secret
        if name is not None:
            ours["GAPLESS_OPS_PORT"] = str(self._ops_port(name))
        if self._security is not None:
            ours |= self._security.variables(self._servers, self.plan.services[name] if name is not None else None)
        return {**EMBEDDED_DEFAULTS, **without_security(os.environ), **ours}

    async def start(self) -> None:
        """Start everything and wait until every service is ready, or waits for an operator: see `troubles`.

        Raises StackFailed, and DevstackError from the servers; call `stop` even then.
        """
        self._on_step("Kafka and Postgres are starting")
        if taken(self._folder) is None:
            # Left by a supervisor that was killed: programs that wait for the file must not get dead addresses.
            (self._folder / STACK_FILE).unlink(missing_ok=True)
        await self._servers.start()
        self._holds_folder = True
        self._link_logs()
        self._choose_ports()
        self._secret = os.environ.get("GAPLESS_JWT_SECRET") or stack_secret(self._folder)
        await self._supervisor.start(
            Server("postgres", self._servers.postgres),
            *(Server(f"kafka-{broker.node_id}", broker) for broker in self._servers.kafka.brokers),
        )
        if self._security is not None:
            self._on_step("rights are being granted")
            await self._security.prepare(self._servers)
        self._on_step("topics are being created and checked")
        await self._create_topics()
        self._on_step(f"{len(self.plan.services)} services are starting")
        self._services = {name: self._service(name, command) for name, command in self.plan.services.items()}
        await self._supervisor.start(*self._services.values())
        await self._wait_ready()
        self._ready = True
        self._write()

    async def stop(self) -> None:
        """Stop everything in order: the API, then sequencers and projectors, then the servers."""
        services = self.plan.services
        await self._supervisor.stop(
            [name for name, command in services.items() if command == "api"],
            [name for name, command in services.items() if command != "api"],
        )
        if self._holds_folder:
            self._ready = False
            (self._folder / STACK_FILE).unlink(missing_ok=True)
        await self._servers.stop()  # releases the folder, last of all

    def _service(self, name: str, command: str) -> Service:
        return Service(
            name,
            command,
            folder=self._folder,
            log_path=self._logs / f"{name}.log",
            environment=lambda: self.environment(name),
        )

    def settings(self, service: str = "ops") -> KafkaSettings:
        """Return settings as the services will read them; for a secure stack, with the rights of that service."""
        copies = 3 if self.plan.brokers == 3 else 1
        if self._security is not None:
            return self._security.settings(self._servers, service, replication_factor=copies)
        return KafkaSettings(bootstrap_servers=self.kafka, replication_factor=copies)

    async def _create_topics(self) -> None:
        """Create the topics. Retries while the brokers work: on a busy machine a new broker may answer late."""
        from devstack.life import is_silent

        watches = [broker.watch(READY_SILENCE_S) for broker in self._servers.kafka.brokers]
        while True:
            try:
                await create_and_check(self.settings("admin"))
            except KafkaUnavailable:
                if is_silent(watches):
                    raise
            else:
                return

    async def _wait_ready(self) -> None:
        """Poll all services until all are ready in one round.

        Raises StackFailed with the last reasons of the others if neither they nor Postgres, which they may wait for,
        show a sign of life.
        """
        from devstack.life import is_silent

        waiting: dict[str, Trouble] = dict.fromkeys(self.plan.services, Trouble("it was not asked yet"))
        postgres = self._servers.postgres.watch(READY_SILENCE_S)
        watches: dict[int, Watch] = {}
        async with httpx.AsyncClient(timeout=ASK_TIMEOUT_S, trust_env=False, verify=self.verify) as client:
            while not all(trouble.needs_operator for trouble in waiting.values()):
                watched = [self._watch(watches, name) for name in waiting]
                if is_silent([postgres, *(watch for watch in watched if watch is not None)]):
                    said = "; ".join(f"{name}: {trouble.sentence}" for name, trouble in waiting.items())
                    raise StackFailed(
                        f"Not everything is ready, and nothing has moved for {READY_SILENCE_S:.0f} s ({said}): see the"
                        f" logs in {self._logs}."
                    )
                await asyncio.sleep(POLL_INTERVAL_S)
                before = waiting
                waiting = {}
                for name in self.plan.services:
                    self._refuse_to_wait_for_the_dying(name)
                    trouble = await self._trouble(client, name)
                    if trouble is not None:
                        waiting[name] = trouble
                if waiting and waiting.keys() != before.keys():
                    self._on_step(f"waiting for {', '.join(waiting)}")
        # To act, an operator needs the running processes: the other partitions, Kafka and Postgres.
        self.troubles = {name: trouble.sentence for name, trouble in waiting.items()}

    def _watch(self, watches: dict[int, Watch], name: str) -> Watch | None:
        """Return a watch of a service's current process; None during a restart."""
        service = self._services[name]
        if service.pid is None:
            return None
        if service.pid not in watches and (watch := service.watch(READY_SILENCE_S)) is not None:
            watches[service.pid] = watch
        return watches.get(service.pid)

    async def _trouble(self, client: httpx.AsyncClient, name: str) -> Trouble | None:
        """Return None if the service is ready, else why not."""
        try:
            answer = await client.get(f"{self._url(name)}/readyz")
        except httpx.TransportError:
            return Trouble("it does not answer yet")
        if answer.status_code == httpx.codes.OK:
            return None
        said = answer.json()
        reasons: list[str] = said.get("reasons", [])
        lasting = bool(reasons) and said.get("needs_operator") == reasons
        return Trouble(" ".join(reasons) or f"it answers {answer.status_code}", needs_operator=lasting)

    def _refuse_to_wait_for_the_dying(self, name: str) -> None:
        from devstack.process import tail

        if self.restarts.get(name, 0) >= MAX_EARLY_DEATHS:
            log_path = self._logs / f"{name}.log"
            raise StackFailed(f"{name} does not stay alive. Last lines of {log_path}:\n{tail(log_path)}")

    def _choose_ports(self) -> None:
        from devstack.folder import read_json
        from devstack.ports import choose_ports

        earlier = read_json(self._folder / PORTS_FILE) or {}
        for name in ("api", *self.plan.services):
            [port] = choose_ports(1, wanted=[earlier[name]] if name in earlier else None)
            while port in self._ports.values():
                [port] = choose_ports(1)
            self._ports[name] = port
        self._write_json(PORTS_FILE, {**earlier, **self._ports})

    def _ops_port(self, name: str) -> int:
        """Choose a port at each start, so that another program on the old one cannot keep the service down."""
        from devstack.ports import choose_ports

        [port] = choose_ports(1, wanted=[self._ports[name]])
        self._ports[name] = port
        return port

    @property
    def _logs(self) -> Path:
        return self._folder / "logs"

    def _link_logs(self) -> None:
        """Link the servers' logs, which are next to their data, under their process names."""
        self._logs.mkdir(exist_ok=True)
        servers: dict[str, Path] = {"postgres": self._servers.postgres.log_path}
        servers |= {f"kafka-{broker.node_id}": broker.log_path for broker in self._servers.kafka.brokers}
        for name, log_path in servers.items():
            link = self._logs / f"{name}.log"
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(log_path, self._logs))

    def _write(self) -> None:
        """Write stack.json after each start of a process, but only once the stack is ready: readers rely on it."""
        if self._ready:
            self._write_json(STACK_FILE, self.document())

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        from devstack.folder import write_json

        write_json(self._folder / name, dict(value), mode=0o600)
