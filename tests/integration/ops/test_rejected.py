"""`gapless log rejected` counts what the sequencer refused, and names it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from schemas.bodies import MessageSend
from schemas.errors import Reason
from schemas.types import CommandType
from services.ops.cli.since import since_ms
from services.ops.errors import UsageError
from services.ops.inspect.places import NEAR
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, DORA, ChatLog
from tests.support.forked import run_gapless
from tests.support.proving import kafka_settings, write_log

DAY_MS = 86_400_000


def environment(settings: KafkaSettings) -> dict[str, str]:
    return {
        "GAPLESS_KAFKA_BOOTSTRAP": settings.bootstrap_servers,
        "GAPLESS_KAFKA_PARTITIONS": str(settings.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(settings.reply_partitions),
        "GAPLESS_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
    }


def answer(settings: KafkaSettings, *arguments: str) -> Any:
    done = run_gapless("log", "rejected", *arguments, "--json", env=environment(settings))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rejections_are_counted_by_reason_and_sender_since_a_time(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    now_ms = log.at_ms
    log.at_ms -= 3 * DAY_MS
    log.open()
    chat = log.create(ANNA, "ops")

    def refuse(sender: Any, reason: Reason, times: int) -> None:
        for _ in range(times):
            log.reject(log.command(CommandType.MESSAGE_SEND, chat, sender, MessageSend(text="no")), reason, "because")

    refuse(BEN, Reason.UNKNOWN_CHAT, 4)
    for _ in range(2 * NEAR):
        log.send(chat, ANNA)
    refuse(BEN, Reason.UNKNOWN_CHAT, 1)  # the last before the time that is asked for
    log.at_ms = now_ms
    log.open()
    refuse(DORA, Reason.UNKNOWN_CHAT, 2)
    refuse(DORA, Reason.NOT_MEMBER, 1)
    refuse(BEN, Reason.UNKNOWN_CHAT, 3)
    asyncio.run(write_log(settings, log))

    def counts(document: Any) -> list[tuple[str, str, int]]:
        return [(each["reason"], each["sender_id"], each["count"]) for each in document["rejected"]]

    document = answer(settings)
    new = [("unknown_chat", BEN, 3), ("unknown_chat", DORA, 2), ("not_member", DORA, 1)]
    assert (document["total"], counts(document), "commands" in document) == (6, new, False)
    assert counts(answer(settings, "--since", "7d"))[0] == ("unknown_chat", BEN, 8)
    document = answer(settings, "--reason", "not_member", "--chat", chat, "--list")
    [named] = document["commands"]
    assert (named["reason"], named["detail"], named["type"]) == ("not_member", "because", "message.send.v1")
    record = log.commands[int(named["command"].partition(":")[2])]
    assert dict(record.headers)["ce_sender"] == DORA.encode()
    assert answer(settings, "--chat", str(DORA))["total"] == 0
    limited = answer(settings, "--list", "--limit", "2")
    assert (limited["total"], len(limited["commands"])) == (6, 2)
    said = run_gapless("log", "rejected", "--list", "--limit", "2", env=environment(settings)).stdout.decode()
    assert "4 more: raise --limit." in said


def test_a_corrupt_log_is_one_sentence_with_the_place(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.index += 1
    log.send(chat, ANNA)
    asyncio.run(write_log(settings, log))
    done = run_gapless("log", "rejected", env=environment(settings))
    [said] = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert said.startswith("The log of partition 0 cannot be read past offset 2: ")
    assert said.endswith(
        "cannot follow Head(term=1, index=1, command_offset=0, last_timestamp_ms="
        f"{log.events[1].timestamp}); see `gapless log verify`"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 10_000), ("1m", 40_000), ("9d", 0), ("1970-01-01T00:00:05Z", 5_000), ("1970-01-01T01:00:05+01:00", 5_000)],
)
def test_since_is_an_age_or_a_time(text: str, expected: int) -> None:
    assert since_ms(text, now_ms=100_000) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5", "-5m", "5w"])
def test_since_is_nothing_else(text: str) -> None:
    with pytest.raises(UsageError, match="neither an age"):
        since_ms(text)
