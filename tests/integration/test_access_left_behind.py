# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people leave behind on a server, and what becomes of it when their login is removed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from tests.integration.access import DATABASE, bootstrapped, expire, gets_in, grant, person, refusal, revoke, sweep
from tests.integration.product import ask, catalog, changes, run_in, succeeded

if TYPE_CHECKING:
    from tests.rig import Server, ShapedServer

Shaped = Callable[..., "ShapedServer"]
NUMBERS = itertools.count()
HEIR, GRAVEYARD = "heir_of_theirs", "latchkey_graveyard"
# Who may make tables in two databases.
MAKER = [
    {"database": "admindb", "permission": "ADMIN"},
    {"database": DATABASE, "permission": "ADMIN", "schemas": ["alpha_s"]},
]
NOW = {"cleanup_after_days": 0}


@pytest.fixture(scope="module")
def ready(shaped_once: Shaped) -> Shaped:
    """Return servers that are bootstrapped once, and know prepared transactions."""
    done: set[int] = set()

    def get(**options: Any) -> ShapedServer:
        server = shaped_once(**options)
        if server.port not in done:
            server.restart(max_prepared_transactions=5)
            run_in(server, "postgres", f"CREATE ROLE {HEIR}", user=server.admin)
            bootstrapped(server, grantable_roles=[HEIR])
            done.add(server.port)
        return server

    return get


@pytest.fixture
def server(ready: Shaped, major: int) -> Iterator[ShapedServer]:
    """Return a server that other tests of this file use too; all that the connector borrows of them is given back."""
    found = ready(major=major, shape="rds")
    lasting = "SELECT m::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = roleid"
    lasting += " WHERE member = 'apono_connector'::regrole AND rolname !~ '^left_|^latchkey_[gp]_'"
    before = sorted(ask(found, lasting))
    yield found
    assert sorted(ask(found, lasting)) == before


@pytest.fixture
def who() -> str:
    """Return a person and a request of this test's own."""
    return f"left-{next(NUMBERS)}@example.org"


def made(server: ShapedServer, who: str, **by_database: tuple[str, ...]) -> dict[str, Any]:
    """Give access, let the person run these statements, and revoke it; return the answer to the grant."""
    said = succeeded(grant(server, who, who, access=MAKER))
    for database, commands in by_database.items():
        with person(server, said, database) as session:
            for command in commands:
                session.execute(command.encode())
    return said


def ended(server: ShapedServer, who: str) -> None:
    """Revoke, and see that nobody gets in."""
    succeeded(revoke(server, who))


def owner(server: Server, database: str, table: str) -> str | None:
    """Who owns a relation; None if there is none."""
    query = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass(%(table)s)"
    rows = ask(server, query, database, table=table)
    return rows[0][0] if rows else None


def there(server: Server, role: str) -> bool:
    """Whether the server has the role."""
    return bool(ask(server, "SELECT FROM pg_roles WHERE rolname = %(role)s", role=role))


def reason(said: dict[str, Any], role: str) -> str:
    """Why a role was not dropped."""
    (found,) = [entry["reason"] for entry in said["blocked"] if entry["role"] == role]
    return str(found)


def tidy(server: Server, role: str, *databases: str) -> None:
    """Remove a person with all objects, as the superuser."""
    for database in databases or ("admindb", DATABASE):
        run_in(server, database, f"DROP OWNED BY {role} CASCADE")
    run_in(server, "postgres", f"DROP ROLE {role}")


TABLE = "CREATE TABLE {s}.left_{n} (id int PRIMARY KEY, v text)"


def tables(number: int) -> dict[str, tuple[str, ...]]:
    """A table with a row in each of two databases."""
    rows = "INSERT INTO {s}.left_{n} VALUES (1, 'kept')"
    return {
        database: tuple(text.format(s=schema, n=number) for text in (TABLE, rows))
        for database, schema in (("admindb", "admin_s"), (DATABASE, "alpha_s"))
    }


# ------------------------------------------------------------------ the policies
def test_keep_leaves_everything_and_says_what_and_where(server: ShapedServer, who: str) -> None:
    number = next(NUMBERS)
    said = made(server, who, **tables(number))
    ended(server, who)
    for _attempt in range(2):
        swept = succeeded(sweep(server, **NOW))
        assert said["login"] not in swept["dropped"]
        assert f"left_{number} in database admindb" in reason(swept, said["login"])
        assert "Choose another policy in owned_objects" in reason(swept, said["login"])
    assert owner(server, "admindb", f"admin_s.left_{number}") == said["login"]
    assert owner(server, DATABASE, f"alpha_s.left_{number}") == said["login"]
    assert not gets_in(server, said)
    tidy(server, said["login"])


