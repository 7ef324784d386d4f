# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The journal: what was done, by whom and why. Enforcement never reads it, and all else works without it."""

from __future__ import annotations

import datetime as dt
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

TABLE = "journal"
COLUMNS = ("action", "request", "grantee", "login", "expires_at", "approver", "reason")
# Of a role `o` that owns what the login writes to or calls: its code would run as the login, so it must have power over
# the login anyway. CREATEROLE is power over all logins up to 15, and over one's own roles alone since.
TRUSTED = """(o.rolsuper OR o.rolname = current_user
       OR o.rolcreaterole AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
       OR pg_catalog.pg_has_role(o.oid, current_user, 'MEMBER WITH ADMIN OPTION'))"""
# An administrator made it, and it does nothing else when it is written to: a trigger would run as who writes.
USABLE = """
SELECT c.relkind = 'r' AND NOT c.relhastriggers AND NOT c.relhasrules AND NOT c.relrowsecurity
       AND (SELECT bool_and({trusted}) FROM pg_roles o WHERE o.oid IN (c.relowner, n.nspowner))
       AND has_schema_privilege(n.oid, 'USAGE')
       AND (SELECT count(*) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attname = ANY (%(columns)s)
               AND has_column_privilege(c.oid, a.attnum, 'INSERT')) = cardinality(%(columns)s::text[])
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""
# One end beyond what a client can hold must not hide all entries.
ENTRIES = """
SELECT id, at, actor, action, request, grantee, login,
       CASE WHEN expires_at < 'epoch' THEN 'epoch'::timestamptz WHEN expires_at < '9999-01-01' THEN expires_at END,
       approver, reason
  FROM latchkey.journal WHERE at >= now() - %(days)s * interval '1 day' ORDER BY id
"""


def is_usable(session: Session) -> bool:
    rows = session.rows(
        USABLE.format(trusted=TRUSTED), {"schema": names.SCHEMA, "table": TABLE, "columns": list(COLUMNS)}
    )
    return bool(rows) and bool(rows[0][0])


def entry(action: str, **facts: str | dt.datetime | None) -> Composable:
    """One line of it, to be written in the transaction of what it tells."""
    values = {"action": action, **facts}
    return sql.statement(
        "INSERT INTO {table} ({columns}) VALUES ({values})",
        table=sql.name(names.SCHEMA, TABLE),
        columns=sql.joined(map(sql.name, values)),
        values=sql.joined(sql.literal(_plain(value)) for value in values.values()),
    )


def _plain(value: str | dt.datetime | None) -> str | None:
    return value.isoformat() if isinstance(value, dt.datetime) else value


def read(session: Session, *, days: int) -> list[dict[str, t.Any]]:
    keys = ("id", "at", "actor", *COLUMNS)
    return [dict(zip(keys, row, strict=True)) for row in session.rows(ENTRIES, {"days": days})]
