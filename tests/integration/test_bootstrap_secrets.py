# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords: set where they should be, working, and in no log and no result."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.product import (
    CONNECTOR,
    SECRET,
    Log,
    ask,
    bootstrap,
    bootstrapped,
    connector,
    run_in,
    succeeded,
)
from tests.rig import Server, ShapedServer, vendor_role

Shaped = Callable[..., ShapedServer]
PLAIN, FURTHER, ADMINS = "Conn3ctorOne", "Conn3ctorTwo", "Adm1nSecret"
ALL = {"log_statement": "all", "log_min_messages": "debug2", "log_min_error_statement": "debug2", "log_duration": True}
VERIFIER = "SELECT rolpassword FROM pg_authid WHERE rolname = %(role)s"


def verifier(server: Server) -> str | None:
    """The connector's password as the server keeps it."""
    found: str | None = ask(server, VERIFIER, role=CONNECTOR)[0][0]
    return found


def logs_in(server: Server, password: str) -> bool:
    """Whether the connector gets in with a password."""
    try:
        connector(server, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def with_secret_admin(server: ShapedServer) -> ShapedServer:
    """Give the administrator a password that can be looked for."""
    run_in(server, "postgres", f"ALTER ROLE {server.admin} PASSWORD '{ADMINS}'")
    server.passwords[server.admin] = ADMINS
    return server


def test_no_password_is_in_the_servers_log_or_in_a_result(shaped: Shaped, major: int, shape: str) -> None:
    server = with_secret_admin(shaped(major=major, shape=shape, settings=ALL))
    log, said = Log(server), []
    options: dict[str, Any] = {"update_password": "always", "diff": True}
    for password in (PLAIN, FURTHER):
        said.append(bootstrapped(server, connector_password=password, **options))
        said.append(bootstrapped(server, connector_password=password, check=True, **options))
        assert logs_in(server, password)
    said.append(bootstrapped(server, state="absent"))
    text = log.text()
    assert "SCRAM-SHA-256$" in text, "the log must show what was sent instead"
    assert any(one.startswith(f'ALTER ROLE "{CONNECTOR}" PASSWORD') for one in log.statements())
    for secret in (PLAIN, FURTHER, ADMINS):
        assert secret not in text
        assert secret not in json.dumps(said)
    shown = [one["sql"] for result in said for one in result["statements"] if "PASSWORD" in one["sql"]]
    assert shown == [
        f"CREATE ROLE \"{CONNECTOR}\" LOGIN CREATEROLE PASSWORD '********'",
        f"ALTER ROLE \"{CONNECTOR}\" PASSWORD '********'",
    ]


def test_with_password_encryption_server_the_server_gets_the_password_itself(shaped: Shaped, major: int) -> None:
    server = with_secret_admin(shaped(major=major, shape="azure", settings=ALL))
    log = Log(server)
    said = [
        bootstrapped(server, connector_password=one, password_encryption="server", update_password="always")
        for one in (PLAIN, FURTHER)
    ]
    assert logs_in(server, FURTHER)
    assert PLAIN in log.text()
    assert FURTHER in log.text()
    assert ADMINS not in log.text()
    assert PLAIN not in json.dumps(said)
    assert FURTHER not in json.dumps(said)
    assert (verifier(server) or "").startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("password", [SECRET, "\N{ANGSTROM SIGN}\N{SOFT HYPHEN}x ﷺ", "a\\b'c\"d$$%s{e}", "x" * 900])
def test_any_password_that_is_set_logs_in(shaped_once: Shaped, password: str) -> None:
    server = shaped_once(major=17, shape="rds")
    bootstrapped(server, connector_password=password, update_password="always", databases=["admindb"])
    assert logs_in(server, password)
    assert not logs_in(server, password + "x")


def test_without_a_password_the_connector_is_made_and_nobody_gets_in(shaped: Shaped) -> None:
    server = shaped(major=17, shape="rds")
    said = succeeded(bootstrap(server, databases=["admindb"]))
    assert said["connector"]["created"] is True
    assert verifier(server) is None
    assert not logs_in(server, "")
    assert succeeded(bootstrap(server, databases=["admindb"], update_password="always"))["changed"] is False


def test_on_create_keeps_the_password_and_always_replaces_a_wrong_one(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    bootstrapped(server, connector_password=PLAIN)
    first = verifier(server)
    kept = bootstrapped(server, connector_password=FURTHER)
    assert (kept["changed"], verifier(server)) == (False, first)
    planned = bootstrapped(server, connector_password=FURTHER, update_password="always", check=True)
    assert (planned["changed"], verifier(server)) == (True, first)
    done = bootstrapped(server, connector_password=FURTHER, update_password="always")
    assert done["statements"] == planned["statements"]
    assert logs_in(server, FURTHER)
    assert not logs_in(server, PLAIN)
    second = verifier(server)
    again = bootstrapped(server, connector_password=FURTHER, update_password="always")
    assert (again["changed"], verifier(server)) == (False, second)


def test_the_trial_login_is_the_connectors_whatever_connect_params_say(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    bootstrapped(server, connector_password=PLAIN)
    theirs = {"connect_params": {"user": server.admin, "password": server.passwords[server.admin]}}
    done = bootstrapped(server, connector_password=FURTHER, update_password="always", **theirs)
    assert done["changed"] is True
    assert logs_in(server, FURTHER)
    again = bootstrapped(server, connector_password=FURTHER, update_password="always", **theirs)
    assert again["changed"] is False


# ------------------------------------------------------------------ a connector that is there already
def test_a_connector_made_by_the_vendors_sql_is_adopted_with_its_password(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = shaped(major=major, shape=shape)
    with server.connect_admin() as conn:
        if (shape, major >= 16) == ("rds", True):
            conn.execute(f"CREATE USER {CONNECTOR} WITH CREATEROLE PASSWORD 'connector'".encode())
        else:
            vendor_role(conn, group=server.group)
    before = verifier(server)
    said = bootstrapped(server, connector_password=FURTHER)
    assert (said["changed"], said["connector"]["created"]) == (True, False)
    assert verifier(server) == before
    with connector(server, "appdb_open", password="connector") as conn:
        conn.execute("INSERT INTO beta_s.t_plain (v) VALUES ('x')")
    assert bootstrapped(server)["changed"] is False


def test_lost_attributes_are_given_back_and_no_other_is_touched(shaped: Shaped, major: int, shape: str) -> None:
    server = shaped(major=major, shape=shape)
    bootstrapped(server)
    row = "SELECT to_jsonb(a) FROM pg_authid a WHERE rolname = %(role)s"
    before = ask(server, row, role=CONNECTOR)
    for attributes, repair in (
        ("NOLOGIN", "LOGIN"),
        ("NOCREATEROLE", "CREATEROLE"),
        ("NOLOGIN NOCREATEROLE", "LOGIN CREATEROLE"),
    ):
        run_in(server, "postgres", f"ALTER ROLE {CONNECTOR} {attributes}")
        said = bootstrapped(server)
        assert said["statements"] == [{"database": None, "sql": f'ALTER ROLE "{CONNECTOR}" {repair}'}]
        assert ask(server, row, role=CONNECTOR) == before
    with connector(server) as conn:
        conn.execute("CREATE ROLE made_by_connector")
