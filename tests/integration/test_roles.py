# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and the playbook, run by ansible-playbook against servers of their platform."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from tests.fakes import FakeAzure
from tests.integration.ansible_runs import ROOT, environment
from tests.rig import ShapedServer, coverage

ADMIN_SECRET = "admin-S3cret-of-this-test"
SECRET = "connector-S3cret-of-this-test"
HERE = {"connection": "local", "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}}
TOKENS = {"rds_postgresql": ["password", "rds_iam"], "azure_postgresql": ["password", "entra"]}
PRIVATE_TO_THE_MODULE = {"direct", "platform"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What ansible-playbook said."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """The recap's number of changed tasks, by host."""
        return {name: int(count) for name, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.output, re.M)}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A directory with an inventory and a playbook."""

    path: Path
    shape: str

    @property
    def role(self) -> str:
        return f"{self.shape}_postgresql"

    def inventory(self, *, group: str | None = None, **hosts: dict[str, Any]) -> None:
        """Add hosts to the shape's group, or another."""
        place = self.path / "inventory.yml"
        content = yaml.safe_load(place.read_text()) if place.exists() else {}
        content[group or f"pg_{self.shape}"] = {"hosts": {**content.get(group, {}).get("hosts", {}), **hosts}}
        place.write_text(yaml.safe_dump(content))

    def play(self, **options: Any) -> None:
        """Write a playbook that gives the role these options and keeps what it found."""
        keep = {"content": "{{ pg_bootstrap_result | to_json }}", "dest": str(self.path / "result.json")}
        role = {"role": f"latchkey.postgres.{self.role}", **{f"{self.role}_{k}": v for k, v in options.items()}}
        play = {
            "hosts": f"pg_{self.shape}",
            "gather_facts": False,
            "roles": [role],
            "post_tasks": [{"copy": keep, "changed_when": False, "check_mode": False, **HERE}],
        }
        (self.path / "play.yml").write_text(yaml.safe_dump([play]))

    def run(self, *arguments: str, playbook: str = "play.yml", env: Mapping[str, str] | None = None) -> Run:
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory.yml", playbook, *arguments],
            cwd=self.path,
            env=environment(self.path, **(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(code=done.returncode, output=done.stdout)

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "result.json").read_text())
        return found


@pytest.fixture
def project(tmp_path: Path, shape: str) -> Project:
    return Project(path=tmp_path, shape=shape)


@pytest.fixture
def described(shaped: Callable[..., ShapedServer], shape: str) -> tuple[ShapedServer, dict[str, Any]]:
    """Start a server whose administrator has a password of its own; return it with its host variables."""
    server = shaped(shape=shape)
    with server.connect() as conn:
        role, secret = sql.Identifier(server.admin), sql.Literal(ADMIN_SECRET)
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, secret))
    return server, {
        "ansible_host": server.host,
        "pg_port": server.port,
        "pg_ca_cert": str(server.ca),
        "pg_admin_user": server.admin,
        "pg_admin_password": ADMIN_SECRET,
    }


def exists(server: ShapedServer, role: str) -> bool:
    with server.connect() as conn:
        return conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount == 1


def test_the_role_makes_a_connector_that_passes_on_what_the_fact_says_and_no_secret_is_shown(
    project: Project, described: tuple[ShapedServer, dict[str, Any]]
) -> None:
    server, variables = described
    del variables["pg_admin_password"]
    project.inventory(orders=variables)
    project.play(login_password=ADMIN_SECRET, connector_password=SECRET)

    checked = project.run("--check", "--diff")
    assert (checked.code, checked.changed) == (0, {"orders": 1}), checked.output
    assert not exists(server, "apono_connector")

    first = project.run("--diff", "-vvvv")
    assert (first.code, first.changed) == (0, {"orders": 1}), first.output
    claimed = {one["name"]: one["covered"] for one in project.result["databases"] if one["reachable"]}
    assert claimed["appdb_open"] > 140
    assert claimed == {name: coverage(server, "apono_connector", name).grantable for name in claimed}
    with server.connect(user="apono_connector", password=SECRET, dbname="appdb_open") as connector:
        connector.execute("CREATE ROLE person")
        connector.execute("GRANT SELECT ON beta_s.t_plain TO person")
        row = connector.execute("SELECT has_table_privilege('person', 'beta_s.t_plain', 'SELECT')").fetchone()
    assert row == (True,)

    second = project.run("--diff", "-vvvv")
    assert (second.code, second.changed) == (0, {"orders": 0}), second.output
    assert project.result["statements"] == []
    for run in (checked, first, second):
        assert ADMIN_SECRET not in run.output
        assert SECRET not in run.output


