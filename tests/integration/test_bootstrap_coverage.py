# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connector holds after one run, by an independent count, and what a person can do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.product import (
    CONNECTOR,
    HOSTILE_DATABASE,
    bootstrapped,
    catalog,
    changes,
    connector,
    database_of,
    reach,
    run_in,
)
from tests.rig import ShapedServer, coverage

Once = Callable[..., ShapedServer]
Ready = tuple[ShapedServer, dict[str, Any]]
JIT, JIT_SECRET = 'jit "Ann" é', "jit-secret"
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Any]]:
    """What the product said of the servers that this module shares."""
    return {}


@pytest.fixture
def ready(shaped_once: Once, results: dict[int, dict[str, Any]], major: int, shape: str, variant: str) -> Ready:
    """A bootstrapped server, shared by the tests of this module."""
    server = shaped_once(major=major, shape=shape, variant=variant)
    if server.port not in results:
        results[server.port] = bootstrapped(server)
    return server, results[server.port]


def test_the_connector_can_pass_on_all_that_the_administrator_can_reach(ready: Ready, major: int, variant: str) -> None:
    server, _said = ready
    opened, hard = (coverage(server, CONNECTOR, name) for name in ("appdb_open", "appdb_hard"))
    assert (opened.total, opened.grantable) == (195, reach(major, variant))
    assert (hard.total, hard.grantable, hard.readable) == (23, 23, 23)


def test_the_result_counts_what_an_independent_query_counts(ready: Ready) -> None:
    server, said = ready
    entered = [entry for entry in said["databases"] if entry["reachable"]]
    assert {entry["name"] for entry in entered} == {
        "postgres", "template1", "appdb_open", "appdb_hard", "admindb", "tmpl_db", "locked_db", HOSTILE_DATABASE,
    }  # fmt: skip
    counted = {entry["name"]: coverage(server, CONNECTOR, entry["name"]) for entry in entered}
    assert {entry["name"]: (entry["objects"], entry["covered"]) for entry in entered} == {
        name: (found.total, found.grantable) for name, found in counted.items()
    }
    sums = [sum(entry[key] for entry in said["databases"]) for key in ("objects", "covered")]
    assert said["coverage"] == {"objects": sums[0], "covered": sums[1], "ratio": round(sums[1] / sums[0], 4)}


def test_what_is_not_covered_is_all_accounted_for_by_owner(ready: Ready, major: int, variant: str) -> None:
    server, said = ready
    missing = said["coverage"]["objects"] - said["coverage"]["covered"]
    assert sum(entry["objects"] for entry in said["uncovered"]) == missing
    owners = {(entry["owner"], entry["cause"]) for entry in said["uncovered"]}
    left = {("app_gamma", "no_way"), ("app_fellow", "no_way")} if reach(major, variant) == 145 else set()
    assert owners == {(server.superuser, "platform"), *left}
    assert all(entry["sql"] and entry["reason"] and entry["sqlstate"] == "42501" for entry in said["uncovered"])


def test_databases_out_of_reach_are_reported_with_a_reason_and_are_no_warning(ready: Ready) -> None:
    server, said = ready
    shut = {entry["name"]: entry["reason"] for entry in said["databases"] if not entry["reachable"]}
    assert shut == {
        "noconn_db": "it takes no connections",
        "template0": "it takes no connections",
        "invalid_db": "it is invalid: a DROP DATABASE was interrupted",
        **dict.fromkeys(server.shape.platform_databases, "it is the platform's own"),
    }
    assert "warnings" not in said
    assert "failed" not in said


