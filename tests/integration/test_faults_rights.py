# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the administrator may not do, names that can't be a connector's, and servers that take no changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.product import CONNECTOR, ask, bootstrap, connector, database_of, run_in, succeeded
from tests.integration.test_faults_common import login_as, nothing_borrowed, refused, unchanged, whole
from tests.rig import ShapedServer

INVALID, REFUSED = "invalid_option", "database_refused"
SECRET = "pw-Fault5"
CONNECTOR_EXISTS = f"SELECT count(*) FROM pg_roles WHERE rolname = '{CONNECTOR}'"

Shaped = Callable[..., ShapedServer]


@pytest.fixture
def one(shaped_once: Shaped) -> ShapedServer:
    """Return a server that no test of this module changes."""
    return shaped_once(major=17, shape="azure")


# ------------------------------------------------------------------------------- the administrator


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("check", [True, False])
def test_an_administrator_without_createrole_is_refused_before_any_change(
    one: ShapedServer, state: str, check: bool
) -> None:
    with unchanged(one):
        said = bootstrap(one, check=check, state=state, **login_as(one, "app_alpha"))
    refused(said, REFUSED, f"localhost:{one.port}", "login app_alpha has no CREATEROLE", "login_user")


def test_an_administrator_that_may_not_give_the_group_says_so_and_goes_on(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    said = succeeded(bootstrap(server, **login_as(server, "cloudadmin2")))
    membership = said["connector"]["membership"]
    assert not membership["granted"]
    assert "login cloudadmin2 has no ADMIN OPTION on azure_pg_admin" in membership["reason"]
    assert database_of(said, "appdb_hard")["covered"] == 23
    run_in(server, "postgres", membership["sql"], user="cloudadmin")
    with unchanged(server):
        again = succeeded(bootstrap(server, **login_as(server, "cloudadmin2")))
    assert again["connector"]["membership"]["granted"]


def test_with_fail_on_uncovered_a_missing_membership_fails_the_task_after_the_work(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    options = {**login_as(server, "cloudadmin2"), "databases": ["appdb_hard"], "fail_on_uncovered": True}
    said = bootstrap(server, **options)
    assert said["failed"]
    assert said["error_kind"] == REFUSED
    assert "membership in azure_pg_admin: login cloudadmin2 has no ADMIN OPTION" in said["msg"]
    assert said["changed"]
    assert said["coverage"] == {"objects": 23, "covered": 23, "ratio": 1.0}


@pytest.mark.parametrize("check", [True, False])
def test_grant_to_the_group_without_admin_option_on_it_is_refused_before_any_change(
    one: ShapedServer, check: bool
) -> None:
    with unchanged(one):
        said = bootstrap(one, check=check, grant_to="platform_group", **login_as(one, "cloudadmin2"))
    refused(said, REFUSED, "cloudadmin2 has no ADMIN OPTION on azure_pg_admin", "first administrator", "grant_to")


# ------------------------------------------------------------------------------ the connector's name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("azure_pg_admin", "a role of the platform"),
        ("azuresu", "a role of the platform"),
        ("rds_superuser", "a role of the platform"),
        ("rdsadmin", "a role of the platform"),
        ("rds_iam", "a role of the platform"),
        ("pg_monitor", "a role of the platform"),
        ("pg_mine", "a role of the platform"),
        ("public", "a role of the platform"),
        ("none", "a role of the platform"),
        ("cloudadmin", "login_user"),
        ("", "0 bytes"),
        ("x" * 64, "64 bytes"),
        ("é" * 32, "64 bytes"),
        ("nul\0", "NUL"),
    ],
)
def test_a_name_that_cannot_be_a_connector_s_is_refused_before_any_session(
    one: ShapedServer, name: str, words: str
) -> None:
    with unchanged(one):
        refused(bootstrap(one, connector=name), INVALID, "connector: ", words, "hoose" if "l" not in words[:1] else "")


@pytest.mark.parametrize("name", ["x" * 50 + "_connector" + "yyy", "é" * 26 + "_connector" + "y"])
def test_a_connector_name_of_63_bytes_works(shaped: Shaped, name: str) -> None:
    assert len(name.encode()) == 63
    server = shaped(major=17, shape="azure")
    succeeded(bootstrap(server, connector=name, connector_password=SECRET, databases=["admindb"]))
    with connector(server, "admindb", name=name, password=SECRET) as conn:
        assert conn.execute("SELECT current_user::text").fetchone() == (name,)
        conn.execute("SELECT FROM admin_s.t_plain")


