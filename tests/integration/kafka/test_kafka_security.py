"""Kafka with TLS, SASL and ACLs: each client gets in by each method, and each mistake is reported in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from devstack.ports import choose_ports
from schemas.events import TermOpened, encode_term_opened
from schemas.log import Stamp
from schemas.topics import TopicNames, topic_specs
from schemas.wire.encoding import Encoded, encode_outcome, event_source, opening_outcome
from services.runtime.kafka.acls import Operation, Right, grant
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.connection import KafkaConnection, Sasl
from services.runtime.kafka.errors import KafkaRefused, KafkaUnavailable, TopicsWrong
from services.runtime.kafka.group import GroupHint
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topic_reader import AskLog, TopicReader
from services.runtime.kafka.topics import check_topics, create_topics, topic_id
from services.runtime.tls import TlsFiles
from tests.integration.ingest.test_https import SECRET, service, until
from tests.integration.ops.test_ops_commands import gapless, sentence
from tests.support.secure_kafka import ADMIN, NOBODY, SecureKafka, secure_kafka

RECORD = Encoded(b"k", b"{}", [])
RENEWED = timedelta(days=30)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with secure_kafka(tmp_path_factory.mktemp("secure")) as kafka:
        yield kafka


WAYS_IN: dict[str, Callable[[SecureKafka], KafkaConnection]] = {
    "plain": lambda kafka: kafka.connection(kafka.user(mechanism="PLAIN")),
    "scram-256": lambda kafka: kafka.connection(kafka.user(mechanism="SCRAM-SHA-256")),
    "scram-512": lambda kafka: kafka.connection(kafka.user(mechanism="SCRAM-SHA-512")),
    "oauthbearer": lambda kafka: kafka.connection(kafka.token()),
    "mutual-tls": lambda kafka: kafka.by_certificate(kafka.authority.issue(ADMIN)),
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_client_gets_in_by_every_way_of_proving_who_it_is(secured: SecureKafka, way: str) -> None:
    connection = WAYS_IN[way](secured)
    names = TopicNames.prefixed(f"{way}.")
    specs = topic_specs(names, partitions=1, reply_partitions=1, replication_factor=1)

    async def main() -> None:
        await create_topics(connection, specs)
        await check_topics(connection, names, specs)
        assert await topic_id(connection, names.events)
        producer = Producer(kafka=connection, client_id="test")
        assert await producer.send(names.commands, 0, RECORD, 10.0) == 0
        await producer.stop()
        appender = PartitionAppender(kafka=connection, topic=names.events, partition=0, client_id="test")
        await appender.start()
        await appender.stop()
        reader = PartitionReader(kafka=connection, topic=names.commands, partition=0, client_id="test")
        await reader.start(0)
        [record] = await reader.read(max_records=10, timeout_s=60.0)
        assert record.offset == 0
        await reader.close()
        words: asyncio.Queue[frozenset[int]] = asyncio.Queue()
        group = GroupHint(
            kafka=connection,
            group_id=f"{way}.group",
            topic=names.commands,
            partitions=1,
            client_id="test",
            on_assignment=words.put_nowait,
        )
        membership = asyncio.create_task(group.run())
        assert await asyncio.wait_for(words.get(), 30.0) == {0}
        membership.cancel()
        await asyncio.wait({membership})

    asyncio.run(main())


async def _brokers(connection: KafkaConnection) -> int:
    reader = TopicReader(connection)
    try:
        return await reader.brokers()
    finally:
        await reader.close()


def _refused(connection: KafkaConnection) -> str:
    with pytest.raises(KafkaRefused) as refused:
        asyncio.run(_brokers(connection))
    return str(refused.value)


def test_a_broker_whose_authority_we_do_not_believe_is_refused(secured: SecureKafka) -> None:
    wrong = KafkaConnection(
        bootstrap_servers=secured.servers, tls=TlsFiles(ca=secured.strangers.ca), sasl=secured.user()
    )
    said = _refused(wrong)
    assert f"the certificate of Kafka at {secured.servers} is not signed by an authority that we believe" in said
    assert str(secured.strangers.ca) in said


def test_a_broker_with_the_certificate_of_another_host_is_refused(secured: SecureKafka) -> None:
    elsewhere = secured.servers.replace("127.0.0.1", "localhost")
    said = _refused(KafkaConnection(bootstrap_servers=elsewhere, tls=secured.tls, sasl=secured.user()))
    assert f"the certificate of Kafka at {elsewhere} is for another host name" in said


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_said(secured: SecureKafka, mechanism: str) -> None:
    said = _refused(secured.connection(secured.user(mechanism=mechanism, password="not-it")))
    assert said.startswith(f"Kafka at {secured.servers} does not accept our user name or password")
    assert "not-it" not in said


def test_a_token_that_is_not_believed_is_said(secured: SecureKafka, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("not.a.token")
    said = _refused(secured.connection(Sasl(mechanism="OAUTHBEARER", oauth_token_file=tmp_path / "token")))
    assert "does not accept our token" in said


def test_a_certificate_of_ours_that_is_missing_or_not_believed_is_said(secured: SecureKafka) -> None:
    for certificate in (None, secured.strangers.issue(ADMIN)):
        assert "does not accept our certificate" in _refused(secured.by_certificate(certificate))


def test_tls_and_plain_text_that_meet_each_other_are_said(secured: SecureKafka, kafka: str) -> None:
    said = []
    for connection in (
        KafkaConnection.plain(secured.servers),
        KafkaConnection(bootstrap_servers=secured.servers, sasl=secured.user()),
        KafkaConnection(bootstrap_servers=secured.servers, tls=secured.tls),
        KafkaConnection(bootstrap_servers=kafka.split(",")[0], tls=secured.tls),
    ):
        with pytest.raises(KafkaUnavailable) as refused:
            asyncio.run(_brokers(connection))
        said.append(str(refused.value))
    assert all("GAPLESS_KAFKA_SECURITY_PROTOCOL" in each for each in said), said


def test_a_right_that_is_missing_is_said_with_where_to_get_it(secured: SecureKafka) -> None:
    nobody = secured.connection(secured.user(NOBODY))

    async def main() -> None:
        producer = Producer(kafka=nobody, client_id="test")
        reader = PartitionReader(kafka=nobody, topic="chat.events", partition=0, client_id="test")
        specs = topic_specs(TopicNames.prefixed("n."), partitions=1, reply_partitions=1, replication_factor=1)
        for work in (
            check_topics(nobody, TopicNames.prefixed("n."), specs),
            create_topics(nobody, specs),
            producer.start(),
            topic_id(nobody, "chat.events"),
        ):
            with pytest.raises(KafkaRefused, match=r"Kafka's ACLs do not allow us to .*gapless topics acls"):
                await work
        await reader.start(0)
        with pytest.raises(KafkaRefused, match="ACLs"):
            await reader.bounds()
        with pytest.raises(KafkaRefused, match="ACLs"):
            await reader.read(max_records=1, timeout_s=60.0)
        await reader.close()

    asyncio.run(main())


def test_who_may_not_read_the_log_checks_topics_until_these_have_more_partitions(secured: SecureKafka) -> None:
    """Ingest and the creator of topics have no right to read events, and need none until partitions are added."""
    names = TopicNames.prefixed("r.")
    specs = topic_specs(names, partitions=1, reply_partitions=1, replication_factor=1)
    admin_connection, nobody = secured.connection(), secured.connection(secured.user(NOBODY))
    opening = encode_outcome(
        opening_outcome(encode_term_opened(TermOpened(owner="o", host="h", partitions=1)), 1),
        Stamp(1, 0, -1),
        event_source(0),
    )

    async def check(ask_log: AskLog) -> list[str]:
        return await check_topics(nobody, names, specs, ask_log=ask_log)

    async def until_wrong() -> None:
        """Check until the broker has heard of the partition, which raises TopicsWrong."""
        while True:
            await check("if_needed")

    async def main() -> None:
        await create_topics(admin_connection, specs)
        producer = Producer(kafka=admin_connection, client_id="test")
        await producer.send(names.events, 0, opening, 10.0)
        await producer.stop()
        look: tuple[Operation, ...] = ("Describe", "DescribeConfigs")
        await grant(
            admin_connection,
            NOBODY,
            [Right(resource="topic", name=spec.name, operation=right) for spec in specs for right in look],
        )
        async with asyncio.timeout(30):  # a right takes effect a moment after it is granted
            while True:
                with contextlib.suppress(KafkaRefused):
                    assert await check("if_needed") == []
                    break
        assert await check("if_allowed") == []
        with pytest.raises(KafkaRefused, match="ACLs"):
            await check("always")
        client = AIOKafkaAdminClient(**admin_connection.client_options())
        await client.start()
        await client.create_partitions({names.events: NewPartitions(total_count=2)})
        await client.close()
        with pytest.raises(TopicsWrong, match=r"may not read the events topic, .*: grant it READ there"):
            await asyncio.wait_for(until_wrong(), 30)
        await grant(admin_connection, NOBODY, [Right(resource="topic", name=names.events, operation="Read")])
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(TopicsWrong):
                    (note,) = await check("if_needed")
                    break
        assert "partition 1 is ignored" in note

    asyncio.run(main())


def test_a_command_says_one_sentence_about_each_wrong_thing_and_ends_with_2(
    secured: SecureKafka, tmp_path: Path
) -> None:
    right = secured.variables()
    (tmp_path / "password").write_text("not-it")
    wrong = {
        "is not signed by an authority": {"GAPLESS_KAFKA_TLS_CA_FILE": str(secured.strangers.ca)},
        "is for another host name": {"GAPLESS_KAFKA_BOOTSTRAP": secured.servers.replace("127.0.0.1", "localhost")},
        "does not accept our user name or password": {"GAPLESS_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password")},
        "ACLs do not allow us": secured.variables(NOBODY),
        "cannot be read (No such file or directory)": {"GAPLESS_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "none")},
    }
    for said, variables in wrong.items():
        done = gapless("topics", "check", **{**right, **variables})
        assert said in sentence(done)
        assert done.returncode == 2
    done = gapless("topics", "create", **right)
    assert done.returncode == 0, done.stderr


def test_a_certificate_that_has_expired_is_said_until_it_is_renewed(secured: SecureKafka) -> None:
    [broker] = secured.cluster.brokers
    secured.renew_front(-timedelta(minutes=1))
    asyncio.run(broker.restart())
    assert f"the certificate of Kafka at {secured.servers} has expired" in _refused(secured.connection())
    secured.renew_front(RENEWED)
    asyncio.run(broker.restart())
    asyncio.run(_brokers(secured.connection()))


@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_services_with_a_wrong_setting_are_not_ready_say_it_and_stop_when_asked(
    secured: SecureKafka, tmp_path: Path, wrong: str
) -> None:
    variables = secured.variables() | {
        "GAPLESS_JWT_SECRET": SECRET,
        "GAPLESS_POSTGRES_DSN": "postgresql://127.0.0.1:1/x",
    }
    if wrong == "password":
        (tmp_path / "password").write_text("not-it")
        variables["GAPLESS_KAFKA_SASL_PASSWORD_FILE"] = str(tmp_path / "password")
        sentence = "does not accept our user name or password"
    else:
        variables["GAPLESS_KAFKA_TLS_CA_FILE"] = str(secured.strangers.ca)
        sentence = "is not signed by an authority that we believe"

    async def main() -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=False, timeout=15.0))
            processes = []
            for command in ("ingest", "sequencer", "projector"):
                [port] = choose_ports(1)
                own = {
                    "GAPLESS_HTTP_PORT" if command == "ingest" else "GAPLESS_OPS_PORT": str(port),
                    "GAPLESS_SEQUENCER_STATE_DIR": str(tmp_path / "state"),
                }
                process = await stack.enter_async_context(
                    service(command, tmp_path / f"{command}.log", **variables, **own)
                )
                processes.append((command, port, process))
            for _, port, _ in processes:
                await until(partial(_is_unready, client, port, sentence), f"{port} says {sentence}")
            for command, _, process in processes:
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 60.0) == 0, command
                log = (tmp_path / f"{command}.log").read_text()
                assert "Traceback" not in log
                assert "not-it" not in log

    asyncio.run(main())


async def _is_unready(client: httpx.AsyncClient, port: int, sentence: str) -> bool:
    answer = await client.get(f"http://127.0.0.1:{port}/readyz")
    assert answer.status_code == 503
    return any(sentence in reason for reason in answer.json()["reasons"])
