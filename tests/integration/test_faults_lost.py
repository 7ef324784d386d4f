# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are lost in the middle, and servers that have none to spare: nothing half-done stays."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import visit as visiting
from tests.integration.product import ask, bootstrap, database_of, run_in, succeeded
from tests.integration.test_faults_common import nothing_borrowed, refused, unchanged, whole
from tests.rig import Proxy, ShapedServer, hold_connections

UNREACHABLE = "server_unreachable"
# Statements before which the connections are cut: with a transaction open, a role borrowed, a role taken on.
MOMENTS = (b"CREATE ROLE", b"SET LOCAL ROLE", b"ALTER DEFAULT", b"RESET ROLE", b"REVOKE", b"pg_advisory_unlock")
WRITES = ((15, 3), (17, 8), (15, 16), (17, 40), (15, 110), (17, 260))
KILLS = 8  # for each version

Shaped = Callable[..., ShapedServer]


def admits_its_loss(said: dict[str, Any]) -> None:
    """Assert that a run whose connections were cut says so, in one line, or names what it did not reach."""
    if said.get("failed"):
        refused(said, UNREACHABLE, "lost", "Run again")
    else:
        missed = [entry for entry in said["databases"] if not entry["reachable"]]
        assert [entry for entry in missed if "lost" in entry["reason"] or "connection" in entry["reason"]]


def through(proxy: Proxy) -> dict[str, Any]:
    """Return the options that go through the proxy, which can only read what is not encrypted."""
    return {"login_host": "127.0.0.1", "login_port": proxy.port, "ssl_mode": "disable"}


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.decode())
def test_connections_that_are_cut_at_a_bad_moment_leave_nothing_borrowed(
    shaped_once: Shaped, major: int, moment: bytes
) -> None:
    server = plain(shaped_once(major=major, shape="azure"))
    name = f"connector_{moment.decode().lower()}"
    with nothing_borrowed(server):
        with Proxy(port_behind=server.port, pattern=moment) as proxy:
            said = bootstrap(server, connector=name, connector_password="pw", **through(proxy))
            assert proxy.was_cut.is_set()
        admits_its_loss(said)
        settled(server)
    with nothing_borrowed(server):
        succeeded(bootstrap(server, connector=name, connector_password="pw"))
    whole(server, name)


@pytest.mark.parametrize(("major", "writes"), WRITES)
def test_connections_that_are_cut_after_so_many_writes_leave_nothing_borrowed(
    shaped_once: Shaped, major: int, writes: int
) -> None:
    server = plain(shaped_once(major=major, shape="azure"))
    name = f"connector_{writes}"
    with nothing_borrowed(server):
        with Proxy(port_behind=server.port, after=writes, refuse=writes % 20 == 0) as proxy:
            said = bootstrap(server, connector=name, **through(proxy))
            assert proxy.was_cut.is_set()
        if said.get("failed"):
            refused(said, UNREACHABLE, "Run again" if "lost" in said["msg"] else "connection")
        settled(server)
    with nothing_borrowed(server):
        succeeded(bootstrap(server, connector=name))
    whole(server, name)


def plain(server: ShapedServer) -> ShapedServer:
    """Let the server take plain sessions too."""
    if not server.plain:
        server.plain = True
        server.restart()
    return server


def settled(server: ShapedServer) -> None:
    """Wait until the server has noticed that its clients are gone."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'latchkey'"
    deadline = time.monotonic() + 20
    while ask(server, query) != [(0,)]:
        assert time.monotonic() < deadline, "sessions stay"
        time.sleep(0.01)


def seconds_of(server: ShapedServer) -> float:
    """How long a run takes that nobody disturbs."""
    begin = time.monotonic()
    succeeded(bootstrap(server, connector="connector_whole"))
    return time.monotonic() - begin


def test_a_process_that_is_killed_at_any_time_leaves_nothing_borrowed(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    moments = random.Random(major)  # noqa: S311
    start = multiprocessing.get_context("fork").Process
    cut_short, whole_run = 0, seconds_of(server)
    for number in range(KILLS):
        name = f"connector_{number}"
        with nothing_borrowed(server):
            child = start(target=bootstrap, args=(server,), kwargs={"connector": name})
            child.start()
            child.join(moments.uniform(0.1, 0.9) * whole_run)
            child.kill()
            child.join()
            cut_short += child.exitcode != 0
            settled(server)
        if number % 3 == 0:
            with nothing_borrowed(server):
                succeeded(bootstrap(server, connector=name))
            whole(server, name)
    assert cut_short > KILLS // 2


def test_sessions_that_an_operator_ends_leave_nothing_borrowed(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    moments = random.Random(major)  # noqa: S311
    harmed, whole_run = 0, seconds_of(server)
    for number in range(5):
        name = f"connector_{number}"
        with nothing_borrowed(server):
            with ended_after(server, moments.uniform(0.1, 0.7) * whole_run):
                said = bootstrap(server, connector=name)
            if said.get("failed"):
                refused(said, UNREACHABLE, "the connection was lost", "Run again")
            harmed += bool(said.get("failed") or said.get("warnings"))
            settled(server)
        if number % 3 == 0:
            with nothing_borrowed(server):
                succeeded(bootstrap(server, connector=name))
            whole(server, name)
    assert harmed > 1


@contextlib.contextmanager
def ended_after(server: ShapedServer, delay: float) -> Iterator[None]:
    """End all sessions of the product, once."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'latchkey'"
    timer = threading.Timer(delay, lambda: ask(server, query))
    timer.start()
    yield
    timer.join()


