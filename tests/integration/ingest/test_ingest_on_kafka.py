"""Ingest on a real broker, its commands decided by the real writer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from devstack.ports import choose_ports
from schemas import ids
from schemas.ids import ChatId, UserId
from schemas.wire.encoding import Encoded
from services.ingest import app
from services.runtime.settings import KafkaSettings, SettingsError
from tests.support.ingest_api import SECRET, IngestApi, ingest_on, kafka_settings
from tests.support.sequencing import ANNA, BEN, Scene, until

STRANGER = UserId("33333333-3333-4333-8333-333333333333")

Test = Callable[[IngestApi, Scene], Awaitable[None]]


@asynccontextmanager
async def writers(scene: Scene) -> AsyncIterator[None]:
    """Run a writer for every partition until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        for partition in range(scene.partitions):
            await stack.enter_async_context(scene.writer(partition))
        yield


def run(kafka: str, test: Test, *, decided: bool = True, partitions: int = 1, receipt_window_s: float = 0.25) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            Scene.on(kafka, partitions=partitions) as scene,
            writers(scene) if decided else contextlib.nullcontext(),
            ingest_on(kafka_settings(scene), receipt_window_s=receipt_window_s) as api,
        ):
            await test(api, scene)
            assert api.service.replies.waiting == 0

    asyncio.run(main())


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].removeprefix("/problems/")


