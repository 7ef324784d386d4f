# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Behind `pg_access_info`: it reads only, as any login, on any server."""

from __future__ import annotations

import collections.abc as c
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    enforcement,
    inventory,
    journal,
    names,
    overview,
    period,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.overview import Overview, Presence, Wanted
from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import open_site, require_rights
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Door, Params, Result
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    ServerUnreachable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._login import LOGIN_ARGUMENTS, LOGIN_RULES, login_of
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, diagnosis, platforms
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import TEMPLATE1, choose, obstacle
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import (
    read_public_databases,
    read_public_objects,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PublicRight

LONGEST_DAYS = 36500
AT_ONCE = 4  # databases that are visited at the same time

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "grantee": {"type": "str"},
    "request_id": {"type": "str"},
    "journal": {"type": "bool", "default": False},
    "journal_days": {"type": "int", "default": 30},
    "public": {"type": "bool", "default": False},
    "inventory": {"type": "bool", "default": False},
    "inventory_objects": {"type": "bool", "default": True},
    "databases": {"type": "list", "elements": "str", "default": ["*"]},
}

FACTS = """
SELECT pg_is_in_recovery(), ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY (%(groups)s))
"""
# Whose sessions there are is open to everybody; since when, only to themselves and to who may see all.
PRESENT = """
SELECT pid, usesysid, usename::text, datname::text, backend_start, application_name
  FROM pg_stat_activity WHERE usesysid = ANY (%(roles)s::oid[]) AND pid <> pg_backend_pid()
 ORDER BY usename, pid
"""
# To read a view, rows with a policy or types with casts of their own could run somebody's code as who reads. A plain
# table runs none, whoever owns it; the owner only tells an administrator's from one that any user has made.
READABLE = """
SELECT c.relkind = 'r' AND NOT c.relrowsecurity AND NOT c.relhassubclass AND (o.rolsuper OR o.rolcreaterole)
       AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
                        WHERE a.attrelid = c.oid AND y.typnamespace <> 'pg_catalog'::regnamespace),
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for."""

    login: Login
    wanted: Wanted
    journal_days: int | None
    public: bool
    inventory: bool
    objects: bool
    databases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What was read inside one database, or why nothing was."""

    database: str
    reason: str | None = None
    parts: tuple[inventory.Part, ...] = ()
    public: tuple[PublicRight, ...] = ()


def parse(params: Params, context: Context) -> Order:
    if not 0 <= params["journal_days"] <= LONGEST_DAYS:
        raise InvalidOption(
            f"journal_days: {params['journal_days']} is not a number of days that can be looked back",
            next_step=f"Give 0 to {LONGEST_DAYS}",
        )
    return Order(
        login=login_of(params, context),
        wanted=Wanted(grantee=params["grantee"], request=params["request_id"]),
        journal_days=params["journal_days"] if params["journal"] else None,
        public=params["public"],
        inventory=params["inventory"],
        objects=params["inventory_objects"],
        databases=tuple(params["databases"]),
    )


def info(params: Params, context: Context) -> Result:
    order = parse(params, context)
    with open_site(order.login, check=True) as site:
        return Result(changed=False, values=_read(site, order))


def _read(site: Site, order: Order) -> dict[str, t.Any]:
    standby, groups = site.session.rows(FACTS, {"groups": [p.admin_group for p in platforms.BY_NAME.values()]})[0]
    platform = platforms.detect(groups)
    ledger = read_ledger(site.session, version=site.server.version)
    view = overview.choose(ledger, order.wanted)
    view = replace(view, sessions=_present(site.session, view))
    values: dict[str, t.Any] = {
        "now": period.shown(ledger.now),
        "server": {
            "host": site.where,
            "version": site.server.version_text,
            "platform": platform.name,
            "login": site.server.user,
            "standby": standby,
        },
        **overview.describe(view),
        "enforcement": _enforcement(site),
    }
    if order.journal_days is not None:
        values["journal"], values["journal_reason"] = _journal(site, order)
    if order.public or order.inventory:
        values.update(_inside(site, order, platform))
    return values


def _present(session: Session, view: Overview) -> tuple[Presence, ...]:
    return tuple(
        Presence(pid=pid, role=role, login=login, database=database, since=since, application=application)
        for pid, role, login, database, since, application in session.rows(PRESENT, {"roles": list(view.people)})
    )


def _enforcement(site: Site) -> dict[str, t.Any]:
    """As far as the login can see: a job of pg_cron is shown only to whoever scheduled it."""
    try:
        found = enforcement.read(site.session)
    except psycopg.Error as error:
        if site.session.lost:
            raise
        return {"available": False, "installed": False, "reason": error.diag.message_primary}
    return {"available": found.available, "installed": found.installed, "reason": found.reason}


# --------------------------------------------------------------------------------------------- the journal
def _journal(site: Site, order: Order) -> tuple[list[dict[str, t.Any]] | None, str | None]:
    rows = site.session.rows(READABLE, {"schema": names.SCHEMA, "table": journal.TABLE})
    table = f"{names.SCHEMA}.{journal.TABLE}"
    if not rows:
        return None, f"database {site.login.database} has no table {table}"
    genuine, allowed = rows[0]
    if not genuine:
        return None, f"{table} is not a table that this collection made"
    if not allowed:
        return None, f"login {site.server.user} may not read {table}"
    try:
        entries = journal.read(site.session, days=order.journal_days or 0)
    except psycopg.Error as error:
        if site.session.lost:
            raise
        return None, f"{table} can't be read: {error.diag.message_primary or error}"
    return [_entry(entry) for entry in entries if order.wanted.means(entry["request"], entry["grantee"])], None


def _entry(entry: c.Mapping[str, t.Any]) -> dict[str, t.Any]:
    times = {key: entry[key] and period.shown(entry[key]) for key in ("at", "expires_at")}
    found = {"request_id" if key == "request" else key: value for key, value in entry.items()}
    return {**found, **times}


# --------------------------------------------------------------------------------------------- inside databases
def _inside(site: Site, order: Order, platform: Platform) -> dict[str, t.Any]:
    databases = _chosen(site, order, platform)
    visits = _visit_all(site, order, databases)
    values: dict[str, t.Any] = {
        "unreached": [{"database": v.database, "reason": v.reason} for v in visits if v.reason is not None]
    }
    if order.public:
        values["public"] = _public(site, platform, visits)
    if order.inventory:
        values["inventory"], values["inventory_reason"] = _inventory(site, order, visits)
    return values


def _chosen(site: Site, order: Order, platform: Platform) -> tuple[Database, ...]:
    """The databases that are meant. The platform's own never are."""
    known = [d for d in catalog.read_databases(site.session) if d.name not in platform.databases]
    return choose(known, order.databases, where=site.where)


