"""Real sequencer processes with a snapshot store.

One dies between its files and its manifest, one between a download and its installation, and a new machine continues
from a snapshot.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from schemas.bodies import MessageSend
from schemas.log import Verdict
from schemas.wire.encoding import ReplyTo
from tests.support.sequencer_process import SequencerProcess
from tests.support.sequencing import Chat, Scene

DEADLINE_S = 60.0
WHILE_IT_LASTS = {"GAPLESS_SEQUENCER_SNAPSHOT_EVERY_S": "0.2", "GAPLESS_SEQUENCER_SNAPSHOT_AHEAD": "1"}
ENOUGH = 500
"""Number of messages."""


def test_a_process_that_dies_with_half_a_snapshot_leaves_none(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = tmp_path / "store"
        settings = {"GAPLESS_SEQUENCER_SNAPSHOTS": store.as_uri(), **WHILE_IT_LASTS}
        async with Scene.on(kafka, partitions=1) as scene:
            chat = await scene.create("half")
            armed = {"GAPLESS_CRASH_AT": "snapshot.before_manifest"}
            async with SequencerProcess.on(scene, tmp_path, **settings, **armed) as victim:
                last = await _send(scene, chat, 0)
                assert await asyncio.wait_for(victim.process.wait(), DEADLINE_S) == -signal.SIGKILL
            files = set(store.glob("*/0/files/*"))
            assert files
            assert not list(store.glob("*/0/manifests/*")), "half a snapshot is none"
            async with SequencerProcess.on(scene, tmp_path, **settings) as successor:
                await successor.until_ready()
                last = await _send(scene, chat, 1)
                assert (await scene.outcome_of(chat.partition, last)).seq == 2
                await _until_manifest(store)
            assert files <= set(store.glob("*/0/files/*")), "what is young is left to lie"

    asyncio.run(main())


def test_a_machine_that_dies_after_a_download_looks_again_and_goes_on(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = tmp_path / "store"
        settings = {"GAPLESS_SEQUENCER_SNAPSHOTS": store.as_uri(), **WHILE_IT_LASTS}
        async with Scene.on(kafka, partitions=1) as scene:
            chat = await scene.create("new machine")
            first = tmp_path / "first"
            first.mkdir()
            async with SequencerProcess.on(scene, first, **settings) as owner:
                await owner.until_ready()
                sent = list(await asyncio.gather(*(_send(scene, chat, n) for n in range(ENOUGH))))
                for offset in (sent[0], sent[-1]):
                    await scene.outcome_of(chat.partition, offset)
                await _until_manifest(store, beyond=ENOUGH)
            machine = tmp_path / "second"
            machine.mkdir()
            armed = {"GAPLESS_CRASH_AT": "snapshot.downloaded"}
            async with SequencerProcess.on(scene, machine, **settings, **armed) as victim:
                assert await asyncio.wait_for(victim.process.wait(), DEADLINE_S) == -signal.SIGKILL
            slot = machine / "state" / "slot-0"
            assert list((slot / "snapshots").rglob("*.sst"))
            async with SequencerProcess.on(scene, machine, **settings) as newcomer:
                await newcomer.until_ready()
                assert "snapshot.installed" in newcomer.log_path.read_text(encoding="utf-8")
                assert not list((slot / "snapshots").rglob("*.sst")), "what was interrupted is gone"
                repeat = await _send(scene, chat, 0)
                assert (await scene.outcome_of(chat.partition, repeat)).type == "command.duplicate.v1"
                last = await _send(scene, chat, ENOUGH)
                assert (await scene.outcome_of(chat.partition, last)).seq == ENOUGH + 1
            valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
            assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))
            offsets = [e.stamp.command_offset for e in valid]
            assert offsets == sorted(set(offsets))

    asyncio.run(main())


async def _send(scene: Scene, chat: Chat, number: int) -> int:
    body = MessageSend(text=f"text {number}")
    return await scene.command(chat, "message.send.v1", body, key=f"m{number}", reply_to=ReplyTo(0, f"r{number}"))


async def _until_manifest(store: Path, beyond: int = 0) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not any(int(path.name.split("-")[0]) > beyond for path in store.glob("*/0/manifests/*")):
        assert time.monotonic() < deadline, "no snapshot was taken"
        await asyncio.sleep(0.05)
