"""One holder per data folder, and ports that are reused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest

from devstack.errors import FolderTakenError
from devstack.folder import FolderLock, read_json, write_json
from devstack.ports import EPHEMERAL_START, LOWEST_PORT, choose_ports, is_free

ROOT = Path(__file__).parents[3]


def test_the_second_holder_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(FolderTakenError) as refusal:
        FolderLock(tmp_path).acquire()
    assert f"in use by process {os.getpid()} (" in str(refusal.value)
    assert "stop that one first, or choose another data folder" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    lock.release()
    second = FolderLock(tmp_path)
    second.acquire()
    second.release()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from devstack.folder import FolderLock
        lock = FolderLock(Path(sys.argv[1]))
        lock.acquire()
        print("held", flush=True)
        time.sleep(600)
    """)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderTakenError, match=f"process {holder.pid} "):
            FolderLock(tmp_path).acquire()
    finally:
        holder.kill()
        holder.wait()
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_json_file_is_read_back_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_json(path) is None
    write_json(path, {"port": 1})
    assert read_json(path) == {"port": 1}
    path.write_text("{")
    assert read_json(path) is None
    assert [found.name for found in tmp_path.iterdir()] == ["state.json"]


def test_ports_are_kept_where_free_and_exchanged_where_taken() -> None:
    first = choose_ports(3)
    assert len(set(first)) == 3
    with socket.create_server(("127.0.0.1", first[1])):
        assert not is_free(first[1])
        second = choose_ports(3, wanted=first)
    assert second[0] == first[0]
    assert second[2] == first[2]
    assert second[1] not in first


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    assert all(LOWEST_PORT <= port < EPHEMERAL_START for port in choose_ports(20))


CHOOSES_AND_WAITS = """
import sys
from devstack import ports
ports.random.randrange = lambda *_: int(sys.argv[1])
print(ports.choose_ports(1), flush=True)
sys.stdin.read()
"""


def test_processes_that_start_servers_at_once_choose_different_ports() -> None:
    """Nothing listens on a port yet when the second process looks whether it is free."""
    [chosen] = choose_ports(1)
    first, second, *_ = (port for port in range(chosen + 1, chosen + 500) if is_free(port))
    with subprocess.Popen(
        [sys.executable, "-c", CHOOSES_AND_WAITS, str(first)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert json.loads(other.stdout.readline()) == [first]
        with mock.patch("devstack.ports.random.randrange", side_effect=[first, second]):
            assert choose_ports(1) == [second]
        other.communicate(b"")
    with mock.patch("devstack.ports.random.randrange", side_effect=[first]):
        assert choose_ports(1) == [first], "the lock ended with the process"
