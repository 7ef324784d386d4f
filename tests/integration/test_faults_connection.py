# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No session: addresses, TLS, passwords, access rules. Whatever is wrong is said in one line, and nothing is done."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.product import bootstrap, database_of, login_options, run_in, succeeded
from tests.integration.test_faults_common import refused, task, unchanged, whole
from tests.rig import Authority, ShapedServer

UNREACHABLE = "server_unreachable"
RDS_NAME = "orders.abc123.eu-west-1.rds.amazonaws.com"
AZURE_NAME = "orders.postgres.database.azure.com"
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

Shaped = Callable[..., ShapedServer]


@pytest.fixture
def one(shaped_once: Shaped) -> ShapedServer:
    """Return a server that no test of this module changes."""
    return shaped_once(major=15, shape="azure")


@pytest.fixture
def foreign_ca(tmp_path: Path) -> str:
    """Return the file of an authority that has signed nothing here."""
    return str(Authority().write_ca(tmp_path / "foreign.pem"))


def sessions(server: ShapedServer) -> list[str]:
    """Return what the server says of each session of the product that it let in."""
    lines = server.log.read_text().splitlines()
    return [line for line in lines if "connection authorized" in line and "application_name=latchkey" in line]


# ---------------------------------------------------------------------------------------- addresses


def test_an_unknown_host_is_named_with_what_to_check() -> None:
    answer = task(login_host="db.latchkey.invalid", login_user="cloudadmin", login_password="x")
    refused(answer, UNREACHABLE, "db.latchkey.invalid:5432", "login cloudadmin", "Check login_host", "name service")


def test_a_closed_port_is_named_with_what_to_check() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        answer = task(login_host="127.0.0.1", login_port=port, login_user="cloudadmin", login_password="x")
    refused(answer, UNREACHABLE, f"127.0.0.1:{port}", "Connection refused", "Check login_host and login_port")


def test_a_port_that_never_answers_ends_at_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        answer = task(
            login_host="127.0.0.1", login_port=port, login_user="cloudadmin", login_password="x", connect_timeout=2
        )
    refused(answer, UNREACHABLE, f"127.0.0.1:{port}", "firewall")


# ---------------------------------------------------------------------------------------------- TLS


def test_verify_full_never_falls_back_to_a_plain_session(shaped: Shaped) -> None:
    server = shaped(major=15, shape="azure", plain=True, settings={"ssl": False, "log_connections": True})
    refused(bootstrap(server), UNREACHABLE, "does not support SSL", "Turn TLS on in the server", "ssl_mode")
    assert not sessions(server)
    succeeded(bootstrap(server, ssl_mode="prefer", check=True, databases=["admindb"]))
    assert sessions(server)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_authority_that_did_not_sign_the_server_is_refused(
    one: ShapedServer, foreign_ca: str, mode: str, check: bool
) -> None:
    with unchanged(one):
        answer = bootstrap(one, check=check, ssl_mode=mode, ca_cert=foreign_ca)
    refused(answer, UNREACHABLE, f"localhost:{one.port}", "certificate verify failed", "Set ca_cert to")


def test_a_ca_cert_that_does_not_exist_is_named(one: ShapedServer) -> None:
    answer = bootstrap(one, ca_cert="/nonexistent/bundle.pem")
    refused(answer, UNREACHABLE, "/nonexistent/bundle.pem", "Check ca_cert")


def test_a_ca_cert_that_is_no_certificate_is_named(one: ShapedServer, tmp_path: Path) -> None:
    rubbish = tmp_path / "bundle.pem"
    rubbish.write_text("rubbish")
    answer = bootstrap(one, ca_cert=str(rubbish))
    refused(answer, UNREACHABLE, str(rubbish), "Check ca_cert")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (RDS_NAME, ("truststore.pki.rds.amazonaws.com/global/global-bundle.pem", "ca_cert")),
        (AZURE_NAME, ("DigiCert Global Root G2", "ca_cert")),
    ],
)
def test_on_a_cloud_s_host_name_the_next_step_says_where_its_authorities_are(
    one: ShapedServer, foreign_ca: str, name: str, words: tuple[str, ...]
) -> None:
    answer = bootstrap(one, login_host=name, connect_params={"hostaddr": "127.0.0.1"}, ca_cert=foreign_ca)
    refused(answer, UNREACHABLE, f"{name}:{one.port}", "certificate verify failed", *words)


def test_a_certificate_for_another_name_is_refused_by_verify_full_only(one: ShapedServer) -> None:
    there = {"login_host": "other.latchkey.invalid", "connect_params": {"hostaddr": "127.0.0.1"}}
    with unchanged(one):
        answer = bootstrap(one, **there)
        succeeded(bootstrap(one, **there, ssl_mode="verify-ca", check=True))
    refused(answer, UNREACHABLE, "does not match host name", "other.latchkey.invalid", "the name in the certificate")


