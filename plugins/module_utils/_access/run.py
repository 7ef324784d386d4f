# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Behind `pg_access_grant`: one request, from its options to its answer."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    answer,
    auth,
    delivery,
    ending,
    grant,
    journal,
    names,
    options,
    people,
    plan,
    profiles,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.plan import Credential, Granted
from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import open_site, require_rights
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Door, Params, Result
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    LatchkeyError,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._login import store_of
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import only_run
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Request
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud


def access(params: Params, context: Context) -> Result:
    request = options.parse(params, context)
    with open_site(request.login, check=context.check) as site:
        require_rights(site, names.MARKER)
        with contextlib.nullcontext() if context.check else only_run(site.session):
            if params["state"] == "absent":
                return _revoke(site, request, store_of(params))
            return _grant(site, request, context, store_of(params))


def _grant(site: Site, request: Request, context: Context, cloud: Cloud | None) -> Result:
    ledger = grant.reread(site, request)
    found = ledger.request(request.request)
    if found is not None and ledger.is_over(found):
        ended = ending.end(site, ledger, [found], manner=_manner(site, request, cloud), action="expire")
        if ended.overdue:
            return answer.of_ending(site, ended, request=request)
        if ended.pending:
            raise DatabaseRefused(
                f"request_id: {request.request!r} has ended, and its secret can't be withdrawn:"
                f" {'; '.join(ended.unreached)}",
                where=site.where,
                next_step="Run again when the secret store answers",
            )
        for role, reason in ended.blocked.items():
            raise DatabaseRefused(
                f"request_id: {request.request!r} was used before, and its role {role} can't be dropped: {reason}",
                where=site.where,
                next_step="Use another request_id; what is left is for pg_access_sweep with owned_objects",
            )
        ledger, found = grant.reread(site, request), None
    _require(site, request, ledger, found)
    begin, end = plan.expiry(request, ledger, found, where=site.where)
    items, done = grant.provide_items(site, request, ledger)
    short = [item for item in items if item.status != "granted"]
    if short and (not request.allow_partial or all(item.status == "failed" for item in items)):
        _drop_new(site, request, ledger)
        what = "; ".join(f"{item.item}: {item.reason}" for item in short)
        granted = Granted(person=request.person, until=end, items=plan.undone(items), failure=f"not given: {what}")
        return answer.of_grant(site, request, granted)
    roles = [item.item.name for item in items if item.status != "failed"]
    try:
        granted = _give(site, request, context, ledger, found, roles=roles, begin=begin, end=end)
    except LatchkeyError:  # the secret can't be written, or what was given was taken back
        _drop_new(site, request, ledger)
        raise
    return answer.of_grant(
        site,
        request,
        replace(
            granted, items=items, statements=(*done, *granted.statements), before=found.valid_until if found else None
        ),
    )


def _require(site: Site, request: Request, ledger: Ledger, found: Marked | None) -> None:
    """All that can be said before anything is changed."""
    plan.require_marked(ledger, where=site.where)
    plan.require_same(request, found, where=site.where)
    grant.require_administered(site, request, ledger, found)
    people.require_person(site, request, ledger)
    grant.require_items(site, request, ledger)
    login = ledger.roles.get(request.person)
    if not request.managed:
        return
    if plan.is_open(ledger, request) and login is not None and login.fact("auth") != request.auth:
        raise InvalidOption(
            f"auth: {request.person} has access by {login.fact('auth')} now, and can't have it by {request.auth} too",
            where=site.where,
            next_step="End the other access first",
        )
    if not plan.is_open(ledger, request) and request.auth == "rds_iam":
        auth.require_iam(site)
    if login is None and request.auth == "entra":
        auth.require_entra(site)


def _give(
    site: Site,
    request: Request,
    context: Context,
    ledger: Ledger,
    found: Marked | None,
    *,
    roles: list[str],
    **when: t.Any,
) -> Granted:
    """The credentials go to their secret first, where nobody can use them yet; then one transaction."""
    is_open = plan.is_open(ledger, request)
    credential = Credential() if is_open else grant.make_credential(site, request, context.hide)
    login = ledger.roles.get(request.person)
    secret = login.fact("secret") if is_open and login is not None else None
    if request.delivery is not None and credential.password and not site.check:
        document = grant.credentials_of(site, request, credential.password)
        credential = replace(credential, secret=delivery.deliver(request.delivery, document))
    settings = () if is_open or login is None else grant.read_settings(site, request)
    commands = plan.commands(ledger, request, found, roles=roles, credential=credential, settings=settings, **when)
    action = "grant" if found is None else "extend" if found.valid_until != when["end"] else "repair"
    if commands and journal.is_usable(site.session):
        commands = (*commands, plan.entry(request, action=action, end=when["end"]))
    granted = Granted(
        person=request.person,
        until=when["end"],
        statements=commands,
        credential=credential,
        secret=credential.secret or secret,
    )
    if site.check or not commands:
        return replace(granted, credential=Credential())
    execute_together(site.session, (statement.command for statement in commands))
    _require_effect(site, request, roles)
    return granted


def _require_effect(site: Site, request: Request, roles: list[str]) -> None:
    ledger = grant.reread(site, request)
    made = ledger.request(request.request)
    short = None if made is None else grant.shortfall(site, request, roles, grant=made.name)
    if short is None:
        return
    if made is not None:
        ending.end(site, ledger, [made], manner=_manner(site, request))
    raise DatabaseRefused(f"{short}; the access was taken back", where=site.where)


def _drop_new(site: Site, request: Request, ledger: Ledger) -> None:
    """Profiles that this run has made, and nobody is in."""
    if site.check:
        return
    for item in request.items:
        if item.profile is not None and item.name not in ledger.roles:
            profiles.remove(site, item.name)


def _revoke(site: Site, request: Request, cloud: Cloud | None) -> Result:
    ledger = grant.reread(site, request)
    found = ledger.request(request.request)
    if found is None:
        plan.require_marked(ledger, where=site.where)
        return answer.of_ending(site, ending.Ended(), request=request)
    if request.grantee and found.fact("grantee") != request.grantee:
        raise InvalidOption(
            f"request_id: {request.request!r} was given to another grantee, {found.fact('grantee')!r}",
            where=site.where,
            next_step="Leave grantee out to end it all the same",
        )
    manner = _manner(site, request, cloud)
    ended = ending.end(site, ledger, [found], manner=manner, approver=request.approver, reason=request.reason)
    return answer.of_ending(site, ended, request=request)


def _manner(site: Site, request: Request, cloud: Cloud | None = None) -> ending.Manner:
    return ending.Manner(
        readers=request.readers, always=request.always_end, cloud=cloud, journaled=journal.is_usable(site.session)
    )


GRANT = Door(arguments=options.ARGUMENTS, run=access, rules=options.RULES)
