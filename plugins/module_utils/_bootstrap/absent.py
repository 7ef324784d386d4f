# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""state=absent: the way back. Everything is looked at first; if anything stops it, nothing is changed."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.connector import (
    ConnectorReport,
    require_admin,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.report import (
    Report,
    Visit,
    on_database,
    planned_lines,
    step_lines,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.survey import Removal, plan_removal, survey
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.visit import (
    Job,
    open_patiently,
    planned_statements,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import apply
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    Question,
    read_known,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    DefaultStep,
    Entitlement,
    Kind,
    Plan,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# As many databases are named when something stops the removal.
MOST_DATABASES = 5


def remove(
    session: Session, options: Options, *, server: Server, graph: RoleGraph, platform: Platform, check: bool
) -> Report:
    role = graph.roles.get(options.connector)
    if role is not None:
        _require_connector(session, role, graph)
    job = _job(session, options, graph, platform, check=check)
    removals = survey(session, job, role)
    obstacles = _obstacles(removals)
    if obstacles:
        raise DatabaseRefused(
            f"{options.connector} can't be removed and nothing was changed: {'; '.join(obstacles)}",
            where=session.where,
            next_step="Take these away first, then run again",
        )
    drop = Statement.plain(sql.statement("DROP ROLE {role}", role=sql.name(options.connector)))
    if not check:
        for removal in removals:
            _take_back(session, job, removal)
        if role is not None:
            retrying(lambda: session.execute(drop.command))
    visits = tuple(_visit(removal, job) for removal in removals if removal.database)
    at_server = tuple(
        Statement.plain(command)
        for removal in removals
        if removal.database is None
        for command in planned_statements(removal.plan, graph=graph)
    )
    dropped = (drop,) if role is not None else ()
    return Report(
        server=server,
        platform=platform,
        where=session.where,
        connector=ConnectorReport(name=options.connector, dropped=role is not None, statements=dropped),
        visits=visits,
        statements=(*at_server, *dropped),
        lost=tuple(line for removal in removals if removal.database is None for line in _database_lines(removal.plan)),
    )


def _obstacles(removals: tuple[Removal, ...]) -> tuple[str, ...]:
    """What stops it: in the first databases, and in the server. All of a hundred databases nobody would read."""
    stopped = [removal.obstacles for removal in removals if removal.database is not None and removal.obstacles]
    lines = [line for found in stopped[:MOST_DATABASES] for line in found]
    if len(stopped) > MOST_DATABASES:
        lines.append(f"and {len(stopped) - MOST_DATABASES} more databases")
    return (*lines, *(line for removal in removals if removal.database is None for line in removal.obstacles))


def _require_connector(session: Session, role: Role, graph: RoleGraph) -> None:
    """A slip of the pen must not drop somebody else's role: an application's, or another administrator's."""
    lacking = not (role.login and role.create_role)
    if lacking or catalog.has_more_attributes(session, role=role.oid):
        why = "it lacks LOGIN or CREATEROLE" if lacking else "it has CREATEDB, REPLICATION or BYPASSRLS"
        raise DatabaseRefused(
            f"role {role.name} is no connector: {why}; nothing was changed",
            where=session.where,
            next_step="Check the option connector",
        )
    require_admin(role, graph, where=session.where)


def _job(session: Session, options: Options, graph: RoleGraph, platform: Platform, *, check: bool) -> Job:
    """Of the connector all is taken back; of the group what this collection gives: that with grant option."""
    grantee = options.connector
    if options.grant_to_group and platform.admin_group:
        grantee = platform.admin_group
    return Job(
        options=options,
        graph=graph,
        check=check,
        question=Question(
            entitlement=Entitlement(
                grantee=grantee, privileges=dict.fromkeys(Kind), grant_option=grantee != options.connector
            ),
            scope=options.scope,
            known=read_known(session),
            platform=platform,
            grantee=graph.roles[grantee].oid if grantee in graph.roles else None,
        ),
    )


def _take_back(session: Session, job: Job, removal: Removal) -> None:
    if removal.database is None:
        applied = apply(session, removal.plan.batches, graph=job.graph)
        left = plan_removal(session, job, database_owner="", databases=True)
    else:
        with open_patiently(job, removal.database) as there:
            applied = apply(there, removal.plan.batches, graph=job.graph)
            left = plan_removal(there, job, database_owner=removal.owner)
    if left.batches and not applied.refused:
        raise DatabaseRefused(
            f"what {left.batches[0].owner} gave in {removal.database or 'the server'} is still there",
            where=session.where,
            next_step="Run again: it goes on where it stopped",
        )
    if applied.refused:
        first = applied.refused[0]
        raise DatabaseRefused(
            f"what {first.owner} gave in {removal.database or 'the server'} could not be taken back: {first.reason}",
            where=session.where,
            next_step="Run again: it goes on where it stopped",
        )


def _database_lines(plan: Plan) -> tuple[str, ...]:
    """Lines of the diff for the databases themselves, each with its database as the others have."""
    steps = [step for batch in plan.batches for step in batch.steps]
    databases = dict.fromkeys(str(name) for step in steps for name in step.objects)
    return tuple(f"{name}: {line}" for name in databases for line in step_lines(on_database(steps, name)))


def _lost_lines(plan: Plan, connector: str) -> tuple[str, ...]:
    """Lines of the diff for one database; what the connector's own default privileges are about is others' to have."""
    others = tuple(batch for batch in plan.batches if batch.owner != connector)
    lines = [*planned_lines(Plan(batches=others))]
    its = (batch for batch in plan.batches if batch.owner == connector and batch.route.proven)
    for step in (step for batch in its for step in batch.steps):
        end = ""
        if isinstance(step, DefaultStep):
            grantee = "PUBLIC" if step.grantee == EVERYBODY else step.grantee
            end = f" to {grantee}" if step.verb is Verb.REVOKE else f" withheld from {grantee}"
        lines += [line + end for line in step_lines((step,))]
    return tuple(lines)


def _visit(removal: Removal, job: Job) -> Visit:
    statements = planned_statements(removal.plan, graph=job.graph)
    return Visit(
        database=str(removal.database),
        changed=bool(statements),
        statements=tuple(map(Statement.plain, statements)),
        lost=_lost_lines(removal.plan, job.options.connector),
    )
