# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The journal: a table in the maintenance database that the connector can add to, and has no privilege to change."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access.journal import COLUMNS as ENTRY
from ansible_collections.latchkey.postgres.plugins.module_utils._access.journal import TABLE
from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import SCHEMA
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import TEMPLATE1
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import EVERYBODY

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

SEQUENCE = "journal_id_seq"
# What the connector writes; `at` and `actor` are the server's.
WRITTEN = (*ENTRY, "details")
COLUMNS = """
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL DEFAULT session_user,
  action text NOT NULL,
  request text,
  grantee text,
  login text,
  expires_at timestamptz,
  approver text,
  reason text,
  details jsonb
"""
# The same as the catalog says it: name, type, whether NULL is refused, identity, default.
SHAPE = (
    "id bigint t a ",
    "at timestamp with time zone t  clock_timestamp()",
    "actor text t  SESSION_USER",
    "action text t  ",
    "request text f  ",
    "grantee text f  ",
    "login text f  ",
    "expires_at timestamp with time zone f  ",
    "approver text f  ",
    "reason text f  ",
    "details jsonb f  ",
)
# Grantees with more than they should have: what default privileges gave at creation, or somebody later. Of a schema
# or table that does not exist yet, those whom the default privileges of the login would give something.
STATE = """
WITH me AS (SELECT oid, rolname FROM pg_roles WHERE rolname = current_user),
space AS (SELECT oid, nspowner, nspacl FROM pg_namespace WHERE nspname = %(schema)s),
book AS (SELECT c.* FROM pg_class c JOIN space s ON s.oid = c.relnamespace WHERE c.relname = %(table)s),
counter AS (
  SELECT c.oid, c.relowner, c.relacl FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'i'
    JOIN book b ON b.oid = d.refobjid WHERE d.classid = 'pg_class'::regclass AND c.relkind = 'S'
),
given AS (
  SELECT 'schema' AS what, a.grantee, a.grantee = 0 OR a.is_grantable AS bad, a.privilege_type AS privilege
    FROM space, aclexplode(nspacl) AS a WHERE a.grantee <> nspowner
  UNION ALL
  SELECT 'table', a.grantee, a.grantee = 0 OR a.is_grantable OR a.privilege_type <> 'SELECT', a.privilege_type
    FROM book, aclexplode(relacl) AS a WHERE a.grantee <> relowner
  UNION ALL
  SELECT 'table', a.grantee, a.grantee = 0 OR a.is_grantable OR a.privilege_type NOT IN ('SELECT', 'INSERT')
                             OR (a.privilege_type = 'INSERT' AND attname <> ALL (%(written)s::text[])),
         a.privilege_type || ' ' || attname
    FROM book b JOIN pg_attribute t ON t.attrelid = b.oid, aclexplode(t.attacl) AS a WHERE a.grantee <> b.relowner
  UNION ALL
  SELECT 'sequence', a.grantee, true, a.privilege_type FROM counter, aclexplode(relacl) AS a WHERE a.grantee <> relowner
  UNION ALL
  SELECT CASE defaclobjtype WHEN 'n' THEN 'schema' WHEN 'r' THEN 'table' ELSE 'sequence' END, a.grantee, true,
         a.privilege_type
    FROM me JOIN pg_default_acl d ON d.defaclrole = me.oid, aclexplode(d.defaclacl) AS a
   WHERE a.grantee <> me.oid
     AND ((defaclobjtype = 'n' AND NOT EXISTS (SELECT FROM space)) OR
          (defaclobjtype IN ('r', 'S') AND NOT EXISTS (SELECT FROM book)))
     AND defaclnamespace IN (SELECT 0 UNION SELECT oid FROM space)
)
SELECT current_database()::text, me.rolname::text, has_database_privilege(current_database(), 'CREATE'),
       (SELECT pg_get_userbyid(nspowner)::text FROM space),
       (SELECT oid FROM book),
       (SELECT pg_get_userbyid(relowner)::text FROM book),
       (SELECT relkind = 'r' AND relpersistence = 'p' AND NOT (relrowsecurity OR relforcerowsecurity OR relispartition)
               AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = book.oid)
               AND NOT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = book.oid)
               AND NOT EXISTS (SELECT FROM pg_inherits WHERE book.oid IN (inhrelid, inhparent))
               AND ARRAY(SELECT concat(attname, ' ', format_type(atttypid, atttypmod), ' ', attnotnull::text::"char",
                                       ' ', attidentity, ' ', pg_get_expr(adbin, adrelid))
                           FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
                          WHERE attrelid = book.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
                   = %(shape)s::text[]
          FROM book),
       ARRAY(SELECT DISTINCT what || ' ' || CASE grantee WHEN 0 THEN %(everybody)s
                                                         ELSE pg_get_userbyid(grantee)::text END
               FROM given WHERE bad ORDER BY 1),
       ARRAY(SELECT what || ' ' || privilege FROM given WHERE pg_get_userbyid(grantee) = %(connector)s),
       EXISTS (SELECT FROM given WHERE what = 'schema' AND privilege = 'CREATE' AND grantee <> 0 AND NOT bad
                                   AND pg_get_userbyid(grantee) <> %(connector)s),
       current_setting('server_version_num')::int < 160000
       OR EXISTS (SELECT FROM pg_roles w, pg_roles r WHERE w.rolname = 'pg_write_all_data' AND r.rolname = %(connector)s
                                                       AND pg_has_role(r.oid, w.oid, 'MEMBER')),
       EXISTS (SELECT FROM space s JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = s.oid
                WHERE d.classid <> 'pg_class'::regclass
                   OR d.objid NOT IN (SELECT oid FROM book UNION ALL SELECT oid FROM counter))
  FROM me
"""
WANTED = frozenset({"schema USAGE", "schema CREATE", "table SELECT", *(f"table INSERT {column}" for column in WRITTEN)})


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is of the journal; ``excess``: whom more was given than they should have, by kind of object.

    ``shared``: another connector writes to it. ``others``: the schema has more than the table. ``beyond``: the
    connector may write to every table, such as through the platform's group, or make itself a member of the owner or of
    who may, by CREATEROLE before 16; no privilege on this one changes that.
    """

    database: str
    me: str
    may_create: bool
    schema_owner: str | None
    table: int | None
    table_owner: str | None
    in_shape: bool | None
    excess: tuple[tuple[str, str], ...]
    held: frozenset[str]
    shared: bool
    beyond: bool
    others: bool

    @property
    def ours(self) -> bool:
        return self.schema_owner == self.me and self.table_owner == self.me and bool(self.in_shape)

    @property
    def objection(self) -> tuple[str, str | None] | None:
        """Why it can't be used, and the statement that helps."""
        if self.schema_owner not in (None, self.me) or self.table_owner not in (None, self.me):
            whose = self.table_owner if self.schema_owner == self.me else self.schema_owner
            return f"schema {SCHEMA} of database {self.database} belongs to {whose} and is left alone", None
        if self.in_shape is False:
            return f"{SCHEMA}.{TABLE} in database {self.database} is not the table of this collection", None
        if self.database == TEMPLATE1:
            return "login_db is template1, and every new database would get a copy", None
        if self.schema_owner is None and not self.may_create:
            remedy = sql.statement(
                "GRANT CREATE ON DATABASE {db} TO {me}", db=sql.name(self.database), me=sql.name(self.me)
            )
            return f"login {self.me} has no CREATE privilege on database {self.database}", remedy.as_string(None)
        return None


