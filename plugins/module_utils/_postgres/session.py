# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The session with a server: opening it and the few things that are done in it."""

from __future__ import annotations

import collections.abc as c
import contextlib
import ssl
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import diagnosis

if t.TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

# What connect_params may say of the task's own login, and no other may take over.
IDENTITY = frozenset({"user", "password", "passfile"})
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = ("verify-ca", "verify-full")
# Nobody may put a function or operator of theirs before the server's own, and no statement may wait for ever.
SETTINGS = {
    "search_path": "pg_catalog",
    "statement_timeout": "300s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "client_min_messages": "notice",
    # The server notices that a controller has lost its power, and frees what it held.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    # To compile the catalog queries would take longer than to run them.
    "jit": "off",
}
# The distributions' places of the system's authorities, for a Python that was built to look elsewhere.
CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to reach a server and as whom; the options of every module of this collection."""

    host: str
    user: str
    port: int = 5432
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    ssl_mode: str = "verify-full"
    ca_cert: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    connect_params: c.Mapping[str, t.Any] = field(default_factory=dict, repr=False)
    connect_timeout: int = 10
    # Where the user and the password come from, for advice.
    source: str = "login_user and login_password"

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    def identified(self, user: str, password: str | None, *, source: str, database: str) -> Login:
        """The same server as somebody else."""
        others = {key: value for key, value in self.connect_params.items() if key not in IDENTITY}
        return replace(self, user=user, password=password, source=source, database=database, connect_params=others)


@dataclass(frozen=True, slots=True)
class Notice:
    sqlstate: str | None
    message: str


class Session:
    """An open connection in autocommit mode, so that every transaction is an explicit block."""

    def __init__(self, *, connection: Connection[t.Any], where: str) -> None:
        self.connection = connection
        self.where = where
        self.notices: list[Notice] = []
        connection.add_notice_handler(self._keep)

    def _keep(self, diagnostic: t.Any) -> None:
        self.notices.append(Notice(diagnostic.sqlstate, diagnostic.message_primary or ""))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @property
    def lost(self) -> bool:
        return self.connection.closed or self.connection.broken

    def rows(self, query: str, parameters: c.Mapping[str, t.Any] | None = None) -> list[tuple[t.Any, ...]]:
        """The rows of a query of this collection; values go as parameters."""
        cursor = self.connection.execute(query, parameters, prepare=False)
        return cursor.fetchall()

    def execute(self, command: Composable) -> None:
        self.connection.execute(command.as_bytes(self.connection), prepare=False)

    @contextlib.contextmanager
    def reading(self) -> c.Iterator[None]:
        """One snapshot in a read-only transaction: it takes no transaction id and works on a standby."""
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    @contextlib.contextmanager
    def writing(self) -> c.Iterator[None]:
        with self.connection.transaction():
            yield


def system_ca() -> str:
    """The system's certificate authorities; libpq's own word for them where no file is found."""
    known = (ssl.get_default_verify_paths().cafile, *CA_FILES)
    return next((path for path in known if path and Path(path).exists()), "system")


def parameters(login: Login, *, database: str, read_only: bool) -> dict[str, t.Any]:
    """The libpq parameters of one session; ``connect_params`` has the last word."""
    settings = {**SETTINGS, "default_transaction_read_only": "on"} if read_only else SETTINGS
    ca_cert = login.ca_cert or (system_ca() if login.ssl_mode in VERIFYING else None)
    chosen: dict[str, t.Any] = {
        "host": login.host,
        "port": login.port,
        "user": login.user,
        "password": login.password,
        "dbname": database,
        "sslmode": login.ssl_mode,
        "sslrootcert": ca_cert,
        "sslcert": login.ssl_cert,
        "sslkey": login.ssl_key,
        "connect_timeout": login.connect_timeout,
        "application_name": "latchkey",
        # The server translates, whatever the encoding of the database.
        "client_encoding": "UTF8",
        # With several hosts the primary is looked for; with one, `require_primary` explains better than libpq.
        "target_session_attrs": "read-write" if "," in login.host and not read_only else "any",
        "gssencmode": "disable",
        "keepalives_idle": 30,
    }
    chosen.update(login.connect_params)
    theirs = str(login.connect_params.get("options") or "")
    chosen["options"] = " ".join([*(f"-c {key}={value}" for key, value in settings.items()), theirs]).strip()
    return {key: value for key, value in chosen.items() if value is not None}


def connect(login: Login, *, database: str | None = None, read_only: bool = False) -> Session:
    """Open a session, or say why there is none and what to do."""
    wanted = database or login.database
    try:
        connection = psycopg.connect(**parameters(login, database=wanted, read_only=read_only), autocommit=True)
    except psycopg.Error as error:
        reason, next_step = diagnosis.explain(str(error), login=login)
        raise ServerUnreachable(
            reason, where=f"{login.where}, database {wanted}, login {login.user}", next_step=next_step
        ) from error
    return Session(connection=connection, where=login.where)


def require_primary(session: Session, *, sources: c.Collection[str] = (), or_check: bool = True) -> None:
    """Refuse a server that takes no writes: a standby, or one that its platform has set read-only.

    ``sources``: where a setting may come from that does not count, in the words of ``pg_settings``. ``or_check``: check
    mode would do.
    """
    query = """
        SELECT pg_is_in_recovery(), setting = 'on' AND source <> ALL (%(sources)s)
          FROM pg_settings WHERE name = 'default_transaction_read_only'
        """
    standby, read_only = session.rows(query, {"sources": list(sources)})[0]
    if standby:
        raise DatabaseRefused(
            "this server is a standby and takes no changes",
            where=session.where,
            next_step="Give the address of the primary in login_host" + (", or run in check mode" if or_check else ""),
        )
    if read_only:
        raise DatabaseRefused(
            "this server is read-only (default_transaction_read_only)",
            where=session.where,
            next_step="Look at its storage and at the parameter, then run again",
        )
