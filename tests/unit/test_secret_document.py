# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a secret, which secret a name means, and which server an endpoint is."""

from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption, SecretUnreadable
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import (
    KNOWN,
    Credentials,
    compose,
    generate_password,
    parse,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import Endpoint, read_endpoint
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (
    Aws,
    Azure,
    Reference,
    Version,
    locate,
)

WHERE = "secret prod/db"
WHOLE = {
    "username": "app",
    "password": "pw",
    "engine": "postgres",
    "host": "db.example.com",
    "port": 5433,
    "dbname": "appdb",
    "masterarn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:master-a1b2c3",
}
VAULT = "https://lk.vault.azure.net"
ARN = "arn:aws:secretsmanager:us-gov-west-1:123456789012:secret:prod/db-a1b2c3"

texts = some.text(min_size=1)
jsons = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=9),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
# What no message of ours has in it by chance.
marks = some.text(alphabet="ΓΔΘΛΞΠΣΦΨΩ", min_size=4)


def refused(text: str, username: str | None = None) -> str:
    """The message with which a text is refused."""
    with pytest.raises(SecretUnreadable) as caught:
        parse(text, where=WHERE, username=username)
    assert caught.value.__cause__ is None, "a cause may quote the text, and is shown at -vvv"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


# ------------------------------------------------------------------ accepted forms
def test_a_whole_document_is_read() -> None:
    found = parse(json.dumps(WHOLE), where=WHERE)
    assert found == Credentials(**WHOLE)  # type: ignore[arg-type]
    assert found.as_dict() == WHOLE


def test_two_keys_are_enough() -> None:
    found = parse(' \n{"username": "app", "password": "pw"}\n', where=WHERE)
    assert found.as_dict() == {"username": "app", "password": "pw"}
    assert compose(found) == '{"username": "app", "password": "pw"}'


@pytest.mark.parametrize(("text", "user"), [('{"password": "pw"}', "given"), (json.dumps(WHOLE), "app")])
def test_the_given_user_name_stands_in_for_a_missing_one_and_no_other(text: str, user: str) -> None:
    assert parse(text, where=WHERE, username="given").username == user


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("key", sorted(set(KNOWN) - {"username", "password"}))
def test_an_empty_value_is_none(key: str, empty: str | None) -> None:
    found = parse(json.dumps({**WHOLE, key: empty}), where=WHERE)
    assert getattr(found, key) is None
    assert key not in found.as_dict()


@pytest.mark.parametrize("port", [5433, "5433"])
def test_a_port_may_be_a_text(port: Any) -> None:
    assert parse(json.dumps({**WHOLE, "port": port}), where=WHERE).port == 5433


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_bare_password_is_the_given_users_without_its_line_end(end: str) -> None:
    found = parse(f" p w {end}", where=WHERE, username="app")
    assert found == Credentials(username="app", password=" p w ", bare=True)
    assert compose(found) == " p w "


@given(password=texts, others=some.dictionaries(some.text(), jsons, max_size=4))
def test_unknown_keys_survive(password: str, others: dict[str, Any]) -> None:
    others = {key: value for key, value in others.items() if key not in KNOWN}
    stored = {**others, **WHOLE, "password": password}
    found = parse(json.dumps(stored), where=WHERE)
    assert found.others == others
    assert json.loads(compose(found)) == stored
    assert parse(compose(found), where=WHERE) == found


@given(password=texts.filter(lambda text: not text.lstrip().startswith(("{", "[", '"')) and text.strip()))
def test_a_bare_password_survives_but_for_its_line_end(password: str) -> None:
    found = parse(password, where=WHERE, username="app")
    assert found.bare
    assert compose(found) == password.rstrip("\r\n")


# ------------------------------------------------------------------ refusals
REFUSALS = {
    "": "it is empty",
    "\n": "it is empty",
    " ": "it is empty",
    '"in quotes"': "it is JSON, but no object",
    "{": "it begins like JSON and is none",
    '{"password": "pw"} x': "it begins like JSON and is none",
    "[]": "it is JSON, but no object",
    '{"username": "app"}': "the JSON object in it has no password",
    '{"username": "app", "password": ""}': "the JSON object in it has no password",
    '{"username": "app", "password": null}': "the JSON object in it has no password",
    '{"password": "pw"}': "the JSON object in it has no username",
    '{"username": "app", "password": 1}': "the password in it is not a text",
    '{"username": ["app"], "password": "pw"}': "the username in it is not a text",
    '{"username": "app", "password": "pw", "host": {}}': "the host in it is not a text",
    "pw": "it is no JSON object, and who the bare password belongs to is not known",
}


