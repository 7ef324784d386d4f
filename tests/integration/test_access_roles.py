# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles `access` and `sweep` and their playbooks, run by ansible-playbook against servers of both shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.latchkey.postgres.plugins.module_utils._access import options as grant_options
from ansible_collections.latchkey.postgres.plugins.module_utils._access import sweep_options
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import options as rotation_options
from tests.integration.access import DATABASE, bootstrapped, expire, gets_in, grant, person, refusal
from tests.integration.ansible_runs import ROOT, VAULT, Project, play
from tests.integration.product import CONNECTOR, SECRET, ask, succeeded
from tests.rig import ShapedServer

MAJORS = {"rds": 15, "azure": 17}
READ, WRITE = "SELECT count(*) FROM alpha_s.t_plain", "DELETE FROM alpha_s.t_plain"
INSUFFICIENT_PRIVILEGE = "42501"
SHOWN = SECRET.partition("é")[0]  # the part that is the same however a text is quoted
# What the roles call differently, because their own name stands before it.
RENAMED = {"items": "access", "message": "access_details"}
# What modules do not have.
OWN = {
    "access": {"database", "permission", "schemas", "tables", "routines", "role"},
    "rotation": {"secrets"},
    "sweep": set(),
}
# Here a text will do for what is a list or a dictionary to the module.
LOOSE = {"access_items", "access_secret"}

Shaped = Callable[..., ShapedServer]


@pytest.fixture(scope="module")
def fleet(shaped_once: Shaped) -> Callable[[str], ShapedServer]:
    """Bootstrapped servers, one of each shape."""
    done: set[str] = set()

    def get(shape: str) -> ShapedServer:
        server = shaped_once(major=MAJORS[shape], shape=shape)
        if shape not in done:
            bootstrapped(server)
            done.add(shape)
        return server

    return get


def described(server: ShapedServer, **more: Any) -> dict[str, Any]:
    """The variables of a host whose connector logs in with a password."""
    at = {"pg_host": server.host, "pg_port": server.port, "pg_ca_cert": str(server.ca)}
    return {**at, "pg_connector_password": SECRET, **more}


def request(unique: str, **more: Any) -> dict[str, Any]:
    """What a person asks for."""
    item = {"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"]}
    return {
        "request_id": f"R-{unique}",
        "grantee": f"ada-{unique}@example.org",
        "items": [item],
        "duration": "1h",
        **more,
    }


# ------------------------------------------------------------------ the role access
@pytest.mark.parametrize("shape", ["rds", "azure"])
def test_a_person_gets_in_by_the_secret_reads_and_is_out_after_the_end_and_no_password_is_shown(
    project: Project, fleet: Callable[[str], ShapedServer], shape: str, unique: str
) -> None:
    server = fleet(shape)
    store = {"azure": {"vault_url": f"https://{VAULT}.vault.azure.net"}, "rds": {}}[shape]
    project.inventory(f"pg_{shape}", orders=described(server, pg_secret_store=store))
    asked = request(unique, secret=f"people-{unique}", reason="a refund", approver="grace@example.org")
    project.play("access", **asked)

    checked = project.run("--check", "--diff", "-vvvv")
    assert (checked.code, checked.recap) == (0, {"orders": (1, 0)}), checked.output
    assert not ask(server, f"SELECT FROM pg_roles WHERE rolname = '{checked.results['orders']['login']}'")

    given = project.run("--diff", "-vvvv")
    assert (given.code, given.recap) == (0, {"orders": (1, 0)}), given.output
    said, credentials = given.results["orders"], project.value(shape, f"people-{unique}")
    assert credentials["username"] == said["login"]
    assert said["access_details"] in given.output
    assert f"people-{unique}" in said["access_details"]
    with person(server, credentials | {"login": said["login"]}) as someone:
        assert refusal(someone, READ) is None
        assert refusal(someone, WRITE) == INSUFFICIENT_PRIVILEGE

    again = project.run("--diff", "-vvvv")
    assert (again.code, again.recap) == (0, {"orders": (0, 0)}), again.output
    project.play("access", request_id=asked["request_id"], state="absent", secret=f"people-{unique}")
    over = project.run("--diff", "-vvvv", latchkey_direct="never")
    assert (over.code, over.recap) == (0, {"orders": (1, 0)}), over.output
    assert over.results["orders"]["fenced"] == [said["login"]]
    assert not gets_in(server, credentials | {"login": said["login"]})
    assert "password" not in project.value(shape, f"people-{unique}")
    for run in (checked, given, again, over):
        assert SHOWN not in run.output
        assert credentials["password"] not in run.output
        assert "SCRAM-SHA-256$" not in run.output


