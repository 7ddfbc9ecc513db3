"""Explains in one sentence why Postgres refuses our connections.

A pool only reports a timeout, and libpq reports "certificate verify failed" whatever is wrong with the certificate. So
after a failure one connection is opened just for its error: a wrong setting must be fixed, not waited for.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.runtime.settings import PostgresSettings

CONNECT_TIMEOUT_S: Final = 3
_SSL_REQUEST: Final = struct.pack(">ii", 8, 80877103)
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9

_SAYINGS: Final = (
    (
        r"password authentication failed|no password supplied|empty password returned",
        "does not accept our user name or password: set GAPLESS_POSTGRES_DSN to what it knows",
    ),
    (
        r'server certificate for .* does not match host name "(?P<name>[^"]*)"',
        "has a certificate for another host name than {name}: name the server in GAPLESS_POSTGRES_DSN as its"
        " certificate does, or have one made for this name",
    ),
    (r'role "(?P<name>[^"]*)" does not exist', "has no role {name}: set GAPLESS_POSTGRES_DSN to one that it has"),
    (r'role "(?P<name>[^"]*)" is not permitted to log in', "does not let the role {name} log in: allow it LOGIN"),
    (
        r'database "(?P<name>[^"]*)" does not exist',
        "has no database {name}: create it, or set GAPLESS_POSTGRES_DSN to another one",
    ),
    (
        r"permission denied for database",
        "does not allow our role to use the database: grant it what `gapless projection roles` prints",
    ),
    (
        r"server does not support SSL, but SSL was required",
        "does not speak TLS, which sslmode in GAPLESS_POSTGRES_DSN asks for: turn ssl on in the server",
    ),
    (
        r"no pg_hba.conf entry .* no encryption",
        "refuses connections without TLS: set sslmode=verify-full and sslrootcert in GAPLESS_POSTGRES_DSN",
    ),
    (r"no pg_hba.conf entry", "has no rule in pg_hba.conf that lets us in: add one for our address, role and database"),
    (
        r"connection requires a valid client certificate|certificate authentication failed|alert certificate required"
        r"|alert unknown ca|alert bad certificate",
        "does not accept our certificate: set sslcert and sslkey in GAPLESS_POSTGRES_DSN to one that it believes",
    ),
)
"""Patterns of libpq's and the server's messages, each with our sentence, which follows `Postgres at host:port`."""


def why_postgres_refuses(settings: PostgresSettings) -> str | None:
    """Connect once and return why it is refused permanently; None if it works or Postgres is only unreachable.

    Blocks for at most a few seconds.
    """
    dsn = settings.dsn.get_secret_value()
    try:
        psycopg.connect(make_conninfo(dsn, connect_timeout=CONNECT_TIMEOUT_S)).close()
    except psycopg.OperationalError as error:
        return refusal_in(error, dsn)
    except psycopg.Error as error:
        return f"GAPLESS_POSTGRES_DSN is no connection string ({str(error).splitlines()[0]})."
    return None


async def why_unreachable(settings: PostgresSettings, trouble: str | None) -> str | None:
    """Return the better explanation for what a readiness check found: the permanent refusal, else the check's own."""
    if trouble is None:
        return None
    return await asyncio.to_thread(why_postgres_refuses, settings) or trouble


def refusal_in(error: psycopg.OperationalError, dsn: str) -> str | None:
    """Return the sentence for an error of a connection to dsn; None if waiting may help."""
    text = str(error)
    given = conninfo_to_dict(dsn)
    where = re.search(r'connection to server at "(?P<host>[^"]*)"[^,]*, port (?P<port>\d+)', text)
    host = str(where["host"] if where else given.get("host") or "localhost")
    port = int(where["port"] if where else str(given.get("port") or 5432).split(",")[0])
    address = f"Postgres at {host}:{port}"
    for pattern, sentence in _SAYINGS:
        if (found := re.search(pattern, text)) is not None:
            return f"{address} {sentence.format(**found.groupdict())}."
    if (missing := re.search(r'root certificate file "([^"]*)" does not exist', text)) is not None:
        return f"The authority's certificate {missing[1]} is not there: set sslrootcert in GAPLESS_POSTGRES_DSN."
    if (open_key := re.search(r'private key file "([^"]*)" has group or world access', text)) is not None:
        return f"The key {open_key[1]} can be read by others, and libpq refuses it: take their rights away (chmod 600)."
    # "signature failure": an authority of the same name has another key.
    if "certificate verify failed" in text or "signature failure" in text:
        authorities = given.get("sslrootcert")
        return _certificate(address, host, port, str(authorities) if authorities else None)
    return None


def _certificate(address: str, host: str, port: int, authorities: str | None) -> str:
    """Return what is wrong with the certificate, found by our own handshake: libpq does not say."""
    believed = authorities or "~/.postgresql/root.crt"
    unknown = (
        f"The certificate of {address} is not signed by an authority that we believe ({believed}): set sslrootcert in"
        " GAPLESS_POSTGRES_DSN to the authority's certificate."
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # libpq checks the name
    try:
        if authorities == "system":
            context.load_default_certs()
        else:
            context.load_verify_locations(Path(believed).expanduser())
        with socket.create_connection((host, port), CONNECT_TIMEOUT_S) as raw:
            raw.sendall(_SSL_REQUEST)
            if raw.recv(1) == b"S":
                context.wrap_socket(raw, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return f"The certificate of {address} has expired: have it renewed."
        if error.verify_code == _NOT_YET_VALID:
            return f"The certificate of {address} is not valid yet: look at the clocks."
    except OSError:
        pass  # it is unreachable by now; libpq's error stands
    return unknown
