# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people can do before, during and after their time: by logging in, and in every database of the server."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from tests.integration.access import (
    bootstrapped,
    expire,
    gets_in,
    grant,
    person,
    refusal,
    revoke,
    roles_of_ours,
    sweep,
)
from tests.integration.product import CONNECTOR, Log, ask, catalog, changes, next_xid, run_in, succeeded

if TYPE_CHECKING:
    import psycopg

    from tests.rig import Server, ShapedServer

Shaped = Callable[..., "ShapedServer"]
Gained = dict[str, set[tuple[str, str, str]]]
DENIED = "42501"
READ, WRITE = {"SELECT"}, {"SELECT", "INSERT", "UPDATE", "DELETE"}
NUMBERS = itertools.count()

# All that a role can do to the objects of a database, by the server's own words.
RIGHTS = """
SELECT 'schema', nspname::text, p FROM pg_namespace, unnest(ARRAY['USAGE', 'CREATE']) p
 WHERE nspname !~ '^pg_|^information_schema$' AND has_schema_privilege(%(role)s, oid, p)
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, relnamespace::regnamespace || '.' || relname, p
  FROM pg_class, unnest(CASE relkind WHEN 'S' THEN ARRAY['SELECT', 'UPDATE', 'USAGE'] ELSE {table} END) p
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
   AND CASE relkind WHEN 'S' THEN has_sequence_privilege(%(role)s, oid, p)
                    ELSE has_table_privilege(%(role)s, oid, p) END
UNION ALL
SELECT 'routine', oid::regprocedure::text, 'EXECUTE'
  FROM pg_proc
 WHERE pronamespace::regnamespace::text !~ '^pg_|^information_schema$'
   AND has_function_privilege(%(role)s, oid, 'EXECUTE')
UNION ALL
SELECT 'type', oid::regtype::text, 'USAGE' FROM pg_type
 WHERE typnamespace::regnamespace::text !~ '^pg_|^information_schema$' AND has_type_privilege(%(role)s, oid, 'USAGE')
UNION ALL
SELECT 'database', datname::text, p FROM pg_database, unnest(ARRAY['CONNECT', 'TEMP', 'CREATE']) p
 WHERE datname = current_database() AND has_database_privilege(%(role)s, oid, p)
"""


def rights(server: Server, role: str) -> Gained:
    """What a role can do, by database."""
    every = "SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
    query = RIGHTS.replace("{table}", f"ARRAY{sorted(all_of_a_table(server))}::text[]")
    return {name: set(ask(server, query, name, role=role)) for (name,) in ask(server, every)}


def gained(server: Server, role: str) -> Gained:
    """What a role can do and a login of nobody can't; nothing if there is no such role."""
    if not ask(server, "SELECT FROM pg_roles WHERE rolname = %(role)s", role=role):
        return {}
    run_in(server, "postgres", "CREATE ROLE nobody_at_all LOGIN")
    try:
        mine, everybodys = rights(server, role), rights(server, "nobody_at_all")
    finally:
        run_in(server, "postgres", "DROP ROLE nobody_at_all")
    return {name: extra for name, found in mine.items() if (extra := found - everybodys[name])}


def all_of_a_table(server: Server) -> set[str]:
    """Every privilege on a table that the version knows."""
    return {*WRITE, "TRUNCATE", "REFERENCES", "TRIGGER", *(["MAINTAIN"] if server.major >= 17 else [])}


def those(found: Gained, database: str, kind: str) -> dict[str, set[str]]:
    """The privileges by object of a kind."""
    by_name: dict[str, set[str]] = {}
    for one, name, privilege in found.get(database, set()):
        if one == kind:
            by_name.setdefault(name, set()).add(privilege)
    return by_name


def relations(server: Server, database: str, schema: str, kinds: str) -> set[str]:
    """The names of a schema's relations of these kinds."""
    query = """
        SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
         WHERE relnamespace = %(schema)s::regnamespace AND strpos(%(kinds)s, relkind) > 0
        """
    return {row[0] for row in ask(server, query, database, schema=schema, kinds=kinds)}


@pytest.fixture(scope="module")
def ready(shaped_once: Shaped) -> Shaped:
    """Return servers that are bootstrapped once."""
    done: set[int] = set()

    def get(**options: Any) -> ShapedServer:
        server = shaped_once(**options)
        if server.port not in done:
            bootstrapped(server)
            done.add(server.port)
        return server

    return get