def test_tables_in_two_databases_go_to_the_graveyard_with_their_rows(server: ShapedServer, who: str) -> None:
    number = next(NUMBERS)
    said = made(server, who, **tables(number))
    ended(server, who)
    swept = succeeded(sweep(server, owned_objects="graveyard", **NOW))
    assert said["login"] in swept["dropped"]
    for database, table in (("admindb", f"admin_s.left_{number}"), (DATABASE, f"alpha_s.left_{number}")):
        assert owner(server, database, table) == GRAVEYARD
        assert ask(server, f"SELECT v FROM {table}", database) == [("kept",)]
        run_in(server, database, f"DROP TABLE {table}")
    assert not ask(server, f"SELECT FROM pg_auth_members WHERE roleid = '{GRAVEYARD}'::regrole AND NOT admin_option")


NOT_INERT = {
    "trigger": (
        "CREATE FUNCTION admin_s.f_{n}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER t BEFORE INSERT ON admin_s.left_{n} FOR EACH ROW EXECUTE FUNCTION admin_s.f_{n}()",
    ),
    "function": ("CREATE FUNCTION admin_s.f_{n}() RETURNS int LANGUAGE sql AS 'SELECT 1'",),
    "default": ("ALTER TABLE admin_s.left_{n} ALTER v SET DEFAULT 'x'",),
    "serial": ("ALTER TABLE admin_s.left_{n} ADD COLUMN s serial",),
    "check": ("ALTER TABLE admin_s.left_{n} ADD CHECK (v <> '')",),
    "index": ("CREATE INDEX ON admin_s.left_{n} (lower(v))",),
    "view": ("CREATE VIEW admin_s.v_{n} AS SELECT 1 AS x",),
    "domain": ("CREATE DOMAIN admin_s.d_{n} AS text", "ALTER TABLE admin_s.left_{n} ADD COLUMN d admin_s.d_{n}"),
    "rule": ("CREATE RULE r AS ON DELETE TO admin_s.left_{n} DO INSTEAD NOTHING",),
    "row security": ("ALTER TABLE admin_s.left_{n} ENABLE ROW LEVEL SECURITY",),
    "schema": ("CREATE SCHEMA schema_{n}",),
}


@pytest.mark.parametrize("kind", NOT_INERT)
def test_what_could_run_code_of_theirs_does_not_change_hands(ready: Shaped, who: str, kind: str) -> None:
    server, number = ready(major=17, shape="rds"), next(NUMBERS)
    table = TABLE.format(s="admin_s", n=number)
    said = made(server, who, admindb=(table, *(text.format(n=number) for text in NOT_INERT[kind])))
    ended(server, who)
    swept = succeeded(sweep(server, owned_objects="graveyard", **NOW))
    assert "could run code of theirs as its next owner" in reason(swept, said["login"])
    assert owner(server, "admindb", f"admin_s.left_{number}") == said["login"]
    swept = succeeded(sweep(server, owned_objects="drop", confirm_drop=[who], **NOW))
    assert said["login"] in swept["dropped"]
    assert owner(server, "admindb", f"admin_s.left_{number}") is None


@pytest.mark.parametrize("heir", ["cloudadmin", "apono_connector", "pg_write_server_files", "latchkey_graveyard"])
def test_nobody_with_power_inherits(server: ShapedServer, heir: str) -> None:
    """Their objects may hold code, which would run with the rights of whoever uses them as an owner."""
    said = sweep(server, owned_objects="reassign_to", reassign_to=heir)
    assert f"reassign_to: role '{heir}' can't be used: it " in said["msg"]
    assert "give a role that holds privileges on data alone" in said["msg"]


def test_an_heir_that_is_not_there_keeps_what_is_owned_and_stops_no_end(server: ShapedServer, who: str) -> None:
    number = next(NUMBERS)
    owning = made(server, who, **tables(number))
    ended(server, who)
    said = succeeded(grant(server, f"{who} 2", f"2-{who}"))
    expire(server, f"{who} 2")
    swept = sweep(server, owned_objects="reassign_to", reassign_to="no_heir", **NOW)
    assert "reassign_to: role 'no_heir' can't be used: " in swept["msg"]
    assert swept["error_kind"] == "invalid_option"
    assert swept["ended"] == [f"{who} 2"]
    assert not gets_in(server, said)
    assert owner(server, "admindb", f"admin_s.left_{number}") == owning["login"]
    tidy(server, owning["login"])


