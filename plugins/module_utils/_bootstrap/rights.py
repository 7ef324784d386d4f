# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What the connector needs to hand out access later: our own roles, the right to end sessions, and roles to grant."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, plain
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.connector import (
    ConnectorReport,
    MembershipReport,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Membership, Role, RoleGraph
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import SECOND

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import RoleFacts
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

SIGNAL = "pg_signal_backend"
OWN_ROLES = {
    names.MARKER: "latchkey.postgres: a role that is a member of this one was made by it and may be dropped by it",
    names.GRAVEYARD: "latchkey.postgres: owns what people left behind when their access ended",
}


@dataclass(frozen=True, kw_only=True)
class RightsReport:
    """What the connector holds of it now, or why not; what was run for it."""

    rights: tuple[MembershipReport, ...] = ()
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One right, and the statements of its transaction; ``reason``: why none is sent."""

    role: str
    statements: tuple[Composable, ...] = ()
    reason: str | None = None
    proven: bool = True


def require_grantable(session: Session, options: Options, graph: RoleGraph) -> None:
    """Refuse, before anything is changed, a role that nobody should be put into for a time."""
    for role in options.grantable_roles:
        why = plain.objection(role, graph, connector=options.connector)
        if why is not None:
            raise InvalidOption(
                f"grantable_roles: {role!r} can't be handed out: {why}; nothing was changed",
                where=session.where,
                next_step="Take it out of the list",
            )


def expected(graph: RoleGraph, options: Options, connector: ConnectorReport) -> RoleGraph:
    """The roles after the connector's own statements, so that check mode plans what a run does."""
    roles = dict(graph.roles)
    before = roles.get(options.connector) or Role(name=options.connector, oid=0)
    inherit = before.inherit or not graph.has_options
    roles[options.connector] = replace(before, login=True, create_role=True, inherit=inherit)
    memberships = graph.memberships
    if not graph.has_options and not before.inherit:
        memberships = tuple(replace(m, inherit=True) if m.member == options.connector else m for m in memberships)
    given = connector.membership
    if given is not None and given.reason is None:
        memberships += (Membership(role=given.role, member=options.connector),)
    return replace(graph, roles=roles, memberships=memberships)


def ensure(session: Session, options: Options, graph: RoleGraph, *, check: bool) -> RightsReport:
    """Give what is missing, each right by itself: what is refused stops nothing else."""
    facts = catalog.read_role_facts(session, tuple(OWN_ROLES))
    wishes = [_own_role(role, options, graph, facts.get(role)) for role in OWN_ROLES]
    wishes.append(_signal(options, graph))
    wishes += [_grantable(role, options, graph) for role in dict.fromkeys(options.grantable_roles) if role != SIGNAL]
    report = RightsReport()
    for wish in wishes:
        report = _fulfil(session, wish, graph, report, check=check)
    return report


def verified(report: c.Iterable[MembershipReport], options: Options, graph: RoleGraph) -> tuple[MembershipReport, ...]:
    """The rights, less what the catalog does not show although the server took the statement."""
    connector = replace(graph, me=options.connector)
    return tuple(
        replace(right, granted=False, reason="the server took the statement, but the catalog does not show it")
        if right.granted and not _holds(right.role, options, connector)
        else right
        for right in report
    )


def _holds(role: str, options: Options, connector: RoleGraph) -> bool:
    if role not in connector.roles or options.connector not in connector.roles:
        return False
    handed_out = role != SIGNAL or SIGNAL in options.grantable_roles
    may_use = role != SIGNAL or connector.has_rights_of(SIGNAL)
    return may_use and (not handed_out or connector.may_grant_membership(role))


def _own_role(role: str, options: Options, graph: RoleGraph, facts: RoleFacts | None) -> Wish:
    strange = _strange(role, graph, facts)
    if strange is not None:
        return Wish(role=role, statements=(_admin_grant(role, options, graph),), reason=strange)
    comment = sql.statement("COMMENT ON ROLE {role} IS {text}", role=sql.name(role), text=sql.literal(OWN_ROLES[role]))
    statements: list[Composable] = []
    if facts is None:
        statements.append(sql.statement("CREATE ROLE {role}", role=sql.name(role)))
    if facts is None or (facts.comment is None and graph.may_grant_membership(role)):
        statements.append(comment)
    wish = _with_admin(Wish(role=role, statements=tuple(statements)), options, graph)
    # Its maker administers it.
    return wish if facts is not None else replace(wish, reason=None, proven=True)


def _strange(role: str, graph: RoleGraph, facts: RoleFacts | None) -> str | None:
    """A role of our name that can do something is somebody else's: its members would gain by it."""
    if facts is None:
        return None
    others = sorted(graph.reached_from(role) - {role})
    if facts.attributes or others:
        what = f"is a member of {others[0]}" if others else "has LOGIN or other attributes"
        return f"role {role} {what}: it is not this collection's, and is left alone"
    return None


def _signal(options: Options, graph: RoleGraph) -> Wish:
    connector = replace(graph, me=options.connector)
    if _holds(SIGNAL, options, connector):
        return Wish(role=SIGNAL)
    words = ""
    if graph.has_options:
        words = " WITH ADMIN TRUE, INHERIT TRUE" if SIGNAL in options.grantable_roles else " WITH INHERIT TRUE"
    return _granting(Wish(role=SIGNAL), _membership(SIGNAL, options, words), graph)


def _grantable(role: str, options: Options, graph: RoleGraph) -> Wish:
    return _with_admin(Wish(role=role), options, graph)


def _with_admin(wish: Wish, options: Options, graph: RoleGraph) -> Wish:
    """The connector administers it; before 16 it may, by CREATEROLE."""
    connector = replace(graph, me=options.connector)
    if not graph.has_options or (wish.role in graph.roles and connector.may_grant_membership(wish.role)):
        return wish
    return _granting(wish, _admin_grant(wish.role, options, graph), graph)


def _admin_grant(role: str, options: Options, graph: RoleGraph) -> Composable:
    member = any(m.member == options.connector for m in graph.members_of(role))
    # The options of a membership that is there already stay as they are.
    words = " WITH ADMIN TRUE" if member else " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
    return _membership(role, options, words if graph.has_options else "")


def _membership(role: str, options: Options, words: str) -> Composable:
    template = "GRANT {role} TO {member}{words}"
    return sql.statement(template, role=sql.name(role), member=sql.name(options.connector), words=sql.keyword(words))


def _granting(wish: Wish, grant: Composable, graph: RoleGraph) -> Wish:
    proven = wish.role in graph.roles and graph.may_grant_membership(wish.role)
    reason = None if proven else f"login {graph.me} has no ADMIN OPTION on {wish.role}"
    return replace(wish, statements=(*wish.statements, grant), reason=reason, proven=proven)


def _fulfil(session: Session, wish: Wish, graph: RoleGraph, report: RightsReport, *, check: bool) -> RightsReport:
    """Send one right's statements in one transaction, where it may work."""
    reason = wish.reason
    may_try = reason is None or (not wish.proven and graph.open_engine and not check)
    if may_try and not check and wish.statements:
        reason = _refusal(session, wish.statements)
    sent = wish.statements if reason is None else ()
    right = MembershipReport(
        role=wish.role,
        granted=reason is None and not (check and sent),
        reason=reason,
        sql=None if reason is None else "; ".join(one.as_string(None) for one in wish.statements),
    )
    return RightsReport(rights=(*report.rights, right), statements=(*report.statements, *map(Statement.plain, sent)))


def _refusal(session: Session, statements: tuple[Composable, ...]) -> str | None:
    try:
        execute_together(session, statements)
    except psycopg.Error as error:
        if session.lost:
            raise
        return f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    return None


# ------------------------------------------------------------------ the way back
@dataclass(frozen=True, kw_only=True)
class OwnRoles:
    """Which of our roles go with the connector, and what stops that."""

    dropped: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


def has_another(connector: str, graph: RoleGraph) -> bool:
    """Whether somebody else hands out access too: since 16 by ADMIN OPTION on our roles; before, it leaves no trace."""
    return any(m.admin and m.member not in (connector, graph.me) for role in OWN_ROLES for m in graph.members_of(role))


def plan_own_roles(session: Session, connector: str, graph: RoleGraph, *, shared: bool) -> OwnRoles:
    """``shared``: there is another connector."""
    second = _plan_second(session, connector, graph)
    common = OwnRoles() if shared else _plan_common(session, connector, graph)
    return OwnRoles(dropped=common.dropped + second.dropped, obstacles=common.obstacles + second.obstacles)


def _plan_second(session: Session, connector: str, graph: RoleGraph) -> OwnRoles:
    """The login that takes turns with it, which `pg_rotate_credentials` has made."""
    second = connector + SECOND
    if second not in graph.roles or catalog.read_acts_as(session, login=second) != connector:
        return OwnRoles()
    if catalog.read_role_facts(session, (second,))[second].needed:
        return OwnRoles(obstacles=(f"the server: {second}, its second login, owns or holds something itself",))
    if not graph.may_grant_membership(second):
        return OwnRoles(obstacles=(f"the server: login {graph.me} has no ADMIN OPTION on its second login {second}",))
    return OwnRoles(dropped=(second,))


def _plan_common(session: Session, connector: str, graph: RoleGraph) -> OwnRoles:
    """Those of all connectors go with the last.

    People's roles that carry the marker must go first: without it nothing would end their access.
    """
    facts = catalog.read_role_facts(session, tuple(OWN_ROLES))
    others = {role: [m for m in graph.members_of(role) if m.member not in (connector, graph.me)] for role in OWN_ROLES}
    people = sorted({m.member for m in others[names.MARKER]}) if names.MARKER in facts else []
    if people:
        what = "role of a person is a member" if len(people) == 1 else "roles of people are members"
        step = "end all access with pg_access_sweep first"
        return OwnRoles(obstacles=(f"the server: {len(people)} {what} of {names.MARKER}: {step}",))
    return OwnRoles(
        dropped=tuple(
            role
            for role, found in facts.items()
            if not found.needed
            and not others[role]
            and graph.may_grant_membership(role)
            and _strange(role, graph, found) is None
        )
    )
