# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role `rotation` and its playbook, run by ansible-playbook against servers of both shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.options import ARGUMENTS
from tests.integration.ansible_runs import ROOT, Project, Run
from tests.integration.connector_secrets import Aws, Azure, enter
from tests.integration.rotation import ADMIN_SECRET, FIRST, Site
from tests.rig import ShapedServer

MAJORS = {"rds": 15, "azure": 17}
PLAYBOOK = "latchkey.postgres.rotate"
NOWHERE = {"pg_host": "nowhere.invalid", "pg_connector_secret": "apono"}

Shaped = Callable[..., ShapedServer]
Sites = Callable[[str], Site]

pytestmark = [pytest.mark.usefixtures("forgotten")]


@pytest.fixture
def site(project: Project, shaped_once: Shaped, monkeypatch: pytest.MonkeyPatch) -> Sites:
    """Return an application with a login and a secret of its own on a server of a shape."""
    stores = {"rds": Aws(fake=project.aws), "azure": Azure(fake=project.azure)}
    enter(stores["rds"].environment() | stores["azure"].environment(), monkeypatch)

    def get(shape: str) -> Site:
        one = Site(server=shaped_once(major=MAJORS[shape], shape=shape), store=stores[shape])
        one.prepare()
        return one

    return get


def described(site: Site, **more: Any) -> dict[str, Any]:
    """The variables of a host; the group tells the provider."""
    server, store = site.server, {key: value for key, value in site.store.option.items() if key != "provider"}
    at = {"pg_host": server.host, "pg_port": server.port, "pg_ca_cert": str(server.ca), "pg_secret_store": store}
    return {**at, "pg_connector_secret": site.secret, **more}


def summary(run: Run) -> str:
    return run.output.partition("TASK [Summary]")[2].partition("TASK [")[0]


def shows_nothing(run: Run, *sites: Site) -> bool:
    """Whether no password that any of them ever had is to be seen."""
    passwords = {json.loads(text)["password"] for site in sites for text in site.store.history(site.secret)}
    return FIRST in passwords and not [text for text in (*passwords, "SCRAM-SHA-256$") if text in run.output]


# ------------------------------------------------------------------ the playbook
def test_of_a_fleet_the_servers_that_are_up_are_rotated_and_the_command_fails_for_the_other(
    project: Project, site: Sites
) -> None:
    orders, down, billing = site("rds"), site("rds"), site("azure")
    down.put(port=1)
    taking_turns = {"rotation_strategy": "alternate", "rotation_admin_secret": ADMIN_SECRET}
    project.inventory("pg_rds", orders=described(orders), down=described(down, pg_port=1))
    project.inventory("pg_azure", billing=described(billing, **taking_turns))

    checked = project.run("--check", "--diff", "-vvvv", playbook=PLAYBOOK, rotation_max_age_days=0)
    assert checked.code == 2, checked.output
    assert f'"orders: {orders.secret} would be rotated, it is older than 0 days"' in summary(checked)
    assert [one.stored()["password"] for one in (orders, down, billing)] == [FIRST] * 3

    run = project.run("--diff", "-vvvv", playbook=PLAYBOOK, rotation_max_age_days=0)
    assert run.code == 2
    changes = {"billing": (1, 0), "down": (0, 1), "localhost": (0, 0), "orders": (1, 0)}
    assert run.recap == changes, run.output
    assert f'"orders: {orders.secret} rotated, it is older than 0 days"' in summary(run)
    assert f'"billing: {billing.secret} rotated, it is older than 0 days"' in summary(run)
    assert f'"down: {down.secret} failed, {down.server.host}:1' in summary(run)
    for one in (orders, billing):
        one.settled()
        assert one.stored()["password"] != FIRST
    assert (orders.stored()["username"], billing.stored()["username"]) == (orders.login, billing.second)
    assert not orders.logs_in(FIRST)
    assert billing.logs_in(FIRST)
    assert down.stored()["password"] == FIRST

    again = project.run("-vvvv", playbook=PLAYBOOK, rotation_servers="orders,billing")
    assert (again.code, again.recap) == (0, dict.fromkeys(("billing", "localhost", "orders"), (0, 0))), again.output
    assert f'"orders: {orders.secret} not due, it is not older than 30 days"' in summary(again)
    assert f'"billing: {billing.secret} not due, it is not older than 30 days"' in summary(again)
    for one in (checked, run, again):
        assert shows_nothing(one, orders, billing)


def test_a_server_that_is_down_does_not_matter_while_nothing_is_due(project: Project, site: Sites) -> None:
    down = site("rds")
    project.inventory("pg_rds", down=described(down, pg_port=1))
    run = project.run(playbook=PLAYBOOK)
    assert (run.code, run.recap["down"]) == (0, (0, 0)), run.output
    assert f'"down: {down.secret} not due, it is not older than 30 days"' in summary(run)


