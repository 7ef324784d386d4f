# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that has nothing to do, and check mode, only read; and what check mode says is what a run does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.product import (
    CONNECTOR,
    Log,
    ask,
    bootstrap,
    bootstrapped,
    catalog,
    changes,
    database_of,
    next_xid,
    run_in,
    succeeded,
)
from tests.rig import Server, ShapedServer

Shaped = Callable[..., ShapedServer]
READS = re.compile(
    r"SELECT |WITH \w+ AS \( ?SELECT |BEGIN|COMMIT|SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY|"
    r"(RELEASE|SAVEPOINT) ",
    re.IGNORECASE,
)
# A dead row comes from one of these; n_dead_tup itself shrinks when a mere reader tidies a page.
TOUCHED = """
SELECT current_database(), relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables
 WHERE schemaname = 'pg_catalog' AND n_tup_ins + n_tup_upd + n_tup_del > 0
"""
# What the connector holds, as the diff writes it: another query than the product's.
HELD = """
WITH held AS (
  SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || n.nspname || '.' || relname AS what, relacl AS acl
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  UNION ALL SELECT 'SCHEMA ' || nspname, nspacl FROM pg_namespace
  UNION ALL SELECT 'ROUTINE ' || n.nspname || '.' || proname || '('
                   || CASE WHEN prokind = 'p' THEN pg_get_function_identity_arguments(pg_proc.oid)
                           ELSE oidvectortypes(proargtypes) END || ')', proacl
    FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
  UNION ALL SELECT 'TYPE ' || n.nspname || '.' || typname, typacl
    FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace
  UNION ALL SELECT 'DEFAULT ' || CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
                                 WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END
                   || ' of ' || defaclrole::regrole, defaclacl FROM pg_default_acl
)
SELECT current_database() || ': ' || what || ': ' || string_agg(privilege_type, ', ' ORDER BY privilege_type)
  FROM held, aclexplode(acl) AS a
 WHERE a.grantee = 'apono_connector'::regrole AND a.is_grantable GROUP BY what
"""

HELD_DATABASES = """
SELECT datname || ': DATABASE ' || datname || ': ' || string_agg(privilege_type, ', ' ORDER BY privilege_type)
  FROM pg_database, aclexplode(datacl) AS a
 WHERE a.grantee = 'apono_connector'::regrole AND a.is_grantable GROUP BY datname
"""
ENTRANCE = 'GRANT CONNECT ON DATABASE "locked_db" TO "cloudadmin"'
ENTRANCE_LINE = "locked_db: DATABASE locked_db: CONNECT"


def touched_rows(server: Server) -> set[tuple[Any, ...]]:
    """Rows that were written in the catalogs of the server and of one database, by the statistics."""
    time.sleep(0.7 if server.major < 15 else 0.05)  # before 15 a collector gets them by datagram, twice a second
    return {row for name in ("postgres", "appdb_open") for row in ask(server, TOUCHED, name)}


def assert_only_reads(statements: list[str]) -> None:
    """See that no statement of the product's could write."""
    assert len(statements) > 10
    strange = [one for one in statements if not READS.match(one)]
    assert strange == []


def lines(text: str) -> set[str]:
    """The lines of a diff."""
    found = text.splitlines()
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("grant_to", ["connector", "platform_group"])
def test_a_second_run_and_check_mode_write_nothing_at_all(
    shaped: Shaped, major: int, shape: str, variant: str, grant_to: str
) -> None:
    if (grant_to, shape, variant) == ("platform_group", "rds", "stock") and major >= 16:
        pytest.skip("a stock engine lets nobody but the platform add to rds_superuser")
    server = shaped(major=major, shape=shape, variant=variant, settings={"log_statement": "all"})
    start = touched_rows(server)
    options = {"grant_to": grant_to, "update_password": "always"}
    bootstrapped(server, **options)
    rows, xid, log = touched_rows(server), next_xid(server), Log(server)
    assert rows != start, "the statistics must show what the first run wrote"
    for check in (False, True):
        said = succeeded(bootstrapped(server, check=check, diff=True, **options))
        assert (said["changed"], said["statements"]) == (False, [])
        assert (said["diff"]["before"], said["diff"]["after"]) == ("", "")
    assert next_xid(server) == xid
    assert_only_reads([one for one in log.statements() if "txid_current_snapshot" not in one])
    assert touched_rows(server) == rows


