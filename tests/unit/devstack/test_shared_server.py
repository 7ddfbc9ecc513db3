"""Workers of one test run share a server, and it stops after the last of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.shared_server import shared


def test_the_first_starts_the_server_and_stops_it_after_the_last_has_left(tmp_path: Path) -> None:
    happened: list[str] = []
    second_is_in, first_leaves = threading.Event(), threading.Event()

    @contextmanager
    def server() -> Iterator[str]:
        happened.append("started")
        yield "127.0.0.1:1"
        happened.append("stopped")

    def first() -> None:
        with shared(tmp_path, "server", server) as address:
            happened.append(f"first at {address}")
            second.start()
            assert second_is_in.wait(60)
            first_leaves.set()

    def use() -> None:
        with shared(tmp_path, "server", server) as address:
            second_is_in.set()
            assert first_leaves.wait(60)
            happened.append(f"second at {address}")

    second = threading.Thread(target=use)
    first()
    second.join()
    assert happened == ["started", "first at 127.0.0.1:1", "second at 127.0.0.1:1", "stopped"]
    with shared(tmp_path, "server", server):
        assert happened[-1] == "started", "one that comes later starts its own"
