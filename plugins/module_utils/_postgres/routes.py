# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Who may act as whom: the roles of a server and their memberships, as a graph without I/O.

An object's privileges are given best by its owner. An administrator that is no superuser becomes the owner for
the length of one transaction, by a membership that it gives itself and takes back. A `Route` says which.
"""

from __future__ import annotations

import collections
import collections.abc as c
import functools
import typing as t
from dataclasses import dataclass, replace

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform

# From this version a CREATEROLE login needs ADMIN OPTION on a role to hand it out, and a membership has options.
MEMBERSHIP_OPTIONS = 160000

# Of each member the roles that it is directly in.
Parents = c.Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    name: str
    oid: int
    superuser: bool = False
    create_role: bool = False
    # Any attribute with which more can be had: SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS.
    powerful: bool = False
    login: bool = False
    inherit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """``member`` is a member of ``role``; before 16 ``inherit`` is the member's attribute and ``set`` is true."""

    role: str
    member: str
    admin: bool = False
    inherit: bool = True
    set: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the administrator comes to act as a role.

    ``borrow``: the roles to become a member of first, in this order: lenders, then the role itself or one that may act
    as it; empty when it may already. ``inherited``: the login has the role's rights without taking on its identity.
    ``proven``: the catalog says that it will work; else only the engine of the platform may allow it.
    """

    role: str
    borrow: tuple[str, ...] = ()
    inherited: bool = False
    proven: bool = True


@dataclass(frozen=True, kw_only=True)
class RoleGraph:
    """The roles of one server as seen by ``me``, the login of the session."""

    me: str
    version: int
    roles: c.Mapping[str, Role]
    platform: Platform
    memberships: tuple[Membership, ...] = ()
    # The platform's engine lets its administrators act as any customer role, whatever the catalog says.
    open_engine: bool = False

    @property
    def has_options(self) -> bool:
        return self.version >= MEMBERSHIP_OPTIONS

    def route(self, role: str) -> Route | None:
        """The way to act as ``role``, or None where there is none."""
        if role not in self.roles:
            return None
        return self._direct(role) or self._borrowed(role)

    def inheriting(self, route: Route) -> Route | None:
        """The way to have the rights of a route's role without its identity, or None where there is none."""
        if not route.proven:
            return replace(route, inherited=True)
        if route.role not in self.roles:
            return None
        if self.roles[self.me].superuser or route.role in self._inherited:
            return Route(role=route.role, inherited=True)
        chain = self._chain(route.role, self._that_inherit)
        return None if chain is None else Route(role=route.role, borrow=chain, inherited=True)

    def own_route(self) -> Route:
        """To act as oneself."""
        return Route(role=self.me, inherited=True)

    def _direct(self, role: str) -> Route | None:
        """Without any change of memberships."""
        if role == self.me:
            return self.own_route()
        if self.roles[self.me].superuser or role in self._settable:
            return Route(role=role)
        return Route(role=role, inherited=True) if role in self._inherited else None

    def _borrowed(self, role: str) -> Route | None:
        if self.roles[role].superuser:
            return None
        for memberships, inherited in ((self._that_set, False), (self._that_inherit, True)):
            chain = self._chain(role, memberships)
            if chain is not None:
                return Route(role=role, borrow=chain, inherited=inherited)
        may_ask = self.open_engine and not self.platform.owns_role(role)
        return Route(role=role, borrow=(role,), proven=False) if may_ask else None

    def may_grant_membership(self, role: str) -> bool:
        """Whether the catalog says that ``me`` may make others members of ``role``."""
        if self.roles[self.me].superuser:
            return True
        if self.roles[role].superuser:
            return False
        return role in self._administered or (not self.has_options and self.roles[self.me].create_role)

    def has_rights_of(self, role: str) -> bool:
        """Whether ``me`` has the rights of ``role`` without taking on its identity."""
        return role in self._inherited

    def reached_from(self, role: str) -> frozenset[str]:
        """The role and all that it is a member of, directly or through others, whatever the options."""
        return _closure(role, self._parents)

    def members_of(self, role: str) -> tuple[Membership, ...]:
        return tuple(m for m in self.memberships if m.role == role)

    def _chain(self, role: str, memberships: Parents) -> tuple[str, ...] | None:
        """The shortest chain of ADMIN that ends at ``role``, or at one that these memberships lead from to it."""
        if self.may_grant_membership(role):
            return (role,) if not self.would_be_circular(role) else None
        if not self.has_options:
            return None
        # Each lender on the way is a customer role on which the one before it holds ADMIN, itself or by inheritance.
        came_from: dict[str, str | None] = {lender: None for lender in self._administered if self._may_lend(lender)}
        queue = collections.deque(sorted(came_from))
        while queue:
            lender = queue.popleft()
            lent = self._administered_from(lender)
            if role in lent:
                return (*_walk_back(came_from, lender), role)
            if role in _closure(lender, memberships):
                return _walk_back(came_from, lender)
            for further in sorted(lent):
                if further not in came_from and self._may_lend(further):
                    came_from[further] = lender
                    queue.append(further)
        return None

    def _may_lend(self, lender: str) -> bool:
        return not (self.platform.owns_role(lender) or self.roles[lender].superuser or lender == self.me)

    def would_be_circular(self, role: str) -> bool:
        """Before 16 a role cannot be granted to one that it is itself a member of (0LP01)."""
        return not self.has_options and self.me in self.reached_from(role)

    @functools.cached_property
    def _settable(self) -> frozenset[str]:
        return _closure(self.me, self._that_set)

    @functools.cached_property
    def _inherited(self) -> frozenset[str]:
        return _closure(self.me, self._that_inherit)

    @functools.cached_property
    def _administered(self) -> frozenset[str]:
        """The roles on which ``me``, or a role whose rights it inherits, holds ADMIN OPTION."""
        return self._administered_from(self.me)

    def _administered_from(self, start: str) -> frozenset[str]:
        holders = _closure(start, self._that_inherit)
        return frozenset(role for holder in holders for role in self._administered_by.get(holder, ()))

    @functools.cached_property
    def _parents(self) -> Parents:
        return _grouped((m.member, m.role) for m in self.memberships)

    @functools.cached_property
    def _that_set(self) -> Parents:
        return _grouped((m.member, m.role) for m in self.memberships if m.set)

    @functools.cached_property
    def _that_inherit(self) -> Parents:
        return _grouped((m.member, m.role) for m in self.memberships if m.inherit)

    @functools.cached_property
    def _administered_by(self) -> Parents:
        return _grouped((m.member, m.role) for m in self.memberships if m.admin)


def _grouped(pairs: c.Iterable[tuple[str, str]]) -> Parents:
    found: dict[str, set[str]] = collections.defaultdict(set)
    for member, role in pairs:
        found[member].add(role)
    return {member: tuple(sorted(roles)) for member, roles in found.items()}


def _closure(start: str, parents: Parents) -> frozenset[str]:
    """``start`` and all that it is a member of, directly or through others."""
    reached, queue = {start}, [start]
    while queue:
        for parent in parents.get(queue.pop(), ()):
            if parent not in reached:
                reached.add(parent)
                queue.append(parent)
    return frozenset(reached)


def _walk_back(came_from: c.Mapping[str, str | None], last: str) -> tuple[str, ...]:
    path: list[str] = []
    step: str | None = last
    while step is not None:
        path.append(step)
        step = came_from[step]
    return tuple(reversed(path))
