# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The fence: no membership, no login, no session. It is committed first, and claimed only when it is verified."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import statements
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import SESSIONS_ENDED
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import RDS_IAM
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import borrow

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

PATIENCE = 10.0  # seconds for a session to end, and for a reader to hear of the fence
# A login that has been let in shows in pg_stat_activity only some milliseconds later. Until then only its lock is seen.
ARRIVING = 2.0
PAUSES = (0.005, 0.02, 0.05, 0.1)
# The start of a session is hidden from who may not see others' sessions; then all of them count.
THEIRS = """
  FROM pg_stat_activity
 WHERE usesysid = ANY (%(roles)s::oid[]) AND pid <> pg_backend_pid()
   AND coalesce(backend_start <= %(fenced)s, true)
"""
SESSIONS = "SELECT usesysid, pid" + THEIRS
TERMINATE = "SELECT usesysid, pg_terminate_backend(pid)" + THEIRS
# Since 18 it is seen, as nobody's; so are the server's own processes, whose kind is hidden from most.
HALF_OPEN = """
SELECT l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.pid IS NOT NULL
   AND (a.pid IS NULL OR a.usesysid IS NULL AND a.datid IS NULL AND coalesce(a.backend_type = 'client backend',
                                                     current_setting('server_version_num')::integer >= 180000))
"""
REPLAYED = """
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE oid = ANY (%(shut)s::oid[]) AND rolcanlogin)
   AND NOT EXISTS (SELECT FROM pg_auth_members m
                    WHERE m.roleid = ANY (%(grants)s::oid[]) AND m.member = ANY (%(roles)s::oid[]))
"""


@dataclass(frozen=True, kw_only=True)
class Fence:
    """What ends these grants, and these logins.

    ``shut``: logins that no other grant keeps open; ``until``: for how long the others are open yet. ``sessions``: the
    roles whose sessions must end, by OID.
    """

    grants: tuple[Marked, ...] = ()
    shut: tuple[Marked, ...] = ()
    until: c.Mapping[str, dt.datetime] | None = None
    sessions: frozenset[int] = frozenset()


def plan_fence(
    ledger: Ledger,
    grants: c.Iterable[Marked],
    *,
    logins: c.Iterable[Marked] = (),
    always: bool = False,
    oids: c.Mapping[str, int] | None = None,
) -> Fence:
    """``logins``: to be shut though none of the grants is theirs; ``always``: end sessions even where it is not needed.

    Before 16 a session may have stepped into a profile by SET ROLE and would keep it, also that of somebody whom the
    person has made a member of the own login, as everybody may before 15. ``oids``: of the logins that the
    grants were made for; one that is no member any more may have sessions that an earlier run had no time to end.
    """
    ending = {grant.name: grant for grant in grants}
    shut = {login.name: login for login in logins}
    until: dict[str, dt.datetime] = {}
    over: set[int] = {login.oid for login in shut.values()}
    for grant in ending.values():
        for tie in ledger.members(grant.name):
            login = ledger.roles.get(tie.member)
            left = [other for other in ledger.grants_of(tie.member) if other.name not in ending]
            ours = login is not None and login.kind is RoleKind.LOGIN
            if ours and login is not None and not left:
                shut[login.name] = login
            elif ours and login is not None:
                latest = max(other.valid_until for other in left if other.valid_until)
                if login.valid_until != latest:
                    until[login.name] = latest
            meant = ours or tie.member == grant.fact("login")
            if tie.member_login and (always or (meant and not left)):
                over.add(tie.member_oid)
        if not ledger.has_options:
            over.update(tie.member_oid for tie in ledger.reach(grant.name) if tie.member_login)
        if not ledger.members(grant.name) and grant.connection_limit != SESSIONS_ENDED:
            over.update(oid for name, oid in (oids or {}).items() if name == grant.fact("login"))
    return Fence(grants=tuple(ending.values()), shut=tuple(shut.values()), until=until, sessions=frozenset(over))


def commands(fence: Fence, ledger: Ledger) -> tuple[Composable, ...]:
    """Its statements, for one transaction."""
    found: list[Composable] = []
    for grant in fence.grants:
        if ledger.members(grant.name) and grant.connection_limit == SESSIONS_ENDED:
            found.append(statements.limit(grant.name, -1))  # not those of who has come in since
        if not ledger.is_over(grant) or grant.valid_until is None:
            found.append(statements.expire(grant.name, ledger.now))
        found += [statements.revoke(grant.name, member) for member in _members(ledger, grant)]
    for login in fence.shut:
        found += [
            statements.revoke(RDS_IAM, login.name) for tie in ledger.memberships(login.name) if tie.role == RDS_IAM
        ]
        found += [statements.revoke(login.name, member) for member in _members(ledger, login)]
        found.append(statements.shut_login(login.name, ledger.now))
    found += [statements.expire(name, until) for name, until in (fence.until or {}).items()]
    return tuple(found)


def logins_of(fence: Fence, ledger: Ledger) -> frozenset[str]:
    """The logins that it is about, by name."""
    meant = {login.name for login in fence.shut} | {grant.fact("login") or "" for grant in fence.grants}
    return frozenset(meant.union(*(_members(ledger, grant) for grant in fence.grants)) - {""})


