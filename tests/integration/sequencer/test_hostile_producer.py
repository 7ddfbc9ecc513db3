"""Whatever record batches a broker accepts, each record has one outcome at its true offset, and the log stays sound."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from schemas.events import Outcome, OutcomeKind
from schemas.wire.encoding import Encoded
from tests.fuzz.batches import Storm, storm
from tests.support.forged_batches import Forged, ForgedRecord, RawProducer, honest, raw
from tests.support.poison import TEXT, headers
from tests.support.sequencing import Chat, Scene


def _sends(chat: Chat, *deltas: int | None) -> list[ForgedRecord]:
    return [
        replace(honest(Encoded(chat.chat_id.encode(), TEXT, headers(chat, f"k-{i}"))), delta=delta)
        for i, delta in enumerate(deltas)
    ]


async def _outcomes(scene: Scene, first: int, count: int) -> list[Outcome]:
    return [await scene.outcome_of(0, first + i) for i in range(count)]


@pytest.mark.parametrize("deltas", [(0, 0), (0, 1000), (5,), (1, 0), (-1, -2), (0, 2, 1, 3)], ids=str)
def test_a_record_whose_offset_is_forged_is_malformed_at_its_true_offset(kafka: str, deltas: tuple[int, ...]) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat = await scene.create("forged")
            async with scene.writer(0), RawProducer.on(kafka, scene.names.commands) as producer:
                base = await producer.put(scene.names.commands, 0, raw(Forged(records=_sends(chat, *deltas))))
                after = await scene.send(chat, "after", key="after")
                assert after == base + len(deltas), "the broker counts records, not deltas"
                for i, outcome in enumerate(await _outcomes(scene, base, len(deltas))):
                    honest_one = deltas[i] == i
                    assert outcome.kind is (OutcomeKind.ACCEPTED if honest_one else OutcomeKind.REJECTED)
                    assert outcome.client_generated_id == (f"k-{i}" if honest_one else None)
                assert (await scene.outcome_of(0, after)).kind is OutcomeKind.ACCEPTED

    asyncio.run(main())


def test_one_bad_record_of_a_batch_does_not_spoil_the_others(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            chat = await scene.create("neighbours")
            records = _sends(chat, None, None, None)
            records[1] = replace(records[1], headers=[*records[1].headers, (b"\xff\xfe", b"")])
            async with scene.writer(0), RawProducer.on(kafka, scene.names.commands) as producer:
                base = await producer.put(scene.names.commands, 0, raw(Forged(records=records)))
                kinds = [outcome.kind for outcome in await _outcomes(scene, base, 3)]
                assert kinds == [OutcomeKind.ACCEPTED, OutcomeKind.REJECTED, OutcomeKind.ACCEPTED]

    asyncio.run(main())


def test_a_storm_of_forged_batches_leaves_a_sound_log(kafka: str) -> None:
    """A few rounds; `make fuzz` runs for minutes."""
    result = Storm(seed=11)
    asyncio.run(storm(kafka, result, batches=250))
    assert not result.unsound, "\n".join(result.lines())
    assert result.records > result.undecodable > 0, "some of it was read and some could not be"
