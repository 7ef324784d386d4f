# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What PUBLIC holds: every login has it, and no GRANT or REVOKE for one role can change that. Nothing is changed here.

Extensions' own objects are left out, and so are the platform's databases and schemas. Privileges on single columns,
types, languages and large objects are not looked for.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Kind, ObjectName

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# The role that gets what is taken from PUBLIC, so that the catalog remembers it.
PUBLIC_HEIR = "latchkey_public"
# The OID that an ACL has for PUBLIC.
PUBLIC = 0

DATABASES = """
SELECT d.datname::text, 'DATABASE', NULL, d.datname::text, NULL, pg_get_userbyid(d.datdba)::text,
       pg_get_userbyid(a.grantor)::text, array_agg(a.privilege_type::text ORDER BY a.privilege_type)
  FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
 WHERE a.grantee = %(grantee)s::oid AND d.datname <> ALL (%(databases)s)
 GROUP BY 1, 4, 6, 7 ORDER BY 1, 7
"""
OBJECTS = r"""
WITH scope AS (
  SELECT n.oid, n.nspname::text AS name FROM pg_namespace n
   WHERE n.nspname !~ '^pg_' AND n.nspname <> ALL (%(schemas)s)
),
object AS (
  SELECT 'SCHEMA' AS kind, s.name AS schema, NULL::text AS name, NULL::text AS arguments, n.nspowner AS owner,
         coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl, 'pg_namespace'::regclass AS class, n.oid
    FROM scope s JOIN pg_namespace n ON n.oid = s.oid
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, s.name, c.relname::text, NULL, c.relowner,
         c.relacl, 'pg_class'::regclass, c.oid
    FROM pg_class c JOIN scope s ON s.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relacl IS NOT NULL
  UNION ALL
  SELECT 'ROUTINE', s.name, p.proname::text,
         CASE p.prokind WHEN 'p' THEN pg_get_function_identity_arguments(p.oid) ELSE oidvectortypes(p.proargtypes) END,
         p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)), 'pg_proc'::regclass, p.oid
    FROM pg_proc p JOIN scope s ON s.oid = p.pronamespace
)
SELECT current_database()::text, kind, schema, name, arguments, pg_get_userbyid(owner)::text,
       pg_get_userbyid(a.grantor)::text, array_agg(a.privilege_type::text ORDER BY a.privilege_type)
  FROM object o, aclexplode(o.acl) AS a
 WHERE a.grantee = %(grantee)s::oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
 GROUP BY 1, 2, 3, 4, 5, 6, 7
 ORDER BY 2, 3, 4, 5, 7
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRight:
    """Privileges on one object that everybody has by one grantor's grant.

    ``hardenable``: taking them away closes something, and the object is a customer's. To use a schema opens nothing by
    itself, so that privilege stands alone and is none.
    """

    database: str
    kind: Kind
    name: ObjectName
    grantor: str
    privileges: tuple[str, ...]
    hardenable: bool


def read_public_databases(session: Session, platform: Platform, *, grantee: int = PUBLIC) -> tuple[PublicRight, ...]:
    """What PUBLIC, or another grantee, holds on the databases themselves; seen from any database of the server."""
    parameters = {"grantee": grantee, "databases": list(platform.databases)}
    return _rights(session.rows(DATABASES, parameters), platform)


def read_public_objects(session: Session, platform: Platform, *, grantee: int = PUBLIC) -> tuple[PublicRight, ...]:
    """What PUBLIC, or another grantee, holds on schemas, tables, sequences and routines of the session's database."""
    parameters = {"grantee": grantee, "schemas": ["information_schema", "latchkey", *platform.schemas]}
    return _rights(session.rows(OBJECTS, parameters), platform)


def _rights(rows: list[tuple[t.Any, ...]], platform: Platform) -> tuple[PublicRight, ...]:
    found = []
    for database, kind, schema, name, arguments, owner, grantor, privileges in rows:
        idle = ("USAGE",) if kind == Kind.SCHEMA.value else ()
        ours = owner not in platform.superusers and owner not in platform.roles
        for part, closes in ((idle, False), (tuple(p for p in privileges if p not in idle), True)):
            held = tuple(p for p in part if p in privileges)
            if held:
                found.append(
                    PublicRight(
                        database=database,
                        kind=Kind(kind),
                        name=ObjectName(schema, name, arguments),
                        grantor=grantor,
                        privileges=held,
                        hardenable=closes and ours,
                    )
                )
    return tuple(found)
