"""Apache Kafka in KRaft mode on one data folder: a cluster of one or three brokers on 127.0.0.1.

The folder contains cluster.json (cluster id, number of brokers, ports) and one folder per broker. Restarts reuse the
ports that are still free, so that clients' configurations stay valid.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Sequence
from pathlib import Path

from devstack.broker import START_SILENCE_S, STOP_SILENCE_S, Broker
from devstack.errors import FolderMismatchError
from devstack.folder import read_json, write_json
from devstack.jars import Progress, kafka_jars
from devstack.java import java_executable, server_options
from devstack.kafka_config import BrokerAddress
from devstack.kafka_security import KafkaSecurity
from devstack.ports import choose_ports
from devstack.together import all_of

BROKER_COUNTS = (1, 3)


class KafkaCluster:
    """A cluster on `folder`, created at the first start. The caller holds the folder (see stack.Stack).

    `brokers`: 1 (RF 1) or 3 (RF 3, min ISR 2). `security`: TLS, SASL and ACLs; without it, plain text and no ACLs; must
    be the same at each start on a folder. `cache_dir`: the folder for jars, by default `$GAPLESS_CACHE` or the user's
    cache folder. `progress` is called with a line of text from time to time during a download, from another thread.
    `jvm_options`: all options of the brokers' JVMs, by default those of java.server_options.
    """

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        security: KafkaSecurity | None = None,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
        jvm_options: Sequence[str] | None = None,
    ) -> None:
        if brokers not in BROKER_COUNTS:
            raise FolderMismatchError(f"The embedded Kafka has 1 broker or 3, not {brokers}: choose one of them.")
        self._folder = folder.absolute()
        self._count = brokers
        self._security = security
        self._cache_dir = cache_dir
        self._progress = progress
        self._jvm_options = jvm_options
        self._brokers: tuple[Broker, ...] = ()

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """The brokers by node id, from 1. Empty before the first start."""
        return self._brokers

    @property
    def tls_bootstrap_servers(self) -> str:
        """`host:port,…` of all brokers' listeners for clients with a certificate; only with security."""
        assert self._security is not None, "the cluster has no security"
        return ",".join(broker.tls_bootstrap_server for broker in self._brokers)

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,…` of all brokers, running or not."""
        assert self._brokers, "the cluster was never started"
        return ",".join(broker.bootstrap_server for broker in self._brokers)

    async def start(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Start all brokers and wait, without a limit, until each answers and lists all of them. Raises DevstackError,
        also if no broker shows a sign of life for `silence_s`; then nothing is left running."""
        java = java_executable()
        jars = await asyncio.to_thread(kafka_jars, self._cache_dir, progress=self._progress)
        cluster_id, addresses = await asyncio.to_thread(self._identity)
        jvm_options = server_options(java, jars) if self._jvm_options is None else self._jvm_options
        self._brokers = tuple(
            Broker(
                self._folder / f"broker-{address.node_id}",
                address,
                addresses,
                java=java,
                jars=jars,
                jvm_options=jvm_options,
                cluster_id=cluster_id,
                security=self._security,
                ready_ids=self._ready_ids,
            )
            for address in addresses
        )
        everyone = {address.node_id for address in addresses}
        try:
            await all_of(*(broker.spawn() for broker in self._brokers))
            # Brokers wait for another one that reads its log, so only the silence of all of them counts.
            watches = [broker.watch(silence_s) for broker in self._brokers]
            await all_of(*(broker.wait_ready(everyone, watches) for broker in self._brokers))
        except BaseException:
            await all_of(*(broker.kill() for broker in self._brokers))
            raise

    async def stop(self, *, silence_s: float = STOP_SILENCE_S) -> bool:
        """Stop all brokers concurrently. Returns whether each ended without SIGKILL."""
        return all(await all_of(*(broker.stop(silence_s=silence_s) for broker in self._brokers)))

    def _ready_ids(self) -> set[int]:
        return {broker.node_id for broker in self._brokers if broker.is_ready}

    def _identity(self) -> tuple[str, tuple[BrokerAddress, ...]]:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "cluster.json"
        earlier = read_json(path)
        if earlier is not None and earlier["brokers"] != self._count:
            raise FolderMismatchError(
                f"{self._folder} was made for {earlier['brokers']} broker(s), not {self._count}: start it with "
                f"{earlier['brokers']}, or choose another data folder."
            )
        if earlier is not None and bool(earlier.get("secure")) != (self._security is not None):
            made = "with" if earlier.get("secure") else "without"
            raise FolderMismatchError(
                f"{self._folder} was made {made} TLS and passwords: start it {made} them, or choose another folder."
            )
        cluster_id = new_cluster_id() if earlier is None else str(earlier["cluster_id"])
        each = 2 if self._security is None else 3
        ports = choose_ports(each * self._count, wanted=None if earlier is None else earlier["ports"])
        # After a crash after this line, the next start formats the brokers' folders with this id.
        secure = self._security is not None
        write_json(path, {"cluster_id": cluster_id, "brokers": self._count, "ports": ports, "secure": secure})
        addresses = tuple(
            BrokerAddress(
                node_id=place + 1,
                port=ports[each * place],
                controller_port=ports[each * place + 1],
                tls_port=ports[each * place + 2] if self._security is not None else None,
            )
            for place in range(self._count)
        )
        return cluster_id, addresses


def new_cluster_id() -> str:
    """Return a random UUID in Kafka's 22 characters of base64, without a leading hyphen, which looks like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text