def _members(ledger: Ledger, role: Marked) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tie.member for tie in ledger.members(role.name)))


# --------------------------------------------------------------------------------------------- sessions
def end_sessions(site: Site, fence: Fence, readers: c.Iterable[tuple[str, int]] = ()) -> tuple[str, ...]:
    """End what is still open of them, here and on the readers; what could not be ended, a line each."""
    if not fence.sessions:
        return ()
    return (*_end(site.session, fence, may_borrow=site), *end_on_readers(site, fence, readers))


def end_on_readers(site: Site, fence: Fence, readers: c.Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """The same on the readers alone."""
    failures: list[str] = []
    for host, port in readers:
        login = replace(site.login, host=host, port=port)
        try:
            with sessions.connect(login, read_only=True) as session:
                failures += [f"reader {host}:{port}: {line}" for line in _on_reader(session, fence)]
        except ServerUnreachable as error:
            failures.append(f"reader {host}:{port}: {error.what}")
    return tuple(failures)


def _on_reader(session: Session, fence: Fence) -> tuple[str, ...]:
    """A reader lets people in until it has replayed the fence."""
    known = {
        "shut": [login.oid for login in fence.shut],
        "grants": [grant.oid for grant in fence.grants],
        "roles": list(fence.sessions),
    }
    for _pause in _pauses(PATIENCE):
        if session.rows(REPLAYED, known)[0][0]:
            return _end(session, fence, may_borrow=None)
    return (f"it has not replayed the change after {PATIENCE:.0f} s",)


def _end(session: Session, fence: Fence, *, may_borrow: Site | None) -> tuple[str, ...]:
    """Terminate until none is left, and none that was being let in when the fence came can still appear.

    Who is being let in is asked first: by the second question one who was not seen then is seen as a session.
    """
    fenced = session.rows("SELECT clock_timestamp()")[0][0]
    known = {"roles": list(fence.sessions), "fenced": fenced}
    arriving: set[int] | None = None
    refusals: tuple[str, ...] = ()
    started = time.monotonic()
    for _pause in _pauses(PATIENCE):
        half_open = {row[0] for row in session.rows(HALF_OPEN)}
        arriving = half_open if arriving is None else arriving & half_open
        if time.monotonic() - started > ARRIVING:
            arriving = {pid for pid in arriving if _terminate(session, pid)}
        left, refusals = _terminate_all(session, fence, known, may_borrow=may_borrow)
        if not left and not arriving:
            return refusals
    return (*refusals, f"sessions have not ended after {PATIENCE:.0f} s")


def _terminate_all(
    session: Session, fence: Fence, known: c.Mapping[str, t.Any], *, may_borrow: Site | None
) -> tuple[bool, tuple[str, ...]]:
    """Whether there were any that may be ended, and why others may not: one that is refused keeps no other."""
    try:
        return bool(session.rows(TERMINATE, known)), ()
    except psycopg.errors.InsufficientPrivilege as error:
        reason = error.diag.message_primary
    found = session.rows(SESSIONS, known)
    refused = {(role, pid) for role, pid in found if not _is_signalled(session, pid)}
    mine = {role for role, _pid in refused} & {login.oid for login in fence.shut}
    if mine and may_borrow is not None and _terminate_as_member(may_borrow, fence, {**known, "roles": list(mine)}):
        return True, ()
    refusals = (f"sessions could not be ended: {reason}; {_remedy(session)}",) if refused else ()
    return len(found) > len(refused), refusals


def _is_signalled(session: Session, pid: int) -> bool:
    """One that is gone by itself counts."""
    try:
        session.rows("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _terminate(session: Session, pid: int) -> bool:
    """End one that takes its time to get in, as everybody may choose to.

    It is refused while it is nobody's yet, and comes to nothing where it is a process of the server's own.
    """
    try:
        return bool(session.rows("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})[0][0])
    except psycopg.errors.InsufficientPrivilege:
        return False


def _terminate_as_member(site: Site, fence: Fence, known: c.Mapping[str, t.Any]) -> bool:
    """Without pg_signal_backend: as a member of the logins, in a transaction that nobody sees the memberships of."""
    theirs = tuple(login.name for login in fence.shut if login.oid in known["roles"])
    take, give_back = borrow(theirs, graph=site.graph, inherit=True)
    try:
        with site.session.writing():
            site.session.execute(sql.script(take))
            site.session.rows(TERMINATE, known)
            site.session.execute(sql.script(give_back))
    except psycopg.Error:
        return False
    return True


def _remedy(session: Session) -> str:
    me = session.rows("SELECT quote_ident(current_user)")[0][0]
    return f"who may should run: GRANT pg_signal_backend TO {me};"


def _pauses(patience: float) -> c.Iterator[float]:
    """Yield at once, and again after ever longer pauses until the patience is over."""
    deadline = time.monotonic() + patience
    yield 0.0
    number = 0
    while time.monotonic() < deadline:
        pause = PAUSES[min(number, len(PAUSES) - 1)]
        time.sleep(pause)
        number += 1
        yield pause
