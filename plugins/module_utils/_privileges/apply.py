# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Carrying out a plan: one transaction per batch, as the owner.

A membership that is borrowed for it is returned in the same transaction: no other session ever sees it, and a lost
connection undoes it. What the server says of a GRANT is not believed; the caller reads the catalog again.
"""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import is_transient, retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.statements import compose
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Batch, Cause, Uncovered

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

INSUFFICIENT_PRIVILEGE = "42501"
# While the one object is looked for that holds up a batch, waiting long for each half would add up.
SHORT_LOCK_TIMEOUT = "200ms"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was committed, and what was refused."""

    statements: tuple[Composable, ...] = ()
    refused: tuple[Uncovered, ...] = ()

    def __add__(self, other: Applied) -> Applied:
        return Applied(statements=self.statements + other.statements, refused=self.refused + other.refused)


class _BorrowRefused(Exception):
    """The owner's role could not be taken or returned: no object of the batch is to blame."""

    def __init__(self, reason: str, sqlstate: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate


def apply(session: Session, batches: c.Iterable[Batch], *, graph: RoleGraph) -> Applied:
    """Do all that can be done; one batch that fails does not stop the next."""
    done = Applied()
    for batch in batches:
        done += _apply(session, batch, graph=graph, attempts=3)
    return done


def transaction(batch: Batch, *, graph: RoleGraph) -> tuple[Composable, ...]:
    """The statements of one batch between BEGIN and COMMIT."""
    steps = tuple(compose(step) for step in batch.steps)
    take, give_back = borrow(batch.route.borrow, graph=graph, inherit=batch.route.inherited)
    if batch.route.inherited:
        return (*take, *steps, *give_back)
    become = sql.statement("SET LOCAL ROLE {role}", role=sql.name(batch.route.role))
    return (*take, become, *steps, sql.statement("RESET ROLE"), *give_back)


def borrow(
    roles: tuple[str, ...], *, graph: RoleGraph, inherit: bool = False
) -> tuple[tuple[Composable, ...], tuple[Composable, ...]]:
    """The statements that take memberships, and those that return them.

    Lenders are inherited, since their ADMIN OPTION is what is needed of them. The options are always named, because a
    bare GRANT leaves those of an existing membership as they are.
    """
    me = sql.name(graph.me)
    take = []
    for role in roles:
        use = " WITH INHERIT TRUE, SET FALSE" if inherit or role != roles[-1] else " WITH INHERIT FALSE, SET TRUE"
        options = sql.keyword(use if graph.has_options else "")
        take.append(sql.statement("GRANT {role} TO {me}{options}", role=sql.name(role), me=me, options=options))
    # No GRANTED BY: the server finds the same grantor again, and RDS refuses the one that it has recorded.
    give_back = [sql.statement("REVOKE {role} FROM {me}", role=sql.name(role), me=me) for role in reversed(roles)]
    return tuple(take), tuple(give_back)


def _apply(session: Session, batch: Batch, *, graph: RoleGraph, attempts: int) -> Applied:
    try:
        return Applied(statements=_attempt_ways(session, batch, graph=graph, attempts=attempts))
    except _BorrowRefused as refusal:
        return Applied(refused=(_refusal(batch, refusal.sqlstate, refusal.reason, busy=False),))
    except psycopg.Error as error:
        if session.lost:
            raise ServerUnreachable(
                "the connection was lost; nothing half-done remains", where=session.where, next_step="Run again"
            ) from error
        if batch.size == 1:
            reason = error.diag.message_primary or str(error)
            return Applied(refused=(_refusal(batch, error.sqlstate, reason, busy=is_transient(error)),))
    done = Applied()
    for part in batch.split():
        done += _apply(session, part, graph=graph, attempts=1)
    return done


def _attempt_ways(session: Session, batch: Batch, *, graph: RoleGraph, attempts: int) -> tuple[Composable, ...]:
    """As the owner; and if that is refused, with the login's own identity and the owner's rights.

    The second way serves an owner that may not use the schema its objects are in; PostgreSQL records the owner as
    grantor all the same.
    """
    patient = attempts > 1
    try:
        return retrying(lambda: _attempt(session, batch, graph=graph, patient=patient), attempts=attempts)
    except psycopg.Error as error:
        detour = None if batch.route.inherited else graph.inheriting(batch.route)
        if error.sqlstate != INSUFFICIENT_PRIVILEGE or detour is None:
            raise
        other = replace(batch, route=detour)
        try:
            return retrying(lambda: _attempt(session, other, graph=graph, patient=patient), attempts=attempts)
        except (psycopg.Error, _BorrowRefused):
            raise error from None


def _attempt(session: Session, batch: Batch, *, graph: RoleGraph, patient: bool) -> tuple[Composable, ...]:
    """One transaction; it commits only if the login's memberships are what they were."""
    statements = transaction(batch, graph=graph)
    borrowed = len(batch.route.borrow)
    with session.writing():
        if not patient:
            session.execute(sql.statement("SET LOCAL lock_timeout = {t}", t=sql.literal(SHORT_LOCK_TIMEOUT)))
        before = catalog.membership_rows(session, batch.route.borrow) if borrowed else ""
        for number, command in enumerate(statements):
            try:
                session.execute(command)
            except psycopg.Error as error:
                if number < borrowed and not is_transient(error) and not session.lost:
                    raise _BorrowRefused(error.diag.message_primary or str(error), error.sqlstate) from error
                raise
        if borrowed and catalog.membership_rows(session, batch.route.borrow) != before:
            raise _BorrowRefused(f"the membership in {batch.owner} did not come back as it was: rolled back")
    return statements


def _refusal(batch: Batch, sqlstate: str | None, reason: str, *, busy: bool) -> Uncovered:
    return Uncovered(
        owner=batch.owner,
        steps=batch.steps,
        cause=Cause.BUSY if busy else Cause.REFUSED,
        sqlstate=sqlstate,
        reason=reason,
    )
