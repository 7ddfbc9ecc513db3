"""Real sequencer processes that die, or are paused, at a named crash point; afterwards its guarantee is checked."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.bodies import MessageSend
from schemas.log import Verdict
from schemas.wire.encoding import ReplyTo
from services.runtime.process.crashpoints import declared_crash_points
from services.sequencer import app as _declares_the_seams
from tests.support.forked import Process, start_gapless
from tests.support.sequencing import Chat, LogEntry, Scene

SEAMS = [name for name in declared_crash_points() if name.startswith("sequencer.")]
DEADLINE_S = 40.0
assert _declares_the_seams


@asynccontextmanager
async def sequencer(
    scene: Scene, folder: Path, *, crash_at: str = "", session_timeout_s: float = 2.0
) -> AsyncIterator[Process]:
    """Run a `gapless sequencer` on the scene's topics, and kill it at the end in whatever state it is."""
    environment = {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": scene.kafka,
        "GAPLESS_KAFKA_TOPIC_PREFIX": scene.names.commands.removesuffix("chat.commands"),
        "GAPLESS_KAFKA_PARTITIONS": str(scene.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(scene.reply_partitions),
        "GAPLESS_SEQUENCER_STATE_DIR": str(folder),
        "GAPLESS_KAFKA_SESSION_TIMEOUT_S": str(session_timeout_s),
        "GAPLESS_CRASH_AT": crash_at,
    }
    process = await start_gapless("sequencer", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _send(scene: Scene, chat: Chat, key: str) -> int:
    body = MessageSend(text=f"text of {key}")
    return await scene.command(chat, "message.send.v1", body, key=key, reply_to=ReplyTo(0, key))


@pytest.mark.parametrize("seam", SEAMS)
def test_a_sequencer_killed_at_a_seam_answers_each_command_once(kafka: str, tmp_path: Path, seam: str) -> None:
    """The first append after the opening is the creation's; the third passage is in the middle of the sends."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("crash")
            passage = 1 if seam == "sequencer.opened" else 3
            async with sequencer(scene, tmp_path, crash_at=f"{seam}:{passage}") as victim:
                sent: list[int] = []
                deadline = time.monotonic() + DEADLINE_S
                while victim.returncode is None:
                    assert time.monotonic() < deadline, f"{seam} was never passed"
                    sent.append(await _send(scene, chat, f"m{len(sent)}"))
                    await asyncio.sleep(0.2)  # one command per append, so that passages can be counted
                assert victim.returncode == -signal.SIGKILL
            async with sequencer(scene, tmp_path):
                repeats = [await _send(scene, chat, f"m{n}") for n in range(len(sent))]
                for seq, (first, repeat) in enumerate(zip(sent, repeats, strict=True), start=1):
                    original = await scene.outcome_of(chat.partition, first)
                    assert (original.type, original.seq) == ("message.sent.v1", seq)
                    again = await scene.outcome_of(chat.partition, repeat)
                    assert again.type == "command.duplicate.v1"
            valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
            assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))
            by_offset = {e.stamp.command_offset: e for e in valid}
            for reply in await scene.replies(0):
                outcome = by_offset[reply.command_offset]
                assert (reply.index, reply.outcome) == (outcome.stamp.index, outcome.outcome.kind)

    asyncio.run(main())


def test_a_zombie_with_an_append_pending_writes_void_records_and_tells_nobody(kafka: str, tmp_path: Path) -> None:
    """Paused right before an append for longer than its session, and resumed when another process owns the
    partition.
    """

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("zombie")
            async with sequencer(scene, tmp_path, crash_at="sequencer.before_append:3:stop") as zombie:
                sent: list[int] = []
                deadline = time.monotonic() + DEADLINE_S
                while not _is_stopped(zombie.pid):
                    assert time.monotonic() < deadline, "the zombie never paused"
                    sent.append(await _send(scene, chat, f"m{len(sent)}"))
                    await asyncio.sleep(0.2)
                async with sequencer(scene, tmp_path) as successor:
                    for seq, offset in enumerate(sent, start=1):
                        assert (await scene.outcome_of(chat.partition, offset)).seq == seq
                    before = len(await scene.log(chat.partition))
                    os.kill(zombie.pid, signal.SIGCONT)
                    voids = await _voids_after(scene, chat, before)
                    assert {e.stamp.term for e in voids} == {1}, "the zombie wrote in its old term"
                    assert successor.returncode is None
                    assert zombie.returncode is None, "it finds out, lets go, and is of use again"
                    last = await _send(scene, chat, "after")
                    assert (await scene.outcome_of(chat.partition, last)).seq == len(sent) + 1
            told = [reply.command_offset for reply in await scene.replies(0)]
            assert len(told) == len(set(told)), "a command was answered twice"
            valid = {e.stamp.command_offset: e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID}
            for reply in await scene.replies(0):
                assert reply.seq == valid[reply.command_offset].outcome.seq

    asyncio.run(main())


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


async def _voids_after(scene: Scene, chat: Chat, before: int) -> list[LogEntry]:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        voids = [e for e in (await scene.log(chat.partition))[before:] if e.verdict is Verdict.VOID]
        if voids:
            return voids
        await asyncio.sleep(0.1)
    raise AssertionError("the zombie's append never came: the test shows nothing")
