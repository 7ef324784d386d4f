# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Removing a login for good, with what it left behind in any database."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, statements
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import LatchkeyError
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.ties import read_tied_databases

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

IN_USE = "2BP01"
KEEP, GRAVEYARD, REASSIGN, DROP = "keep", "graveyard", "reassign_to", "drop"
# Default privileges are the role's own too, but nobody's data; DROP OWNED takes them away.
OWNED = """
SELECT count(*), min(pg_describe_object(classid, objid, objsubid)) FROM pg_shdepend
 WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid AND deptype = 'o'
   AND classid <> 'pg_default_acl'::regclass
   AND dbid = CASE WHEN %(shared)s THEN 0
                   ELSE (SELECT oid FROM pg_database WHERE datname = current_database()) END
"""
# Only a plain table with nothing that runs when somebody uses it may change hands unseen.
NOT_INERT = """
WITH own AS (
  SELECT classid, objid FROM pg_shdepend
   WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid AND deptype = 'o'
     AND classid <> 'pg_default_acl'::regclass
     AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
)
SELECT pg_describe_object(o.classid, o.objid, 0)
  FROM own o LEFT JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid
 WHERE c.oid IS NULL OR c.relkind NOT IN ('r', 'S')
    OR c.relhastriggers OR c.relhasrules OR c.relrowsecurity OR c.relhassubclass OR c.relispartition
    OR c.reloftype <> 0
    OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                                          AND d.objid = c.oid AND d.deptype = 'i')
    OR EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid)
    OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('p', 'u', 'n'))
    OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
    OR EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent))
    OR EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = c.oid)
    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid >= 16384)
 LIMIT 1
"""
# DROP OWNED takes back what others gave only as the owner of that, and is silent about what stays.
GIVERS = """
SELECT DISTINCT pg_get_userbyid(o.refobjid)::text
  FROM pg_shdepend a JOIN pg_shdepend o USING (dbid, classid, objid, refclassid)
 WHERE refclassid = 'pg_authid'::regclass AND a.refobjid = %(role)s::oid AND a.deptype = 'a' AND o.deptype = 'o'
   AND o.refobjid <> a.refobjid AND classid <> 'pg_default_acl'::regclass
   AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
PREPARED = """
SELECT gid, database::text FROM pg_prepared_xacts
 WHERE owner = (SELECT rolname FROM pg_roles WHERE oid = %(role)s::oid) ORDER BY prepared LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What becomes of objects that a person owns. ``confirmed``: the grantees whose objects may be dropped."""

    owned: str = KEEP
    heir: str | None = None
    confirmed: tuple[str, ...] = ()


class _Kept(LatchkeyError):
    """Something stays, and so does the role."""


def remove(site: Site, role: Marked, policy: Policy) -> str | None:
    """Drop a role that nobody can use; why not, if it must stay."""
    try:
        _require_nothing_shared(site.session, role, policy)
        for database in sorted(_databases(site, role, policy)):
            _clear(site, site.database(database), role, policy, database=database)
            site.close(database)
        execute_together(site.session, [statements.drop(role.name)])
    except LatchkeyError as error:
        return str(error)
    except psycopg.Error as error:
        if site.session.lost:
            raise
        detail = error.diag.message_detail or error.diag.message_primary or "the connection was lost"
        return detail if error.sqlstate != IN_USE else f"{detail}; whoever gave it that must revoke it"
    return None


def _databases(site: Site, role: Marked, policy: Policy) -> set[str]:
    """Where there is something to do; what belongs to no database can change hands in any."""
    tied = read_tied_databases(site.session, role=role.oid, anything=True)
    shared = policy.owned == REASSIGN or site.session.rows(GIVERS, {"role": role.oid})
    return {*tied, *([site.login.database] if shared else [])}


def _require_nothing_shared(session: Session, role: Marked, policy: Policy) -> None:
    count, first = session.rows(OWNED, {"role": role.oid, "shared": True})[0]
    if count and policy.owned != REASSIGN:
        raise _Kept(f"it owns {first}", next_step="Give it another owner, or use owned_objects: reassign_to")
    prepared = session.rows(PREPARED, {"role": role.oid})
    if prepared:
        gid, database = prepared[0]
        raise _Kept(
            f"it has the prepared transaction {gid!r} in database {database}",
            next_step="Commit it or roll it back there",
        )


def _clear(site: Site, session: Session, role: Marked, policy: Policy, *, database: str) -> None:
    """One database, in one transaction, with memberships that nobody else sees."""
    count, first = session.rows(OWNED, {"role": role.oid, "shared": False})[0]
    commands: list[Composable] = []
    heir = None
    if count or policy.owned == REASSIGN:
        heir = _heir(session, role, policy, what=f"{first} in database {database}", count=count)
    borrowed = [one for one in (role.name, heir) if one and _must_borrow(site, one, become=one == heir)]
    commands += [_borrow(site, one, may_become=one == heir) for one in borrowed]
    if heir:
        template = "REASSIGN OWNED BY {role} TO {heir}"
        commands.append(sql.statement(template, role=sql.name(role.name), heir=sql.name(heir)))
    for giver in _givers(site, session, role):
        commands += _taken_back(site, role.name, giver)
    commands.append(sql.statement("DROP OWNED BY {role}", role=sql.name(role.name)))
    commands += [statements.revoke(one, site.server.user) for one in reversed(borrowed) if one != site.server.user]
    execute_together(session, commands)


def _heir(session: Session, role: Marked, policy: Policy, *, what: str, count: int) -> str | None:
    """Who gets the objects, or None if they are to be dropped with the role."""
    owns = f"it owns {what}" + (f" and {count - 1} more" if count > 1 else "")
    if policy.owned == DROP:
        if role.fact("grantee") not in policy.confirmed:
            raise _Kept(owns, next_step="To drop them name the grantee in confirm_drop")
        return None
    if policy.owned == REASSIGN and policy.heir:
        return policy.heir
    if policy.owned == GRAVEYARD:
        found = session.rows(NOT_INERT, {"role": role.oid})
        if not found:
            return names.GRAVEYARD
        raise _Kept(
            f"{owns}; {found[0][0]} could run code of theirs as its next owner", next_step="Look at it, then use drop"
        )
    raise _Kept(owns, next_step="Choose another policy in owned_objects")


def _givers(site: Site, session: Session, role: Marked) -> list[str]:
    """Owners who gave it something, as far as this login may act as them."""
    graph = site.graph
    found = [row[0] for row in session.rows(GIVERS, {"role": role.oid}) if row[0] in graph.roles]
    return [one for one in found if graph.may_grant_membership(one) and not graph.would_be_circular(one)]


def _taken_back(site: Site, role: str, giver: str) -> tuple[Composable, ...]:
    """DROP OWNED as the owner of what was given; all memberships for it end with the transaction."""
    names_of = {"role": sql.name(role), "giver": sql.name(giver)}
    borrow = _must_borrow(site, giver, become=True)
    return (
        *((_borrow(site, giver, may_become=True),) if borrow else ()),
        statements.grant(role, giver, has_options=site.has_options),
        sql.statement("SET LOCAL ROLE {giver}", **names_of),
        sql.statement("DROP OWNED BY {role}", **names_of),
        sql.statement("RESET ROLE"),
        statements.revoke(role, giver),
        *((statements.revoke(giver, site.server.user),) if borrow else ()),
    )


def _must_borrow(site: Site, role: str, *, become: bool) -> bool:
    """Before 16 to give back what it has already would take it for good."""
    return not site.graph.has_rights_of(role) or (site.has_options and become)


def _borrow(site: Site, role: str, *, may_become: bool) -> Composable:
    """To have the rights of a role, for one transaction. Only who may become a role may give it objects."""
    options = sql.keyword(f" WITH INHERIT TRUE, SET {'TRUE' if may_become else 'FALSE'}" if site.has_options else "")
    me = sql.name(site.server.user)
    return sql.statement("GRANT {role} TO {me}{options}", role=sql.name(role), me=me, options=options)