def test_everything_goes_to_the_heir(server: ShapedServer, who: str) -> None:
    number = next(NUMBERS)
    mine = tables(number)
    more = (
        f"CREATE FUNCTION admin_s.f_{number}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"CREATE VIEW admin_s.v_{number} AS SELECT 1 AS x",
        f"CREATE SCHEMA schema_{number}",
    )
    said = made(server, who, **{**mine, "admindb": (*mine["admindb"], *more)})
    ended(server, who)
    # PostgreSQL's own rule: who gets a function or a schema must be allowed to make one there.
    swept = succeeded(sweep(server, owned_objects="reassign_to", reassign_to=HEIR, **NOW))
    assert "permission denied for" in reason(swept, said["login"])
    may_make = (f"GRANT CREATE ON SCHEMA admin_s TO {HEIR}", f"GRANT CREATE ON DATABASE admindb TO {HEIR}")
    run_in(server, "admindb", *may_make)
    swept = succeeded(sweep(server, owned_objects="reassign_to", reassign_to=HEIR, **NOW))
    assert said["login"] in swept["dropped"], swept["blocked"]
    for database, name in (
        ("admindb", f"admin_s.left_{number}"),
        ("admindb", f"admin_s.v_{number}"),
        (DATABASE, f"alpha_s.left_{number}"),
    ):
        assert owner(server, database, name) == HEIR
    for database in ("admindb", DATABASE):
        run_in(server, database, f"DROP OWNED BY {HEIR} CASCADE")
    assert not ask(server, f"SELECT FROM pg_auth_members WHERE roleid = '{HEIR}'::regrole AND NOT admin_option")


@pytest.mark.parametrize("more", [(), tables(9000)["admindb"]])
def test_a_database_of_theirs_stays_or_goes_to_the_heir(server: ShapedServer, who: str, more: tuple[str, ...]) -> None:
    database = f"theirs_{next(NUMBERS)}"
    said = made(server, who, admindb=more)
    run_in(server, "postgres", f"CREATE DATABASE {database} OWNER {said['login']}")
    ended(server, who)
    for policy in ({"owned_objects": "graveyard"}, {"owned_objects": "drop", "confirm_drop": [who]}):
        swept = succeeded(sweep(server, **policy, **NOW))
        assert f"it owns database {database}" in reason(swept, said["login"])
    swept = succeeded(sweep(server, owned_objects="reassign_to", reassign_to=HEIR, **NOW))
    assert said["login"] in swept["dropped"], swept["blocked"]
    its = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %(database)s"
    assert ask(server, its, database=database) == [(HEIR,)]
    run_in(server, "postgres", f"DROP DATABASE {database}")
    run_in(server, "admindb", f"DROP OWNED BY {HEIR} CASCADE")


def test_drop_takes_objects_only_of_who_is_named_and_nothing_of_others(server: ShapedServer, who: str) -> None:
    number = next(NUMBERS)
    said = made(server, who, **tables(number))
    run_in(server, "admindb", f"CREATE VIEW admin_s.others_{number} AS SELECT id FROM admin_s.left_{number}")
    ended(server, who)
    swept = succeeded(sweep(server, owned_objects="drop", confirm_drop=["somebody else"], **NOW))
    assert "name the grantee in confirm_drop" in reason(swept, said["login"])
    swept = succeeded(sweep(server, owned_objects="drop", confirm_drop=[who], **NOW))
    assert f"others_{number} depends on table" in reason(swept, said["login"])
    assert owner(server, "admindb", f"admin_s.left_{number}") == said["login"]
    run_in(server, "admindb", f"DROP VIEW admin_s.others_{number}")
    swept = succeeded(sweep(server, owned_objects="drop", confirm_drop=[who], **NOW))
    assert said["login"] in swept["dropped"]
    assert owner(server, "admindb", f"admin_s.left_{number}") is None
    assert owner(server, DATABASE, f"alpha_s.left_{number}") is None


