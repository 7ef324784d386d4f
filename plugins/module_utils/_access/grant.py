# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""state=present: from a request to the statements of one transaction."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import json
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    auth,
    journal,
    names,
    period,
    profiles,
    statements,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.people import require_role
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Mark, RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    LatchkeyError,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, scram, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials, generate_password

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Item, Request
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


@dataclass(frozen=True, kw_only=True)
class ItemReport:
    """What became of one thing that was asked for."""

    item: Item
    status: str
    reason: str | None = None
    uncovered: int = 0
    lagging: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A person's new password, as its verifier goes to the server; None where no password is set."""

    verifier: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    secret: str | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Granted:
    """The grant as it is now, or would be in check mode."""

    person: str
    until: dt.datetime
    before: dt.datetime | None = None
    items: tuple[ItemReport, ...] = ()
    statements: tuple[Statement, ...] = ()
    credential: Credential = field(default_factory=Credential)
    secret: str | None = None
    warnings: tuple[str, ...] = ()
    failure: str | None = None


def expiry(request: Request, ledger: Ledger, grant: Marked | None, *, where: str) -> tuple[dt.datetime, dt.datetime]:
    """When it began and when it ends, by the server's clock. What was given is extended, never cut short."""
    begin = _begin(ledger, grant)
    asked = request.until or begin + (request.length or dt.timedelta())
    if request.until and asked <= ledger.now:
        raise InvalidOption(
            f"expires_at: {period.shown(asked)} is past; the server's clock says {period.shown(ledger.now)}",
            where=where,
            next_step="Give a moment to come",
        )
    if asked - begin > request.longest:
        raise InvalidOption(
            f"expires_at: {period.shown(asked)} is more than max_duration after {period.shown(begin)}, when it begins",
            where=where,
            next_step="Ask for less; max_duration is for who sets the policy",
        )
    given = None if grant is None else grant.valid_until
    return begin, max(asked, given) if given else asked


def _begin(ledger: Ledger, grant: Marked | None) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat((grant.fact("start") if grant else None) or "")
    except ValueError:
        return ledger.now


def require_same(request: Request, grant: Marked | None, *, where: str) -> None:
    """One id is one request: it may be prolonged, and not be turned into another."""
    if grant is None:
        return
    for what, told, asked in (
        ("request", grant.fact("request"), request.request),
        ("grantee", grant.fact("grantee"), request.grantee),
        ("access", grant.fact("scope"), request.scope),
        ("login", grant.fact("login"), request.person),
    ):
        if told != asked:
            other = f", {told!r}" if what in {"request", "grantee"} else ""
            raise InvalidOption(
                f"request_id: {request.request!r} was given with another {what}{other}",
                where=where,
                next_step="Use a request_id of its own, or end the other first with state: absent",
            )


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


def plan(
    ledger: Ledger,
    request: Request,
    grant: Marked | None,
    *,
    roles: c.Sequence[str],
    begin: dt.datetime,
    end: dt.datetime,
    credential: Credential,
    settings: c.Iterable[str | None] = (),
) -> tuple[Statement, ...]:
    """What is missing, in one transaction: the grant role with its memberships, the login, and who is in it."""
    name = grant.name if grant is not None else names.grant_role(request.request)
    options = {"has_options": ledger.has_options}
    found: list[Statement] = []
    if grant is None:
        mark = _grant_mark(request, begin)
        found += map(Statement.plain, statements.create_marked(name, mark, until=end, **options))
    elif grant.valid_until != end:
        found.append(Statement.plain(statements.expire(name, end)))
    given = {tie.role for tie in ledger.memberships(name)}
    found += [Statement.plain(statements.grant(role, name, **options)) for role in roles if role not in given]
    if request.managed:
        found += _login(ledger, request, name, end=end, credential=credential, settings=settings)
    if request.person not in {tie.member for tie in ledger.members(name)}:
        found.append(Statement.plain(statements.grant(name, request.person, **options)))
    return tuple(found)


def _grant_mark(request: Request, begin: dt.datetime) -> Mark:
    facts = {
        "request": request.request,
        "grantee": request.grantee,
        "login": request.person,
        "by": request.approver,
        "start": begin.isoformat(),
        "scope": request.scope,
    }
    return Mark(kind=RoleKind.GRANT, facts=facts)


def _login(
    ledger: Ledger,
    request: Request,
    grant: str,
    *,
    end: dt.datetime,
    credential: Credential,
    settings: c.Iterable[str | None],
) -> list[Statement]:
    """The person's login, open until the last of the grants ends."""
    person, login = request.person, ledger.roles.get(request.person)
    others = [other.valid_until for other in ledger.grants_of(person) if other.name != grant and other.valid_until]
    until = max([end, *others])
    if is_open(ledger, request):
        same = login is not None and login.valid_until == until
        return [] if same else [Statement.plain(statements.expire(person, until))]
    mark = Mark(
        kind=RoleKind.LOGIN, facts={"grantee": request.grantee, "auth": request.auth, "secret": credential.secret}
    )
    verb = "CREATE" if login is None else "ALTER"
    found: list[Statement] = []
    if login is None and request.auth == "entra":
        found.append(Statement.plain(auth.create_principal(person)))
        verb = "ALTER"
    found.append(
        statements.open_login(
            verb, person, until=until, verifier=credential.verifier, connection_limit=request.connection_limit
        )
    )
    found += [Statement.plain(statements.reset(person, database)) for database in settings]
    if login is None:
        marking = statements.mark_role(person, mark, has_options=ledger.has_options)
        found += map(Statement.plain, marking)
    elif login.mark != mark:
        found.append(Statement.plain(statements.comment_on(person, mark)))
    return [*found, *map(Statement.plain, auth.iam_membership(ledger, person, wanted=request.auth == "rds_iam"))]


def is_open(ledger: Ledger, request: Request) -> bool:
    """Whether the person can log in already, by another grant or this one."""
    login = ledger.roles.get(request.person)
    return bool(login is not None and login.login and ledger.grants_of(request.person))


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
        dbname=database_of(request),
    )


def database_of(request: Request) -> str:
    """Where the person begins: the first database that is asked for."""
    return next((item.profile.database for item in request.items if item.profile), request.login.database)


def carry_out(site: Site, commands: c.Sequence[Statement]) -> None:
    """All or nothing, in one round trip."""

    def together() -> None:
        with site.session.writing():
            site.session.execute(sql.script(statement.command for statement in commands))

    if commands:
        retrying(together)


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


def journal_entries(request: Request, *, action: str, end: dt.datetime) -> Statement:
    return Statement.plain(
        journal.entry(
            action,
            request=request.request,
            grantee=request.grantee,
            login=request.person,
            expires_at=end,
            approver=request.approver,
            reason=request.reason,
        )
    )


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


def undone(reports: tuple[ItemReport, ...]) -> tuple[ItemReport, ...]:
    """Where one failed, nothing was given."""
    return tuple(replace(r, status="undone") if r.status == "granted" else r for r in reports)
