# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What ties a role to a server beside the privileges that the engine gave: it would stop a REVOKE or DROP ROLE."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    DEFAULT_KINDS,
    EVERY_DATABASE,
    OBJECTS,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# The databases that hold anything of a role, or only privileges of it.
TIED_DATABASES = """
SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %(role)s::oid AND (s.deptype = 'a' OR %(anything)s)
"""
# The other queries count what ties the role in one way, and name the first.
SHARED_TIES = """
SELECT DISTINCT ON (how) how, count(*) OVER (PARTITION BY how), thing
  FROM (
    SELECT CASE deptype WHEN 'o' THEN 'owns' ELSE 'has privileges on' END AS how, classid, objid,
           pg_describe_object(classid, objid, objsubid) AS thing
      FROM pg_shdepend
     WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid AND dbid = 0
       AND (deptype = 'o' OR classid <> ALL (ARRAY['pg_database'::regclass, 'pg_auth_members'::regclass]::oid[]))
  ) AS tie
 ORDER BY how DESC, classid, objid
"""
GIVEN_MEMBERSHIPS = """
SELECT count(*), min(format('%%s a member of %%s', pg_get_userbyid(member), pg_get_userbyid(roleid)))
  FROM pg_auth_members WHERE grantor = %(role)s::oid
HAVING count(*) > 0
"""

# What else ties a role to the database of the session: nothing of this was given by the engine. Default privileges
# have a query of their own.
TIES = """
WITH tie AS (
  SELECT CASE deptype WHEN 'o' THEN 'owns' WHEN 'r' THEN 'is named in' ELSE 'has privileges on' END AS how,
         classid, objid, objsubid
    FROM pg_shdepend
   WHERE refclassid = 'pg_authid'::regclass AND refobjid = %(role)s::oid
     AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND classid <> 'pg_default_acl'::regclass
     AND NOT (classid = 'pg_class'::regclass AND objid IS NOT DISTINCT FROM %(ignored)s::oid)
     AND (deptype IN ('o', 'r')
          OR deptype = 'a'
             AND (objsubid <> 0 OR classid <> ALL (ARRAY['pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                                                         'pg_namespace'::regclass]::oid[])))
),
first AS (
  SELECT DISTINCT ON (how) how, count(*) OVER (PARTITION BY how) AS number, classid, objid, objsubid
    FROM tie ORDER BY how, classid, objid, objsubid
)
SELECT how, number, pg_describe_object(classid, objid, objsubid) FROM first ORDER BY how DESC
"""

# Default privileges on what the engine has no word for (large objects, since 18), and the SQL that removes them.
STRANGE_DEFAULTS = """
SELECT CASE defaclrole WHEN %(role)s::oid THEN 'owns' ELSE 'is named in' END,
       pg_describe_object('pg_default_acl'::regclass, oid, 0),
       CASE WHEN defaclobjtype = 'L' THEN format(
         CASE defaclrole WHEN %(role)s::oid
           THEN 'ALTER DEFAULT PRIVILEGES FOR ROLE %%1$I REVOKE ALL ON LARGE OBJECTS FROM %%2$s; '
                'ALTER DEFAULT PRIVILEGES FOR ROLE %%1$I GRANT ALL ON LARGE OBJECTS TO %%1$I;'
           ELSE 'ALTER DEFAULT PRIVILEGES FOR ROLE %%1$I REVOKE ALL ON LARGE OBJECTS FROM %%3$I;' END,
         pg_get_userbyid(defaclrole),
         (SELECT string_agg(DISTINCT CASE g.oid WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.oid)) END, ', ')
            FROM (SELECT grantee FROM aclexplode(defaclacl) UNION SELECT defaclrole) AS g (oid)),
         pg_get_userbyid(%(role)s::oid)) END
  FROM pg_default_acl
 WHERE defaclobjtype::text <> ALL (%(kinds)s)
   AND %(role)s::oid IN (SELECT grantee FROM aclexplode(defaclacl) UNION SELECT defaclrole)
 ORDER BY defaclrole <> %(role)s::oid, oid
"""

# What others hold by the role's grant, and would stop a REVOKE.
PASSED_ON = """
WITH scope AS (SELECT oid, nspname::text AS name, false AS reserved FROM pg_namespace),
object AS ({objects}),
passed AS (
  SELECT DISTINCT format('%%s %%s', lower(kind), concat_ws('.', schema, name)) AS thing, arguments, a.grantee
    FROM object o, aclexplode(o.acl) AS a
   WHERE a.grantor = %(role)s::oid AND a.grantee <> a.grantor AND o.owner <> a.grantor
     AND NOT (kind = 'DATABASE' AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = current_user))
)
SELECT count(*), min(format('%%s to %%s', thing, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END))
  FROM passed
HAVING count(*) > 0
"""


def read_tied_databases(session: Session, *, role: int | None, anything: bool) -> frozenset[str]:
    """The databases that hold privileges of the role or, with ``anything``, whatever ties it."""
    rows = session.rows(TIED_DATABASES, {"role": role, "anything": anything})
    return frozenset(row[0] for row in rows)


def read_shared_ties(session: Session, *, role: int) -> tuple[str, ...]:
    """What else stops DROP ROLE and belongs to no database, in words."""
    made = session.rows(GIVEN_MEMBERSHIPS, {"role": role})
    return (
        *(counted(how, number, thing) for how, number, thing in session.rows(SHARED_TIES, {"role": role})),
        *(f"has made {first}" + (f", and {number - 1} more" if number > 1 else "") for number, first in made),
    )


def read_ties(session: Session, *, role: int, ignored: int | None = None) -> tuple[str, ...]:
    """What else stops DROP ROLE in the session's database, in words; ``ignored``: a table that does not count."""
    ties = session.rows(TIES, {"role": role, "ignored": ignored})
    strange = session.rows(STRANGE_DEFAULTS, {"role": role, "kinds": list(DEFAULT_KINDS)})
    return (
        *(counted(how, number, thing) for how, number, thing in ties),
        *(f"{how} {thing}" + (f", which goes with: {remedy}" if remedy else "") for how, thing, remedy in strange),
    )


def read_passed_on(session: Session, *, role: int, databases: bool = False) -> tuple[str, ...]:
    """What others hold by the role's grant in the session's database, or on the databases themselves, in words."""
    query = PASSED_ON.format(objects=EVERY_DATABASE if databases else OBJECTS)
    rows = session.rows(query, {"role": role})
    return tuple(
        f"has passed on privileges {f'in {number} cases, among them on' if number > 1 else 'on'} {first}"
        for number, first in rows
    )


def counted(how: str, number: int, thing: str, *, things: str = "objects") -> str:
    """One of them in full; of more, how many there are and one to begin with."""
    return f"{how} {thing}" if number == 1 else f"{how} {number} {things}, among them {thing}"
