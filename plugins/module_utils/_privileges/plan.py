# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Desired minus actual, as transactions in order. Pure: it reads values and makes values."""

from __future__ import annotations

import collections
import collections.abc as c
import itertools
import typing as t
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Route
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    DATABASE_OWNER,
    MOST_OBJECTS,
    AnyStep,
    Batch,
    Cause,
    DefaultItem,
    DefaultStep,
    Entitlement,
    Gap,
    Kind,
    Known,
    Plan,
    Scope,
    Snapshot,
    Step,
    Uncovered,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph

REFUSED_BY_RULE = "42501"  # insufficient_privilege: what the server would answer


def missing_defaults(
    snapshot: Snapshot, *, entitlement: Entitlement, scope: Scope, known: Known, creators: c.Iterable[str]
) -> tuple[DefaultItem, ...]:
    """Default privileges that the creators do not give yet.

    They are set for the whole database if all of it is meant; else per schema, so that an excluded schema stays so.
    """
    if scope.objects is not None:
        return ()
    held: dict[tuple[str, str | None, Kind], set[str]] = {
        (item.creator, item.schema, item.kind): set(item.privileges) for item in snapshot.defaults
    }
    places: tuple[str | None, ...] = (None,) if scope.whole_database else snapshot.schemas
    kinds = [kind for kind in entitlement.privileges if kind is not Kind.DATABASE]
    found = []
    for creator, schema, kind in itertools.product(sorted(creators), places, kinds):
        if creator == entitlement.grantee or (kind is Kind.SCHEMA and schema is not None):
            continue
        already = held.get((creator, schema, kind), set()) | held.get((creator, None, kind), set())
        missing = tuple(p for p in entitlement.of(kind, known) if p not in already)
        if missing:
            found.append(DefaultItem(creator=creator, schema=schema, kind=kind, privileges=missing))
    return tuple(found)


def make_plan(
    gaps: c.Iterable[Gap],
    defaults: c.Iterable[DefaultItem],
    *,
    entitlement: Entitlement,
    known: Known,
    graph: RoleGraph,
    database_owner: str,
    own_first: bool = False,
) -> Plan:
    """Who gives what: each owner's part in batches, and what no route leads to.

    ``own_first``: by the login's own grant option where it has one, though it may act as the owner.
    """
    todo: dict[str, list[AnyStep]] = collections.defaultdict(list)
    passable: list[tuple[str, AnyStep]] = []
    uncovered: list[Uncovered] = []
    for gap in gaps:
        step = grant(gap, entitlement=entitlement, known=known)
        if gap.reserved:
            uncovered.append(_platforms(gap.owner, step))
        elif gap.passable and (own_first or way(gap.owner, database_owner, graph=graph) is None):
            passable.append((gap.owner, step))
        else:
            todo[gap.owner].append(step)
    for item in defaults:
        todo[item.creator].append(default_grant(item, entitlement=entitlement, known=known))
    batches = [Batch(owner=owner, steps=(step,), route=graph.own_route()) for owner, step in passable]
    for owner, steps in sorted(todo.items()):
        route = way(owner, database_owner, graph=graph)
        if route is None:
            uncovered.append(_no_way(owner, tuple(steps), graph=graph))
        else:
            batches.append(Batch(owner=owner, steps=tuple(steps), route=route))
    return Plan(batches=tuple(part for batch in batches for part in cut(batch)), uncovered=tuple(uncovered))


def grant(gap: Gap, *, entitlement: Entitlement, known: Known) -> Step:
    return Step(
        verb=Verb.GRANT,
        grantee=entitlement.grantee,
        kind=gap.kind,
        privileges=gap.privileges,
        every_privilege=set(gap.privileges) == set(known[gap.kind]),
        objects=gap.objects,
        grant_option=entitlement.grant_option,
    )


def default_grant(item: DefaultItem, *, entitlement: Entitlement, known: Known) -> DefaultStep:
    return DefaultStep(
        verb=Verb.GRANT,
        grantee=entitlement.grantee,
        item=item,
        every_privilege=set(item.privileges) == set(known[item.kind]),
        grant_option=entitlement.grant_option,
    )


def cut(batch: Batch) -> c.Iterator[Batch]:
    """The same work in transactions of at most `MOST_OBJECTS` names."""
    waiting: list[AnyStep] = []
    size = 0
    for step in itertools.chain.from_iterable(map(_cut_step, batch.steps)):
        cost = len(step.objects) or 1
        if waiting and size + cost > MOST_OBJECTS:
            yield Batch(owner=batch.owner, steps=tuple(waiting), route=batch.route)
            waiting, size = [], 0
        waiting.append(step)
        size += cost
    if waiting:
        yield Batch(owner=batch.owner, steps=tuple(waiting), route=batch.route)


def _cut_step(step: AnyStep) -> tuple[AnyStep, ...]:
    if not isinstance(step, Step):
        return (step,)
    starts = range(0, len(step.objects), MOST_OBJECTS)
    return tuple(replace(step, objects=step.objects[start : start + MOST_OBJECTS]) for start in starts)


def way(owner: str, database_owner: str, *, graph: RoleGraph) -> Route | None:
    """How to act as an owner, or as who gave something.

    The owner of the database must become pg_database_owner: before 16 a NOINHERIT one has none of its rights, and
    with its own rights alone the server would take for the grantor any role it is a member of that holds the
    privilege as well, such as the group it is to be taken from.
    """
    if owner != DATABASE_OWNER:
        return graph.route(owner)
    if database_owner == graph.me:
        return Route(role=DATABASE_OWNER)
    route = graph.route(database_owner)
    return route if route is None or route.inherited else replace(route, role=DATABASE_OWNER)


def _platforms(owner: str, step: AnyStep) -> Uncovered:
    return Uncovered(
        owner=owner,
        steps=(step,),
        cause=Cause.PLATFORM,
        sqlstate=REFUSED_BY_RULE,
        reason="it belongs to the platform, which lets nobody else give privileges on it",
    )


def _no_way(owner: str, steps: tuple[AnyStep, ...], *, graph: RoleGraph) -> Uncovered:
    why, remedy = f"no role that it administers holds ADMIN OPTION on {owner}", None
    if owner in graph.roles and graph.would_be_circular(owner):
        why = f"{owner} is itself a member of {graph.me}"
    elif graph.has_options:
        statement = sql.statement(
            "GRANT {owner} TO {me} WITH ADMIN OPTION;", owner=sql.name(owner), me=sql.name(graph.me)
        )
        remedy = statement.as_string(None)
    return Uncovered(
        owner=owner,
        steps=steps,
        cause=Cause.NO_WAY,
        sqlstate=REFUSED_BY_RULE,
        reason=f"login {graph.me} may not act as {owner}: {why}",
        remedy=remedy,
    )
