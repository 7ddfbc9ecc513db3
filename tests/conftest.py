"""Fixtures of all tests: one real Kafka for a run, one PostgreSQL for each worker of it (see tests/support/stack.py).

Tests share the servers and keep apart by their own topic names and by `database`.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from devstack.java import OPTIONS_VARIABLE
from tests.support import examples, stack
from tests.support.shared_server import shared

# A broker of a test lives for seconds: the optimising compiler costs more CPU than it saves.
os.environ.setdefault(OPTIONS_VARIABLE, "-XX:TieredStopAtLevel=1")

# A shell starts background jobs with SIGINT ignored, and children inherit that: none of them could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.load_profile(examples.SOME_EXAMPLES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of properties, so that `make proofs` can run them again with all their examples."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.examples)


def pytest_collection_finish() -> None:
    """Exempt from garbage collection what was collected: a million objects that live as long as the process.

    Scanning them again and again was a fifth of the CPU of the tests in this process.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process configures logging, onto a stream that ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka, one for all workers."""
    base = tmp_path_factory.getbasetemp()
    of_the_run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared(of_the_run, "kafka", stack.kafka_server) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """DSN of a real PostgreSQL, as superuser."""
    with stack.postgres_server() as dsn:
        yield dsn


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """DSN of an empty database of this test's own."""
    with stack.fresh_database(postgres) as dsn:
        yield dsn