@pytest.mark.parametrize(("text", "said"), REFUSALS.items())
def test_every_refusal_has_a_message_of_its_own_and_a_next_step(text: str, said: str) -> None:
    assert re.fullmatch(rf"{WHERE}: {re.escape(said)}\. [A-Z].+", refused(text))


@pytest.mark.parametrize("port", [0, -1, 65536, 5432.0, "x", "5432/tcp", " 5432", True, [5432], "²", "9" * 5000])
def test_what_is_no_port_is_refused(port: Any) -> None:
    said = refused(json.dumps({**WHOLE, "port": port}))
    assert said == f"{WHERE}: the port in it is no port number. Repair the secret"


@given(
    mark=marks, shape=some.sampled_from(["bare", "broken", "list", "number", "user", "key", "port", "host", "nested"])
)
def test_no_message_has_any_part_of_the_value(mark: str, shape: str) -> None:
    texts = {
        "bare": mark,
        "broken": f'{{"username": "{mark}", "password": "{mark}" "{mark}',
        "list": json.dumps([mark]),
        "number": json.dumps({"username": mark, "password": [mark]}),
        "user": json.dumps({"username": {mark: mark}, "password": mark}),
        "key": json.dumps({"pass": mark, mark: mark, "username": mark}),
        "port": json.dumps({**WHOLE, "password": mark, "port": mark}),
        "host": json.dumps({**WHOLE, "password": mark, "host": [mark]}),
        "nested": "[" * 100 + mark,
    }
    assert not set(mark) & set(refused(texts[shape]))


def test_json_that_is_too_deep_is_refused_like_other_broken_json() -> None:
    assert "it begins like JSON and is none" in refused('{"a":' * 100_000)


@given(mark=marks)
def test_no_representation_has_the_value(mark: str) -> None:
    found = parse(json.dumps({**WHOLE, "password": mark, "token": mark}), where=WHERE)
    shown = [found, Version(id="1", text=mark), Aws(secret_key=mark, session_token=mark), Azure(client_secret=mark)]
    assert not set(mark) & set(repr(shown) + str(shown))


def test_a_generated_password_has_40_characters_that_need_no_quoting() -> None:
    made = {generate_password() for _index in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{40}", one) for one in made)
    assert set("".join(made)) == set(string.ascii_letters + string.digits + "_-")


# ------------------------------------------------------------------ which secret
@pytest.mark.parametrize("cloud", [Aws(), Azure(vault_url=VAULT)])
def test_a_name_is_taken_as_it_is(cloud: Any) -> None:
    assert locate(cloud, "name") == Reference(cloud=cloud, name="name", stage="current", version=None)
    found = locate(cloud, "name", stage="pending", version="v1")
    assert (found.stage, found.version) == ("pending", "v1")


@pytest.mark.parametrize("region", [None, "eu-west-1"])
def test_the_region_of_an_arn_wins(region: str | None) -> None:
    assert locate(Aws(region=region, profile="p"), ARN) == Reference(
        cloud=Aws(region="us-gov-west-1", profile="p"), name=ARN
    )


@pytest.mark.parametrize("vault", [None, "https://other.vault.azure.net"])
@pytest.mark.parametrize(
    ("url", "version"),
    [
        (f"{VAULT}/secrets/name", None),
        (f"{VAULT}/secrets/name/", None),
        (f"{VAULT}/secrets/name/0123abcd", "0123abcd"),
        ("HTTPS://lk.vault.azure.net/secrets/name", None),
    ],
)
def test_the_vault_and_version_of_a_url_win(vault: str | None, url: str, version: str | None) -> None:
    found = locate(Azure(vault_url=vault, client_id="id"), url)
    assert found == Reference(cloud=Azure(vault_url=VAULT, client_id="id"), name="name", version=version)


def test_a_version_that_is_given_counts_where_the_url_has_none() -> None:
    assert locate(Azure(), f"{VAULT}/secrets/name", version="given").version == "given"
    assert locate(Azure(), f"{VAULT}/secrets/name/own", version="given").version == "own"


@pytest.mark.parametrize(
    ("cloud", "name", "said"),
    [
        (Aws(), "", "the name of a secret is empty"),
        (Azure(vault_url=VAULT), " \n", "the name of a secret is empty"),
        (Azure(), "name", "secret name: in which Key Vault is not known"),
        (
            Azure(vault_url="http://acme.vault.azure.net"),
            "name",
            "vault_url: http://acme.vault.azure.net is not the URL",
        ),
        (Azure(vault_url="acme"), "name", "vault_url: acme is not the URL of a Key Vault"),
        (Azure(vault_url=f"{VAULT}/secrets/a"), "name", f"vault_url: {VAULT}/secrets/a is not the URL of a Key Vault"),
        (Azure(), VAULT, f"{VAULT} is not the URL of a secret"),
        (Azure(), f"{VAULT}/keys/name", f"{VAULT}/keys/name is not the URL of a secret"),
        (Azure(), f"{VAULT}/secrets/a/b/c", f"{VAULT}/secrets/a/b/c is not the URL of a secret"),
    ],
)
def test_a_name_that_means_no_secret_is_refused(cloud: Any, name: str, said: str) -> None:
    with pytest.raises(InvalidOption, match=rf"^{re.escape(said)}.*\. [A-Z]"):
        locate(cloud, name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("arn:aws:secretsmanager", "arn:aws:secretsmanager is not the ARN of a secret"),
        ("arn:", "arn: is not the ARN of a secret"),
        ("arn:aws:secretsmanager::123456789012:secret:x", "is not the ARN of a secret"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/x", "is not the ARN of a secret"),
    ],
)
def test_an_arn_of_no_secret_is_refused(name: str, said: str) -> None:
    with pytest.raises(InvalidOption, match=rf"{re.escape(said)}\. [A-Z]"):
        locate(Aws(region="eu-west-1"), name)


@pytest.mark.parametrize(
    "url", [f"{VAULT}/secrets//", f"{VAULT}/secrets//v1", f"{VAULT}/secrets/", "https:///secrets/a"]
)
def test_a_url_without_a_vault_or_name_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption):
        locate(Azure(), url)


