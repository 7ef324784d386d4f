# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What a request needs of the server: what it names, its profiles, the credentials, and the proof afterwards."""

from __future__ import annotations

import collections.abc as c
import json
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, profiles, statements
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.people import require_role
from ansible_collections.latchkey.postgres.plugins.module_utils._access.plan import Credential, ItemReport
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    LatchkeyError,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, scram
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials, generate_password

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Request
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site

SETTINGS = """
SELECT d.datname::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE r.rolname = %(role)s
"""
CHECK = """
SELECT r.name, pg_has_role(%(person)s::name, r.name::name, 'USAGE'),
       {settable}
  FROM unnest(%(roles)s::text[]) AS r (name)
"""

# Roles of ours whose comment names a request, whatever their own names are now.
RENAMED = """
SELECT r.rolname::text
  FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
  JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
 WHERE k.rolname = %(marker)s AND NOT m.admin_option AND strpos(d.description, %(request)s) > 0
"""


def require_items(site: Site, request: Request, ledger: Ledger) -> None:
    """Databases, schemas, tables and roles must be there."""
    databases = {database.name: database for database in catalog.read_databases(site.session)}
    for item in request.items:
        if item.profile is None:
            require_role(site, item.role)
            continue
        name = item.profile.database
        found = databases.get(name)
        if found is None:
            raise InvalidOption(
                f"access: there is no database {name!r}",
                where=site.where,
                next_step="The server has: " + ", ".join(sorted(databases)),
            )
        if not (found.allows_connections and found.valid and found.may_connect):
            raise DatabaseRefused(
                f"access: login {site.server.user} can't enter database {name}",
                where=site.where,
                next_step="Run pg_apono_bootstrap for it",
            )
        if item.name not in ledger.roles:
            profiles.require_matches(site, item.profile)


def require_administered(site: Site, request: Request, ledger: Ledger, found: Marked | None) -> None:
    """Since 16 who made a role administers it, and no other connector does."""
    if not site.has_options or site.server.superuser:
        return
    managed = [request.person] if request.managed else []
    known = [*(item.name for item in request.items if item.profile), *managed, *([found.name] if found else [])]
    administered = catalog.read_administered(site.session, [name for name in known if name in ledger.roles])
    others = [name for name, is_ours in administered.items() if not is_ours]
    if not others or site.graph.open_engine:
        return
    raise DatabaseRefused(
        f"login {site.server.user} has no ADMIN OPTION on {others[0]}, which another connector has made",
        where=site.where,
        next_step="Log in as that one, or run as who may: "
        + statements.administer(others[0], site.server.user).as_string(None),
    )


def provide_items(site: Site, request: Request, ledger: Ledger) -> tuple[tuple[ItemReport, ...], tuple[Statement, ...]]:
    """The profiles that the request needs, each as complete as it can be."""
    reports: list[ItemReport] = []
    done: list[Statement] = []
    for item in request.items:
        if item.profile is None:
            reports.append(ItemReport(item=item, status="granted"))
            continue
        try:
            said = profiles.ensure(site, item.profile, ledger.roles.get(item.name))
        except (LatchkeyError, psycopg.Error) as error:
            if site.session.lost:
                raise
            reports.append(ItemReport(item=item, status="failed", reason=_reason(error)))
            continue
        done += map(Statement.plain, said.statements)
        status = "granted" if said.missing is None else "partial"
        count = sum(entry.objects for entry in said.uncovered)
        reports.append(ItemReport(item=item, status=status, reason=said.missing, uncovered=count, lagging=said.lagging))
    return tuple(reports), tuple(done)


def _reason(error: Exception) -> str:
    if isinstance(error, psycopg.Error):
        return error.diag.message_primary or "the connection was lost"
    return str(error)


def read_settings(site: Site, request: Request) -> tuple[str | None, ...]:
    """Where the person has left settings of an earlier time."""
    return tuple(row[0] for row in site.session.rows(SETTINGS, {"role": request.person}))


def make_credential(site: Site, request: Request, context_hide: c.Callable[[str], None]) -> Credential:
    """A verifier, and the password behind it unless that is known to the person alone."""
    if not request.managed or request.auth != "password":
        return Credential()
    if request.verifier:
        return Credential(verifier=request.verifier)
    password = generate_password()
    if not request.return_password:
        context_hide(password)
    return Credential(verifier=scram.verifier(site.session, role=request.person, password=password), password=password)


def credentials_of(site: Site, request: Request, password: str) -> Credentials:
    return Credentials(
        username=request.person,
        password=password,
        engine="postgres",
        host=site.login.host,
        port=site.login.port,
        dbname=request.database,
    )


def shortfall(site: Site, request: Request, roles: c.Sequence[str], *, grant: str) -> str | None:
    """What the person has not got, though every statement succeeded; or what is too much. Read from the catalog."""
    settable = "pg_has_role(%(person)s::name, r.name::name, 'SET')" if site.has_options else "false"
    rows = site.session.rows(CHECK.format(settable=settable), {"person": request.person, "roles": [grant, *roles]})
    for name, usable, settable in rows:
        if not usable:
            return f"{request.person} has not got the rights of {name}: does it have NOINHERIT?"
        if settable and name == grant:
            return f"{request.person} could SET ROLE {name} and keep it: somebody has made it a member too"
    return None


def reread(site: Site, request: Request) -> Ledger:
    wanted = [names.grant_role(request.request), *([request.person] if request.grantee else [])]
    others = [item.name for item in request.items if item.profile]

    def read() -> Ledger:
        return read_ledger(site.session, version=site.server.version, roles=wanted, others=others)

    ledger = read()
    if ledger.request(request.request) is None:
        told = json.dumps({"request": request.request})[1:-1]
        renamed = site.session.rows(RENAMED, {"marker": names.MARKER, "request": told})
        wanted += [row[0] for row in renamed]
        ledger = read() if renamed else ledger
    return ledger
