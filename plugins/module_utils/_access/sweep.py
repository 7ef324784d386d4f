# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Behind `pg_access_sweep`: what is over ends, what has drifted is put right or told, and nothing is given up."""

from __future__ import annotations

import collections.abc as c
import contextlib
import typing as t
from dataclasses import dataclass, field, replace
from functools import partial

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    answer,
    cleanup,
    drift,
    ending,
    enforcement,
    fence,
    journal,
    names,
    people,
    profiles,
    statements,
    sweep_options,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ending import Ended, Manner
from ansible_collections.latchkey.postgres.plugins.module_utils._access.fence import Fence
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import SESSIONS_ENDED, read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import open_site, require_rights
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Door, Params, Result
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, LatchkeyError
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import only_run
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.drift import Assessment, Drift
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.enforcement import Enforcement
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep_options import Order

T = t.TypeVar("T")

BATCH = 200  # grants that end in one transaction; between two of them other runs have their turn


@dataclass(frozen=True, kw_only=True)
class Swept:
    ended: Ended = field(default_factory=Ended)
    drift: tuple[Drift, ...] = ()
    dropped: tuple[str, ...] = ()
    kept: c.Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[profiles.ProfileReport, ...] = ()
    profiles_dropped: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    enforcement: Enforcement | None = None
    changed: bool = False


def sweep(params: Params, context: Context) -> Result:
    order = sweep_options.parse(params, context)
    with open_site(order.login, check=context.check) as site:
        require_rights(site, names.MARKER)
        enforced, no_job = _tried(site, partial(_enforce, site, order))
        _heir, no_heir = _tried(site, partial(_require_heir, site, order))
        if no_heir is not None:
            order = replace(order, policy=cleanup.Policy())
        result = answer.of_sweep(site, replace(_sweep(site, order), enforcement=enforced))
        return _failing(result, [error for error in (no_job, no_heir) if error is not None])


def _tried(site: Site, act: c.Callable[[], T]) -> tuple[T | None, LatchkeyError | None]:
    """What came of it, or why nothing did: access that is over ends whatever else can't be done."""
    try:
        return act(), None
    except LatchkeyError as error:
        return None, error
    except psycopg.Error as error:
        if site.session.lost:
            raise
        return None, DatabaseRefused(f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})", where=site.where)


def _require_heir(site: Site, order: Order) -> None:
    if order.policy.heir is not None:
        people.require_plain(site, order.policy.heir, option="reassign_to")


def _failing(result: Result, errors: list[LatchkeyError]) -> Result:
    """It fails after all, and says all the same what it did."""
    if not errors:
        return result
    lines = [*([result.failure] if result.failure else []), *map(str, errors)]
    return replace(result, failure=". ".join(lines), failure_kind=errors[0].kind)


def _enforce(site: Site, order: Order) -> Enforcement | None:
    """First of all, because it goes on when nobody sweeps any more."""
    if order.enforcement is None:
        return None
    act = enforcement.install if order.enforcement == "pg_cron" else enforcement.remove
    return act(site.session, check=site.check)


def _sweep(site: Site, order: Order) -> Swept:
    ledger = read_ledger(site.session, version=site.server.version)
    found = drift.assess(ledger, gone=order.gone)
    before = drift.findings(found)
    ended = _end_all(site, order, ledger, found)
    ended += _repair(site, order, found)
    ended += _end_left_over_sessions(site, order, ledger)
    ended += _finish(site, order, ledger)
    now = ledger
    if not site.check and (ended.statements or before):
        now = read_ledger(site.session, version=site.server.version)
    dropped, kept = _clean_up(site, order, now, pending=ended.pending)
    if dropped and not site.check:
        now = read_ledger(site.session, version=site.server.version)
    reports, unreached = _complete(site, order, now)
    gone_profiles, kept_profiles = _retire(site, order, now)
    after = drift.findings(drift.assess(now, gone=order.gone)) if now is not ledger else before
    told = drift.compared(before, after)
    repaired = any(one.repaired for one in told)
    return Swept(
        ended=ended,
        drift=told,
        dropped=dropped,
        kept={**kept, **kept_profiles},
        profiles=reports,
        profiles_dropped=gone_profiles,
        unreached=(*ended.unreached, *unreached),
        changed=bool(ended.statements or repaired or dropped or gone_profiles or any(r.changed for r in reports)),
    )


# --------------------------------------------------------------------------------------------- what is over
def _end_all(site: Site, order: Order, ledger: Ledger, found: Assessment) -> Ended:
    """In batches, each under the lock and by what the catalog says then. What is only left to drop is for the end."""
    over = [grant for grant in found.expired if not ledger.is_done(grant)]
    people = sorted(over, key=lambda grant: grant.fact("login") or grant.name)
    manner = Manner(
        readers=order.readers, cloud=order.cloud, journaled=bool(people) and journal.is_usable(site.session)
    )
    ended = Ended()
    logins = [login.name for login in found.open_without_grant]
    for batch in (*_cut([grant.name for grant in people]), *_cut(logins)):
        ended += _end_batch(site, order, batch, manner=manner)
    return ended


