# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connector gets so that it can hand out access later, and what PUBLIC loses when that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.access import bootstrap, bootstrapped
from tests.integration.product import CONNECTOR, ask, catalog, changes, connector, next_xid, run_in
from tests.rig import ShapedServer

Shaped = Callable[..., ShapedServer]
INSERT = "INSERT INTO latchkey.journal (action, request, grantee, details) VALUES ('grant', 'r1', 'ann', '{}')"
FORGERIES = (
    "INSERT INTO latchkey.journal (action, actor) VALUES ('grant', 'somebody')",
    "INSERT INTO latchkey.journal (action, at) VALUES ('grant', '2000-01-01')",
    "INSERT INTO latchkey.journal (id, action) OVERRIDING SYSTEM VALUE VALUES (7, 'grant')",
    "UPDATE latchkey.journal SET action = 'revoke'",
    "DELETE FROM latchkey.journal",
    "TRUNCATE latchkey.journal",
    "ALTER TABLE latchkey.journal ADD COLUMN more text",
    "SELECT setval('latchkey.journal_id_seq', 1)",
    "CREATE RULE r AS ON INSERT TO latchkey.journal DO INSTEAD NOTHING",
)


def rights_of(said: dict[str, Any]) -> dict[str, bool]:
    """Which rights a result says that the connector has."""
    return {right["role"]: right["granted"] for right in said["rights"]}


def may_signal(server: ShapedServer) -> bool:
    query = f"SELECT pg_has_role('{CONNECTOR}', 'pg_signal_backend', 'USAGE')"
    return ask(server, query) == [(True,)]


# ------------------------------------------------------------------ roles and rights
def test_the_connector_can_hand_out_access_and_a_second_run_writes_nothing(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = shaped(major=major, shape=shape)
    run_in(server, "postgres", "CREATE ROLE readers", user=server.admin)
    before = catalog(server)
    given = bootstrapped(server, grantable_roles=["readers"])
    assert rights_of(given) == {
        "latchkey_managed": True,
        "latchkey_graveyard": True,
        "pg_signal_backend": may_signal(server),
        "readers": True,
    }
    with connector(server) as conn:
        conn.execute("CREATE ROLE ann")
        for role in ("latchkey_managed", "latchkey_graveyard", "readers"):
            conn.execute(f'GRANT "{role}" TO ann'.encode())
        assert conn.execute("SELECT pg_has_role('ann', 'readers', 'MEMBER')").fetchone() == (True,)
        if major >= 16:
            can_become = "SELECT bool_or(pg_has_role(oid, 'SET')) FROM pg_roles WHERE rolname ~ '^(latchkey_|readers)'"
            assert conn.execute(can_become).fetchone() == (False,)
        conn.execute("DROP ROLE ann")
    comments = "SELECT count(shobj_description(oid, 'pg_authid')) FROM pg_roles WHERE rolname ~ '^latchkey_'"
    assert ask(server, comments) == [(2,)]
    xid = next_xid(server)
    again = bootstrapped(server, grantable_roles=["readers"], diff=True)
    assert (again["changed"], again["statements"], again["diff"]["after"]) == (False, [], "")
    assert again["rights"] == given["rights"]
    assert next_xid(server) == xid
    bootstrapped(server, state="absent")
    assert changes(before, catalog(server)) == []


def test_the_connector_may_end_sessions_of_others(shaped: Shaped, shape: str) -> None:
    server = shaped(major=15, shape=shape)
    assert rights_of(bootstrapped(server))["pg_signal_backend"]
    with server.connect(user="app_alpha", dbname="appdb_open") as victim, connector(server) as conn:
        assert conn.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid]).fetchone() == (True,)
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT pg_sleep(10)")


