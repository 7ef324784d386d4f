# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""One database of the server: open it, run the engine there, close it."""

from __future__ import annotations

import collections.abc as c
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import hardening
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.report import (
    Visit,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import diagnosis
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import transaction
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import TEMPLATE1
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import Question, read_snapshot
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import make_plan, missing_defaults
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.reconcile import Outcome, reconcile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Step, Verb

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Plan, Snapshot

# Pauses (s) before a further attempt when the server has no free connection slot.
PAUSES = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every visit needs; the same for all databases of a server."""

    options: Options
    graph: RoleGraph
    question: Question
    check: bool
    # The journal that goes or stays by itself when the connector goes: its database, and the OID of its table.
    journal: t.Optional[tuple[str, int]] = None  # noqa: UP045


def visit_all(job: Job, databases: c.Iterable[str]) -> tuple[Visit, ...]:
    """Several databases at once; template1 last and alone, because nobody can CREATE DATABASE meanwhile."""
    todo = list(databases)
    others = [name for name in todo if name != TEMPLATE1]
    with ThreadPoolExecutor(max_workers=job.options.connections) as pool:
        visits = list(pool.map(lambda name: visit(job, name), others))
    _once_more(job, visits)
    if TEMPLATE1 in todo:
        visits.append(visit(job, TEMPLATE1))
    return tuple(visits)


def _once_more(job: Job, visits: list[Visit]) -> None:
    """What found no free slot beside the others gets one alone; where there is none even so, the server is full."""
    for number, missed in enumerate(visits):
        if missed.reachable or not diagnosis.is_server_full(missed.reason or ""):
            continue
        visits[number] = again = visit(job, missed.database)
        if not again.reachable and diagnosis.is_server_full(again.reason or ""):
            return


def visit(job: Job, database: str) -> Visit:
    """Whatever goes wrong with one database is reported and stops no other."""
    try:
        with open_patiently(job, database, read_only=job.check) as session:
            outcome = _run_engine(session, job)
            found = _report(database, outcome, job=job)
            return _harden(session, job, found, outcome.after.database_owner) if job.options.harden_public else found
    except ServerUnreachable as error:
        return Visit(database=database, reachable=False, reason=error.what)
    except psycopg.Error as error:
        reason = error.diag.message_primary or "the connection was lost"
        return Visit(database=database, reachable=False, reason=reason)


def open_patiently(job: Job, database: str, *, read_only: bool = False) -> Session:
    """A session with one database; a server that is full is asked again, because slots come free."""
    for pause in PAUSES:
        try:
            return sessions.connect(job.options.login, database=database, read_only=read_only)
        except ServerUnreachable as error:
            if not diagnosis.is_full(error.what):
                raise
        time.sleep(pause)
    return sessions.connect(job.options.login, database=database, read_only=read_only)


def _run_engine(session: Session, job: Job) -> Outcome[Snapshot]:
    def plan(snapshot: Snapshot) -> Plan:
        defaults = missing_defaults(
            snapshot,
            entitlement=job.question.entitlement,
            scope=job.question.scope,
            known=job.question.known,
            creators={*snapshot.creators, job.graph.me} if job.options.default_privileges else (),
        )
        return make_plan(
            snapshot.gaps,
            defaults,
            entitlement=job.question.entitlement,
            known=job.question.known,
            graph=job.graph,
            database_owner=snapshot.database_owner,
        )

    return reconcile(
        session, look=lambda: read_snapshot(session, job.question), plan=plan, graph=job.graph, check=job.check
    )


def _report(database: str, outcome: Outcome[Snapshot], *, job: Job) -> Visit:
    before, after = outcome.before, outcome.after
    statements = sent_statements(outcome, job)
    return Visit(
        database=database,
        objects=after.objects,
        covered=after.covered,
        changed=bool(statements) if job.check else before != after,
        uncovered=outcome.uncovered,
        statements=tuple(map(Statement.plain, statements)),
        planned=outcome.planned,
    )


def _harden(session: Session, job: Job, found: Visit, database_owner: str) -> Visit:
    """The visit with what was taken from PUBLIC in its database."""
    platform = job.question.platform
    outcome = hardening.harden_objects(session, platform, job.graph, database_owner=database_owner, check=job.check)
    held = hardening.read_held(session, platform, job.graph, databases=False)
    statements = sent_statements(outcome, job)
    return replace(
        found,
        changed=found.changed or bool(statements),
        uncovered=(*found.uncovered, *outcome.uncovered),
        statements=(*found.statements, *map(Statement.plain, statements)),
        public=hardening.entries(outcome.after, held),
        moved=_moved(outcome),
    )


def _moved(outcome: Outcome[t.Any]) -> tuple[Step, ...]:
    """What went from PUBLIC to its heir, or would."""
    refused = {step for entry in outcome.uncovered for step in entry.steps}
    steps = (step for batch in outcome.planned.batches for step in batch.steps)
    return tuple(step for step in steps if isinstance(step, Step) and step.verb is Verb.REVOKE and step not in refused)


def sent_statements(outcome: Outcome[t.Any], job: Job) -> tuple[Composable, ...]:
    return planned_statements(outcome.planned, graph=job.graph) if job.check else outcome.statements


def planned_statements(plan: Plan, *, graph: RoleGraph) -> tuple[Composable, ...]:
    """What a run would send, as far as the catalog says that it would work."""
    proven = (batch for batch in plan.batches if batch.route.proven)
    return tuple(command for batch in proven for command in transaction(batch, graph=graph))
