# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""inspect, plan, apply, inspect again: the engine's loop over one set of objects.

The caller says how to look and how to plan; what was achieved is read from the catalog and never from a command tag.
"""

from __future__ import annotations

import collections.abc as c
import itertools
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges import apply as applying
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    AnyStep,
    Batch,
    Cause,
    DefaultStep,
    Kind,
    ObjectName,
    Plan,
    Step,
    Uncovered,
)

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

S = t.TypeVar("S")
# What appears between the first look and the end of the first round is done in the second; the rest is the next run's.
ROUNDS = 2
NOTHING_GRANTED = frozenset({"01007", "01006"})  # warnings: no privileges were granted, or revoked


class Item(t.NamedTuple):
    """One thing to do, by name: what a refusal is remembered by."""

    kind: Kind
    name: ObjectName | None = None
    schema: str | None = None
    creator: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome(t.Generic[S]):
    """One set of objects before and after; ``planned`` is what the first look asked for."""

    before: S
    after: S
    planned: Plan
    uncovered: tuple[Uncovered, ...]
    statements: tuple[Composable, ...] = ()


def reconcile(
    session: Session, *, look: c.Callable[[], S], plan: c.Callable[[S], Plan], graph: RoleGraph, check: bool
) -> Outcome[S]:
    """Make the plan come true, in at most `ROUNDS` rounds; with ``check`` only say what would be done."""
    before = after = look()
    planned = todo = plan(before)
    refused: dict[Item, Uncovered] = {}
    statements: tuple[Composable, ...] = ()
    for _round in range(0 if check else ROUNDS):
        batches = tuple(itertools.chain.from_iterable(without(batch, refused) for batch in todo.batches))
        if not batches:
            break
        applied = applying.apply(session, batches, graph=graph)
        statements += applied.statements
        refused.update((item, refusal) for refusal in applied.refused for item in items(refusal.steps))
        after = look()
        todo = plan(after)
    uncovered = todo.uncovered
    if check:
        uncovered += tuple(_unproven(batch) for batch in todo.batches if not batch.route.proven)
    else:
        for batch in todo.batches:
            uncovered += tuple(_explained(batch, refused, session))
    return Outcome(before=before, after=after, planned=planned, uncovered=merged(uncovered), statements=statements)


def items(steps: c.Iterable[AnyStep]) -> c.Iterator[Item]:
    for step in steps:
        if isinstance(step, DefaultStep):
            yield Item(step.item.kind, schema=step.item.schema, creator=step.item.creator)
        else:
            for name in step.objects:
                yield Item(step.kind, name)


def without(batch: Batch, refused: c.Collection[Item]) -> c.Iterator[Batch]:
    """The batch less what was refused before, if anything is left."""
    if not refused:
        yield batch
        return
    steps: list[AnyStep] = []
    for step in batch.steps:
        if isinstance(step, Step):
            left = tuple(name for name in step.objects if Item(step.kind, name) not in refused)
            if left:
                steps.append(replace(step, objects=left))
        elif not any(item in refused for item in items([step])):
            steps.append(step)
    if steps:
        yield replace(batch, steps=tuple(steps))


def merged(uncovered: c.Iterable[Uncovered]) -> tuple[Uncovered, ...]:
    """One entry per owner and reason."""
    found: dict[tuple[t.Any, ...], Uncovered] = {}
    for entry in uncovered:
        key = (entry.owner, entry.cause, entry.sqlstate, entry.reason)
        known = found.get(key)
        found[key] = entry if known is None else replace(known, steps=known.steps + entry.steps)
    return tuple(found[key] for key in sorted(found, key=str))


def _unproven(batch: Batch) -> Uncovered:
    return Uncovered(
        owner=batch.owner,
        steps=batch.steps,
        cause=Cause.NO_WAY,
        sqlstate=None,
        reason="the catalog does not say whether the platform allows it; a run without check mode will try",
    )


def _explained(batch: Batch, refused: c.Mapping[Item, Uncovered], session: Session) -> c.Iterator[Uncovered]:
    """Why each step of a batch is still to do after all rounds."""
    warning = next((n for n in reversed(session.notices) if n.sqlstate in NOTHING_GRANTED), None)
    for step in batch.steps:
        refusal = next((refused[item] for item in items([step]) if item in refused), None)
        if refusal is not None:
            yield replace(refusal, steps=(step,))
        elif warning is not None:
            yield Uncovered(
                owner=batch.owner,
                steps=(step,),
                cause=Cause.REFUSED,
                sqlstate=warning.sqlstate,
                reason=warning.message,
            )
        else:
            reason = "it appeared during the run"
            yield Uncovered(owner=batch.owner, steps=(step,), cause=Cause.UNKNOWN, sqlstate=None, reason=reason)
