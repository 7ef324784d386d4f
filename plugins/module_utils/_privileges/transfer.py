# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Moving privileges from one grantee to another: given and taken in one transaction, so that none is ever forgotten."""

from __future__ import annotations

import collections
import collections.abc as c
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import Holding
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import REFUSED_BY_RULE, way
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    MOST_OBJECTS,
    Batch,
    Cause,
    Kind,
    ObjectName,
    Plan,
    Step,
    Uncovered,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PublicRight


def holdings_of(rights: c.Iterable[PublicRight]) -> tuple[Holding, ...]:
    """What can be hardened, by what is alike."""
    alike: dict[tuple[int, str, tuple[str, ...]], list[ObjectName]] = collections.defaultdict(list)
    for right in rights:
        if right.hardenable:
            alike[list(Kind).index(right.kind), right.grantor, right.privileges].append(right.name)
    return tuple(
        Holding(kind=list(Kind)[kind], grantor=grantor, privileges=privileges, objects=tuple(sorted(names, key=str)))
        for (kind, grantor, privileges), names in sorted(alike.items())
    )


def make_transfer_plan(
    holdings: c.Iterable[Holding], *, source: str, target: str, graph: RoleGraph, database_owner: str
) -> Plan:
    """Each privilege is moved by the role that gave it."""
    batches: list[Batch] = []
    stuck: list[Uncovered] = []
    for holding in sorted(holdings, key=lambda found: (found.grantor, list(Kind).index(found.kind), found.privileges)):
        route = way(holding.grantor, database_owner, graph=graph)
        giver = "PUBLIC" if source == EVERYBODY else source
        for start in range(0, len(holding.objects), MOST_OBJECTS // 2):
            objects = holding.objects[start : start + MOST_OBJECTS // 2]
            steps = (
                _step(Verb.GRANT, target, holding, objects),
                _step(Verb.REVOKE, source, holding, objects),
            )
            if route is not None:
                batches.append(Batch(owner=holding.grantor, steps=steps, route=route, together=True))
                continue
            stuck.append(
                Uncovered(
                    owner=holding.grantor,
                    steps=steps,
                    cause=Cause.NO_WAY,
                    sqlstate=REFUSED_BY_RULE,
                    reason=f"login {graph.me} may not act as {holding.grantor}, who gave it to {giver}",
                )
            )
    return Plan(batches=tuple(batches), uncovered=tuple(stuck))


def _step(verb: Verb, grantee: str, holding: Holding, objects: tuple[ObjectName, ...]) -> Step:
    return Step(
        verb=verb,
        grantee=grantee,
        kind=holding.kind,
        privileges=holding.privileges,
        every_privilege=False,
        objects=objects,
        grant_option=False,
    )
