# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expired access ends though no controller lives: what the job of pg_cron does, and its installation."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ansible_collections.latchkey.postgres.plugins.module_utils._access import enforcement, journal
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import LOCK, only_run
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session, connect
from tests.integration.access import bootstrap, bootstrapped, expire, gets_in, grant, sweep
from tests.integration.product import CONNECTOR, SECRET, ask, catalog, changes, connector, next_xid, run_in, succeeded
from tests.integration.test_faults_common import unchanged
from tests.rig import ShapedServer

Shaped = Callable[..., ShapedServer]
PASSWORD = "pw-of-a-person"
PAST, FUTURE = "2020-01-01 00:00:00+00", "2100-01-01 00:00:00+00"
MARKER = "latchkey_managed"
# What pg_cron 1.4 has, made by the superuser, in place of what the shapes have of it. Jobs are their user's.
CRON = """
DROP SCHEMA IF EXISTS cron CASCADE;
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, schedule text, command text, nodename text DEFAULT 'localhost',
  nodeport int DEFAULT 5432, database text DEFAULT current_database(), username text DEFAULT current_user,
  active boolean DEFAULT true, jobname text, UNIQUE (jobname, username));
GRANT SELECT, INSERT, UPDATE, DELETE ON cron.job TO public;
GRANT USAGE ON SEQUENCE cron.job_jobid_seq TO public;
ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY;
CREATE POLICY cron_job_policy ON cron.job USING (username = current_user);
CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO cron.job (jobname, schedule, command) VALUES ($1, $2, $3) ON CONFLICT (jobname, username)
  DO UPDATE SET schedule = excluded.schedule, command = excluded.command RETURNING jobid $$;
CREATE FUNCTION cron.unschedule(job_name text) RETURNS boolean LANGUAGE sql AS $$
  DELETE FROM cron.job WHERE jobname = $1 AND username = current_user RETURNING true $$;
GRANT USAGE ON SCHEMA cron TO apono_connector;
"""


@dataclass(kw_only=True)
class Estate:
    """A server with what the bootstrap makes; roles of ours are made by plain SQL, as the connector."""

    server: ShapedServer
    count: int = field(default=0)

    @property
    def options(self) -> bool:
        """Whether memberships have options."""
        return self.server.major >= 16

    def run(self, *commands: str) -> None:
        """Run commands as the connector."""
        with connector(self.server) as conn:
            for command in commands:
                conn.execute(command.encode())

    def unique(self, word: str) -> str:
        """A name that no other test has."""
        self.count += 1
        return f"{word}_{self.count}"

    def login(self, *, name: str | None = None, until: str = FUTURE, marked: bool = True) -> str:
        """A person's login, ours unless told otherwise."""
        name = name or self.unique("Per son")
        until_when = f"VALID UNTIL '{until}'" if marked else ""
        self.run(
            f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{PASSWORD}' {until_when}",
            *(self.marks(name, {"v": 1, "kind": "login", "grantee": "ann@example.com"}) if marked else ()),
        )
        return name

    def marks(self, role: str, mark: dict[str, Any] | str) -> list[str]:
        """The statements that make a role ours."""
        text = mark if isinstance(mark, str) else json.dumps(mark)
        none = " WITH INHERIT FALSE, SET FALSE" if self.options else ""
        comment = sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role), text).as_string(None)
        return [comment, f'GRANT {MARKER} TO "{role}"{none}']

    def grant(self, login: str, *, until: str = PAST, comment: str | None = None, marked: bool = True) -> str:
        """A grant of a login; with another comment if told so."""
        name = self.unique("latchkey_g_'\"").replace('"', "")
        mark = {"v": 1, "kind": "grant", "request": f"R-{name}", "grantee": "ann@example.com", "login": login}
        rights = " WITH INHERIT TRUE, SET FALSE" if self.options else ""
        self.run(
            f"CREATE ROLE \"{name}\" NOLOGIN VALID UNTIL '{until}'",
            *(self.marks(name, comment or mark) if marked else ()),
            f'GRANT "{name}" TO "{login}"{rights}',
        )
        return name

    def expire(self, *names: str) -> None:
        """End the time of roles without anything else."""
        self.run(*(f"ALTER ROLE \"{name}\" VALID UNTIL '{PAST}'" for name in names))

    def enforce(self) -> list[str]:
        """Do what the job does each minute; the warnings."""
        said: list[str] = []
        with connector(self.server) as conn:
            conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
            conn.execute("CALL latchkey.enforce()")
            assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        return said

    def enter(self, login: str) -> psycopg.Connection[Any]:
        """Log in as a person."""
        return self.server.connect(user=login, password=PASSWORD)

    def may_enter(self, login: str) -> bool:
        """Whether a person can log in."""
        refused = ""
        try:
            self.enter(login).close()
        except psycopg.OperationalError as error:
            refused = str(error)
        assert not refused or "not permitted to log in" in refused or "password authentication failed" in refused
        return not refused

    def exists(self, role: str) -> bool:
        """Whether there is such a role."""
        return bool(ask(self.server, "SELECT FROM pg_roles WHERE rolname = %(role)s", role=role))

    def members(self, role: str) -> set[str]:
        """The members of a role, but for the connector that made it."""
        query = """SELECT m.member::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                    WHERE r.rolname = %(role)s AND m.member <> 'apono_connector'::regrole"""
        return {name.strip('"') for (name,) in ask(self.server, query, role=role)}