# ------------------------------------------------------------------ other things that tie a role
def test_a_prepared_transaction_is_named_and_stops_nobody_else(server: ShapedServer, who: str) -> None:
    said = succeeded(grant(server, who, who, access=MAKER))
    other = succeeded(grant(server, f"{who} 2", f"{who} 2"))
    with person(server, said, "admindb") as session:
        session.execute("BEGIN")
        session.execute("CREATE TABLE admin_s.never (id int)")
        session.execute("PREPARE TRANSACTION 'of-theirs'")
    for request in (who, f"{who} 2"):
        succeeded(revoke(server, request))
    assert not gets_in(server, said, "admindb")
    swept = succeeded(sweep(server, **NOW))
    assert "'of-theirs' in database admindb" in reason(swept, said["login"])
    assert other["login"] in swept["dropped"]
    run_in(server, "admindb", "ROLLBACK PREPARED 'of-theirs'")
    assert said["login"] in succeeded(sweep(server, **NOW))["dropped"]


def test_what_others_gave_to_a_person_goes_with_the_login(server: ShapedServer, who: str) -> None:
    succeeded(sweep(server, profile_retention_days=0, **NOW))
    before = catalog(server)
    said = succeeded(grant(server, who, who))
    login = said["login"]
    given = (
        f"GRANT SELECT, INSERT ON beta_s.t_plain TO {login} WITH GRANT OPTION",
        f"GRANT UPDATE (v) ON beta_s.t_plain TO {login}",
        f"GRANT USAGE ON SCHEMA beta_s TO {login}",
        f"GRANT EXECUTE ON FUNCTION beta_s.f_add(int, int) TO {login}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA beta_s GRANT SELECT ON TABLES TO {login}",
        f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {login}",
    )
    run_in(server, DATABASE, *given, user="app_beta")
    run_in(server, "appdb_hard", f"GRANT CREATE ON DATABASE appdb_hard TO {login}", user="app_beta")
    run_in(server, DATABASE, f"GRANT SELECT ON LARGE OBJECT 424242 TO {login}")
    with person(server, said) as session:
        assert refusal(session, "SELECT 1 FROM beta_s.t_plain") is None
        session.execute(b"GRANT SELECT ON beta_s.t_plain TO app_gamma")
        session.execute(b"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app_gamma")
        succeeded(revoke(server, who))
        assert refusal(session, "SELECT 1 FROM beta_s.t_plain") == "57P01"
    swept = succeeded(sweep(server, profile_retention_days=0, **NOW))
    if server.major >= 16:  # nobody but the platform may act as app_beta
        assert "privileges for database appdb_hard" in reason(swept, login)
        assert "whoever gave it that must revoke it" in reason(swept, login)
        for database in (DATABASE, "appdb_hard"):
            run_in(server, database, f"DROP OWNED BY {login}")
        swept = succeeded(sweep(server, profile_retention_days=0, **NOW))
    assert login in swept["dropped"], swept["blocked"]
    assert changes(before, catalog(server)) == []


def test_a_person_who_changed_the_own_password_or_settings_has_neither_next_time(
    server: ShapedServer, who: str
) -> None:
    first = succeeded(grant(server, who, who))
    login = first["login"]
    with person(server, first) as session:
        for command in (
            f"ALTER ROLE {login} PASSWORD 'my-own'",
            f"ALTER ROLE {login} SET search_path = beta_s",
            f"ALTER ROLE {login} IN DATABASE {DATABASE} SET role = 'none'",
            f"ALTER ROLE {login} SET statement_timeout = '1d'",
        ):
            session.execute(command.encode())
    mine = {**first, "password": "my-own"}
    assert gets_in(server, mine)
    assert succeeded(grant(server, who, who, duration="2h"))["changed"]
    assert gets_in(server, mine)
    succeeded(revoke(server, who))
    assert not gets_in(server, mine)
    second = succeeded(grant(server, who, who))
    assert not gets_in(server, mine)
    assert not gets_in(server, first)
    assert gets_in(server, second)
    assert not ask(server, "SELECT FROM pg_db_role_setting WHERE setrole = %(u)s::regrole", u=login)
    succeeded(revoke(server, who))


# ------------------------------------------------------------------ what stands in the way of a journal or a profile
HOLD = "LOCK TABLE latchkey.journal"
CONSTRAIN = "ALTER TABLE latchkey.journal ADD CONSTRAINT nothing CHECK (action = 'grant') NOT VALID"