def test_one_session_that_is_lost_costs_one_database(shaped: Shaped, monkeypatch: pytest.MonkeyPatch) -> None:
    server = shaped(major=17, shape="azure")
    original = visiting.reconcile

    def hooked(session: Any, **more: Any) -> Any:
        if session.connection.info.dbname == "admindb":
            run_in(server, "postgres", f"SELECT pg_terminate_backend({session.connection.info.backend_pid})")
        return original(session, **more)

    monkeypatch.setattr(visiting, "reconcile", hooked)
    said = succeeded(bootstrap(server))
    assert not database_of(said, "admindb")["reachable"]
    assert len([line for line in said["warnings"] if "admindb" in line]) == 1
    assert {entry["database"] for entry in said["uncovered"]} <= {"postgres", "appdb_open"}
    assert database_of(said, "appdb_hard")["covered"] == 23
    monkeypatch.undo()
    succeeded(bootstrap(server))
    whole(server)


# ----------------------------------------------------------------------------------- no connection left

FULL_AT = 12
FOR_OTHERS = FULL_AT - 3  # superuser_reserved_connections


@pytest.fixture
def small(shaped: Shaped) -> ShapedServer:
    """Return a server with few connections."""
    return shaped(major=17, shape="azure", settings={"max_connections": FULL_AT, "max_wal_senders": 0})


def test_a_server_with_two_slots_left_is_served_by_a_run_that_wants_five(small: ShapedServer) -> None:
    with hold_connections(small, FOR_OTHERS - 2, user=small.admin):
        said = succeeded(bootstrap(small, connections=4))
    assert "warnings" not in said
    whole(small)


def test_a_server_without_a_slot_is_said_and_nothing_is_changed(shaped: Shaped, major: int) -> None:
    small = shaped(major=major, shape="azure", settings={"max_connections": FULL_AT, "max_wal_senders": 0})
    with hold_connections(small, FOR_OTHERS, user=small.admin), unchanged(small):
        said = bootstrap(small)
    refused(said, UNREACHABLE, f"localhost:{small.port}", "connection", "Wait, raise the server's limit")


def test_a_slot_that_comes_free_meanwhile_is_used(small: ShapedServer) -> None:
    with hold_connections(small, FOR_OTHERS - 1, user=small.admin) as held:
        timer = threading.Timer(1.0, held[0].close)
        timer.start()
        said = succeeded(bootstrap(small))
        timer.join()
    assert "warnings" not in said
    whole(small)


def test_a_slot_that_never_comes_free_is_reported(small: ShapedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "PAUSES", (0.1, 0.2))
    with hold_connections(small, FOR_OTHERS - 1, user=small.admin):
        said = succeeded(bootstrap(small, databases=["admindb", "appdb_hard"]))
    for name in ("admindb", "appdb_hard"):
        assert not database_of(said, name)["reachable"]
        assert "connection" in database_of(said, name)["reason"]
    assert len(said["warnings"]) == 2
    succeeded(bootstrap(small))
    whole(small)


def test_a_database_at_its_connection_limit_is_reported_and_stops_no_other(
    shaped: Shaped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visiting, "PAUSES", (0.1, 0.2))
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", "ALTER DATABASE admindb CONNECTION LIMIT 1")
    with server.connect_admin(dbname="admindb"):
        said = succeeded(bootstrap(server))
    assert not database_of(said, "admindb")["reachable"]
    assert 'too many connections for database "admindb"' in database_of(said, "admindb")["reason"]
    assert len(said["warnings"]) == 1
    assert database_of(said, "appdb_hard")["covered"] == 23
    succeeded(bootstrap(server))
    whole(server)


def test_a_connector_at_its_own_connection_limit_keeps_its_password(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    options = {"connector_password": "pw-Limit7", "update_password": "always", "databases": ["admindb"]}
    succeeded(bootstrap(server, **options))
    run_in(server, "postgres", "ALTER ROLE apono_connector CONNECTION LIMIT 0")
    with unchanged(server):
        said = bootstrap(server, **options)
    assert not said["changed"]