# For each mode what a session is with a server that takes only TLS, only plain sessions, or both; None: refused.
MEANING: dict[str, tuple[bool | None, bool | None, bool | None]] = {
    "disable": (None, False, False),
    "allow": (True, False, False),
    "prefer": (True, False, True),
    "require": (True, None, True),
    "verify-ca": (True, None, True),
    "verify-full": (True, None, True),
}
SERVERS: tuple[dict[str, Any], ...] = ({}, {"plain": True, "settings": {"ssl": False}}, {"plain": True})


@pytest.mark.parametrize("place", range(3), ids=["tls-only", "plain-only", "both"])
def test_each_ssl_mode_means_what_libpq_says(shaped: Shaped, place: int) -> None:
    server = shaped(major=15, shape="azure", **SERVERS[place])
    server.restart(log_connections=True)
    found: dict[str, bool | None] = {}
    for mode in MODES:
        before = len(sessions(server))
        answer = bootstrap(server, check=True, ssl_mode=mode, databases=["admindb"])
        new = sessions(server)[before:]
        if answer.get("failed"):
            refused(answer, UNREACHABLE, f"localhost:{server.port}", "TLS", "ssl_mode")
            assert not new
        found[mode] = {"SSL enabled" in line for line in new}.pop() if new else None
        assert len({"SSL enabled" in line for line in new}) <= 1
    assert found == {mode: MEANING[mode][place] for mode in MODES}


@pytest.mark.parametrize(
    ("mode", "accepted"), [("require", True), ("prefer", True), ("verify-ca", False), ("verify-full", False)]
)
def test_only_the_verifying_modes_look_at_the_certificate(one: ShapedServer, mode: str, accepted: bool) -> None:
    options = {key: value for key, value in login_options(one).items() if key != "ca_cert"}
    answer = task(**options, ssl_mode=mode, check=True, databases=["admindb"])
    assert bool(answer.get("failed")) is not accepted, answer.get("msg")


def test_without_ca_cert_the_system_store_decides(one: ShapedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {key: value for key, value in login_options(one).items() if key != "ca_cert"}
    refused(task(**options), UNREACHABLE, "certificate verify failed", "Set ca_cert to")
    monkeypatch.setenv("SSL_CERT_FILE", str(one.ca))
    succeeded(task(**options, check=True, databases=["admindb"]))


def test_the_client_s_certificate_is_shown_to_a_server_that_asks_for_one(shaped: Shaped, tmp_path: Path) -> None:
    server = shaped(major=15, shape="azure")
    server.hba = ("hostssl all cloudadmin 127.0.0.1/32 scram-sha-256 clientcert=verify-full",)
    server.restart(ssl_ca_file=str(server.ca))
    with unchanged(server):
        refused(bootstrap(server), UNREACHABLE, "client certificate", "ssl_cert")
    issued = server.authority._ca.issue_cert("cloudadmin@latchkey.invalid", common_name="cloudadmin")
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    succeeded(bootstrap(server, ssl_cert=str(certificate), ssl_key=str(key)))
    whole(server)


# ------------------------------------------------------------------------------------------- logins


def test_a_wrong_password_is_said_and_not_shown(one: ShapedServer) -> None:
    answer = bootstrap(one, login_password="W7ong-secret")
    refused(answer, UNREACHABLE, "password authentication failed", "Check login_user and login_password")
    assert "W7ong-secret" not in str(answer)


def test_a_login_that_does_not_exist_is_named(one: ShapedServer) -> None:
    answer = bootstrap(one, login_user="nobody_here")
    refused(answer, UNREACHABLE, "login nobody_here", "Check login_user")


def test_a_missing_password_is_asked_for(one: ShapedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    options = {key: value for key, value in login_options(one).items() if key != "login_password"}
    refused(task(**options), UNREACHABLE, "no password supplied", "Set login_password")


def test_a_role_that_may_not_log_in_is_named(shaped: Shaped) -> None:
    server = shaped(major=15, shape="azure")
    run_in(server, "postgres", "ALTER ROLE cloudadmin2 NOLOGIN")
    answer = bootstrap(server, login_user="cloudadmin2", login_password="cloudadmin2")
    refused(answer, UNREACHABLE, 'role "cloudadmin2" is not permitted to log in', "login_user")


def test_a_maintenance_database_that_does_not_exist_is_named(one: ShapedServer) -> None:
    refused(bootstrap(one, login_db="nowhere"), UNREACHABLE, "database nowhere", "does not exist", "login_db")


def test_a_database_that_the_access_rules_refuse_is_a_warning_and_no_error(shaped: Shaped) -> None:
    server = shaped(major=15, shape="azure", hba=["host tmpl_db cloudadmin all reject"])
    answer = succeeded(bootstrap(server))
    shut = database_of(answer, "tmpl_db")
    assert not shut["reachable"]
    assert "pg_hba.conf rejects" in shut["reason"]
    assert [line for line in answer["warnings"] if "tmpl_db" in line]
    assert len(answer["warnings"]) == 1
    whole(server)