def _visit_all(site: Site, order: Order, databases: c.Sequence[Database]) -> tuple[Visit, ...]:
    """Several at once; template1 last and alone, because nobody can CREATE DATABASE meanwhile."""

    graph = site.graph

    def visit(database: Database) -> Visit:
        return _visit(site.login, graph, order, database)

    early = [database for database in databases if database.name != TEMPLATE1]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        visits = list(pool.map(visit, early))
    for number, (database, missed) in enumerate(zip(early, visits, strict=True)):
        if diagnosis.is_full(missed.reason or ""):
            visits[number] = visit(database)
    # Nobody works in template1; but what PUBLIC has there, it has in every new database.
    return (*visits, *(visit(d) for d in databases if d.name == TEMPLATE1 and order.public))


def _visit(login: Login, graph: RoleGraph, order: Order, database: Database) -> Visit:
    reason = obstacle(database, graph.platform) or (None if database.may_connect else "the login has no CONNECT on it")
    if reason is not None:
        return Visit(database=database.name, reason=reason)
    try:
        with sessions.connect(login, database=database.name, read_only=True) as session:
            return Visit(
                database=database.name,
                parts=inventory.read_parts(session, graph, objects=order.objects) if order.inventory else (),
                public=read_public_objects(session, graph.platform) if order.public else (),
            )
    except ServerUnreachable as error:
        return Visit(database=database.name, reason=error.what)
    except psycopg.Error as error:
        return Visit(database=database.name, reason=error.diag.message_primary or "the connection was lost")


def _public(site: Site, platform: Platform, visits: c.Sequence[Visit]) -> list[dict[str, t.Any]]:
    meant = {visit.database for visit in visits}
    outside = [right for right in read_public_databases(site.session, platform) if right.database in meant]
    found = [*outside, *(right for visit in visits for right in visit.public)]
    return [
        {
            "database": right.database,
            "kind": right.kind.value,
            "name": str(right.name),
            "privileges": list(right.privileges),
            "grantor": right.grantor,
            "hardenable": right.hardenable,
        }
        for right in sorted(found, key=lambda right: right.database)
    ]


def _inventory(site: Site, order: Order, visits: c.Sequence[Visit]) -> tuple[list[inventory.Edge], str | None]:
    """Nothing can be asked of a login that could not even make a request's roles."""
    try:
        require_rights(site, names.MARKER)
    except DatabaseRefused as refused:
        return [], f"{refused.what}. {refused.next_step}"
    gates = inventory.read_gates(site)
    edges: list[inventory.Edge] = []
    for visit in visits:
        gate = gates.get(visit.database)
        if gate is None or visit.reason is not None or visit.database == TEMPLATE1:
            continue
        powers = inventory.powers_in(gate, site.graph, site.known)
        edges += inventory.edges_of(gate, visit.parts, powers, objects=order.objects)
    return edges + inventory.edges_of_roles(site.graph), None


INFO = Door(arguments=ARGUMENTS, run=info, rules=LOGIN_RULES)
