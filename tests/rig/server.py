# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real PostgreSQL server on the loopback interface: TLS, SCRAM, gone when its owner is."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.conninfo import make_conninfo

from tests.rig.binaries import Binaries, find
from tests.rig.certificates import Authority
from tests.rig.errors import RigError
from tests.rig.home import Home
from tests.rig.places import Account, copy_tree

if TYPE_CHECKING:
    from typing import Self

Setting = str | int | float | bool
Seed = Callable[[Path], None]

PATIENCE = 60.0
PORT_ATTEMPTS = 10
PORT_TAKEN = ("Address already in use", "could not create any TCP/IP sockets")

SETTINGS: Mapping[str, Setting] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "ssl": True,
    "password_encryption": "scram-sha-256",
    "fsync": False,
    "full_page_writes": False,
    "autovacuum": False,
    "shared_buffers": "16MB",
    "min_wal_size": "2MB",
    "timezone": "UTC",
}
HBA = (
    "hostssl all all 127.0.0.1/32 scram-sha-256",
    "hostssl replication all 127.0.0.1/32 scram-sha-256",
)
HBA_PLAIN = "hostnossl all all 127.0.0.1/32 scram-sha-256"


@dataclass(kw_only=True, eq=False)
class Server:
    """A server that runs inside a `with` block.

    `settings` go to the configuration file, `hba` lines before the standing ones (the first match
    wins). `plain` also accepts connections without TLS. `passwords` are those of other roles, by
    which `connect(user=...)` finds them.
    """

    binaries: Binaries = field(default_factory=find)
    superuser: str = "postgres"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    hba: Iterable[str] = ()
    plain: bool = False
    authority: Authority = field(default_factory=Authority, repr=False)
    seed: Seed | None = field(default=None, repr=False)

    host: str = field(default="localhost", init=False)
    port: int = field(default=0, init=False)
    _home: Home | None = field(default=None, init=False, repr=False)
    _watcher: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _owner: int = field(default=0, init=False, repr=False)

    # ------------------------------------------------------------------------------- lifetime

    def __enter__(self) -> Self:
        """Make the data directory and start."""
        self._home = Home.make()
        self._owner = os.getpid()
        atexit.register(self.stop)
        try:
            (self.seed or self._initdb)(self._home.data)
            self._certify()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Stop and remove everything."""
        self.stop()
        return False

    def stop(self) -> None:
        """Stop at once and remove everything; harmless when repeated, or in a forked child."""
        if self._home is None or os.getpid() != self._owner:
            return
        self._halt(b"")
        self._home.remove()
        self._home = None
        atexit.unregister(self.stop)

    def restart(self, **settings: Setting) -> None:
        """Restart in good order on the same port, with these settings changed."""
        self.pause()
        self.settings = {**self.settings, **settings}
        self._configure()
        self._spawn()

    def pause(self) -> None:
        """Stop in good order and keep the data; `restart()` goes on."""
        self._halt(b"k")

    def _halt(self, order: bytes) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is None or watcher.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            watcher.stdin.write(order)
            watcher.stdin.close()
        watcher.wait(timeout=PATIENCE)

    # ---------------------------------------------------------------------------------- facts

    @property
    def home(self) -> Path:
        """Return the server's own directory."""
        if self._home is None:
            msg = "the server is not running: use it inside its with block"
            raise RigError(msg)
        return self._home.path

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.home / "data"

    @property
    def ca(self) -> Path:
        """Return the certificate of the authority, for `sslrootcert`."""
        return self.home / "ca.pem"

    @property
    def log(self) -> Path:
        """Return the server's log."""
        return self.home / "server.log"

    @property
    def major(self) -> int:
        """Return the major version."""
        return self.binaries.major

    # -------------------------------------------------------------------------------- clients

    def dsn(
        self,
        *,
        user: str | None = None,
        password: str | None = None,
        dbname: str = "postgres",
        **parameters: str | int | None,
    ) -> str:
        """Return a libpq connection string with verify-full; `parameters` override anything."""
        user = user or self.superuser
        known = {**self.passwords, self.superuser: self.password}
        standing: dict[str, str | int | None] = {
            "host": self.host,
            "port": self.port,
            "user": user,
            "password": known.get(user) if password is None else password,
            "dbname": dbname,
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "connect_timeout": 10,
        }
        return make_conninfo("", **{**standing, **parameters})

    def connect(
        self,
        *,
        user: str | None = None,
        dbname: str = "postgres",
        password: str | None = None,
        autocommit: bool = True,
        **parameters: str | int | None,
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser, or as another role."""
        conninfo = self.dsn(user=user, password=password, dbname=dbname, **parameters)
        return psycopg.connect(conninfo, autocommit=autocommit)

    def takes(self, *, user: str, password: str) -> bool:
        """Whether a password is right; whatever else keeps one out is no answer."""
        try:
            self.connect(user=user, password=password).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" not in str(error):
                raise
            return False
        return True

    # -------------------------------------------------------------------------------- standby

    def standby(self, **settings: Setting) -> Server:
        """Return a hot standby of this running server, to be used in a `with` block."""
        follow = make_conninfo(self.dsn(), dbname=None, application_name="rig_standby")
        return Server(
            binaries=self.binaries,
            superuser=self.superuser,
            password=self.password,
            passwords=self.passwords,
            settings={**self.settings, "primary_conninfo": follow, **settings},
            hba=self.hba,
            plain=self.plain,
            authority=self.authority,
            seed=self._base_backup,
        )

    def wait_for(self, primary: Server) -> None:
        """Wait until this standby has replayed all the primary has written so far."""
        with primary.connect() as source, self.connect() as here:
            target = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            query = "SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)"
            _until(lambda: here.execute(query, target).fetchone() == (True,), "the standby lags")

    def _base_backup(self, target: Path) -> None:
        older = self.major < 15
        begin = "pg_start_backup('rig', true, false)" if older else "pg_backup_start('rig', true)"
        end = "pg_stop_backup(false, false)" if older else "pg_backup_stop(false)"
        with self.connect() as conn:
            conn.execute(f"SELECT {begin}")
            copy_tree(self.data, target, live=True)
            row = conn.execute(f"SELECT labelfile FROM {end}").fetchone()
        for name in ("postmaster.pid", "postmaster.opts"):
            (target / name).unlink(missing_ok=True)
        for name, text in (("backup_label", row[0] if row else ""), ("standby.signal", "")):
            (target / name).write_text(text)
            Account.current().own(target / name)

    # ------------------------------------------------------------------------------- starting

    def _initdb(self, data: Path) -> None:
        secret = Home.write(self._need_home(), "password", self.password)
        manner = "-A scram-sha-256 -E UTF8 --no-locale --wal-segsize=1 -N".split()
        program = self.binaries.bindir / "initdb"
        done = subprocess.run(
            [program, "-D", data, "-U", self.superuser, "--pwfile", secret, *manner],
            **Account.current().switch(),
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        secret.unlink()
        if done.returncode:
            msg = f"initdb failed: {' '.join(done.stderr.split())}"
            raise RigError(msg)

    def _need_home(self) -> Home:
        if self._home is None:
            msg = "the server has no directory"
            raise RigError(msg)
        return self._home

    def _certify(self) -> None:
        self.authority.write_ca(self.ca).chmod(0o644)
        key = self._need_home().write("server.key", "")
        self.authority.write_server(certificate=self.home / "server.crt", key=key, names=("localhost", "127.0.0.1"))
        (self.home / "server.crt").chmod(0o644)

    def _configure(self) -> None:
        own: dict[str, Setting] = {
            "port": self.port,
            "hba_file": str(self.home / "pg_hba.conf"),
            "ssl_cert_file": str(self.home / "server.crt"),
            "ssl_key_file": str(self.home / "server.key"),
        }
        lines = [f"{k} = {_quoted(v)}\n" for k, v in {**SETTINGS, **own, **self.settings}.items()]
        rules = (*self.hba, *HBA, *([HBA_PLAIN] if self.plain else []))
        home = self._need_home()
        home.write("postgresql.conf", "".join(lines))
        home.write("pg_hba.conf", "\n".join(rules) + "\n")

    def _launch(self) -> None:
        for _attempt in range(PORT_ATTEMPTS):
            self.port = _free_port()
            self._configure()
            try:
                self._spawn()
            except RigError:
                if not any(sign in self.log.read_text() for sign in PORT_TAKEN):
                    raise
                self.log.unlink()
            else:
                return
        msg = f"found no free port in {PORT_ATTEMPTS} attempts"
        raise RigError(msg)

    def _spawn(self) -> None:
        account, home = Account.current(), self._need_home()
        watcher = Path(__file__).with_name("watcher.py")
        program: list[str | Path] = [self.binaries.bindir / "postgres", "-D", self.data]
        options = [f"--config-file={self.home / 'postgresql.conf'}"]
        identity = [str(account.uid), str(account.gid)]
        with self.log.open("ab") as log:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", watcher, self.home, *identity, *program, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                pass_fds=[home.lock],
                start_new_session=True,
            )
        _until(self._ready, f"the server does not start, see {self.log}")

    def _ready(self) -> bool:
        if self._watcher is None or self._watcher.poll() is not None:
            self._watcher = None
            tail = " | ".join(self.log.read_text(errors="replace").splitlines()[-4:])
            msg = f"the server ended by itself: {tail}"
            raise RigError(msg)
        with contextlib.suppress(OSError, IndexError):
            status = (self.data / "postmaster.pid").read_text().splitlines()[7]
            return status.strip() == "ready"
        return False


def _until(done: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise RigError(complaint)
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(value: Setting) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
