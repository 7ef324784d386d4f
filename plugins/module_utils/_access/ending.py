# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The end of grants: fence, sessions, verification, and the roles themselves. Every step can be repeated."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    delivery,
    fence,
    journal,
    names,
    period,
    statements,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import SESSIONS_ENDED, read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import LatchkeyError
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import locate

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.fence import Fence
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud


@dataclass(frozen=True, kw_only=True)
class Ended:
    """``overdue``: access that is not proven gone; ``blocked``: roles without any access that could not be dropped.

    ``secrets``: those that say now that they are void; ``unreached``: why others do not, and why the journal lacks
    what was done. ``pending``: logins whose sessions or secrets the next run must look at again, and which must be
    there for it.
    """

    requests: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()
    blocked: c.Mapping[str, str] = field(default_factory=dict)
    statements: tuple[Composable, ...] = ()
    secrets: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    pending: frozenset[str] = frozenset()

    def __add__(self, other: Ended) -> Ended:
        return Ended(
            requests=self.requests + other.requests,
            shut=self.shut + other.shut,
            overdue=self.overdue + other.overdue,
            blocked={**self.blocked, **other.blocked},
            statements=self.statements + other.statements,
            secrets=self.secrets + other.secrets,
            unreached=self.unreached + other.unreached,
            pending=self.pending | other.pending,
        )


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How grants are ended. ``cloud``: where people's secrets are; ``always``: end sessions even where no need is."""

    readers: tuple[tuple[str, int], ...] = ()
    cloud: Cloud | None = None
    always: bool = False
    journaled: bool = False


def end(
    site: Site,
    ledger: Ledger,
    grants: c.Sequence[Marked],
    *,
    manner: Manner,
    logins: c.Sequence[Marked] = (),
    action: str = "revoke",
    **facts: str | None,
) -> Ended:
    """End these grants and shut these logins. The grant roles go last: as long as they are there, a run has work."""
    todo = fence.plan_fence(ledger, grants, logins=logins, always=manner.always, oids=_oids(site, grants))
    commands = fence.commands(todo, ledger)
    told = [grant for grant in todo.grants if manner.journaled and ledger.members(grant.name)]
    entries = tuple(_entry(action, ledger, grant, facts) for grant in told)
    unwritten: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    withdrawn = Ended()
    blocked: dict[str, str] = {}
    if not site.check:
        unwritten = _fence(site, commands, entries)
        failures = fence.end_sessions(site, todo, manner.readers)
        withdrawn = Ended() if failures else withdraw_secrets(site, manner.cloud, todo)
    stays = bool(failures or withdrawn.unreached)
    if not site.check and not stays:
        blocked = drop_all(site, [grant.name for grant in todo.grants])
    kept = [grant.name for grant in todo.grants if stays or grant.name in blocked]
    drops = (statements.drop(grant.name) for grant in todo.grants if grant.name not in kept)
    done = [grant for grant in todo.grants if grant.name not in kept or ledger.members(grant.name)]
    ended = Ended(
        requests=tuple(grant.fact("request") or grant.name for grant in done),
        shut=tuple(login.name for login in todo.shut),
        overdue=failures,
        blocked=blocked,
        statements=(*commands, *(() if unwritten else entries), *drops),
        unreached=unwritten,
        pending=fence.logins_of(todo, ledger) if stays else frozenset(),
    )
    ended += withdrawn
    return ended if site.check or failures else ended + _verified(site, todo)


def _fence(site: Site, commands: c.Sequence[Composable], entries: c.Sequence[Composable]) -> tuple[str, ...]:
    """The fence and its entries in the journal together; without them if need be, and why they are not there."""
    try:
        execute_together(site.session, (*commands, *entries))
    except psycopg.Error:
        if site.session.lost or not entries:
            raise
        execute_together(site.session, commands)
        return _write(site, entries)
    return ()


def _write(site: Site, entries: c.Sequence[Composable]) -> tuple[str, ...]:
    """Tried once: nobody's sessions wait for a journal."""
    try:
        with site.session.writing():
            site.session.execute(sql.script(entries))
    except psycopg.Error as error:
        if site.session.lost:
            raise
        what = f"{names.SCHEMA}.{journal.TABLE} has no entry of this end ({len(entries)}): {error.diag.message_primary}"
        return (f"{what}. Look at who holds or has changed the table; the access is gone all the same",)
    return ()


