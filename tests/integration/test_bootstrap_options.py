# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option that limits or widens what is given, by what the connector can do afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.product import (
    CONNECTOR,
    HOSTILE_DATABASE,
    ask,
    bootstrap,
    bootstrapped,
    catalog,
    changes,
    connector,
    database_of,
    reach,
    run_in,
    succeeded,
)
from tests.rig import ShapedServer, coverage
from tests.rig.coverage import coverage_by_kind

Shaped = Callable[..., ShapedServer]


def held_places(server: ShapedServer, before: dict[str, Any]) -> set[str]:
    """The databases in which anything changed ('' is the server)."""
    return {place for _sign, place, _row in changes(before, catalog(server))}


# ------------------------------------------------------------------ who holds the privileges
def test_with_platform_group_the_group_holds_all_and_the_connector_works_through_it(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    said = bootstrapped(server, grant_to="platform_group")
    for dbname, expected in (("appdb_open", reach(major, "stock")), ("appdb_hard", 23), ("locked_db", 23)):
        assert database_of(said, dbname)["covered"] == expected
        assert coverage(server, server.group, dbname).grantable == expected
        assert coverage(server, CONNECTOR, dbname).grantable == expected
    assert said["connector"]["membership"] == {
        "role": server.group, "granted": True, "reason": None, "sql": None,
    }  # fmt: skip
    direct = "SELECT count(*) FROM pg_class, aclexplode(relacl) a WHERE a.grantee = 'apono_connector'::regrole"
    assert ask(server, direct, "appdb_open") == [(0,)]
    run_in(server, "appdb_open", "CREATE TABLE beta_s.later (id int)", user="app_beta")
    with connector(server, "appdb_open") as conn:
        conn.execute("INSERT INTO beta_s.later VALUES (1)")
        conn.execute("CREATE ROLE jit_one")
        conn.execute("GRANT SELECT ON beta_s.later TO jit_one")
        held = conn.execute("SELECT has_table_privilege('jit_one', 'beta_s.later', 'SELECT')").fetchone()
        assert held == (True,)
    assert bootstrapped(server, grant_to="platform_group")["changed"] is False


def test_the_group_of_a_stock_rds_from_16_on_is_reported_and_fatal_only_where_it_must_be(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    before = catalog(server)
    refused = bootstrap(server, grant_to="platform_group")
    assert refused["failed"]
    assert "has no ADMIN OPTION on rds_superuser" in refused["msg"]
    assert changes(before, catalog(server)) == []
    said = bootstrapped(server)
    assert said["connector"]["membership"] == {
        "role": "rds_superuser",
        "granted": False,
        "reason": "login cloudadmin has no ADMIN OPTION on rds_superuser",
        "sql": f'GRANT "rds_superuser" TO "{CONNECTOR}"',
    }
    strict = bootstrapped_or_failed(server, fail_on_uncovered=True)
    assert "membership in rds_superuser" in strict["msg"]


def bootstrapped_or_failed(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """A run that is expected to fail after its work."""
    said = bootstrap(server, **options)
    assert said["failed"]
    return said


@pytest.mark.parametrize("wanted", [True, False])
def test_platform_membership_decides_whether_the_connector_joins_the_group(
    shaped: Shaped, major: int, wanted: bool
) -> None:
    server = shaped(major=major, shape="azure")
    said = bootstrapped(server, platform_membership=wanted, databases=["admindb"])
    member = "SELECT pg_has_role('apono_connector', 'azure_pg_admin', 'USAGE')"
    assert ask(server, member) == [(wanted,)]
    assert (said["connector"]["membership"] is not None) is wanted


# ------------------------------------------------------------------ which databases and schemas
def test_only_the_databases_that_the_patterns_mean_are_touched(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    before = catalog(server)
    options = {"databases": ["app*", "[Aa]dmin??"], "exclude_databases": ["*_hard"], "platform_membership": False}
    said = bootstrapped(server, **options)
    assert [entry["name"] for entry in said["databases"]] == ["admindb", "appdb_open"]
    assert held_places(server, before) == {"", "admindb", "appdb_open"}
    touched = {row[1] for _s, place, row in changes(before, catalog(server)) if not place and row[0] == "pg_database"}
    assert touched == {"admindb", "appdb_open"}
    assert [entry["name"] for entry in bootstrapped(server, databases=['App "DB"*'])["databases"]] == [HOSTILE_DATABASE]


def test_an_excluded_schema_stays_uncovered_and_so_does_what_is_made_in_it(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    options = {"exclude_schemas": ["alpha_s", "Weird*"], "platform_membership": False, "databases": ["appdb_open"]}
    said = bootstrapped(server, **options)
    kinds = coverage_by_kind(server, CONNECTOR, "appdb_open")
    shut = {"alpha_s", 'Weird "Schema"; DROP TABLE x;-- ünïcödé %s $$'}
    assert {schema for schema, _kind in kinds} > shut
    assert sum(found.grantable for (schema, _kind), found in kinds.items() if schema in shut) == 0
    assert sum(found.grantable for (schema, _kind), found in kinds.items() if schema == "pgboss") == 23
    left = sum(found.total for (schema, _kind), found in kinds.items() if schema not in shut)
    assert database_of(said, "appdb_open")["objects"] == left
    for schema in ("alpha_s", "pgboss"):
        run_in(server, "appdb_open", f"CREATE TABLE {schema}.later (id int)", user="app_alpha")
    with connector(server, "appdb_open") as conn:
        conn.execute("INSERT INTO pgboss.later VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM alpha_s.later")
    not_even_without_its_schema = f"SELECT has_table_privilege('{CONNECTOR}', 'alpha_s.later', 'SELECT')"
    assert ask(server, not_even_without_its_schema, "appdb_open") == [(False,)]
    assert bootstrapped(server, **options)["changed"] is False


def test_pgboss_is_no_schema_of_postgresql_and_is_covered(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    bootstrapped(server, databases=["appdb_open"], platform_membership=False)
    kinds = coverage_by_kind(server, CONNECTOR, "appdb_open")
    assert sum(found.grantable for (schema, _kind), found in kinds.items() if schema == "pgboss") == 23


# ------------------------------------------------------------------ template1
@pytest.mark.parametrize(("shape", "included"), [("rds", True), ("azure", True), ("azure", False)])
def test_template1_decides_whether_a_new_database_is_covered_from_the_start(
    shaped: Shaped, major: int, shape: str, included: bool
) -> None:
    server = shaped(major=major, shape=shape)
    before = catalog(server)
    said = bootstrapped(server, template1=included, platform_membership=False)
    assert ("template1" in held_places(server, before)) is included
    assert ("template1" in [entry["name"] for entry in said["databases"]]) is included
    run_in(server, "postgres", "CREATE DATABASE new_db", user=server.admin)
    run_in(server, "new_db", "CREATE SCHEMA s", "CREATE TABLE s.t (id int)", user=server.admin)
    found = coverage(server, CONNECTOR, "new_db")
    assert (found.total, found.grantable) == (3, 3 if included else 0)
    again = bootstrapped(server, template1=included, platform_membership=False)
    assert database_of(again, "new_db")["covered"] == 3
    assert coverage(server, CONNECTOR, "new_db").grantable == 3


# ------------------------------------------------------------------ failure on demand, concurrency
def test_fail_on_uncovered_fails_after_all_the_work_is_done(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    said = bootstrap(server, fail_on_uncovered=True)
    assert said["changed"] is True
    assert coverage(server, CONNECTOR, "appdb_open").grantable == reach(major, "stock")
    assert bool(said.get("failed")) is (major >= 16), "what is the platform's own is no failure"
    if major >= 16:
        assert "app_gamma in appdb_open: login cloudadmin may not act as app_gamma" in said["msg"]
        assert "azuresu" not in said["msg"]
        assert {entry["owner"] for entry in said["uncovered"]} >= {"app_gamma", "app_fellow"}


def test_the_reported_sql_of_an_owner_closes_its_gap(shaped: Shaped, shape: str) -> None:
    server = shaped(major=17, shape=shape)
    said = bootstrapped(server)
    for entry in said["uncovered"]:
        user = None if entry["cause"] == "platform" else entry["owner"]
        run_in(server, entry["database"], *entry["sql"], user=user)
    assert coverage(server, CONNECTOR, "appdb_open").grantable == 195
    again = bootstrapped(server)
    assert (again["changed"], again["uncovered"], again["coverage"]["ratio"]) == (False, [], 1.0)


@pytest.mark.parametrize("connections", [1, 9])
def test_no_more_connections_are_used_than_allowed(shaped: Shaped, connections: int) -> None:
    """The maintenance session, and so many beside it."""
    server = shaped(major=17, shape="rds")
    run_in(server, "postgres", f"ALTER ROLE {server.admin} CONNECTION LIMIT {connections + 1}")
    said = succeeded(bootstrap(server, connections=connections))
    assert [
        entry for entry in said["databases"] if not entry["reachable"] and "connections for" in entry["reason"]
    ] == []
    assert database_of(said, "appdb_open")["covered"] == 145
    assert "warnings" not in said
