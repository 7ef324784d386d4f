# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options, libpq's parameters and the advice for a failed connection, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import ARGUMENTS, RULES, parse
from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.run import BOOTSTRAP
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, hidden
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._login import login_of
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.diagnosis import explain, is_full
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, parameters

LOGIN = Login(host="db.example.org", user="admin", password="secret")
VARIABLES = "HOST PORT USER PASSWORD DATABASE SSLMODE SSLROOTCERT SSLCERT SSLKEY CONNECT_TIMEOUT".split()


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is a fall-back of the login options."""
    for name in VARIABLES:
        monkeypatch.delenv(f"PG{name}", raising=False)


def checked(**options: Any) -> dict[str, Any]:
    """Options as a door hands them on."""
    given = {"login_host": "db.example.org", "login_user": "admin", **options}
    found = ArgumentSpecValidator(dict(ARGUMENTS)).validate(given)
    assert found.error_messages == []
    return dict(found.validated_parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connector": ""}, "1 to 63 bytes"),
        ({"connector": "é" * 32}, "this one has 64 bytes"),
        ({"connector": "a\0b"}, "no NUL"),
        ({"connector": "public"}, "role of the platform or of PostgreSQL itself"),
        ({"connector": "none"}, "role of the platform or of PostgreSQL itself"),
        ({"connector": "pg_monitor"}, "role of the platform or of PostgreSQL itself"),
        ({"connector": "rds_superuser"}, "role of the platform or of PostgreSQL itself"),
        ({"connector": "azuresu"}, "role of the platform or of PostgreSQL itself"),
        ({"connector": "admin"}, "is the administrator that this task logs in as"),
        ({"connections": 0}, "connections: at least 1"),
        ({"databases": []}, "databases: the list is empty"),
        ({"grant_to": "platform_group", "platform_membership": False}, "while platform_membership is false"),
        ({"grant_to": "platform_group", "platform": "postgres"}, "has no platform_group"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_sent(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message) as caught:
        parse(checked(**options), Context())
    assert caught.value.next_step
    said = BOOTSTRAP.answer(checked(**options), Context())
    assert (said["failed"], said["changed"], said["error_kind"]) == (True, False, "invalid_option")


@pytest.mark.parametrize("name", ["é" * 31, "x" * 63, 'a"b; %s', "pgboss", "Apono Connector"])
def test_a_name_of_up_to_63_bytes_may_be_anything(name: str) -> None:
    assert parse(checked(connector=name), Context()).connector == name


def test_an_empty_password_is_none() -> None:
    assert parse(checked(connector_password=""), Context()).connector_password is None


def test_no_password_shows_in_the_text_of_the_options() -> None:
    given = checked(login_password="s3cretA", connector_password="s3cretB", connect_params={"password": "s3cretC"})
    assert "s3cret" not in repr(parse(given, Context()))
    assert hidden(given) == {"s3cretC"}


def test_every_variable_of_libpq_is_a_fall_back_and_an_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ["h", "6543", "u", "p", "d", "verify-ca", "/ca", "/cert", "/key", "3"]
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(f"PG{name}", value)
    found = ArgumentSpecValidator(dict(ARGUMENTS)).validate({"login_db": "mine"})
    assert found.error_messages == []
    assert login_of(found.validated_parameters, Context()) == Login(
        host="h", port=6543, user="u", password="p", database="mine", ssl_mode="verify-ca", ca_cert="/ca",
        ssl_cert="/cert", ssl_key="/key", connect_timeout=3,
    )  # fmt: skip


# ------------------------------------------------------------------ libpq's parameters
def test_a_session_is_direct_verified_and_named() -> None:
    found = parameters(LOGIN, database="orders", read_only=False)
    expected = {"host": "db.example.org", "port": 5432, "user": "admin", "password": "secret", "dbname": "orders"}
    assert {key: found[key] for key in expected} == expected
    assert (found["sslmode"], found["application_name"]) == ("verify-full", "latchkey")
    assert "-c search_path=pg_catalog" in found["options"]
    assert "read_only" not in found["options"]
    assert None not in found.values()


def test_check_mode_is_read_only_by_the_server_itself() -> None:
    assert "-c default_transaction_read_only=on" in parameters(LOGIN, database="x", read_only=True)["options"]


@pytest.mark.parametrize(
    ("mode", "ca_cert", "expected"),
    [
        ("verify-full", None, "the system's"),
        ("verify-ca", None, "the system's"),
        ("verify-full", "/mine", "/mine"),
        ("require", "/mine", "/mine"),
        ("require", None, None),
        ("disable", None, None),
    ],
)
def test_only_verifying_modes_fall_back_on_the_systems_authorities(
    monkeypatch: pytest.MonkeyPatch, mode: str, ca_cert: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(sessions, "system_ca", lambda: "the system's")
    login = Login(host="h", user="u", ssl_mode=mode, ca_cert=ca_cert)
    assert parameters(login, database="x", read_only=False).get("sslrootcert") == expected


def test_connect_params_win_and_their_options_come_after_ours() -> None:
    login = Login(host="h", user="u", connect_params={"application_name": "mine", "options": "-c lock_timeout=9s"})
    found = parameters(login, database="x", read_only=False)
    assert found["application_name"] == "mine"
    assert found["options"].startswith("-c search_path=pg_catalog ")
    assert found["options"].endswith(" -c lock_timeout=9s")


@pytest.mark.parametrize(
    ("host", "read_only", "expected"), [("a,b", False, "read-write"), ("a,b", True, "any"), ("a", False, "any")]
)
def test_of_several_hosts_the_primary_is_looked_for(host: str, read_only: bool, expected: str) -> None:
    found = parameters(Login(host=host, user="u"), database="x", read_only=read_only)
    assert found["target_session_attrs"] == expected


# ------------------------------------------------------------------ advice
@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("SSL error: certificate verify failed", "set ca_cert to the PEM file"),
        ('server certificate for "x" does not match host name "y"', "login_host as the name in the certificate"),
        ('root certificate file "/x" does not exist', "Check ca_cert"),
        ("server does not support SSL, but SSL was required", "Turn TLS on"),
        ('no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", no encryption', "set ssl_mode"),
        ('could not translate host name "x" to address', "Check login_host and the name service"),
        ("connection to server failed: Connection refused", "Check login_host and login_port"),
        ("timeout expired", "firewall"),
        ('password authentication failed for user "u"', "Check login_user and login_password"),
        ("fe_sendauth: no password supplied", "Set login_password"),
        ('PAM authentication failed for user "u"', "IAM"),
        ('no pg_hba.conf entry for host "1.2.3.4", SSL encryption', "access rules"),
        ("FATAL:  sorry, too many clients already", "lower the option connections"),
        ('database "x" does not exist', "Check login_db"),
    ],
)
def test_libpqs_words_lead_to_the_next_step(said: str, step: str) -> None:
    reason, advice = explain(f"connection failed:\n\t{said}\n", login=LOGIN)
    assert reason == f"connection failed: {said}".replace("  ", " ")
    assert advice is not None
    assert step.lower() in advice.lower()
    assert advice[0].isupper()


def test_words_that_nobody_knows_are_passed_on_without_advice() -> None:
    assert explain("le  serveur\nest parti", login=LOGIN) == ("le serveur est parti", None)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("a.eu-west-1.rds.amazonaws.com", "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"),
        ("a.postgres.database.azure.com", "DigiCert Global Root G2"),
    ],
)
def test_an_unknown_authority_is_explained_for_the_cloud_of_the_host(host: str, words: str) -> None:
    _reason, advice = explain("certificate verify failed", login=Login(host=host, user="u"))
    assert words in (advice or "")


def test_a_refused_password_is_looked_for_where_it_comes_from() -> None:
    source = "login_secret (secret admin in Key Vault https://acme.vault.azure.net)"
    _reason, advice = explain("password authentication failed", login=Login(host="h", user="u", source=source))
    assert advice == f"Check {source}"


@pytest.mark.parametrize(
    ("said", "full"),
    [
        ("FATAL:  sorry, too many clients already", True),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
        ('FATAL:  too many connections for database "x"', True),
        ('FATAL:  too many connections for role "x"', True),
        ("FATAL:  the database system is starting up", False),
    ],
)
def test_only_a_lack_of_slots_is_worth_waiting_for(said: str, full: bool) -> None:
    assert is_full(said) is full


def test_the_documented_defaults_are_the_real_ones() -> None:
    found = parse(checked(), Context())
    assert (found.connector, found.connections, found.databases) == ("apono_connector", 4, ("*",))
    assert (found.platform_membership, found.default_privileges, found.left_out) == (True, True, ())
    assert (found.grant_to_group, found.fail_on_uncovered, found.encrypt_password_here) == (False, False, True)
    assert found.platform is None
    assert parse(checked(platform="rds"), Context()).platform is platforms.RDS


# ------------------------------------------------------------------ the connector's secret
STORE = {"provider": "aws", "region": "eu-west-1"}


def test_a_tag_that_yaml_takes_for_a_truth_value_is_the_word() -> None:
    tags = {"apono-connector-read": True, "team": "data", "shift": 2, "old": False}
    found = parse(checked(connector_secret={"name": "x", "tags": tags}, secret_store=STORE), Context()).secret
    assert found is not None
    assert found.tags == {"apono-connector-read": "true", "team": "data", "shift": "2", "old": "false"}


def test_a_secret_without_a_store_is_refused() -> None:
    said = ArgumentSpecValidator(dict(ARGUMENTS), **RULES).validate({"login_host": "h", "login_secret": "x"})
    assert said.error_messages == ["missing parameter(s) required by 'login_secret': secret_store"]


@pytest.mark.parametrize("store", [{"provider": "aws", "vault_url": "x"}, {"provider": "azure", "region": "x"}])
def test_what_means_nothing_to_the_provider_is_refused(store: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match="is of no use with the provider"):
        parse(checked(connector_secret={"name": "x"}, secret_store=store), Context())


def test_a_password_that_is_too_short_to_be_hidden_does_not_garble_what_is_said() -> None:
    context = Context()
    for secret in ("", "o", "12345", None):
        context.hide(secret)
    assert context.secrets == set()
    context.hide("123456")
    assert context.secrets == {"123456"}
