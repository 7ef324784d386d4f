# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What can be asked for: the edges between resources and permissions that the session's login could give now.

The rules are those of a grant: the login holds every privilege that the permission contains with grant option, or may
act as the owner. What belongs to the platform can't be given by anybody and does not count.
"""

from __future__ import annotations

import collections
import collections.abc as c
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access import plain
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Permission, Profile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    BELONGS,
    EVERY_DATABASE,
    OBJECTS,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import way
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Kind, Known

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

Edge = dict[str, t.Any]
MEMBER = "MEMBER"
# The privilege without which nothing inside can be reached. A platform's own database or schema is open by PUBLIC only.
GATES: c.Mapping[Kind, str] = {Kind.DATABASE: "CONNECT", Kind.SCHEMA: "USAGE"}
# Objects of one schema that are alike are judged once, however many there are.
PARTS = r"""
WITH scope AS (
  SELECT n.oid, n.nspname::text AS name, n.nspname = ANY (%(reserved)s) AS reserved
    FROM pg_namespace n
   WHERE n.nspname !~ '^pg_' AND n.nspname <> ALL ('{{information_schema,latchkey}}')
),
object AS ({objects}),
belongs AS ({belongs}),
alike AS (
  SELECT o.kind, o.schema, o.owner, o.acl,
         o.reserved OR o.owner IN (SELECT oid FROM pg_roles WHERE rolname = ANY (%(superusers)s)) AS reserved,
         CASE WHEN %(named)s THEN array_agg(coalesce(b.to_table, o.name))
                                    FILTER (WHERE o.kind IN ('TABLE', 'ROUTINE') OR b.to_table IS NOT NULL) END AS names
    FROM object o LEFT JOIN belongs b ON %(named)s AND o.kind = 'SEQUENCE' AND b.schema = o.schema AND b.name = o.name
   GROUP BY 1, 2, 3, 4, 5
)
SELECT kind, schema, pg_get_userbyid(owner)::text, reserved,
       ARRAY(SELECT DISTINCT x.privilege_type::text FROM aclexplode(acl) AS x
              WHERE x.grantee <> 0 AND x.is_grantable AND pg_has_role(x.grantee, 'USAGE')),
       ARRAY(SELECT x.privilege_type::text FROM aclexplode(acl) AS x WHERE x.grantee = 0),
       coalesce(names, '{{}}')
  FROM alike
"""
GATES_OF_DATABASES = """
WITH object AS ({databases})
SELECT kind, name, pg_get_userbyid(owner)::text,
       owner IN (SELECT oid FROM pg_roles WHERE rolname = ANY (%(superusers)s)),
       ARRAY(SELECT DISTINCT x.privilege_type::text FROM aclexplode(acl) AS x
              WHERE x.grantee <> 0 AND x.is_grantable AND pg_has_role(x.grantee, 'USAGE')),
       ARRAY(SELECT x.privilege_type::text FROM aclexplode(coalesce(acl, acldefault('d', owner))) AS x
              WHERE x.grantee = 0),
       '{{}}'::text[]
  FROM object
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Objects of one kind, schema and owner that have the same ACL; a database or a schema is one of its own.

    ``passable``: privileges that the login holds with grant option; ``public``: those that everybody has. ``names``: of
    tables and routines, and of the tables that sequences belong to.
    """

    kind: Kind
    place: str
    owner: str
    reserved: bool = False
    passable: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Powers:
    """What the login can do: the privileges that there are, and whether it may act as an owner in this database."""

    known: Known
    acts_as: c.Callable[[str], bool]

    def can_give(self, part: Part, profile: Profile) -> bool:
        """Whether a grant would be complete as far as this part goes."""
        needed = profile.entitlement("").of(part.kind, self.known)
        if not needed:
            return True
        if part.reserved:
            gate = GATES.get(part.kind)
            return gate is None or gate in part.public
        return self.acts_as(part.owner) or part.passable.issuperset(needed)


# --------------------------------------------------------------------------------------------- judging
def edges_of(database: Part, parts: c.Iterable[Part], powers: Powers, *, objects: bool) -> c.Iterator[Edge]:
    """The edges of one database, the widest first."""
    schemas: dict[str, list[Part]] = collections.defaultdict(list)
    for part in parts:
        schemas[part.place].append(part)
    found = {name: _of_schema(database, name, inside, powers) for name, inside in sorted(schemas.items())}
    yield from _shown(_of_database(database, found, schemas, powers), kind="database", database=database.place)
    for name, (full, partial) in found.items():
        yield from _shown((full, partial), kind="schema", database=database.place, schema=name)
        if objects:
            yield from _of_objects(database, name, schemas[name], powers)


Extent = tuple[list[str], list[str]]  # permissions that could be given in full, and those in part


def _of_database(
    database: Part, schemas: c.Mapping[str, Extent], parts: c.Mapping[str, list[Part]], powers: Powers
) -> Extent:
    full, partial = [], []
    for permission in Permission:
        profile = Profile(database=database.place, permission=permission)
        if not powers.can_give(database, profile):
            continue
        if all(part.reserved or powers.can_give(part, profile) for inside in parts.values() for part in inside):
            full.append(permission.value)
        elif any(permission.value in (*some, *less) for some, less in schemas.values()):
            partial.append(permission.value)
    return full, partial


def _of_schema(database: Part, name: str, parts: list[Part], powers: Powers) -> Extent:
    """A schema of the platform's own is none of ours to give."""
    full: list[str] = []
    partial: list[str] = []
    if _schema(parts).reserved:
        return full, partial
    for permission in Permission:
        profile = Profile(database=database.place, permission=permission, schemas=(name,))
        if not (powers.can_give(database, profile) and powers.can_give(_schema(parts), profile)):
            continue
        whole = all(part.reserved or powers.can_give(part, profile) for part in parts)
        (full if whole else partial).append(permission.value)
    return full, partial