def _cut(roles: list[str]) -> c.Iterator[list[str]]:
    for start in range(0, len(roles), BATCH):
        yield roles[start : start + BATCH]


def _end_batch(site: Site, order: Order, roles: list[str], *, manner: Manner) -> Ended:
    """One that fails is tried alone, and then statement by statement: it stops no other."""
    with contextlib.nullcontext() if site.check else only_run(site.session):
        ledger = read_ledger(site.session, version=site.server.version, roles=roles)
        found = drift.assess(ledger, gone=order.gone)
        grants = [grant for grant in found.expired if grant.name in roles]
        logins = [login for login in found.open_without_grant if login.name in roles]
        try:
            return ending.end(site, ledger, grants, logins=logins, manner=manner, action="expire")
        except psycopg.Error as error:
            if site.session.lost:
                raise
            if len(roles) == 1:
                return _end_piecemeal(
                    site, order, ledger, grants, logins=logins, reason=str(error.diag.message_primary)
                )
    parts = (_end_batch(site, order, [role], manner=manner) for role in roles)
    return sum(parts, start=Ended())


def _end_piecemeal(
    site: Site, order: Order, ledger: Ledger, grants: list[Marked], *, logins: list[Marked], reason: str
) -> Ended:
    """Take away what can be taken away, and say that it is not all."""
    todo = fence.plan_fence(ledger, grants, logins=logins)
    for command in fence.commands(todo, ledger):
        with contextlib.suppress(psycopg.Error):
            execute_together(site.session, [command])
        if site.session.lost:
            break
    failures = fence.end_sessions(site, todo, order.readers)
    what = ", ".join(role.fact("request") or role.name for role in (*grants, *logins))
    return Ended(overdue=(f"{what}: {reason}", *failures), pending=fence.logins_of(todo, ledger))


def _end_left_over_sessions(site: Site, order: Order, ledger: Ledger) -> Ended:
    """Of logins that are shut already: an earlier run was cut off, or was not allowed to."""
    shut = tuple(u for u in ledger.of_kind(RoleKind.LOGIN) if not u.login)
    query = "SELECT DISTINCT usesysid FROM pg_stat_activity WHERE usesysid = ANY (%(roles)s::oid[])"
    left = {row[0] for row in site.session.rows(query, {"roles": [u.oid for u in shut]})} if shut else set()
    some = tuple(u for u in shut if u.oid in left)
    if not some or site.check:
        return Ended()
    failures = fence.end_sessions(site, Fence(shut=some, sessions=frozenset(left)), order.readers)
    who = frozenset(u.name for u in some)
    lines = tuple(f"{', '.join(sorted(who))}: {line}" for line in failures)
    return Ended(overdue=lines, pending=who if failures else frozenset())


def _finish(site: Site, order: Order, ledger: Ledger) -> Ended:
    """Readers and secrets of logins that the server's own job, or a run that was not told of them, has shut.

    CONNECTION LIMIT 0 on a shut login is the note that no reader has a session of it; who opens it sets another.
    """
    shut = [u for u in ledger.of_kind(RoleKind.LOGIN) if not u.login]
    unseen = [u.name for u in shut if order.readers and u.connection_limit != SESSIONS_ENDED]
    named = [u.name for u in shut if order.cloud is not None and u.fact("secret")]
    if site.check or not (unseen or named):
        return Ended()
    with only_run(site.session):
        again = read_ledger(site.session, version=site.server.version, roles=[*unseen, *named])
        ours = [u for u in again.of_kind(RoleKind.LOGIN) if not u.login and not again.grants_of(u.name)]
        failures = _finish_readers(site, order, tuple(u for u in ours if u.name in unseen))
        todo = Fence(shut=tuple(u for u in ours if u.name in named))
        withdrawn = ending.withdraw_secrets(site, order.cloud, todo)
    late = frozenset([*(unseen if failures else ()), *(named if withdrawn.unreached else ())])
    return withdrawn + Ended(overdue=failures, pending=late)


def _finish_readers(site: Site, order: Order, shut: tuple[Marked, ...]) -> tuple[str, ...]:
    failures = fence.end_on_readers(
        site, Fence(shut=shut, sessions=frozenset(u.oid for u in shut)), order.readers if shut else ()
    )
    for login in shut if not failures else ():
        with contextlib.suppress(psycopg.Error):  # without the note it is only looked at again
            execute_together(site.session, [statements.limit(login.name, SESSIONS_ENDED)])
    return failures


# --------------------------------------------------------------------------------------------- what has drifted
def _repair(site: Site, order: Order, found: Assessment) -> Ended:
    """Ends that differ, and members that no grant of ours made. What others gave, only they can take on 16.

    Before 16 such a member may have stepped into the role, and would keep it as long as the session lasts.
    """
    commands = [
        *(statements.expire(name, until) for name, until in found.wrong_end.items()),
        *(statements.revoke(tie.role, tie.member) for tie in found.stray),
    ]
    if site.check or not commands:
        return Ended()
    with only_run(site.session):
        for command in commands:
            with contextlib.suppress(psycopg.Error):
                execute_together(site.session, [command])
    over = frozenset() if site.has_options else frozenset(tie.member_oid for tie in found.stray if tie.member_login)
    failures = fence.end_sessions(site, Fence(sessions=over), order.readers)
    who = frozenset(tie.member for tie in found.stray)
    return Ended(overdue=failures, pending=who if failures else frozenset())


