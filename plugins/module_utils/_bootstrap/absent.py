# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""state=absent: the way back. Everything is looked at first; if anything stops it, nothing is changed."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access.enforcement import NAME
from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import SCHEMA
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import journal as journals
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
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.rights import (
    OwnRoles,
    has_another,
    plan_own_roles,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.softening import give_back, survey_heir
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.survey import Removal, plan_removal, survey
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.visit import (
    Job,
    open_patiently,
    planned_statements,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import apply
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    Question,
    read_known,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PUBLIC_HEIR
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    DefaultStep,
    Entitlement,
    Kind,
    Plan,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.journal import JournalRemoval
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# As many databases are named when something stops the removal.
MOST_DATABASES = 5


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All that is to be done and all that stops it, before anything is changed."""

    removals: tuple[Removal, ...]
    softening: tuple[Removal, ...] = ()
    own_roles: OwnRoles = field(default_factory=OwnRoles)
    journal: t.Optional[JournalRemoval] = None  # noqa: UP045
    drops: tuple[Statement, ...] = ()


def remove(
    session: Session, options: Options, *, server: Server, graph: RoleGraph, platform: Platform, check: bool
) -> Report:
    role = graph.roles.get(options.connector)
    if role is not None:
        _require_connector(session, role, graph)
    job = _job(session, options, graph, platform, check=check)
    found = _look(session, job, role)
    obstacles = _obstacles(found)
    if obstacles:
        raise DatabaseRefused(
            f"{options.connector} can't be removed and nothing was changed: {'; '.join(obstacles)}",
            where=session.where,
            next_step=_remedy(obstacles),
        )
    if not check:
        found = _do(session, job, found)
    visits = tuple(_visit(removal, job) for removal in (*found.softening, *found.removals) if removal.database)
    journal = tuple(map(Statement.plain, found.journal.statements)) if found.journal else ()
    lost = (_database_lines(removal.plan) for removal in found.removals if removal.database is None)
    return Report(
        server=server,
        platform=platform,
        where=session.where,
        connector=ConnectorReport(name=options.connector, dropped=role is not None, statements=found.drops),
        visits=_joined(visits),
        statements=(*_at_server(found.softening, job), *journal, *_at_server(found.removals, job), *found.drops),
        lost=(*_own_lines(found), *(line for lines in lost for line in lines)),
    )


def _look(session: Session, job: Job, role: Role | None) -> Survey:
    connector, graph = job.options.connector, job.graph
    if role is None:
        return Survey(removals=survey(session, job, None))
    state = journals.read_state(session, connector)
    journal = journals.plan_removal(session, state, connector)
    if journal is not None:
        job = replace(job, journal=(journal.database, journal.table))
    # What all connectors share goes with the last, the hardening as well.
    shared = (bool(state.in_shape) and state.shared) or has_another(connector, graph)
    own = plan_own_roles(session, connector, graph, shared=shared)
    softening = () if shared else survey_heir(session, job)
    names = (connector, *own.dropped, *((PUBLIC_HEIR,) if softening else ()))
    return Survey(
        removals=survey(session, job, role),
        softening=softening,
        own_roles=own,
        journal=journal,
        drops=tuple(Statement.plain(sql.statement("DROP ROLE {role}", role=sql.name(name))) for name in names),
    )


def _do(session: Session, job: Job, found: Survey) -> Survey:
    """What is PUBLIC's first, because the login may need it to enter; the roles last, together."""
    give_back(session, job, found.softening)
    if found.journal is not None:
        found = replace(found, journal=journals.remove(session, found.journal, job.options.connector))
    for removal in found.removals:
        _take_back(session, job, removal)
    execute_together(session, (drop.command for drop in found.drops))
    return found


def _at_server(removals: tuple[Removal, ...], job: Job) -> tuple[Statement, ...]:
    return tuple(
        Statement.plain(command)
        for removal in removals
        if removal.database is None
        for command in planned_statements(removal.plan, graph=job.graph)
    )


def _joined(visits: tuple[Visit, ...]) -> tuple[Visit, ...]:
    """One for each database, although it may be visited twice."""
    found: dict[str, Visit] = {}
    for visit in visits:
        known = found.get(visit.database)
        found[visit.database] = (
            visit
            if known is None
            else replace(
                visit,
                changed=known.changed or visit.changed,
                statements=known.statements + visit.statements,
                lost=known.lost + visit.lost,
            )
        )
    return tuple(found[name] for name in sorted(found))


def _own_lines(found: Survey) -> tuple[str, ...]:
    """Lines of the diff for what is this collection's own."""
    kept = found.journal is None or found.journal.kept
    roles = (*found.own_roles.dropped, *((PUBLIC_HEIR,) if found.softening else ()))
    return (
        *(f"role {name}" for name in roles),
        *(() if kept or found.journal is None else (f"{found.journal.database}: schema {SCHEMA}",)),
    )


def _obstacles(found: Survey) -> tuple[str, ...]:
    """What stops it: in the first databases, and in the server. All of a hundred databases nobody would read."""
    removals = (*found.removals, *found.softening)
    stopped = [removal.obstacles for removal in removals if removal.database is not None and removal.obstacles]
    lines = [line for found in stopped[:MOST_DATABASES] for line in found]
    if len(stopped) > MOST_DATABASES:
        lines.append(f"and {len(stopped) - MOST_DATABASES} more databases")
    at_server = (line for removal in removals if removal.database is None for line in removal.obstacles)
    return (*lines, *at_server, *found.own_roles.obstacles)


def _remedy(obstacles: tuple[str, ...]) -> str:
    enforced = any(f"{SCHEMA}.{NAME}()" in line for line in obstacles)
    what = f"Run pg_access_sweep with enforcement: none for {SCHEMA}.{NAME}(), take" if enforced else "Take"
    return f"{what} these away first, then run again"


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
