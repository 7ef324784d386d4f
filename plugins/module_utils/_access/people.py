# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Whom access may be given to, and which roles may be given: said before anything is changed."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, plain
from ansible_collections.latchkey.postgres.plugins.module_utils._access.statements import administer
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Request
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site

PERSON = "SELECT rolsuper, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = %(role)s"


def require_person(site: Site, request: Request, ledger: Ledger) -> None:
    """A login that we did not make is never taken over."""
    role, where = request.person, site.where
    if platforms.owns_role(role) or role.startswith(names.PREFIX):
        raise InvalidOption(
            f"grantee: {role!r} is a role of the platform or of this collection",
            where=where,
            next_step="Name the person, or a login of the person's own",
        )
    if role == site.server.user:
        raise InvalidOption(
            f"grantee: {role!r} is the connector itself",
            where=where,
            next_step="Name the person, or a login of the person's own",
        )
    rows = site.session.rows(PERSON, {"role": role})
    if request.managed:
        _require_ours(request, ledger, where=where, there=bool(rows))
        return
    if not rows:
        raise InvalidOption(
            f"grantee: there is no login {role!r}", where=where, next_step="Use login: managed to make one"
        )
    superuser, create_role, login = rows[0]
    if role in ledger.roles:
        raise InvalidOption(
            f"grantee: login {role} is one that this collection made",
            where=where,
            next_step=f"Use login: managed, and the grantee {ledger.roles[role].fact('grantee')}",
        )
    if superuser or create_role or not login:
        why = "is no login" if not login else "is an administrator, whom a fence would not hold"
        raise InvalidOption(f"grantee: {role!r} {why}", where=where, next_step="Use login: managed to make one")


def _require_ours(request: Request, ledger: Ledger, *, where: str, there: bool) -> None:
    found = ledger.roles.get(request.person)
    if found is None and there:
        raise InvalidOption(
            f"grantee: login {request.person} exists, and this collection did not make it",
            where=where,
            next_step="Use login: existing to give it access as it is, or rename it",
        )
    if found is not None and (found.kind is not RoleKind.LOGIN or found.fact("grantee") != request.grantee):
        raise DatabaseRefused(
            f"role {found.name} belongs to grantee {found.fact('grantee')!r}",
            where=where,
            next_step="Look at its comment",
        )


def require_plain(site: Site, role: str, *, option: str) -> None:
    """A role that leads to no power over the server, for people to be put into or to leave their objects to."""
    why = plain.objection(role, site.graph, connector=site.server.user)
    if why is not None:
        raise InvalidOption(
            f"{option}: role {role!r} can't be used: {why}",
            where=site.where,
            next_step="Check the name, whose case counts; give a role that holds privileges on data alone",
        )


def require_role(site: Site, role: str) -> None:
    """A role that people may be put into, and that the login may give."""
    require_plain(site, role, option="access")
    if site.graph.may_grant_membership(role):
        return
    remedy = administer(role, site.server.user)
    raise DatabaseRefused(
        f"login {site.server.user} has no ADMIN OPTION on role {role} and can't give it",
        where=site.where,
        next_step=f"Name it in grantable_roles of pg_apono_bootstrap, or run: {remedy.as_string(None)};",
    )
