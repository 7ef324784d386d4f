# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Who can do what until when, from the ledger and the sessions. Pure: it reads values and makes what is returned.

Comments of roles can be changed by whoever administers the role, so nothing here trusts their form.
"""

from __future__ import annotations

import collections
import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access import drift, names, period, profiles
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked

Entry = dict[str, t.Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """One session of a person; ``since`` and ``application`` are None where the login may not see them."""

    pid: int
    role: int
    login: str
    database: str | None
    since: dt.datetime | None
    application: str | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Whose access is asked for; None for everybody's."""

    grantee: str | None = None
    request: str | None = None

    @property
    def everything(self) -> bool:
        return self.grantee is None and self.request is None

    def grants(self, ledger: Ledger) -> tuple[Marked, ...]:
        found = (g for g in ledger.of_kind(RoleKind.GRANT) if self.means(g.fact("request"), g.fact("grantee")))
        return tuple(sorted(found, key=lambda g: (g.fact("request") or "", g.name)))

    def means(self, request: str | None, grantee: str | None) -> bool:
        return self.request in {None, request} and self.grantee in {None, grantee}


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The part of the ledger that is asked for."""

    ledger: Ledger
    wanted: Wanted
    grants: tuple[Marked, ...]
    logins: tuple[Marked, ...]
    profiles: tuple[Marked, ...]
    sessions: tuple[Presence, ...] = field(default=())

    @property
    def people(self) -> frozenset[int]:
        """The roles whose sessions count: our logins, and whoever else is a member of a grant."""
        members = (tie.member_oid for grant in self.grants for tie in self.ledger.members(grant.name))
        return frozenset((*(login.oid for login in self.logins), *members))

    @property
    def roles(self) -> frozenset[str]:
        """All that it is about, by name."""
        chosen = (role.name for role in (*self.grants, *self.logins, *self.profiles))
        members = (tie.member for grant in self.grants for tie in self.ledger.members(grant.name))
        return frozenset((*chosen, *members))


def choose(ledger: Ledger, wanted: Wanted) -> Overview:
    grants = wanted.grants(ledger)
    logins, used = ledger.of_kind(RoleKind.LOGIN), ledger.of_kind(RoleKind.PROFILE)
    if not wanted.everything:
        given = {tie.role for grant in grants for tie in ledger.memberships(grant.name)}
        people = {tie.member for grant in grants for tie in ledger.members(grant.name)}
        used = tuple(profile for profile in used if profile.name in given)
        logins = tuple(u for u in logins if u.name in people or _is_of(u, wanted))
    return Overview(
        ledger=ledger,
        wanted=wanted,
        grants=grants,
        logins=tuple(sorted(logins, key=lambda u: u.name)),
        profiles=tuple(sorted(used, key=lambda p: p.name)),
    )


def _is_of(login: Marked, wanted: Wanted) -> bool:
    """A login is of a person, not of a request."""
    return wanted.request is None and login.fact("grantee") == wanted.grantee


def describe(view: Overview) -> dict[str, list[Entry]]:
    return {
        "grants": [_grant(view.ledger, grant) for grant in view.grants],
        "logins": _logins(view),
        "profiles": [_profile(view.ledger, role) for role in view.profiles],
        "sessions": _sessions(view),
        **_findings(view),
    }


# --------------------------------------------------------------------------------------------- grants
def _grant(ledger: Ledger, grant: Marked) -> Entry:
    return {
        "role": grant.name,
        "request_id": grant.fact("request"),
        "grantee": grant.fact("grantee"),
        "login": _person(ledger, grant),
        "by": grant.fact("by"),
        "start": _moment(grant.fact("start")),
        "expires_at": _shown(grant.valid_until),
        "overdue": ledger.is_over(grant) and not ledger.is_done(grant),
        "access": [_item(ledger, role) for role in _given(ledger, grant)],
        "given": _extent(ledger, grant),
    }


def _person(ledger: Ledger, grant: Marked) -> str | None:
    """Whom it was made for, by the name that the login has now: somebody may have renamed it."""
    told, members = grant.fact("login"), [tie.member for tie in ledger.members(grant.name)]
    ours = (name for name in members if name in ledger.roles and ledger.roles[name].kind is RoleKind.LOGIN)
    return told if told in members else next(ours, told)


def _given(ledger: Ledger, grant: Marked) -> tuple[str, ...]:
    return tuple(sorted({tie.role for tie in ledger.memberships(grant.name)}))


def _item(ledger: Ledger, role: str) -> Entry:
    """What one role gives: the scope of a profile, or itself."""
    found = ledger.roles.get(role)
    profile = None if found is None else found.profile
    if found is None or profile is None:
        nothing = dict.fromkeys(("database", "permission", "schemas", "objects"))
        return {**nothing, "role": role, "complete": found is None}
    return {**profile.as_dict(), "role": None, "complete": _is_complete(found)}


def _extent(ledger: Ledger, grant: Marked) -> str:
    """``full``, ``partial`` or ``none``: how much of what was asked for the person has."""
    roles = _given(ledger, grant)
    if not roles or not ledger.members(grant.name):
        return "none"
    told = grant.fact("scope")
    known = [ledger.roles.get(role) for role in roles]
    given = "\n".join(sorted(map(_asked_as, roles, known)))
    lacking = told is not None and told != names.digest(given, 16)
    return "partial" if lacking or not all(r is None or _is_complete(r) for r in known) else "full"


def _asked_as(role: str, found: Marked | None) -> str:
    """The name that a role had when it was asked for."""
    profile = None if found is None else found.profile
    return role if profile is None else profile.role


# --------------------------------------------------------------------------------------------- logins
def _logins(view: Overview) -> list[Entry]:
    count = collections.Counter(session.role for session in view.sessions)
    return [_login(view.ledger, login, sessions=count[login.oid]) for login in view.logins]


def _login(ledger: Ledger, login: Marked, *, sessions: int) -> Entry:
    grants = ledger.grants_of(login.name, active=False)
    return {
        "name": login.name,
        "grantee": login.fact("grantee"),
        "auth": login.fact("auth"),
        "open": login.login,
        "expires_at": _shown(login.valid_until) if login.login else None,
        "fenced_since": None if login.login else _shown(login.valid_until),
        "requests": sorted(grant.fact("request") or grant.name for grant in grants),
        "secret": login.fact("secret"),
        "connection_limit": login.connection_limit,
        "sessions": sessions,
    }


# --------------------------------------------------------------------------------------------- profiles
def _is_complete(profile: Marked) -> bool:
    """Whether it held all that there was when it was last looked at."""
    return profile.fact("seen") is not None


def _profile(ledger: Ledger, role: Marked) -> Entry:
    profile, later = role.profile, role.mark.facts.get("lagging") if role.mark else None
    return {
        "role": role.name,
        "scope": None if profile is None else profile.as_dict(),
        "used_by": len({tie.member for tie in ledger.members(role.name)}),
        "unused_since": _shown(profiles.unused_since(role)),
        "later": [str(creator) for creator in later] if isinstance(later, list) else [],
        "complete": _is_complete(role),
    }


# --------------------------------------------------------------------------------------------- sessions
def _sessions(view: Overview) -> list[Entry]:
    whose = {role.oid: role.fact("grantee") for role in view.logins}
    for grant in view.grants:
        whose.update({t.member_oid: grant.fact("grantee") for t in view.ledger.members(grant.name)})
    return [
        {
            "pid": session.pid,
            "login": session.login,
            "grantee": whose.get(session.role),
            "database": session.database,
            "since": _shown(session.since),
            "application_name": session.application,
        }
        for session in view.sessions
    ]


# --------------------------------------------------------------------------------------------- findings
def _findings(view: Overview) -> dict[str, list[Entry]]:
    found = drift.assess(view.ledger)
    about = view.roles
    said = (one for one in drift.findings(found) if view.wanted.everything or one.role in about)
    return {
        "overdue": list(_overdue(view, {login.name for login in found.open_without_grant})),
        "drift": [{"kind": one.kind, "role": one.role, "what": one.what} for one in said],
    }


def _overdue(view: Overview, without_grant: c.Container[str]) -> c.Iterator[Entry]:
    """What should be gone: this is for an alert."""
    for name in view.ledger.unmarked if view.wanted.everything else ():
        yield {
            **dict.fromkeys(("grantee", "request_id", "since")),
            "kind": "grant",
            "role": name,
            "what": drift.what_marks(name),
        }
    for grant in view.grants:
        if view.ledger.is_over(grant) and not view.ledger.is_done(grant):
            why = "its time is over" if grant.valid_until else "it has no end: somebody has changed it"
            yield _late("grant", grant, why, request=grant.fact("request"))
    count = collections.Counter(session.role for session in view.sessions)
    for login in view.logins:
        if login.name in without_grant:
            yield _late("login", login, "it can log in, and has no grant")
        elif not login.login and count[login.oid]:
            yield _late("session", login, f"it is shut, and has {count[login.oid]} open sessions")


def _late(kind: str, role: Marked, what: str, *, request: str | None = None) -> Entry:
    return {
        "kind": kind,
        "role": role.name,
        "grantee": role.fact("grantee"),
        "request_id": request,
        "since": _shown(role.valid_until),
        "what": what,
    }


# --------------------------------------------------------------------------------------------- times
def _shown(when: dt.datetime | None) -> str | None:
    return None if when is None else period.shown(when)


def _moment(text: str | None) -> str | None:
    """A time as a comment tells it."""
    try:
        return None if text is None else period.shown(dt.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return text
