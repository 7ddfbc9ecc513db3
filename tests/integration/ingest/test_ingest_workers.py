"""`gapless ingest` as several processes behind one port, on a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import psutil

from devstack.ports import choose_ports
from services.ingest.settings import IngestProcessSettings, IngestSettings
from services.ops.processes.ingest_workers import worker_environments
from services.runtime.access.auth import mint_token
from services.runtime.settings import AuthSettings, HttpSettings
from tests.support.ingest_api import SECRET, kafka_settings
from tests.support.sequencing import ANNA, Scene, until

HEADERS = {"Authorization": f"Bearer {mint_token(SECRET, ANNA)}", "Prefer": "wait=20"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    process: asyncio.subprocess.Process
    url: str
    ops_urls: tuple[str, ...]

    @property
    def children(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return children

    async def each_ready(self) -> None:
        deadline = time.monotonic() + 60
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            for url in self.ops_urls:
                while True:
                    try:
                        if (await client.get(f"{url}/readyz")).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    assert self.process.returncode is None, "it ended before it was ready"
                    assert time.monotonic() < deadline, f"{url} does not get ready"
                    await asyncio.sleep(0.05)

    async def appended(self) -> list[float]:
        """Return the number of commands that each worker appended."""
        name = 'gapless_ingest_commands_appended_total{command_type="message.send.v1"} '
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            pages = [(await client.get(f"{url}/metrics")).text for url in self.ops_urls]
        lines = [[line for line in page.splitlines() if line.startswith(name)] for page in pages]
        return [float(found[0].removeprefix(name)) if found else 0.0 for found in lines]


def two_ports_in_a_row() -> int:
    """Return the first of two consecutive free ports."""
    while True:
        [first] = choose_ports(1)
        if choose_ports(2, wanted=[first, first + 1]) == [first, first + 1]:
            return first


@asynccontextmanager
async def ingest_workers(scene: Scene) -> AsyncIterator[Workers]:
    """Run two workers until they are ready; kill what is left of them at the end."""
    [port] = choose_ports(1)
    ops_port = two_ports_in_a_row()
    kafka = kafka_settings(scene)
    settings = {
        "GAPLESS_INGEST_WORKERS": "2",
        "GAPLESS_KAFKA_BOOTSTRAP": kafka.bootstrap_servers,
        "GAPLESS_KAFKA_PARTITIONS": str(kafka.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(kafka.reply_partitions),
        "GAPLESS_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "GAPLESS_JWT_SECRET": SECRET,
        "GAPLESS_HTTP_PORT": str(port),
        "GAPLESS_OPS_PORT": str(ops_port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "services.ops", "ingest", env=os.environ | settings
    )
    ops_urls = tuple(f"http://127.0.0.1:{ops_port + n}" for n in range(2))
    workers = Workers(process=process, url=f"http://127.0.0.1:{port}", ops_urls=ops_urls)
    children: list[psutil.Process] = []
    try:
        await workers.each_ready()
        children = workers.children
        yield workers
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for child in children:
            if child.is_running():
                child.kill()


def test_workers_share_the_port_and_each_gets_its_own_answers(kafka: str) -> None:
    """Forty connections at once: the chance that all of them reach one worker is 2 in 2^40."""

    async def main() -> None:
        async with (
            asyncio.timeout(120),
            Scene.on(kafka, partitions=1) as scene,
            scene.writer(0),
            ingest_workers(scene) as workers,
        ):
            async with httpx.AsyncClient(base_url=workers.url, timeout=60, trust_env=False, verify=False) as client:
                created = await client.post(
                    "/v1/chats", json={"kind": "group", "name": "Ops room"}, headers=HEADERS | {"Idempotency-Key": "c"}
                )
            path = f"/v1/chats/{created.json()['chat_id']}/messages"

            async def send(number: int) -> int:
                async with httpx.AsyncClient(base_url=workers.url, timeout=60, trust_env=False, verify=False) as own:
                    answer = await own.post(
                        path, json={"text": "Hi"}, headers=HEADERS | {"Idempotency-Key": f"k-{number}"}
                    )
                assert answer.status_code == 201, answer.text
                seq: int = answer.json()["seq"]
                return seq

            seqs = await asyncio.gather(*(send(number) for number in range(40)))
            assert sorted(seqs) == list(range(1, 41))
            appended = await workers.appended()
            assert sum(appended) == 40
            assert min(appended) > 0, "both of them serve"
            workers.process.terminate()
            assert await workers.process.wait() == 0

    asyncio.run(main())


def test_when_a_worker_dies_all_end_and_when_the_first_process_is_killed_the_workers_go(kafka: str) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), Scene.on(kafka, partitions=1) as scene:
            async with ingest_workers(scene) as workers:
                one, other = workers.children
                one.send_signal(signal.SIGKILL)
                assert await workers.process.wait() == 1
                assert not other.is_running()
            async with ingest_workers(scene) as workers:
                children = workers.children
                workers.process.kill()
                await until(
                    lambda: not any(child.is_running() and child.status() != "zombie" for child in children),
                    "workers whose parent is gone stop by themselves",
                )

    asyncio.run(main())


def test_each_worker_listens_on_a_reply_partition_and_an_ops_port_of_its_own() -> None:
    settings = IngestProcessSettings(
        ingest=IngestSettings(workers=4), auth=AuthSettings(secret=SECRET), http=HttpSettings(ops_port=9000)
    )
    environments = worker_environments(settings, 8080)
    assert len({environment["GAPLESS_INGEST_REPLY_PARTITION"] for environment in environments}) == 4
    assert [environment["GAPLESS_OPS_PORT"] for environment in environments] == ["9000", "9001", "9002", "9003"]
    assert {environment["GAPLESS_INGEST_WORKERS"] for environment in environments} == {"1"}
