# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Reading what is missing, or held, from the catalog: one query per function.

The comparison is made by the server: a database where nothing is missing sends a few rows, whatever its size.
A privilege counts as held by whomever it was granted, since it can be used.
"""

from __future__ import annotations

import collections
import collections.abc as c
import itertools
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    DATABASE_OWNER,
    SCHEMA_OBJECTS,
    DefaultItem,
    Entitlement,
    Gap,
    Kind,
    Known,
    ObjectName,
    Scope,
    Snapshot,
    matches,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

KINDS = tuple(Kind)  # the order in which gaps are listed

# acldefault() spells out every privilege of a kind that this version knows, so MAINTAIN comes by itself on 17.
KNOWN = """
SELECT k.kind, array_agg(d.privilege_type::text)
  FROM (VALUES ('DATABASE', 'd'::"char"), ('SCHEMA', 'n'), ('TABLE', 'r'), ('SEQUENCE', 's'), ('ROUTINE', 'f'),
               ('TYPE', 'T')) AS k (kind, acltype),
       LATERAL aclexplode(acldefault(k.acltype, 10)) AS d
 WHERE d.grantee = 10
 GROUP BY 1
"""

# The schema of the journal is left out: whoever could write there could write history.
SCHEMAS = r"""
SELECT n.oid, n.nspname::text, pg_get_userbyid(n.nspowner)::text,
       ARRAY(SELECT pg_get_userbyid(a.grantee)::text FROM aclexplode(n.nspacl) AS a
              WHERE a.privilege_type = 'CREATE' AND a.grantee <> 0)
  FROM pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname <> ALL ('{information_schema,latchkey}')
"""

DATABASE_CREATORS = """
SELECT pg_get_userbyid(d.datdba)::text,
       ARRAY(SELECT pg_get_userbyid(a.grantee)::text FROM aclexplode(d.datacl) AS a
              WHERE a.privilege_type = 'CREATE' AND a.grantee <> 0)
  FROM pg_database d WHERE d.datname = current_database()
"""

# Every grantable object of the given schemas with its owner and ACL. A procedure is named with the modes of its
# arguments: without them p(int, OUT int) and p(int, int) would be the same.
OBJECTS = """
  SELECT 'SCHEMA' AS kind, s.name AS schema, NULL::text AS name, NULL::text AS arguments,
         n.nspowner AS owner, n.nspacl AS acl, s.reserved
    FROM scope s JOIN pg_namespace n ON n.oid = s.oid
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, s.name, c.relname::text, NULL,
         c.relowner, c.relacl, s.reserved
    FROM pg_class c JOIN scope s ON s.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL
  SELECT 'ROUTINE', s.name, p.proname::text,
         CASE p.prokind WHEN 'p' THEN pg_get_function_identity_arguments(p.oid) ELSE oidvectortypes(p.proargtypes) END,
         p.proowner, p.proacl, s.reserved
    FROM pg_proc p JOIN scope s ON s.oid = p.pronamespace
  UNION ALL
  SELECT 'TYPE', s.name, y.typname::text, NULL, y.typowner, y.typacl, s.reserved
    FROM pg_type y JOIN scope s ON s.oid = y.typnamespace
   WHERE y.typtype IN ('e', 'd', 'r')
  UNION ALL
  SELECT 'TYPE', s.name, y.typname::text, NULL, y.typowner, y.typacl, s.reserved
    FROM pg_class c JOIN pg_type y ON y.oid = c.reltype JOIN scope s ON s.oid = y.typnamespace
   WHERE c.relkind = 'c'
"""
EVERY_DATABASE = """
  SELECT 'DATABASE' AS kind, NULL::text AS schema, d.datname::text AS name, NULL::text AS arguments,
         d.datdba AS owner, d.datacl AS acl, false AS reserved
    FROM pg_database d
"""
DATABASES = EVERY_DATABASE + " WHERE d.datname = ANY (%(databases)s)"

# Sequences that belong to a column of a table.
BELONGS = """
  SELECT n.nspname::text AS schema, s.relname::text AS name, t.relname::text AS to_table
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_class t ON t.oid = d.refobjid
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
"""
# A sequence that belongs to a table is meant with it; any other is meant only where everything is.
NAMES = """
WITH scope AS (
  SELECT s.oid, s.name, s.reserved
    FROM unnest(%(oids)s::oid[], %(names)s::text[], %(reserved)s::bool[]) AS s (oid, name, reserved)
),
object AS ({objects}),
belongs AS ({belongs})
SELECT DISTINCT o.schema, o.name, coalesce(b.to_table, o.name)
  FROM object o LEFT JOIN belongs b ON o.kind = 'SEQUENCE' AND b.schema = o.schema AND b.name = o.name
 WHERE o.name IS NOT NULL AND o.kind = ANY (%(kinds)s) AND (o.kind <> 'SEQUENCE' OR b.to_table IS NOT NULL)
