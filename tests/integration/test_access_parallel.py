# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs at once, and people who log in all the while: no request is lost, and no fence has a gap."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import LOCK
from tests.integration.access import (
    DATABASE,
    READ,
    bootstrapped,
    expire,
    gets_in,
    grant,
    person,
    refusal,
    revoke,
    sweep,
)
from tests.integration.product import Row, ask, succeeded
from tests.rig import Server, ShapedServer

Shaped = Callable[..., ShapedServer]
GRANTS, SWEEPS = 50, 10
# All of them want to log in at once, and the machine has other work too.
CROWDED = {"connect_params": {"connect_timeout": 100}}
CLIENTS = 4
ROUNDS = 5
# All of them let the common table be read; none has been used when the runs begin.
SCOPES: tuple[tuple[Mapping[str, Any], ...], ...] = (
    READ,
    ({"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"], "tables": ["t_*"]},),
    ({"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"]},),
    (*READ, {"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_plain"]}),
)
# Of profiles that nobody uses: all the sweeps note that at the same time.
UNUSED = tuple(
    ({"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"], "tables": [table]},)
    for table in ("t_plain", "t_rls", "t_part", "v_plain")
)
PLAIN = ({"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_plain"]},)
COMMON, OF_READ = "SELECT count(*) FROM alpha_s.t_plain", "SELECT count(*) FROM alpha_s.v_plain"
# A journal that cannot be written is the concern of other tests.
JOURNALED = "SELECT action, request, count(*) FROM latchkey.journal GROUP BY action, request"


