# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""state=present: the connector, its privileges on the databases, and a visit to each of them."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import connector as connectors
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import hardening, rights
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import journal as journals
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.report import (
    Access,
    Report,
    Visit,
    on_database,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.visit import (
    Job,
    sent_statements,
    visit_all,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import apply
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import choose, obstacle
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    Question,
    read_database_gaps,
    read_known,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import make_plan
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import (
    PUBLIC_HEIR,
    read_public_databases,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.reconcile import reconcile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    Batch,
    Entitlement,
    Gap,
    Kind,
    ObjectName,
    Plan,
    Step,
    Uncovered,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.connector import ConnectorReport
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.hardening import PublicEntry
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database, Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class DatabaseLevel:
    """What was done to the databases themselves, from the maintenance database."""

    statements: tuple[Statement, ...] = ()
    planned: Plan = field(default_factory=Plan)
    uncovered: tuple[Uncovered, ...] = ()

    def add_to(self, visit: Visit) -> Visit:
        """The visit with the part that is about its database."""
        left = [
            replace(entry, steps=steps)
            for entry in self.uncovered
            if (steps := on_database(entry.steps, visit.database))
        ]
        refused = {step for entry in left for step in entry.steps}
        asked = on_database((step for batch in self.planned.batches for step in batch.steps), visit.database)
        done = tuple(step for step in asked if step not in refused)
        given = tuple(step for step in done if step.grantee not in (EVERYBODY, PUBLIC_HEIR))
        moved = tuple(step for step in done if step.grantee == EVERYBODY)
        return replace(
            visit,
            uncovered=(*left, *visit.uncovered),
            given=(*given, *visit.given),
            moved=(*moved, *visit.moved),
            changed=visit.changed or bool(done),
        )


def provide(
    session: Session, options: Options, *, server: Server, graph: RoleGraph, platform: Platform, check: bool
) -> Report:
    chosen = _chosen(session, options)
    if options.harden_public:
        hardening.require_ours(session, graph)
    connector = connectors.ensure(session, options, graph, check=check)
    access = _ensure_access(session, options, graph, connector, check=check)
    if (connector.statements or access.statements) and not check:
        graph = catalog.read_graph(session, server=server, platform=platform)
        access = replace(access, rights=rights.verified(access.rights, options, graph))
    job = Job(
        options=options,
        graph=graph,
        check=check,
        question=Question(
            entitlement=_entitlement(options, platform),
            scope=options.scope,
            known=read_known(session),
            platform=platform,
            grantee=_oid(graph, _grantee(options, platform)),
        ),
    )
    visits, statements = _reach(session, job, chosen)
    if not check:
        seen = {database.name for database in chosen}
        now = _chosen(session, options)
        more, further = _reach(session, job, tuple(database for database in now if database.name not in seen))
        visits = _without_dropped(visits, {database.name for database in now}) + more
        statements += further
    return Report(
        server=server,
        platform=platform,
        where=session.where,
        connector=connector,
        access=access,
        visits=tuple(sorted(visits, key=lambda visit: visit.database)),
        statements=(*connector.statements, *access.statements, *statements),
        public=_public(session, job, visits) if options.harden_public else None,
    )


def _chosen(session: Session, options: Options) -> tuple[Database, ...]:
    return choose(catalog.read_databases(session), options.databases, but=options.left_out, where=session.where)


def _ensure_access(
    session: Session, options: Options, graph: RoleGraph, connector: ConnectorReport, *, check: bool
) -> Access:
    """What handing out access needs beside privileges; with ``check`` only what would be done."""
    heir = hardening.ensure_heir(session, graph, check=check) if options.harden_public else ()
    if not options.access:
        return Access(statements=heir)
    given = rights.ensure(session, options, rights.expected(graph, options, connector), check=check)
    journal = journals.ensure(session, options.connector, check=check) if options.journal else None
    written = journal.statements if journal else ()
    return Access(rights=given.rights, journal=journal, statements=(*given.statements, *written, *heir))


def _public(session: Session, job: Job, visits: tuple[Visit, ...]) -> tuple[PublicEntry, ...]:
    """What PUBLIC and its heir hold on the databases themselves, and what was found in them."""
    platform, names = job.question.platform, {visit.database for visit in visits}
    open_ones = read_public_databases(session, platform)
    held = hardening.read_held(session, platform, job.graph, databases=True)
    at_server = hardening.entries(open_ones, held)
    return (
        *(entry for entry in at_server if entry.right.database in names),
        *(entry for visit in visits for entry in visit.public),
    )


def _grantee(options: Options, platform: Platform) -> str:
    return platform.admin_group if options.grant_to_group and platform.admin_group else options.connector


def _entitlement(options: Options, platform: Platform) -> Entitlement:
    """Everything on every kind, so that the connector can pass any part of it on."""
    return Entitlement(grantee=_grantee(options, platform), privileges=dict.fromkeys(Kind), grant_option=True)


def _oid(graph: RoleGraph, role: str) -> int | None:
    return graph.roles[role].oid if role in graph.roles else None


def _reach(session: Session, job: Job, chosen: tuple[Database, ...]) -> tuple[tuple[Visit, ...], tuple[Statement, ...]]:
    """Give what is missing on the databases themselves, then visit those that can be entered."""
    platform = job.question.platform
    ours = [database.name for database in chosen if database.valid and database.name not in platform.databases]
    level = _give_on_databases(session, job, ours)
    hardened = _harden_databases(session, job, ours) if job.options.harden_public else DatabaseLevel()
    opened = DatabaseLevel() if job.check else _open_databases(session, job, chosen)
    may_enter = {database.name for database in catalog.read_databases(session) if database.may_connect}
    closed = [
        _closed(database, job) for database in chosen if obstacle(database, platform) or database.name not in may_enter
    ]
    shut = {visit.database for visit in closed}
    visits = visit_all(job, [database.name for database in chosen if database.name not in shut])
    joined = tuple(opened.add_to(hardened.add_to(level.add_to(visit))) for visit in (*closed, *visits))
    return joined, (*level.statements, *hardened.statements, *opened.statements)


def _closed(database: Database, job: Job) -> Visit:
    reason = obstacle(database, job.question.platform)
    if reason is not None:
        return Visit(database=database.name, reachable=False, reason=reason, expected=True)
    reason = f"login {job.graph.me} has no CONNECT privilege on it"
    if job.check:
        reason += "; a run would give it, if it may act as the grantee"
    return Visit(database=database.name, reachable=False, reason=reason, expected=job.check)


def _give_on_databases(session: Session, job: Job, databases: list[str]) -> DatabaseLevel:
    def plan(gaps: tuple[Gap, ...]) -> Plan:
        return make_plan(
            gaps,
            (),
            entitlement=job.question.entitlement,
            known=job.question.known,
            graph=job.graph,
            database_owner="",
        )

    outcome = reconcile(
        session,
        look=lambda: read_database_gaps(session, job.question, databases=databases),
        plan=plan,
        graph=job.graph,
        check=job.check,
    )
    statements = sent_statements(outcome, job)
    return DatabaseLevel(
        statements=tuple(map(Statement.plain, statements)), planned=outcome.planned, uncovered=outcome.uncovered
    )


def _harden_databases(session: Session, job: Job, databases: list[str]) -> DatabaseLevel:
    """After the connector has its own CONNECT, and before the login looks whether it is still let in."""
    outcome = hardening.harden_databases(session, job.question.platform, databases, job.graph, check=job.check)
    statements = sent_statements(outcome, job)
    return DatabaseLevel(
        statements=tuple(map(Statement.plain, statements)), planned=outcome.planned, uncovered=outcome.uncovered
    )


def _open_databases(session: Session, job: Job, chosen: tuple[Database, ...]) -> DatabaseLevel:
    """Let the administrator into databases that PUBLIC may not enter.

    The grantee passes its own CONNECT on, so the ACL records that it was given by it, and it goes when the grantee's
    privilege goes.
    """
    wanted = {database.name for database in chosen if not obstacle(database, job.question.platform)}
    grantee = job.question.entitlement.grantee
    route = job.graph.route(grantee)
    # Of any other database the server would take the GRANT, and grant nothing.
    wanted &= catalog.read_databases_to_pass_on(session, role=grantee)
    closed = [d.name for d in catalog.read_databases(session) if d.name in wanted and not d.may_connect]
    if not closed or route is None:
        return DatabaseLevel()
    step = Step(
        verb=Verb.GRANT,
        grantee=job.graph.me,
        kind=Kind.DATABASE,
        privileges=("CONNECT",),
        every_privilege=False,
        objects=tuple(ObjectName(None, name) for name in closed),
        grant_option=False,
    )
    batch = Batch(owner=grantee, steps=(step,), route=route)
    applied = apply(session, [batch], graph=job.graph)
    return DatabaseLevel(
        statements=tuple(map(Statement.plain, applied.statements)),
        planned=Plan(batches=(batch,)),
        uncovered=applied.refused,
    )


def _without_dropped(visits: tuple[Visit, ...], existing: set[str]) -> tuple[Visit, ...]:
    """A database that is gone was not refused to us."""
    return tuple(
        visit
        if visit.database in existing
        else Visit(database=visit.database, reachable=False, reason="it was dropped during the run", expected=True)
        for visit in visits
    )
