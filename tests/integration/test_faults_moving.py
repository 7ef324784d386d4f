# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that others work on meanwhile: what comes, goes or is locked during the run, and other runs."""

from __future__ import annotations

import collections.abc as c
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import present
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import lock
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges import apply as applying
from tests.integration.product import Log, ask, bootstrap, database_of, run_in, succeeded
from tests.integration.test_faults_common import FROM_16, nothing_borrowed, refused, unchanged, whole
from tests.rig import ShapedServer, coverage, open_ddl

if TYPE_CHECKING:
    import pytest

PLATFORMS, NO_WAY = 2, 48  # objects of appdb_open: in schema cron; of app_gamma and app_fellow

Shaped = Callable[..., ShapedServer]


def before_visits(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something after the databases are listed and before they are visited, once."""
    original, todo = present.visit_all, [act]

    def hooked(job: Any, databases: c.Iterable[str]) -> Any:
        names = list(databases)
        while todo:
            todo.pop()()
        return original(job, names)

    monkeypatch.setattr(present, "visit_all", hooked)


def before_apply(monkeypatch: pytest.MonkeyPatch, dbname: str, act: Callable[[], None]) -> None:
    """Do something in a database after it was looked at and before anything is given there, once."""
    original, todo = applying.apply, [act]

    def hooked(session: Any, batches: Any, **more: Any) -> Any:
        if session.connection.info.dbname == dbname:
            while todo:
                todo.pop()()
        return original(session, batches, **more)

    monkeypatch.setattr(applying, "apply", hooked)


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread; its exception is raised at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(act)
        yield
        future.result(timeout=60)


def until_somebody_waits(server: ShapedServer, times: int = 1) -> None:
    """Return when sessions of the product have been seen to wait for a lock, in so many transactions."""
    query = (
        "SELECT backend_xid::text, xact_start FROM pg_stat_activity"
        " WHERE application_name = 'latchkey' AND wait_event_type = 'Lock' AND wait_event <> 'advisory'"
    )
    seen: set[Any] = set()
    deadline = time.monotonic() + 30
    with server.connect() as conn:
        while len(seen) < times:
            assert time.monotonic() < deadline, "nobody waits"
            seen.update(row[1] for row in conn.execute(query.encode()).fetchall())
            time.sleep(0.02)


# ------------------------------------------------------------------------------ what comes and goes


def test_a_database_that_is_dropped_before_its_visit_is_reported_and_nothing_else(
    shaped: Shaped, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shaped(major=major, shape="azure")
    before_visits(monkeypatch, lambda: run_in(server, "postgres", "DROP DATABASE tmpl_db2", "DROP DATABASE admindb"))
    run_in(server, "postgres", "CREATE DATABASE tmpl_db2")
    said = succeeded(bootstrap(server, fail_on_uncovered=major < FROM_16))
    for name in ("tmpl_db2", "admindb"):
        assert database_of(said, name)["reason"] == "it was dropped during the run"
    assert not [entry for entry in said["uncovered"] if entry["database"] in {"tmpl_db2", "admindb"}]
    assert "warnings" not in said
    assert coverage(server, "apono_connector", "appdb_hard").grantable == 23


def test_a_database_that_is_dropped_under_the_run_is_reported_and_nothing_else(
    shaped: Shaped, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shaped(major=17, shape="azure")
    drop = "DROP DATABASE appdb_open WITH (FORCE)"
    before_apply(monkeypatch, "appdb_open", lambda: run_in(server, "postgres", drop))
    with nothing_borrowed(server):
        said = succeeded(bootstrap(server))
    assert database_of(said, "appdb_open")["reason"] == "it was dropped during the run"
    assert coverage(server, "apono_connector", "appdb_hard").grantable == 23


def test_a_database_that_appears_during_the_run_is_covered_by_it(
    shaped: Shaped, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shaped(major=major, shape="azure")

    def appear() -> None:
        with server.connect_admin() as conn:
            conn.execute("CREATE DATABASE late_db TEMPLATE template0")
        with server.connect_admin(dbname="late_db") as conn:
            conn.execute("CREATE SCHEMA s CREATE TABLE t (id int)")

    before_visits(monkeypatch, appear)
    said = succeeded(bootstrap(server))
    # Up to 14 the schema public of template0 is the platform's.
    covered = 3 if major > 14 else 2
    assert database_of(said, "late_db")["covered"] == covered
    assert coverage(server, "apono_connector", "late_db").grantable == covered
    whole(server)
    with unchanged(server):
        assert not succeeded(bootstrap(server))["changed"]


def test_objects_that_come_and_go_between_look_and_gift_stop_nothing(
    shaped: Shaped, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shaped(major=major, shape="azure")
    statements = (
        "DROP TABLE alpha_s.t_plain CASCADE",
        "DROP SCHEMA pgboss CASCADE",
        "DROP OWNED BY app_hyb CASCADE",
        "DROP ROLE app_hyb",
        "SET ROLE app_alpha",
        "CREATE TABLE alpha_s.late (id serial)",
        "CREATE SCHEMA late_s CREATE TABLE late (id serial)",
    )
    before_apply(monkeypatch, "appdb_open", lambda: run_in(server, "appdb_open", *statements))
    with nothing_borrowed_but_of(server, "app_hyb"):
        said = succeeded(bootstrap(server))
    assert {entry["cause"] for entry in said["uncovered"]} == {"platform", *(["no_way"] if major >= FROM_16 else [])}
    found = coverage(server, "apono_connector", "appdb_open")
    assert found.grantable == found.total - PLATFORMS - (NO_WAY if major >= FROM_16 else 0)
    with unchanged(server):
        assert not succeeded(bootstrap(server))["changed"]


@contextlib.contextmanager
def nothing_borrowed_but_of(server: ShapedServer, role: str) -> Iterator[None]:
    """Assert it of the other roles: this one is dropped meanwhile."""
    query = f"SELECT m::text FROM pg_auth_members m WHERE pg_get_userbyid(roleid) NOT IN ('{role}', 'apono_connector')"
    query += " AND pg_get_userbyid(member) <> 'apono_connector'"
    before = ask(server, query)
    yield
    assert set(ask(server, query)) == set(before)


def test_roles_that_the_administrator_makes_meanwhile_are_no_sign_of_a_borrowed_one(shaped: Shaped) -> None:
    """Since 16 each of them is a membership that comes, and goes, while the run looks after its own."""
    server = shaped(major=17, shape="azure")
    over = threading.Event()

    def keep_making_roles() -> None:
        with server.connect_admin() as conn:
            while not over.is_set():
                conn.execute("CREATE ROLE passing")
                conn.execute("DROP ROLE passing")

    with nothing_borrowed(server), meanwhile(keep_making_roles):
        try:
            said = succeeded(bootstrap(server))
        finally:
            over.set()
    assert {entry["cause"] for entry in said["uncovered"]} == {"platform", "no_way"}
    whole(server)


# -------------------------------------------------------------------------------------------- locks


def test_a_table_that_stays_locked_is_reported_alone_in_bounded_time_and_done_by_the_next_run(
    shaped: Shaped, major: int
) -> None:
    server = shaped(major=major, shape="azure")
    with nothing_borrowed(server), open_ddl(server, "appdb_open", "alpha_s.t_plain"):
        start = time.monotonic()
        said = bootstrap(server, fail_on_uncovered=True)
        assert time.monotonic() - start < 30
    assert "app_alpha in appdb_open: canceling statement due to lock timeout" in said["msg"]
    (entry,) = [e for e in said["uncovered"] if e["cause"] not in {"platform", "no_way"}]
    assert (entry["cause"], entry["sqlstate"], entry["owner"]) == ("busy", "55P03", "app_alpha")
    assert (entry["objects"], entry["default_privileges"]) == (1, 0)
    assert len(entry["sql"]) == 1
    assert '"alpha_s"."t_plain"' in entry["sql"][0]
    missing = (195 - PLATFORMS - (NO_WAY if major >= FROM_16 else 0)) - 1
    assert coverage(server, "apono_connector", "appdb_open").grantable == missing
    assert succeeded(bootstrap(server))["changed"]
    whole(server)


def test_a_table_that_is_released_during_the_retries_is_covered(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    with open_ddl(server, "appdb_open", "alpha_s.t_plain") as ddl:

        def release() -> None:
            until_somebody_waits(server, times=2)
            ddl.commit()

        with meanwhile(release):
            said = succeeded(bootstrap(server, connect_params={"options": "-c lock_timeout=500ms"}))
    assert not [entry for entry in said["uncovered"] if entry["cause"] == "busy"]
    whole(server)


def test_a_grant_of_somebody_else_at_the_same_moment_is_retried(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    log = Log(server)
    with contextlib.closing(server.connect(dbname="appdb_open", autocommit=False)) as other:
        other.execute("SET ROLE app_alpha")
        other.execute("GRANT SELECT ON alpha_s.t_plain TO app_beta")

        def release() -> None:
            until_somebody_waits(server)
            other.commit()

        with meanwhile(release):
            said = succeeded(bootstrap(server))
    assert "tuple concurrently updated" in log.text()
    assert "XX000" not in str(said)
    whole(server)
    held = "SELECT has_table_privilege('app_beta', 'alpha_s.t_plain', 'SELECT')"
    assert ask(server, held, "appdb_open") == [(True,)]


# --------------------------------------------------------------------------------------- other runs

DUPLICATES = """
SELECT count(*) FROM (
  SELECT o.oid, a.grantee, a.privilege_type FROM (
    SELECT oid, relacl AS acl FROM pg_class UNION ALL SELECT oid, proacl FROM pg_proc UNION ALL
    SELECT oid, typacl FROM pg_type UNION ALL SELECT oid, nspacl FROM pg_namespace UNION ALL
    SELECT oid, datacl FROM pg_database
  ) AS o, aclexplode(o.acl) AS a
   WHERE pg_get_userbyid(a.grantee) ~ 'connector'
   GROUP BY 1, 2, 3 HAVING count(*) > 1
) AS twice
"""


def in_parallel(*runs: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """Start all at the same moment."""
    barrier = threading.Barrier(len(runs))

    def start(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        barrier.wait()
        return run()

    with ThreadPoolExecutor(max_workers=len(runs)) as pool:
        return list(pool.map(start, runs))


def test_two_runs_at_once_both_succeed_and_do_the_work_once(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    log = Log(server)
    with nothing_borrowed(server):
        for number in range(5):
            name = f"connector_{number}"
            said = in_parallel(*[lambda: bootstrap(server, connector=name, connector_password="pw")] * 2)  # noqa: B023
            assert sorted(succeeded(one)["changed"] for one in said) == [False, True]
            assert sorted(one["connector"]["created"] for one in said) == [False, True]
            assert "XX000" not in str(said)
            whole(server, name)
    assert "tuple concurrently updated" not in log.text()
    assert "duplicate key" not in log.text()
    assert ask(server, DUPLICATES, "appdb_open") == [(0,)]


def test_runs_that_do_not_see_each_other_s_lock_break_nothing(shaped: Shaped, major: int) -> None:
    """Different maintenance databases, against the advice: the lock belongs to one, so only retries keep them apart."""
    server = shaped(major=major, shape="azure")
    with nothing_borrowed(server):
        for number in range(2):
            name = f"connector_{number}"
            said = in_parallel(
                lambda: bootstrap(server, connector=name, login_db="postgres"),  # noqa: B023
                lambda: bootstrap(server, connector=name, login_db="admindb"),  # noqa: B023
            )
            assert sum(bool(one.get("failed")) for one in said) < 2
            for one in said:
                if one.get("failed"):
                    refused(one, "database_refused", f'role "{name}" already exists', "42710")
            succeeded(bootstrap(server, connector=name))
            whole(server, name)
    assert ask(server, DUPLICATES, "appdb_open") == [(0,)]


def test_two_runs_beside_somebody_who_keeps_granting(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    over = threading.Event()
    tables = [
        f"{schema}.{name}" for schema in ("alpha_s", "beta_s", "hyb_s") for name in ("t_plain", "t_rls", "v_plain")
    ]

    def keep_granting() -> None:
        with server.connect(dbname="appdb_open") as conn:
            while not over.is_set():
                for table in tables:
                    for statement in (
                        f"GRANT SELECT ON {table} TO pg_monitor",
                        f"REVOKE ALL ON {table} FROM pg_monitor",
                    ):
                        with contextlib.suppress(psycopg.errors.InternalError):
                            conn.execute(statement.encode())
                time.sleep(0.001)

    with nothing_borrowed(server), meanwhile(keep_granting):
        try:
            succeeded(bootstrap(server, databases=["template1"]))
            said = in_parallel(lambda: bootstrap(server), lambda: bootstrap(server, login_db="admindb"))
            for one in said:
                assert not one.get("failed"), one["msg"]
                assert {e["cause"] for e in one["uncovered"]} <= {"platform", "no_way", "busy"}
        finally:
            over.set()
    succeeded(bootstrap(server))
    whole(server)


def test_a_run_that_holds_the_lock_too_long_is_said_and_nothing_is_changed(
    shaped: Shaped, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shaped(major=17, shape="azure")
    monkeypatch.setattr(lock, "PATIENCE", 2)
    monkeypatch.setattr(lock, "ONE_WAIT", 1)
    with server.connect() as other:
        other.execute("SELECT pg_advisory_lock(%(space)s, %(key)s)", lock.LOCK)
        with unchanged(server):
            said = bootstrap(server)
            planned = succeeded(bootstrap(server, check=True))
    refused(said, "database_refused", f"localhost:{server.port}", "another run", "2s", "Wait for it to end")
    assert planned["changed"]
    succeeded(bootstrap(server))
    assert ask(server, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
