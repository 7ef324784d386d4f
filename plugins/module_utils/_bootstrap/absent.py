# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""state=absent: the way back. Everything is looked at first; if anything stops it, nothing is changed."""

from __future__ import annotations

import collections.abc as c
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.connector import (
    ConnectorReport,
    require_admin,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.databases import choose, obstacle
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.report import (
    Report,
    Visit,
    on_database,
    planned_lines,
    step_lines,
)
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
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import (
    make_revoke_plan,
    read_holdings,
    read_passed_on,
    read_ties,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    Question,
    read_defaults,
    read_known,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    Batch,
    Entitlement,
    Kind,
    ObjectName,
    Plan,
    Step,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database, Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# The databases that hold anything of a role, or only privileges of it.
TIED_DATABASES = """
SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %(role)s::oid AND (s.deptype = 'a' OR %(anything)s)
"""
MORE_THAN_A_CONNECTOR = "SELECT rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE oid = %(role)s::oid"
SHARED_TIES = """
SELECT CASE deptype WHEN 'o' THEN 'owns ' ELSE 'has privileges on ' END || pg_describe_object(classid, objid, objsubid)
  FROM pg_shdepend
 WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid AND dbid = 0
   AND (deptype = 'o' OR classid <> ALL (ARRAY['pg_database'::regclass, 'pg_auth_members'::regclass]::oid[]))
"""
GIVEN_MEMBERSHIPS = """
SELECT format('has made %%s a member of %%s', pg_get_userbyid(member), pg_get_userbyid(roleid))
  FROM pg_auth_members WHERE grantor = %(role)s::oid
"""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What is to be taken back in one place, and what stops it; ``database`` None: the databases themselves."""

    database: str | None
    plan: Plan
    owner: str = ""
    ties: tuple[str, ...] = ()

    @property
    def obstacles(self) -> tuple[str, ...]:
        place = f"database {self.database}" if self.database else "the server"
        given = tuple(f"it holds privileges given by {entry.owner}: {entry.reason}" for entry in self.plan.uncovered)
        return tuple(f"{place}: {line}" for line in (*self.ties, *given))


def remove(
    session: Session, options: Options, *, server: Server, graph: RoleGraph, platform: Platform, check: bool
) -> Report:
    role = graph.roles.get(options.connector)
    if role is not None:
        _require_connector(session, role, graph)
    job = _job(session, options, graph, platform, check=check)
    removals = _survey(session, job, role)
    obstacles = tuple(line for removal in removals for line in removal.obstacles)
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
        connector=ConnectorReport(name=options.connector, statements=dropped),
        visits=visits,
        statements=(*at_server, *dropped),
        lost=tuple(line for removal in removals if removal.database is None for line in _database_lines(removal.plan)),
    )


def _require_connector(session: Session, role: Role, graph: RoleGraph) -> None:
    """A slip of the pen must not drop somebody else's role: an application's, or another administrator's."""
    lacking = not (role.login and role.create_role)
    if lacking or session.rows(MORE_THAN_A_CONNECTOR, {"role": role.oid})[0][0]:
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


def _survey(session: Session, job: Job, role: Role | None) -> tuple[Removal, ...]:
    """Look everywhere; the databases themselves last, because their CONNECT is needed until then."""
    databases = catalog.read_databases(session)
    of_group = _of_group(job)
    asked = {"role": job.question.grantee, "anything": not of_group}
    tied = {row[0] for row in session.rows(TIED_DATABASES, asked)}
    wanted = [database for database in databases if database.name in tied]
    if of_group:
        chosen = choose(databases, job.options, where=session.where)
        wanted = [
            database for database in chosen if database.name in tied and not obstacle(database, job.question.platform)
        ]
    with ThreadPoolExecutor(max_workers=job.options.connections) as pool:
        removals = list(pool.map(lambda database: _look(job, database, role), wanted))
    return (*removals, _look_at_server(session, job, role))


def _look(job: Job, database: Database, role: Role | None) -> Removal:
    if not (database.valid and database.allows_connections and database.may_connect):
        reason = f"it has privileges there, and {job.graph.me} can't enter"
        return Removal(database=database.name, plan=Plan(), ties=(reason,))
    with open_patiently(job, database.name, read_only=True) as session:
        return Removal(
            database=database.name,
            owner=database.owner,
            plan=_plan(session, job, database_owner=database.owner),
            ties=(*_it(read_ties(session, role=role.oid) if role else ()), *_passed_on(session, job, role)),
        )


def _of_group(job: Job) -> bool:
    return job.question.entitlement.grantee != job.options.connector


def _it(ties: c.Iterable[str]) -> tuple[str, ...]:
    return tuple(f"it {tie}" for tie in ties)


def _passed_on(session: Session, job: Job, role: Role | None, *, databases: bool = False) -> tuple[str, ...]:
    """What others hold by the connector's grant, or by the group's if that is to lose its privileges."""
    found = _it(read_passed_on(session, role=role.oid, databases=databases) if role else ())
    if _of_group(job) and job.question.grantee is not None:
        group = job.question.entitlement.grantee
        ties = read_passed_on(session, role=job.question.grantee, databases=databases)
        found += tuple(f"{group} {tie}" for tie in ties)
    return found


def _plan(session: Session, job: Job, *, database_owner: str, databases: bool = False) -> Plan:
    holdings = read_holdings(session, job.question, databases=databases)
    defaults = () if databases else read_defaults(session, job.question)
    if _of_group(job):
        # What the platform itself gave its group is not ours to take.
        holdings = tuple(h for h in holdings if h.grantor not in job.question.platform.superusers)
    return make_revoke_plan(
        holdings,
        defaults,
        grantee=job.question.entitlement.grantee,
        known=job.question.known,
        graph=job.graph,
        database_owner=database_owner,
    )


def _look_at_server(session: Session, job: Job, role: Role | None) -> Removal:
    plan = _plan(session, job, database_owner="", databases=True)
    passed_on = _passed_on(session, job, role, databases=True)
    if role is None:
        return Removal(database=None, plan=plan, ties=passed_on)
    asked = {"role": role.oid}
    ties = [row[0] for query in (SHARED_TIES, GIVEN_MEMBERSHIPS) for row in session.rows(query, asked)]
    if job.graph.has_options:
        ties += [
            f"administers role {m.role}, which nobody else could drop then"
            for m in job.graph.memberships
            if m.member == role.name and m.admin and not job.graph.platform.owns_role(m.role)
        ]
    return Removal(database=None, plan=_with_entries(session, job, plan), ties=(*_it(ties), *passed_on))


def _with_entries(session: Session, job: Job, plan: Plan) -> Plan:
    """First of all the connector takes back the CONNECT by which the administrator came in."""
    connector = job.options.connector
    rows = session.rows(
        """
        SELECT d.datname::text FROM pg_database d, aclexplode(d.datacl) AS a
         WHERE a.grantor = %(role)s::oid AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = current_user)
        """,
        {"role": job.graph.roles[connector].oid},
    )
    route = job.graph.route(connector)
    if not rows or route is None:
        return plan
    step = Step(
        verb=Verb.REVOKE,
        grantee=job.graph.me,
        kind=Kind.DATABASE,
        privileges=("CONNECT",),
        every_privilege=False,
        objects=tuple(ObjectName(None, row[0]) for row in rows),
        grant_option=False,
    )
    return Plan(batches=(Batch(owner=connector, steps=(step,), route=route), *plan.batches), uncovered=plan.uncovered)


def _take_back(session: Session, job: Job, removal: Removal) -> None:
    if removal.database is None:
        applied = apply(session, removal.plan.batches, graph=job.graph)
        left = _plan(session, job, database_owner="", databases=True)
    else:
        with open_patiently(job, removal.database) as there:
            applied = apply(there, removal.plan.batches, graph=job.graph)
            left = _plan(there, job, database_owner=removal.owner)
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


def _visit(removal: Removal, job: Job) -> Visit:
    statements = planned_statements(removal.plan, graph=job.graph)
    return Visit(
        database=str(removal.database),
        changed=bool(statements),
        statements=tuple(map(Statement.plain, statements)),
        lost=planned_lines(removal.plan),
    )
