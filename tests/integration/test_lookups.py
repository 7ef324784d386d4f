# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookups, through ansible-playbook and the clouds' own SDKs: their documented examples, and what they promise."""

from __future__ import annotations

import importlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import FakeAzure, FakeSecretsManager
from tests.integration.ansible_runs import Played, play
from tests.rig import ShapedServer, shaped_server

LOOKUPS = ["aws_pg_secret", "azure_pg_secret", "rds_iam_token", "azure_pg_token"]
PLUGINS = "ansible_collections.latchkey.postgres.plugins.lookup"
CONNECTOR = {"username": "apono_connector", "password": "Conn3ctor-in-the-store", "team": "data"}
BEFORE = {**CONNECTOR, "password": "the-One-before"}
BARE = "Bare-Passw0rd"
HOSTS = 50
HOST = "orders.abc123.eu-west-1.rds.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """Both clouds, with the secrets that the examples speak of."""

    aws: FakeSecretsManager
    azure: FakeAzure

    @property
    def environment(self) -> dict[str, str]:
        return {**self.aws.environment(), **self.azure.environment()}

    @property
    def reads(self) -> Counter[str]:
        """How often each secret was fetched."""
        counted = Counter(one.body["SecretId"] for one in self.aws.requests if one.operation == "GetSecretValue")
        # The first request of a client has no token yet, and gets no answer but where to have one.
        counted.update(one.name for one in self.azure.requests if one.operation == "get_secret" and one.token)
        return counted


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    with FakeSecretsManager() as aws, FakeAzure() as azure:
        found = Clouds(aws=aws, azure=azure)
        azure.add_vault("acme")
        put_aws(found, "apono/orders", BEFORE, CONNECTOR)
        put_aws(found, "apono/billing", CONNECTOR)
        put_azure(found, "apono-billing", json.dumps(CONNECTOR))
        put_azure(found, "billing-password", BARE)
        yield found


def put_aws(clouds: Clouds, name: str, *contents: dict[str, Any] | str) -> None:
    """Store one version after the other."""
    first, *others = [one if isinstance(one, str) else json.dumps(one) for one in contents]
    clouds.aws.create({"Name": name, "SecretString": first, "ClientRequestToken": str(uuid.uuid4())})
    for text in others:
        clouds.aws.put_value({"SecretId": name, "SecretString": text, "ClientRequestToken": str(uuid.uuid4())})


def put_azure(clouds: Clouds, name: str, text: str) -> None:
    clouds.azure.vaults["acme"].write(name, {"value": text})


def keep(expression: str, *, hide: bool = True) -> dict[str, Any]:
    """A task that keeps what an expression gives."""
    return {"ansible.builtin.set_fact": {"kept": f"{{{{ {expression} }}}}"}, "no_log": hide}


def look(clouds: Clouds, home: Path, expression: str, **env: str) -> Played:
    return play(home, [keep(expression)], env={**clouds.environment, **env})


def refused(clouds: Clouds, home: Path, expression: str) -> str:
    """What is shown of a lookup that fails, on one line."""
    played = play(home, [keep(expression, hide=False)], "-vvvv", env=clouds.environment)
    assert played.code == 2
    return " ".join(played.output.split())


def aws(terms: str, options: str = "") -> str:
    return f"query('latchkey.postgres.aws_pg_secret', {terms}{', ' if options else ''}{options})"


def azure(terms: str, options: str = "") -> str:
    vault = "vault_url='https://acme.vault.azure.net'"
    return f"query('latchkey.postgres.azure_pg_secret', {terms}, {vault}{', ' if options else ''}{options})"


# ------------------------------------------------------------------ the documented examples
@pytest.fixture(scope="module")
def database() -> Iterator[ShapedServer]:
    """A server that lets the examples' principals in whatever their token: that is the clouds' to check."""
    trusted = [f"hostssl all {name} 127.0.0.1/32 trust" for name in ("iam_admin", "dba-team")]
    with shaped_server(shape="azure", hba=trusted) as server:
        with server.connect_admin() as conn:
            for name in ("iam_admin", '"dba-team"'):
                conn.execute(f"CREATE ROLE {name} LOGIN CREATEROLE".encode())
        yield server


def examples(lookup: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(importlib.import_module(f"{PLUGINS}.{lookup}").EXAMPLES)
    return found


@pytest.mark.parametrize(
    ("lookup", "number"), [(lookup, number) for lookup in LOOKUPS for number in range(len(examples(lookup)))]
)
def test_a_documented_example_works_and_shows_no_secret(
    clouds: Clouds, database: ShapedServer, tmp_path: Path, lookup: str, number: int
) -> None:
    admin = {"username": database.admin, "password": database.passwords[database.admin]}
    put_aws(clouds, "rds-admin/orders", admin)
    put_azure(clouds, "pg-admin-billing", json.dumps(admin))
    task = examples(lookup)[number]
    login = {"login_port": database.port, "databases": ["admindb"], "update_password": "always"}
    if "no_log" not in task:
        task |= {"module_defaults": {"group/latchkey.postgres.pg": login}}
    variables = {
        "pg_host": database.host,
        "pg_ca_cert": str(database.ca),
        "tenant": clouds.azure.tenant,
        "client_id": clouds.azure.client_id,
        "client_secret": clouds.azure.client_secret,
    }
    played = play(tmp_path, [task], "-vvvv", env=clouds.environment, **variables)
    assert played.code == 0, played.output[-3000:]
    secrets = [CONNECTOR["password"], BEFORE["password"], BARE, *clouds.azure.tokens]
    assert [one for one in secrets if one in played.output] == []
    assert "X-Amz-Signature" not in played.output
    if "connector_password" in next(iter(task.values())):
        database.connect(user="apono_connector", password=CONNECTOR["password"]).close()
        with database.connect() as conn:
            conn.execute("ALTER ROLE apono_connector PASSWORD NULL")


# ------------------------------------------------------------------ secrets
def test_a_secret_is_a_dictionary_with_all_that_is_in_it(clouds: Clouds, tmp_path: Path) -> None:
    played = look(clouds, tmp_path, f"{aws(repr('apono/orders'))} + {azure(repr('apono-billing'))}")
    assert played.kept == {"host00": [CONNECTOR, CONNECTOR]}, played.output


def test_version_stage_and_version_id_choose_the_version(clouds: Clouds, tmp_path: Path) -> None:
    secret = clouds.aws.secrets["apono/orders"]
    first = secret.labels["AWSPREVIOUS"]
    previous = aws("'apono/orders'", "version_stage='AWSPREVIOUS'")
    played = look(clouds, tmp_path, f"{previous} + {aws(repr('apono/orders'), f'version_id={first!r}')}")
    assert played.kept == {"host00": [BEFORE, BEFORE]}, played.output
    sent = [one.body for one in clouds.aws.requests]
    assert sent == [
        {"SecretId": "apono/orders", "VersionStage": "AWSPREVIOUS"},
        {"SecretId": "apono/orders", "VersionId": first},
    ]


def test_a_bare_password_needs_the_user(clouds: Clouds, tmp_path: Path) -> None:
    played = look(clouds, tmp_path, azure("'billing-password'", "username='pgadmin'"))
    assert played.kept == {"host00": [{"username": "pgadmin", "password": BARE}]}, played.output
    said = refused(clouds, tmp_path, azure("'billing-password'"))
    assert "who the bare password belongs to is not known" in said
    assert BARE not in said


@pytest.mark.parametrize("text", ['{"username": "u", "password": "Br0ken-value"', '{"username": "Br0ken-value"}'])
def test_a_secret_that_is_of_no_use_is_not_quoted(clouds: Clouds, tmp_path: Path, text: str) -> None:
    put_aws(clouds, "broken", text)
    said = refused(clouds, tmp_path, aws("'broken'"))
    assert "secret broken in AWS Secrets Manager in eu-west-1: " in said
    assert "Br0ken-value" not in said


@pytest.mark.parametrize(("choice", "code"), [("error", 2), ("warn", 0), ("skip", 0)])
@pytest.mark.parametrize("trouble", ["missing", "denied"])
@pytest.mark.parametrize("cloud", ["aws", "azure"])
def test_what_may_be_missing_or_denied_is_left_out(
    clouds: Clouds, tmp_path: Path, cloud: str, trouble: str, choice: str, code: int
) -> None:
    good, bad = ("'apono/orders'", "'nowhere'") if cloud == "aws" else ("'apono-billing'", "'nowhere'")
    if trouble == "denied":
        refuse(clouds, cloud)
    look_up = aws if cloud == "aws" else azure
    task = keep(look_up(f"{good}, {bad}", f"on_{trouble}='{choice}'"), hide=False)
    played = play(tmp_path, [task], env=clouds.environment)
    assert played.code == code, played.output
    said = "it does not exist" if trouble == "missing" else "access denied"
    assert (said in " ".join(played.output.split())) is (choice != "skip")
    if not code:
        assert played.kept == {"host00": [CONNECTOR] if trouble == "missing" else []}


def refuse(clouds: Clouds, cloud: str) -> None:
    """Deny every read."""
    if cloud == "aws":
        clouds.aws.fail("GetSecretValue", code="AccessDeniedException", message="User: x is not authorized")
    else:
        clouds.azure.vaults["acme"].rights[clouds.azure.client_id] = set()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("direct", "direct"),
        ("vars", "vars"),
        ("env", "env"),
        ("ini", "ini"),
        ("direct over vars over env over ini", "direct"),
        ("vars over env", "vars"),
        ("env over ini", "env"),
    ],
)
def test_an_option_comes_from_the_task_a_variable_the_environment_or_the_settings_in_this_order(
    clouds: Clouds, tmp_path: Path, name: str, where: str
) -> None:
    regions = {"direct": "eu-west-1", "vars": "eu-west-2", "env": "eu-west-3", "ini": "eu-north-1"}
    chosen = name.split(" over ")
    (tmp_path / "ansible.cfg").write_text(
        f"[latchkey]\naws_region = {regions['ini']}\n" if "ini" in chosen else "[defaults]\n"
    )
    env = {**clouds.aws.environment(), "AWS_REGION": regions["env"]} if "env" in chosen else clouds.aws.environment()
    if "env" not in chosen:
        del env["AWS_REGION"]
    options = f"region='{regions['direct']}'" if "direct" in chosen else ""
    variables = {"latchkey_aws_region": regions["vars"]} if "vars" in chosen else {}
    # Whether it works is another matter: the fake is in one of these regions.
    play(tmp_path, [keep(aws("'apono/orders'", options))], env=env, **variables)
    assert {one.region for one in clouds.aws.requests} == {regions[where]}


@pytest.mark.thorough
def test_a_fleet_fetches_no_secret_twice_in_one_process_and_makes_one_client_in_each(
    clouds: Clouds, tmp_path: Path
) -> None:
    """Ansible starts a process for every task of every host."""
    uses = {
        "mine": aws("'apono/orders', 'apono/billing'"),
        "theirs": azure("'apono-billing', 'billing-password'", "username='u'"),
    }
    task = keep("[mine, mine[0].username, theirs, theirs[1].password, mine[1], theirs] | length")
    task["vars"] = {name: f"{{{{ {expression} }}}}" for name, expression in uses.items()}
    played = play(tmp_path, [task], "--forks", "8", hosts=HOSTS, env=clouds.environment)
    assert played.code == 0, played.output[-3000:]
    assert len(played.kept) == HOSTS
    assert clouds.reads == dict.fromkeys(("apono/orders", "apono/billing", "apono-billing", "billing-password"), HOSTS)
    assert [one.operation for one in clouds.azure.requests].count("token") == HOSTS


def test_without_the_cache_the_store_is_asked_again(clouds: Clouds, tmp_path: Path) -> None:
    played = look(clouds, tmp_path, f"{aws(repr('apono/orders'))} + {aws(repr('apono/orders'), 'cache=false')}")
    assert played.kept == {"host00": [CONNECTOR, CONNECTOR]}, played.output
    assert clouds.reads == {"apono/orders": 2}


def test_nothing_is_kept_on_disk(clouds: Clouds, tmp_path: Path) -> None:
    task = {"ansible.builtin.assert": {"that": ["found.password is defined"]}, "no_log": True}
    task["vars"] = {"found": f"{{{{ {aws(repr('apono/orders'))}[0] }}}}"}
    assert play(tmp_path, [task], "-vvvv", env=clouds.environment).code == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if CONNECTOR["password"].encode() in path.read_bytes()] == []


# ------------------------------------------------------------------ tokens
def test_an_iam_token_is_signed_for_the_servers_region_and_nobody_is_asked(clouds: Clouds, tmp_path: Path) -> None:
    token = f"lookup('latchkey.postgres.rds_iam_token', '{HOST}', user='iam_admin', port=6543)"
    played = look(clouds, tmp_path, token, AWS_REGION="us-east-2")
    assert played.code == 0, played.output
    text = played.kept["host00"]
    assert text.startswith(f"{HOST}:6543/?Action=connect&DBUser=iam_admin&")
    assert "%2Feu-west-1%2Frds-db%2Faws4_request" in text
    assert "X-Amz-Expires=900" in text
    assert clouds.aws.requests == []


def test_an_entra_token_is_for_postgresql_and_for_the_principal(clouds: Clouds, tmp_path: Path) -> None:
    played = look(clouds, tmp_path, "lookup('latchkey.postgres.azure_pg_token', 'billing.postgres.database.azure.com')")
    assert played.code == 0, played.output
    token = clouds.azure.tokens[played.kept["host00"]]
    assert token.audience.rstrip("/") == "https://ossrdbms-aad.database.windows.net"
    assert token.principal == clouds.azure.client_id