class _NotClosed(Exception):
    """What was made is not what it should be."""


@dataclass(frozen=True, kw_only=True)
class JournalReport:
    available: bool
    append_only: bool = False
    reason: str | None = None
    sql: str | None = None
    statements: tuple[Statement, ...] = field(default=())


def read_state(session: Session, connector: str) -> State:
    parameters = {
        "schema": SCHEMA,
        "table": TABLE,
        "written": list(WRITTEN),
        "shape": list(SHAPE),
        "everybody": EVERYBODY,
        "connector": connector,
    }
    *facts, excess, held, shared, beyond, others = session.rows(STATE, parameters)[0]
    database, me, may_create, schema_owner, table, table_owner, in_shape = facts
    return State(
        database=database,
        me=me,
        may_create=may_create,
        schema_owner=schema_owner,
        table=table,
        table_owner=table_owner,
        in_shape=in_shape,
        excess=tuple((what, grantee) for what, grantee in (entry.split(" ", 1) for entry in excess)),
        held=frozenset(held),
        shared=shared,
        beyond=beyond,
        others=others,
    )


def ensure(session: Session, connector: str, *, check: bool) -> JournalReport:
    state = read_state(session, connector)
    if state.objection is not None:
        reason, remedy = state.objection
        return JournalReport(available=False, reason=reason, sql=remedy)
    statements = statements_for(state, connector)
    if not check and statements:
        refusal = _refusal(session, statements, connector)
        if refusal is not None:
            text = "; ".join(one.as_string(None) for one in statements)
            return JournalReport(available=False, reason=refusal, sql=text)
    shown = tuple(map(Statement.plain, statements))
    available = not (check and statements)
    return JournalReport(available=available, append_only=available and not state.beyond, statements=shown)