def test_an_unknown_server_is_an_error(project: Project) -> None:
    project.inventory("pg_rds", orders=NOWHERE)
    unknown = project.run(playbook=PLAYBOOK, rotation_servers="odrers")
    assert unknown.code == 2
    assert "odrers is not in the inventory: correct rotation_servers" in unknown.output


# ------------------------------------------------------------------ the role
def test_of_several_secrets_each_has_options_of_its_own_and_one_that_fails_stops_none(
    project: Project, site: Sites
) -> None:
    one, other = site("rds"), site("rds")
    wanted = [
        {"name": one.secret, "strategy": "alternate", "admin_secret": ADMIN_SECRET, "password_length": 20},
        {"name": "orders-nothing"},
        {"name": other.secret, "max_age_days": 3},
    ]
    project.inventory("pg_rds", orders=described(one, pg_connector_secret="apono", rotation_secrets=wanted))
    run = project.run("-vvvv", playbook=PLAYBOOK, rotation_max_age_days=0, latchkey_direct="never")
    assert (run.code, run.recap["orders"]) == (2, (0, 1)), run.output
    assert one.stored()["username"] == one.second
    assert len(one.stored()["password"]) == 20
    assert other.stored()["password"] == FIRST
    told = summary(run)
    assert f'"orders: {one.secret} rotated, it is older than 0 days"' in told
    assert '"orders: orders-nothing failed, ' in told
    assert f'"orders: {other.secret} not due, it is not older than 3 days"' in told
    assert shows_nothing(run, one, other)


def test_a_secret_that_is_asked_for_goes_alone_and_with_the_options_it_has_in_the_list(
    project: Project, site: Sites
) -> None:
    one, other = site("rds"), site("rds")
    wanted = [{"name": one.secret, "strategy": "alternate"}, {"name": other.secret}]
    admin = {"pg_admin_secret": ADMIN_SECRET}
    project.inventory("pg_rds", orders=described(one, rotation_secrets=wanted, **admin))
    project.play("rotation", secret=one.secret, force=True)
    run = project.run()
    assert run.code == 0, run.output
    assert [found["secret"]["name"] for found in run.results["orders"]["results"]] == [one.secret]
    assert one.stored()["username"] == one.second
    assert other.stored()["password"] == FIRST


def test_what_is_empty_was_not_answered(project: Project, site: Sites) -> None:
    orders = site("azure")
    project.inventory("pg_azure", orders=described(orders))
    project.play("rotation")
    options = documented()
    empty = {name: "" for name, one in options.items() if one["type"] in {"str", "path"} and "choices" not in one}
    assert len(empty) > 10
    run = project.run(**{f"rotation_{name}": value for name, value in empty.items()}, rotation_force="true")
    assert run.code == 0, run.output
    (found,) = run.results["orders"]["results"]
    assert (found["action"], found["username"]) == ("rotated", orders.login)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"strategy": "sometimes"}, "value of rotation_strategy must be one of: single, admin, alternate"),
        ({"secrets": [{"name": "a", "stategy": "single"}]}, "rotation_secrets.stategy"),
        ({"secrets": [{"strategy": "single"}]}, "missing required arguments: name found in rotation_secrets"),
        ({"max_age_days": "a month"}, "rotation_max_age_days"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(
    project: Project, options: dict[str, Any], complaint: str
) -> None:
    project.inventory("pg_rds", orders=NOWHERE)
    project.play("rotation", **options)
    run = project.run("-vvvv")
    assert run.code == 2
    assert "Validation of arguments failed:" in run.output
    assert complaint in run.output
    assert project.aws.requests == []


def test_a_host_without_a_secret_says_so(project: Project) -> None:
    project.inventory("pg_rds", orders={"pg_host": "nowhere.invalid"})
    run = project.run(playbook=PLAYBOOK)
    assert run.code == 2
    assert (
        "orders: failed, No secret is named: set rotation_secret, rotation_secrets or pg_connector_secret" in run.output
    )


def documented() -> dict[str, Any]:
    """The role's documented options, without its prefix."""
    text = (ROOT / "roles" / "rotation" / "meta" / "argument_specs.yml").read_text()
    options = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    return {name.removeprefix("rotation_"): option for name, option in options.items()}


def test_options_of_one_secret_are_those_of_the_module() -> None:
    options = documented()["secrets"]["options"]
    del options["name"]
    for name, option in options.items():
        same = ("type", "choices", "no_log")
        assert {key: option.get(key) for key in same} == {key: ARGUMENTS[name].get(key) for key in same}, name
