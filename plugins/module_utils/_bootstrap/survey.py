# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What state=absent would take back, place by place, and what stops it. Nothing is changed here."""

from __future__ import annotations

import collections.abc as c
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import SCHEMA
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.visit import Job, open_patiently
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import choose, obstacle
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import (
    make_revoke_plan,
    read_holdings,
    read_own_defaults,
    without_schema,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import read_defaults
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.statements import compose
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.ties import (
    counted,
    read_passed_on,
    read_shared_ties,
    read_tied_databases,
    read_ties,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    Batch,
    Kind,
    ObjectName,
    Plan,
    Step,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session


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
        return tuple(f"{place}: {line}" for line in self.ties)


def survey(session: Session, job: Job, role: Role | None) -> tuple[Removal, ...]:
    """Look everywhere; the databases themselves last, because their CONNECT is needed until then."""
    databases = catalog.read_databases(session)
    of_group = _of_group(job)
    tied = read_tied_databases(session, role=job.question.grantee, anything=not of_group)
    wanted = [database for database in databases if database.name in tied]
    if of_group:
        chosen = choose(databases, job.options.databases, but=job.options.left_out, where=session.where)
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
        plan = plan_removal(session, job, database_owner=database.owner)
        ignored = job.journal[1] if job.journal and job.journal[0] == database.name else None
        ties = _it(read_ties(session, role=role.oid, ignored=ignored) if role else ())
        return Removal(
            database=database.name,
            owner=database.owner,
            plan=plan,
            ties=(*ties, *_passed_on(session, job, role), *_stuck(plan, job)),
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


def _stuck(plan: Plan, job: Job) -> tuple[str, ...]:
    """What was given by roles that the login may not act as: by the connector itself, and by others the first."""
    own = [entry for entry in plan.uncovered if entry.owner == job.options.connector]
    others = [entry for entry in plan.uncovered if entry.owner != job.options.connector]
    lines = []
    if own:
        first = compose(own[0].steps[0]).as_string(None)
        lines.append(
            f"it has default privileges of its own, and login {job.graph.me} may not act as it; begin with: {first};"
        )
    if others:
        more = f" (and so on: {len(others)} roles have given it some)" if len(others) > 1 else ""
        lines.append(f"it holds privileges given by {others[0].owner}: {others[0].reason}{more}")
    return tuple(lines)


def plan_removal(session: Session, job: Job, *, database_owner: str, databases: bool = False) -> Plan:
    holdings = read_holdings(session, job.question, databases=databases)
    if job.journal and job.journal[0] == session.connection.info.dbname:
        holdings = tuple(without_schema(holdings, SCHEMA))
    defaults = () if databases else read_defaults(session, job.question)
    role = job.graph.roles.get(job.options.connector)
    own = () if databases or role is None else read_own_defaults(session, role, known=job.question.known)
    if _of_group(job):
        # What the platform itself gave its group is not ours to take.
        holdings = tuple(h for h in holdings if h.grantor not in job.question.platform.superusers)
    return make_revoke_plan(
        holdings,
        defaults,
        own,
        grantee=job.question.entitlement.grantee,
        known=job.question.known,
        graph=job.graph,
        database_owner=database_owner,
    )


def _look_at_server(session: Session, job: Job, role: Role | None) -> Removal:
    plan = plan_removal(session, job, database_owner="", databases=True)
    passed_on = _passed_on(session, job, role, databases=True)
    if role is None:
        return Removal(database=None, plan=plan, ties=(*passed_on, *_stuck(plan, job)))
    ties = [*read_shared_ties(session, role=role.oid)]
    if job.graph.has_options:
        # What somebody else administers as well stays droppable: our own roles, and those that it may hand out.
        others = {m.role for m in job.graph.memberships if m.member != role.name and m.admin}
        memberships = (m for m in job.graph.memberships if m.member == role.name and m.admin)
        administered = sorted({m.role for m in memberships if not job.graph.platform.owns_role(m.role)} - others)
        if administered:
            theirs = f"role {administered[0]}, which nobody else could drop then"
            ties.append(counted("administers", len(administered), theirs, things="roles"))
    return Removal(
        database=None,
        plan=_with_entries(session, job, plan),
        ties=(*_it(ties), *passed_on, *_stuck(plan, job)),
    )


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
