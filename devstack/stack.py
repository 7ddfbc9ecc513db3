"""Real Kafka and real PostgreSQL on one data folder: started together, stopped together, used by one process.

    async with Stack(Path("data"), brokers=1) as stack:
        ...  # stack.bootstrap_servers, stack.postgres_dsn, stack.kafka.brokers[0].kill()

The folder: lock (names its holder), kafka/, postgres/. Everything in it survives stop, kill and restart.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.broker import START_SILENCE_S, STOP_SILENCE_S
from devstack.certificates import Certificate
from devstack.errors import FolderMismatchError
from devstack.folder import FolderLock
from devstack.jars import Progress
from devstack.kafka import KafkaCluster
from devstack.kafka_security import KafkaSecurity
from devstack.postgres import PostgresServer
from devstack.together import all_of


class Stack:
    """Both servers on `data_dir`, which is created if necessary. Nothing runs before `start`.

    `brokers`, `security`, `cache_dir` and `progress` are those of KafkaCluster. The handles `kafka` and `postgres`
    stop, kill and restart single servers while the stack runs.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        brokers: int = 1,
        security: KafkaSecurity | None = None,
        postgres_certificate: Certificate | None = None,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.kafka = KafkaCluster(
            self.data_dir / "kafka", brokers=brokers, security=security, cache_dir=cache_dir, progress=progress
        )
        self.postgres = PostgresServer(self.data_dir / "postgres", certificate=postgres_certificate)
        self._lock = FolderLock(self.data_dir)

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,…` of all brokers."""
        return self.kafka.bootstrap_servers

    @property
    def postgres_dsn(self) -> str:
        """postgresql:// URL of the database `gapless`, with a password: not for logs."""
        return self.postgres.dsn

    async def start(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Lock the folder, start both servers concurrently, and wait until both answer.

        There is no limit on the wait, unless a server shows no sign of life for `silence_s` (see life.py). Raises a
        DevstackError (FolderTakenError if another process holds the folder); then nothing is left running.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderMismatchError(
                f"Cannot make the data folder {self.data_dir} ({error.strerror}): choose another one."
            ) from error
        self._lock.acquire()
        try:
            await all_of(self.kafka.start(silence_s=silence_s), self.postgres.start(silence_s=silence_s))
        except BaseException:
            await self.stop()
            raise

    async def stop(self, *, silence_s: float = STOP_SILENCE_S) -> bool:
        """Stop both servers and release the folder. Returns whether every server ended without SIGKILL.

        May be called again, and after a failed start.
        """
        # Shielded: a second Ctrl-C while stopping must not leave a server behind that holds the data.
        stopping = asyncio.ensure_future(
            all_of(self.kafka.stop(silence_s=silence_s), self.postgres.stop(silence_s=silence_s))
        )
        try:
            ended = await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise
        finally:
            self._lock.release()
        return all(ended)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