def test_a_right_that_is_refused_is_reported_with_what_gives_it(shaped: Shaped, shape: str) -> None:
    server = shaped(major=17, shape=shape)
    run_in(server, "postgres", "CREATE ROLE theirs", "CREATE ROLE latchkey_managed")
    options: dict[str, Any] = {"grantable_roles": ["theirs"], "platform_membership": False}
    said = bootstrapped(server, **options)
    missing = [right for right in said["rights"] if not right["granted"]]
    assert {"theirs", "latchkey_managed"} <= {right["role"] for right in missing}
    assert all(f"login {server.admin} has no ADMIN OPTION on" in right["reason"] for right in missing)
    failed = bootstrap(server, fail_on_uncovered=True, **options)
    assert "right to theirs: login cloudadmin has no ADMIN OPTION on theirs" in failed["msg"]
    run_in(server, "postgres", *(right["sql"] for right in missing))
    again = bootstrapped(server, **options)
    assert all(rights_of(again).values()), again["rights"]
    assert again["statements"] == []


def test_a_role_of_our_name_that_can_do_something_is_left_alone(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    run_in(server, "postgres", "CREATE ROLE latchkey_graveyard LOGIN", user=server.admin)
    found = {right["role"]: right for right in bootstrapped(server)["rights"]}
    assert "has LOGIN or other attributes" in found["latchkey_graveyard"]["reason"]
    assert found["latchkey_managed"]["granted"]


UNFIT = {
    "nobody_here": "the server has no such role",
    "chief": "it is a member of maker, which has SUPERUSER, CREATEROLE",
    "maker": "it has SUPERUSER, CREATEROLE",
    "copier": "it has SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS",
    "rds_superuser": "it is a role of the platform",
    "rds_iam": "it is a role of the platform",
    "tokens": "it is a member of rds_iam, which is a role of the platform",
    "pg_execute_server_program": "it is a role of the platform",
    "latchkey_p_x": "it is this collection's own: names that begin with latchkey_",
    "rdsadmin": "it has SUPERUSER",
    CONNECTOR: "it is the connector itself",
}


def test_a_role_that_gives_too_much_is_refused_before_any_change(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    run_in(
        server,
        "postgres",
        "CREATE ROLE maker CREATEROLE",
        "CREATE ROLE chief IN ROLE maker",
        "CREATE ROLE copier BYPASSRLS",
        "CREATE ROLE tokens IN ROLE rds_iam",
        "CREATE ROLE latchkey_p_x",
    )
    xid = next_xid(server)
    for role, why in UNFIT.items():
        said = bootstrap(server, grantable_roles=["pg_read_all_data" if major > 13 else "pg_monitor", role])
        assert said["failed"], said
        assert (said["error_kind"], said["changed"]) == ("invalid_option", False)
        assert f"grantable_roles: '{role}' can't be handed out: {why}" in said["msg"]
    assert next_xid(server) == xid


# ------------------------------------------------------------------ the journal
def test_the_journal_takes_entries_and_no_forgery(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    bootstrapped(server, connector="older")  # its default privileges would give it everything on a new table
    run_in(server, "postgres", "DROP SCHEMA latchkey CASCADE")
    said = bootstrapped(server, platform_membership=False)
    usable = {"schema": "latchkey", "available": True, "append_only": major >= 16}
    assert said["journal"] == {**usable, "reason": None, "sql": None}
    with connector(server) as conn:
        conn.execute(INSERT.encode())
        for forgery in FORGERIES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(forgery.encode())
        assert conn.execute(
            "SELECT actor, action, at > now() - '1 min'::interval FROM latchkey.journal"
        ).fetchall() == [(CONNECTOR, "grant", True)]
    holders = (
        "SELECT DISTINCT a.grantee::regrole::text FROM pg_class, aclexplode(relacl) a"
        " WHERE relnamespace = 'latchkey'::regnamespace AND a.grantee <> relowner"
    )
    assert ask(server, holders) == [(CONNECTOR,)]
    xid = next_xid(server)
    assert bootstrapped(server, platform_membership=False)["changed"] is False
    assert next_xid(server) == xid


def test_a_connector_that_may_write_to_every_table_is_said_to_reach_the_journal(shaped: Shaped, shape: str) -> None:
    server = shaped(major=16, shape=shape)
    said = bootstrapped(server)
    with connector(server) as conn:
        conn.execute(INSERT.encode())
        try:
            conn.execute("DELETE FROM latchkey.journal")
        except psycopg.errors.InsufficientPrivilege:
            assert said["journal"]["append_only"]
        else:
            assert not said["journal"]["append_only"]


def test_the_journal_is_said_to_be_append_only_where_the_connector_can_not_become_its_owner(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = shaped(major=major, shape=shape)
    said = bootstrapped(server, platform_membership=False)
    with connector(server) as conn:
        conn.execute(INSERT.encode())
        try:
            conn.execute(f"GRANT {server.admin} TO {CONNECTOR}".encode())
            conn.execute("DELETE FROM latchkey.journal")
        except psycopg.errors.InsufficientPrivilege:
            assert said["journal"]["append_only"]
        else:
            assert not said["journal"]["append_only"]


def test_what_somebody_gave_on_the_journal_is_taken_again(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    run_in(
        server,
        "postgres",
        "GRANT ALL ON latchkey.journal TO app_alpha, PUBLIC",
        "GRANT UPDATE (action) ON latchkey.journal TO app_beta",
        f"GRANT DELETE ON latchkey.journal TO {CONNECTOR} WITH GRANT OPTION",
        "GRANT USAGE ON SEQUENCE latchkey.journal_id_seq TO app_beta",
        "GRANT CREATE ON SCHEMA latchkey TO PUBLIC",
    )
    planned = bootstrapped(server, check=True)
    said = bootstrapped(server)
    assert said["changed"] is True
    assert said["statements"] == planned["statements"]
    with connector(server) as conn:
        conn.execute(INSERT.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM latchkey.journal")
    for role in ("app_alpha", "app_beta"):
        anything = (
            f"SELECT has_any_column_privilege('{role}', 'latchkey.journal', 'SELECT, UPDATE')"
            f" OR has_sequence_privilege('{role}', 'latchkey.journal_id_seq', 'USAGE')"
            f" OR has_schema_privilege('{role}', 'latchkey', 'USAGE, CREATE')"
        )
        assert ask(server, anything) == [(False,)]
    assert bootstrapped(server)["changed"] is False


STRANGERS: dict[str, tuple[str, ...]] = {
    "belongs to app_alpha": ("CREATE SCHEMA latchkey AUTHORIZATION app_alpha",),
    "is not the table of this collection": (
        "CREATE SCHEMA latchkey AUTHORIZATION cloudadmin",
        "CREATE TABLE latchkey.journal (id int)",
        "ALTER TABLE latchkey.journal OWNER TO cloudadmin",
    ),
}


@pytest.mark.parametrize("words", STRANGERS)
def test_a_schema_of_somebody_else_is_neither_used_nor_changed(shaped: Shaped, words: str) -> None:
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", *STRANGERS[words])
    tables = (
        "SELECT nspacl::text, relacl::text FROM pg_namespace n LEFT JOIN pg_class ON relnamespace = n.oid"
        " WHERE nspname = 'latchkey'"
    )
    before = ask(server, tables)
    said = bootstrapped(server)
    assert not said["journal"]["available"]
    assert words in said["journal"]["reason"]
    assert ask(server, tables) == before
    assert "journal: " in bootstrap(server, fail_on_uncovered=True)["msg"]
    bootstrapped(server, state="absent")
    assert ask(server, tables) == before


def test_a_journal_with_a_trigger_or_row_security_is_not_used(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    for change, back in (
        (
            "ALTER TABLE latchkey.journal ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE latchkey.journal DISABLE ROW LEVEL SECURITY",
        ),
        ("CREATE RULE r AS ON INSERT TO latchkey.journal DO INSTEAD NOTHING", "DROP RULE r ON latchkey.journal"),
        (
            "ALTER TABLE latchkey.journal ALTER actor SET DEFAULT 'x'",
            "ALTER TABLE latchkey.journal ALTER actor SET DEFAULT session_user",
        ),
    ):
        run_in(server, "postgres", change)
        assert not bootstrapped(server)["journal"]["available"], change
        run_in(server, "postgres", back)
        assert bootstrapped(server)["journal"]["available"], back


def test_without_create_on_the_database_there_is_no_journal_and_all_else_works(shaped: Shaped, shape: str) -> None:
    server = shaped(major=17, shape=shape)
    run_in(server, "postgres", "CREATE DATABASE shut OWNER app_beta", "REVOKE CREATE ON DATABASE shut FROM PUBLIC")
    run_in(server, "shut", "GRANT CONNECT ON DATABASE shut TO cloudadmin")
    said = bootstrapped(server, login_db="shut", databases=["appdb_open"])
    assert (said["journal"]["available"], said["journal"]["sql"]) == (
        False,
        'GRANT CREATE ON DATABASE "shut" TO "cloudadmin"',
    )
    run_in(server, "postgres", said["journal"]["sql"])
    again = bootstrapped(server, login_db="shut", databases=["appdb_open"])
    assert again["journal"]["available"]
    assert bootstrapped(server, journal=False)["journal"] is None


def test_a_journal_that_says_something_stays_when_the_connector_goes(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    bootstrapped(server)
    with connector(server) as conn:
        conn.execute(INSERT.encode())
    planned = bootstrapped(server, state="absent", check=True)
    assert bootstrapped(server, state="absent")["statements"] == planned["statements"]
    assert ask(server, "SELECT actor FROM latchkey.journal") == [(CONNECTOR,)]
    assert ask(server, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^(latchkey_|apono_)'") == [(0,)]


def test_roles_of_people_stop_absent_and_another_connector_keeps_what_is_shared(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    run_in(server, "postgres", "CREATE ROLE ann", "GRANT latchkey_managed TO ann", user=server.admin)
    before = catalog(server)
    said = bootstrap(server, state="absent")
    assert (
        "1 role of a person is a member of latchkey_managed: end all access with pg_access_sweep first" in said["msg"]
    )
    assert changes(before, catalog(server)) == []
    run_in(server, "postgres", "DROP ROLE ann")
    bootstrapped(server, connector="second")
    bootstrapped(server, state="absent")
    own = "SELECT rolname::text FROM pg_roles WHERE rolname ~ '^latchkey_' ORDER BY 1"
    assert ask(server, own) == [("latchkey_graveyard",), ("latchkey_managed",)]
    assert bootstrapped(server, connector="second")["journal"]["available"]
    bootstrapped(server, connector="second", state="absent")
    assert ask(server, own) == []


# ------------------------------------------------------------------ what PUBLIC holds
def enters(server: ShapedServer, user: str, dbname: str) -> bool:
    """Whether a login gets into a database, now."""
    assert ask(server, f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{user}'") == [(True,)]
    try:
        server.connect(user=user, password="x", dbname=dbname).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def with_logins(shaped: Shaped, major: int, shape: str) -> ShapedServer:
    """A server with a login that is new, and one of an application that relies on PUBLIC."""
    server = shaped(major=major, shape=shape)
    logins = (f"CREATE ROLE {name} LOGIN PASSWORD 'x'" for name in ("fresh", "old_app"))
    run_in(server, "postgres", *logins)
    run_in(server, "appdb_open", "GRANT SELECT ON alpha_s.t_plain TO PUBLIC", user="app_alpha")
    return server


def test_what_public_had_goes_to_a_role_and_comes_back(with_logins: ShapedServer) -> None:
    server, before = with_logins, catalog(with_logins)
    assert enters(server, "fresh", "appdb_open")
    assert "public" not in bootstrapped(server)
    said = bootstrapped(server, harden_public=True)
    gate = {"database": "appdb_open", "kind": "DATABASE", "name": "appdb_open"}
    table = {"database": "appdb_open", "kind": "TABLE", "name": "alpha_s.t_plain"}
    assert {**gate, "privileges": ["CONNECT", "TEMPORARY"], "hardened": True} in said["public"]
    assert {**table, "privileges": ["SELECT"], "hardened": True} in said["public"]
    assert not enters(server, "fresh", "appdb_open")
    with connector(server, "appdb_open") as conn:
        conn.execute("SELECT FROM alpha_s.t_plain")
    run_in(server, "postgres", "GRANT latchkey_public TO old_app", user=server.admin)
    assert enters(server, "old_app", "appdb_open")
    gone = bootstrapped(server, state="absent", check=True)
    assert bootstrapped(server, state="absent")["statements"] == gone["statements"]
    assert changes(before, catalog(server)) == []
    assert enters(server, "fresh", "appdb_open")


def test_hardening_again_and_check_mode_write_nothing(with_logins: ShapedServer) -> None:
    server = with_logins
    bootstrapped(server)
    xid = next_xid(server)
    planned = bootstrapped(server, harden_public=True, check=True, diff=True)
    assert next_xid(server) == xid
    said = bootstrapped(server, harden_public=True, diff=True)
    assert (said["statements"], said["diff"]) == (planned["statements"], planned["diff"])
    xid = next_xid(server)
    again = bootstrapped(server, harden_public=True, diff=True)
    assert (again["changed"], again["statements"], again["diff"]["after"]) == (False, [], "")
    assert (again["public"], again["coverage"]) == (said["public"], said["coverage"])
    assert bootstrapped(server)["statements"] == []
    assert next_xid(server) == xid


def test_extensions_and_what_no_route_leads_to_keep_their_public_rights(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    run_in(
        server,
        "appdb_open",
        "CREATE FUNCTION alpha_s.closed() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        user="app_alpha",
    )
    run_in(server, "appdb_open", "CREATE FUNCTION alpha_s.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    said = bootstrapped(server, harden_public=True)
    found = {entry["name"]: entry["hardened"] for entry in said["public"] if entry["kind"] == "ROUTINE"}
    assert (found["alpha_s.closed()"], found["alpha_s.theirs()"]) == (True, False)
    execute = "SELECT has_function_privilege('app_beta', 'alpha_s.{}()', 'EXECUTE')"
    assert ask(server, execute.format("closed"), "appdb_open") == [(False,)]
    assert ask(server, execute.format("theirs"), "appdb_open") == [(True,)]
    left = [entry for entry in said["uncovered"] if any("FROM PUBLIC" in one for one in entry["sql"])]
    assert (left == []) == (major < 16), left


def test_an_heir_that_the_login_can_not_be_a_member_of_is_refused_before_any_change(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", "CREATE ROLE latchkey_public")
    xid = next_xid(server)
    said = bootstrap(server, harden_public=True)
    assert 'GRANT "latchkey_public" TO "cloudadmin" WITH INHERIT TRUE, SET FALSE' in said["msg"]
    assert next_xid(server) == xid
    run_in(server, "postgres", "GRANT latchkey_public TO cloudadmin WITH INHERIT TRUE, SET FALSE")
    assert bootstrapped(server, harden_public=True)["changed"]


@pytest.mark.parametrize("journal", [True, False])
def test_what_was_taken_from_everybody_comes_back_with_the_last_connector(
    shaped: Shaped, major: int, shape: str, journal: bool
) -> None:
    if not journal and major < 16:
        pytest.skip("before 16 another connector without a journal leaves no trace")
    server = shaped(major=major, shape=shape)
    before = catalog(server)
    bootstrapped(server, connector="older", journal=journal)
    bootstrapped(server, harden_public=True, journal=journal)
    holds = "SELECT count(*) > 0 FROM pg_shdepend WHERE refobjid = to_regrole('latchkey_public')"
    assert ask(server, holds) == [(True,)]
    gone = bootstrapped(server, connector="older", state="absent")
    assert not any("latchkey_" in one["sql"] and "DROP ROLE" in one["sql"] for one in gone["statements"])
    assert ask(server, holds) == [(True,)]
    # The removed one had let the administrator into a database: the other one has to do it now.
    bootstrapped(server, journal=journal)
    bootstrapped(server, state="absent")
    assert changes(before, catalog(server)) == []


def test_of_a_connector_that_is_gone_nothing_is_given_back_until_it_is_made_again(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = shaped(major=major, shape=shape)
    before = catalog(server)
    bootstrapped(server, harden_public=True)
    hardened = catalog(server)
    assert bootstrapped(server, connector="slip", state="absent")["changed"] is False
    assert changes(hardened, catalog(server)) == []
    bootstrapped(server, state="absent")
    assert changes(before, catalog(server)) == []