def alive(session: psycopg.Connection[Any]) -> bool:
    """Whether a session still works."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def as_connector(server: ShapedServer, database: str = "postgres") -> Iterator[Session]:
    """A session of the product's."""
    login = Login(host=server.host, port=server.port, user=CONNECTOR, password=SECRET, ca_cert=str(server.ca))
    with connect(login, database=database) as session:
        yield session


def refusal(session: Session, *, check: bool) -> str:
    """Why it can't be installed."""
    try:
        enforcement.install(session, check=check)
    except DatabaseRefused as error:
        return str(error)
    return ""


def prepare(server: ShapedServer) -> Estate:
    """Bootstrap, and make the stand-in of pg_cron."""
    # not one of the administrators, who have rights that a test takes away
    bootstrapped(server, platform_membership=False)
    estate = Estate(server=server)
    # a stock engine lets nobody but the platform give the right to signal
    run_in(server, "postgres", CRON, f"GRANT pg_signal_backend TO {CONNECTOR}")
    return estate


KNOWN: dict[int, Estate] = {}


@pytest.fixture
def estate(shaped_once: Shaped, major: int, shape: str) -> Estate:
    """A server with enforcement installed, that all tests of a kind of server share."""
    server = shaped_once(major=major, shape=shape)
    if id(server) not in KNOWN:
        KNOWN[id(server)] = prepare(server)
        with as_connector(server) as session:
            enforcement.install(session, check=False)
    return KNOWN[id(server)]


@pytest.fixture
def fresh(shaped: Shaped, major: int, shape: str) -> Estate:
    """A server without enforcement."""
    return prepare(shaped(major=major, shape=shape))


# ------------------------------------------------------------------------------------------------- the fence
def test_an_expired_grant_ends_with_login_session_and_role(estate: Estate) -> None:
    login = estate.login()
    grant = estate.grant(login)
    with estate.enter(login) as session:
        assert alive(session)
        started = time.time()
        assert estate.enforce() == []
        assert not alive(session)
    assert not estate.may_enter(login)
    assert not estate.exists(grant)
    query = """SELECT rolcanlogin, rolpassword, extract(epoch FROM rolvaliduntil) - %(started)s BETWEEN -1 AND 30
                 FROM pg_authid WHERE rolname = %(login)s"""
    assert ask(estate.server, query, login=login, started=started) == [(False, None, True)]
    journal = "SELECT actor, action, request, grantee, login, expires_at = %(past)s FROM latchkey.journal"
    rows = ask(estate.server, f"{journal} WHERE login = %(login)s", login=login, past=PAST)
    assert rows == [(CONNECTOR, "expire", f"R-{grant}", "ann@example.com", login, True)]


@pytest.mark.parametrize("end", ["-infinity", "infinity", "0044-03-15 BC"])
def test_the_journal_can_be_read_whatever_end_a_grant_had(estate: Estate, end: str) -> None:
    """What no client can hold is written as the moment when access ended, and read as far as it can be."""
    login = estate.login()
    grant = estate.grant(login, until=end)
    written = f"INSERT INTO latchkey.journal (action, login, expires_at) VALUES ('expire', 'old {login}', '{end}')"
    estate.run(written)
    assert estate.enforce() == []
    assert not estate.exists(grant)
    query = "SELECT expires_at BETWEEN now() - interval '30 s' AND now() FROM latchkey.journal WHERE login = %(u)s"
    assert ask(estate.server, query, u=login) == [(True,)]
    with as_connector(estate.server) as session:
        read = {entry["login"]: entry["expires_at"] for entry in journal.read(session, days=1)}
    assert read[login] is not None
    assert str(read[f"old {login}"]).startswith("None" if end == "infinity" else "1970")


def test_a_login_whose_grants_are_gone_is_shut(estate: Estate) -> None:
    login = estate.login()
    session = estate.enter(login)
    assert estate.enforce() == []
    assert not alive(session)
    assert not estate.may_enter(login)


def test_another_grant_of_the_same_person_survives(estate: Estate) -> None:
    login = estate.login()
    over, active = estate.grant(login), estate.grant(login, until=FUTURE)
    session = estate.enter(login)
    assert estate.enforce() == []
    assert alive(session) == estate.options, "before 16 the session may have become the role that is gone"
    assert estate.may_enter(login)
    assert not estate.exists(over)
    assert estate.members(active) == {login}
    estate.expire(active)
    assert estate.enforce() == []
    assert not estate.may_enter(login)
    assert not alive(session)


def test_a_friend_who_stepped_into_the_grant_through_the_login_is_thrown_out_once(estate: Estate) -> None:
    """Before 15 everybody may make others members of the own login; before 16 these may become what it is in."""
    login, friend = estate.login(), estate.login(marked=False)
    grant, lasting = estate.grant(login), estate.grant(login, until=FUTURE)
    if not estate.options:
        estate.run(f'GRANT "{login}" TO "{friend}"')
    session = estate.enter(friend)
    if not estate.options:
        session.execute(f'SET ROLE "{grant}"'.encode())
    assert estate.enforce() == []
    assert alive(session) == estate.options
    with estate.enter(friend) as again:
        assert estate.enforce() == []
        assert alive(again)
    assert estate.members(lasting) == {login}


