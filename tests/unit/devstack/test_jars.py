"""The jar cache against a real HTTP server in place of the Maven repository."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devstack import jars
from devstack.errors import ChecksumError, DownloadError, MissingRuntimeError
from devstack.jars import KAFKA_VERSION, kafka_jars, read_lock
from devstack.ports import choose_ports

JAR_PATHS = {
    "org.example:first:1.0": "/org/example/first/1.0/first-1.0.jar",
    "org.example:second:2.0": "/org/example/second/2.0/second-2.0.jar",
}


@dataclass(slots=True)
class Repository:
    """What the server serves by path, and the requests that it got."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def repository() -> Iterator[Repository]:
    served = Repository(files={path: f"jar of {name}".encode() for name, path in JAR_PATHS.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    lines = [f"{name} sha256:{hashlib.sha256(f'jar of {name}'.encode()).hexdigest()}" for name in JAR_PATHS]
    path = tmp_path / "jars.lock"
    path.write_text("# a comment\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True)
def no_pause_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "PAUSE_BETWEEN_ATTEMPTS_S", 0.0)


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_the_committed_lock_pins_one_kafka_version_and_a_digest_of_every_jar() -> None:
    pinned = read_lock()
    ours = [jar for jar in pinned if jar.group == "org.apache.kafka"]
    assert pinned[0].coordinates == f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
    assert {jar.version for jar in ours} == {KAFKA_VERSION}
    assert {"kafka-clients", "kafka-metadata", "kafka-raft"} <= {jar.artifact for jar in ours}
    assert any(jar.artifact == "log4j-slf4j-impl" for jar in pinned), "the broker would write no log"
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in pinned)
    assert len({jar.file_name for jar in pinned}) == len(pinned)


def test_jars_are_fetched_once_and_kept_in_the_order_of_the_lock(
    tmp_path: Path, repository: Repository, lock: Path
) -> None:
    lines: list[str] = []
    found = kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url, progress=lines.append)
    assert [jar.read_bytes() for jar in found] == [f"jar of {name}".encode() for name in JAR_PATHS]
    assert lines[-1].endswith("2 of 2 jars")
    repository.asked.clear()
    assert kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url) == found
    assert repository.asked == []


def test_a_jar_that_differs_from_the_lock_is_refused_and_nothing_installed(
    tmp_path: Path, repository: Repository, lock: Path
) -> None:
    repository.files[JAR_PATHS["org.example:second:2.0"]] = b"something else"
    with pytest.raises(ChecksumError, match=r"org\.example:second:2\.0 .* is not the pinned jar") as refusal:
        kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url)
    assert len(str(refusal.value).splitlines()) == 1
    assert left_in(tmp_path / "cache") == []


def test_no_network_is_one_sentence_that_says_what_to_do(tmp_path: Path, lock: Path) -> None:
    [nobody_listens] = choose_ports(1)
    with pytest.raises(DownloadError) as failure:
        kafka_jars(tmp_path / "cache", lock_path=lock, repository=f"http://127.0.0.1:{nobody_listens}")
    text = str(failure.value)
    assert "Connection refused" in text
    assert "connect to the network, or set GAPLESS_MAVEN_URL" in text
    assert len(text.splitlines()) == 1
    assert left_in(tmp_path / "cache") == []


def test_a_jar_the_repository_does_not_have_is_named(tmp_path: Path, repository: Repository, lock: Path) -> None:
    del repository.files[JAR_PATHS["org.example:first:1.0"]]
    with pytest.raises(DownloadError, match=r"Cannot download org\.example:first:1\.0"):
        kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url)
    assert left_in(tmp_path / "cache") == []


def test_a_cache_that_lost_a_jar_is_told_by_folder(tmp_path: Path, repository: Repository, lock: Path) -> None:
    first, _ = kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url)
    first.unlink()
    with pytest.raises(DownloadError, match=r"has lost org\.example.first-1\.0\.jar: delete that folder"):
        kafka_jars(tmp_path / "cache", lock_path=lock, repository=repository.url)


def test_a_cache_folder_that_cannot_be_made_is_told_with_the_variable_to_set(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(DownloadError, match="set GAPLESS_CACHE"):
        kafka_jars(tmp_path / "cache", lock_path=lock, repository="http://127.0.0.1:9")


def test_the_cache_folder_is_the_variable_or_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_CACHE", "/somewhere/else")
    assert jars.default_cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("GAPLESS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert jars.default_cache_dir() == Path.home() / ".cache" / "gapless"


def test_without_the_extra_the_sentence_names_it(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jgo.maven", None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'gapless\[devstack\]'"):
        kafka_jars(tmp_path / "cache", lock_path=lock, repository="http://127.0.0.1:9")
