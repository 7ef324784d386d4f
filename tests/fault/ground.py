# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on which runs are killed, as its superuser sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from tests.integration.access import DATABASE, connector_options
from tests.integration.product import CONNECTOR, Row

if TYPE_CHECKING:
    from tests.fakes import FakeSecretsManager
    from tests.fault.killer import Victim
    from tests.rig import ShapedServer

PATIENCE = 30.0
GIVEN_ON: tuple[LiteralString, ...] = (
    "ALL TABLES IN SCHEMA alpha_s",
    "ALL SEQUENCES IN SCHEMA alpha_s",
    "SCHEMA alpha_s",
    f"DATABASE {DATABASE}",
)
MARKED = """
SELECT r.oid, r.rolname::text, r.rolcanlogin, r.rolvaliduntil <= clock_timestamp(),
       extract(epoch FROM CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END)::float,
       shobj_description(r.oid, 'pg_authid')
  FROM pg_roles r
 WHERE EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.roleid
                WHERE m.member = r.oid AND k.rolname = 'latchkey_managed' AND NOT m.admin_option)
"""
TIES = """
SELECT roleid::regrole::text, member::regrole::text, (to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')::text,
       grantor::regrole::text
  FROM pg_auth_members m
"""
# A dead man's switch outlives its run by design.
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'latchkey' AND query NOT LIKE 'DO $$%%'"
# All that a role holds in a database, and on databases.
HELD = """
SELECT 'class', c.oid::regclass::text, a.privilege_type FROM pg_class c, aclexplode(relacl) a WHERE a.grantee = %(r)s
UNION ALL SELECT 'schema', nspname::text, a.privilege_type FROM pg_namespace, aclexplode(nspacl) a
           WHERE a.grantee = %(r)s
UNION ALL SELECT 'routine', p.oid::regprocedure::text, a.privilege_type FROM pg_proc p, aclexplode(proacl) a
           WHERE a.grantee = %(r)s
UNION ALL SELECT 'default', concat_ws(' ', defaclrole::regrole, defaclnamespace, defaclobjtype), a.privilege_type
            FROM pg_default_acl, aclexplode(defaclacl) a WHERE a.grantee = %(r)s
UNION ALL SELECT 'database', datname::text, a.privilege_type FROM pg_database, aclexplode(datacl) a
           WHERE a.grantee = %(r)s
"""


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role that is marked as ours."""

    oid: int
    name: str
    login: bool
    over: bool | None
    until: float | None
    facts: Mapping[str, Any]

    @property
    def kind(self) -> str | None:
        """What it is for."""
        return self.facts.get("kind")


@dataclass(frozen=True, kw_only=True)
class Sight:
    """All roles of ours, and all memberships, at one moment."""

    roles: Mapping[str, Role]
    ties: frozenset[Row]
    others: frozenset[str]

    def of_kind(self, kind: str) -> list[Role]:
        """Those for one thing."""
        return [role for role in self.roles.values() if role.kind == kind]

    def members(self, role: str) -> list[str]:
        """Who is in a role, and does not merely administer it, as its maker does since 16."""
        return [tie[1] for tie in self.ties if tie[0] == role and not _is_bare(tie)]

    def grants_of(self, login: str) -> list[Role]:
        """The grants of a login whose time is not over."""
        names = [tie[0] for tie in self.ties if tie[1] == login]
        grants = [self.roles[name] for name in names if name in self.roles]
        return [grant for grant in grants if grant.kind == "grant" and not grant.over]

    @property
    def foreign_ties(self) -> frozenset[Row]:
        """Memberships of those who are not ours, but for those that belong to roles of ours."""
        return frozenset(tie for tie in self.ties if tie[1] not in self.roles and not self._belongs(tie))

    def _belongs(self, tie: Row) -> bool:
        role = self.roles.get(tie[0])
        return role is not None and (_is_bare(tie) or role.facts.get("login") == tie[1])


def _is_bare(tie: Row) -> bool:
    options = json.loads(tie[2])
    return bool(options["admin_option"]) and not options.get("inherit_option", True) and not options["set_option"]


@dataclass(kw_only=True, eq=False)
class Ground:
    """`victim` runs the product against it; `store` keeps people's credentials."""

    server: ShapedServer
    victim: Victim
    store: FakeSecretsManager
    conn: psycopg.Connection[Row]
    app: psycopg.Connection[Row]
    complete: dict[str, frozenset[Row]] = field(default_factory=dict)
    baseline: Sight = field(init=False)

    def __post_init__(self) -> None:
        """Remember what is there before anything is granted."""
        self.baseline = self.look()

    @property
    def name(self) -> str:
        """How to call it."""
        return f"{self.server.major}/{self.server.shape.name}"

    @property
    def has_options(self) -> bool:
        """Whether memberships have options."""
        return self.server.major >= 16

    def options(self) -> dict[str, Any]:
        """By which the connector logs in."""
        return connector_options(self.server)

    # ------------------------------------------------------------------------------- what is there

    def look(self) -> Sight:
        """Read all of it."""
        with self.conn.transaction():
            rows = self.conn.execute(MARKED).fetchall()
            ties = self.conn.execute(TIES.encode()).fetchall()
            named = self.conn.execute(r"SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'latchkey\_%'").fetchall()
        roles = {
            name: Role(oid=oid, name=name, login=login, over=over, until=until, facts=_facts(comment))
            for oid, name, login, over, until, comment in rows
        }
        return Sight(roles=roles, ties=frozenset(ties), others=frozenset(row[0] for row in named) - roles.keys())

    def settle(self) -> None:
        """Wait until the server has noticed that a client is gone."""
        deadline = time.monotonic() + PATIENCE
        while self.conn.execute(BUSY.encode()).fetchall() != [(0,)]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: sessions of a run that was killed stay")
            time.sleep(0.003)

    def held(self, role: Role) -> frozenset[Row]:
        """All that a role holds."""
        return frozenset(self.app.execute(HELD.encode(), {"r": role.oid}).fetchall())

    def remember_profiles(self) -> None:
        """What the profiles hold now is all that they should."""
        for role in self.look().of_kind("profile"):
            self.complete.setdefault(role.name, self.held(role))

    def document(self, secret: str) -> dict[str, Any] | None:
        """What a secret says now."""
        found = self.store.secrets.get(secret)
        return json.loads(found.value() or "{}") if found else None

    # ------------------------------------------------------------------------------- what must hold

    def faults(self) -> list[str]:
        """Whatever is not as it must be after a run that came to its end."""
        sight = self.look()
        return [
            *_login_faults(sight),
            *_grant_faults(sight),
            *self._profile_faults(sight),
            *(f"role {name} is left over" for name in sorted(sight.others - self.baseline.others)),
            *(f"role {role.name} is left over, and for nothing" for role in sight.roles.values() if role.kind is None),
            *(f"left over: {member} is in {role}" for role, member, _options, _by in _more(sight, self.baseline)),
            *(f"lost: {member} is no longer in {role}" for role, member, _options, _by in _more(self.baseline, sight)),
        ]

    def _profile_faults(self, sight: Sight) -> Iterable[str]:
        for role in sight.of_kind("profile"):
            lacking = self.complete.get(role.name, frozenset()) - self.held(role)
            if sight.members(role.name) and lacking:
                yield f"profile {role.name} lacks {len(lacking)} privileges, such as {' '.join(sorted(lacking)[0])}"

    # ------------------------------------------------------------------------------- the next trial

    def clear(self) -> None:
        """Take away what came to be after the first look: one trial's faults are not the next one's."""
        sight = self.look()
        doomed = [*(sight.roles.keys() - self.baseline.roles.keys()), *(sight.others - self.baseline.others)]
        if doomed:
            names = sql.SQL(", ").join(map(sql.Identifier, doomed))
            # It takes away what owners gave, and nothing that was given by grant option.
            for conn in (self.app, self.conn):
                conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(names))
            with self.app.transaction():
                self.app.execute(f"SET LOCAL ROLE {CONNECTOR}".encode())
                for place in GIVEN_ON:
                    self.app.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.SQL(place), names))
            self.conn.execute(sql.SQL("DROP ROLE {}").format(names))
        self.baseline = self.look()


def _facts(comment: str | None) -> dict[str, Any]:
    try:
        return dict(json.loads(comment or "{}"))
    except ValueError:
        return {}


def _more(one: Sight, other: Sight) -> list[Row]:
    return sorted(one.foreign_ties - other.foreign_ties)


def _login_faults(sight: Sight) -> Iterable[str]:
    for login in sight.of_kind("login"):
        grants = sight.grants_of(login.name)
        if login.login and not grants:
            yield f"login {login.name} is open without a grant"
        if login.login and grants and login.until != max(grant.until or 0 for grant in grants):
            yield f"login {login.name} does not end with its last grant"


def _grant_faults(sight: Sight) -> Iterable[str]:
    for grant in [role for role in sight.roles.values() if role.name.startswith("latchkey_g_")]:
        if grant.over or grant.until is None:
            yield f"grant role {grant.name} is over, and there"
        members = sight.members(grant.name)
        known = [sight.roles[name] for name in members if name in sight.roles]
        if not members or any(not login.login for login in known):
            yield f"grant role {grant.name} is there without a login"
        if not any(
            role.startswith("latchkey_p_") for role, member, _options, _by in sight.ties if member == grant.name
        ):
            yield f"grant role {grant.name} gives nothing"