def test_a_login_that_is_not_ours_keeps_its_login(estate: Estate) -> None:
    login = estate.login(marked=False)
    grant = estate.grant(login)
    before = ask(estate.server, "SELECT to_jsonb(a) FROM pg_authid a WHERE rolname = %(login)s", login=login)
    session = estate.enter(login)
    assert estate.enforce() == []
    assert not alive(session)
    assert not estate.exists(grant)
    assert ask(estate.server, "SELECT to_jsonb(a) FROM pg_authid a WHERE rolname = %(login)s", login=login) == before
    with estate.enter(login) as again:
        assert estate.enforce() == []
        assert alive(again), "it was ended once, for its grant, and is nobody's business now"


def test_sessions_of_a_login_that_is_not_ours_go_on_with_another_grant(estate: Estate) -> None:
    login = estate.login(marked=False)
    over, active = estate.grant(login), estate.grant(login, until=FUTURE)
    session = estate.enter(login)
    assert estate.enforce() == []
    assert alive(session) == estate.options, "before 16 the session may have become the role that is gone"
    assert not estate.exists(over)
    assert estate.members(active) == {login}
    estate.expire(active)
    assert estate.enforce() == []
    assert not alive(session)


def test_roles_without_the_marker_are_nobodys_business(estate: Estate) -> None:
    login = estate.login(marked=False)
    grant = estate.grant(login, marked=False)
    comment = {"v": 1, "kind": "grant", "request": "R", "grantee": "g", "login": login}
    estate.run(estate.marks(grant, comment)[0])
    # ADMIN OPTION on the marker does not mark.
    giver = estate.grant(login, marked=False)
    run_in(estate.server, "postgres", f'GRANT {MARKER} TO "{giver}" WITH ADMIN OPTION')
    estate.run(estate.marks(giver, comment)[0])
    with estate.enter(login) as session:
        assert estate.enforce() == []
        assert alive(session)
    assert estate.members(grant) == estate.members(giver) == {login}
    run_in(estate.server, "postgres", f'DROP ROLE "{giver}"')


def test_a_profile_is_left_alone(estate: Estate) -> None:
    profile = estate.unique("latchkey_p")
    estate.run(
        f"CREATE ROLE {profile} NOLOGIN VALID UNTIL '{PAST}'", *estate.marks(profile, {"v": 1, "kind": "profile"})
    )
    # of the grant's prefix, as a name; its comment says what it is
    named = estate.unique("latchkey_g_profile")
    estate.run(
        f"CREATE ROLE {named} NOLOGIN VALID UNTIL '{PAST}'",
        *estate.marks(named, {"v": 1, "kind": "profile", "scope": "x"}),
    )
    assert estate.enforce() == []
    assert estate.exists(profile)
    assert estate.exists(named)


@pytest.mark.parametrize("garbage", ['{"v": 1, "kind": "grant", ]]', '{"v": 1, "kind": "grant", "login": "\\u0000"}'])
def test_a_damaged_comment_stops_nothing(estate: Estate, garbage: str) -> None:
    marked, stranger, other = estate.login(), estate.login(marked=False), estate.login()
    broken = [estate.grant(marked, comment=garbage), estate.grant(stranger, comment=garbage)]
    whole = estate.grant(other)
    session = estate.enter(stranger)
    assert len([line for line in estate.enforce() if line.startswith("latchkey: comment of role")]) == 2
    assert not alive(session)
    assert not any(map(estate.exists, [*broken, whole]))
    assert [estate.may_enter(login) for login in (marked, stranger, other)] == [False, True, False]


def test_a_grant_without_our_comment_is_known_by_its_name(estate: Estate) -> None:
    login, kept = estate.login(), estate.login()
    over, active = estate.grant(login, comment="a note"), estate.grant(kept, until=FUTURE, comment="a note")
    estate.enforce()
    assert not estate.exists(over)
    assert not estate.may_enter(login)
    assert estate.may_enter(kept), "a comment that somebody has changed shuts nobody out"
    assert estate.members(active) == {kept}


def test_a_grant_without_an_end_is_over(estate: Estate) -> None:
    login = estate.login()
    grant = estate.grant(login, until="infinity")
    assert estate.enforce() == []
    assert not estate.exists(grant)
    assert not estate.may_enter(login)


def test_a_role_that_somebody_holds_does_not_stop_the_rest(estate: Estate) -> None:
    held, free = estate.login(), estate.login()
    grants = [estate.grant(held), estate.grant(free)]
    with estate.server.connect(autocommit=False) as holder:
        holder.execute(f'ALTER ROLE "{held}" CONNECTION LIMIT 7'.encode())
        assert any(f"login {held}: " in line for line in estate.enforce())
        assert not estate.may_enter(free)
        holder.rollback()
    assert estate.may_enter(held)
    estate.enforce()
    assert not estate.may_enter(held)
    assert not any(map(estate.exists, grants))


