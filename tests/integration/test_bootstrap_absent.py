# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state=absent leaves the server as it was before, or stops with everything as it is."""

from __future__ import annotations

import re
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


# ------------------------------------------------------------------ the connector's own default privileges
RETIRED = 'old "conn" é%s'


def sent(said: dict[str, Any], database: str) -> list[str]:
    """The statements of a result that are about one database."""
    return [one["sql"] for one in said["statements"] if one["database"] == database]


def own_defaults(server: ShapedServer, dbname: str = "appdb_open", name: str = CONNECTOR) -> list[Any]:
    """The default privileges that belong to a connector."""
    return ask(server, "SELECT defaclacl::text FROM pg_default_acl WHERE defaclrole::regrole = %(n)s::regrole",
               dbname, n='"' + name.replace('"', '""') + '"')  # fmt: skip


def given_to(found: dict[str, Any], role: str) -> set[Any]:
    """What a catalog says that a role holds, but for the default privileges of both connectors, on nothing as yet."""
    rows = [(place, row) for place, rows in found.items() for row in rows if not row[2].startswith(('"old ', role))]
    return {(place, row[:3], item) for place, row in rows for item in re.findall(rf"\b{role}=[^,}}]*", row[3] or "")}


def test_of_two_connectors_each_can_be_removed(shaped: Shaped, major: int, shape: str) -> None:
    """Each run takes the other connector for one who creates objects, as it may be."""
    server = shaped(major=major, shape=shape)
    before = catalog(server)
    for name in (RETIRED, CONNECTOR, RETIRED, CONNECTOR):
        given = bootstrapped(server, connector=name)
    assert own_defaults(server, name=RETIRED) != []
    between = catalog(server)
    options: dict[str, Any] = {"state": "absent", "connector": RETIRED}
    planned = bootstrapped(server, check=True, diff=True, **options)
    assert changes(between, catalog(server)) == []
    taken = bootstrapped(server, diff=True, **options)
    assert (taken["statements"], taken["diff"]) == (planned["statements"], planned["diff"])
    role = '"old ""conn"" é%s"'
    revoke = f'ALTER DEFAULT PRIVILEGES FOR ROLE {role} REVOKE ALL PRIVILEGES ON ROUTINES FROM "{CONNECTOR}"'
    assert revoke in sent(taken, "appdb_open")
    assert f"appdb_open: DEFAULT ROUTINES of {RETIRED}: EXECUTE to {CONNECTOR}\n" in taken["diff"]["before"]
    assert not any("DROP OWNED" in one["sql"] for one in taken["statements"])
    assert len(given_to(between, CONNECTOR)) > 400
    assert given_to(catalog(server), CONNECTOR) == given_to(between, CONNECTOR)
    third = bootstrapped(server)
    assert (third["coverage"], third["uncovered"]) == (given["coverage"], given["uncovered"])
    # The removed one had let the administrator into a database: the other one has to do it now, and nothing else.
    granted = [one["sql"] for one in third["statements"] if one["sql"].startswith("GRANT") and " ON " in one["sql"]]
    assert granted == [f'GRANT CONNECT ON DATABASE "locked_db" TO "{server.admin}"']
    xid = next_xid(server)
    assert bootstrapped(server)["changed"] is False
    assert next_xid(server) == xid
    bootstrapped(server, state="absent")
    assert changes(before, catalog(server)) == []


DEFAULTS_BY_HAND = (
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} IN SCHEMA alpha_s GRANT SELECT, INSERT ON TABLES TO reader, PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} IN SCHEMA alpha_s GRANT ALL ON SEQUENCES TO {0} WITH GRANT OPTION",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT ON TABLES TO reader WITH GRANT OPTION",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} REVOKE DELETE, TRUNCATE ON TABLES FROM {0}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} REVOKE USAGE ON TYPES FROM PUBLIC, {0}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE ON SCHEMAS TO reader",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE ON SEQUENCES TO {0} WITH GRANT OPTION",
)


@pytest.mark.parametrize("grant_to", ["connector", "platform_group"])
def test_default_privileges_that_somebody_set_for_the_connector_go_with_it(
    shaped: Shaped, major: int, shape: str, variant: str, grant_to: str
) -> None:
    """What was withheld is given back, because only then the server forgets the entry."""
    if grant_to == "platform_group" and not may_use_group(major, shape, variant):
        pytest.skip("the rig's engine has no hook for RDS 16+")
    server = shaped(major=major, shape=shape, variant=variant)
    run_in(server, "postgres", "CREATE ROLE reader")
    before = catalog(server)
    bootstrapped(server, grant_to=grant_to)
    run_in(server, "appdb_open", *(one.format(CONNECTOR) for one in DEFAULTS_BY_HAND))
    run_in(server, "appdb_open", "CREATE SCHEMA later", user=CONNECTOR)
    run_in(server, "appdb_open", f"ALTER SCHEMA later OWNER TO {server.superuser}", "DROP SCHEMA later")
    assert len(own_defaults(server)) == 7  # the two on tables of the whole database are one entry
    options: dict[str, Any] = {"state": "absent", "grant_to": grant_to, "diff": True}
    planned = bootstrapped(server, check=True, **options)
    assert len(own_defaults(server)) == 7
    taken = bootstrapped(server, **options)
    assert (taken["statements"], taken["diff"]) == (planned["statements"], planned["diff"])
    mine = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{CONNECTOR}"'
    assert {
        f'{mine} IN SCHEMA "alpha_s" REVOKE INSERT, SELECT ON TABLES FROM PUBLIC',
        f'{mine} IN SCHEMA "alpha_s" REVOKE INSERT, SELECT ON TABLES FROM "reader"',
        f'{mine} GRANT DELETE, TRUNCATE ON TABLES TO "{CONNECTOR}"',
        f"{mine} GRANT ALL PRIVILEGES ON ROUTINES TO PUBLIC",
    } <= set(sent(taken, "appdb_open"))
    lost = taken["diff"]["before"]
    assert f"appdb_open: DEFAULT TABLES of {CONNECTOR} in alpha_s: INSERT, SELECT to reader\n" in lost
    assert f"appdb_open: DEFAULT ROUTINES of {CONNECTOR}: EXECUTE withheld from PUBLIC\n" in lost
    assert changes(before, catalog(server)) == []