def _oids(site: Site, grants: c.Iterable[Marked]) -> dict[str, int]:
    logins = [grant.fact("login") for grant in grants]
    query = "SELECT rolname::text, oid FROM pg_roles WHERE rolname = ANY (%(logins)s)"
    return dict(site.session.rows(query, {"logins": logins})) if logins else {}


def _entry(action: str, ledger: Ledger, grant: Marked, facts: c.Mapping[str, str | None]) -> Composable:
    return journal.entry(
        action,
        request=grant.fact("request"),
        grantee=grant.fact("grantee"),
        login=grant.fact("login"),
        expires_at=min(grant.valid_until or ledger.now, ledger.now),
        **facts,
    )


def drop_all(site: Site, roles: c.Sequence[str]) -> dict[str, str]:
    """Drop them together or, if that fails, those that can be; why the others can't. One that owns things stays."""
    if not roles:
        return {}
    try:
        execute_together(site.session, map(statements.drop, roles))
    except psycopg.Error as error:
        if site.session.lost:
            raise
        if len(roles) == 1:
            return _left_empty(site, roles[0], error)
        return {role: why for one in roles for role, why in drop_all(site, [one]).items()}
    return {}


def _left_empty(site: Site, role: str, error: psycopg.Error) -> dict[str, str]:
    """A role that can't be dropped keeps no rights but its own objects."""
    if error.sqlstate == "42704":  # somebody else has dropped it
        return {}
    rows = site.session.rows(
        """
        SELECT k.rolname::text FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.roleid
         WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = %(role)s) AND NOT m.admin_option
           AND k.rolname <> %(marker)s
        """,
        {"role": role, "marker": names.MARKER},
    )
    try:
        rest = [*(statements.revoke(row[0], role) for row in rows), statements.limit(role, SESSIONS_ENDED)]
        execute_together(site.session, rest)
    except psycopg.Error as second:
        if site.session.lost:
            raise
        return {role: f"{error.diag.message_primary}; {second.diag.message_primary}"}
    return {role: error.diag.message_detail or error.diag.message_primary or "it could not be dropped"}


def _verified(site: Site, todo: Fence) -> Ended:
    """Read from the catalog that it is so; of a REVOKE of what somebody else has given, PostgreSQL only warns."""
    wanted = [role.name for role in (*todo.grants, *todo.shut)]
    ledger = read_ledger(site.session, version=site.server.version, roles=wanted)
    open_yet = [login.name for login in todo.shut if login.name in ledger.roles and ledger.roles[login.name].login]
    lines = [f"login {name} is open" for name in open_yet]
    for grant in todo.grants:
        lines += [
            f"{tie.member} is a member of {grant.name}, by the grant of {tie.grantor}, who must revoke it"
            for tie in ledger.members(grant.name)
        ]
    return Ended(overdue=tuple(lines))


def withdraw_secrets(site: Site, cloud: Cloud | None, todo: Fence) -> Ended:
    """Make the secrets of shut logins say so, also of those that an earlier run has shut.

    A login's comment names its secret until then, which is how a sweep knows what is left to do.
    """
    logins = {login.name for login in todo.shut} | {grant.fact("login") or "" for grant in todo.grants}
    if cloud is None or not logins:
        return Ended()
    ledger = read_ledger(site.session, version=site.server.version, roles=logins)
    done, failed, void = [], [], []
    for login in (ledger.roles[name] for name in sorted(logins) if name in ledger.roles):
        secret = login.fact("secret") if login.kind is RoleKind.LOGIN and not login.login else None
        try:
            if secret and delivery.withdraw(locate(cloud, secret), login.name, when=period.shown(ledger.now)):
                done.append(secret)
            void += [login] if secret else []
        except LatchkeyError as error:
            failed.append(str(error))
    _forget_secrets(site, void)
    return Ended(secrets=tuple(done), unreached=tuple(failed))


def _forget_secrets(site: Site, logins: c.Iterable[Marked]) -> None:
    """One that can't be changed is only looked at again."""
    for login in logins:
        if login.mark is None:
            continue
        facts = {key: value for key, value in login.mark.facts.items() if key != "secret"}
        try:
            execute_together(site.session, [statements.comment_on(login.name, replace(login.mark, facts=facts))])
        except psycopg.Error:
            if site.session.lost:
                raise