def test_the_connector_logs_in_by_its_secret_and_the_journal_knows_who_and_why(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    wrong = {"pg_connector_user": "x", "pg_connector_password": "not this one"}
    project.inventory("pg_rds", orders=described(server, pg_connector_secret=f"apono-{unique}", **wrong))
    project.store(f"apono-{unique}", {"username": CONNECTOR, "password": SECRET})
    project.play("access", **request(unique, reason="a refund", approver="grace", return_password=True))
    run = project.run()
    assert run.code == 0, run.output
    query = "SELECT action, approver, reason FROM latchkey.journal WHERE request = %(request)s"
    assert ask(server, query, request=f"R-{unique}") == [("grant", "grace", "a refund")]


def test_a_password_that_is_asked_for_is_in_the_fact_alone_and_a_mistake_is_said_all_the_same(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    project.inventory("pg_rds", orders=described(server))
    project.play("access", **request(unique, return_password=True))
    run = project.run("-vvvv", "--diff")
    assert run.code == 0, run.output
    said = run.results["orders"]
    assert gets_in(server, said)
    assert said["password"] not in run.output
    assert said["access_details"] in run.output
    project.play("access", **request(unique, return_password=True, duration="9h"))
    refused = project.run()
    assert refused.code == 2
    assert "duration: 9h is longer than max_duration, 8h" in refused.output


def test_the_answers_of_a_survey_are_one_item_and_what_is_empty_was_not_answered(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    project.inventory("pg_rds", orders=described(server))
    project.play("access")
    empty = {f"access_{name}": "" for name, option in documented("access").items() if may_be_empty(option)}
    assert len(empty) > 15
    answers = {
        "access_request_id": f"R-{unique}",
        "access_grantee": f"ada-{unique}",
        "access_database": DATABASE,
        "access_schemas": "alpha_s, beta_s",
        "access_tables": "t_plain",
        "access_duration": "90m",
        "access_return_password": "true",
    }
    run = project.run(**{**empty, **answers})
    assert run.code == 0, run.output
    (item,) = run.results["orders"]["items"]
    assert (item["permission"], item["schemas"], item["objects"]) == ("READ_ONLY", ["alpha_s", "beta_s"], ["t_plain"])
    with person(server, run.results["orders"]) as someone:
        assert refusal(someone, "SELECT FROM beta_s.t_plain") is None
        assert refusal(someone, "SELECT FROM beta_s.t_part") == INSUFFICIENT_PRIVILEGE


def test_items_may_be_text_and_an_item_of_single_values_is_asked_for_with_them(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    project.inventory("pg_rds", orders=described(server))
    text = f"- {{database: {DATABASE}, permission: EXECUTE, schemas: [alpha_s]}}"
    project.play("access", **request(unique, items=text, database="admindb", return_password=True))
    run = project.run("--check")
    assert run.code == 0, run.output
    found = [(item["database"], item["permission"]) for item in run.results["orders"]["items"]]
    assert found == [(DATABASE, "EXECUTE"), ("admindb", "READ_ONLY")]


def test_a_separator_alone_never_means_all_tables(project: Project, unique: str) -> None:
    project.inventory("pg_rds", orders={"pg_host": "nowhere.invalid", "pg_connector_password": SECRET})
    project.play("access", **request(unique, items=[], database=DATABASE, tables=" , ", return_password=True))
    run = project.run()
    assert run.code == 2
    assert "access: item 1 has an empty tables" in run.output


def test_a_wrong_argument_is_named_before_anything_is_sent(project: Project, unique: str) -> None:
    project.inventory("pg_rds", orders={"pg_host": "nowhere.invalid", "pg_connector_password": SECRET})
    project.play("access", **request(unique, permission="EVERYTHING"))
    run = project.run("-vvvv")
    assert run.code == 2
    said = "value of access_permission must be one of: READ_ONLY, READ_WRITE, ADMIN, EXECUTE"
    assert f"Validation of arguments failed:\n{said}" in run.output.replace("\\n", "\n")
    assert "nowhere.invalid:5432" not in run.output
    assert SHOWN not in run.output


def test_a_secret_for_all_is_not_looked_at_where_no_password_is_made(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    with server.connect() as conn:
        conn.execute(f"CREATE ROLE person_{unique} LOGIN".encode())
    project.inventory("pg_rds", orders=described(server, access_secret={"name": "people-all", "tags": {"a": "b"}}))
    project.play("access", **request(unique, grantee=f"person_{unique}", login="existing"))
    run = project.run()
    assert run.code == 0, run.output
    assert run.results["orders"]["login"] == f"person_{unique}"
    assert "people-all" not in project.aws.secrets


# ------------------------------------------------------------------ the playbooks
def variables_of(unique: str, **more: Any) -> dict[str, Any]:
    """A request as extra variables."""
    return {f"access_{name}": value for name, value in request(unique, **more).items()}


def test_the_playbook_gives_access_on_the_server_that_is_said_and_on_no_other(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("rds")
    project.inventory("pg_rds", orders=described(server), other={"pg_host": "nowhere.invalid"})
    asked = variables_of(unique, return_password=True)
    nowhere = project.run(playbook="latchkey.postgres.grant", **asked)
    unknown = project.run(playbook="latchkey.postgres.grant", **asked, access_server="odrers")
    assert (nowhere.code, unknown.code) == (2, 2)
    assert "No server is not in the inventory: set access_server, or use --limit" in nowhere.output
    assert "odrers is not in the inventory: set access_server, or use --limit" in unknown.output
    assert nowhere.recap.keys() == unknown.recap.keys() == {"localhost"}
    limited = project.run("--limit", "orders", playbook="latchkey.postgres.grant", **asked)
    assert (limited.code, limited.recap) == (0, {"orders": (1, 0)}), limited.output
    named = project.run(playbook="latchkey.postgres.grant", **asked, access_server="orders")
    assert (named.code, named.recap["orders"]) == (0, (0, 0)), named.output


def test_the_playbook_ends_a_request_wherever_it_is_though_a_server_is_down(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    with_it, without = fleet("rds"), fleet("azure")
    said = succeeded(grant(with_it, f"R-{unique}", f"ada-{unique}"))
    project.inventory("pg_rds", orders=described(with_it))
    project.inventory("pg_azure", billing=described(without), down=described(without, pg_port=1))
    run = project.run(playbook="latchkey.postgres.revoke", access_request_id=f"R-{unique}")
    assert (run.code, run.recap) == (
        2,
        {"billing": (0, 0), "down": (0, 1), "localhost": (0, 0), "orders": (1, 0)},
    ), run.output
    assert f"Request R-{unique} is ended" in run.output
    assert f"Request R-{unique} had no access to end" in run.output
    assert not gets_in(with_it, said)
    unknown = project.run(playbook="latchkey.postgres.revoke", access_request_id="R", access_server="odrers")
    assert unknown.code == 2


def test_a_sweep_of_all_ends_what_is_over_tells_of_all_and_fails_for_what_is_overdue_or_down(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    servers = {"orders": fleet("rds"), "billing": fleet("azure")}
    people = {name: succeeded(grant(server, f"R-{unique}", f"ada-{unique}")) for name, server in servers.items()}
    for server in servers.values():
        expire(server, f"R-{unique}")
    # A reader that can't be asked may still have sessions.
    project.inventory("pg_azure", billing=described(servers["billing"], pg_readers=["localhost:1"]))
    project.inventory("pg_rds", orders=described(servers["orders"]), down=described(servers["orders"], pg_port=1))
    run = project.run("-vvvv", playbook="latchkey.postgres.sweep")
    assert run.code == 2, run.output
    assert {name: failed for name, (_changed, failed) in run.recap.items() if failed} == {"billing": 1, "down": 1}
    summary = run.output.partition("TASK [Summary]")[2]
    assert re.search(r'"orders: \d+ ended, \d+ logins shut, 0 dropped, 0 blocked, \d+ drifted, 0 overdue"', summary)
    assert re.search(r'"billing: \d+ ended, .* 1 overdue"', summary)
    assert '"down: not swept"' in summary
    assert "reader localhost:1" in summary
    assert SHOWN not in run.output
    assert not [name for name, server in servers.items() if gets_in(server, people[name])]

    project.inventory("pg_azure", billing=described(servers["billing"]))
    later = project.run("--limit", "orders,billing", playbook="latchkey.postgres.sweep")
    assert (later.code, later.recap["billing"][1]) == (0, 0), later.output
    assert ", 0 overdue" in later.output
    unknown = project.run(playbook="latchkey.postgres.sweep", sweep_servers="odrers")
    assert unknown.code == 2


def test_who_left_is_out_and_forgotten_at_once(
    project: Project, fleet: Callable[[str], ShapedServer], unique: str
) -> None:
    server = fleet("azure")
    gone, stays = (succeeded(grant(server, f"R-{name}-{unique}", f"{name}-{unique}")) for name in ("ada", "grace"))
    project.inventory("pg_azure", billing=described(server))
    project.play("sweep", gone=f"nobody, ada-{unique}")
    checked = project.run("--check", "--diff")
    assert (checked.code, checked.results["billing"]["ended"]) == (0, [f"R-ada-{unique}"]), checked.output
    assert gets_in(server, gone)
    run = project.run("--diff")
    assert (run.code, run.results["billing"]["dropped"]) == (0, [gone["login"]]), run.output
    assert not ask(server, f"SELECT FROM pg_roles WHERE rolname = '{gone['login']}'")
    assert gets_in(server, stays)


# ------------------------------------------------------------------ options
@pytest.mark.parametrize("module", ["grant", "info", "sweep"])
def test_a_login_is_set_once_for_all_modules_of_the_group(tmp_path: Path, module: str) -> None:
    login = {"login_host": "nowhere.invalid", "login_user": CONNECTOR, "login_password": SECRET}
    asked = {"request_id": "R", "state": "absent"} if module == "grant" else {}
    task = {f"latchkey.postgres.pg_access_{module}": asked}
    block = {"block": [task], "module_defaults": {"group/latchkey.postgres.pg": login}}
    run = play(tmp_path, [block], env={})
    assert run.code == 2
    assert "nowhere.invalid:5432" in run.output


def documented(role: str) -> dict[str, Any]:
    """A role's documented options, without its prefix."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text()
    options = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    return {name.removeprefix(f"{role}_"): option for name, option in options.items()}


def may_be_empty(option: dict[str, Any]) -> bool:
    return option["type"] in {"str", "path", "list", "raw"} and "choices" not in option and not option.get("required")


@pytest.mark.parametrize(
    ("role", "arguments"),
    [
        ("access", grant_options.ARGUMENTS),
        ("rotation", rotation_options.ARGUMENTS),
        ("sweep", sweep_options.ARGUMENTS),
    ],
    ids=["access", "rotation", "sweep"],
)
def test_a_role_has_the_options_of_its_module_with_the_same_types_and_defaults(
    role: str, arguments: dict[str, Any]
) -> None:
    options = documented(role)
    own = OWN[role]
    assert {RENAMED.get(name, name) for name in options.keys() - own} == arguments.keys() - {"direct"}
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    for name, option in options.items():
        if name not in own:
            module = arguments[RENAMED.get(name, name)]
            same = ("no_log",) if f"{role}_{name}" in LOOSE else ("type", "elements", "no_log")
            assert {key: option.get(key) for key in same} == {key: module.get(key) for key in same}, name
            answers = [one for one in option.get("choices", ()) if one or "default" in module]
            assert answers == module.get("choices", []), name
            empty: Any = {"list": [], "dict": {}}.get(module["type"], "")
            required = name == "request_id"
            assert option.get("required", False) is required, name
            assert option.get("default") == (None if required else module.get("default", empty)), name
        if name not in {"login_port", "login_auth", "request_id"}:
            assert defaults[f"{role}_{name}"] == option["default"], name
