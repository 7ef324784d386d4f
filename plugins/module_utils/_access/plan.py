# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""From a request and the ledger to the statements of one transaction. Pure."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import auth, journal, names, period, statements
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Mark, RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Item, Request


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


def require_marked(ledger: Ledger, *, where: str) -> None:
    """What nothing would end, and what is in the way of a new one."""
    for name in ledger.unmarked:
        raise DatabaseRefused(
            f"role {name} of this request lacks the mark, so that nothing ends it",
            where=where,
            next_step=f"Run as who administers both: GRANT {names.MARKER} TO {name}",
        )


def commands(
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


def entry(request: Request, *, action: str, end: dt.datetime) -> Statement:
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


def undone(reports: tuple[ItemReport, ...]) -> tuple[ItemReport, ...]:
    """Where one failed, nothing was given."""
    return tuple(replace(r, status="undone") if r.status == "granted" else r for r in reports)