# ------------------------------------------------------------------ which server
@pytest.mark.parametrize(
    ("host", "name", "region", "cluster"),
    [
        ("db-1.c1a2b3.eu-west-1.rds.amazonaws.com", "db-1", "eu-west-1", False),
        ("DB-1.C1A2B3.EU-West-1.RDS.Amazonaws.COM.", "DB-1", "eu-west-1", False),
        ("fleet.cluster-c1a2b3.us-east-2.rds.amazonaws.com", "fleet", "us-east-2", True),
        ("fleet.cluster-ro-c1a2b3.ap-southeast-4.rds.amazonaws.com", "fleet", "ap-southeast-4", True),
        ("gov.c1a2b3.us-gov-west-1.rds.amazonaws.com", "gov", "us-gov-west-1", False),
        ("gov.c1a2b3.rds.us-gov-west-1.amazonaws.com", "gov", "us-gov-west-1", False),
        ("cn.c1a2b3.cn-north-1.rds.amazonaws.com.cn", "cn", "cn-north-1", False),
        ("cn.c1a2b3.rds.cn-northwest-1.amazonaws.com.cn", "cn", "cn-northwest-1", False),
        ("cn.cluster-ro-c1a2b3.rds.cn-north-1.amazonaws.com.cn", "cn", "cn-north-1", True),
    ],
)
def test_an_endpoint_names_its_server(host: str, name: str, region: str, cluster: bool) -> None:
    assert read_endpoint(host) == Endpoint(name=name, region=region, cluster=cluster)


@pytest.mark.parametrize("kind", ["proxy", "cluster-custom"])
def test_a_proxy_or_custom_endpoint_tells_only_its_region(kind: str) -> None:
    assert read_endpoint(f"mine.{kind}-c1a2b3.eu-west-1.rds.amazonaws.com") == Endpoint(region="eu-west-1")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "db.example.com",
        "10.0.0.1",
        "rds.amazonaws.com",
        "eu-west-1.rds.amazonaws.com",
        "db.c1a2b3.eu-west-1.amazonaws.com",
        "db.c1a2b3.rds.eu-west-1.rds.amazonaws.com",
        "db.c1a2b3.eu-west-1.rds.amazonaws.com.example.com",
        "db.c1a2b3.eu-west-1.rds.amazonaws.comx",
        "a.b.c1a2b3.eu-west-1.rds.amazonaws.com",
        "bucket.s3.eu-west-1.amazonaws.com",
    ],
)
def test_another_name_is_no_endpoint(host: str) -> None:
    assert read_endpoint(host) is None