def test_an_empty_answer_of_a_survey_counts_as_none(
    project: Project, described: tuple[ShapedServer, dict[str, Any]]
) -> None:
    server, variables = described
    project.inventory(orders=variables)
    project.play()
    plain = project.run("--check")
    assert plain.code == 0, plain.output
    expected = project.result
    empty = {f"{project.role}_{name}": "" for name, option in options(project.role).items() if may_be_empty(option)}
    assert len(empty) > 10
    answered = project.run("--check", "-e", json.dumps(empty))
    assert answered.code == 0, answered.output
    assert project.result["statements"] == expected["statements"] != []
    assert project.result["server"]["login"] == server.admin


def test_an_empty_list_of_databases_is_refused_and_never_means_all(
    project: Project, described: tuple[ShapedServer, dict[str, Any]]
) -> None:
    server, variables = described
    project.inventory(orders=variables)
    project.play(databases=[])
    run = project.run()
    assert run.code == 2
    assert "databases: the list is empty" in run.output
    assert not exists(server, "apono_connector")


def test_a_wrong_argument_is_named_in_one_line_before_anything_is_sent(project: Project) -> None:
    project.inventory(
        orders={"ansible_host": "nowhere.invalid", "pg_admin_user": "a", "pg_admin_password": ADMIN_SECRET}
    )
    project.play(ssl_mode="sometimes")
    run = project.run("-vvvv")
    assert run.code == 2
    message = (
        f"value of {project.role}_ssl_mode must be one of: disable, allow, prefer, require, verify-ca, verify-full"
    )
    assert f"Validation of arguments failed:\n{message}" in run.output.replace("\\n", "\n")
    assert "nowhere.invalid:5432" not in run.output
    assert ADMIN_SECRET not in run.output


def test_a_server_that_fails_stops_no_other_and_each_has_its_summary(
    project: Project, described: tuple[ShapedServer, dict[str, Any]]
) -> None:
    server, variables = described
    # Both groups, because one is worked on after the other.
    project.inventory(group="pg_rds" if project.shape == "azure" else "pg_azure", down={**variables, "pg_port": 1})
    project.inventory(
        orders={**variables, "pg_connector_password": SECRET},
        wrong={**variables, "pg_admin_password": "not this one"},
    )
    run = project.run(playbook="latchkey.postgres.bootstrap")
    assert run.code == 2
    assert run.changed == {"down": 0, "orders": 1, "wrong": 0}
    assert "Check login_host and login_port" in run.output
    assert "Check login_user and login_password" in run.output
    summary = run.output.partition("TASK [Summary]")[2]
    total = coverage(server, "apono_connector", "appdb_hard").total
    assert total == coverage(server, "apono_connector", "appdb_hard").grantable
    assert '"coverage": "288 of 294 objects"' in summary or '"coverage": "240 of 294 objects"' in summary
    # What nobody could reach, such as noconn_db, is no news.
    assert '"unreachable_databases": {}' in summary
    server.connect(user="apono_connector", password=SECRET).close()


def test_absent_takes_the_connector_away(project: Project, described: tuple[ShapedServer, dict[str, Any]]) -> None:
    server, variables = described
    project.inventory(orders={**variables, "pg_connector_password": SECRET})
    project.play()
    assert project.run().code == 0
    server.connect(user="apono_connector", password=SECRET).close()
    project.play(state="absent")
    gone = project.run()
    assert (gone.code, gone.changed) == (0, {"orders": 1}), gone.output
    with pytest.raises(psycopg.OperationalError):
        server.connect(user="apono_connector", password=SECRET)