@pytest.mark.parametrize("state", ["present", "absent"])
def test_check_mode_with_work_to_do_only_reads(
    shaped: Shaped, major: int, shape: str, variant: str, state: str
) -> None:
    server = shaped(major=major, shape=shape, variant=variant, settings={"log_statement": "all"})
    if state == "absent":
        bootstrapped(server)
    rows, xid, log = touched_rows(server), next_xid(server), Log(server)
    said = bootstrapped(server, check=True, state=state)
    assert said["changed"] is True
    assert len(said["statements"]) > 100
    assert next_xid(server) == xid
    assert_only_reads([one for one in log.statements() if "txid_current_snapshot" not in one])
    assert touched_rows(server) == rows


def test_check_mode_works_on_a_hot_standby(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds", settings={"wal_level": "replica", "max_wal_senders": 3})
    with server.standby() as standby:
        there = {"login_port": standby.port, "ca_cert": str(standby.ca)}
        standby.wait_for(server)
        planned = bootstrapped(server, check=True, **there)
        assert planned["statements"] == bootstrapped(server, check=True)["statements"]
        bootstrapped(server)
        standby.wait_for(server)
        said = bootstrapped(server, check=True, **there)
        assert (said["changed"], said["statements"]) == (False, [])
        assert said["coverage"] == bootstrapped(server, check=True)["coverage"]


# ------------------------------------------------------------------ what check mode says is what a run does
def may_enter(server: ShapedServer) -> bool:
    """Whether the administrator gets into locked_db before any run: on the patched shape, as a member of its owner."""
    return ask(server, f"SELECT has_database_privilege('{server.admin}', 'locked_db', 'CONNECT')") == [(True,)]


def texts(said: dict[str, Any], *, without: str | None) -> list[tuple[str, str]]:
    """The statements in order, but for those in a database that was shut, and for the entrance to it.

    The connector gives CONNECT to the administrator, as whom it is borrowed: two statements before, two after.
    """
    found = [(str(one["database"]), one["sql"]) for one in said["statements"] if one["database"] != without]
    for number, one in enumerate(found):
        if without and one[1] == ENTRANCE:
            return found[: number - 2] + found[number + 3 :]
    return found


def test_check_mode_says_the_very_statements_that_a_run_sends(
    shaped: Shaped, major: int, shape: str, variant: str
) -> None:
    """But for locked_db where it is shut: check mode must not open it."""
    server = shaped(major=major, shape=shape, variant=variant, settings={"log_statement": "mod"})
    shut = None if may_enter(server) else "locked_db"
    planned = bootstrapped(server, check=True, diff=True)
    log = Log(server)
    done = bootstrapped(server, diff=True)
    assert texts(planned, without=shut) == texts(done, without=shut)
    expected = lines(done["diff"]["after"])
    if shut:
        expected = {one for one in expected if not one.startswith("locked_db: ") or ": DATABASE " in one}
        expected.remove(ENTRANCE_LINE)
    assert lines(planned["diff"]["after"]) == expected
    sent = set(log.statements())
    written = {" ".join(one["sql"].split()) for one in done["statements"] if not is_setting(one["sql"])}
    assert {one for one in written if "PASSWORD" not in one} <= sent
    assert {one for one in sent if not is_setting(one) and "PASSWORD" not in one} <= written


def is_setting(sql: str) -> bool:
    """SET and RESET are no data definition, so log_statement=mod leaves them out."""
    return sql.startswith(("SET ", "RESET ", "SELECT set_config"))


def test_the_diff_is_what_the_connector_really_gained_and_lost(
    shaped: Shaped, major: int, shape: str, variant: str
) -> None:
    server = shaped(major=major, shape=shape, variant=variant)
    entrance = set() if may_enter(server) else {ENTRANCE_LINE}
    gained = bootstrapped(server, diff=True)
    entered = [entry["name"] for entry in gained["databases"] if entry["reachable"]]
    held = {row[0] for name in entered for row in ask(server, HELD, name)}
    held |= {row[0] for row in ask(server, HELD_DATABASES)} | entrance
    role = {f"CREATE ROLE \"{CONNECTOR}\" LOGIN CREATEROLE PASSWORD '********'"}
    membership = {f'GRANT "{server.group}" TO "{CONNECTOR}"'} if gained["connector"]["membership"]["granted"] else set()
    assert lines(gained["diff"]["after"]) == held | role | membership
    assert gained["diff"]["before"] == ""
    planned, lost = (bootstrapped(server, diff=True, check=check, state="absent") for check in (True, False))
    assert planned["diff"] == lost["diff"]
    assert planned["statements"] == lost["statements"]
    assert lines(lost["diff"]["before"]) == held | {f"role {CONNECTOR}"}
    assert lost["diff"]["after"] == ""


# ------------------------------------------------------------------ only what misses is given
def test_a_privilege_of_a_newer_version_is_added_to_older_grants(shaped: Shaped, major: int) -> None:
    if major < 17:
        pytest.skip("MAINTAIN came with 17")
    server = shaped(major=major, shape="rds")
    bootstrapped(server)
    revoke = f"REVOKE MAINTAIN ON alpha_s.t_plain, alpha_s.v_plain FROM {CONNECTOR}"
    defaults = f"ALTER DEFAULT PRIVILEGES REVOKE MAINTAIN ON TABLES FROM {CONNECTOR}"
    run_in(server, "appdb_open", revoke, defaults, user="app_alpha")
    said = bootstrapped(server)
    given = [one["sql"] for one in said["statements"] if not one["sql"].startswith(("SET", "RESET"))]
    assert [one for one in given if not borrowing(one)] == [
        f'GRANT MAINTAIN ON TABLE "alpha_s"."t_plain", "alpha_s"."v_plain" TO "{CONNECTOR}" WITH GRANT OPTION',
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "app_alpha" GRANT MAINTAIN ON TABLES TO "{CONNECTOR}" WITH GRANT OPTION',
    ]
    held = f"SELECT has_table_privilege('{CONNECTOR}', 'alpha_s.t_plain', 'MAINTAIN WITH GRANT OPTION')"
    assert ask(server, held, "appdb_open") == [(True,)]
    assert bootstrapped(server)["changed"] is False


def borrowing(sql: str) -> bool:
    """Whether a statement takes or returns an owner's role."""
    return bool(re.fullmatch(r'(GRANT|REVOKE) "\w+" (TO|FROM) "cloudadmin"( WITH .*)?', sql))


def test_a_partial_holding_is_completed_with_what_misses_and_no_more(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    bootstrapped(server)
    run_in(
        server,
        "appdb_open",
        f"REVOKE ALL ON alpha_s.t_plain FROM {CONNECTOR}",
        f"GRANT UPDATE, DELETE ON alpha_s.t_plain TO {CONNECTOR} WITH GRANT OPTION",
        f"GRANT SELECT, INSERT ON alpha_s.t_plain TO {CONNECTOR}",
        f"REVOKE GRANT OPTION FOR USAGE ON SCHEMA alpha_s FROM {CONNECTOR}",
        user="app_alpha",
    )
    before = catalog(server)
    said = bootstrapped(server, diff=True)
    wanted = ["INSERT", "MAINTAIN", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE"]
    wanted = [one for one in wanted if one != "MAINTAIN" or major >= 17]
    assert lines(said["diff"]["after"]) == {
        "appdb_open: SCHEMA alpha_s: USAGE",
        f"appdb_open: TABLE alpha_s.t_plain: {', '.join(wanted)}",
    }
    grants = [one["sql"] for one in said["statements"] if " ON " in one["sql"]]
    assert grants == [
        f'GRANT USAGE ON SCHEMA "alpha_s" TO "{CONNECTOR}" WITH GRANT OPTION',
        f'GRANT {", ".join(wanted)} ON TABLE "alpha_s"."t_plain" TO "{CONNECTOR}" WITH GRANT OPTION',
    ]
    touched = {(place, row[:2]) for _sign, place, row in changes(before, catalog(server))}
    assert touched == {("appdb_open", ("pg_class", "alpha_s.t_plain")), ("appdb_open", ("pg_namespace", "alpha_s"))}
    assert database_of(said, "appdb_open")["covered"] == database_of(bootstrap(server), "appdb_open")["covered"]
