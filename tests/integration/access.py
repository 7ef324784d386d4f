# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access modules as the connector calls them, and the people who log in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.run import GRANT
from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep import SWEEP
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context
from tests.integration import product
from tests.integration.product import CONNECTOR, SECRET, Row, ask, run_in

if TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Door
    from tests.rig import Server, ShapedServer

DATABASE = "appdb_open"
# One schema whose owner the administrator made, so that it can be given whole everywhere.
READ = ({"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"]},)
PAST = "2020-01-01T00:00:00Z"


def bootstrap(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """Run the bootstrap as its defaults have it: with what access needs."""
    return product.bootstrap(server, **{"access": True, **options})


def bootstrapped(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """Run it with the connector's password; it must work."""
    return product.succeeded(bootstrap(server, **{"connector_password": SECRET, **options}))


def connector_options(server: ShapedServer) -> dict[str, Any]:
    """The options by which the connector logs in."""
    return {
        "login_host": server.host,
        "login_port": server.port,
        "login_user": CONNECTOR,
        "login_password": SECRET,
        "ca_cert": str(server.ca),
    }


def through(door: Door, options: Mapping[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """Run a module's function in this process; a failure is in what it returns, as `failed` and `msg`."""
    checked = ArgumentSpecValidator(dict(door.arguments), **door.rules).validate(dict(options))
    if checked.error_messages:
        return {"failed": True, "changed": False, "msg": "; ".join(checked.error_messages)}
    return door.answer(checked.validated_parameters, Context(check=check, diff=diff))


def grant(server: ShapedServer, request: str, grantee: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """Ask for access; without more to read one schema for an hour, the password in the answer."""
    standing = {"access": list(READ), "duration": "1h", "return_password": True}
    if "expires_at" in options:
        del standing["duration"]
    if {"secret", "password_verifier"} & options.keys() or options.get("login") == "existing" or "auth" in options:
        del standing["return_password"]
    asked = {**connector_options(server), "request_id": request, "grantee": grantee, **standing, **options}
    return through(GRANT, asked, check=check)


def revoke(server: ShapedServer, request: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """End a request."""
    asked = {**connector_options(server), "request_id": request, "state": "absent", **options}
    return through(GRANT, asked, check=check)


def sweep(server: ShapedServer, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """Sweep the server."""
    return through(SWEEP, {**connector_options(server), **options}, check=check)


def expire(server: Server, *requests: str) -> None:
    """Let time pass for these requests: their roles' time is over."""
    run_in(server, "postgres", *(f"ALTER ROLE {names.grant_role(r)} VALID UNTIL '{PAST}'" for r in requests))


def person(server: Server, said: Mapping[str, Any], dbname: str = DATABASE) -> psycopg.Connection[Row]:
    """Log in with what the answer to a request says."""
    return server.connect(user=said["login"], password=said["password"], dbname=dbname)


def gets_in(server: Server, said: Mapping[str, Any], dbname: str = DATABASE) -> bool:
    """Whether the person can log in."""
    try:
        person(server, said, dbname).close()
    except psycopg.OperationalError:
        return False
    return True


def refusal(connection: psycopg.Connection[Row], statement: str) -> str | None:
    """The SQLSTATE with which a statement is refused, or None if it is done."""
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or "lost"
    return None


def roles_of_ours(server: Server) -> set[str]:
    """The roles that are marked as ours."""
    query = """
        SELECT DISTINCT member::regrole::text FROM pg_auth_members
         WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = 'latchkey_managed') AND NOT admin_option
        """
    return {row[0] for row in ask(server, query)}
