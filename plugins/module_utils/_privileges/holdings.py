# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The way back: what a role holds by whose grant, and how that is taken away."""

from __future__ import annotations

import collections
import collections.abc as c
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import DATABASES, OBJECTS, Question
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import REFUSED_BY_RULE, cut, way
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    AnyStep,
    Batch,
    Cause,
    DefaultItem,
    DefaultStep,
    Kind,
    Known,
    ObjectName,
    Plan,
    Step,
    Uncovered,
    Verb,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

HOLDINGS = """
WITH scope AS (SELECT oid, nspname::text AS name, false AS reserved FROM pg_namespace),
object AS ({objects}),
held AS (
  SELECT o.kind, a.grantor, o.schema, o.name, o.arguments, array_agg(a.privilege_type::text) AS privileges
    FROM object o, aclexplode(o.acl) AS a
   WHERE a.grantee = %(grantee)s::oid AND o.owner <> a.grantee AND (a.is_grantable OR NOT %(grant_option)s)
   GROUP BY 1, 2, 3, 4, 5
)
SELECT kind, pg_get_userbyid(grantor)::text, privileges, array_agg(schema), array_agg(name), array_agg(arguments)
  FROM held GROUP BY 1, 2, 3
"""

# What else ties a role to the database of the session: nothing of this was given by the engine.
TIES = """
WITH tie AS (
  SELECT d.* FROM pg_shdepend d
   WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = %(role)s::oid
     AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT 'owns ' || pg_describe_object(classid, objid, objsubid) FROM tie WHERE deptype = 'o'
UNION ALL
SELECT 'is named in ' || pg_describe_object(classid, objid, objsubid) FROM tie WHERE deptype = 'r'
UNION ALL
SELECT 'has privileges on ' || pg_describe_object(classid, objid, objsubid) FROM tie
 WHERE deptype = 'a'
   AND (objsubid <> 0 OR classid <> ALL (ARRAY['pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                                               'pg_namespace'::regclass, 'pg_default_acl'::regclass]::oid[]))
 LIMIT 20
"""

# What others hold by the role's grant, and would stop a REVOKE.
PASSED_ON = """
WITH scope AS (SELECT oid, nspname::text AS name, false AS reserved FROM pg_namespace),
object AS ({objects})
SELECT DISTINCT format('has passed on privileges on %%s %%s to %%s', lower(kind), concat_ws('.', schema, name),
                       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END)
  FROM object o, aclexplode(o.acl) AS a
 WHERE a.grantor = %(role)s::oid AND a.grantee <> a.grantor AND o.owner <> a.grantor
   AND NOT (kind = 'DATABASE' AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = current_user))
 LIMIT 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Privileges that a role holds on objects of one kind, by one grantor's grant."""

    kind: Kind
    grantor: str
    privileges: tuple[str, ...]
    objects: tuple[ObjectName, ...]


def read_holdings(session: Session, question: Question, *, databases: bool = False) -> tuple[Holding, ...]:
    """What the grantee holds in the session's database, or on the given databases themselves."""
    parameters: dict[str, t.Any] = {
        "grantee": question.grantee,
        "grant_option": question.entitlement.grant_option,
        "databases": None,
    }
    objects = OBJECTS
    if databases:
        objects, parameters["databases"] = (
            DATABASES,
            [row[0] for row in session.rows("SELECT datname::text FROM pg_database")],
        )
    rows = session.rows(HOLDINGS.format(objects=objects), parameters)
    return tuple(
        Holding(
            kind=Kind(kind),
            grantor=grantor,
            privileges=tuple(sorted(privileges)),
            objects=tuple(sorted(map(ObjectName, schemas, names, arguments), key=str)),
        )
        for kind, grantor, privileges, schemas, names, arguments in rows
    )


def read_ties(session: Session, *, role: int) -> tuple[str, ...]:
    """What else stops DROP ROLE in the session's database, in words."""
    return tuple(row[0] for row in session.rows(TIES, {"role": role}))


def read_passed_on(session: Session, *, role: int, databases: bool = False) -> tuple[str, ...]:
    """What others hold by the role's grant in the session's database, or on the databases themselves, in words."""
    names = [row[0] for row in session.rows("SELECT datname::text FROM pg_database")] if databases else None
    query = PASSED_ON.format(objects=DATABASES if databases else OBJECTS)
    return tuple(row[0] for row in session.rows(query, {"role": role, "databases": names}))


def make_revoke_plan(
    holdings: c.Iterable[Holding],
    defaults: c.Iterable[DefaultItem],
    *,
    grantee: str,
    known: Known,
    graph: RoleGraph,
    database_owner: str,
) -> Plan:
    """Each privilege is taken back by the role that gave it, each default privilege by its creator."""
    todo: dict[str, list[AnyStep]] = collections.defaultdict(list)
    for item in defaults:
        todo[item.creator].append(
            DefaultStep(
                verb=Verb.REVOKE,
                grantee=grantee,
                item=item,
                every_privilege=set(item.privileges) == set(known[item.kind]),
                grant_option=False,
            )
        )
    for holding in holdings:
        todo[holding.grantor].append(
            Step(
                verb=Verb.REVOKE,
                grantee=grantee,
                kind=holding.kind,
                privileges=holding.privileges,
                every_privilege=set(holding.privileges) == set(known[holding.kind]),
                objects=holding.objects,
                grant_option=False,
            )
        )
    batches: list[Batch] = []
    stuck: list[Uncovered] = []
    for grantor, steps in sorted(todo.items()):
        route = way(grantor, database_owner, graph=graph)
        if route is not None:
            batches.extend(cut(Batch(owner=grantor, steps=tuple(steps), route=route)))
        else:
            stuck.append(
                Uncovered(
                    owner=grantor,
                    steps=tuple(steps),
                    cause=Cause.NO_WAY,
                    sqlstate=REFUSED_BY_RULE,
                    reason=f"login {graph.me} may not act as {grantor}, who gave it",
                )
            )
    return Plan(batches=tuple(batches), uncovered=tuple(stuck))
