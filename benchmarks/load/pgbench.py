"""PostgreSQL's own load generator: C, prepared statements, no more than what a bare client must do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load.open_loop import Latencies
from devstack.postgres import postgres_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """The result of one run of a script. Closed loop: each client waits for its response before it continues."""

    per_s: float
    latencies: Latencies


async def pgbench(
    dsn: str, script: Path, *, clients: int, seconds: int, variables: Mapping[str, str] | None = None
) -> Transactions:
    """Run the script repeatedly, and for longer if no transaction ended in that time. Raises RuntimeError if pgbench
    fails."""
    waits, output = await _run(dsn, script, clients=clients, seconds=seconds, variables=variables or {})
    while not waits:  # pgbench states no rate then
        seconds *= 2
        waits, output = await _run(dsn, script, clients=clients, seconds=seconds, variables=variables or {})
    tps = next(line for line in output.splitlines() if line.startswith("tps = "))
    rate = float(tps.split()[2])
    return Transactions(per_s=round(rate, 1), latencies=Latencies.of(waits, round(rate)))


async def _run(
    dsn: str, script: Path, *, clients: int, seconds: int, variables: Mapping[str, str]
) -> tuple[list[float], str]:
    """Return the times of the transactions, in seconds, and what pgbench printed."""
    address = urlsplit(dsn)
    with tempfile.TemporaryDirectory(prefix="pgbench-") as folder:
        process = await asyncio.create_subprocess_exec(
            str(postgres_programs() / "pgbench"),
            *("-h", str(address.hostname), "-p", str(address.port), "-U", str(address.username)),
            *("-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds), "-f", str(script)),
            *(part for name, value in variables.items() for part in ("-D", f"{name}={value}")),
            *("-l", f"--log-prefix={folder}/tx", address.path[1:]),
            env={"PGPASSWORD": str(address.password), "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"pgbench failed: {errors.decode()[-1000:]}")
        # The third column of a transaction's line is its time in microseconds.
        waits = [
            int(line.split(" ", 3)[2]) / 1e6
            for path in Path(folder).glob("tx.*")
            for line in path.read_text().splitlines()
        ]
    return waits, output.decode()