def options(role: str) -> dict[str, Any]:
    """Return a role's documented options by the names that the module gives them."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text()
    documented = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    return {name.removeprefix(f"{role}_"): option for name, option in documented.items()}


def may_be_empty(option: dict[str, Any]) -> bool:
    return option["type"] in {"str", "path", "list"} and "choices" not in option


@pytest.mark.parametrize("role", ["rds_postgresql", "azure_postgresql"])
def test_a_role_has_the_options_of_the_module_with_the_same_types_and_defaults(role: str) -> None:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import ARGUMENTS  # noqa: PLC0415

    documented = options(role)
    assert documented.keys() == ARGUMENTS.keys() - PRIVATE_TO_THE_MODULE
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    for name, option in documented.items():
        module = ARGUMENTS[name]
        same = ("elements", "no_log") if name == "connector_secret" else ("type", "elements", "no_log")
        assert {key: option.get(key) for key in same} == {key: module.get(key) for key in same}, name
        # Of the tokens, only that of the platform is of use.
        choices = [one for one in module.get("choices", ()) if name != "login_auth" or one in TOKENS[role]]
        assert option.get("choices", []) == choices, name
        assert option["default"] == module.get("default", {} if module["type"] == "dict" else ""), name
        if name not in {"login_port", "login_auth"}:
            assert defaults[f"{role}_{name}"] == option["default"], name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nmae": "apono/x"}, "missing required arguments: name found in connector_secret"),
        ({"name": "apono/x", "tag": {}}, "connector_secret.tag. Supported parameters include"),
        ({"instance_tag": True}, "missing required arguments: name found in connector_secret"),
    ],
)
def test_a_mistake_in_the_connectors_secret_is_said_and_no_connector_is_made(
    project: Project, described: tuple[ShapedServer, dict[str, Any]], given: dict[str, Any], said: str
) -> None:
    server, variables = described
    project.inventory(orders=variables)
    project.play(connector_secret=given)
    run = project.run()
    assert run.code == 2
    assert said in run.output
    assert not exists(server, "apono_connector")


@pytest.mark.parametrize("own", [{}, "", {"name": ""}, {"name": "", "tags": ""}, "apono/own", {"name": "apono/own"}])
def test_the_connectors_secret_is_the_roles_own_or_else_the_inventorys(project: Project, own: Any) -> None:
    """Found out by names that no Key Vault has, before anything is sent."""
    store = {"provider": "azure", "vault_url": "https://nowhere.vault.azure.net"}
    at = {"ansible_host": "nowhere.invalid", "pg_admin_user": "a", "pg_admin_password": ADMIN_SECRET}
    project.inventory(orders={**at, "pg_connector_secret": "apono/theirs", "pg_secret_store": store})
    project.play(connector_secret=own)
    run = project.run()
    assert run.code == 2
    assert f"secret apono/{'own' if 'own' in str(own) else 'theirs'}: a name in a Key Vault has 1 to 127" in run.output


def test_no_key_to_a_store_is_shown_whatever_goes_wrong(project: Project) -> None:
    keys = {"secret_key": "K3y-to-the-store", "session_token": "T0ken-to-the-store", "access_key": "id"}
    if project.shape == "azure":
        keys = {"client_secret": "K3y-to-the-store", "client_id": "c", "tenant": "t", "vault_url": "https://v.invalid"}
    at = {"ansible_host": "nowhere.invalid", "pg_admin_user": "a", "pg_admin_password": ADMIN_SECRET}
    project.inventory(orders=at)
    project.play(secret_store=keys, connector_secret="apono-orders")
    for more in ([], ["-e", "latchkey_direct=never"], ["-e", f"{project.role}_state=sometimes"]):
        run = project.run("-vvvv", "--check", "--diff", *more)
        assert run.code == 2
        assert not [key for key in (*keys.values(), ADMIN_SECRET) if key.endswith("store") and key in run.output]


def test_a_token_takes_the_place_of_the_inventorys_secret(
    project: Project, shaped: Callable[..., ShapedServer], shape: str
) -> None:
    """The server lets the principal in whatever its token, which is the cloud's to check. The store has no secret."""
    server = shaped(shape=shape, hba=["hostssl all token_admin 127.0.0.1/32 trust"])
    with server.connect_admin() as conn:
        conn.execute("CREATE ROLE token_admin LOGIN CREATEROLE")
    at = {"pg_host": server.host, "pg_port": server.port, "pg_ca_cert": str(server.ca)}
    auth = {"rds": "rds_iam", "azure": "entra"}[shape]
    store = {"rds": {"region": "eu-west-1", "access_key": "a", "secret_key": "b"}, "azure": {}}[shape]
    login = {"pg_admin_auth": auth, "pg_admin_user": "token_admin", "pg_admin_secret": "not-there"}
    project.inventory(orders={**at, **login, "pg_secret_store": store})
    project.play(databases=["postgres"], default_privileges=False)
    with FakeAzure() as azure:
        run = project.run("-vvvv", env=azure.environment())
        assert run.code == 0, run.output[-2000:]
        assert project.result["server"]["login"] == "token_admin"
        scopes = [token.audience for token in azure.tokens.values()]
        assert scopes == (["https://ossrdbms-aad.database.windows.net"] if shape == "azure" else [])
        assert not [token for token in azure.tokens if token in run.output]
    assert "X-Amz-Signature" not in run.output