def _refusal(session: Session, statements: tuple[Composable, ...], connector: str) -> str | None:
    """One transaction; it commits only if nobody got more than they should have."""

    def together() -> None:
        with session.writing():
            for statement in statements:
                session.execute(statement)
            after = read_state(session, connector)
            if not after.ours or after.excess:
                raise _NotClosed

    try:
        retrying(together)
    except _NotClosed:
        return f"{SCHEMA}.{TABLE} would not have been what it should be, or others would have had rights: rolled back"
    except psycopg.Error as error:
        if session.lost:
            raise
        return f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    return None


def statements_for(state: State, connector: str) -> tuple[Composable, ...]:
    """What is missing, and what takes away what should not be."""
    statements: list[Composable] = []
    if state.schema_owner is None:
        statements.append(sql.statement("CREATE SCHEMA {schema}", schema=sql.name(SCHEMA)))
    if state.table is None:
        template = "CREATE TABLE {table} ({columns})"
        columns = sql.keyword(" ".join(COLUMNS.split()))
        statements.append(sql.statement(template, table=sql.name(SCHEMA, TABLE), columns=columns))
    held = state.held
    for what in ("schema", "table", "sequence"):
        grantees = [grantee for kind, grantee in state.excess if kind == what]
        if grantees:
            statements.append(_take(what, grantees))
        if connector in grantees:
            held = frozenset(one for one in held if not one.startswith(what))
    if state.table is None:
        held = frozenset(one for one in held if not one.startswith("table"))
    missing = WANTED - held
    if any(one.startswith("schema") for one in missing):
        statements.append(_grant("USAGE, CREATE ON SCHEMA", sql.name(SCHEMA), connector))
    if any(one.startswith("table") for one in missing):
        statements.append(_grant(f"SELECT, INSERT ({', '.join(WRITTEN)}) ON TABLE", sql.name(SCHEMA, TABLE), connector))
    return tuple(statements)


def _grant(words: str, thing: Composable, connector: str) -> Composable:
    template = "GRANT {words} {thing} TO {connector}"
    return sql.statement(template, words=sql.keyword(words), thing=thing, connector=sql.name(connector))


def _take(what: str, grantees: c.Iterable[str]) -> Composable:
    things = {
        "schema": sql.name(SCHEMA),
        "table": sql.name(SCHEMA, TABLE),
        "sequence": sql.name(SCHEMA, SEQUENCE),
    }
    return sql.statement(
        "REVOKE ALL PRIVILEGES ON {what} {thing} FROM {grantees} CASCADE",
        what=sql.keyword(what.upper()),
        thing=things[what],
        grantees=sql.joined(sql.keyword("PUBLIC") if one == EVERYBODY else sql.name(one) for one in grantees),
    )


# ------------------------------------------------------------------ the way back
@dataclass(frozen=True, kw_only=True)
class JournalRemoval:
    """What is done about a journal of ours when the connector goes; ``kept``: because it says something."""

    database: str
    table: int
    kept: bool
    statements: tuple[Composable, ...] = ()


def plan_removal(session: Session, state: State, connector: str) -> JournalRemoval | None:
    if not state.ours or state.table is None:
        return None
    empty = not session.rows("SELECT EXISTS (SELECT FROM latchkey.journal)")[0][0]
    if empty and not state.others and not state.shared:
        drop: tuple[Composable, ...] = (
            sql.statement("DROP TABLE {table}", table=sql.name(SCHEMA, TABLE)),
            sql.statement("DROP SCHEMA {schema}", schema=sql.name(SCHEMA)),
        )
        return JournalRemoval(database=state.database, table=state.table, kept=False, statements=drop)
    kinds = sorted({one.split()[0] for one in state.held}, reverse=True)
    take = tuple(_take(what, (connector,)) for what in kinds)
    return JournalRemoval(database=state.database, table=state.table, kept=True, statements=take)


def remove(session: Session, removal: JournalRemoval, connector: str) -> JournalRemoval:
    """Do it; a journal that somebody wrote to since the look is kept."""

    def together() -> JournalRemoval:
        with session.writing():
            if not removal.kept:
                session.execute(sql.statement("LOCK TABLE {table}", table=sql.name(SCHEMA, TABLE)))
            now = plan_removal(session, read_state(session, connector), connector) or removal
            for statement in now.statements:
                session.execute(statement)
        return now

    return retrying(together) if removal.statements else removal