@pytest.mark.parametrize("statement", ["LOGIN", "LOGIN CREATEROLE"])
def test_a_connector_that_is_a_superuser_is_refused_before_any_change(
    shaped: Shaped, major: int, statement: str
) -> None:
    server = shaped(major=major, shape="azure")
    run_in(server, "postgres", f"CREATE ROLE {CONNECTOR} SUPERUSER {statement}")
    with unchanged(server):
        said = bootstrap(server)
    refused(said, REFUSED, f"localhost:{server.port}", f"role {CONNECTOR} is a superuser", "Choose another connector")


@pytest.mark.parametrize(
    ("state", "attributes"), [("present", "LOGIN"), ("present", "LOGIN CREATEROLE"), ("absent", "LOGIN CREATEROLE")]
)
def test_a_connector_that_somebody_else_made_is_refused_and_the_one_who_can_help_is_named(
    shaped: Shaped, state: str, attributes: str
) -> None:
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", f"CREATE ROLE {CONNECTOR} {attributes}", user="cloudadmin2")
    with unchanged(server):
        said = bootstrap(server, state=state)
    help_sql = f'GRANT "{CONNECTOR}" TO "cloudadmin" WITH ADMIN OPTION'
    refused(said, REFUSED, "cloudadmin has no ADMIN OPTION on it", f"Ask cloudadmin2 to run: {help_sql}")
    run_in(server, "postgres", help_sql, user="cloudadmin2")
    succeeded(bootstrap(server, state=state))
    assert ask(server, CONNECTOR_EXISTS) == [(1 if state == "present" else 0,)]


def test_before_16_a_connector_that_somebody_else_made_is_taken_on(shaped: Shaped) -> None:
    server = shaped(major=15, shape="azure")
    run_in(server, "postgres", f"CREATE ROLE {CONNECTOR} LOGIN", user="cloudadmin2")
    said = succeeded(bootstrap(server))
    assert not said["connector"]["created"]
    whole(server)


# ------------------------------------------------------------------------------------- the databases


@pytest.mark.parametrize("check", [True, False])
def test_a_pattern_that_matches_no_database_is_refused_before_any_change(one: ShapedServer, check: bool) -> None:
    with unchanged(one):
        said = bootstrap(one, check=check, databases=["appdb_*", "orders_*"])
    refused(said, INVALID, f"localhost:{one.port}", "'orders_*' matches no database", "appdb_open")


