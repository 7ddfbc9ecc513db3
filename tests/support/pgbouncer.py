"""PgBouncer in front of the tests' Postgres, with its own defaults; Debian's package is `pgbouncer`.

with pgbouncer(dsn, pool_mode="transaction") as through: ...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from devstack.ports import choose_ports

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
START_TIMEOUT_S = 60.0
needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="PgBouncer is not installed; `apt-get install pgbouncer` lets these tests run"
)


@contextmanager
def pgbouncer(dsn: str, *, pool_mode: str, **settings: object) -> Iterator[str]:
    """Yield the DSN of the same database through a PgBouncer with its default settings except these."""
    assert PROGRAM is not None
    parts = conninfo_to_dict(dsn)
    [port] = choose_ports(1)
    with tempfile.TemporaryDirectory(prefix="gapless-pgbouncer-") as name:
        folder = Path(name)
        config = folder / "pgbouncer.ini"
        server = " ".join(f"{key}={parts[key]}" for key in ("host", "port", "user", "password"))
        lines = [
            "[databases]", f"* = {server}",
            "[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir =",
            "auth_type = any", f"pool_mode = {pool_mode}",
            *(f"{key} = {value}" for key, value in settings.items()),
        ]  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        # It refuses to run as root, and reads its settings after it has changed to another user.
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        folder.chmod(0o755)
        log = (folder / "log").open("wb")
        process = subprocess.Popen([PROGRAM, *account, str(config)], stdout=log, stderr=subprocess.STDOUT)
        try:
            through = f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}"
            _wait_for(through, process, folder / "log")
            yield through
        finally:
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()


def _wait_for(dsn: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=3).close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.03)
        else:
            return
