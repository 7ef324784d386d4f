# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The way back: what a role holds by whose grant, and how that is taken away."""

from __future__ import annotations

import collections
import collections.abc as c
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    DEFAULT_KINDS,
    EVERY_DATABASE,
    OBJECTS,
    Question,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import REFUSED_BY_RULE, cut, way
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
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
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
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

# How the default privileges of a creator differ from those that the server has built in. An entry for the whole
# database replaces these and is dropped when it says the same again; one for a schema adds to them and is dropped when
# it is empty. What differs in its grant option alone is in both parts: REVOKE takes the privilege with the option.
OWN_DEFAULTS = """
WITH own AS (
  SELECT d.defaclobjtype AS kind, n.nspname AS schema, d.defaclacl AS acl,
         CASE d.defaclnamespace
           WHEN 0 THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)
         END AS builtin
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
   WHERE d.defaclrole = %(role)s::oid AND d.defaclobjtype::text = ANY (%(kinds)s)
),
differing AS (
  SELECT 'REVOKE' AS verb, kind, schema, x.*
    FROM own, LATERAL (SELECT grantee, privilege_type, is_grantable FROM aclexplode(acl)
                       EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(builtin)) AS x
  UNION ALL
  SELECT 'GRANT', kind, schema, x.*
    FROM own, LATERAL (SELECT grantee, privilege_type, is_grantable FROM aclexplode(builtin)
                       EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(acl)) AS x
)
SELECT verb, schema::text, kind::text, CASE grantee WHEN 0 THEN %(everybody)s ELSE pg_get_userbyid(grantee)::text END,
       array_agg(DISTINCT privilege_type::text)
  FROM differing
 GROUP BY 1, 2, 3, 4
 ORDER BY verb DESC, 2, 3, 4
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
    parameters = {"grantee": question.grantee, "grant_option": question.entitlement.grant_option}
    rows = session.rows(HOLDINGS.format(objects=EVERY_DATABASE if databases else OBJECTS), parameters)
    return tuple(
        Holding(
            kind=Kind(kind),
            grantor=grantor,
            privileges=tuple(sorted(privileges)),
            objects=tuple(sorted(map(ObjectName, schemas, names, arguments), key=str)),
        )
        for kind, grantor, privileges, schemas, names, arguments in rows
    )


def without_schema(holdings: c.Iterable[Holding], schema: str) -> c.Iterator[Holding]:
    """The same less a schema and what is in it."""
    for holding in holdings:
        objects = tuple(name for name in holding.objects if name.schema != schema)
        if objects:
            yield replace(holding, objects=objects)


def read_own_defaults(session: Session, creator: Role, *, known: Known) -> tuple[DefaultStep, ...]:
    """What undoes the default privileges that belong to a role, whoever gains by them: first REVOKE, then GRANT.

    They are about what the role will create. When it goes, nobody loses anything that exists.
    """
    parameters = {"role": creator.oid, "kinds": list(DEFAULT_KINDS), "everybody": EVERYBODY}
    return tuple(
        DefaultStep(
            verb=Verb(verb),
            grantee=grantee,
            item=DefaultItem(
                creator=creator.name, schema=schema, kind=DEFAULT_KINDS[kind], privileges=tuple(privileges)
            ),
            every_privilege=set(privileges) == set(known[DEFAULT_KINDS[kind]]),
            grant_option=False,
        )
        for verb, schema, kind, grantee, privileges in session.rows(OWN_DEFAULTS, parameters)
    )


def make_revoke_plan(
    holdings: c.Iterable[Holding],
    defaults: c.Iterable[DefaultItem],
    own: c.Iterable[DefaultStep] = (),
    *,
    grantee: str,
    known: Known,
    graph: RoleGraph,
    database_owner: str,
) -> Plan:
    """Each privilege is taken back by the role that gave it, each default privilege by its creator.

    ``own``: what else the creator of these default privileges does.
    """
    todo: dict[str, list[AnyStep]] = collections.defaultdict(list)
    for step in own:
        todo[step.item.creator].append(step)
    for item in defaults:
        todo[item.creator].append(_take_default(item, grantee=grantee, known=known))
    for holding in holdings:
        todo[holding.grantor].append(_take(holding, grantee=grantee, known=known))
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


def _take(holding: Holding, *, grantee: str, known: Known) -> Step:
    return Step(
        verb=Verb.REVOKE,
        grantee=grantee,
        kind=holding.kind,
        privileges=holding.privileges,
        every_privilege=set(holding.privileges) == set(known[holding.kind]),
        objects=holding.objects,
        grant_option=False,
    )


def _take_default(item: DefaultItem, *, grantee: str, known: Known) -> DefaultStep:
    return DefaultStep(
        verb=Verb.REVOKE,
        grantee=grantee,
        item=item,
        every_privilege=set(item.privileges) == set(known[item.kind]),
        grant_option=False,
    )
