# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The ledger: what the catalog says of the roles of ours. Enforcement needs nothing else."""

from __future__ import annotations

import collections
import collections.abc as c
import datetime as dt
import functools
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Mark, Profile, RoleKind, read_mark
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import MEMBERSHIP_OPTIONS

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# A CONNECTION LIMIT that means nothing to the server on a role without LOGIN: the note that the sessions of a grant
# whose role can't be dropped are ended. Without it, who has other access would be thrown out again by every sweep.
SESSIONS_ENDED = 0
# ADMIN OPTION on the marker is for who gives the mark, and does not mark. With ``names`` only what these roles have to
# do with: their members and theirs, and the roles that all of these are in; of ``others`` no more than the roles.
# A membership that is no more than ADMIN OPTION is that of who made the role.
CHOSEN = """
WITH RECURSIVE ours AS (
  SELECT DISTINCT m.member AS oid FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.roleid
   WHERE k.rolname = %(marker)s AND NOT m.admin_option
),
tie AS (
  SELECT m.roleid, m.member, m.grantor, {inherit} AS inherits, {settable} AS settable
    FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
   WHERE NOT (m.admin_option AND NOT {inherit} AND NOT {settable})
     AND m.roleid <> (SELECT oid FROM pg_roles WHERE rolname = %(marker)s)
),
people AS (
  SELECT oid FROM pg_roles WHERE rolname = ANY (%(names)s)
   UNION SELECT tie.member FROM tie JOIN people ON people.oid = tie.roleid
),
chosen AS (
  SELECT oid FROM ours
   WHERE %(names)s::text[] IS NULL
      OR oid IN (SELECT oid FROM people
                  UNION SELECT roleid FROM tie WHERE member IN (SELECT oid FROM people)
                  UNION SELECT oid FROM pg_roles WHERE rolname = ANY (%(others)s))
)
"""
# An end that Python's calendar does not reach is none: only somebody else can have set it.
ROLES = """
SELECT r.oid, r.rolname::text, r.rolcanlogin,
       CASE WHEN r.rolvaliduntil < 'epoch' THEN 'epoch'::timestamptz
            WHEN r.rolvaliduntil < '9999-01-01' THEN r.rolvaliduntil END,
       shobj_description(r.oid, 'pg_authid'), r.rolconnlimit
  FROM chosen JOIN pg_roles r USING (oid)
"""
MEMBERSHIPS = """
SELECT r.rolname::text, u.rolname::text, u.oid, u.rolcanlogin, g.rolname::text, tie.inherits, tie.settable
  FROM tie JOIN pg_roles r ON r.oid = tie.roleid JOIN pg_roles u ON u.oid = tie.member
  LEFT JOIN pg_roles g ON g.oid = tie.grantor
 WHERE CASE WHEN %(names)s::text[] IS NULL
            THEN tie.roleid IN (SELECT oid FROM ours) OR tie.member IN (SELECT oid FROM ours)
            ELSE tie.roleid IN (SELECT oid FROM people) OR tie.member IN (SELECT oid FROM people) END
"""
# Named as our grants are, without our mark: nothing ends them.
UNMARKED = """
SELECT r.rolname::text FROM pg_roles r
 WHERE r.rolname ~ %(grant)s AND (%(names)s::text[] IS NULL OR r.rolname::text IN (SELECT unnest(%(names)s::text[])))
   AND NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.roleid
                    WHERE k.rolname = %(marker)s AND m.member = r.oid AND NOT m.admin_option)
 ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A role of ours. ``valid_until``: None for one without an end."""

    oid: int
    name: str
    login: bool
    valid_until: dt.datetime | None
    mark: Mark | None
    connection_limit: int = -1

    @property
    def kind(self) -> RoleKind | None:
        """By its comment, because a role may be renamed; by its name, if somebody changed the comment."""
        if self.mark is not None:
            return self.mark.kind
        prefixes = {names.GRANT: RoleKind.GRANT, names.PROFILE: RoleKind.PROFILE}
        return next((kind for prefix, kind in prefixes.items() if self.name.startswith(prefix)), None)

    @property
    def profile(self) -> Profile | None:
        """What it gives, unless somebody has changed what its comment says."""
        if self.kind is not RoleKind.PROFILE or self.mark is None:
            return None
        try:
            return Profile.of(self.mark.facts)
        except (KeyError, ValueError, TypeError):
            return None

    def fact(self, key: str) -> str | None:
        return None if self.mark is None else self.mark.get(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """``member`` is a member of ``role``; one of them at least is ours."""

    role: str
    member: str
    member_oid: int
    member_login: bool
    grantor: str | None
    inherit: bool
    set: bool


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """At one moment of the server's clock. ``unmarked``: what would be grants, had they the mark."""

    now: dt.datetime
    version: int
    roles: c.Mapping[str, Marked]
    ties: tuple[Tie, ...]
    unmarked: tuple[str, ...] = ()

    @property
    def has_options(self) -> bool:
        return self.version >= MEMBERSHIP_OPTIONS

    def of_kind(self, kind: RoleKind) -> tuple[Marked, ...]:
        return tuple(role for role in self.roles.values() if role.kind is kind)

    def is_done(self, grant: Marked) -> bool:
        """It gives nothing, and only waits to be dropped. Until the note, it stands for sessions that may be open."""
        return self.is_over(grant) and not self.members(grant.name) and grant.connection_limit == SESSIONS_ENDED

    def is_over(self, grant: Marked) -> bool:
        """A grant without an end is none: somebody has tampered with it."""
        return grant.valid_until is None or grant.valid_until <= self.now

    def members(self, role: str) -> tuple[Tie, ...]:
        return self._by_role.get(role, ())

    def reach(self, role: str) -> frozenset[Tie]:
        """The memberships by which anybody, directly or through others, is in a role."""
        found: set[Tie] = set()
        queue = [role]
        while queue:
            ties = set(self.members(queue.pop())) - found
            found |= ties
            queue += [tie.member for tie in ties]
        return frozenset(found)

    def memberships(self, member: str) -> tuple[Tie, ...]:
        return self._by_member.get(member, ())

    def grants_of(self, login: str, *, active: bool = True) -> tuple[Marked, ...]:
        """The grants of a login's own that it is a member of; with ``active`` those whose time is not over."""
        found = {tie.role: self.roles[tie.role] for tie in self.memberships(login) if tie.role in self.roles}
        grants = [role for role in found.values() if role.kind is RoleKind.GRANT and self.is_made_for(role, login)]
        return tuple(grant for grant in grants if not (active and self.is_over(grant)))

    def is_made_for(self, grant: Marked, login: str) -> bool:
        """Somebody may have put another login into a grant, or have renamed the right one."""
        found = self.roles.get(login)
        if found is not None and found.kind is RoleKind.LOGIN and found.fact("grantee") == grant.fact("grantee"):
            return True
        return grant.mark is None or login == grant.fact("login")

    def request(self, request: str) -> Marked | None:
        """The grant of a request, even if somebody has renamed its role."""
        grants = self.of_kind(RoleKind.GRANT)
        expected = names.grant_role(request)
        found = [g for g in grants if g.fact("request") == request or (g.mark is None and g.name == expected)]
        return found[0] if found else None

    @functools.cached_property
    def _by_role(self) -> c.Mapping[str, tuple[Tie, ...]]:
        return _grouped(self.ties, lambda tie: tie.role)

    @functools.cached_property
    def _by_member(self) -> c.Mapping[str, tuple[Tie, ...]]:
        return _grouped(self.ties, lambda tie: tie.member)


def _grouped(ties: c.Iterable[Tie], key: c.Callable[[Tie], str]) -> c.Mapping[str, tuple[Tie, ...]]:
    found: dict[str, list[Tie]] = collections.defaultdict(list)
    for tie in ties:
        found[key(tie)].append(tie)
    return {name: tuple(group) for name, group in found.items()}


def read_ledger(
    session: Session, *, version: int, roles: c.Iterable[str] | None = None, others: c.Iterable[str] = ()
) -> Ledger:
    """All of it; or with ``roles`` what these have to do with, however many more there are.

    ``others``: roles that are wanted besides, without their members.
    """
    parameters = {
        "marker": names.MARKER,
        "names": None if roles is None else list(roles),
        "others": list(others),
        "grant": f"^{names.GRANT}[0-9a-f]{{16}}$",
    }
    new = version >= MEMBERSHIP_OPTIONS
    chosen = CHOSEN.format(
        inherit="m.inherit_option" if new else "u.rolinherit", settable="m.set_option" if new else "true"
    )
    with session.reading():
        now = session.rows("SELECT clock_timestamp()")[0][0]
        found = session.rows(chosen + ROLES, parameters)
        ties = session.rows(chosen + MEMBERSHIPS, parameters)
        unmarked = session.rows(UNMARKED, parameters)
    return Ledger(
        now=now,
        version=version,
        roles=_marked(found),
        ties=tuple(
            Tie(
                role=role,
                member=member,
                member_oid=oid,
                member_login=login,
                grantor=grantor,
                inherit=inherit,
                set=settable,
            )
            for role, member, oid, login, grantor, inherit, settable in ties
        ),
        unmarked=tuple(name for (name,) in unmarked),
    )


def _marked(rows: c.Iterable[tuple[t.Any, ...]]) -> dict[str, Marked]:
    """If somebody changed the comment of a login, its grants still tell whose it is."""
    roles = {
        name: Marked(
            oid=oid, name=name, login=login, valid_until=until, mark=read_mark(comment), connection_limit=limit
        )
        for oid, name, login, until, comment, limit in rows
    }
    owners = {g.fact("login"): g.fact("grantee") for g in roles.values() if g.kind is RoleKind.GRANT and g.mark}
    return {
        name: replace(role, mark=Mark(kind=RoleKind.LOGIN, facts={"grantee": owners[name]}))
        if role.kind is None and name in owners
        else role
        for name, role in roles.items()
    }