def test_default_privileges_go_only_if_all_can_go(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    bootstrapped(server)
    run_in(server, "appdb_open", *(f"ALTER DEFAULT PRIVILEGES FOR ROLE {CONNECTOR} {one}" for one in (
        "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "GRANT SELECT ON TABLES TO app_alpha")))  # fmt: skip
    owns_a_table(server)
    before, xid = catalog(server), next_xid(server)
    said = bootstrap(server, state="absent")
    only = f"{CONNECTOR} can't be removed and nothing was changed: database appdb_open: it owns table alpha_s.its_own. "
    assert only in said["msg"]
    assert next_xid(server) == xid
    assert changes(before, catalog(server)) == []
    run_in(server, "appdb_open", "DROP TABLE alpha_s.its_own")
    bootstrapped(server, state="absent")


def test_a_connector_that_nobody_may_act_as_keeps_its_default_privileges(shaped: Shaped, shape: str) -> None:
    """Before 16 one that is a member of the administrator cannot lend itself to it."""
    server = shaped(major=15, shape=shape)
    bootstrapped(server, platform_membership=False)
    run_in(server, "postgres", f"GRANT {server.admin} TO {CONNECTOR}")
    run_in(server, "appdb_open", f"ALTER DEFAULT PRIVILEGES FOR ROLE {CONNECTOR} GRANT SELECT ON TABLES TO app_alpha")
    before = catalog(server)
    said = bootstrap(server, state="absent")
    assert said["failed"], said
    sql = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{CONNECTOR}" REVOKE SELECT ON TABLES FROM "app_alpha";'
    assert f"login {server.admin} may not act as it" in said["msg"]
    assert sql in said["msg"]
    assert changes(before, catalog(server)) == []


def test_default_privileges_on_large_objects_are_named_with_what_removes_them(shaped: Shaped, shape: str) -> None:
    server = shaped(major=18, shape=shape)
    before = catalog(server)
    bootstrapped(server)
    for creator, command in (
        (CONNECTOR, "GRANT SELECT ON LARGE OBJECTS TO app_alpha, PUBLIC"),
        (CONNECTOR, f"REVOKE UPDATE ON LARGE OBJECTS FROM {CONNECTOR}"),
        ("app_alpha", f"GRANT SELECT ON LARGE OBJECTS TO {CONNECTOR}"),
    ):
        run_in(server, "appdb_open", f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} {command}")
    present = catalog(server)
    said = bootstrap(server, state="absent")
    assert said["failed"], said
    assert changes(present, catalog(server)) == []
    remedies = re.findall(r"ALTER DEFAULT PRIVILEGES FOR ROLE [^;.]*", said["msg"])
    assert len(remedies) == 3
    run_in(server, "appdb_open", *remedies)
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


def test_of_many_obstacles_each_place_says_how_many_and_one(shaped: Shaped, major: int) -> None:
    """Who has to take them away needs to know where to begin, not to read them all."""
    server = shaped(major=major, shape="rds")
    names = [f"many_{number}" for number in range(8)]
    for name in names:
        run_in(server, "postgres", f"CREATE DATABASE {name}")
    bootstrapped(server)
    run_in(server, "postgres", "CREATE ROLE reader")
    for name in names:
        run_in(
            server,
            name,
            *(f"CREATE TABLE public.its_{number} (id int)" for number in range(30)),
            *(f"ALTER TABLE public.its_{number} OWNER TO {CONNECTOR}" for number in range(30)),
            "CREATE TABLE public.mine (id int, other int)",
            f"GRANT SELECT ON public.mine TO {CONNECTOR} WITH GRANT OPTION",
            f"GRANT SELECT (id, other) ON public.mine TO {CONNECTOR}",
            *(f"CREATE POLICY p{number} ON public.mine TO {CONNECTOR}" for number in range(3)),
        )
        run_in(server, name, "GRANT SELECT ON public.mine TO reader, app_alpha", user=CONNECTOR)
    run_in(server, "postgres", *(f"CREATE DATABASE its_{number} OWNER {CONNECTOR}" for number in range(3)))
    before, xid = catalog(server), next_xid(server)
    said = bootstrap(server, state="absent")
    assert said["failed"], said
    assert next_xid(server) == xid
    assert changes(before, catalog(server)) == []
    for line in (
        "database many_0: it owns 30 objects, among them table public.its_0",
        "database many_0: it has privileges on 2 objects, among them column id of table public.mine",
        "database many_0: it is named in 3 objects, among them policy p0 on table public.mine",
        "database many_0: it has passed on privileges in 2 cases, among them on table public.mine to app_alpha",
        f"database many_4: it holds privileges given by {server.superuser}: ",
        "; and 3 more databases; ",
        "the server: it owns 3 objects, among them database its_0",
    ):
        assert line in said["msg"]
    assert "many_5" not in said["msg"]
    assert len(said["msg"]) < 3000


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
