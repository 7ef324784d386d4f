# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Behind `pg_apono_bootstrap`: one server, from its options to its report."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import absent, credentials, present, rights
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import connector as connectors
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import options as parsing
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Door, Params, Result
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import only_run

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import ConnectorSecret, Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.report import Report
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session


def bootstrap(params: Params, context: Context) -> Result:
    options = parsing.parse(params, context)
    remove = params["state"] == "absent"
    with sessions.connect(options.login, read_only=context.check) as session:
        if context.check:
            return _result(_work(session, options, context, remove=remove), options, context)
        sessions.require_primary(session)
        with only_run(session):
            return _result(_work(session, options, context, remove=remove), options, context)


def _work(session: Session, options: Options, context: Context, *, remove: bool) -> Report:
    server = catalog.read_server(session)
    graph = catalog.read_graph(session, server=server, platform=options.platform)
    _require_rights(session, options, server, graph)
    if not remove:
        rights.require_grantable(session, options, graph)
    if options.secret is not None and not remove:
        return _with_secret(session, options, options.secret, context, server=server, graph=graph)
    act = absent.remove if remove else present.provide
    return act(session, options, server=server, graph=graph, platform=graph.platform, check=context.check)


def _with_secret(
    session: Session, options: Options, secret: ConnectorSecret, context: Context, *, server: Server, graph: RoleGraph
) -> Report:
    """In this order, so that a run that ends anywhere loses nothing: secret, role and privileges, tag, trial."""
    role = graph.roles.get(options.connector)
    if role is not None:
        connectors.require_admin(role, graph, where=session.where)
    held = credentials.provide(options, secret, role=role, check=context.check)
    context.hide(held.credentials.password)
    if held.credentials.username == options.connector:  # else it is that of the second of two logins
        options = replace(options, connector_password=held.credentials.password)
    report = present.provide(session, options, server=server, graph=graph, platform=graph.platform, check=context.check)
    said = credentials.announce(secret, held, check=context.check)
    to_be_made = context.check and (said.created or said.replaced or report.connector.statements)
    return replace(report, secret=said if to_be_made else credentials.verify(options, secret, held, said))


def _require_rights(session: Session, options: Options, server: Server, graph: RoleGraph) -> None:
    """Say before anything is changed what this login can't do."""
    platform = graph.platform
    if platform.admin_group is not None and platform.admin_group not in graph.roles:
        raise DatabaseRefused(
            f"platform: {platform.name} was given, but the server has no role {platform.admin_group}",
            where=session.where,
            next_step="Set platform to auto or postgres",
        )
    if options.grant_to_group and platform.admin_group is None:
        raise DatabaseRefused(
            "grant_to: this server has no platform_group", where=session.where, next_step="Set grant_to to connector"
        )
    if not (server.create_role or server.superuser):
        raise DatabaseRefused(
            f"login {server.user} has no CREATEROLE and can't make a connector",
            where=session.where,
            next_step="Give the server's administrator in login_user",
        )


def _result(report: Report, options: Options, context: Context) -> Result:
    blemishes = report.blemishes
    failure, kind = None, DatabaseRefused.kind
    if report.secret is not None and report.secret.reason:
        failure = f"What a reader of secret {report.secret.name} gets does not log in: {report.secret.reason}"
        kind = report.secret.kind
    elif options.fail_on_uncovered and blemishes:
        failure = f"{report.where}: not everything is covered: {'; '.join(blemishes)}. Look at uncovered for the SQL"
    return Result(
        changed=report.changed,
        values=report.values(),
        diff=report.diff() if context.diff else None,
        warnings=tuple(f"{report.where}: {line}" for line in report.unreached),
        failure=failure,
        failure_kind=kind,
    )


BOOTSTRAP = Door(arguments=parsing.ARGUMENTS, run=bootstrap, rules=parsing.RULES)
