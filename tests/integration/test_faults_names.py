# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that break naive quoting, for everything that has a name; the connector then works with what they name."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from tests.integration.product import ask, bootstrap, connector, database_of, succeeded
from tests.integration.test_faults_common import nothing_borrowed, unchanged
from tests.rig import ShapedServer, coverage

SECRET = "pw-N4mes'\"%s\\$1"
HOSTILE = {
    "double quote": 'a"b""c"',
    "single quote": "a'b''c'",
    "percent": "a%b%sc%(d)s%%",
    "semicolon": "a; DROP TABLE x;--",
    "unicode": "ünïcödé 数据库 🗝",
    "dollar": "$$a$b$ $1 ${c}",
    "backslash": "a\\b\\\\c\\'",
    "newline": "a\nb\r\n\tc",
    "braces": "{a} {0} {{b}}",
    "brackets": "[a] [!b] *?",
    "dots and spaces": " a.b . c ",
    "a word of SQL": "select",
    "colon": "appdb_hard: x",
    "comment": "/* a */ -- b",
}

Shaped = Callable[..., ShapedServer]

OBJECTS = (
    "CREATE SCHEMA {n}",
    "CREATE TABLE {n}.{n} ({n} int)",
    "CREATE SEQUENCE {n}.{sequence}",
    "CREATE VIEW {n}.{view} AS SELECT * FROM {n}.{n}",
    "CREATE DOMAIN {n}.{domain} AS int",
    "CREATE TYPE {n}.{enumeration} AS ENUM ({literal})",
    "CREATE FUNCTION {n}.{n} ({n} {n}.{domain}, {view} {n}.{enumeration}[]) RETURNS int LANGUAGE sql AS 'SELECT 7'",
    "CREATE PROCEDURE {n}.{procedure} (INOUT {n} {n}.{domain}) LANGUAGE sql AS 'SELECT 1'",
)


def parts(name: str) -> dict[str, sql.Composable]:
    """Return the names of one estate: all of them begin with the hostile one."""
    suffixes = ("sequence", "view", "domain", "enumeration", "procedure")
    return {
        "n": sql.Identifier(name),
        "literal": sql.Literal(name),
        **{suffix: sql.Identifier(f"{name} {suffix}") for suffix in suffixes},
    }


def estate(server: ShapedServer, name: str) -> None:
    """Make a role, and a database of that name with one object of each kind in it, all the role's."""
    names = parts(name)
    owner = sql.Identifier(f"owner {name}")
    with server.connect_admin() as conn:
        conn.execute(sql.SQL("CREATE ROLE {}").format(owner))
        conn.execute(sql.SQL("CREATE DATABASE {}").format(names["n"]))
    with server.connect(dbname=name) as conn:
        conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(names["n"], owner))
        conn.execute(sql.SQL("SET ROLE {}").format(owner))
        for template in OBJECTS:
            conn.execute(sql.SQL(template).format(**names))


