"""One Kafka broker (and controller) of the embedded cluster: format, start, readiness, stop, kill, restart.

Its folder: data/ (the logs of its partitions), server.properties, server.log (its output), process.json (its process,
so that the next start finds what a dead parent left behind), tmp/.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from devstack.certificates import Certificate
from devstack.errors import PortTakenError, ServerFailedError
from devstack.java import command_options
from devstack.kafka_config import (
    DATA_FOLDER,
    BrokerAddress,
    properties_text,
    server_properties,
)
from devstack.kafka_security import TRUST_STORE, KafkaSecurity
from devstack.life import Watch, is_silent
from devstack.ports import HOST, is_free
from devstack.process import Launch, ServerProcess, end_leftover, run

LOG_SETTINGS = Path(__file__).with_name("log4j2.properties")
# Limits on silence, not on the total time (see life.py).
FORMAT_SILENCE_S = 120.0
START_SILENCE_S = 120.0
STOP_SILENCE_S = 15.0
# A starting broker accepts connections long before it answers.
CALL_TIMEOUT_S = 15.0
FORMAT_ARGUMENTS = "format.args"
# Poll interval for a starting server.
POLL_INTERVAL_S = 0.05


class Broker:
    """A broker of a KafkaCluster, which creates it. `kill` and `restart` keep its data and its port."""

    def __init__(
        self,
        folder: Path,
        address: BrokerAddress,
        cluster: tuple[BrokerAddress, ...],
        *,
        java: Path,
        jars: Sequence[Path],
        jvm_options: Sequence[str],
        cluster_id: str,
        security: KafkaSecurity | None,
        ready_ids: Callable[[], set[int]],
    ) -> None:
        self._folder = folder
        self._address = address
        self._cluster = cluster
        self._java = java
        self._jars = jars
        self._jvm_options = jvm_options
        self._cluster_id = cluster_id
        self._security = security
        self._ready_ids = ready_ids
        self._process: ServerProcess | None = None
        self._is_ready = False

    @property
    def node_id(self) -> int:
        return self._address.node_id

    @property
    def bootstrap_server(self) -> str:
        """`127.0.0.1:port` of this broker; constant for the life of the cluster object."""
        return self._address.for_clients

    @property
    def tls_bootstrap_server(self) -> str:
        """`127.0.0.1:port` for clients with a certificate; only with security."""
        assert self._address.tls_port is not None, "the cluster has no security"
        return f"{HOST}:{self._address.tls_port}"

    @property
    def process(self) -> ServerProcess | None:
        """The running (or last) process: its `pid`, `wait()`, `is_running`. None before the first start."""
        return self._process

    @property
    def pid(self) -> int | None:
        """The process id, or None if it does not run."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has registered since its start."""
        return self.is_running and self._is_ready

    @property
    def log_path(self) -> Path:
        return self._folder / "server.log"

    async def spawn(self) -> None:
        """Format the storage folder if it is new, and start the server without waiting until it is ready."""
        assert not self.is_running, f"broker {self.node_id} runs already"
        self._is_ready = False
        await asyncio.to_thread(self._prepare)
        if not (self._folder / DATA_FOLDER / "meta.properties").exists():
            await self._format()
        for port in self._address.ports:
            if not is_free(port):
                raise self._port_taken(port)
        self._process = await ServerProcess.spawn(
            self._launch(f"kafka-{self.node_id}", "kafka.Kafka", "server.properties", options=self._jvm_options)
        )

    def watch(self, silence_s: float = START_SILENCE_S) -> Watch:
        """Start watching the process that `spawn` started for signs of life."""
        assert self._process is not None, "spawn comes first"
        return self._process.watch(silence_s)

    async def wait_ready(self, expected_ids: set[int], watches: Sequence[Watch]) -> None:
        """Wait until this broker answers the Kafka API and lists `expected_ids` as registered brokers.

        Raises ServerFailedError (with the last log lines) if it ends before that, or if all `watches`, of this broker
        and of those it waits for, see no sign of life.
        """
        process = self._process
        assert process is not None, "spawn comes first"
        while not expected_ids <= await self._known_brokers():
            if await process.wait(POLL_INTERVAL_S) is not None:
                raise self._ended_early(process)
            if is_silent(watches):
                raise process.failure(
                    f"Kafka broker {self.node_id} is not ready, and has shown no sign of life for "
                    f"{max(watch.silence_s for watch in watches):.0f} s: look at its log, give the machine more room, "
                    f"and start again."
                )
        self._is_ready = True

    async def _known_brokers(self) -> set[int]:
        if self._security is None:
            return await registered_brokers(self._address.port)
        assert self._address.tls_port is not None, "a cluster with security has it"
        return await registered_brokers(self._address.tls_port, certificate=self._security.certificate)

    async def start(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Start the broker and wait until it is registered together with the brokers that are ready."""
        await self.spawn()
        try:
            await self.wait_ready({self.node_id, *self._ready_ids()}, [self.watch(silence_s)])
        except BaseException:
            await self.kill()
            raise

    async def stop(self, *, silence_s: float = STOP_SILENCE_S) -> bool:
        """Send SIGTERM, and SIGKILL after `silence_s` without a sign of life. Returns whether it ended by itself or did
        not run."""
        if self._process is None:
            return True
        return await self._process.stop_patiently(number=signal.SIGTERM, silence_s=silence_s)

    async def kill(self) -> None:
        """Send SIGKILL: a crash of the process. Acknowledged data is in the page cache and survives."""
        if self._process is not None:
            await self._process.kill()

    async def restart(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Stop the broker if it runs, start it on the same data and port, and wait until it is registered."""
        await self.stop()
        await self.start(silence_s=silence_s)

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        end_leftover(self._folder / "process.json", number=signal.SIGTERM)
        # Native libraries are unpacked here, and a killed JVM leaves them behind.
        shutil.rmtree(self._folder / "tmp", ignore_errors=True)
        (self._folder / "tmp").mkdir()
        shutil.copyfile(LOG_SETTINGS, self._folder / "log4j2.properties")
        if self._security is not None:
            for name, content in self._security.key_stores().items():
                self._write_secret(name, content)
            shutil.copyfile(self._security.ca, self._folder / TRUST_STORE)
        properties = server_properties(self._address, self._cluster, security=self._security)
        self._write_secret("server.properties", properties_text(properties))

    def _write_secret(self, name: str, text: str) -> None:
        path = self._folder / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="ascii")

    async def _format(self) -> None:
        # A folder without meta.properties was never used by a broker, so no client's data is in it. After a crash in
        # here, the next start finds no such file and formats again.
        shutil.rmtree(self._folder / DATA_FOLDER, ignore_errors=True)
        command = ["kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", "server.properties"]
        if self._security is not None:
            # Through a file: every user of this machine may read the arguments of a process.
            arguments = "".join(f"{each}\n" for each in self._security.format_arguments())
            await asyncio.to_thread(self._write_secret, FORMAT_ARGUMENTS, arguments)
            command.append(f"@{FORMAT_ARGUMENTS}")
        options = command_options(self._java, self._jars)
        launch = self._launch(f"kafka-{self.node_id} format", *command, options=options)
        try:
            await run(launch, silence_s=FORMAT_SILENCE_S)
        finally:
            (self._folder / FORMAT_ARGUMENTS).unlink(missing_ok=True)

    def _launch(self, name: str, *arguments: str, options: Sequence[str]) -> Launch:
        command = [
            str(self._java),
            *options,
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            ":".join(str(jar) for jar in self._jars),
            *arguments,
        ]
        return Launch(
            name=name,
            command=command,
            log_path=self.log_path,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            folder=self._folder,
            record_path=self._folder / "process.json",
        )

    def failure(self, sentence: str) -> ServerFailedError:
        """Return an error with `sentence` and the last lines of this broker's log."""
        assert self._process is not None, "spawn comes first"
        return self._process.failure(sentence)

    def _ended_early(self, process: ServerProcess) -> Exception:
        for port in self._address.ports:
            if not is_free(port):
                return self._port_taken(port)
        return process.failure(
            f"Kafka broker {self.node_id} ended while starting (exit code {process.exit_code}): its log says "
            f"why; if the data folder is damaged, delete it and start again."
        )

    def _port_taken(self, port: int) -> PortTakenError:
        return PortTakenError(
            f"Port {port} of Kafka broker {self.node_id} is in use by another program: stop that program, or "
            f"stop the whole stack and start it again, then it chooses another port."
        )