def test_the_platforms_own_databases_are_not_touched(shaped: Once, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    before = catalog(server)
    bootstrapped(server)
    touched = {place for _sign, place, _row in changes(before, catalog(server)) if place}
    assert touched.isdisjoint(server.shape.platform_databases)
    rows = {row for _sign, place, row in changes(before, catalog(server)) if not place and row[0] == "pg_database"}
    assert {row[1] for row in rows}.isdisjoint({*server.shape.platform_databases, "template0", "invalid_db"})


def test_locked_db_is_entered_used_and_passed_on(ready: Ready) -> None:
    server, said = ready
    assert database_of(said, "locked_db") == {
        "name": "locked_db", "reachable": True, "reason": None, "expected": True, "objects": 23, "covered": 23,
    }  # fmt: skip
    with connector(server, "locked_db") as conn, conn.transaction(force_rollback=True):
        conn.execute("INSERT INTO locked_s.t_plain (v) VALUES ('x')")
        conn.execute("CREATE ROLE jit_locked LOGIN")
        conn.execute("GRANT CONNECT ON DATABASE locked_db TO jit_locked")
        (may,) = conn.execute("SELECT has_database_privilege('jit_locked', 'locked_db', 'CONNECT')").fetchone() or ()
        assert may


@pytest.mark.parametrize(
    ("dbname", "schema"), [("appdb_open", "beta_s"), ("appdb_hard", "hard_s"), (HOSTILE_DATABASE, 'S "x"')]
)
def test_the_connector_uses_every_kind_of_object(ready: Ready, dbname: str, schema: str) -> None:
    server, _said = ready
    with connector(server, dbname) as conn, conn.transaction(force_rollback=True):
        conn.execute(f'SET LOCAL search_path = "{schema.replace(chr(34), chr(34) * 2)}"'.encode())
        conn.execute("INSERT INTO t_plain (v) VALUES ('one')")
        conn.execute("""UPDATE "T ""quoted"" é" SET v = v""")
        conn.execute("CALL p_noop(1)")
        conn.execute("TRUNCATE t_part")
        found = conn.execute(
            "SELECT (SELECT v FROM t_plain), nextval('s_free'), 'a'::e_mood, f_add(1, 2), f_add('b'::text, 'c')"
        ).fetchone()
        assert found == ("one", 1, "a", 3, "bc")


def test_the_connector_passes_one_table_on_to_a_new_login_that_can_read_nothing_else(
    shaped: Once, major: int, shape: str, variant: str
) -> None:
    server = shaped(major=major, shape=shape, variant=variant)
    bootstrapped(server)
    role = psycopg.sql.Identifier(JIT)
    for dbname, schema in (("appdb_open", "alpha_s"), ("locked_db", "locked_s"), (HOSTILE_DATABASE, 'S "x"')):
        place = psycopg.sql.Identifier(schema)
        with connector(server, dbname) as conn:
            if dbname == "appdb_open":
                secret = psycopg.sql.Literal(JIT_SECRET)
                conn.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, secret))
            database = psycopg.sql.Identifier(dbname)
            conn.execute(psycopg.sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
            conn.execute(psycopg.sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, role))
            conn.execute(psycopg.sql.SQL("GRANT SELECT ON {}.t_plain TO {}").format(place, role))
            conn.execute(psycopg.sql.SQL("INSERT INTO {}.t_plain (v) VALUES ('seen')").format(place))
        with server.connect(user=JIT, password=JIT_SECRET, dbname=dbname) as conn:
            query = psycopg.sql.SQL("SELECT v FROM {}.t_plain").format(place)
            assert conn.execute(query).fetchall() == [("seen",)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(psycopg.sql.SQL("SELECT * FROM {}.t_unlogged").format(place))


def test_the_connectors_password_is_the_one_and_only_way_in(ready: Ready) -> None:
    server, _said = ready
    with connector(server) as conn:
        assert conn.execute("SELECT session_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            CONNECTOR,
            True,
        )
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connector(server, password="wrong")


# ------------------------------------------------------------------------------------- what is made later
CREATORS = {"app_alpha": "alpha_s", "app_beta": "beta_s", "app_hyb": "hyb_s", "cloudadmin": "admin_s"}
FURTHER = {"app_gamma": "gamma_s", "app_fellow": "fellow_s"}
LATER = (
    "CREATE TABLE {s}.later_t (id serial, v text)",
    "CREATE VIEW {s}.later_v AS SELECT 1 AS id",
    "CREATE SEQUENCE {s}.later_s",
    "CREATE FUNCTION {s}.later_f() RETURNS int LANGUAGE sql AS 'SELECT 7'",
    "CREATE PROCEDURE {s}.later_p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE {s}.later_e AS ENUM ('x')",
    "REVOKE ALL ON FUNCTION {s}.later_f() FROM PUBLIC",
    "REVOKE ALL ON PROCEDURE {s}.later_p() FROM PUBLIC",
    "REVOKE ALL ON TYPE {s}.later_e FROM PUBLIC",
)
PASSED_ON = (
    "GRANT ALL ON SCHEMA {s} TO jit_later",
    "GRANT ALL ON {s}.later_t, {s}.later_v TO jit_later",
    "GRANT ALL ON SEQUENCE {s}.later_s TO jit_later",
    "GRANT ALL ON ROUTINE {s}.later_f(), {s}.later_p() TO jit_later",
    "GRANT ALL ON TYPE {s}.later_e TO jit_later",
)
HELD = """
SELECT has_schema_privilege('jit_later', '{s}', 'USAGE'), has_schema_privilege('jit_later', '{s}', 'CREATE'),
       has_table_privilege('jit_later', '{s}.later_v', 'SELECT'),
       has_sequence_privilege('jit_later', '{s}.later_s', 'USAGE'),
       has_function_privilege('jit_later', '{s}.later_f()', 'EXECUTE'),
       has_function_privilege('jit_later', '{s}.later_p()', 'EXECUTE'),
       has_type_privilege('jit_later', '{s}.later_e', 'USAGE'),
       (SELECT bool_and(has_table_privilege('jit_later', '{s}.later_t', p)) FROM unnest(%(privileges)s::text[]) p)
"""


def test_what_each_creator_makes_later_is_usable_and_can_be_passed_on(
    shaped: Once, major: int, shape: str, variant: str
) -> None:
    server = shaped(major=major, shape=shape, variant=variant)
    bootstrapped(server)
    creators = {**CREATORS, **(FURTHER if reach(major, variant) == 193 else {})}
    places = []
    for creator, schema in creators.items():
        fresh = f"fresh_{creator}"
        run_in(server, "appdb_open", f"CREATE SCHEMA {fresh}", user=creator)
        for place in (schema, fresh):
            run_in(server, "appdb_open", *(one.format(s=place) for one in LATER), user=creator)
            places.append(place)
    with connector(server, "appdb_open") as conn:
        conn.execute("CREATE ROLE jit_later")
        for place in places:
            conn.execute(f"INSERT INTO {place}.later_t (v) VALUES ('x')".encode())
            conn.execute(f"CALL {place}.later_p()".encode())
            used = f"SELECT v, {place}.later_f(), nextval('{place}.later_s'), 'x'::{place}.later_e FROM {place}.later_t"
            assert conn.execute(used.encode()).fetchall() == [("x", 7, 1, "x")], place
            for statement in PASSED_ON:
                conn.execute(statement.format(s=place).encode())
            held = conn.execute(HELD.format(s=place).encode(), {"privileges": list(PRIVILEGES)}).fetchone()
            assert held == (True,) * 8, place


def test_without_default_privileges_nothing_made_later_is_covered(shaped: Once, major: int) -> None:
    server = shaped(major=major, shape="rds")
    bootstrapped(server, default_privileges=False, platform_membership=False)
    run_in(server, "appdb_open", "CREATE TABLE alpha_s.later (id int)", user="app_alpha")
    with connector(server, "appdb_open") as conn:
        conn.execute("SELECT * FROM alpha_s.t_plain")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM alpha_s.later")
