# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The connector itself: its role, its password and its membership in the administrators' group."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import diagnosis, scram, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session

HIDDEN = "********"


@dataclass(frozen=True, kw_only=True)
class MembershipReport:
    """The connector's membership in the platform's group: there, given now, or why not."""

    role: str
    granted: bool
    reason: str | None = None
    sql: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectorReport:
    name: str
    created: bool = False
    dropped: bool = False
    statements: tuple[Statement, ...] = ()
    membership: MembershipReport | None = None


def ensure(session: Session, options: Options, graph: RoleGraph, *, check: bool) -> ConnectorReport:
    """Make the role what it should be; with ``check`` only say what would be done."""
    role = graph.roles.get(options.connector)
    _require_group(options, graph, where=session.where)
    # Before 16 it is the member's attribute that makes a membership of use.
    uses = options.access or (options.platform_membership and graph.platform.admin_group is not None)
    if role is not None:
        require_admin(role, graph, where=session.where)
    statements = _role_statements(session, options, role, inherit=uses and not graph.has_options)
    if not check:
        execute_together(session, (statement.command for statement in statements))
    report = ConnectorReport(name=options.connector, created=role is None, statements=statements)
    return _with_membership(session, options, graph, report, check=check)


def _require_group(options: Options, graph: RoleGraph, *, where: str) -> None:
    """With grant_to=platform_group a connector outside the group would have nothing."""
    group = graph.platform.admin_group
    if not options.grant_to_group or group is None or _is_member(options, graph, group):
        return
    if not (graph.may_grant_membership(group) or graph.open_engine):
        raise DatabaseRefused(
            f"login {graph.me} has no ADMIN OPTION on {group} and can't make {options.connector} a member",
            where=where,
            next_step="Run as the first administrator of the server, or set grant_to to connector",
        )


def _is_member(options: Options, graph: RoleGraph, group: str) -> bool:
    return any(m.member == options.connector and m.inherit for m in graph.members_of(group))


def _role_statements(session: Session, options: Options, role: Role | None, *, inherit: bool) -> tuple[Statement, ...]:
    """Only attributes that differ are named: to repeat SUPERUSER or REPLICATION, even as NO…, is refused."""
    connector = sql.name(options.connector)
    if role is None:
        return (_role_statement(session, options, "CREATE ROLE {role} LOGIN CREATEROLE"),)
    wanted = (("LOGIN", role.login), ("CREATEROLE", role.create_role), ("INHERIT", role.inherit or not inherit))
    attributes = " ".join(word for word, held in wanted if not held)
    statements = []
    if attributes:
        template = sql.statement("ALTER ROLE {role} {what}", role=connector, what=sql.keyword(attributes))
        statements.append(Statement.plain(template))
    if options.always_set_password and options.connector_password and not logs_in(options):
        statements.append(_role_statement(session, options, "ALTER ROLE {role}"))
    return tuple(statements)


def _role_statement(session: Session, options: Options, template: str) -> Statement:
    role = sql.name(options.connector)
    if options.connector_password is None:
        return Statement.plain(sql.statement(template, role=role))
    sent = options.connector_password
    if options.encrypt_password_here:
        sent = scram.verifier(session, role=options.connector, password=sent)

    def compose(password: str) -> Composable:
        return sql.statement(template + " PASSWORD {password}", role=role, password=sql.literal(password))

    return Statement(command=compose(sent), shown=compose(HIDDEN))


def login_as(options: Options, *, password: str | None) -> Login:
    """The connector's own login."""
    login = options.login
    return login.identified(options.connector, password, source=login.source, database=login.database)


def refusal(login: Login) -> ServerUnreachable | None:
    """Why a login fails."""
    try:
        sessions.connect(login, read_only=True).close()
    except ServerUnreachable as error:
        return error
    return None


def logs_in(options: Options) -> bool:
    """Whether the password is the present one. pg_authid is closed on RDS, so a login decides."""
    error = refusal(login_as(options, password=options.connector_password))
    return error is None or diagnosis.is_let_in(error.what)


def require_admin(role: Role, graph: RoleGraph, *, where: str) -> None:
    """Everything is given to the connector: it must be a role that this login, and no stranger, manages."""
    if role.superuser and not graph.roles[graph.me].superuser:
        raise DatabaseRefused(
            f"role {role.name} is a superuser, which {graph.me} may not change",
            where=where,
            next_step="Choose another connector",
        )
    if not (graph.may_grant_membership(role.name) or graph.open_engine):
        holders = sorted({m.member for m in graph.members_of(role.name) if m.admin}) or ["a superuser"]
        raise DatabaseRefused(
            f"role {role.name} exists, and {graph.me} has no ADMIN OPTION on it, so it can't be changed",
            where=where,
            next_step=(
                f"Ask {' or '.join(holders)} to run:"
                f" {_grant_sql(role.name, graph.me).as_string(None)} WITH ADMIN OPTION; or choose another connector"
            ),
        )


def _grant_sql(role: str, member: str) -> Composable:
    return sql.statement("GRANT {role} TO {member}", role=sql.name(role), member=sql.name(member))


def _with_membership(
    session: Session, options: Options, graph: RoleGraph, report: ConnectorReport, *, check: bool
) -> ConnectorReport:
    group = graph.platform.admin_group
    if not options.platform_membership or group is None or group not in graph.roles:
        return report
    if _is_member(options, graph, group):
        return replace(report, membership=MembershipReport(role=group, granted=True))
    wanted = _grant_sql(group, options.connector)
    if graph.has_options and options.connector in graph.roles:
        # A bare GRANT leaves an existing membership, and one of a NOINHERIT role, without the group's rights.
        wanted = sql.statement("{grant} WITH INHERIT TRUE", grant=wanted)
    proven = graph.may_grant_membership(group)
    reason = None
    if check or not (proven or graph.open_engine):
        reason = None if proven else f"login {graph.me} has no ADMIN OPTION on {group}"
    else:
        try:
            execute_together(session, [wanted])
        except psycopg.Error as error:
            reason = f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    if reason is not None:
        said = MembershipReport(role=group, granted=False, reason=reason, sql=wanted.as_string(None))
        return replace(report, membership=said)
    given = MembershipReport(role=group, granted=not check)
    return replace(report, membership=given, statements=(*report.statements, Statement.plain(wanted)))