@pytest.fixture
def server(ready: Shaped, major: int, shape: str) -> ShapedServer:
    """Return a server that other tests of this file use too."""
    return ready(major=major, shape=shape)


@pytest.fixture
def who() -> str:
    """Return a person and a request of this test's own."""
    return f"person-{next(NUMBERS)}@example.org"


# ------------------------------------------------------------------ what each permission gives
@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked for, and what may then be done in the schema: privileges by kind, and statements."""

    asked: dict[str, Any]
    schema: str
    tables: set[str] | None
    sequences: set[str]
    in_schema: set[str]
    only: str | None = None
    allowed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        """Where."""
        return str(self.asked["database"])


SELECT, LAST = "SELECT count(*) FROM {s}.t_plain", "SELECT last_value FROM {s}.t_plain_id_seq"
INSERT, UPDATE = "INSERT INTO {s}.t_plain (v) VALUES ('x')", "UPDATE {s}.t_plain SET v = 'y'"
DELETE, TRUNCATE = "DELETE FROM {s}.t_plain", "TRUNCATE {s}.t_unlogged"
CREATE, VIEW = "CREATE TABLE {s}.mine (id int)", "SELECT count(*) FROM {s}.v_plain"
NEW_SCHEMA = "CREATE SCHEMA mine"
# Nobody gets these by any permission.
NEVER = (
    "ALTER TABLE {s}.t_plain ADD COLUMN mine int",
    "DROP TABLE {s}.t_unlogged",
    "CREATE INDEX ON {s}.t_plain (v)",
    "ALTER TABLE {s}.t_rls DISABLE ROW LEVEL SECURITY",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER SCHEMA {s} RENAME TO mine",
    "GRANT latchkey_managed TO CURRENT_USER",
)
CASES = {
    "READ_ONLY on a database": Case(
        asked={"database": "admindb", "permission": "READ_ONLY"},
        schema="admin_s",
        tables=READ,
        sequences=READ,
        in_schema={"USAGE"},
        allowed=(SELECT, VIEW, LAST),
        refused=(INSERT, UPDATE, DELETE, TRUNCATE, CREATE, NEW_SCHEMA, "SELECT nextval('{s}.t_plain_id_seq')"),
    ),
    "READ_ONLY on schemas": Case(
        asked={"database": "appdb_open", "permission": "READ_ONLY", "schemas": ["alph?_s"]},
        schema="alpha_s",
        tables=READ,
        sequences=READ,
        in_schema={"USAGE"},
        allowed=(SELECT, VIEW, LAST),
        refused=(INSERT, UPDATE, DELETE, TRUNCATE, CREATE, NEW_SCHEMA, "SELECT 1 FROM beta_s.t_plain"),
    ),
    "READ_WRITE on schemas": Case(
        asked={"database": "appdb_open", "permission": "READ_WRITE", "schemas": ["alpha_s"]},
        schema="alpha_s",
        tables=WRITE,
        sequences={"SELECT", "UPDATE", "USAGE"},
        in_schema={"USAGE"},
        allowed=(SELECT, VIEW, INSERT, UPDATE, DELETE, LAST, "CREATE TEMP TABLE mine (id int)"),
        refused=(TRUNCATE, CREATE, NEW_SCHEMA, "UPDATE beta_s.t_plain SET v = 'y'"),
    ),
    "ADMIN on schemas": Case(
        asked={"database": "appdb_open", "permission": "ADMIN", "schemas": ["alpha_s"]},
        schema="alpha_s",
        tables=None,
        sequences={"SELECT", "UPDATE", "USAGE"},
        in_schema={"USAGE", "CREATE"},
        allowed=(SELECT, INSERT, UPDATE, DELETE, TRUNCATE),
        refused=(NEW_SCHEMA, "TRUNCATE beta_s.t_unlogged"),
    ),
    "READ_WRITE on tables": Case(
        asked={"database": "appdb_open", "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_pl*"]},
        schema="alpha_s",
        tables=WRITE,
        sequences={"SELECT", "UPDATE", "USAGE"},
        in_schema={"USAGE"},
        only="t_plain",
        allowed=(SELECT, INSERT, UPDATE, DELETE, LAST),
        refused=(VIEW, TRUNCATE, CREATE, "SELECT 1 FROM beta_s.t_plain", "SELECT last_value FROM {s}.s_free"),
    ),
    "ADMIN on tables": Case(
        asked={"database": "appdb_open", "permission": "ADMIN", "schemas": ["alpha_s"], "tables": ["t_plain"]},
        schema="alpha_s",
        tables=None,
        sequences={"SELECT", "UPDATE", "USAGE"},
        in_schema={"USAGE"},
        only="t_plain",
        allowed=(SELECT, INSERT, UPDATE, DELETE, "TRUNCATE {s}.t_plain"),
        refused=(VIEW, TRUNCATE, CREATE, NEW_SCHEMA, "TRUNCATE beta_s.t_plain"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_permission_gives_what_it_says_for_its_time_and_nothing_else_anywhere(
    server: ShapedServer, who: str, name: str
) -> None:
    case = CASES[name]
    login = names.login_role(who)
    assert gained(server, login) == {}
    said = succeeded(grant(server, who, who, access=[case.asked]))
    assert [item["status"] for item in said["items"]] == ["granted"]
    assert gets_in(server, said, case.database)
    assert_holds(server, gained(server, login), case)
    with person(server, said, case.database) as session:
        for text in case.allowed:
            assert refusal(session, text.format(s=case.schema)) is None, text
        for text in (*case.refused, *NEVER):
            assert refusal(session, text.format(s=case.schema)) == DENIED, text
        assert_cannot_become_another(server, session)
        with person(server, said, "postgres") as elsewhere:
            assert refusal(elsewhere, "SELECT count(*) FROM latchkey.journal") == DENIED
        succeeded(revoke(server, who))
        assert refusal(session, SELECT.format(s=case.schema)) is not None
    assert not gets_in(server, said, case.database)
    assert gained(server, login) == {}


def assert_holds(server: Server, found: Gained, case: Case) -> None:
    """See that it is what the case says, and that in no other schema or database there is anything."""
    tables = all_of_a_table(server) if case.tables is None else case.tables
    whole = "schemas" not in case.asked
    expected: dict[str, dict[str, set[str]]] = {"table": {}, "sequence": {}, "schema": {}}
    for schema in ("public", case.schema) if whole else (case.schema,):
        named = {f"{schema}.{case.only}"} if case.only else relations(server, case.database, schema, "rpvmf")
        owned = {f"{schema}.{case.only}_id_seq"} if case.only else relations(server, case.database, schema, "S")
        expected["table"].update(dict.fromkeys(named, tables))
        expected["sequence"].update(dict.fromkeys(owned, case.sequences))
    expected["schema"][case.schema] = case.in_schema
    assert set(found) == {case.database}
    held = {kind: those(found, case.database, kind) for kind in ("table", "sequence", "schema")}
    held["schema"].pop("public", None)
    assert held == expected
    assert those(found, case.database, "database") == {}


def assert_cannot_become_another(server: ShapedServer, session: psycopg.Connection[Any]) -> None:
    """From 16 on nobody can step into a role of ours, where rights would outlive their end."""
    for role in (*roles_of_ours(server), "latchkey_managed", CONNECTOR, server.admin):
        me = session.info.user
        if role == me or (server.major < 16 and role.startswith("latchkey_")):
            continue
        assert refusal(session, f'SET ROLE "{role}"') == DENIED, role


def test_admin_on_a_database_may_also_make_schemas_there_and_nowhere_else(server: ShapedServer, who: str) -> None:
    said = succeeded(grant(server, who, who, access=[{"database": "admindb", "permission": "ADMIN"}]))
    found = gained(server, said["login"])
    assert set(found) == {"admindb"}
    assert those(found, "admindb", "database") == {"admindb": {"CREATE"}}
    assert those(found, "admindb", "schema")["admin_s"] == {"USAGE", "CREATE"}
    with person(server, said, "admindb") as session:
        for text in ("CREATE SCHEMA theirs", "CREATE TABLE theirs.one (id int)", "CREATE TABLE admin_s.one (id int)"):
            assert refusal(session, text) is None, text
        for text in NEVER:
            assert refusal(session, text.format(s="admin_s")) == DENIED, text
    with person(server, said) as session:
        assert refusal(session, "CREATE SCHEMA theirs") == DENIED
    run_in(server, "admindb", "DROP SCHEMA theirs CASCADE", "DROP TABLE admin_s.one")
    succeeded(revoke(server, who))
    assert gained(server, said["login"]) == {}


def test_execute_on_routines_by_pattern_gives_those_routines(server: ShapedServer, who: str) -> None:
    asked = {"database": "appdb_hard", "permission": "EXECUTE", "schemas": ["hard_s"], "routines": ["f_a*", "p_noop"]}
    said = succeeded(grant(server, who, who, access=[asked]))
    found = gained(server, said["login"])
    assert set(found) == {"appdb_hard"}
    assert set(those(found, "appdb_hard", "routine")) == {
        "hard_s.f_add(integer,integer)",
        "hard_s.f_add(text,text)",
        "hard_s.p_noop(integer)",
    }
    assert {kind for kind, *_rest in found["appdb_hard"]} == {"routine"}
    with person(server, said, "appdb_hard") as session:
        assert refusal(session, "SELECT hard_s.f_add(1, 2), hard_s.f_add('a', 'b')") is None
        assert refusal(session, "CALL hard_s.p_noop(1)") is None
        for text in ("SELECT hard_s.f_secdef()", "SELECT hard_s.a_sum(1)", "SELECT 1 FROM hard_s.t_plain"):
            assert refusal(session, text) == DENIED, text
        succeeded(revoke(server, who))
        assert refusal(session, "SELECT hard_s.f_add(1, 2)") is not None
    assert gained(server, said["login"]) == {}


# ------------------------------------------------------------------ tables that come later
@pytest.mark.parametrize("next_step", ["grant", "sweep"])
def test_new_tables_join_at_once_or_when_the_answer_says(server: ShapedServer, who: str, next_step: str) -> None:
    said = succeeded(grant(server, who, who))
    later = said["items"][0]["later"]
    if server.major < 16:
        assert later == []
    for creator in ("app_alpha", "app_beta"):
        table = f"alpha_s.new_{next(NUMBERS)}"
        run_in(server, "appdb_open", f"CREATE TABLE {table} (id serial)", user=creator)
        with person(server, said) as session:
            readable = refusal(session, f"SELECT count(*) FROM {table}") is None
            assert readable is (creator not in later), (creator, later)
            if next_step == "grant":
                succeeded(grant(server, f"{who} 2", f"other-{who}"))
            else:
                succeeded(sweep(server))
            assert refusal(session, f"SELECT count(*) FROM {table}") is None
            assert refusal(session, f"SELECT last_value FROM {table}_id_seq") is None
            assert refusal(session, f"DELETE FROM {table}") == DENIED
        run_in(server, "appdb_open", f"DROP TABLE {table}")


def test_a_new_table_that_a_pattern_means_joins_later_and_the_answer_says_so(server: ShapedServer, who: str) -> None:
    table = f"alpha_s.pat_{next(NUMBERS)}"
    run_in(server, "appdb_open", f"CREATE TABLE {table}a (id int)", user="app_alpha")
    asked = {"database": "appdb_open", "permission": "READ_ONLY", "schemas": ["alpha_s"], "tables": ["pat_*"]}
    said = succeeded(grant(server, who, who, access=[asked]))
    assert "app_alpha" in said["items"][0]["later"]
    run_in(server, "appdb_open", f"CREATE TABLE {table}b (id int)", user="app_alpha")
    with person(server, said) as session:
        assert refusal(session, f"SELECT 1 FROM {table}a") is None
        assert refusal(session, f"SELECT 1 FROM {table}b") == DENIED
        succeeded(sweep(server))
        assert refusal(session, f"SELECT 1 FROM {table}b") is None
    run_in(server, "appdb_open", f"DROP TABLE {table}a, {table}b")


# ------------------------------------------------------------------ several requests, again, longer
def test_the_same_request_again_and_check_mode_write_nothing(server: ShapedServer, who: str) -> None:
    asked = {"access": [{"database": "appdb_open", "permission": "READ_WRITE", "schemas": ["hyb_s"]}]}
    before, xid = catalog(server), next_xid(server)
    planned = succeeded(grant(server, who, who, check=True, **asked))
    assert planned["changed"]
    assert changes(before, catalog(server)) == []
    assert next_xid(server) == xid
    done = succeeded(grant(server, who, who, **asked))
    assert done["changed"]
    during, xid = catalog(server), next_xid(server)
    for check in (False, True):
        again = succeeded(grant(server, who, who, check=check, **asked))
        assert (again["changed"], again["statements"], again["password"]) == (False, [], None)
        assert again["expires_at"] == done["expires_at"]
    succeeded(revoke(server, who, check=True))
    assert next_xid(server) == xid
    assert changes(during, catalog(server)) == []
    succeeded(revoke(server, who))
    xid = next_xid(server)
    assert succeeded(revoke(server, who))["changed"] is False
    succeeded(sweep(server))
    xid = next_xid(server)
    swept = succeeded(sweep(server))
    assert swept["changed"] is False
    assert next_xid(server) == xid


def test_a_longer_duration_counts_from_the_first_grant_and_a_shorter_changes_nothing(
    server: ShapedServer, who: str
) -> None:
    first = succeeded(grant(server, who, who, duration="1h"))
    with person(server, first) as session:
        longer = succeeded(grant(server, who, who, duration="2h"))
        assert (longer["changed"], longer["password"]) == (True, None)
        assert refusal(session, "SELECT count(*) FROM alpha_s.t_plain") is None
    ends = "SELECT rolvaliduntil FROM pg_roles WHERE rolname IN (%(g)s, %(u)s)"
    found = ask(server, ends, g=names.grant_role(who), u=first["login"])
    assert len(set(found)) == 1
    start = (
        "SELECT (shobj_description(oid, 'pg_authid')::json->>'start')::timestamptz FROM pg_roles WHERE rolname = %(g)s"
    )
    began = ask(server, start, g=names.grant_role(who))[0][0]
    assert (found[0][0] - began).total_seconds() == 7200
    shorter = succeeded(grant(server, who, who, duration="30m"))
    assert (shorter["changed"], shorter["expires_at"]) == (False, longer["expires_at"])
    assert gets_in(server, first)
    succeeded(revoke(server, who))


def test_two_requests_of_one_person_end_each_by_itself(server: ShapedServer, who: str) -> None:
    other = [{"database": "admindb", "permission": "READ_WRITE"}]
    first = succeeded(grant(server, f"{who} a", who, duration="3h"))
    second = succeeded(grant(server, f"{who} b", who, access=other, duration="1h"))
    assert (second["login"], second["password"]) == (first["login"], None)
    end = "SELECT rolvaliduntil FROM pg_roles WHERE rolname = %(role)s"
    assert ask(server, end, role=first["login"]) == ask(server, end, role=names.grant_role(f"{who} a"))
    with person(server, first) as session:
        said = succeeded(revoke(server, f"{who} a"))
        assert said["fenced"] == []
        assert refusal(session, "SELECT 1 FROM alpha_s.t_plain") is not None
    assert set(gained(server, first["login"])) == {"admindb"}
    assert ask(server, end, role=first["login"]) == ask(server, end, role=names.grant_role(f"{who} b"))
    with person(server, first, "admindb") as session:
        assert refusal(session, INSERT.format(s="admin_s")) is None
        said = succeeded(revoke(server, f"{who} b"))
        assert said["fenced"] == [first["login"]]
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(server, first)


# ------------------------------------------------------------------ logins and roles that are there
ROW = "SELECT to_jsonb(a)::text FROM pg_authid a WHERE rolname = %(role)s"
SET_BY_HAND = "SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = %(role)s::regrole"


@pytest.mark.parametrize("end", ["revoke", "sweep"])
def test_an_existing_login_gets_a_membership_and_stays_as_it_was(server: ShapedServer, who: str, end: str) -> None:
    login = f"Theirs {next(NUMBERS)}"
    run_in(
        server,
        "postgres",
        f"CREATE ROLE \"{login}\" LOGIN PASSWORD 'own-Secret' CONNECTION LIMIT 7 VALID UNTIL '2099-01-01'",
        f"ALTER ROLE \"{login}\" SET work_mem = '5MB'",
    )
    row, settings = ask(server, ROW, role=login), ask(server, SET_BY_HAND, role=f'"{login}"')
    said = succeeded(grant(server, who, login, login="existing"))
    assert (said["login"], "password" in said) == (login, False)
    assert set(gained(server, login)) == {"appdb_open"}
    mine = {"login": login, "password": "own-Secret"}
    with person(server, mine) as session:
        assert refusal(session, "SELECT count(*) FROM alpha_s.t_plain") is None
        assert refusal(session, "DELETE FROM alpha_s.t_plain") == DENIED
        if end == "revoke":
            succeeded(revoke(server, who))
        else:
            expire(server, who)
            succeeded(sweep(server, cleanup_after_days=0, gone=[login]))
        assert refusal(session, "SELECT count(*) FROM alpha_s.t_plain") == "57P01"
    with person(server, mine) as session:
        assert refusal(session, "SELECT count(*) FROM alpha_s.t_plain") == DENIED
    assert gained(server, login) == {}
    assert ask(server, ROW, role=login) == row
    assert ask(server, SET_BY_HAND, role=f'"{login}"') == settings
    assert not ask(server, "SELECT FROM pg_auth_members WHERE member = %(role)s::regrole", role=f'"{login}"')
    run_in(server, "postgres", f'DROP ROLE "{login}"')


def test_a_role_item_gives_membership_and_no_way_to_become_or_pass_it_on(server: ShapedServer, who: str) -> None:
    role = f"reporting {next(NUMBERS)}"
    run_in(server, "postgres", f'CREATE ROLE "{role}" NOLOGIN', user=server.admin)
    run_in(
        server,
        "appdb_open",
        f'GRANT USAGE ON SCHEMA gamma_s TO "{role}"',
        f'GRANT SELECT ON gamma_s.t_plain TO "{role}"',
    )
    bootstrapped(server, grantable_roles=[role])
    said = succeeded(grant(server, who, who, access=[{"role": role}]))
    assert said["database"] == "postgres"
    assert gained(server, said["login"]) == gained(server, role)
    with person(server, said) as session:
        assert refusal(session, "SELECT count(*) FROM gamma_s.t_plain") is None
        assert refusal(session, f'GRANT "{role}" TO app_beta') == DENIED
        if server.major >= 16:
            assert refusal(session, f'SET ROLE "{role}"') == DENIED
        succeeded(revoke(server, who))
        assert refusal(session, "SELECT count(*) FROM gamma_s.t_plain") is not None
    assert gained(server, said["login"]) == {}
    assert len(ask(server, "SELECT FROM pg_roles WHERE rolname = %(role)s", role=role)) == 1
    run_in(server, "appdb_open", f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


def test_a_session_that_has_stepped_into_a_role_is_ended_even_if_another_request_lasts(
    server: ShapedServer, who: str
) -> None:
    first = succeeded(grant(server, f"{who} a", who))
    succeeded(grant(server, f"{who} b", who, access=[{"database": "admindb", "permission": "READ_ONLY"}]))
    profile = first["items"][0]["role"]
    with person(server, first) as session:
        stepped = refusal(session, f"SET ROLE {profile}")
        assert stepped == (DENIED if server.major >= 16 else None)
        succeeded(revoke(server, f"{who} a"))
        assert refusal(session, "SELECT count(*) FROM alpha_s.t_plain") == (DENIED if stepped else "57P01")
    succeeded(revoke(server, f"{who} b"))


# ------------------------------------------------------------------ what time ends
def test_a_sweep_ends_what_has_expired_and_after_all_the_catalog_is_as_before(server: ShapedServer, who: str) -> None:
    everything = {"cleanup_after_days": 0, "profile_retention_days": 0}
    succeeded(sweep(server, **everything))
    before, standing = catalog(server), roles_of_ours(server)
    asked = [
        {"database": "appdb_open", "permission": "ADMIN", "schemas": ["admin_s"]},
        {"database": "admindb", "permission": "READ_WRITE"},
        {"database": "appdb_hard", "permission": "EXECUTE"},
        {"database": "appdb_open", "permission": "READ_ONLY", "schemas": ["*_s"], "tables": ["t_p*", "v_plain"]},
    ]
    said = succeeded(grant(server, who, who, access=asked, allow_partial=True))
    lasting = succeeded(grant(server, f"lasting {who}", f"lasting {who}"))
    profiles = {name for name in roles_of_ours(server) - standing if name.startswith("latchkey_p_")}
    assert len(profiles) >= len(asked)
    expire(server, who)
    with person(server, said) as session, person(server, lasting) as other:
        assert set(gained(server, said["login"])) == {"appdb_open", "admindb", "appdb_hard"}
        swept = succeeded(sweep(server))
        assert (swept["ended"], swept["fenced"]) == ([who], [said["login"]])
        assert refusal(session, "SELECT 1") == "57P01"
        assert refusal(other, "SELECT count(*) FROM alpha_s.t_plain") is None
    assert not gets_in(server, said)
    assert gained(server, said["login"]) == {}
    succeeded(revoke(server, f"lasting {who}"))
    swept = succeeded(sweep(server, **everything))
    assert swept["dropped"] == sorted([said["login"], lasting["login"]])
    assert set(swept["profiles_dropped"]) == profiles
    assert changes(before, catalog(server)) == []
    xid = next_xid(server)
    assert succeeded(sweep(server, **everything))["changed"] is False
    assert next_xid(server) == xid


def test_no_acl_grows_with_the_number_of_people(server: ShapedServer, who: str) -> None:
    acls = """
        SELECT 'r', oid, relacl::text FROM pg_class UNION ALL SELECT 'n', oid, nspacl::text FROM pg_namespace
         UNION ALL SELECT 'd', oid, datacl::text FROM pg_database UNION ALL SELECT 'p', oid, proacl::text FROM pg_proc
         UNION ALL SELECT 'a', oid, defaclacl::text FROM pg_default_acl
        """
    succeeded(grant(server, f"{who} first", who))
    before = sorted(ask(server, acls, "appdb_open"), key=repr)
    for number in range(20):
        succeeded(grant(server, f"{who} {number}", f"{number}-{who}"))
    assert sorted(ask(server, acls, "appdb_open"), key=repr) == before
    succeeded(sweep(server, gone=[who, *(f"{number}-{who}" for number in range(20))]))


# ------------------------------------------------------------------ what check mode says is what is sent
WRITES = re.compile(r"(CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT|INSERT|UPDATE|DELETE|TRUNCATE|REASSIGN)\b", re.IGNORECASE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ][0-9:.]+(\+00:00)?")
VERIFIER = re.compile(r"SCRAM-SHA-256\$[^']+")
SEEN = re.compile(r'"seen": "[^"]+"')  # names objects by numbers that they have only when they are made
BORROWED = re.compile(r'(GRANT|REVOKE) "[^"]+" (TO|FROM) "apono_connector"')


def sent(log: Log) -> list[str]:
    """What was sent that writes."""
    return writes(part.strip() for text in log.statements() for part in text.split(";"))


def writes(statements: Iterable[str]) -> list[str]:
    """Those that write; without moments, verifiers and memberships that are given back at once."""
    return [without_secrets(one) for one in statements if WRITES.match(one) and not BORROWED.match(one)]


def without_secrets(text: str) -> str:
    """Leave out what no two runs have in common."""
    return " ".join(SEEN.sub("<seen>", MOMENT.sub("<moment>", VERIFIER.sub("********", text))).split())


@pytest.fixture
def logged(shaped: Shaped, major: int, shape: str) -> ShapedServer:
    """Return a bootstrapped server that logs every statement."""
    server = shaped(major=major, shape=shape, settings={"log_statement": "all"})
    bootstrapped(server)
    return server


def test_check_mode_says_what_is_then_sent(logged: ShapedServer, who: str) -> None:
    def compared(run: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> None:
        log = Log(logged)
        planned = succeeded(run(logged, *arguments, check=True, **options))
        assert sent(log) == []
        log = Log(logged)
        done = succeeded(run(logged, *arguments, **options))
        expected = writes(planned["statements"])
        assert writes(done["statements"]) == expected
        assert sent(log) == expected

    compared(grant, who, who)
    compared(grant, who, who, duration="2h")
    compared(grant, f"{who} 2", who, access=[{"database": "admindb", "permission": "READ_ONLY"}])
    compared(revoke, who)
    compared(revoke, f"{who} 2")