def test_a_message_is_201_its_retry_200_and_another_payload_422(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        first = await api.send(chat_id, "Hi", key="k-1")
        assert first.status_code == 201
        assert first.headers["location"] == f"/v1/chats/{chat_id}/messages/1"
        sent = first.json()
        assert sent["seq"] == 1
        assert sent["message_id"] == ids.command_id(ids.ChatId(chat_id), ANNA, "k-1")
        retry = await api.send(chat_id, "Hi", key='"k-1"')
        assert retry.status_code == 200
        assert retry.json() == sent | {"duplicate": True, "token": retry.json()["token"]}
        (_, first_index), (_, retry_index) = ids.parse_token(sent["token"]), ids.parse_token(retry.json()["token"])
        assert retry_index > first_index
        assert problem(await api.send(chat_id, "Ho", key="k-1")) == (422, "conflict")
        assert (await api.send(chat_id, "Ho", key="k-2")).json()["seq"] == 2

    run(kafka, test, partitions=4)


def test_concurrent_repeats_of_a_send_are_one_message(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        responses = await asyncio.gather(*(api.send(chat_id, "Hi", key="k-1") for _ in range(20)))
        assert sorted(response.status_code for response in responses) == [200] * 19 + [201]
        assert {response.json()["seq"] for response in responses} == {1}
        assert len({response.json()["sent_at"] for response in responses}) == 1

    run(kafka, test)


def test_a_batch_over_several_partitions_is_sequenced_in_its_order_and_its_retry_gets_the_originals(kafka: str) -> None:
    """Large enough that the messages of one chat need several appends; one of them is for an unknown chat."""

    async def test(api: IngestApi, scene: Scene) -> None:
        chats = [await api.create_group(f"Room {n}", BEN) for n in range(5)]
        items = [
            {"chat_id": chats[n % 5], "client_generated_id": f"k-{n}", "text": f"{n} " + "x" * (n % 7) * 1_000}
            for n in range(800)
        ]
        items[400]["chat_id"] = "99999999-9999-4999-8999-999999999999"
        response = await api.call("POST", "/v1/messages:batch", items, prefer="wait=20")
        assert response.status_code == 200, response.text
        answers = response.json()
        assert [answer["index"] for answer in answers] == list(range(800))
        stranger = answers.pop(400)
        assert (stranger["status"], stranger["problem"]["type"]) == (404, "/problems/unknown_chat")
        assert {answer["status"] for answer in answers} == {201}
        for chat_id in chats:
            seqs = [answer["result"]["seq"] for answer in answers if answer["result"]["chat_id"] == chat_id]
            assert seqs == list(range(1, len(seqs) + 1)), "as they stand in the request"
        again = (await api.call("POST", "/v1/messages:batch", items, prefer="wait=20")).json()
        again.pop(400)
        assert {answer["status"] for answer in again} == {200}
        figures = [(answer["result"]["message_id"], answer["result"]["seq"]) for answer in answers]
        assert [(answer["result"]["message_id"], answer["result"]["seq"]) for answer in again] == figures

    run(kafka, test, partitions=3)


def test_who_may_not_send_is_told_what_the_writer_says(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        nowhere = ids.group_chat_id(ANNA, "no such room")
        assert problem(await api.send(chat_id, "Hi", key="k", user=STRANGER)) == (404, "unknown_chat")
        assert problem(await api.send(nowhere, "Hi", key="k")) == (404, "unknown_chat")
        body = {"text": "Hi", "reply_to_message_id": "00000000-0000-4000-8000-000000000000"}
        reply = await api.call("POST", f"/v1/chats/{chat_id}/messages", body, key="r")
        assert problem(reply) == (404, "unknown_message")
        leave = await api.call("DELETE", f"/v1/chats/{chat_id}/members/{BEN}", user=BEN)
        assert leave.status_code == 200
        assert leave.json()["user_id"] == BEN
        assert problem(await api.send(chat_id, "Hi", key="k", user=BEN)) == (403, "not_member")

    run(kafka, test)


def test_members_come_and_go_and_only_admins_say_so(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        stranger = f"/v1/chats/{chat_id}/members/{STRANGER}"
        assert problem(await api.call("PUT", stranger, user=BEN)) == (403, "forbidden")
        added = await api.call("PUT", stranger, {"role": "admin"})
        again = await api.call("PUT", stranger, {"role": "admin"})
        assert (added.status_code, again.status_code) == (200, 200)
        assert (await api.send(chat_id, "Hi", key="k", user=STRANGER)).status_code == 201
        assert (await api.call("DELETE", stranger)).status_code == 200
        assert (await api.call("DELETE", stranger)).status_code == 200

    run(kafka, test)


def test_a_message_is_deleted_by_its_author_or_an_owner_and_by_nobody_else(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        message = f"/v1/chats/{chat_id}/messages"
        for key, user in (("a", ANNA), ("b", BEN), ("c", BEN)):
            assert (await api.send(chat_id, "Hi", key=key, user=user)).status_code == 201
        assert problem(await api.call("DELETE", f"{message}/1", user=BEN, prefer="wait=20")) == (403, "forbidden")
        assert problem(await api.call("DELETE", f"{message}/4", prefer="wait=20")) == (404, "unknown_message")
        assert problem(await api.call("DELETE", f"{message}/1", user=STRANGER)) == (404, "unknown_chat")
        own = await api.call("DELETE", f"{message}/2", user=BEN, prefer="wait=20")
        others = await api.call("DELETE", f"{message}/3", prefer="wait=20")
        again = await api.call("DELETE", f"{message}/3", user=BEN, prefer="wait=20")
        assert [answer.status_code for answer in (own, others, again)] == [200] * 3
        assert [answer.json()["position"] for answer in (own, others, again)] == [5, 6, 6]
        reply = {"text": "to what is gone", "reply_to_message_id": ids.command_id(ChatId(chat_id), UserId(BEN), "b")}
        assert (await api.call("POST", message, reply, key="r", prefer="wait=20")).json()["seq"] == 4

    run(kafka, test)


def test_an_edit_is_200_at_the_revision_that_if_match_names_and_else_412(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        message = f"/v1/chats/{chat_id}/messages/1"
        await api.send(chat_id, "Hi", key="a", user=BEN)

        async def edit(
            text: str, key: str | None = None, if_match: str | None = None, user: str = BEN
        ) -> httpx.Response:
            body = {"text": text}
            return await api.call("PATCH", message, body, key=key, user=user, prefer="wait=20", if_match=if_match)

        first = await edit("B", key="device-1", if_match='"0"')
        assert (first.status_code, first.json()["revision"], first.json()["position"]) == (200, 1, 3)
        second = await edit("C", key="device-2")
        assert (second.json()["revision"], second.json()["position"]) == (2, 4)
        retry = await edit("B", key="device-1", if_match='"0"')
        assert (retry.status_code, retry.json()["duplicate"], retry.json()["position"]) == (200, True, 3)
        assert retry.json()["revision"] == 1
        again = await edit("C")
        assert (again.json()["revision"], again.json()["position"], again.json()["duplicate"]) == (2, 4, False)
        stale = await edit("D", if_match='"1"')
        assert (problem(stale), stale.json()["revision"]) == ((412, "stale"), 2)
        assert stale.json()["message_url"] == message
        assert problem(await edit("D", if_match="2")) == (400, "malformed")
        assert problem(await edit("D", user=ANNA)) == (403, "forbidden")
        assert (await api.call("DELETE", message, user=BEN, prefer="wait=20")).status_code == 200
        assert problem(await edit("D", if_match="*")) == (404, "unknown_message")

    run(kafka, test)


def test_a_second_group_of_one_name_is_409_and_a_retry_200(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        body = {"kind": "group", "name": "Ops room", "members": [BEN]}
        first = await api.call("POST", "/v1/chats", body, key="k-1", prefer="wait=20")
        retry = await api.call("POST", "/v1/chats", body, key="k-1")
        second = await api.call("POST", "/v1/chats", body, key="k-2")
        assert (first.status_code, retry.status_code) == (201, 200)
        assert retry.json()["duplicate"]
        assert problem(second) == (409, "chat_exists")
        assert second.json()["chat_id"] == first.json()["chat_id"] == retry.json()["chat_id"]

    run(kafka, test)


def test_two_groups_of_one_name_by_their_keys_and_a_retry_is_one(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        body = {"kind": "group", "name": "Ops room", "members": [BEN], "unique_name": False}
        first = await api.call("POST", "/v1/chats", body, key="k-1", prefer="wait=20")
        second = await api.call("POST", "/v1/chats", body, key="k-2", prefer="wait=20")
        retry = await api.call("POST", "/v1/chats", body, key="k-1", prefer="wait=20")
        other = await api.call("POST", "/v1/chats", {**body, "name": "Another"}, key="k-1", prefer="wait=20")
        assert (first.status_code, second.status_code, retry.status_code) == (201, 201, 200)
        assert first.json()["chat_id"] == retry.json()["chat_id"] == ids.keyed_chat_id(UserId(ANNA), "k-1")
        assert second.json()["chat_id"] == ids.keyed_chat_id(UserId(ANNA), "k-2")
        assert problem(other) == (422, "conflict")
        path = f"/v1/chats/{second.json()['chat_id']}/messages"
        sent = await api.call("POST", path, {"text": "hi"}, key="m", prefer="wait=20")
        assert sent.status_code == 201

    run(kafka, test)


def test_the_creator_joins_again_a_group_that_everybody_has_left(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        members, messages = f"/v1/chats/{chat_id}/members", f"/v1/chats/{chat_id}/messages"
        await api.call("POST", messages, {"text": "last"}, key="a", prefer="wait=20")
        for who in (BEN, ANNA):
            assert (await api.call("DELETE", f"{members}/{who}", user=who, prefer="wait=20")).status_code == 200
        bens = await api.call("PUT", f"{members}/{BEN}", {"role": "owner"}, user=BEN, prefer="wait=20")
        assert problem(bens) == (403, "not_member")
        plain = await api.call("PUT", f"{members}/{ANNA}", prefer="wait=20")
        assert problem(plain) == (422, "invalid")
        assert "as owner" in plain.json()["detail"]
        back = await api.call("PUT", f"{members}/{ANNA}", {"role": "owner"}, prefer="wait=20")
        assert back.status_code == 200
        sent = await api.call("POST", messages, {"text": "back"}, key="b", prefer="wait=20")
        assert (sent.status_code, sent.json()["seq"]) == (201, 2)

    run(kafka, test)


def test_the_only_owner_makes_another_and_leaves(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        members = f"/v1/chats/{chat_id}/members"
        alone = await api.call("DELETE", f"{members}/{ANNA}", prefer="wait=20")
        assert problem(alone) == (422, "invalid")
        ensured = await api.call("PUT", f"{members}/{BEN}", prefer="wait=20")
        admin = await api.call("PUT", f"{members}/{BEN}", {"role": "admin"}, key="a", prefer="wait=20")
        assert [ensured.status_code, admin.status_code] == [200, 200]
        plain = await api.call("PUT", f"{members}/{BEN}", prefer="wait=20")
        assert problem(plain) == (422, "invalid"), "without a role in the request nobody is demoted"
        owner = await api.call("PATCH", f"{members}/{BEN}", {"role": "owner"}, key="o", prefer="wait=20")
        assert (owner.status_code, owner.json()["position"]) == (200, 3)
        retried = await api.call("PUT", f"{members}/{BEN}", {"role": "admin"}, key="a", prefer="wait=20")
        assert (retried.json()["position"], retried.json()["duplicate"]) == (2, True), "and undoes nothing"
        assert problem(await api.call("PUT", f"{members}/{BEN}", {"role": "member"}, key="a", prefer="wait=20")) == (
            422,
            "conflict",
        )
        left = await api.call("DELETE", f"{members}/{ANNA}", prefer="wait=20")
        assert left.status_code == 200
        last = await api.call("PATCH", f"{members}/{BEN}", {"role": "member"}, user=BEN, prefer="wait=20")
        assert problem(last) == (422, "invalid")

    run(kafka, test)


def test_a_direct_chat_opened_from_both_sides_is_one(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        first = await api.call("PUT", f"/v1/direct-chats/{BEN}", prefer="wait=20")
        again = await api.call("PUT", f"/v1/direct-chats/{BEN}")
        other = await api.call("PUT", f"/v1/direct-chats/{ANNA.upper()}", user=BEN)
        assert [r.status_code for r in (first, again, other)] == [201, 200, 200]
        assert len({r.json()["chat_id"] for r in (first, again, other)}) == 1
        alone = await api.call("PUT", f"/v1/direct-chats/{ANNA}")
        assert alone.status_code == 201

    run(kafka, test)


def test_marks_of_a_burst_are_merged_and_a_bad_one_fails_alone(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        for n in range(1, 8):
            assert (await api.send(chat_id, "Hi", key=f"k-{n}")).json()["seq"] == n

        async def read(up_to_seq: int) -> httpx.Response:
            return await api.call(
                "POST", f"/v1/chats/{chat_id}/read", {"up_to_seq": up_to_seq}, user=BEN, prefer="wait=20"
            )

        before = await commands(scene)
        first = await read(1)
        merged = await asyncio.gather(*(read(seq) for seq in (2, 5, 3, 4)))
        assert (first.status_code, first.json()) == (200, {"updated_count": 1, "read_seq": 1})
        assert [response.json()["read_seq"] for response in merged] == [5, 5, 5, 5]
        assert await commands(scene) == before + 2
        low, bad = await asyncio.gather(read(6), read(999))
        assert (low.status_code, low.json()["read_seq"]) == (200, 6)
        assert problem(bad) == (422, "invalid")
        delivered = await api.call("POST", f"/v1/chats/{chat_id}/delivered", {"up_to_seq": 7}, user=BEN)
        assert (delivered.status_code, delivered.json()) == (200, {"updated_count": 7, "read_seq": 6})

    run(kafka, test, receipt_window_s=2.0)  # long enough that a stall of the machine does not split a burst


async def commands(scene: Scene, partition: int = 0) -> int:
    _, end = await (await scene.reader(scene.names.commands, partition)).bounds()
    return end


def test_without_a_writer_a_send_is_202_and_its_retry_has_the_outcome_later(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat = scene.group("Ops room")
        await scene.create("Ops room")
        waiting = await api.send(chat.chat_id, "Hi", key="k-1", prefer="wait=1")
        assert waiting.status_code == 202
        command_id = ids.command_id(chat.chat_id, ANNA, "k-1")
        at = f"{chat.partition}:1"
        assert waiting.headers["location"] == f"/v1/chats/{chat.chat_id}/commands/{command_id}?at={at}"
        assert int(waiting.headers["retry-after"]) >= 1
        late = asyncio.create_task(api.send(chat.chat_id, "Hi", key="k-2", prefer="wait=30"))
        await until(lambda: api.service.replies.waiting == 1, "the second send waits")
        async with writers(scene):
            assert (await late).status_code == 201
            assert (await late).json()["seq"] == 2
            retry = await api.send(chat.chat_id, "Hi", key="k-1")
            assert (retry.status_code, retry.json()["seq"]) == (200, 1)

    run(kafka, test, decided=False)


def test_a_client_that_hangs_up_leaves_no_waiter_behind(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat = scene.group("Ops room")
        waiting = asyncio.create_task(api.send(chat.chat_id, "Hi", key="k-1", prefer="wait=30"))
        await until(lambda: api.service.replies.waiting == 1, "the send waits")
        waiting.cancel()
        await asyncio.wait({waiting})
        await until(lambda: api.service.replies.waiting == 0, "the waiter is gone", timeout_s=60.0)
        assert await commands(scene) == 1

    run(kafka, test, decided=False)


def test_a_command_on_the_wire_is_that_of_the_contract(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat = scene.group("Ops room")
        raw = b'{"metadata":{"b":1,"a":2},"text":"Hi \xc3\xa9"}'
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        api.client.headers["traceparent"] = traceparent
        await api.call("POST", f"/v1/chats/{chat.chat_id}/messages", raw, key="k-1", prefer="respond-async")
        reader = await scene.reader(scene.names.commands, 0)
        [record] = await reader.read(max_records=10, timeout_s=60.0)
        headers = dict(record.headers)
        partition, request_id = headers.pop("ce_replyto").decode().split("/")
        assert int(partition) < scene.reply_partitions
        assert request_id.isascii()
        assert len(request_id) <= 64
        assert headers == {
            "ce_specversion": b"1.0",
            "ce_id": ids.command_id(chat.chat_id, ANNA, "k-1").encode(),
            "ce_source": b"/gapless/ingest",
            "ce_type": b"message.send.v1",
            "ce_sender": ANNA.encode(),
            "ce_clientid": b"k-1",
            "content-type": b"application/json",
            "traceparent": traceparent.encode(),
        }
        assert record.key == chat.chat_id.encode()
        assert record.value == '{"text":"Hi é","metadata":{"a":2,"b":1}}'.encode()

    run(kafka, test, decided=False)


def test_rubbish_among_the_replies_is_passed_over(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        replies, partition = scene.names.replies, api.service.replies.partition
        for value in (
            b"",
            b"{",
            b"{}",
            b"[7]",
            b'[{"request_id":"x"}]',
            b'[{"request_id":"x","outcome":"?"}]',
            b"\xff",
        ):
            await scene.producer.send(replies, partition, Encoded(None, value, []), 10.0)
        async with scene.plain_producer() as producer:
            await producer.send_and_wait(replies, None, key=b"k", partition=partition)
        assert (await api.send(chat_id, "Hi", key="k-1")).status_code == 201
        assert (await api.ready()) == (200, [])

    run(kafka, test)


def test_processes_that_share_a_reply_partition_get_their_own_answers(kafka: str) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            Scene.on(kafka, partitions=1, reply_partitions=1) as scene,
            writers(scene),
            ingest_on(kafka_settings(scene)) as one,
            ingest_on(kafka_settings(scene)) as other,
        ):
            chat_id = await one.create_group("Ops room", BEN)
            sends = [api.send(chat_id, f"{n}", key=f"k-{n}") for n in range(50) for api in (one, other)]
            responses = await asyncio.gather(*sends)
            by_key: dict[str, set[int]] = {}
            for response in responses:
                by_key.setdefault(response.json()["message_id"], set()).add(response.json()["seq"])
            assert sorted(response.status_code for response in responses) == [200] * 50 + [201] * 50
            assert sorted(seq for [seq] in by_key.values()) == list(range(1, 51))

    asyncio.run(main())


def test_a_log_of_another_number_of_partitions_is_refused(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            wrong = kafka_settings(scene).model_copy(update={"partitions": 3})
            with pytest.raises(SettingsError, match="has 2 partitions, not 3"):
                async with ingest_on(wrong):
                    pass

    asyncio.run(main())


def test_without_kafka_ingest_starts_and_answers_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "START_WAIT_S", 0.5)

    async def main() -> None:
        [port] = choose_ports(1)
        nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
        async with asyncio.timeout(60), ingest_on(nowhere) as api:
            response = await api.send(ids.group_chat_id(ANNA, "x"), "Hi", key="k-1")
            assert problem(response) == (503, "unavailable")
            assert int(response.headers["retry-after"]) >= 1
            status, reasons = await api.ready()
            assert status == 503
            assert reasons
            assert all("Kafka" in reason for reason in reasons)

    asyncio.run(main())


PROCESS = """
import sys
from functools import partial
from services.ingest.app import run
from services.ingest.settings import IngestProcessSettings
from services.runtime.process.lifecycle import run_service
from services.runtime.settings import load_settings
settings = load_settings(IngestProcessSettings)
sys.exit(run_service(partial(run, settings), service="ingest", logs=settings.logs))
"""


@asynccontextmanager
async def ingest_process(scene: Scene, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run ingest as a separate process, and yield it with its URL."""
    [port] = choose_ports(1)
    kafka = kafka_settings(scene)
    settings = {
        "GAPLESS_KAFKA_BOOTSTRAP": kafka.bootstrap_servers,
        "GAPLESS_KAFKA_PARTITIONS": str(kafka.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(kafka.reply_partitions),
        "GAPLESS_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "GAPLESS_JWT_SECRET": SECRET,
        "GAPLESS_HTTP_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, env=os.environ | settings | environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        while b'"listening"' not in (line := await process.stderr.readline()):
            assert line, "the process ended before it listened"
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(30):
            await process.communicate()


@pytest.mark.parametrize("seam", ["ingest.after_append", "ingest.before_answer"])
def test_a_send_whose_ingest_died_is_answered_with_its_original_by_another(kafka: str, seam: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        async with ingest_process(scene, GAPLESS_CRASH_AT=seam) as (process, url):
            async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
                dying = IngestApi(url=url, service=api.service, client=client)
                with pytest.raises(httpx.TransportError):
                    await dying.send(chat_id, "Hi", key="k-1")
            assert await process.wait() == -signal.SIGKILL
        retry = await api.send(chat_id, "Hi", key="k-1")
        assert (retry.status_code, retry.json()["seq"], retry.json()["duplicate"]) == (200, 1, True)

    run(kafka, test)


def test_a_process_asked_to_stop_answers_who_waits_and_ends_well(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat = scene.group("Ops room")
        async with (
            ingest_process(scene) as (process, url),
            httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False, verify=False) as client,
        ):
            leaving = IngestApi(url=url, service=api.service, client=client)
            waiting = asyncio.create_task(leaving.send(chat.chat_id, "Hi", key="k-1", prefer="wait=2"))
            while await commands(scene) == 0:
                await asyncio.sleep(0.01)
            process.terminate()
            assert (await waiting).status_code == 202
            assert await process.wait() == 0

    run(kafka, test, decided=False)


def test_metrics_tell_what_became_of_commands(kafka: str) -> None:
    async def test(api: IngestApi, scene: Scene) -> None:
        chat_id = await api.create_group("Ops room", BEN)
        await api.send(chat_id, "Hi", key="k-1")
        shown = (await api.client.get("/metrics")).text
        assert 'gapless_ingest_commands_appended_total{command_type="message.send.v1"}' in shown
        for name in ("append_duration_seconds_count", "reply_wait_duration_seconds_count", "waiters 0.0"):
            assert f"gapless_ingest_{name}" in shown
        assert json.loads((await api.client.get("/openapi.json")).text)["openapi"].startswith("3.")

    run(kafka, test)
