# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Giving back to PUBLIC what hardening took: all that the heir holds. Looked at first, as everything of absent is."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.survey import Removal
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.visit import Job, open_patiently
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import apply
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import read_holdings
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PUBLIC_HEIR
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.ties import (
    read_passed_on,
    read_shared_ties,
    read_tied_databases,
    read_ties,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.transfer import make_transfer_plan
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    Entitlement,
    Kind,
    Plan,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session


def survey_heir(session: Session, job: Job) -> tuple[Removal, ...]:
    """What is to be given back, place by place, and what stops it; the databases themselves first."""
    heir = job.graph.roles.get(PUBLIC_HEIR)
    if heir is None:
        return ()
    entitlement = Entitlement(grantee=PUBLIC_HEIR, privileges=dict.fromkeys(Kind))
    job = replace(job, question=replace(job.question, entitlement=entitlement, grantee=heir.oid))
    tied = read_tied_databases(session, role=heir.oid, anything=True)
    wanted = [database for database in catalog.read_databases(session) if database.name in tied]
    with ThreadPoolExecutor(max_workers=job.options.connections) as pool:
        inside = list(pool.map(lambda database: _look(job, database, heir.oid), wanted))
    plan = _plan(session, job, database_owner="", databases=True)
    words = (*read_shared_ties(session, role=heir.oid), *read_passed_on(session, role=heir.oid, databases=True))
    ties = (*_of_heir(words), *_stuck(plan))
    if not job.graph.may_grant_membership(PUBLIC_HEIR):
        ties += (f"login {job.graph.me} has no ADMIN OPTION on {PUBLIC_HEIR} and can't drop it",)
    return (Removal(database=None, plan=plan, ties=ties), *inside)


def _look(job: Job, database: Database, heir: int) -> Removal:
    if not (database.valid and database.allows_connections and database.may_connect):
        reason = f"{PUBLIC_HEIR} has privileges there, and {job.graph.me} can't enter"
        return Removal(database=database.name, plan=Plan(), ties=(reason,))
    with open_patiently(job, database.name, read_only=True) as session:
        plan = _plan(session, job, database_owner=database.owner)
        words = (*read_ties(session, role=heir), *read_passed_on(session, role=heir))
        ties = (*_of_heir(words), *_stuck(plan))
        return Removal(database=database.name, owner=database.owner, plan=plan, ties=ties)


def _of_heir(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{PUBLIC_HEIR} {line}" for line in words)


def _stuck(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{PUBLIC_HEIR} can't give back everything: {entry.reason}" for entry in plan.uncovered[:1])


def _plan(session: Session, job: Job, *, database_owner: str, databases: bool = False) -> Plan:
    return make_transfer_plan(
        read_holdings(session, job.question, databases=databases),
        source=PUBLIC_HEIR,
        target=EVERYBODY,
        graph=job.graph,
        database_owner=database_owner,
    )


def give_back(session: Session, job: Job, removals: tuple[Removal, ...]) -> None:
    for removal in removals:
        if removal.database is None:
            applied = apply(session, removal.plan.batches, graph=job.graph)
        else:
            with open_patiently(job, removal.database) as there:
                applied = apply(there, removal.plan.batches, graph=job.graph)
        if applied.refused:
            first = applied.refused[0]
            raise DatabaseRefused(
                f"what {first.owner} gave to {PUBLIC_HEIR} in {removal.database or 'the server'} could not be given"
                f" back to PUBLIC: {first.reason}",
                where=session.where,
                next_step="Run again: it goes on where it stopped",
            )