"""

# Objects are alike by the hundred, so each ACL of a kind and owner is judged once; `missing` is NULL where all is held.
# The owner itself holds everything.
GAPS = """
WITH wanted AS (
  SELECT w.kind, array_agg(w.privilege) AS privileges
    FROM unnest(%(kinds)s::text[], %(privileges)s::text[]) AS w (kind, privilege)
   GROUP BY 1
),
scope AS (
  SELECT s.oid, s.name, s.reserved
    FROM unnest(%(oids)s::oid[], %(names)s::text[], %(reserved)s::bool[]) AS s (oid, name, reserved)
),
object AS ({objects}),
alike AS (
  SELECT kind, owner, acl,
         reserved OR owner IN (SELECT oid FROM pg_roles WHERE rolname = ANY (%(superusers)s)) AS reserved,
         count(*) AS objects,
         array_agg(schema) AS schemas, array_agg(name) AS names, array_agg(arguments) AS arguments
    FROM object
   WHERE %(named)s::text[] IS NULL OR name IS NULL OR schema IS NULL
      OR (schema, name) IN (SELECT * FROM unnest(%(in_schemas)s::text[], %(named)s::text[]))
   GROUP BY 1, 2, 3, 4
),
judged AS (
  SELECT a.*, m.missing
    FROM alike a JOIN wanted w USING (kind)
   CROSS JOIN LATERAL (
     SELECT array_agg(p) AS missing FROM unnest(w.privileges) AS p
      WHERE a.owner IS DISTINCT FROM %(grantee)s::oid
        AND p <> ALL (ARRAY(SELECT x.privilege_type FROM aclexplode(a.acl) AS x
                             WHERE x.grantee = %(grantee)s::oid AND (x.is_grantable OR NOT %(grant_option)s)))
   ) AS m
)
SELECT kind, pg_get_userbyid(owner)::text, reserved, objects, missing,
       missing IS NOT NULL AND NOT EXISTS (
         SELECT FROM unnest(missing) AS p
          WHERE NOT EXISTS (SELECT FROM aclexplode(acl) AS x
                             WHERE x.privilege_type = p AND x.is_grantable AND pg_has_role(x.grantee, 'USAGE'))),
       CASE WHEN missing IS NOT NULL THEN schemas END,
       CASE WHEN missing IS NOT NULL THEN names END,
       CASE WHEN missing IS NOT NULL THEN arguments END
  FROM judged
"""

# A role's own entries spell out what every creator has of what it creates: nobody gave that.
DEFAULTS = """
SELECT pg_get_userbyid(d.defaclrole)::text, n.nspname::text, d.defaclobjtype::text, array_agg(a.privilege_type::text)
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) AS a
 WHERE a.grantee = %(grantee)s::oid AND d.defaclrole <> a.grantee AND (a.is_grantable OR NOT %(grant_option)s)
 GROUP BY 1, 2, 3
"""
DEFAULT_KINDS = {"r": Kind.TABLE, "S": Kind.SEQUENCE, "f": Kind.ROUTINE, "T": Kind.TYPE, "n": Kind.SCHEMA}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each database of a server.

    ``grantee``: the role's OID, or None while there is no such role: then everything is missing.
    """

    entitlement: Entitlement
    scope: Scope
    known: Known
    platform: Platform
    grantee: int | None

    def parameters(self, kinds: c.Iterable[Kind]) -> dict[str, t.Any]:
        wanted = [(kind.value, privilege) for kind in kinds for privilege in self.entitlement.of(kind, self.known)]
        return {
            "kinds": [kind for kind, _privilege in wanted],
            "privileges": [privilege for _kind, privilege in wanted],
            "grantee": self.grantee,
            "grant_option": self.entitlement.grant_option,
            "superusers": list(self.platform.superusers),
            # Of the objects in the schemas only these, if not all are meant.
            "named": None,
            "in_schemas": None,
        }


def read_known(session: Session) -> Known:
    return {Kind(kind): tuple(sorted(privileges)) for kind, privileges in session.rows(KNOWN)}


