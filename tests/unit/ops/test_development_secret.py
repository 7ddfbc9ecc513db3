"""One secret per user, shared by all embedded stacks, so that `gapless token` needs no setting."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from devstack.folder import FolderLock
from services.ops.cli.main import app
from services.ops.cli.terminal import exit_on_error
from services.ops.stack.address import use_stack
from services.ops.stack.secret import stack_secret, token_secret, user_secret, user_secret_path
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.settings import MIN_SECRET_BYTES


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("GAPLESS_KAFKA_BOOTSTRAP", "GAPLESS_POSTGRES_DSN", "GAPLESS_KAFKA_PARTITIONS",
                 "GAPLESS_KAFKA_REPLICATION_FACTOR", "GAPLESS_API_URL", "GAPLESS_API_CA"):  # fmt: skip
        monkeypatch.setenv(name, "")  # so that what the code sets is removed after the test
        monkeypatch.delenv(name)
    return tmp_path / "state"


def test_it_is_made_once_and_only_its_user_may_read_it(state_home: Path) -> None:
    secret = user_secret()
    assert user_secret() == secret
    assert len(secret.encode()) >= MIN_SECRET_BYTES
    assert user_secret_path() == state_home / "gapless" / "jwt-secret"
    assert stat.S_IMODE(user_secret_path().stat().st_mode) == 0o600
    assert [path.name for path in user_secret_path().parent.iterdir()] == ["jwt-secret"]


def test_whoever_comes_first_at_once_gets_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: user_secret(), range(16)))) == 1


def test_every_stack_takes_it_and_keeps_it_though_the_user_makes_another(tmp_path: Path) -> None:
    shared = user_secret()
    assert stack_secret(tmp_path) == shared
    user_secret_path().write_text("another one of at least thirty-two bytes")
    assert stack_secret(tmp_path) == shared
    assert token_secret(tmp_path) == shared
    assert token_secret(tmp_path / "no stack here") == "another one of at least thirty-two bytes"


def test_a_home_that_cannot_be_written_to_gives_a_stack_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    secret = stack_secret(tmp_path)
    assert len(secret.encode()) >= MIN_SECRET_BYTES
    assert token_secret(tmp_path) == secret
    with pytest.raises(OSError, match="file"):
        token_secret(tmp_path / "elsewhere")


@contextmanager
def running_on(folder: Path) -> Iterator[Path]:
    """Yield a folder as `gapless up` holds it."""
    folder.mkdir()
    document = {
        "kafka": "127.0.0.1:1234", "postgres": "postgresql://x", "partitions": 8, "replication_factor": 1,
        "api_url": "https://127.0.0.1:1235", "ca": "/ca.pem",
    }  # fmt: skip
    (folder / "stack.json").write_text(json.dumps(document))
    lock = FolderLock(folder)
    lock.acquire()
    try:
        yield folder
    finally:
        lock.release()


def test_commands_take_the_addresses_of_the_stack_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "elsewhere:9092")
    with running_on(tmp_path / "d") as folder:
        use_stack(folder)
    assert os.environ["GAPLESS_KAFKA_BOOTSTRAP"] == "127.0.0.1:1234"
    assert os.environ["GAPLESS_POSTGRES_DSN"] == "postgresql://x"
    assert os.environ["GAPLESS_KAFKA_PARTITIONS"] == "8"


def test_without_a_word_the_stack_of_this_folder_is_meant_unless_an_address_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    use_stack(None)
    assert "GAPLESS_KAFKA_BOOTSTRAP" not in os.environ
    with running_on(tmp_path / ".gapless"):
        use_stack(None)
    assert os.environ["GAPLESS_KAFKA_BOOTSTRAP"] == "127.0.0.1:1234"
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "elsewhere:9092")
    use_stack(None)
    assert os.environ["GAPLESS_KAFKA_BOOTSTRAP"] == "elsewhere:9092"


def test_an_api_that_is_named_is_preferred_to_one_that_is_found_and_not_to_the_one_of_a_named_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def api() -> tuple[str | None, str | None]:
        return os.environ.get("GAPLESS_API_URL"), os.environ.get("GAPLESS_API_CA")

    monkeypatch.chdir(tmp_path)
    with running_on(tmp_path / ".gapless") as folder:
        monkeypatch.setenv("GAPLESS_API_URL", "http://elsewhere")
        use_stack(None)
        assert api() == ("http://elsewhere", None)
        use_stack(folder)
        assert api() == ("https://127.0.0.1:1235", "/ca.pem")
        monkeypatch.delenv("GAPLESS_API_URL")
        for name in ("GAPLESS_KAFKA_BOOTSTRAP", "GAPLESS_POSTGRES_DSN"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("GAPLESS_API_CA", "/of/another.pem")
        use_stack(None)
        assert api() == ("https://127.0.0.1:1235", "/ca.pem")


def test_the_variables_of_a_stack_with_tls_make_curl_and_our_client_trust_it(tmp_path: Path) -> None:
    with running_on(tmp_path / "d") as folder:
        ran = CliRunner().invoke(app, ["env", "--data-dir", str(folder), "--user", "anna"])
    lines = dict(line.removeprefix("export ").split("=", 1) for line in ran.stdout.splitlines())
    assert ran.exit_code == 0, ran
    assert lines["GAPLESS_API_URL"] == "https://127.0.0.1:1235"
    assert lines["GAPLESS_API_CA"] == lines["CURL_CA_BUNDLE"] == "/ca.pem"
    assert lines["GAPLESS_API_TOKEN"].count(".") == 2


def test_a_folder_on_which_nothing_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="no stack runs on"):
        use_stack(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.BadParameter, match=r"no stack runs on \S+/file \(Not a directory\)"):
        use_stack(tmp_path / "file")


def test_a_stack_whose_supervisor_was_killed_does_not_run_though_its_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_on(tmp_path / ".gapless") as folder:
        pass
    with pytest.raises(typer.BadParameter, match="no stack runs on"):
        use_stack(folder)
    monkeypatch.chdir(tmp_path)
    use_stack(None)
    assert "GAPLESS_KAFKA_BOOTSTRAP" not in os.environ


def test_a_server_that_cannot_be_reached_without_an_address_tells_of_the_data_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(error: Exception) -> str:
        with pytest.raises(typer.Exit), exit_on_error():
            raise error
        return capsys.readouterr().err

    away = [KafkaUnavailable("it did not answer"), psycopg.OperationalError("connection refused")]
    assert ["--data-dir" in said(error) and "GAPLESS_KAFKA_BOOTSTRAP" in said(error) for error in away] == [True, True]
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "elsewhere:9092")
    assert ["--data-dir" in said(error) for error in away] == [False, False]
