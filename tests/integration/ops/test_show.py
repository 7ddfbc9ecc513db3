"""`gapless show`: one message, command, key or chat through the log and the tables of real servers."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.bodies import MessageSend
from schemas.cursor import LogCursor
from schemas.errors import Reason
from schemas.events import AcceptedOutcome
from schemas.ids import ChatId
from schemas.log import Stamp
from schemas.types import CommandType
from schemas.wire.encoding import encode_outcome, event_source
from services.ops.inspect.places import NEAR, open_places
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, CARL, DORA, ChatLog, Sent
from tests.support.forked import run_gapless
from tests.support.proving import append, execute, kafka_settings, postgres_settings, project, write_log
from tests.support.stack import fresh_database

MANY = 3 * NEAR


@dataclass(slots=True)
class World:
    """A log of several terms, with records that do not count, and its projection."""

    settings: KafkaSettings
    dsn: str
    log: ChatLog
    chat: ChatId
    early: Sent
    late: Sent
    repeated: Sent
    edited: Sent
    refused: int
    """Offset of a command that was rejected."""

    def show(self, *arguments: str, dsn: str | None = None) -> tuple[int, Any]:
        """Return the exit code and the document, or what was printed on standard error."""
        done = run_gapless("show", *arguments, "--json", env=self.environment(dsn))
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.decode()

    def lines(self, *arguments: str) -> str:
        return run_gapless("show", *arguments, env=self.environment(None)).stdout.decode()

    def environment(self, dsn: str | None) -> dict[str, str]:
        return {
            "GAPLESS_KAFKA_BOOTSTRAP": self.settings.bootstrap_servers,
            "GAPLESS_KAFKA_PARTITIONS": str(self.settings.partitions),
            "GAPLESS_KAFKA_REPLY_PARTITIONS": str(self.settings.reply_partitions),
            "GAPLESS_KAFKA_TOPIC_PREFIX": self.settings.topic_prefix,
            "GAPLESS_POSTGRES_DSN": dsn or self.dsn,
        }


def void(log: ChatLog, sent: Sent, text: str) -> None:
    """Append what a replaced writer of the first term still appends: the next index of its own, for another command."""
    body = b'{"text":"%b"}' % text.encode()
    outcome = AcceptedOutcome(
        "message.sent.v1", log.at_ms, body, sent.command.chat_id, ANNA, 9_999, 9_999, sent.id, "void"
    )
    log.append(encode_outcome(outcome, Stamp(1, log.index + 1, sent.command.offset + 1), event_source(0)))


@pytest.fixture(scope="module")
def world(kafka: str, postgres: str) -> Any:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    early = log.send(chat, ANNA, "an early secret")
    for _ in range(MANY):
        log.send(chat, BEN, "in between")
    log.open()
    for _ in range(MANY):
        void(log, early, "of a replaced writer")
    repeated = log.send(chat, ANNA, "again", "again-1")
    log.duplicate(repeated)
    edited = log.send(chat, ANNA, "before")
    log.edit(chat, ANNA, edited.seq or 0, "after")
    refused = log.command(CommandType.MESSAGE_SEND, chat, DORA, MessageSend(text="let me in"), "k-dora")
    log.reject(refused, Reason.UNKNOWN_CHAT, "there is no such chat for you")
    log.open()
    late = log.send(chat, BEN, "a late one")
    asyncio.run(write_log(settings, log))
    with fresh_database(postgres) as dsn:
        asyncio.run(project(settings, postgres_settings(dsn), max_records=2_000))
        yield World(settings, dsn, log, chat, early, late, repeated, edited, refused.offset)


def test_from_any_offset_on_the_same_records_count_as_from_the_beginning(kafka: str) -> None:
    """Also in the middle of what a replaced writer goes on to append, which looks as if it counted."""
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    for openings in (1, 2, 1):
        for _ in range(NEAR):
            log.send(chat, ANNA)
        term, index, command = log.term, log.index, len(log.commands)
        for _ in range(openings):
            log.open()
        for n in range(1, MANY):
            outcome = AcceptedOutcome("message.sent.v1", log.at_ms, b'{"text":"void"}', chat, ANNA, 9_999, 9_999)
            log.append(encode_outcome(outcome, Stamp(term, index + n, command + n), event_source(0)))
        if openings > 1:
            log.open()  # the term before it has no outcome
    for _ in range(NEAR):
        log.send(chat, ANNA)
    expected = [(event.offset, type(event)) for event in LogCursor().read(log.events)]

    async def scenario() -> None:
        names = await write_log(settings, log)
        async with open_places(settings, names.events, 0) as places:
            for offset in range(0, len(log.events), 211):
                found = []
                async with aclosing(places.events(offset)) as events:
                    async for event in events:
                        found.append((event.offset, type(event)))
                        if event.offset >= offset + 2 * NEAR:
                            break
                begin = found[0][0]
                assert begin <= max(offset, 1)
                assert found == expected[begin : begin + len(found)], offset

    asyncio.run(scenario())


def test_a_message_is_shown_from_its_command_to_its_row(world: World) -> None:
    code, document = world.show("message", f"{world.chat}/1")
    assert (code, document["agree"], document["http_status"]) == (0, True, 201)
    command, [outcome] = document["command"], document["outcomes"]
    assert (command["partition"], command["offset"], command["type"]) == (0, 1, "message.send.v1")
    assert (command["sender_id"], command["command_id"]) == (ANNA, world.early.id)
    assert command["headers"]["ce_type"] == "message.send.v1"
    assert (outcome["index"], outcome["term"], outcome["offset"], outcome["command_offset"]) == (2, 1, 2, 1)
    assert (outcome["seq"], outcome["position"], outcome["outcome"]) == (1, 2, "accepted")
    assert (outcome["writer"]["host"], outcome["writer"]["opened_offset"]) == ("test", 0)
    assert (document["rows"]["message"]["seq"], document["rows"]["outcomes"][0]["index"]) == (1, 2)
    assert world.show("message", str(world.early.id)) == (code, document)


def test_texts_are_shown_on_request_only(world: World) -> None:
    assert "an early secret" not in json.dumps(world.show("message", world.early.id)[1])
    assert "an early secret" not in world.lines("message", world.early.id)
    code, document = world.show("message", world.early.id, "--with-text")
    assert (code, json.loads(document["command"]["body"])["text"]) == (0, "an early secret")
    assert world.lines("message", world.early.id, "--with-text").count("an early secret") == 2


def test_a_message_of_a_later_term_is_found_behind_records_that_do_not_count(world: World) -> None:
    code, document = world.show("message", world.late.id)
    [outcome] = document["outcomes"]
    assert (code, outcome["term"], outcome["command_offset"]) == (0, 3, world.late.command.offset)
    assert outcome["writer"]["opened_offset"] == outcome["offset"] - 1
    code, document = world.show("message", world.edited.id)
    assert (code, document["agree"], document["rows"]["message"]["revision"]) == (0, True, 1)
    assert document["outcomes"][0]["term"] == 2


def test_a_command_is_shown_by_its_place_and_by_its_key_with_every_outcome(world: World) -> None:
    place = f"0:{world.repeated.command.offset}"
    code, document = world.show("command", place)
    assert (code, document["agree"], document["http_status"]) == (0, True, 201)
    assert [each["outcome"] for each in document["outcomes"]] == ["accepted", "duplicate"]
    assert {each["seq"] for each in document["outcomes"]} == {world.repeated.seq}
    by_key = world.show("key", "--chat", world.chat, "--sender", ANNA, "--key", "again-1")
    assert by_key == (code, document)
    assert world.show("command", world.repeated.id, "--scan") == (code, document)


def test_a_rejected_command_is_shown_with_its_reason_and_status(world: World) -> None:
    code, document = world.show("command", f"0:{world.refused}")
    [outcome] = document["outcomes"]
    assert (code, outcome["reason"], document["http_status"]) == (0, "unknown_chat", 404)
    assert outcome["detail"] == "there is no such chat for you"
    assert "rejected (unknown_chat)" in world.lines("command", f"0:{world.refused}")


def test_a_chat_is_shown_with_its_first_and_last_event(world: World) -> None:
    code, document = world.show("chat", world.chat)
    assert (code, document["agree"], document["row"]["members"]) == (0, True, 2)
    assert (document["created"]["offset"], document["created"]["type"]) == (1, "chat.created.v1")
    assert document["last"]["position"] == document["row"]["last_position"]
    assert "The log and the rows agree." in world.lines("chat", world.chat)


def test_what_is_nowhere_is_one_sentence_and_exit_code_1(world: World) -> None:
    unknown = str(CARL)
    for arguments, part in (
        (("message", unknown), f"There is no command {unknown} in v1, nor among what it has not applied"),
        (("message", f"{world.chat}/999999"), "--scan reads the whole log of partition 0"),
        (("message", f"{world.chat}/999999", "--scan"), "nor in the log of partition 0."),
        (("command", "0:999999"), "chat.commands has no record at 0:999999"),
        (("chat", unknown), f"There is no chat {unknown} in v1"),
    ):
        code, said = world.show(*arguments)
        assert (code, part in said) == (1, True), said
    for arguments, part in ((("message", "x"), "CHAT_ID/SEQ"), (("command", "9:1"), "There are partitions 0 to 0")):
        code, said = world.show(*arguments)
        assert (code, part in said) == (2, True), said


def test_what_is_not_projected_and_not_decided_yet_is_said(kafka: str, database: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")

    async def scenario() -> tuple[Sent, str]:
        names = await write_log(settings, log)
        await project(settings, postgres_settings(database))
        events, commands = len(log.events), len(log.commands)
        sent = log.send(chat, ANNA, "news")
        waiting = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="waiting"))
        await append(settings, names.commands, 0, log.commands[commands:])
        await append(settings, names.events, 0, log.events[events:])
        return sent, waiting.command_id or ""

    sent, waiting = asyncio.run(scenario())
    world = World(settings, database, log, chat, sent, sent, sent, sent, 0)
    code, document = world.show("message", f"{chat}/1")
    assert (code, document["agree"], document["rows"]["message"]) == (0, True, None)
    assert "is not in v1 yet" in document["notes"][0]
    for name in (waiting, "0:2"):
        code, document = world.show("command", name)
        assert (code, document["http_status"], document["outcomes"]) == (0, 202, [])
        assert document["notes"] == ["the command is not decided yet: 0 commands are before it"]
    assert world.show("chat", chat)[1]["unapplied"] == 1


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("UPDATE chat_v1.chat_messages SET sender_id = '{ben}' WHERE seq = 1", "sender_id is"),
        ("UPDATE chat_v1.chat_messages SET message_text = 'other' WHERE seq = 1", "message_text is not the text"),
        ("DELETE FROM chat_v1.chat_messages WHERE seq = 1", "chat_messages has no row for message 1"),
        ("DELETE FROM chat_v1.outcomes WHERE index = 2", "outcomes has no row for outcome 0:2"),
        ("UPDATE chat_v1.outcomes SET position = 7 WHERE index = 2", "position is 7, in the log 2"),
        ("UPDATE chat_v1.outcomes SET index = 77 WHERE index = 2", "outcomes has a row for 0:77"),
    ],
)
def test_rows_that_differ_from_the_log_are_named(kafka: str, database: str, change: str, difference: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    sent = log.send(chat, ANNA, "hello")
    asyncio.run(write_log(settings, log))
    asyncio.run(project(settings, postgres_settings(database)))
    world = World(settings, database, log, chat, sent, sent, sent, sent, 0)
    assert world.show("command", sent.id)[0] == 0
    execute(database, change.format(ben=BEN))
    code, document = world.show("command", "0:1")
    assert (code, document["agree"]) == (1, False)
    assert any(difference in each for each in document["differences"]), document["differences"]