def test_one_run_at_a_time(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    with as_connector(estate.server) as session, only_run(session), connector(estate.server) as conn:
        conn.execute("CALL latchkey.enforce()")
        assert estate.may_enter(login)
    estate.enforce()
    assert not estate.may_enter(login)


def test_a_stranger_who_takes_the_lock_keeps_nobody_in(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    run_in(estate.server, "postgres", "CREATE ROLE stranger LOGIN PASSWORD 'pw-Stranger'")
    try:
        with estate.server.connect(user="stranger", password="pw-Stranger") as conn:
            conn.execute("SELECT pg_advisory_lock(%(space)s, %(key)s)", LOCK)
            estate.enforce()
            assert not estate.may_enter(login)
    finally:
        run_in(estate.server, "postgres", "DROP ROLE stranger")


def test_inside_a_transaction_it_does_nothing_and_holds_nothing(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    with connector(estate.server) as conn:
        conn.execute("BEGIN")
        with pytest.raises(psycopg.errors.InvalidTransactionTermination):
            conn.execute("CALL latchkey.enforce()")
        conn.execute("ROLLBACK")
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert estate.may_enter(login)
        # nor is anything left in the session that it served
        conn.execute("CALL latchkey.enforce()")
        settings = "SELECT current_setting('search_path'), current_setting('lock_timeout')"
        assert conn.execute(settings.encode()).fetchone() == ('"$user", public', "0")
    assert not estate.may_enter(login)


def test_a_cancelled_run_frees_the_lock(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    with estate.server.connect(autocommit=False) as holder, connector(estate.server) as conn:
        holder.execute(f'ALTER ROLE "{login}" CONNECTION LIMIT 7'.encode())
        conn.execute("SET statement_timeout = '500ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("CALL latchkey.enforce()")
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        holder.rollback()
    estate.enforce()
    assert not estate.may_enter(login)


def test_a_run_with_nothing_to_do_writes_nothing(estate: Estate) -> None:
    login, kept, owner = estate.login(), estate.login(), estate.login(marked=False)
    estate.grant(login)
    estate.grant(kept, until=FUTURE)
    blocked = estate.grant(owner)
    run_in(estate.server, "postgres", f'CREATE SCHEMA "{blocked}" AUTHORIZATION "{blocked}"')
    xid = next_xid(estate.server)
    estate.enforce()
    assert next_xid(estate.server) > xid
    xid = next_xid(estate.server)
    assert estate.enforce() == []
    assert next_xid(estate.server) == xid
    run_in(estate.server, "postgres", f'DROP SCHEMA "{blocked}"')


# ------------------------------------------------------------------------------------------------- sessions
def test_who_reconnects_all_the_time_is_out_when_it_returns(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    done, entries = threading.Event(), []

    def knock() -> None:
        kept = []
        while not done.is_set():
            with contextlib.suppress(psycopg.OperationalError):
                kept.append(estate.enter(login))
                entries.append(time.monotonic())

    threads = [threading.Thread(target=knock) for _number in range(3)]
    for thread in threads:
        thread.start()
    try:
        while len(entries) < 5:
            time.sleep(0.01)
        estate.enforce()
        returned = time.monotonic()
        sessions = ask(estate.server, "SELECT pid FROM pg_stat_activity WHERE usename = %(login)s", login=login)
        time.sleep(0.5)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert sessions == []
    assert max(entries) < returned


def test_the_fence_is_committed_before_sessions_are_waited_for(estate: Estate) -> None:
    login = estate.login()
    grant = estate.grant(login)
    session = estate.enter(login)
    stuck = session.info.backend_pid
    job = threading.Thread(target=estate.enforce)
    os.kill(stuck, signal.SIGSTOP)
    try:
        job.start()
        deadline = time.monotonic() + 8
        while estate.may_enter(login):
            assert time.monotonic() < deadline, "the fence is not there while sessions are ended"
            time.sleep(0.05)
        assert job.is_alive()
        assert estate.exists(grant), "as long as one of its sessions is there"
    finally:
        os.kill(stuck, signal.SIGCONT)
        job.join()
    assert not alive(session)
    assert not estate.exists(grant)


def test_who_was_being_let_in_when_the_fence_came_is_out(estate: Estate) -> None:
    login = estate.login()
    estate.grant(login)
    late: list[psycopg.Connection[Any]] = []

    def enter_slowly() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            late.append(
                estate.server.connect(user=login, password=PASSWORD, options="-c post_auth_delay=1", sslmode="require")
            )

    thread = threading.Thread(target=enter_slowly)
    thread.start()
    half_open = """SELECT FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
                    WHERE l.locktype = 'virtualxid' AND a.usesysid IS NULL"""
    deadline = time.monotonic() + 10
    while not ask(estate.server, half_open):
        assert time.monotonic() < deadline
    estate.enforce()
    left = ask(estate.server, "SELECT FROM pg_stat_activity WHERE usename = %(login)s", login=login)
    thread.join()
    assert left == []
    assert not any(map(alive, late))


def test_sessions_end_in_the_next_minute_when_the_first_had_no_right_to(estate: Estate) -> None:
    marked, stranger = estate.login(), estate.login(marked=False)
    grants = [estate.grant(marked), estate.grant(stranger)]
    open_ones = [estate.enter(marked), estate.enter(stranger)]
    # the note that its sessions were ended, from an earlier time
    estate.run(f'ALTER ROLE "{grants[1]}" CONNECTION LIMIT 0')
    givers = """SELECT grantor::regrole::text FROM pg_auth_members
                 WHERE roleid = 'pg_signal_backend'::regrole AND member = %(me)s::regrole"""
    for (giver,) in ask(estate.server, givers, me=CONNECTOR):
        by = f" GRANTED BY {giver}" if estate.options else ""
        run_in(estate.server, "postgres", f"REVOKE pg_signal_backend FROM {CONNECTOR}{by}")
    try:
        warnings = estate.enforce()
        assert len([line for line in warnings if line.startswith("latchkey: sessions of role")]) == 2
        assert all(map(alive, open_ones))
        assert all(map(estate.exists, grants))
        assert [estate.members(grant) for grant in grants] == [set(), set()]
        assert not estate.may_enter(marked)
    finally:
        run_in(estate.server, "postgres", f"GRANT pg_signal_backend TO {CONNECTOR}")
    assert estate.enforce() == []
    assert not any(map(alive, open_ones))
    assert not any(map(estate.exists, grants))


def test_sessions_end_though_a_run_died_after_the_fence(estate: Estate) -> None:
    marked, stranger = estate.login(), estate.login(marked=False)
    grants = {marked: estate.grant(marked), stranger: estate.grant(stranger)}
    open_ones = [estate.enter(marked), estate.enter(stranger)]
    estate.run(*(f'REVOKE "{grant}" FROM "{login}"' for login, grant in grants.items()))
    estate.run(f'ALTER ROLE "{marked}" NOLOGIN PASSWORD NULL')
    assert estate.enforce() == []
    assert not any(map(alive, open_ones))
    assert not any(map(estate.exists, grants.values()))


def test_the_connectors_own_sessions_are_never_ended(estate: Estate) -> None:
    login = estate.login()
    comment = {"v": 1, "kind": "grant", "request": "R", "grantee": "g", "login": CONNECTOR}
    grant = estate.grant(login, comment=json.dumps(comment))
    with connector(estate.server) as mine:
        assert estate.enforce() == []
        assert alive(mine)
    assert not estate.exists(grant)


# ------------------------------------------------------------------------------------------------- what stays
def test_a_grant_that_owns_something_stays_without_members(estate: Estate) -> None:
    login = estate.login(marked=False)
    grant = estate.grant(login)
    if estate.options:
        run_in(estate.server, "postgres", f'CREATE TABLE public.t1 (); ALTER TABLE public.t1 OWNER TO "{grant}"')
    else:
        run_in(estate.server, "postgres", f'GRANT CREATE ON SCHEMA public TO "{grant}"')
        with estate.enter(login) as session:
            session.execute(f'SET ROLE "{grant}"'.encode())
            session.execute("CREATE TABLE public.t1 ()")
        run_in(estate.server, "postgres", f'REVOKE ALL ON SCHEMA public FROM "{grant}"')
    assert estate.enforce() == []
    assert estate.exists(grant)
    assert estate.members(grant) == set()
    with estate.enter(login) as session:
        assert estate.enforce() == []
        assert alive(session), "it was ended once"
        # given again, it ends again
        rights = " WITH INHERIT TRUE, SET FALSE" if estate.options else ""
        estate.run(f'GRANT "{grant}" TO "{login}"{rights}')
        assert estate.enforce() == []
        assert not alive(session)
    run_in(estate.server, "postgres", "DROP TABLE public.t1")
    assert estate.enforce() == []
    assert not estate.exists(grant)


def test_a_membership_that_another_role_granted_ends_with_the_role(estate: Estate) -> None:
    login, stranger = estate.login(marked=False), estate.login(marked=False)
    grant = estate.grant(login)
    run_in(estate.server, "postgres", f'GRANT "{grant}" TO "{stranger}"')
    open_ones = [estate.enter(login), estate.enter(stranger)]
    estate.enforce()
    assert not estate.exists(grant)
    assert not any(map(alive, open_ones))


# ------------------------------------------------------------------------------------------------- the journal
JOURNALS = {
    "trigger": (
        "CREATE TRIGGER t BEFORE INSERT ON latchkey.journal FOR EACH ROW EXECUTE FUNCTION public.trap()",
        "DROP TRIGGER t ON latchkey.journal; VACUUM latchkey.journal",
    ),
    "owner": ("ALTER TABLE latchkey.journal OWNER TO plain", "ALTER TABLE latchkey.journal OWNER TO cloudadmin"),
    "schema": ("ALTER SCHEMA latchkey OWNER TO plain", "ALTER SCHEMA latchkey OWNER TO cloudadmin"),
    "right": (
        f"REVOKE INSERT (login) ON latchkey.journal FROM {CONNECTOR}",
        f"GRANT INSERT (login) ON latchkey.journal TO {CONNECTOR}",
    ),
    "gone": ("ALTER TABLE latchkey.journal RENAME TO away", "ALTER TABLE latchkey.away RENAME TO journal"),
    "full": (
        "ALTER TABLE latchkey.journal ADD CONSTRAINT full_one CHECK (login = 'nobody') NOT VALID",
        "ALTER TABLE latchkey.journal DROP CONSTRAINT full_one",
    ),
}
TRAP = """
CREATE OR REPLACE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN EXECUTE 'ALTER ROLE cloudadmin2 CONNECTION LIMIT 3'; RETURN new; END$$
"""


@pytest.mark.parametrize("how", sorted(JOURNALS))
def test_without_a_journal_to_trust_it_ends_access_all_the_same(estate: Estate, how: str) -> None:
    server = estate.server
    damage, repair = JOURNALS[how]
    run_in(server, "postgres", "DROP ROLE IF EXISTS plain", "CREATE ROLE plain NOLOGIN", TRAP, damage)
    login = estate.login()
    grant = estate.grant(login)
    warnings = estate.enforce()
    run_in(server, "postgres", *repair.split("; "), "DROP FUNCTION public.trap()")
    assert [line.startswith("latchkey: journal: ") for line in warnings] == [True] * (how == "full")
    assert not estate.exists(grant)
    assert not estate.may_enter(login)
    assert ask(server, "SELECT FROM latchkey.journal WHERE login = %(login)s", login=login) == []


def test_who_makes_other_roles_is_trusted_with_a_journal_only_where_that_is_power_over_the_connector(
    estate: Estate,
) -> None:
    """Another team's provisioning role: since 16 it has no power over the connector, unless by ADMIN OPTION."""
    server = estate.server
    run_in(
        server, "postgres", "CREATE ROLE provisioner CREATEROLE", "ALTER TABLE latchkey.journal OWNER TO provisioner"
    )
    logins = [estate.login(), estate.login()]
    usable = []
    with as_connector(server) as session:
        for login in logins:
            grant = estate.grant(login)
            usable.append(journal.is_usable(session))
            assert estate.enforce() == []
            assert not estate.exists(grant)
            run_in(server, "postgres", f"GRANT {CONNECTOR} TO provisioner WITH ADMIN OPTION")
    entered = [bool(ask(server, "SELECT FROM latchkey.journal WHERE login = %(u)s", u=login)) for login in logins]
    run_in(
        server,
        "postgres",
        "ALTER TABLE latchkey.journal OWNER TO cloudadmin",
        f"REVOKE {CONNECTOR} FROM provisioner",
        "DROP ROLE provisioner",
    )
    assert usable == entered == [not estate.options, True]


# ------------------------------------------------------------------------------------------------- installation
def test_it_is_installed_once_and_removed(fresh: Estate) -> None:
    server = fresh.server
    with as_connector(server) as session:
        before = catalog(server)
        said = enforcement.read(session)
        assert (said.available, said.installed, said.reason) == (True, False, "not installed")
        planned = enforcement.install(session, check=True)
        assert (planned.changed, planned.installed) == (True, False)
        assert changes(before, catalog(server)) == []
        assert ask(server, "SELECT FROM cron.job") == []
        done = enforcement.install(session, check=False)
        assert (done.available, done.changed, done.installed, done.reason) == (True, True, True, None)
        assert [*map(str, done.statements)] == [*map(str, planned.statements)]
        jobs = "SELECT jobname, schedule, command, username, database FROM cron.job"
        assert ask(server, jobs) == [("latchkey", "* * * * *", "CALL latchkey.enforce()", CONNECTOR, "postgres")]
        xid = next_xid(server)
        again = enforcement.install(session, check=False)
        assert (again.changed, again.installed, again.statements) == (False, True, ())
        assert enforcement.read(session).installed
        assert next_xid(server) == xid
        allowed = (
            "SELECT rolname::text FROM pg_roles WHERE NOT rolsuper AND has_function_privilege(oid, %(f)s, 'EXECUTE')"
        )
        assert ask(server, allowed, f="latchkey.enforce()") == [(CONNECTOR,)]
        assert enforcement.remove(session, check=True).changed
        assert enforcement.read(session).installed
        assert enforcement.remove(session, check=False).changed
        assert not enforcement.read(session).installed
        assert enforcement.remove(session, check=False).statements == ()
    assert changes(before, catalog(server)) == []
    assert ask(server, jobs) == []


def test_a_job_whose_last_run_failed_is_told_with_the_reason(fresh: Estate) -> None:
    """Pg_cron logs in by itself, which pg_hba may refuse."""
    server = fresh.server
    run = "INSERT INTO cron.job_run_details SELECT max(jobid), {0}, '{1}', '{2}' FROM cron.job"
    make = "CREATE TABLE cron.job_run_details (jobid bigint, runid bigint, status text, return_message text)"
    run_in(server, "postgres", make, "GRANT SELECT ON cron.job_run_details TO PUBLIC")
    with as_connector(server) as session:
        enforcement.install(session, check=False)
        said = [enforcement.read(session)]
        runs = (
            (9, "succeeded", "CALL"),
            (10, "failed", "connection\n failed"),
            (11, "starting", ""),
            (12, "succeeded", ""),
        )
        for number, status, message in runs:
            run_in(server, "postgres", run.format(number, status, message))
            said.append(enforcement.read(session))
        run_in(server, "postgres", run.format(13, "failed", ""))
        run_in(server, "postgres", "ALTER TABLE cron.job_run_details OWNER TO app_alpha")
        said.append(enforcement.read(session))
    assert all(one.available and one.installed for one in said)
    failed = (
        "the last run of its job failed: connection failed; look at cron.job_run_details and the settings of pg_cron"
    )
    assert [one.reason for one in said] == [None, None, failed, failed, None, None]


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER PROCEDURE latchkey.enforce() SECURITY DEFINER",
        "ALTER PROCEDURE latchkey.enforce() SET search_path = public",
        "CREATE OR REPLACE PROCEDURE latchkey.enforce() LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE OR REPLACE PROCEDURE latchkey.enforce() LANGUAGE sql AS 'SELECT 1'",
        "GRANT EXECUTE ON PROCEDURE latchkey.enforce() TO public, cloudadmin2",
        "DROP PROCEDURE latchkey.enforce()",
        "UPDATE cron.job SET active = false",
        "UPDATE cron.job SET command = 'SELECT 1'",
        "UPDATE cron.job SET schedule = '0 0 * * *'",
        "UPDATE cron.job SET database = 'template1'",
        "DELETE FROM cron.job",
    ],
)
def test_what_somebody_has_changed_is_put_right(estate: Estate, damage: str) -> None:
    estate.run(damage)
    with as_connector(estate.server) as session:
        assert not enforcement.read(session).installed
        assert enforcement.install(session, check=False).changed
        assert enforcement.read(session).installed
    rows = ask(
        estate.server,
        "SELECT prosecdef, proconfig, proacl::text FROM pg_proc WHERE oid = 'latchkey.enforce()'::regprocedure",
    )
    assert rows == [(False, None, f"{{{CONNECTOR}=X/{CONNECTOR}}}")]
    login = estate.login()
    assert estate.enforce() == []
    assert not estate.may_enter(login)


def test_default_privileges_let_nobody_in(fresh: Estate) -> None:
    fresh.run("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO cloudadmin2")
    with as_connector(fresh.server) as session:
        enforcement.install(session, check=False)
        assert enforcement.read(session).installed
    assert ask(fresh.server, "SELECT has_function_privilege('cloudadmin2', 'latchkey.enforce()', 'EXECUTE')") == [
        (False,)
    ]


AWAY, BACK = "ALTER SCHEMA {0} RENAME TO {0}_away", "ALTER SCHEMA {0}_away RENAME TO {0}"
MISSING = {
    "pg_cron": (AWAY.format("cron"), BACK.format("cron"), "CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO"),
    "schedule": (
        "ALTER FUNCTION cron.schedule(text, text, text) RENAME TO away",
        "ALTER FUNCTION cron.away(text, text, text) RENAME TO schedule",
        "CREATE EXTENSION pg_cron;",
    ),
    "usage": (
        f"REVOKE USAGE ON SCHEMA cron FROM {CONNECTOR}",
        f"GRANT USAGE ON SCHEMA cron TO {CONNECTOR}",
        f'GRANT USAGE ON SCHEMA cron TO "{CONNECTOR}";',
    ),
    "execute": (
        f"REVOKE EXECUTE ON FUNCTION cron.schedule FROM public, {CONNECTOR}",
        "GRANT EXECUTE ON FUNCTION cron.schedule TO public",
        f'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cron TO "{CONNECTOR}";',
    ),
    "select": (
        f"REVOKE ALL ON cron.job FROM public, {CONNECTOR}",
        "GRANT ALL ON cron.job TO public",
        f'GRANT SELECT ON cron.job TO "{CONNECTOR}";',
    ),
    "schema": (
        AWAY.format("latchkey"),
        BACK.format("latchkey"),
        f'CREATE SCHEMA "latchkey"; GRANT USAGE, CREATE ON SCHEMA "latchkey" TO "{CONNECTOR}";',
    ),
    "create": (
        f"REVOKE CREATE ON SCHEMA latchkey FROM {CONNECTOR}",
        f"GRANT CREATE ON SCHEMA latchkey TO {CONNECTOR}",
        f'GRANT USAGE, CREATE ON SCHEMA "latchkey" TO "{CONNECTOR}";',
    ),
}


@pytest.mark.parametrize("what", sorted(MISSING))
def test_what_is_missing_is_said_with_the_statement_that_helps(estate: Estate, what: str) -> None:
    lack, repair, remedy = MISSING[what]
    with as_connector(estate.server) as session:
        enforcement.remove(session, check=False)
        run_in(estate.server, "postgres", lack)
        before = catalog(estate.server)
        said = enforcement.read(session)
        refusals = [refusal(session, check=check) for check in (True, False)]
        after = catalog(estate.server)
        run_in(estate.server, "postgres", repair)
        assert (said.available, said.installed) == (False, False)
        assert said.reason
        assert all(said.reason in refused and remedy in refused for refused in refusals)
        assert changes(before, after) == []
        assert enforcement.install(session, check=False).installed


def test_it_is_not_installed_into_a_schema_of_somebody_else_who_could_replace_it(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    bootstrapped(server, platform_membership=False, journal=False)
    run_in(
        server,
        "postgres",
        CRON,
        "CREATE ROLE eve",
        "GRANT CREATE ON DATABASE postgres TO eve",
        "SET ROLE eve",
        "CREATE SCHEMA latchkey",
        f"GRANT USAGE, CREATE ON SCHEMA latchkey TO {CONNECTOR}",
    )
    with as_connector(server) as session:
        said = enforcement.read(session)
        refused = refusal(session, check=False)
        assert ask(server, "SELECT FROM cron.job") == []
        assert (said.available, said.installed) == (False, False)
        assert said.reason == f"schema latchkey belongs to eve, who is no administrator of {CONNECTOR}"
        assert said.reason in refused
        assert 'ALTER SCHEMA "latchkey" OWNER TO CURRENT_USER;' in refused
        run_in(server, "postgres", 'ALTER SCHEMA "latchkey" OWNER TO CURRENT_USER')
        assert enforcement.install(session, check=False).installed
        run_in(server, "postgres", "ALTER SCHEMA latchkey OWNER TO eve")
        assert not enforcement.read(session).installed
        assert enforcement.remove(session, check=False).changed


def test_a_schema_cron_of_somebody_else_is_not_used(fresh: Estate) -> None:
    server = fresh.server
    run_in(server, "postgres", "ALTER FUNCTION cron.schedule(text, text, text) OWNER TO app_alpha")
    with as_connector(server) as session, pytest.raises(DatabaseRefused, match="belongs to no superuser"):
        enforcement.install(session, check=False)


def test_a_routine_of_somebody_else_is_left_alone(fresh: Estate) -> None:
    server = fresh.server
    run_in(server, "postgres", "CREATE PROCEDURE latchkey.enforce() LANGUAGE sql AS 'SELECT 1'")
    with as_connector(server) as session:
        for act in (enforcement.install, enforcement.remove):
            with pytest.raises(DatabaseRefused, match=r"belongs to (rdsadmin|azuresu)"):
                act(session, check=False)


# ------------------------------------------------------------------------------------------------- the real one
def test_pg_cron_itself_ends_access_every_minute(shaped: Shaped, major: int) -> None:
    probe = shaped(major=major, shape="rds")
    if not ask(probe, "SELECT FROM pg_available_extensions WHERE name = 'pg_cron'"):
        pytest.skip("pg_cron is not installed for this server")
    preload = {"shared_preload_libraries": "pg_cron", "cron.use_background_workers": True}
    server = shaped(major=major, shape="rds", settings=preload)
    estate = prepare(server)
    run_in(server, "postgres", "DROP SCHEMA cron CASCADE", "CREATE EXTENSION pg_cron")
    run_in(server, "postgres", f"GRANT pg_read_all_settings TO {CONNECTOR}")
    with (
        as_connector(server, "appdb_open") as session,
        pytest.raises(DatabaseRefused, match="Set login_db to postgres"),
    ):
        enforcement.install(session, check=False)
    with as_connector(server) as session:
        with pytest.raises(DatabaseRefused, match="GRANT USAGE ON SCHEMA cron"):
            enforcement.install(session, check=False)
        run_in(server, "postgres", f"GRANT USAGE ON SCHEMA cron TO {CONNECTOR}")
        assert enforcement.install(session, check=False).changed
        assert not enforcement.install(session, check=False).changed
        login = estate.login()
        grant = estate.grant(login)
        person = estate.enter(login)
        deadline = time.monotonic() + 130
        while alive(person) or estate.exists(grant):
            assert time.monotonic() < deadline, ask(server, "SELECT status, return_message FROM cron.job_run_details")
            time.sleep(1)
        assert not estate.may_enter(login)
        assert enforcement.remove(session, check=False).changed
    assert ask(server, "SELECT FROM cron.job") == []


def test_who_would_remove_the_connector_is_told_how_to_remove_the_routine(fresh: Estate) -> None:
    with as_connector(fresh.server) as session:
        enforcement.install(session, check=False)
        said = bootstrap(fresh.server, state="absent")
        assert said["failed"]
        assert "Run pg_access_sweep with enforcement: none for latchkey.enforce(), take these away first" in said["msg"]
        enforcement.remove(session, check=False)
    assert "latchkey.enforce" not in bootstrap(fresh.server, state="absent").get("msg", "")


def test_the_sweep_installs_and_removes_it_on_request_and_ends_all_else(fresh: Estate) -> None:
    succeeded(grant(fresh.server, "R-1", "ann@example.com"))
    expire(fresh.server, "R-1")
    planned = succeeded(sweep(fresh.server, enforcement="pg_cron", check=True))
    assert planned["enforcement"] == {"installed": False, "changed": True}
    said = succeeded(sweep(fresh.server, enforcement="pg_cron"))
    assert (said["enforcement"], said["ended"]) == ({"installed": True, "changed": True}, ["R-1"])
    with unchanged(fresh.server):
        again = succeeded(sweep(fresh.server, enforcement="pg_cron"))
    assert (again["enforcement"], again["changed"]) == ({"installed": True, "changed": False}, False)
    said = succeeded(grant(fresh.server, "R-2", "ann@example.com"))
    expire(fresh.server, "R-2")
    fresh.enforce()
    assert not gets_in(fresh.server, said)
    gone = succeeded(sweep(fresh.server, enforcement="none"))
    assert gone["enforcement"] == {"installed": False, "changed": True}
    with as_connector(fresh.server) as session:
        assert session.rows("SELECT count(*) FROM cron.job") == [(0,)]


def test_a_sweep_that_shall_install_it_where_it_can_not_be_ends_all_else_and_says_what_is_missing(
    shaped: Shaped,
) -> None:
    server = shaped(major=17, shape="azure")
    bootstrapped(server)
    given = succeeded(grant(server, "R-1", "ann@example.com"))
    expire(server, "R-1")
    assert sweep(server, enforcement="pg_cron")["ended"] == ["R-1"]
    assert not gets_in(server, given)
    with unchanged(server):
        said = sweep(server, enforcement="pg_cron")
    assert (said["failed"], said["changed"], said["enforcement"]) == (True, False, None)
    assert "there is no pg_cron (it must also be in shared_preload_libraries)" in said["msg"]