def use(conn: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """Use one object of each kind, and pass one on."""
    names = parts(name)
    for template in (
        "INSERT INTO {n}.{n} VALUES (1)",
        "SELECT * FROM {n}.{view}",
        "SELECT nextval({sequence_name})",
        "SELECT {n}.{n} (1::{n}.{domain}, ARRAY[{literal}::{n}.{enumeration}])",
        "CALL {n}.{procedure} (1)",
        "CREATE TABLE {n}.{made} (x {n}.{domain})",
        "GRANT SELECT ON {n}.{n} TO pg_monitor",
    ):
        path = sql.SQL("{n}.{sequence}").format(**names).as_string(conn)
        conn.execute(sql.SQL(template).format(**names, sequence_name=path, made=sql.Identifier(f"{name} made")))


@pytest.fixture(scope="module")
def hostile(shaped_once: Shaped) -> ShapedServer:
    """Return a server with a database for each hostile name."""
    server = shaped_once(major=17, shape="rds")
    for name in HOSTILE.values():
        estate(server, name)
    return server


def test_every_hostile_name_is_covered_and_can_be_used(hostile: ShapedServer) -> None:
    planned = succeeded(bootstrap(hostile, check=True, diff=True))
    with nothing_borrowed(hostile):
        said = succeeded(bootstrap(hostile, connector_password=SECRET, diff=True))
    found = {name: database_of(said, name) for name in HOSTILE.values()}
    assert {
        name: (entry["reason"], entry["objects"], entry["covered"]) for name, entry in found.items()
    } == dict.fromkeys(HOSTILE.values(), (None, 9, 9))
    assert {entry["database"] for entry in planned["statements"]} >= set(HOSTILE.values())
    for name in HOSTILE.values():
        assert coverage(hostile, "apono_connector", name).grantable == 9
        with connector(hostile, name, password=SECRET) as conn:
            use(conn, name)
    assert len(ask(hostile, "SELECT FROM pg_database WHERE datname = 'appdb_open'")) == 1
    succeeded(bootstrap(hostile, connector_password=SECRET))
    with unchanged(hostile):
        again = succeeded(bootstrap(hostile, connector_password=SECRET))
    assert not again["changed"]
    assert again["statements"] == []


def test_the_sql_that_is_printed_for_an_owner_can_be_run_as_it_is(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    for name in HOSTILE.values():
        estate(server, name)
        with server.connect() as conn:
            query = sql.SQL("REVOKE {o} FROM cloudadmin GRANTED BY rdsadmin").format(o=sql.Identifier(f"owner {name}"))
            conn.execute(query)
    said = succeeded(bootstrap(server))
    for entry in said["uncovered"]:
        if entry["cause"] == "no_way" and entry["owner"].startswith("owner "):
            with server.connect(dbname=entry["database"]) as conn:
                conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(entry["owner"])))
                for statement in entry["sql"]:
                    conn.execute(statement.encode())
    for name in HOSTILE.values():
        assert coverage(server, "apono_connector", name).grantable == 9


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_connector_may_have_a_hostile_name(shaped_once: Shaped, name: str) -> None:
    server = shaped_once(major=17, shape="azure")
    options = {"connector": name, "connector_password": SECRET, "databases": ["locked_db", "admindb"]}
    said = succeeded(bootstrap(server, **options))
    assert said["connector"]["created"]
    assert said["connector"]["membership"]["granted"]
    with connector(server, "locked_db", name=name, password=SECRET) as conn:
        conn.execute("SELECT FROM locked_s.t_plain")
    with unchanged(server):
        assert not succeeded(bootstrap(server, **options, update_password="always"))["changed"]
    succeeded(bootstrap(server, connector=name, state="absent"))
    assert not ask(server, "SELECT FROM pg_roles WHERE rolname = %(name)s", name=name)


def test_patterns_and_excluded_schemas_may_name_hostile_things(hostile: ShapedServer) -> None:
    chosen = list(HOSTILE.values())
    said = succeeded(
        bootstrap(hostile, connector="other_connector", check=True, databases=chosen, exclude_schemas=chosen)
    )
    assert sorted(entry["name"] for entry in said["databases"]) == sorted(chosen)
    assert {entry["objects"] for entry in said["databases"]} == {1}


def test_databases_of_other_encodings_are_covered(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    with server.connect_admin() as conn:
        for name, encoding in (("ascii_db", "SQL_ASCII"), ("latin_db", "LATIN1")):
            conn.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0".encode())
    for name in ("ascii_db", "latin_db"):
        with server.connect_admin(dbname=name) as conn:
            conn.execute("SET client_encoding = utf8")
            conn.execute('CREATE SCHEMA "schéma"')
            conn.execute('CREATE TABLE "schéma"."täble" (id int)')
    said = succeeded(bootstrap(server, connector_password=SECRET))
    for name in ("ascii_db", "latin_db"):
        assert database_of(said, name)["reason"] is None
        assert database_of(said, name)["covered"] == 3
        with connector(server, name, password=SECRET) as conn:
            conn.execute("SET client_encoding = utf8")
            conn.execute('INSERT INTO "schéma"."täble" VALUES (1)')


def test_a_database_with_a_name_that_is_no_text_is_reported_and_stops_no_other(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    with server.connect_admin() as conn:
        conn.execute("CREATE DATABASE ascii_db ENCODING 'SQL_ASCII' TEMPLATE template0")
    with server.connect_admin(dbname="ascii_db") as conn:
        conn.execute(b'CREATE SCHEMA "sch\xe9ma"')
        conn.execute(b'CREATE TABLE "sch\xe9ma"."t\xe4ble" (id int)')
    said = succeeded(bootstrap(server))
    assert not database_of(said, "ascii_db")["reachable"]
    assert "invalid byte sequence" in database_of(said, "ascii_db")["reason"]
    assert any("ascii_db" in line for line in said["warnings"])
    assert database_of(said, "appdb_hard")["covered"] == 23
