# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What ties a role to a server beside the privileges that the engine gave: it would stop a REVOKE or DROP ROLE."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import EVERY_DATABASE, OBJECTS

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# The databases that hold anything of a role, or only privileges of it.
TIED_DATABASES = """
SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %(role)s::oid AND (s.deptype = 'a' OR %(anything)s)
"""
SHARED_TIES = """
SELECT CASE deptype WHEN 'o' THEN 'owns ' ELSE 'has privileges on ' END || pg_describe_object(classid, objid, objsubid)
  FROM pg_shdepend
 WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid AND dbid = 0
   AND (deptype = 'o' OR classid <> ALL (ARRAY['pg_database'::regclass, 'pg_auth_members'::regclass]::oid[]))
"""
GIVEN_MEMBERSHIPS = """
SELECT format('has made %%s a member of %%s', pg_get_userbyid(member), pg_get_userbyid(roleid))
  FROM pg_auth_members WHERE grantor = %(role)s::oid
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


def read_tied_databases(session: Session, *, role: int | None, anything: bool) -> frozenset[str]:
    """The databases that hold privileges of the role or, with ``anything``, whatever ties it."""
    rows = session.rows(TIED_DATABASES, {"role": role, "anything": anything})
    return frozenset(row[0] for row in rows)


def read_shared_ties(session: Session, *, role: int) -> tuple[str, ...]:
    """What else stops DROP ROLE and belongs to no database, in words."""
    queries = (SHARED_TIES, GIVEN_MEMBERSHIPS)
    return tuple(row[0] for query in queries for row in session.rows(query, {"role": role}))


def read_ties(session: Session, *, role: int) -> tuple[str, ...]:
    """What else stops DROP ROLE in the session's database, in words."""
    return tuple(row[0] for row in session.rows(TIES, {"role": role}))


def read_passed_on(session: Session, *, role: int, databases: bool = False) -> tuple[str, ...]:
    """What others hold by the role's grant in the session's database, or on the databases themselves, in words."""
    query = PASSED_ON.format(objects=EVERY_DATABASE if databases else OBJECTS)
    return tuple(row[0] for row in session.rows(query, {"role": role}))
