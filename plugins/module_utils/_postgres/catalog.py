# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What a server says of itself: one query per function."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import (
    MEMBERSHIP_OPTIONS,
    Membership,
    Role,
    RoleGraph,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

INVALID = -2  # pg_database.datconnlimit after an interrupted DROP DATABASE

ROLES = """
SELECT rolname::text, oid, rolsuper, rolcreaterole, rolreplication OR rolbypassrls, rolcanlogin, rolinherit
  FROM pg_roles
"""
MEMBERSHIPS = """
SELECT r.rolname::text, u.rolname::text, m.admin_option, {options}
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The facts of one server that every step needs."""

    version: int
    version_text: str
    user: str
    superuser: bool
    create_role: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A row of pg_database; ``may_connect`` is for the login of the session."""

    name: str
    oid: int
    owner: str
    allows_connections: bool
    valid: bool
    may_connect: bool


def read_server(session: Session) -> Server:
    row = session.rows(
        """
        SELECT current_setting('server_version_num')::int, current_setting('server_version'),
               rolname::text, rolsuper, rolcreaterole
          FROM pg_roles WHERE rolname = current_user
        """
    )[0]
    version, text, user, superuser, create_role = row
    return Server(version=version, version_text=text, user=user, superuser=superuser, create_role=create_role)


def read_graph(session: Session, *, server: Server, platform: Platform | None = None) -> RoleGraph:
    """The roles, their memberships, and the platform if it is to be found out."""
    options = "m.inherit_option, m.set_option" if server.version >= MEMBERSHIP_OPTIONS else "u.rolinherit, true"
    roles = {
        name: Role(
            name=name,
            oid=oid,
            superuser=superuser,
            create_role=create_role,
            powerful=superuser or create_role or more,
            login=login,
            inherit=inherit,
        )
        for name, oid, superuser, create_role, more, login, inherit in session.rows(ROLES)
    }
    memberships = session.rows(MEMBERSHIPS.format(options=options))
    found = platform or platforms.detect(roles)
    return RoleGraph(
        me=server.user,
        version=server.version,
        roles=roles,
        memberships=tuple(
            Membership(role=role, member=member, admin=admin, inherit=inherit, set=settable)
            for role, member, admin, inherit, settable in memberships
            # A role that was made between the two queries: not of this picture.
            if role in roles and member in roles
        ),
        open_engine=_has_parameter(session, found.engine_parameter),
        platform=found,
    )


def _has_parameter(session: Session, name: str | None) -> bool:
    if name is None:
        return False
    return bool(session.rows("SELECT current_setting(%(name)s, true) IS NOT NULL", {"name": name})[0][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleFacts:
    """What a role has beside its name; ``needed``: it owns something, or something names it."""

    attributes: bool
    comment: str | None
    needed: bool


def read_role_facts(session: Session, roles: c.Iterable[str]) -> dict[str, RoleFacts]:
    """Of those of the roles that there are."""
    rows = session.rows(
        """
        SELECT rolname::text, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
               shobj_description(oid, 'pg_authid'),
               EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid
                                                 AND classid <> 'pg_auth_members'::regclass)
          FROM pg_roles r WHERE rolname = ANY (%(roles)s) ORDER BY 1
        """,
        {"roles": list(roles)},
    )
    return {
        name: RoleFacts(attributes=attributes, comment=comment, needed=needed)
        for name, attributes, comment, needed in rows
    }


def read_acts_as(session: Session, *, login: str) -> str | None:
    """The role that a login acts as from the start of every session, by a setting."""
    query = """
        SELECT substr(setting, length('role=') + 1) FROM pg_roles, unnest(rolconfig) setting
         WHERE rolname = %(login)s AND setting LIKE 'role=%%'
        """
    rows = session.rows(query, {"login": login})
    return str(rows[0][0]) if rows else None


def read_administered(session: Session, roles: c.Sequence[str]) -> dict[str, bool]:
    """Whether the login, or a role whose rights it has, holds ADMIN OPTION on each of those roles that there are."""
    query = """
        SELECT r.rolname::text,
               EXISTS (SELECT FROM pg_auth_members m
                        WHERE m.roleid = r.oid AND m.admin_option AND pg_has_role(m.member, 'USAGE'))
          FROM pg_roles r WHERE r.rolname = ANY (%(roles)s) ORDER BY 1
        """
    return dict(session.rows(query, {"roles": list(roles)})) if roles else {}


def read_administers(session: Session, *, role: str) -> bool | None:
    """The same of one role; None where there is none."""
    return read_administered(session, [role]).get(role)


def read_databases(session: Session) -> tuple[Database, ...]:
    rows = session.rows(
        """
        SELECT datname::text, oid, pg_get_userbyid(datdba)::text, datallowconn, datconnlimit,
               has_database_privilege(oid, 'CONNECT')
          FROM pg_database ORDER BY datname
        """
    )
    return tuple(
        Database(
            name=name,
            oid=oid,
            owner=owner,
            allows_connections=allows,
            valid=limit != INVALID,
            may_connect=may_connect,
        )
        for name, oid, owner, allows, limit, may_connect in rows
    )


def read_databases_to_pass_on(session: Session, *, role: str) -> frozenset[str]:
    """The databases to which the role may let others connect."""
    query = """
        SELECT d.datname::text FROM pg_database d JOIN pg_roles r ON r.rolname = %(role)s
         WHERE has_database_privilege(r.oid, d.oid, 'CONNECT WITH GRANT OPTION')
        """
    return frozenset(row[0] for row in session.rows(query, {"role": role}))


def membership_rows(session: Session, roles: c.Iterable[str]) -> str:
    """The memberships of the session's login in these roles as text, to see that what was borrowed is returned.

    In no others: somebody may give or take one at the same moment.
    """
    query = """
        SELECT coalesce(string_agg(m::text, ',' ORDER BY m::text), '') FROM pg_auth_members m
         WHERE member = (SELECT oid FROM pg_roles WHERE rolname = current_user)
           AND pg_get_userbyid(roleid)::text = ANY (%(roles)s)
        """
    return str(session.rows(query, {"roles": list(roles)})[0][0])


def has_more_attributes(session: Session, *, role: int) -> bool:
    """Whether the role may do what no connector needs: CREATEDB, REPLICATION or BYPASSRLS."""
    query = "SELECT rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE oid = %(role)s::oid"
    return bool(session.rows(query, {"role": role})[0][0])
