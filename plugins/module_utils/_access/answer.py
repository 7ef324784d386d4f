# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What is returned, and what a person is told."""

from __future__ import annotations

import collections.abc as c
import typing as t
import urllib.parse

from ansible_collections.latchkey.postgres.plugins.module_utils._access import drift, period
from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import LONGEST_DETAILS
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Result

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ending import Ended
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Request
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.plan import Granted, ItemReport
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.profiles import ProfileReport
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep import Swept

DETAILS = "You have {access} until {expires_at}: {uri}{secret}"


def of_grant(site: Site, request: Request, granted: Granted) -> Result:
    failure = None
    if granted.failure:
        failure = f"{site.where}: {granted.failure}. Nothing was given; set allow_partial to take what there is"
    values: dict[str, t.Any] = {
        "request_id": request.request,
        "grantee": request.grantee,
        "login": granted.person,
        "host": site.login.host,
        "port": site.login.port,
        "database": request.database,
        "expires_at": period.shown(granted.until),
        "items": [_item(item) for item in granted.items],
        "secret": granted.secret,
        "uri": uri(site, request, granted),
        "access_details": details(site, request, granted),
        "statements": [str(statement) for statement in granted.statements],
    }
    if request.return_password:
        values["password"] = granted.credential.password
    changed = bool(granted.statements) and failure is None
    return Result(changed=changed, values=values, diff=_diff(request, granted) if changed else None, failure=failure)


def _item(report: ItemReport) -> dict[str, t.Any]:
    profile = report.item.profile
    return {
        "database": profile.database if profile else None,
        "permission": profile.permission.value if profile else None,
        "schemas": list(profile.schemas) if profile else None,
        "objects": None if profile is None or profile.objects is None else list(profile.objects),
        "role": report.item.name,
        "status": report.status,
        "reason": report.reason,
        "uncovered": report.uncovered,
        "later": list(report.lagging),
    }


def uri(site: Site, request: Request, granted: Granted) -> str:
    """Without a password."""
    user, database = (urllib.parse.quote(part, safe="") for part in (granted.person, request.database))
    return f"postgresql://{user}@{site.login.host}:{site.login.port}/{database}?sslmode={site.login.ssl_mode}"


def details(site: Site, request: Request, granted: Granted) -> str:
    """The message for the person, of at most 400 characters; what has no room is cut."""
    what = [item.item for item in granted.items]
    known = {
        "access": ", ".join(map(str, what)),
        "login": granted.person,
        "host": site.login.host,
        "port": str(site.login.port),
        "database": request.database,
        "expires_at": period.shown(granted.until),
        "uri": uri(site, request, granted),
        "secret": f" The password is in {granted.secret}" if granted.secret else "",
    }
    if request.details is None and len(_filled(DETAILS, known)) > LONGEST_DETAILS:
        known["access"] = f"access to {len(what)} things"
    return _filled(request.details or DETAILS, known)[:LONGEST_DETAILS]


def _filled(text: str, known: c.Mapping[str, str]) -> str:
    for key, value in known.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _diff(request: Request, granted: Granted) -> dict[str, str]:
    def lines(until: t.Any) -> str:
        return "".join(f"{request.grantee}: {item.item} until {period.shown(until)}\n" for item in granted.items)

    header = f"access of {request.grantee} by request {request.request}"
    return {
        "before_header": header,
        "after_header": header,
        "before": lines(granted.before) if granted.before else "",
        "after": lines(granted.until),
    }


def of_ending(site: Site, ended: Ended, *, request: Request) -> Result:
    """A fence that is not proven fails the task, and the next run goes on."""
    failure = None
    if ended.overdue:
        failure = f"{site.where}: access is not proven gone: {'; '.join(ended.overdue)}. Run again, or let the sweep"
    header = f"access by request {request.request}"
    return Result(
        changed=bool(ended.requests or ended.shut),
        values={
            "request_id": request.request,
            "revoked": list(ended.requests),
            "fenced": list(ended.shut),
            "blocked": [{"role": role, "reason": why} for role, why in ended.blocked.items()],
            "secrets_withdrawn": list(ended.secrets),
            "statements": [command.as_string(None) for command in ended.statements],
        },
        diff={
            "before_header": header,
            "after_header": header,
            "before": "".join(f"{name}\n" for name in ended.requests),
            "after": "",
        },
        warnings=ended.unreached,
        failure=failure,
    )


def of_sweep(site: Site, swept: Swept) -> Result:
    ended = swept.ended
    reasons = [f"role {one.role} {one.what}" for one in swept.drift if one.kind == drift.UNMARKED and not one.repaired]
    if ended.overdue:
        reasons.insert(0, f"access that should be gone is not proven gone: {'; '.join(ended.overdue)}")
    failure = f"{site.where}: {'; '.join(reasons)}" if reasons else None
    blocked = {**ended.blocked, **swept.kept}
    blocked = {role: why for role, why in blocked.items() if role not in swept.dropped}
    enforced = swept.enforcement
    return Result(
        changed=swept.changed or bool(enforced and enforced.changed),
        values={
            "enforcement": None if enforced is None else {"installed": enforced.installed, "changed": enforced.changed},
            "ended": list(ended.requests),
            "fenced": list(ended.shut),
            "overdue": list(ended.overdue),
            "drift": [
                {"kind": one.kind, "role": one.role, "what": one.what, "repaired": one.repaired} for one in swept.drift
            ],
            "dropped": list(swept.dropped),
            "blocked": [{"role": role, "reason": why} for role, why in sorted(blocked.items())],
            "profiles": [_profile(report) for report in swept.profiles if report.changed or report.missing],
            "profiles_dropped": list(swept.profiles_dropped),
            "secrets_withdrawn": list(ended.secrets),
        },
        diff={
            "before": "".join(f"{name}\n" for name in (*ended.requests, *swept.dropped, *swept.profiles_dropped)),
            "after": "",
        },
        warnings=tuple(f"{site.where}: {line}" for line in swept.unreached),
        failure=failure,
    )


def _profile(report: ProfileReport) -> dict[str, t.Any]:
    return {
        "profile": str(report.profile),
        "role": report.profile.role,
        "changed": report.changed,
        "missing": report.missing,
        "later": list(report.lagging),
    }
