# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state=absent leaves the server as it was before, or stops with everything as it is."""

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
    next_xid,
    run_in,
    succeeded,
)
from tests.rig import ShapedServer

Shaped = Callable[..., ShapedServer]
GROUP_REFUSED = "has no ADMIN OPTION on rds_superuser"


def may_use_group(major: int, shape: str, variant: str) -> bool:
    """Whether the administrator may add members to the platform's group (the rig's engine has no hook for RDS 16+)."""
    return shape == "azure" or variant == "patched" or major < 16


@pytest.mark.parametrize("grant_to", ["connector", "platform_group"])
def test_present_then_absent_leaves_every_right_as_it_was(
    shaped: Shaped, major: int, shape: str, variant: str, grant_to: str
) -> None:
    server = shaped(major=major, shape=shape, variant=variant)
    run_in(server, "postgres", "COMMENT ON ROLE app_alpha IS 'mine'", "COMMENT ON DATABASE admindb IS 'ours'")
    before = catalog(server)
    given = bootstrap(server, connector_password="x", grant_to=grant_to)
    if grant_to == "platform_group" and not may_use_group(major, shape, variant):
        assert GROUP_REFUSED in given["msg"]
        assert changes(before, catalog(server)) == []
        return
    succeeded(given)
    between = catalog(server)
    assert len(changes(before, between)) > 400
    planned = succeeded(bootstrap(server, state="absent", grant_to=grant_to, check=True))
    assert changes(between, catalog(server)) == []
    taken = succeeded(bootstrap(server, state="absent", grant_to=grant_to))
    assert taken["changed"] is True
    assert taken["statements"] == planned["statements"]
    assert changes(before, catalog(server)) == []
    again = succeeded(bootstrap(server, state="absent", grant_to=grant_to))
    assert (again["changed"], again["statements"]) == (False, [])


