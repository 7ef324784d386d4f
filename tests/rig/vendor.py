# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendor's setup instructions do, statement for statement in effect, as a yardstick.

For RDS the vendor documents the role only; the other steps are Azure's with the group replaced.
The exclusions are the vendor's, names it does not know (`rdsadmin`) and wildcards included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tests.rig.coverage import Coverage, measure

if TYPE_CHECKING:
    from tests.rig.shapes import ShapedServer

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECTOR = "apono_connector"
EXCLUDED_DATABASES = ("template0", "azure_sys", "azure_maintenance")

DATABASES = """
DO $do$
DECLARE db name;
BEGIN
  FOR db IN SELECT datname FROM pg_database WHERE datname <> ALL (ARRAY[{excluded}]) LOOP
    EXECUTE format('GRANT ALL PRIVILEGES ON DATABASE %I TO %I WITH GRANT OPTION', db, {group});
  END LOOP;
END
$do$"""

OBJECTS = """
DO $do$
DECLARE s text; kind text;
BEGIN
  FOR s IN
    SELECT schema_name FROM information_schema.schemata
     WHERE schema_name NOT LIKE 'pg_%' AND schema_name NOT IN ('information_schema', 'cron')
  LOOP
    EXECUTE format('GRANT ALL PRIVILEGES ON SCHEMA %I TO %I WITH GRANT OPTION', s, {group});
    FOREACH kind IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'FUNCTIONS'] LOOP
      EXECUTE format('GRANT ALL PRIVILEGES ON ALL %s IN SCHEMA %I TO %I WITH GRANT OPTION',
                     kind, s, {group});
    END LOOP;
  END LOOP;
  FOREACH kind IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'FUNCTIONS', 'SCHEMAS'] LOOP
    EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT ALL PRIVILEGES ON %s TO %I WITH GRANT OPTION',
                   kind, {group});
  END LOOP;
END
$do$"""


def role_statements(*, group: str, name: str, password: str) -> tuple[sql.Composed, ...]:
    """Return the statements of step 1."""
    role, secret = sql.Identifier(name), sql.Literal(password)
    return (
        sql.SQL("CREATE USER {} WITH ENCRYPTED PASSWORD {}").format(role, secret),
        sql.SQL("ALTER USER {} WITH CREATEROLE").format(role),
        sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role),
    )


def vendor_role(conn: Connection, *, group: str, name: str = CONNECTOR, password: str = "connector") -> None:
    """Step 1: make the connector's role."""
    for statement in role_statements(group=group, name=name, password=password):
        conn.execute(statement)


def vendor_databases(conn: Connection, group: str, *, excluded: tuple[str, ...] = EXCLUDED_DATABASES) -> None:
    """Step 2: give the group every database, all or nothing."""
    names = sql.SQL(", ").join(map(sql.Literal, excluded))
    conn.execute(sql.SQL(DATABASES).format(excluded=names, group=sql.Literal(group)))


def vendor_objects(conn: Connection, group: str) -> None:
    """Step 3 (and 4, in template1): give the group every schema, table, sequence and function."""
    conn.execute(sql.SQL(OBJECTS).format(group=sql.Literal(group)))


def vendor_coverage(server: ShapedServer, dbname: str) -> Coverage:
    """Tell what the connector could do there after steps 1 and 3, leaving the server untouched.

    A statement that fails is skipped, as it is for somebody who pastes them one by one.
    """
    with server.connect_admin(dbname=dbname) as conn, conn.transaction(force_rollback=True):
        for one in role_statements(group=server.group, name=CONNECTOR, password="connector"):
            with _on_its_own(conn):
                conn.execute(one)
        with _on_its_own(conn):
            vendor_objects(conn, server.group)
        return sum(measure(conn, CONNECTOR).values(), Coverage())


@contextlib.contextmanager
def _on_its_own(conn: Connection) -> Iterator[None]:
    """Run in a savepoint, and survive the failure."""
    with contextlib.suppress(psycopg.Error), conn.transaction():
        yield