def read_snapshot(session: Session, question: Question) -> Snapshot:
    """What is missing in the database of the session."""
    with session.reading():
        schemas = session.rows(SCHEMAS)
        in_scope = [row for row in schemas if row[1] in question.scope]
        named = _named(session, question, _places(in_scope, question))
        if named is not None:
            holding = {schema for schema, _name in named}
            in_scope = [row for row in in_scope if row[1] in holding]
        ours = [row for row in in_scope if row[1] not in question.platform.schemas]
        parameters = {**question.parameters(SCHEMA_OBJECTS), **_places(in_scope, question), **_pairs(named)}
        rows = session.rows(GAPS.format(objects=OBJECTS), parameters)
        database_owner, database_creators = session.rows(DATABASE_CREATORS)[0]
        defaults = read_defaults(session, question)
    creators = {database_owner, *database_creators}
    creators.update(owner for _kind, owner, reserved, *_rest in rows if not reserved)
    creators.update(role for row in ours for role in (row[2], *row[3]))
    creators.discard(DATABASE_OWNER)
    return Snapshot(
        objects=sum(row[3] for row in rows),
        gaps=_gaps(rows),
        schemas=tuple(sorted(row[1] for row in ours)),
        creators=tuple(sorted(role for role in creators if not question.platform.owns_role(role))),
        defaults=defaults,
        database_owner=database_owner,
    )


def _places(schemas: c.Sequence[tuple[t.Any, ...]], question: Question) -> dict[str, t.Any]:
    return {
        "oids": [row[0] for row in schemas],
        "names": [row[1] for row in schemas],
        "reserved": [row[1] in question.platform.schemas for row in schemas],
    }


def _pairs(named: c.Sequence[tuple[str, str]] | None) -> dict[str, t.Any]:
    if named is None:
        return {}
    return {"in_schemas": [schema for schema, _name in named], "named": [name for _schema, name in named]}


def _named(session: Session, question: Question, places: dict[str, t.Any]) -> list[tuple[str, str]] | None:
    """Schema and name of the objects that the scope's patterns mean, or None for all."""
    patterns = question.scope.objects
    if patterns is None:
        return None
    rows = read_names(session, places, question.entitlement.privileges)
    return [(schema, name) for schema, name, meant in rows if matches(meant, patterns)]


def read_names(session: Session, places: c.Mapping[str, t.Any], kinds: c.Iterable[Kind]) -> list[tuple[t.Any, ...]]:
    """Schema and name of the objects of these kinds, and the name by which each is asked for."""
    query = NAMES.format(objects=OBJECTS, belongs=BELONGS)
    return session.rows(query, {**places, "kinds": [kind.value for kind in kinds]})


def read_database_gaps(session: Session, question: Question, *, databases: c.Sequence[str]) -> tuple[Gap, ...]:
    """What is missing on the databases themselves; seen from any database of the server."""
    parameters = {**question.parameters([Kind.DATABASE]), "databases": list(databases)}
    with session.reading():
        rows = session.rows(GAPS.format(objects=DATABASES), {**parameters, "oids": [], "names": [], "reserved": []})
    return _gaps(rows)


def read_defaults(session: Session, question: Question) -> tuple[DefaultItem, ...]:
    """The default privileges that the grantee holds, by creator, schema and kind."""
    rows = session.rows(DEFAULTS, {"grantee": question.grantee, "grant_option": question.entitlement.grant_option})
    return tuple(
        DefaultItem(creator=creator, schema=schema, kind=DEFAULT_KINDS[kind], privileges=tuple(sorted(privileges)))
        for creator, schema, kind, privileges in rows
        if kind in DEFAULT_KINDS
    )


def _gaps(rows: c.Iterable[tuple[t.Any, ...]]) -> tuple[Gap, ...]:
    """One gap for all objects of an owner that lack the same, whatever else their ACLs say."""
    lacking: dict[tuple[t.Any, ...], list[tuple[t.Any, ...]]] = collections.defaultdict(list)
    for kind, owner, reserved, _objects, missing, passable, schemas, names, arguments in rows:
        if missing is not None:
            alike = (owner, KINDS.index(Kind(kind)), tuple(sorted(missing)), passable, reserved)
            lacking[alike].extend(zip(schemas, names, arguments, strict=True))
    return tuple(
        Gap(
            kind=KINDS[kind],
            owner=owner,
            privileges=privileges,
            passable=passable,
            reserved=reserved,
            objects=tuple(itertools.starmap(ObjectName, sorted(found))),
        )
        for (owner, kind, privileges, passable, reserved), found in sorted(lacking.items())
    )
