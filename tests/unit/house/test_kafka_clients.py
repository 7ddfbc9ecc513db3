"""Every Kafka client is opened with a KafkaConnection; one that is not would lack TLS and SASL."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CLIENTS = {
    "AIOKafkaAdminClient",
    "AIOKafkaClient",
    "AIOKafkaConnection",
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
    "create_conn",
}
OPTIONS = {"client_options", "security_options"}
MODULES = sorted(path for folder in ("services", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def clients_in(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS:
            yield node


def is_secured(client: ast.Call) -> bool:
    spread = [keyword.value for keyword in client.keywords if keyword.arg is None]
    return any(
        isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in OPTIONS
        for value in spread
    )


def test_every_client_of_kafka_takes_its_connection_from_one_home() -> None:
    found = {path: list(clients_in(ast.parse(path.read_text(encoding="utf-8")))) for path in MODULES}
    assert sum(map(len, found.values())) >= 10, "clients are looked for by the wrong names"
    bare = [
        f"{path.relative_to(ROOT)}:{client.lineno}"
        for path, clients in found.items()
        for client in clients
        if not is_secured(client)
    ]
    assert not bare, "clients that were opened without KafkaConnection.client_options()"


@pytest.mark.parametrize(
    ("code", "secured"),
    [
        ("AIOKafkaProducer(**kafka.client_options(), acks='all')", True),
        ("AIOKafkaProducer(bootstrap_servers=servers)", False),
        ("AIOKafkaConsumer(**options)", False),
    ],
)
def test_a_client_with_addresses_alone_is_found(code: str, secured: bool) -> None:
    [client] = clients_in(ast.parse(code))
    assert is_secured(client) is secured