def test_what_others_gave_and_hold_survives_present_and_absent(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    run_in(server, "postgres", "CREATE ROLE reader", "GRANT CONNECT ON DATABASE admindb TO reader WITH GRANT OPTION")
    run_in(
        server,
        "appdb_open",
        "GRANT USAGE ON SCHEMA alpha_s TO reader",
        "GRANT SELECT ON alpha_s.t_plain TO reader WITH GRANT OPTION",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader",
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA alpha_s GRANT USAGE ON SEQUENCES TO reader",
        user="app_alpha",
    )
    before = catalog(server)
    bootstrapped(server)
    run_in(server, "appdb_open", "SET ROLE reader", "GRANT SELECT ON alpha_s.t_plain TO app_gamma")
    run_in(server, "appdb_open", "SET ROLE reader", "REVOKE SELECT ON alpha_s.t_plain FROM app_gamma")
    bootstrapped(server, state="absent")
    assert changes(before, catalog(server)) == []


# ------------------------------------------------------------------ refusals
def owns_a_table(server: ShapedServer) -> None:
    """The connector made something of its own."""
    with connector(server, "appdb_open") as conn:
        conn.execute("CREATE TABLE alpha_s.its_own (id int)")


def owns_a_database(server: ShapedServer) -> None:
    """The connector owns a database, which belongs to no database."""
    run_in(server, "postgres", f"CREATE DATABASE its_db OWNER {CONNECTOR}")


def has_passed_on_a_table(server: ShapedServer) -> None:
    """The connector gave a JIT role a table, in a database with a hostile name."""
    with connector(server, HOSTILE_DATABASE) as conn:
        conn.execute("CREATE ROLE jit_one")
        conn.execute('GRANT SELECT ON "S ""x""".t_plain TO jit_one')
    if server.major >= 16:
        # not what this is about: that the connector administers the role stops it as well
        run_in(server, "postgres", f"REVOKE jit_one FROM {CONNECTOR}")


def has_passed_on_a_database(server: ShapedServer) -> None:
    """The connector gave a role the right to connect."""
    with connector(server, "locked_db") as conn:
        conn.execute("GRANT CONNECT ON DATABASE locked_db TO app_gamma")


def is_named_in_a_policy(server: ShapedServer) -> None:
    """A row security policy names the connector."""
    run_in(server, "appdb_open", f"CREATE POLICY named ON alpha_s.t_rls TO {CONNECTOR}")


def holds_a_column(server: ShapedServer) -> None:
    """Somebody gave the connector a right that this collection does not give."""
    run_in(server, "appdb_open", f"GRANT SELECT (id) ON alpha_s.t_plain TO {CONNECTOR}", user="app_alpha")


def is_given_by_one_out_of_reach(server: ShapedServer) -> None:
    """The platform itself gave the connector a right."""
    run_in(server, "appdb_open", f"GRANT SELECT ON cron.job TO {CONNECTOR}")


def cannot_be_visited(server: ShapedServer) -> None:
    """The administrator is shut out of a database where the connector holds rights."""
    with connector(server, "locked_db") as conn:
        conn.execute(f"REVOKE CONNECT ON DATABASE locked_db FROM {server.admin}".encode())


def cannot_be_connected_to(server: ShapedServer) -> None:
    """A database where the connector holds rights takes no connections any more."""
    run_in(server, "postgres", "ALTER DATABASE admindb ALLOW_CONNECTIONS false")


def gave_a_membership(server: ShapedServer) -> None:
    """The connector made a role a member of another."""
    with connector(server) as conn:
        conn.execute("CREATE ROLE jit_two")
        conn.execute("CREATE ROLE jit_three")
        conn.execute("GRANT jit_three TO jit_two")


REFUSALS: dict[Callable[[ShapedServer], None], str] = {
    owns_a_table: "database appdb_open: it owns table alpha_s.its_own",
    owns_a_database: "the server: it owns database its_db",
    has_passed_on_a_table: (
        f'database {HOSTILE_DATABASE}: it has passed on privileges on table S "x".t_plain to jit_one'
    ),
    has_passed_on_a_database: "the server: it has passed on privileges on database locked_db to app_gamma",
    is_named_in_a_policy: "database appdb_open: it is named in policy named on table alpha_s.t_rls",
    holds_a_column: "database appdb_open: it has privileges on column id of table alpha_s.t_plain",
    is_given_by_one_out_of_reach: "database appdb_open: it holds privileges given by {superuser}: ",
    gave_a_membership: "the server: it has made jit_two a member of jit_three",
    cannot_be_visited: "database locked_db: it has privileges there, and cloudadmin can't enter",
    cannot_be_connected_to: "database admindb: it has privileges there, and cloudadmin can't enter",
}


def test_absent_names_every_obstacle_and_changes_nothing(shaped: Shaped, major: int) -> None:
    """One obstacle after the other is added; those that shut a database come last, since they hide what is in it."""
    server = shaped(major=major, shape="rds")
    bootstrapped(server)
    expected: list[str] = []
    for obstacle, line in REFUSALS.items():
        obstacle(server)
        expected.append(line.format(superuser=server.superuser))
        xid = next_xid(server)
        said = bootstrap(server, state="absent")
        assert said["failed"], said
        assert (said["changed"], said["error_kind"]) == (False, "database_refused")
        assert [one for one in expected if one not in said["msg"]] == []
        assert f"{CONNECTOR} can't be removed and nothing was changed: " in said["msg"]
        assert bootstrap(server, state="absent", check=True)["msg"] == said["msg"]
        assert next_xid(server) == xid, "whoever writes takes a transaction id"


def test_absent_refuses_while_the_connector_administers_a_role(shaped: Shaped, shape: str) -> None:
    server = shaped(major=17, shape=shape)
    bootstrapped(server)
    with connector(server) as conn:
        conn.execute("CREATE ROLE jit_one")
    before = catalog(server)
    said = bootstrap(server, state="absent")
    assert "the server: it administers role jit_one, which nobody else could drop then" in said["msg"]
    assert changes(before, catalog(server)) == []
    with connector(server) as conn:
        conn.execute("DROP ROLE jit_one")
    assert bootstrapped(server, state="absent")["changed"] is True


def test_with_platform_group_a_privilege_passed_on_by_the_group_stops_absent(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    options: dict[str, Any] = {"grant_to": "platform_group"}
    bootstrapped(server, **options)
    with connector(server, "appdb_open") as conn:
        conn.execute("CREATE ROLE jit_one")
        conn.execute("GRANT SELECT ON beta_s.t_plain TO jit_one")
    if major >= 16:
        run_in(server, "postgres", f"REVOKE jit_one FROM {CONNECTOR}")
    before = catalog(server)
    said = bootstrap(server, state="absent", **options)
    assert said["failed"], said
    assert "database appdb_open: " in said["msg"]
    assert "has passed on privileges on table beta_s.t_plain to jit_one" in said["msg"]
    assert changes(before, catalog(server)) == []


@pytest.mark.parametrize("name", ["app_alpha", "app_hyb", "app_fellow", "cloudadmin2"])
def test_a_role_that_is_no_connector_is_not_removed(shaped_once: Shaped, major: int, name: str) -> None:
    server = shaped_once(major=major, shape="azure")
    xid = next_xid(server)
    said = bootstrap(server, state="absent", connector=name)
    assert said["failed"], said
    assert name in said["msg"]
    assert next_xid(server) == xid


def test_a_privilege_that_was_given_to_the_connector_before_is_taken_too(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    run_in(server, "postgres", f"CREATE ROLE {CONNECTOR} LOGIN CREATEROLE", user=server.admin)
    run_in(server, "appdb_open", f"GRANT SELECT ON alpha_s.t_plain TO {CONNECTOR}", user="app_alpha")
    bootstrapped(server, state="absent")
    assert ask(server, "SELECT count(*) FROM pg_roles WHERE rolname = %(name)s", name=CONNECTOR) == [(0,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connector(server)