def _schema(parts: c.Iterable[Part]) -> Part:
    return next(part for part in parts if part.kind is Kind.SCHEMA)


def _of_objects(database: Part, schema: str, parts: list[Part], powers: Powers) -> c.Iterator[Edge]:
    """Tables, and routines by their names: those that share one are asked for together."""
    for kind, permissions in (
        (Kind.TABLE, (Permission.READ_ONLY, Permission.READ_WRITE, Permission.ADMIN)),
        (Kind.ROUTINE, (Permission.EXECUTE,)),
    ):
        given: dict[str, list[str]] = {
            name: [] for part in parts if part.kind is kind and not part.reserved for name in part.names
        }
        for permission in permissions:
            profile = Profile(database=database.place, permission=permission, schemas=(schema,), objects=("",))
            if not (powers.can_give(database, profile) and powers.can_give(_schema(parts), profile)):
                continue
            withheld = {
                name
                for part in parts
                if not powers.can_give(part, profile) or (part.reserved and part.kind is kind)
                for name in part.names
                if part.kind in {kind, Kind.SEQUENCE}
            }
            for name, found in given.items():
                if name not in withheld:
                    found.append(permission.value)
        for name, found in sorted(given.items()):
            place = {"database": database.place, "schema": schema, "name": name}
            yield from _shown((found, []), kind=kind.value.lower(), **place)


def _shown(extent: Extent, *, kind: str, database: str, schema: str | None = None, name: str = "") -> c.Iterator[Edge]:
    full, partial = extent
    if full or partial:
        yield {
            "type": kind,
            "database": database,
            "schema": schema,
            "name": name or schema or database,
            "permissions": full,
            "partial": partial,
        }


# --------------------------------------------------------------------------------------------- reading
def read_gates(site: Site) -> dict[str, Part]:
    """Every database of the server as seen from outside."""
    query = GATES_OF_DATABASES.format(databases=EVERY_DATABASE)
    rows = site.session.rows(query, {"superusers": list(site.graph.platform.superusers)})
    return {part.place: part for part in map(_part, rows)}


def read_parts(session: Session, graph: RoleGraph, *, objects: bool) -> tuple[Part, ...]:
    """What the session's database holds; with ``objects`` also what each is called."""
    parameters = {
        "reserved": list(graph.platform.schemas),
        "superusers": list(graph.platform.superusers),
        "named": objects,
    }
    return tuple(map(_part, session.rows(PARTS.format(objects=OBJECTS, belongs=BELONGS), parameters)))


def _part(row: tuple[t.Any, ...]) -> Part:
    kind, place, owner, reserved, passable, public, found = row
    return Part(
        kind=Kind(kind),
        place=place,
        owner=owner,
        reserved=reserved,
        passable=frozenset(passable),
        public=frozenset(public),
        names=tuple(found),
    )


def powers_in(database: Part, graph: RoleGraph, known: Known) -> Powers:
    """In one database, because pg_database_owner is somebody else in each."""
    cache: dict[str, bool] = {}

    def acts_as(owner: str) -> bool:
        if owner not in cache:
            route = way(owner, database.owner, graph=graph)
            cache[owner] = route is not None and route.proven
        return cache[owner]

    return Powers(known=known, acts_as=acts_as)


def edges_of_roles(graph: RoleGraph) -> list[Edge]:
    """The roles that the login may make people members of, by the rules of `people.require_role`."""
    edge = {"type": "role", "database": None, "schema": None, "permissions": [MEMBER], "partial": []}
    return [
        {**edge, "name": role}
        for role in sorted(graph.roles)
        if graph.may_grant_membership(role) and plain.objection(role, graph, connector=graph.me) is None
    ]
