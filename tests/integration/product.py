# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The product as both doors call it, and ways to see what it did without asking it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.run import BOOTSTRAP
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context

if TYPE_CHECKING:
    from tests.rig import Server, ShapedServer

CONNECTOR = "apono_connector"
SECRET = "pw-Conn3ctor-é'\"%s"
HOSTILE_DATABASE = 'App "DB" é;--'
Row = tuple[Any, ...]


def bootstrap(server: ShapedServer, *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
    """Run the product in this process against a server; a failure is in what it returns, as `failed` and `msg`."""
    return task({**login_options(server), **options}, check=check, diff=diff)


def task(options: Mapping[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """Run the product with these options alone; without what access needs, unless a test is about that."""
    asked = {"access": False, **options}
    checked = ArgumentSpecValidator(dict(BOOTSTRAP.arguments), **BOOTSTRAP.rules).validate(asked)
    if checked.error_messages:
        return {"failed": True, "changed": False, "msg": "; ".join(checked.error_messages)}
    return BOOTSTRAP.answer(checked.validated_parameters, Context(check=check, diff=diff))


def bootstrapped(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """Run the product, which must work, with the password that `connector` uses."""
    return succeeded(bootstrap(server, **{"connector_password": SECRET, **options}))


def succeeded(said: dict[str, Any]) -> dict[str, Any]:
    """Return what the product said, unless it failed."""
    assert not said.get("failed"), said["msg"]
    return said


def login_options(server: ShapedServer) -> dict[str, Any]:
    """The options by which the server's administrator logs in."""
    return {
        "login_host": server.host,
        "login_port": server.port,
        "login_user": server.admin,
        "login_password": server.passwords[server.admin],
        "ca_cert": str(server.ca),
    }


def connector(
    server: Server, dbname: str = "postgres", *, name: str = CONNECTOR, password: str = SECRET
) -> psycopg.Connection[Row]:
    """Log in as the connector with its password: verify-full, and SCRAM or nothing."""
    return server.connect(user=name, password=password, dbname=dbname, require_auth=_scram())


def _scram() -> str | None:
    return "scram-sha-256" if psycopg.pq.version() >= 160000 else None


def reach(major: int, variant: str) -> int:
    """How many of the 195 objects of appdb_open an administrator can give away.

    Since 16 a stock engine leaves app_gamma and app_fellow to themselves; cron's two are the platform's everywhere.
    """
    return 193 if major < 16 or variant == "patched" else 145


def database_of(said: dict[str, Any], name: str) -> dict[str, Any]:
    """What the result says of one database."""
    (found,) = [entry for entry in said["databases"] if entry["name"] == name]
    return dict(found)


def run_in(server: Server, dbname: str, *commands: str, user: str | None = None) -> None:
    """Run commands in one session, as the superuser or, by SET ROLE, as somebody else."""
    with server.connect(dbname=dbname) as conn:
        if user is not None:
            conn.execute(f'SET ROLE "{user}"'.encode())
        for command in commands:
            conn.execute(command.encode())


def ask(server: Server, query: str, dbname: str = "postgres", **parameters: Any) -> list[Row]:
    """The rows of a query, as the superuser."""
    with server.connect(dbname=dbname) as conn:
        return conn.execute(query.encode(), parameters or None).fetchall()


# ------------------------------------------------------------------ the whole catalog, as far as rights go
# acldefault() in place of NULL, and every ACL as sorted rows: what counts is who holds what, not how it is written.
ACL = """
ARRAY(SELECT format('%%s=%%s%%s/%%s', grantee::regrole, privilege_type, CASE WHEN is_grantable THEN '*' ELSE '' END,
                    grantor::regrole)
        FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) ORDER BY 1)
"""


def _rights(kind: str, table: str, label: str, owner: str, acl: str) -> str:
    rights = ACL.format(acl=acl, kind=kind, owner=owner).replace("%%", "%")
    return f"SELECT '{table}', {label}::text, {owner}::regrole::text, ({rights})::text FROM {table}"


OF_DATABASE = " UNION ALL ".join(
    (
        _rights("r", "pg_class", "pg_class.oid::regclass", "relowner", "relacl")
        + " WHERE relkind <> 'S' AND (oid >= 16384 OR relacl IS NOT NULL)",
        _rights("s", "pg_class", "pg_class.oid::regclass", "relowner", "relacl") + " WHERE relkind = 'S'",
        _rights("f", "pg_proc", "pg_proc.oid::regprocedure", "proowner", "proacl")
        + " WHERE oid >= 16384 OR proacl IS NOT NULL",
        _rights("T", "pg_type", "pg_type.oid::regtype", "typowner", "typacl")
        + " WHERE oid >= 16384 OR typacl IS NOT NULL",
        _rights("n", "pg_namespace", "nspname", "nspowner", "nspacl"),
        _rights("F", "pg_foreign_data_wrapper", "fdwname", "fdwowner", "fdwacl"),
        _rights("S", "pg_foreign_server", "srvname", "srvowner", "srvacl"),
        _rights("l", "pg_language", "lanname", "lanowner", "lanacl"),
        _rights("L", "pg_largeobject_metadata", "pg_largeobject_metadata.oid", "lomowner", "lomacl"),
        "SELECT 'pg_attribute', attrelid::regclass || '.' || attname, '', attacl::text"
        " FROM pg_attribute WHERE attacl IS NOT NULL",
        "SELECT 'pg_default_acl', concat_ws('/', defaclnamespace::regnamespace, defaclobjtype),"
        " defaclrole::regrole::text, ARRAY(SELECT x::text FROM unnest(defaclacl) x ORDER BY 1)::text"
        " FROM pg_default_acl",
        "SELECT 'pg_description', pg_describe_object(classoid, objoid, objsubid), '', description"
        " FROM pg_description WHERE objoid >= 16384",
    )
)
OF_SERVER = " UNION ALL ".join(
    (
        _rights("d", "pg_database", "datname", "datdba", "datacl"),
        _rights("t", "pg_tablespace", "spcname", "spcowner", "spcacl"),
        "SELECT 'pg_authid', rolname::text, '', (to_jsonb(a) - 'oid')::text FROM pg_authid a",
        "SELECT 'pg_auth_members', member::regrole::text, roleid::regrole::text,"
        " (to_jsonb(m) - 'oid' - 'roleid' - 'member' || jsonb_build_object('grantor', grantor::regrole::text))::text"
        " FROM pg_auth_members m",
        "SELECT 'pg_shdescription', objoid::text, classoid::text, description FROM pg_shdescription",
        "SELECT 'pg_db_role_setting', setdatabase::text, setrole::regrole::text, setconfig::text"
        " FROM pg_db_role_setting",
    )
)


def catalog(server: Server) -> dict[str, frozenset[Row]]:
    """All roles, memberships, comments, ACLs and default privileges, by database ('' is the server itself)."""
    found = {"": frozenset(ask(server, OF_SERVER))}
    open_ones = "SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
    for (name,) in ask(server, open_ones):
        found[name] = frozenset(ask(server, OF_DATABASE, name))
    return found


def changes(before: dict[str, frozenset[Row]], after: dict[str, frozenset[Row]]) -> list[tuple[str, str, Row]]:
    """What differs between two catalogs, readable."""
    places = sorted({*before, *after})
    none: frozenset[Row] = frozenset()
    return [
        *(("-", place, row) for place in places for row in sorted(before.get(place, none) - after.get(place, none))),
        *(("+", place, row) for place in places for row in sorted(after.get(place, none) - before.get(place, none))),
    ]


def next_xid(server: Server) -> int:
    """The next transaction id; to ask takes none."""
    return int(ask(server, "SELECT txid_snapshot_xmax(txid_current_snapshot())")[0][0])


# ------------------------------------------------------------------ the server's log
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")


class Log:
    """What the server logs from the moment this is made."""

    def __init__(self, server: Server) -> None:
        self._path = server.log
        self._start = server.log.stat().st_size

    def text(self) -> str:
        """All of it."""
        return self._path.read_bytes()[self._start :].decode(errors="replace")

    def statements(self) -> list[str]:
        """The statements that clients sent (log_statement = all), each on one line."""
        return [" ".join(found.split()) for found in STATEMENT.findall(self._joined())]

    def _joined(self) -> str:
        """Continuation lines begin with a tab."""
        return self.text().replace("\n\t", " ")
