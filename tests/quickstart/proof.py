# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true of a server, found out without the collection: by the catalog, and by logging in and trying."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import errors, sql

from tests.rig import Coverage, RigError, ShapedServer, coverage, coverage_by_kind, vendor_coverage

CONNECTOR = "apono_connector"
OPEN = "appdb_open"
JOURNAL = "latchkey"
# Neither the administrator's nor of a role that it made.
TABLE = "beta_s.t_plain"
OTHER_TABLE = "beta_s.t_part"

DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> ALL (%s)"


def databases(server: ShapedServer) -> list[str]:
    """Return the customer's databases."""
    with server.connect() as conn:
        return [row[0] for row in conn.execute(DATABASES, [list(server.shape.platform_databases)])]


def vendor(server: ShapedServer) -> dict[str, Coverage]:
    """Return what the vendor's SQL would reach in each database."""
    found = {}
    for name in databases(server):
        try:
            found[name] = vendor_coverage(server, name)
        except psycopg.OperationalError:
            # Its administrator may not even enter; what there is, the superuser counts.
            found[name] = Coverage(total=coverage(server, server.superuser, name).total)
    return found


def reached(server: ShapedServer) -> dict[str, Coverage]:
    """Return what the connector can do in each database now. The journal is no object of the customer's."""
    found = {name: coverage_by_kind(server, CONNECTOR, name) for name in databases(server)}
    return {
        name: sum((one for (schema, _kind), one in kinds.items() if schema != JOURNAL), Coverage())
        for name, kinds in found.items()
    }


def use(server: ShapedServer, secret: dict[str, Any]) -> None:
    """Be the connector, by its secret alone: read a table, pass it on, and see that this is all that it gives."""
    with server.connect(user=secret["username"], password=secret["password"], dbname=OPEN) as connector:
        connector.execute(f"SELECT count(*) FROM {TABLE}")
        with _person(connector) as login:
            _read_one_table(server, *login)


def _read_one_table(server: ShapedServer, name: str, secret: str) -> None:
    with server.connect(user=name, password=secret, dbname=OPEN) as person:
        person.execute(f"SELECT count(*) FROM {TABLE}")
        with contextlib.suppress(errors.InsufficientPrivilege):
            person.execute(f"SELECT count(*) FROM {OTHER_TABLE}")
            msg = f"somebody who was given {TABLE} can also read {OTHER_TABLE}"
            raise RigError(msg)


@contextlib.contextmanager
def _person(connector: psycopg.Connection[tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    name, secret = f"quickstart_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    role = sql.Identifier(name)
    connector.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(secret)))
    for statement in (f"GRANT USAGE ON SCHEMA beta_s TO {name}", f"GRANT SELECT ON {TABLE} TO {name}"):
        connector.execute(statement)
    yield name, secret
    for statement in (f"REVOKE ALL ON {TABLE} FROM {name}", f"REVOKE ALL ON SCHEMA beta_s FROM {name}"):
        connector.execute(statement)
    connector.execute(sql.SQL("DROP ROLE {}").format(role))