async def registered_brokers(port: int, *, host: str = HOST, certificate: Certificate | None = None) -> set[int]:
    """Return the ids of the brokers that the one at `host`:`port` lists as registered; empty while it does not answer.

    With a certificate, the port uses mutual TLS.
    """
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    try:
        # The client logs every refused connection as an error, but while a server starts they are expected.
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CALL_TIMEOUT_S)
    except (OSError, TimeoutError):
        return set()
    writer.close()
    security: dict[str, object] = {}
    if certificate is not None:
        context = ssl.create_default_context(cafile=certificate.ca)
        context.load_cert_chain(certificate.cert, certificate.key)
        security = {"security_protocol": "SSL", "ssl_context": context}
    client = AIOKafkaClient(
        bootstrap_servers=f"{host}:{port}", request_timeout_ms=int(CALL_TIMEOUT_S * 1000), **security
    )
    try:
        await asyncio.wait_for(client.bootstrap(), CALL_TIMEOUT_S)
        return {known.nodeId for known in client.cluster.brokers()}
    except (KafkaError, OSError, TimeoutError):
        return set()
    finally:
        try:
            await asyncio.wait_for(client.close(), CALL_TIMEOUT_S)
        except TimeoutError:
            pass  # its sockets are closed with the object; nothing important was sent
