# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases to work on, made once and copied: every run meets the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.rig import shaped_server

if TYPE_CHECKING:
    from tests.bench.results import Settings
    from tests.rig import ShapedServer

BARE = "(id int)"
KEYED = "(id bigint PRIMARY KEY, note text)"
# PostgreSQL's own default, in place of the rig's thrift.
MEMORY = "128MB"


def bench_server(settings: Settings) -> ShapedServer:
    """Return a server where the administrator owns what it makes, so that the vendor's SQL works there, twice too."""
    return shaped_server(major=settings.major, shape="azure", settings={"shared_buffers": MEMORY})


@dataclass(frozen=True, kw_only=True)
class Estate:
    """A database with so many schemas of so many tables, all owned by the administrator."""

    schemas: int
    tables: int
    columns: str = KEYED
    name: str = "estate"

    def build(self, server: ShapedServer) -> None:
        """Make it."""
        create(server, self.name)
        with server.connect_admin(dbname=self.name) as conn:
            for schema in range(self.schemas):
                tables = (f"CREATE TABLE app{schema}.t{number} {self.columns}" for number in range(self.tables))
                conn.execute("; ".join((f"CREATE SCHEMA app{schema}", *tables)).encode())

    def copy(self, server: ShapedServer, names: Sequence[str]) -> None:
        """Make fresh copies; each is entered once, since the first session of a database builds its caches."""
        for name in names:
            create(server, name, template=self.name)
            with server.connect_admin(dbname=name) as conn:
                conn.execute("SELECT count(*) FROM pg_class")


def create(server: ShapedServer, name: str, *, template: str = "template1") -> None:
    """Make a database of the administrator's, in place of one that is there."""
    with server.connect() as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        conn.execute(f"CREATE DATABASE {name} OWNER {server.admin} TEMPLATE {template}".encode())


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a server has written and numbered so far."""

    wal: int
    transactions: int

    @classmethod
    def read(cls, server: ShapedServer) -> Counters:
        """Ask the server; asking adds nothing."""
        query = """
            SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint,
                   CASE WHEN pg_is_in_recovery() THEN 0 ELSE txid_snapshot_xmax(txid_current_snapshot()) END
            """
        with server.connect() as conn:
            row = conn.execute(query).fetchone()
        return cls(wal=int(row[0]), transactions=int(row[1])) if row else cls(wal=0, transactions=0)

    def __sub__(self, other: Counters) -> Counters:
        """Return what has come since."""
        return Counters(wal=self.wal - other.wal, transactions=self.transactions - other.transactions)

    def __str__(self) -> str:
        """Say it in short."""
        return f"{self.wal / 2**20:.1f} MiB of WAL, {self.transactions} transaction ids"