@pytest.mark.parametrize("end", ["revoke", "sweep"])
@pytest.mark.parametrize("why", [HOLD, CONSTRAIN])
def test_a_journal_that_takes_no_entry_stops_no_end_and_is_told(
    server: ShapedServer, who: str, why: str, end: str
) -> None:
    said = succeeded(grant(server, who, who))
    expire(server, *([who] if end == "sweep" else []))
    impatient = {"connect_params": {"options": "-c lock_timeout=50ms"}}
    with person(server, said) as session, server.connect(autocommit=False) as dba:
        dba.execute(why.encode())
        if why == CONSTRAIN:
            dba.commit()
        answer = succeeded(revoke(server, who, **impatient) if end == "revoke" else sweep(server, **impatient))
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(server, said)
    assert not there(server, names.grant_role(who))
    assert any("latchkey.journal has no entry of this end" in line for line in answer["warnings"])
    run_in(server, "postgres", "ALTER TABLE latchkey.journal DROP CONSTRAINT IF EXISTS nothing")


def test_a_profile_whose_database_lets_nobody_in_stops_no_other(server: ShapedServer, who: str) -> None:
    database = f"closed_{next(NUMBERS)}"
    run_in(server, "postgres", f"CREATE DATABASE {database} OWNER apono_connector")
    wanted = [{"database": database, "permission": "READ_ONLY", "schemas": ["public"]}]
    closed, other = [succeeded(grant(server, f"{who} {n}", who, access=a)) for n, a in enumerate([wanted, MAKER[:1]])]
    for request in range(2):
        succeeded(revoke(server, f"{who} {request}"))
    run_in(server, "postgres", f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    swept = succeeded(sweep(server, profile_retention_days=0))
    assert database in reason(swept, closed["items"][0]["role"])
    assert other["items"][0]["role"] in swept["profiles_dropped"]
    run_in(server, "postgres", f"DROP DATABASE {database}")
    assert closed["items"][0]["role"] in succeeded(sweep(server, profile_retention_days=0))["profiles_dropped"]


@pytest.mark.parametrize("days", [0, 30])
def test_a_profile_of_another_connector_is_told_and_stops_nothing(ready: Shaped, who: str, days: int) -> None:
    server, theirs = ready(major=17, shape="rds"), f"latchkey_p_{next(NUMBERS)}"
    run_in(server, "postgres", f"CREATE ROLE {theirs}", f"GRANT latchkey_managed TO {theirs}")
    said = succeeded(grant(server, who, who))
    expire(server, who)
    swept = succeeded(sweep(server, profile_retention_days=days))
    assert swept["ended"] == [who]
    assert ("permission denied" if days else "ADMIN option") in reason(swept, theirs)
    assert not gets_in(server, said)
    run_in(server, "postgres", f"DROP ROLE {theirs}")


# ------------------------------------------------------------------ up to 15 a person can act as a role of ours
@pytest.mark.parametrize("which", ["grant", "profile"])
def test_what_a_role_of_ours_owns_keeps_the_role_without_rights_until_a_policy_says_more(
    ready: Shaped, who: str, which: str
) -> None:
    server, number = ready(major=15, shape="rds"), next(NUMBERS)
    succeeded(sweep(server, profile_retention_days=0, **NOW))
    said = succeeded(grant(server, who, who, access=MAKER[:1]))
    role = names.grant_role(who) if which == "grant" else said["items"][0]["role"]
    with person(server, said, "admindb") as session:
        session.execute(f"SET ROLE {role}".encode())
        session.execute(f"CREATE TABLE admin_s.by_{number} (id int)".encode())
        answer = succeeded(revoke(server, who))
        assert refusal(session, "SELECT 1") == "57P01"
    assert owner(server, "admindb", f"admin_s.by_{number}") == role
    if which == "grant":
        assert f"admin_s.by_{number}" in reason(answer, role) or "1 object in database admindb" in reason(answer, role)
        assert not ask(server, "SELECT FROM pg_auth_members WHERE roleid = %(r)s::regrole", r=role)
    assert not gets_in(server, said, "admindb")
    swept = succeeded(sweep(server, profile_retention_days=0, **NOW))
    assert role not in (*swept["dropped"], *swept["profiles_dropped"])
    assert reason(swept, role)
    assert owner(server, "admindb", f"admin_s.by_{number}") == role
    policy = {"owned_objects": "graveyard", "profile_retention_days": 0}
    swept = succeeded(sweep(server, **policy, **NOW))
    assert owner(server, "admindb", f"admin_s.by_{number}") == GRAVEYARD
    assert not there(server, role)
    run_in(server, "admindb", f"DROP TABLE admin_s.by_{number}")
