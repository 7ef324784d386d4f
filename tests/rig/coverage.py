# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role can effectively do in a database, by counting objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.rig.sqlfiles import DIRECTORY

if TYPE_CHECKING:
    import psycopg

    from tests.rig.server import Server

QUERY = (DIRECTORY / "coverage.sql").read_bytes()


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many objects there are, and how many a role may read, write and pass on in full."""

    total: int = 0
    readable: int = 0
    writable: int = 0
    grantable: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        """Add two up."""
        return Coverage(
            total=self.total + other.total,
            readable=self.readable + other.readable,
            writable=self.writable + other.writable,
            grantable=self.grantable + other.grantable,
        )


def coverage(server: Server, role: str, dbname: str) -> Coverage:
    """Measure a role in one database, as the superuser."""
    return sum(coverage_by_kind(server, role, dbname).values(), Coverage())


def coverage_by_kind(server: Server, role: str, dbname: str) -> dict[tuple[str, str], Coverage]:
    """Measure a role in one database, by (schema, kind)."""
    with server.connect(dbname=dbname) as conn:
        return measure(conn, role)


def measure(conn: psycopg.Connection[tuple[Any, ...]], role: str) -> dict[tuple[str, str], Coverage]:
    """Measure a role on a connection, in whatever transaction it is in."""
    rows = conn.execute(QUERY, {"role": role}).fetchall()
    return {
        (schema, kind): Coverage(total=total, readable=readable, writable=writable, grantable=grantable)
        for schema, kind, total, readable, writable, grantable in rows
    }
