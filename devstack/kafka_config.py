"""The settings of the embedded Kafka: pure text, no files, no processes.

Settings that decide whether an acknowledged record can be lost are as in production (min ISR, no unclean election);
delays that only slow down a start are short.
"""

from __future__ import annotations

from dataclasses import dataclass

from devstack.kafka_security import KafkaSecurity
from devstack.ports import HOST

DATA_FOLDER = "data"

# Options of one JVM. Kafka idles at about 200 MB of heap; three brokers must fit on a laptop.
JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    # zstd, lz4 and snappy load native code; otherwise Java 24 and later warn about it at every start.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)

# For one-off commands, whose JVM ends before the optimising compiler pays off.
COMMAND_JVM_OPTIONS = (*JVM_OPTIONS, "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """The ports of one broker on 127.0.0.1: `port` for clients, `controller_port` for the quorum.

    A cluster with security also has `tls_port`, for clients with a certificate and between the brokers.
    """

    node_id: int
    port: int
    controller_port: int
    tls_port: int | None = None

    @property
    def ports(self) -> tuple[int, ...]:
        """Return all ports."""
        return tuple(port for port in (self.port, self.controller_port, self.tls_port) if port is not None)

    @property
    def for_clients(self) -> str:
        return f"{HOST}:{self.port}"


def replication(brokers: int) -> dict[str, str]:
    """Return the settings for the number of replicas, and how many must have a record before it is acknowledged."""
    factor = 3 if brokers >= 3 else 1
    min_isr = 2 if brokers >= 3 else 1
    return {
        "default.replication.factor": str(factor),
        "min.insync.replicas": str(min_isr),
        "offsets.topic.replication.factor": str(factor),
        "transaction.state.log.replication.factor": str(factor),
        "transaction.state.log.min.isr": str(min_isr),
        "share.coordinator.state.topic.replication.factor": str(factor),
        "share.coordinator.state.topic.min.isr": str(min_isr),
    }


def behaviour(brokers: int) -> dict[str, str]:
    """Return the settings that clients can observe; the tests' containers use the same."""
    return {
        **replication(brokers),
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        # So that a test sees a member leave within seconds.
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.num.partitions": "2",
    }


def listeners(node: BrokerAddress) -> dict[str, str]:
    """Return the settings of the listeners and their protocols: plain text if the node has no `tls_port`."""
    at = {"PLAINTEXT": node.port} if node.tls_port is None else {"SASL_SSL": node.port, "SSL": node.tls_port}
    for_clients = [f"{name}://{HOST}:{port}" for name, port in at.items()]
    names = {**{name: name for name in at}, "CONTROLLER": "PLAINTEXT" if node.tls_port is None else "SSL"}
    return {
        "listeners": ",".join([*for_clients, f"CONTROLLER://{HOST}:{node.controller_port}"]),
        "advertised.listeners": ",".join(for_clients),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in names.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT" if node.tls_port is None else "SSL",
    }


def server_properties(
    node: BrokerAddress, cluster: tuple[BrokerAddress, ...], *, security: KafkaSecurity | None = None
) -> dict[str, str]:
    """Return server.properties of a node that is broker and controller. With `security` it contains passwords."""
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        # Static voters, so that a restart may choose other ports: a dynamic quorum stores them in its log.
        "controller.quorum.voters": ",".join(f"{each.node_id}@{HOST}:{each.controller_port}" for each in cluster),
        **listeners(node),
        **(security.properties() if security is not None else {}),
        # Relative to the broker's own folder: Kafka splits this value at commas, which a path may contain.
        "log.dirs": DATA_FOLDER,
        **behaviour(len(cluster)),
        # The compaction buffer is 128 MB of heap by default, for the handful of offsets kept here.
        "log.cleaner.dedupe.buffer.size": "16777216",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        # After SIGKILL, a broker's partitions move, and the broker itself can register again, only after this time
        # (default 9 s).
        "broker.session.timeout.ms": "6000",
        # Not only an interval: Kafka also uses it as the deadline of each request from the broker to its controller,
        # and half of it for the controller's own work. Below a second or two a busy machine misses every deadline, and
        # the broker never registers.
        "broker.heartbeat.interval.ms": "2000",
        # After this time without a controller a broker exits (default 1 min). Here its parent decides how long to wait,
        # by its signs of life (life.py).
        "initial.broker.registration.timeout.ms": "86400000",
    }


def properties_text(properties: dict[str, str]) -> str:
    """Return the text for java.util.Properties. All values are plain ASCII: none is a path of the user's."""
    return "".join(f"{key}={value}\n" for key, value in properties.items())