# ------------------------------------------------------------------ many runs at once
@pytest.mark.parametrize("shape", ["rds"])
def test_of_parallel_grants_and_sweeps_none_is_lost_or_done_twice_or_refused(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = shaped(major=major, shape=shape, settings={"max_connections": 200})
    bootstrapped(server)
    over = leave_work_for_sweeps(server)
    asked = {f"par-{number}": f"person-{number % (GRANTS - 8)}@example.com" for number in range(GRANTS)}
    runs: list[Callable[[], dict[str, Any]]] = [
        lambda request=request, grantee=grantee, number=number: grant(  # type: ignore[misc]
            server, request, grantee, access=list(SCOPES[number % len(SCOPES)]), **CROWDED
        )
        for number, (request, grantee) in enumerate(asked.items())
    ]
    for number in range(SWEEPS):
        runs.insert(number * GRANTS // SWEEPS, lambda: sweep(server, **CROWDED))
    said = at_once(runs)
    assert [one["msg"] for one in said if one.get("failed")] == []
    given = [one for one in said if "login" in one]
    assert [one["request_id"] for one in given if not one["changed"]] == []
    assert sorted(one["request_id"] for one in given) == sorted(asked)
    ended = Counter(request for one in said for request in one.get("ended", ()))
    assert ended == Counter(over)
    everybody_has_got_what_was_asked_for(server, asked, given)
    counts = {(action, request): count for action, request, count in ask(server, JOURNALED)}
    assert {request: counts.get(("grant", request)) for request in asked} == dict.fromkeys(asked, 1)
    assert {request: counts.get(("expire", request)) for request in over} == dict.fromkeys(over, 1)
    assert succeeded(sweep(server))["changed"] is False


def leave_work_for_sweeps(server: ShapedServer) -> list[str]:
    """Make grants that are over, which is returned, and profiles that nobody uses."""
    for number, scope in enumerate(UNUSED):
        succeeded(grant(server, f"unused-{number}", "una@example.com", access=list(scope)))
    for number in range(len(UNUSED)):
        succeeded(revoke(server, f"unused-{number}"))
    over = [f"over-{number}" for number in range(8)]
    for number, request in enumerate(over):
        succeeded(grant(server, request, f"old-{number}@example.com"))
    expire(server, *over)
    return over


def at_once(runs: list[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Let all of them begin in the same moment."""
    ready = threading.Barrier(len(runs))

    def one(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        ready.wait(60)
        return run()

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(one, runs))


def everybody_has_got_what_was_asked_for(server: Server, asked: Mapping[str, str], given: list[dict[str, Any]]) -> None:
    """Who asked twice is told the password once: the login was open when the second was given."""
    told = {one["login"]: one for one in given if one["password"]}
    assert len(told) == sum(bool(one["password"]) for one in given) == len(set(asked.values()))
    for said in told.values():
        with person(server, said) as conn:
            assert refusal(conn, COMMON) is None
    members = "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members"
    ties = Counter(ask(server, members))
    for request, grantee in asked.items():
        assert ties[names.grant_role(request), names.login_role(grantee)] == 1


def test_a_sweep_that_meets_somebody_who_alters_the_same_role_tries_again(shaped: Shaped, major: int) -> None:
    """PostgreSQL calls that an internal error, XX000: "tuple concurrently updated"."""
    server = shaped(major=major, shape="rds")
    bootstrapped(server)
    said = succeeded(grant(server, "unused", "una@example.com"))
    succeeded(revoke(server, "unused"))
    profile = said["items"][0]["role"]
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'latchkey' AND wait_event_type = 'Lock'"
    with server.connect(autocommit=False) as dba, ThreadPoolExecutor(1) as pool:
        dba.execute(f"ALTER ROLE {profile} CONNECTION LIMIT 5".encode())
        swept = pool.submit(sweep, server)
        wait_for(lambda: swept.done() or ask(server, blocked) == [(1,)])
        dba.commit()
        succeeded(swept.result())
    query = "SELECT rolvaliduntil <= now() FROM pg_roles WHERE rolname = %(name)s"
    assert ask(server, query, name=profile) == [(True,)]


# ------------------------------------------------------------------ the fence has no gap
@dataclass(kw_only=True)
class Clients:
    """People who connect as fast as they can. `late`: sessions that did something after the revoke had returned."""

    server: Server
    said: Mapping[str, Any]
    stopped: threading.Event = field(default_factory=threading.Event)
    revoked: threading.Event = field(default_factory=threading.Event)
    open: list[psycopg.Connection[Row]] = field(default_factory=list)
    count: int = 0
    refused: int = 0
    late: int = 0

    def work(self) -> None:
        """Connect, and keep some of the sessions."""
        kept: list[psycopg.Connection[Row]] = []
        while not self.stopped.is_set():
            try:
                conn = person(self.server, self.said)
            except psycopg.OperationalError:
                self.refused += self.revoked.is_set()
                continue
            self.count += 1
            if self.revoked.is_set() and refusal(conn, "SELECT 1") is None:
                self.late += 1
            kept.append(conn)
            if len(kept) > 3:
                kept.pop(0).close()
        self.open += kept


@contextlib.contextmanager
def connecting(server: Server, said: Mapping[str, Any]) -> Iterator[Clients]:
    """Let people connect until the block ends; they have begun when it begins."""
    clients = Clients(server=server, said=said)
    threads = [threading.Thread(target=clients.work) for dummy in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: clients.count >= 2 * CLIENTS)
        yield clients
    finally:
        clients.stopped.set()
        for thread in threads:
            thread.join()


def wait_for(done: Callable[[], bool], *, patience: float = 60) -> None:
    """Wait for something, not for ever."""
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.01)


def test_who_reconnects_all_the_while_has_no_session_after_the_revoke_has_returned(
    shaped_once: Shaped, major: int, shape: str
) -> None:
    server = served(shaped_once, major, shape)
    query = "SELECT count(*) FROM pg_stat_activity WHERE usesysid = %(oid)s::oid"
    for number in range(ROUNDS):
        request = f"loop-{number}"
        said = succeeded(grant(server, request, f"loop-{number}@example.com"))
        ((oid,),) = ask(server, "SELECT oid FROM pg_roles WHERE rolname = %(name)s", name=said["login"])
        with connecting(server, said) as clients:
            answer = revoke(server, request)
            clients.revoked.set()
            left = ask(server, query, oid=oid)
            succeeded(answer)
            # Each has tried again several times, and so has seen what comes after.
            wait_for(lambda clients=clients: clients.refused >= 5 * CLIENTS)  # type: ignore[misc]
        alive = [conn for conn in clients.open if refusal(conn, "SELECT 1") is None]
        assert (left, clients.late, alive) == ([(0,)], 0, [])


def test_who_reconnects_all_the_while_is_out_after_the_sweep_has_returned(
    shaped_once: Shaped, major: int, shape: str
) -> None:
    server = served(shaped_once, major, shape)
    said = succeeded(grant(server, "loop-sweep", "loop-sweep@example.com"))
    with connecting(server, said) as clients:
        expire(server, "loop-sweep")
        answer = sweep(server)
        clients.revoked.set()
        succeeded(answer)
        wait_for(lambda: clients.refused >= 5 * CLIENTS)
    assert (clients.late, [conn for conn in clients.open if refusal(conn, "SELECT 1") is None]) == (0, [])


def served(shaped_once: Shaped, major: int, shape: str) -> ShapedServer:
    """A server with a connector."""
    server = shaped_once(major=major, shape=shape)
    if not ask(server, "SELECT FROM pg_roles WHERE rolname = 'latchkey_managed'"):
        bootstrapped(server)
    return server


# ------------------------------------------------------------------ sessions of one request and of two
def test_a_session_in_a_profile_is_ended_up_to_15_and_cannot_be_from_16_on(
    shaped_once: Shaped, major: int, shape: str
) -> None:
    server = served(shaped_once, major, shape)
    said = succeeded(grant(server, "step-in", "step@example.com"))
    succeeded(grant(server, "step-other", "step@example.com", access=list(PLAIN)))
    with contextlib.closing(person(server, said)) as conn:
        stepped = [refusal(conn, f"SET ROLE {role}") for role in (said["items"][0]["role"], *grant_roles("step-in"))]
        assert stepped == ([None, None] if major < 16 else ["42501", "42501"])
        assert refusal(conn, OF_READ) is None
        succeeded(revoke(server, "step-in"))
        assert refusal(conn, OF_READ) in ({"57P01", "lost"} if major < 16 else {"42501"})
    with contextlib.closing(person(server, said)) as conn:
        assert (refusal(conn, COMMON), refusal(conn, OF_READ)) == (None, "42501")


def grant_roles(*requests: str) -> list[str]:
    """The roles of requests."""
    return [names.grant_role(request) for request in requests]


def test_of_two_requests_each_ends_alone_and_from_16_on_the_session_goes_on(
    shaped_once: Shaped, major: int, shape: str
) -> None:
    server = served(shaped_once, major, shape)
    said = succeeded(grant(server, "two-a", "two@example.com"))
    succeeded(grant(server, "two-b", "two@example.com", access=list(PLAIN)))
    with contextlib.closing(person(server, said)) as conn:
        assert (refusal(conn, COMMON), refusal(conn, OF_READ)) == (None, None)
        succeeded(revoke(server, "two-a"))
        if major >= 16:
            assert (refusal(conn, OF_READ), refusal(conn, COMMON)) == ("42501", None)
        else:
            assert refusal(conn, COMMON) in {"57P01", "lost"}
    assert gets_in(server, said)
    with contextlib.closing(person(server, said)) as conn:
        assert (refusal(conn, OF_READ), refusal(conn, COMMON)) == ("42501", None)
        succeeded(revoke(server, "two-b"))
        assert refusal(conn, COMMON) in {"57P01", "lost"}
    assert not gets_in(server, said)


def test_a_person_who_takes_the_lock_is_ended_all_the_same(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    said = succeeded(grant(server, "lock", "lock@example.com"))
    with person(server, said, dbname="postgres") as conn:
        conn.execute("SELECT pg_advisory_lock(%(space)s, %(key)s)", LOCK)
        succeeded(revoke(server, "lock"))
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