# --------------------------------------------------------------------------------------------- what is left behind
def _clean_up(
    site: Site, order: Order, ledger: Ledger, *, pending: frozenset[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Logins that nobody has used for long, logins of people who left, and grant roles that could not be dropped.

    What has not ended yet stays, or the next run would not know of it.
    """
    over = (grant for grant in ledger.of_kind(RoleKind.GRANT) if ledger.is_over(grant))
    stays = pending | {grant.fact("login") for grant in over if not ledger.is_done(grant)}
    due = [role for role in ledger.roles.values() if role.name not in stays and _is_due(ledger, role, order)]
    dropped: list[str] = []
    kept: dict[str, str] = {}
    for role in sorted(due, key=lambda one: one.name):
        if site.check:
            dropped.append(role.name)
            continue
        with only_run(site.session):
            again = read_ledger(site.session, version=site.server.version, roles=[role.name])
            now = again.roles.get(role.name)
            if now is None or not _is_due(again, now, order):
                continue
            reason = cleanup.remove(site, now, order.policy)
        if reason is None:
            dropped.append(role.name)
        else:
            kept[role.name] = reason
    return tuple(dropped), kept


def _is_due(ledger: Ledger, role: Marked, order: Order) -> bool:
    if role.kind is RoleKind.GRANT:
        return ledger.is_done(role)
    if role.kind is not RoleKind.LOGIN or role.login or ledger.grants_of(role.name, active=False):
        return False
    since = role.valid_until
    return role.fact("grantee") in order.gone or since is None or since + order.cleanup_after <= ledger.now


# --------------------------------------------------------------------------------------------- profiles
def _complete(site: Site, order: Order, ledger: Ledger) -> tuple[tuple[profiles.ProfileReport, ...], tuple[str, ...]]:
    """Every profile that is in use, looked at as a whole; what is wrong with one stops no other."""
    reports, unreached = [], []
    used = [role for role in ledger.of_kind(RoleKind.PROFILE) if ledger.members(role.name)]
    existing = {database.name for database in catalog.read_databases(site.session)} if used else set()
    for role in sorted(used if order.complete_profiles else (), key=lambda one: one.name):
        profile = role.profile
        if profile is None or profile.database not in existing:
            continue
        try:
            with contextlib.nullcontext() if site.check else only_run(site.session):
                reports.append(profiles.ensure(site, profile, role, thorough=True))
        except (LatchkeyError, psycopg.Error) as error:
            if site.session.lost:
                raise
            unreached.append(f"profile {role.name} ({profile}): {error}")
    return tuple(reports), tuple(unreached)


def _retire(site: Site, order: Order, ledger: Ledger) -> tuple[tuple[str, ...], dict[str, str]]:
    """Note since when a profile is unused, and drop it after its time."""
    dropped: list[str] = []
    kept: dict[str, str] = {}
    for role in ledger.of_kind(RoleKind.PROFILE):
        if ledger.members(role.name):
            continue
        since = profiles.unused_since(role)
        if order.retention and since is not None and since + order.retention > ledger.now:
            continue
        is_news = since is None and bool(order.retention)
        note, drop = partial(_note_unused, site, role), partial(_drop_profile, site, role, order.policy)
        reason = None if site.check else _objection(site, note if is_news else drop)
        if reason is not None:
            kept[role.name] = reason
        elif not is_news:
            dropped.append(role.name)
    return tuple(sorted(dropped)), kept


def _objection(site: Site, act: c.Callable[[], str | None]) -> str | None:
    """Why a profile stays as it is; what is wrong with one stops no other."""
    try:
        return act()
    except LatchkeyError as error:
        return str(error)
    except psycopg.Error as error:
        if site.session.lost:
            raise
        return error.diag.message_primary or "the connection was lost"


def _note_unused(site: Site, role: Marked) -> str | None:
    """Unless a grant has come to use it meanwhile."""
    with only_run(site.session):
        again = read_ledger(site.session, version=site.server.version, roles=[role.name])
        if role.name in again.roles and not again.members(role.name):
            execute_together(site.session, [statements.expire(role.name, again.now)])
    return None


def _drop_profile(site: Site, role: Marked, policy: cleanup.Policy) -> str | None:
    """Unless a grant has come to use it meanwhile. Before 16 somebody may have made things as this role."""
    with only_run(site.session):
        again = read_ledger(site.session, version=site.server.version, roles=[role.name])
        if again.members(role.name):
            return "it is in use again"
        return profiles.remove(site, role.name) and cleanup.remove(site, role, policy)


SWEEP = Door(arguments=sweep_options.ARGUMENTS, run=sweep, rules=sweep_options.RULES)
