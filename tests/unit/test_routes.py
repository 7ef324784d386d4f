# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may act as whom, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import (
    AZURE,
    POSTGRES,
    RDS,
    by_host,
    detect,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import (
    Membership,
    Role,
    RoleGraph,
    Route,
)

OLD, NEW = 150000, 160000


def graph(version: int, *memberships: Membership, supers: tuple[str, ...] = (), **more: Any) -> RoleGraph:
    """A graph of the roles that are named, with the administrator `me`, who has CREATEROLE."""
    names = {"me", "app", *supers, *(name for m in memberships for name in (m.role, m.member))}
    roles = {
        name: Role(name=name, oid=number, superuser=name in supers, create_role=name == "me")
        for number, name in enumerate(sorted(names))
    }
    return RoleGraph(me="me", version=version, roles=roles, memberships=memberships, **{"platform": RDS, **more})


def admin(role: str, member: str) -> Membership:
    """A membership that is good for nothing but handing it on."""
    return Membership(role=role, member=member, admin=True, inherit=False, set=False)


def test_oneself_is_reached_without_any_statement() -> None:
    assert graph(NEW).route("me") == Route(role="me", inherited=True)


def test_an_unknown_role_has_no_route() -> None:
    assert graph(OLD).route("nobody") is None


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_role_one_may_set_is_not_borrowed(version: int) -> None:
    found = graph(version, Membership(role="mid", member="me"), Membership(role="app", member="mid"))
    assert found.route("app") == Route(role="app")


def test_a_role_one_inherits_but_may_not_set_serves_by_its_rights() -> None:
    found = graph(NEW, Membership(role="app", member="me", inherit=True, set=False))
    assert found.route("app") == Route(role="app", inherited=True)


def test_a_chain_of_set_is_broken_by_one_link_without_it() -> None:
    links = (
        Membership(role="mid", member="me", inherit=False, set=True),
        Membership(role="app", member="mid", inherit=True, set=False),
    )
    assert graph(NEW, *links).route("app") is None


def test_before_16_createrole_borrows_any_role_but_a_superuser() -> None:
    found = graph(OLD, supers=("root",))
    assert found.route("app") == Route(role="app", borrow=("app",))
    assert found.route("root") is None


def test_from_16_on_createrole_alone_borrows_nothing() -> None:
    assert graph(NEW).route("app") is None


def test_before_16_a_role_that_is_a_member_of_oneself_cannot_be_borrowed() -> None:
    links = (Membership(role="mid", member="app"), Membership(role="me", member="mid"))
    assert graph(OLD, *links).route("app") is None
    assert graph(NEW, *links, admin("app", "me")).route("app") == Route(role="app", borrow=("app",))


def test_from_16_on_admin_option_borrows() -> None:
    assert graph(NEW, admin("app", "me")).route("app") == Route(role="app", borrow=("app",))


def test_admin_option_of_an_inherited_role_counts_and_of_one_that_is_not_does_not() -> None:
    inherited = graph(NEW, Membership(role="mid", member="me", set=False), admin("app", "mid"))
    assert inherited.route("app") == Route(role="app", borrow=("app",))
    aloof = graph(NEW, Membership(role="mid", member="me", inherit=False, set=False), admin("app", "mid"))
    assert aloof.route("app") is None


def test_the_shortest_chain_of_lenders_is_taken() -> None:
    long = (admin("one", "me"), admin("two", "one"), admin("app", "two"))
    assert graph(NEW, *long).route("app") == Route(role="app", borrow=("one", "two", "app"))
    short = graph(NEW, *long, admin("three", "me"), admin("app", "three"))
    assert short.route("app") == Route(role="app", borrow=("three", "app"))


def test_a_circle_of_lenders_ends() -> None:
    assert graph(NEW, admin("one", "me"), admin("two", "one"), admin("one", "two")).route("app") is None


@pytest.mark.parametrize("lender", ["rds_superuser", "pg_monitor", "rdsadmin"])
def test_what_belongs_to_the_platform_lends_nothing(lender: str) -> None:
    links = (admin(lender, "me"), admin("app", lender))
    assert graph(NEW, *links, supers=("rdsadmin",)).route("app") is None


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_superuser_becomes_anybody_even_another_superuser(version: int) -> None:
    found = graph(version, supers=("me", "root"))
    assert found.route("app") == Route(role="app")
    assert found.route("root") == Route(role="root")


def test_an_open_engine_is_asked_for_customer_roles_only_and_proves_nothing() -> None:
    found = graph(NEW, admin("rdsadmin", "x"), admin("rds_iam", "x"), supers=("rdsadmin",), open_engine=True)
    assert found.route("app") == Route(role="app", borrow=("app",), proven=False)
    assert (found.route("rdsadmin"), found.route("rds_iam")) == (None, None)


def test_an_open_engine_does_not_hide_a_way_that_is_proven() -> None:
    assert graph(NEW, admin("app", "me"), open_engine=True).route("app") == Route(role="app", borrow=("app",))


def test_who_may_grant_a_membership() -> None:
    old, new = graph(OLD, supers=("root",)), graph(NEW, admin("app", "me"), Membership(role="mid", member="me"))
    assert (old.may_grant_membership("app"), old.may_grant_membership("root")) == (True, False)
    assert (new.may_grant_membership("app"), new.may_grant_membership("mid")) == (True, False)
    assert graph(NEW, supers=("me",)).may_grant_membership("app")


@pytest.mark.parametrize(
    ("roles", "platform"), [({"rds_superuser"}, RDS), ({"azure_pg_admin"}, AZURE), ({"postgres"}, POSTGRES)]
)
def test_a_platform_is_known_by_the_role_of_its_administrators(roles: set[str], platform: object) -> None:
    assert detect(roles) is platform


@pytest.mark.parametrize(
    ("host", "platform"),
    [
        ("a.b.eu-west-1.rds.amazonaws.com", RDS),
        ("a.b.cn-north-1.rds.amazonaws.com.cn.", RDS),
        ("x.postgres.database.azure.com", AZURE),
        ("rds.amazonaws.com.example.org", POSTGRES),
    ],
)
def test_a_platform_is_known_by_the_end_of_its_host_names(host: str, platform: object) -> None:
    assert by_host(host) is platform


def test_every_name_with_pg_and_an_underscore_is_postgresqls_own_and_pgboss_is_not() -> None:
    assert RDS.owns_role("pg_anything")
    assert not RDS.owns_role("pgboss")
    assert not POSTGRES.owns_role("rds_superuser")
