# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Taking from PUBLIC what every login would otherwise have, and giving it to a role that remembers it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import (
    PUBLIC,
    PUBLIC_HEIR,
    PublicRight,
    read_public_databases,
    read_public_objects,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.reconcile import Outcome, reconcile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.transfer import (
    holdings_of,
    make_transfer_plan,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import EVERYBODY, Plan

if t.TYPE_CHECKING:
    import collections.abc as c

    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

COMMENT = "latchkey.postgres: holds what was taken from PUBLIC; who still needs it can be made a member"

Rights = tuple[PublicRight, ...]


@dataclass(frozen=True, kw_only=True)
class PublicEntry:
    """What everybody had or has on one object; ``hardened``: only members of the heir still have it."""

    right: PublicRight
    hardened: bool

    def values(self) -> dict[str, t.Any]:
        right = self.right
        return {
            "database": right.database,
            "kind": right.kind.value,
            "name": str(right.name),
            "privileges": list(right.privileges),
            "hardened": self.hardened,
        }


def ensure_heir(session: Session, graph: RoleGraph, *, check: bool) -> tuple[Statement, ...]:
    """The role that gets what is taken. The login is its member, so that it is not locked out itself."""
    statements: list[Composable] = []
    heir = sql.name(PUBLIC_HEIR)
    if PUBLIC_HEIR not in graph.roles:
        statements.append(sql.statement("CREATE ROLE {heir}", heir=heir))
        text = sql.literal(COMMENT)
        statements.append(sql.statement("COMMENT ON ROLE {heir} IS {text}", heir=heir, text=text))
    if _is_outside(graph):
        statements.append(_membership(graph))
    if statements and not check:
        _execute(session, statements)
    return tuple(map(Statement.plain, statements))


def _is_outside(graph: RoleGraph) -> bool:
    inside = PUBLIC_HEIR in graph.roles and graph.has_rights_of(PUBLIC_HEIR)
    member = any(m.member == graph.me and not m.admin for m in graph.members_of(PUBLIC_HEIR))
    return not inside and not graph.roles[graph.me].superuser and (graph.has_options or not member)


def _membership(graph: RoleGraph) -> Composable:
    words = sql.keyword(" WITH INHERIT TRUE, SET FALSE" if graph.has_options else "")
    return sql.statement("GRANT {heir} TO {me}{words}", heir=sql.name(PUBLIC_HEIR), me=sql.name(graph.me), words=words)


def require_ours(session: Session, graph: RoleGraph) -> None:
    """A role of this name that can do something would get what everybody had, and give its members more.

    And the login must be a member of it, or lock itself out.
    """
    if PUBLIC_HEIR not in graph.roles:
        return
    facts = catalog.read_role_facts(session, (PUBLIC_HEIR,))[PUBLIC_HEIR]
    if facts.attributes or len(graph.reached_from(PUBLIC_HEIR)) > 1:
        raise DatabaseRefused(
            f"harden_public: role {PUBLIC_HEIR} has LOGIN or other attributes, or is a member of another role;"
            " nothing was changed",
            where=session.where,
            next_step="Rename that role, or set harden_public to false",
        )
    if _is_outside(graph) and not (graph.may_grant_membership(PUBLIC_HEIR) or graph.open_engine):
        raise DatabaseRefused(
            f"harden_public: login {graph.me} is no member of role {PUBLIC_HEIR}, and has no ADMIN OPTION on it;"
            " nothing was changed",
            where=session.where,
            next_step=f"Run as who may: {_membership(graph).as_string(None)}; or set harden_public to false",
        )


def _execute(session: Session, statements: c.Iterable[Composable]) -> None:
    try:
        execute_together(session, statements)
    except psycopg.Error as error:
        if session.lost:
            raise
        raise DatabaseRefused(
            f"harden_public: role {PUBLIC_HEIR} could not be made: {error.diag.message_primary}",
            where=session.where,
            next_step="Set harden_public to false, or run as an administrator that may make roles and administers it",
        ) from error


def harden_databases(
    session: Session, platform: Platform, names: c.Collection[str], graph: RoleGraph, *, check: bool
) -> Outcome[Rights]:
    """The databases themselves; from the maintenance database."""

    def look() -> Rights:
        return tuple(right for right in read_public_databases(session, platform) if right.database in names)

    return _harden(session, look, graph, database_owner="", check=check)


def harden_objects(
    session: Session, platform: Platform, graph: RoleGraph, *, database_owner: str, check: bool
) -> Outcome[Rights]:
    """What is in the database of the session."""
    return _harden(
        session,
        lambda: read_public_objects(session, platform),
        graph,
        database_owner=database_owner,
        check=check,
    )


def _harden(
    session: Session, look: c.Callable[[], Rights], graph: RoleGraph, *, database_owner: str, check: bool
) -> Outcome[Rights]:
    def plan(rights: Rights) -> Plan:
        return make_transfer_plan(
            holdings_of(rights), source=EVERYBODY, target=PUBLIC_HEIR, graph=graph, database_owner=database_owner
        )

    return reconcile(session, look=look, plan=plan, graph=graph, check=check)


def entries(open_ones: Rights, held: Rights) -> tuple[PublicEntry, ...]:
    """What everybody has still, and what the heir holds in everybody's place."""
    found = [
        *(PublicEntry(right=right, hardened=False) for right in open_ones),
        *(PublicEntry(right=right, hardened=True) for right in held),
    ]
    return tuple(sorted(found, key=_order))


def _order(entry: PublicEntry) -> tuple[str, ...]:
    right = entry.right
    return right.database, right.kind.value, str(right.name), str(entry.hardened)


def read_held(session: Session, platform: Platform, graph: RoleGraph, *, databases: bool) -> Rights:
    """What the heir holds, if there is one."""
    heir = graph.roles.get(PUBLIC_HEIR)
    if heir is None or heir.oid == PUBLIC:
        return ()
    read = read_public_databases if databases else read_public_objects
    return read(session, platform, grantee=heir.oid)