def test_a_database_name_with_the_signs_of_a_pattern_can_be_given_as_it_is(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", 'CREATE DATABASE "db[1]" OWNER cloudadmin')
    said = succeeded(bootstrap(server, databases=["db[1]"]))
    assert [entry["name"] for entry in said["databases"]] == ["db[1]"]


# ------------------------------------------------------------------------ servers that take no changes


def test_a_standby_is_refused_and_check_mode_works_on_it(shaped: Shaped, major: int) -> None:
    primary = shaped(major=major, shape="azure")
    with primary.standby() as standby:
        standby.wait_for(primary)
        there: dict[str, Any] = {"login_port": standby.port, "ca_cert": str(standby.ca)}
        said = bootstrap(primary, **there)
        refused(said, REFUSED, f"localhost:{standby.port}", "is a standby", "primary in login_host", "check mode")
        planned = succeeded(bootstrap(primary, check=True, **there))
        assert planned["changed"]
        assert planned["statements"] == succeeded(bootstrap(primary, check=True))["statements"]


def test_a_read_only_server_is_refused_and_check_mode_works_on_it(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure", settings={"default_transaction_read_only": True})
    with unchanged(server):
        refused(bootstrap(server), REFUSED, f"localhost:{server.port}", "default_transaction_read_only", "run again")
        assert succeeded(bootstrap(server, check=True))["changed"]


def test_a_database_that_is_read_only_is_reported_and_stops_no_other(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    run_in(server, "postgres", "ALTER DATABASE admindb SET default_transaction_read_only = on")
    said = succeeded(bootstrap(server))
    entries = [entry for entry in said["uncovered"] if entry["database"] == "admindb"]
    assert {(entry["sqlstate"], entry["cause"]) for entry in entries} == {("25006", "refused")}
    assert database_of(said, "appdb_hard")["covered"] == 23


# -------------------------------------------------------------------------------------------- owners


def test_an_owner_that_may_not_use_the_schema_of_its_table_is_covered(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    run_in(server, "appdb_hard", "CREATE TABLE hard_s.lost (id int)", "ALTER TABLE hard_s.lost OWNER TO app_alpha")
    run_in(server, "appdb_hard", "REVOKE ALL ON SCHEMA hard_s FROM PUBLIC")
    with nothing_borrowed(server):
        said = succeeded(bootstrap(server, connector_password=SECRET))
    assert database_of(said, "appdb_hard")["covered"] == 24
    grantors = "SELECT DISTINCT a.grantor::regrole::text FROM pg_class, aclexplode(relacl) AS a WHERE relname = 'lost'"
    assert ask(server, grantors, "appdb_hard") == [("app_alpha",)]
    with connector(server, "appdb_hard", password=SECRET) as conn:
        conn.execute("INSERT INTO hard_s.lost VALUES (1)")


def test_before_16_an_owner_that_is_a_member_of_the_administrator_is_reported(shaped: Shaped) -> None:
    server = shaped(major=15, shape="rds")
    run_in(server, "postgres", "GRANT cloudadmin TO app_alpha")
    with nothing_borrowed(server):
        said = succeeded(bootstrap(server))
    entries = [e for e in said["uncovered"] if e["database"] == "appdb_open" and e["owner"] == "app_alpha"]
    assert {entry["cause"] for entry in entries} == {"no_way"}
    assert all("app_alpha is itself a member of cloudadmin" in entry["reason"] for entry in entries)
    assert all(entry["sql"] for entry in entries)
    assert database_of(said, "appdb_hard")["covered"] == 23


def test_from_16_an_owner_that_is_a_member_of_the_administrator_stops_no_other(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    # not app_alpha: who made a role is a member of it here, so the server would see a circle
    run_in(server, "postgres", "GRANT cloudadmin TO app_gamma")
    with nothing_borrowed(server):
        said = succeeded(bootstrap(server))
    whole(server)
    assert "app_gamma" in {entry["owner"] for entry in said["uncovered"] if entry["cause"] == "no_way"}


# ------------------------------------------------------------------------ the engine of a cloud, or not


def test_an_engine_that_refuses_what_it_was_hoped_to_allow_is_reported_each_time_without_a_write(
    shaped: Shaped,
) -> None:
    server = shaped(major=17, shape="rds", settings={"rds.extensions": "x"})
    with nothing_borrowed(server):
        planned = succeeded(bootstrap(server, check=True))
        first = succeeded(bootstrap(server))
    hoped = {e["owner"]: e for e in planned["uncovered"] if e["cause"] == "no_way"}
    assert {"app_gamma", "app_fellow"} <= set(hoped)
    assert all("without check mode will try" in entry["reason"] for entry in hoped.values())
    tried = {e["owner"]: e for e in first["uncovered"] if e["cause"] == "refused"}
    assert {"app_gamma", "app_fellow"} <= set(tried)
    assert {entry["sqlstate"] for entry in tried.values()} == {"42501"}
    assert "42501" in first["connector"]["membership"]["reason"]
    whole(server)
    with unchanged(server):
        again = succeeded(bootstrap(server))
    assert not again["changed"]
    assert again["statements"] == []
    assert again["uncovered"] == first["uncovered"]


OWN_ROWS = [
    "INHERIT TRUE, SET FALSE",
    "INHERIT FALSE, SET FALSE",
    "INHERIT FALSE, SET TRUE",
]


@pytest.mark.parametrize("role", ["app_alpha", "cloudadmin2"])
@pytest.mark.parametrize("options", OWN_ROWS)
def test_a_membership_that_the_administrator_gave_itself_stays_as_it_is(
    shaped: Shaped, options: str, role: str
) -> None:
    """app_alpha is an owner, cloudadmin2 a lender. What can't be done without touching the row is reported."""
    server = shaped(major=17, shape="rds")
    run_in(server, "postgres", f"GRANT {role} TO cloudadmin WITH {options}", user="cloudadmin")
    with nothing_borrowed(server):
        said = succeeded(bootstrap(server))
    missed = [entry for entry in said["uncovered"] if "did not come back as it was" in entry["reason"]]
    if missed:
        assert {entry["cause"] for entry in missed} == {"refused"}
        assert {entry["owner"] for entry in missed} <= {"app_alpha", "app_beta", "pg_database_owner"}
    else:
        whole(server)
    with unchanged(server) if not missed else nothing_borrowed(server):
        assert not succeeded(bootstrap(server))["changed"]
