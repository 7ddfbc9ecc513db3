"""Postgres with TLS: verified, and each mistake is reported in one sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest

from devstack.certificates import Authority, Certificate
from devstack.ports import choose_ports
from devstack.postgres import PostgresServer
from services.runtime.postgres.refusals import why_postgres_refuses
from services.runtime.settings import PostgresSettings
from tests.integration.ingest.test_https import SECRET, service
from tests.integration.ops.test_ops_commands import gapless, sentence

NAME = "postgres"
HOSTS = ("127.0.0.1",)
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurePostgres:
    server: PostgresServer
    authority: Authority
    strangers: Authority

    @property
    def dsn(self) -> str:
        return self.server.dsn

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def with_ca(self, ca: Path) -> str:
        return self.dsn.replace(quote(str(self.authority.ca), safe=""), quote(str(ca), safe=""))

    def show(self, certificate: Certificate) -> None:
        """Let the server present another certificate to new connections, as an administrator would."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute("SELECT current_setting('ssl_cert_file'), current_setting('ssl_key_file')")
            cert, key = found.fetchone() or ("", "")
            Path(cert).write_bytes(certificate.cert.read_bytes())
            Path(key).write_bytes(certificate.key.read_bytes())
            connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecurePostgres]:
    folder = tmp_path_factory.mktemp("secure-postgres")
    authority = Authority.in_folder(folder / "certs")
    server = PostgresServer(folder / "server", certificate=authority.issue(NAME, hosts=HOSTS))
    asyncio.run(server.start())
    try:
        yield SecurePostgres(server=server, authority=authority, strangers=Authority.in_folder(folder / "strangers"))
    finally:
        asyncio.run(server.stop())


def error_of(dsn: str) -> str:
    try:
        psycopg.connect(dsn).close()
    except psycopg.Error as error:
        return repr(error)
    return ""


def why(dsn: str) -> str | None:
    return why_postgres_refuses(PostgresSettings.model_validate({"dsn": dsn}))


def test_a_connection_by_the_dsn_is_encrypted_and_verified(secured: SecurePostgres) -> None:
    with psycopg.connect(secured.dsn) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    assert why(secured.dsn) is None


def test_each_wrong_thing_about_a_connection_is_said(secured: SecurePostgres, postgres: str) -> None:
    dsn, at = secured.dsn, f"Postgres at {secured.address}"
    separator = "&" if "?" in postgres else "?"
    cases = {
        secured.with_ca(secured.strangers.ca): f"The certificate of {at} is not signed by an authority that we believe",
        secured.with_ca(Path("/none/ca.pem")): "The authority's certificate /none/ca.pem is not there",
        secured.server.dsn_for("gapless", "not-it"): f"{at} does not accept our user name or password",
        secured.server.dsn_for("gapless", "not-it").replace(":not-it@", "@"): f"{at} does not accept our user name",
        f"{dsn.partition('?')[0]}?sslmode=disable": f"{at} refuses connections without TLS",
        dsn.replace("/gapless?", "/nothing?"): f"{at} has no database nothing",
        f"{postgres}{separator}sslmode=require": "does not speak TLS, which sslmode in GAPLESS_POSTGRES_DSN asks for",
        "hello": "GAPLESS_POSTGRES_DSN is no connection string",
    }
    for wrong, said in cases.items():
        found = why(wrong)
        assert found is not None, (said, error_of(wrong))
        assert said in found
        assert "not-it" not in found
    assert why("postgresql://127.0.0.1:1/gapless") is None, "one that is away is waited for"


def test_a_certificate_for_another_host_is_said(secured: SecurePostgres) -> None:
    elsewhere = secured.dsn.replace("@127.0.0.1:", "@localhost:")
    assert "has a certificate for another host name than localhost" in (why(elsewhere) or "")


def test_a_certificate_that_has_expired_is_said(secured: SecurePostgres) -> None:
    secured.show(secured.authority.issue("expired", hosts=HOSTS, lifetime=-timedelta(minutes=1)))
    until(lambda: why(secured.dsn) == f"The certificate of Postgres at {secured.address} has expired: have it renewed.")
    # The server cannot be notified over a connection, since we would trust none.
    asyncio.run(secured.server.restart())
    assert why(secured.dsn) is None


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_says_it_and_ends_with_2(secured: SecurePostgres) -> None:
    for dsn, said in (
        (secured.with_ca(secured.strangers.ca), "is not signed by an authority that we believe"),
        (secured.server.dsn_for("gapless", "not-it"), "does not accept our user name or password"),
    ):
        done = gapless("projection", "list", GAPLESS_POSTGRES_DSN=dsn)
        assert said in sentence(done)
        assert done.returncode == 2


def test_a_query_is_not_ready_and_says_it(secured: SecurePostgres, tmp_path: Path) -> None:
    [port] = choose_ports(1)

    async def main() -> None:
        variables = {
            "GAPLESS_POSTGRES_DSN": secured.server.dsn_for("gapless", "not-it"),
            "GAPLESS_HTTP_PORT": str(port),
            "GAPLESS_JWT_SECRET": SECRET,
        }
        async with (
            service("query", tmp_path / "query.log", **variables),
            httpx.AsyncClient(trust_env=False, verify=False, timeout=10.0) as client,
        ):
            deadline = time.monotonic() + DEADLINE_S
            reasons = ""
            while "does not accept our user name or password" not in reasons:
                assert time.monotonic() < deadline, reasons
                await asyncio.sleep(0.1)
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/readyz")
                except httpx.TransportError:
                    continue
                assert answer.status_code == 503
                reasons = " ".join(answer.json()["reasons"])

    asyncio.run(main())
    log = (tmp_path / "query.log").read_text()
    assert "not-it" not in log
    assert "Traceback" not in log
