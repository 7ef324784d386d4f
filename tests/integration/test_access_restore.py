# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump of a server carries all grants to another: the catalog is the ledger."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from tests.integration.access import DATABASE, bootstrapped, expire, gets_in, grant, person, refusal, sweep, through
from tests.integration.access import GRANT as DOOR
from tests.integration.product import CONNECTOR, SECRET, ask, run_in, succeeded
from tests.rig import Server, ShapedServer

Shaped = Callable[..., ShapedServer]
Start = Callable[..., Server]
READS, WRITES = "SELECT count(*) FROM alpha_s.t_plain", "DELETE FROM alpha_s.t_plain"
WRITE = ({"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_plain"]},)
# Each role of ours with its end and comment, and each membership with its options.
LEDGER = """
SELECT r.rolname::text, r.rolcanlogin::text, r.rolvaliduntil::text, shobj_description(r.oid, 'pg_authid')
  FROM pg_roles r
 WHERE EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'latchkey_managed'::regrole
                                               AND NOT m.admin_option)
UNION ALL
SELECT m.roleid::regrole::text, m.member::regrole::text, m.grantor::regrole::text,
       (to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')::text
  FROM pg_auth_members m
 WHERE m.roleid::regrole::text LIKE 'latchkey%' OR m.member::regrole::text LIKE 'latchkey%'
"""
# What a new server has by itself.
STANDING = re.compile(r'(role|database|extension|schema) "[^"]*" already exists')


@dataclass(frozen=True, kw_only=True)
class Client:
    """PostgreSQL's own programs: the server's, or newer ones of the machine."""

    bindir: Path

    def dump(self, server: Server) -> str:
        """All of a server: globals and data."""
        return self._run("pg_dumpall", "--database", "postgres", server=server).stdout

    def restore(self, text: str, server: Server) -> None:
        """Run a dump; nothing may fail but to make what is there already."""
        told = self._run("psql", "--no-psqlrc", "--quiet", "--dbname", "postgres", server=server, text=text).stderr
        errors = [line for line in told.splitlines() if re.search("ERROR|FATAL|invalid|error:", line)]
        assert [line for line in errors if not STANDING.search(line)] == []

    def _run(
        self, program: str, *arguments: str, server: Server, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bindir / program, *arguments],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
                "PGHOST": server.host,
                "PGPORT": str(server.port),
                "PGUSER": server.superuser,
                "PGPASSWORD": server.password,
                "PGSSLMODE": "verify-full",
                "PGSSLROOTCERT": str(server.ca),
                "PGCLIENTENCODING": "UTF8",
            },
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )


def client_for(server: Server) -> Client:
    """The programs beside the server's; else those of a newer version, which know the older ones."""
    elsewhere = shutil.which("pg_dumpall")
    for bindir in (server.binaries.bindir, *([Path(elsewhere).parent] if elsewhere else [])):
        if all((bindir / name).is_file() for name in ("pg_dumpall", "psql")) and _major(bindir) >= server.major:
            return Client(bindir=bindir)
    pytest.skip(f"there is no pg_dumpall for PostgreSQL {server.major} on this machine")


def _major(bindir: Path) -> int:
    said = subprocess.run([bindir / "pg_dumpall", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A server made of the dump of another; `said` by the requests that were granted there."""

    before: ShapedServer
    after: Server
    said: Mapping[str, dict[str, Any]]

    def options(self) -> dict[str, Any]:
        """The options by which the connector logs in."""
        return {
            "login_host": self.after.host,
            "login_port": self.after.port,
            "login_user": CONNECTOR,
            "login_password": SECRET,
            "ca_cert": str(self.after.ca),
        }


@pytest.fixture
def restored(shaped: Shaped, server: Start, major: int, shape: str) -> Restored:
    """Grant something on a server, of which a part is over, and restore a dump of it into a fresh one."""
    before = shaped(major=major, shape=shape)
    client = client_for(before)
    bootstrapped(before)
    # A server that has lived for a while: the OIDs of its objects are higher than those in a fresh one will be.
    run_in(before, DATABASE, *["SELECT lo_unlink(lo_create(0)) FROM generate_series(1, 1000)"] * 5)
    run_in(before, DATABASE, "CREATE TABLE alpha_s.lately (id int)", user="app_alpha")
    said = {
        "lasts": grant(before, "lasts", "Łucja O'Hara <l@example.com>"),
        "writes": grant(before, "writes", "wim@example.com", access=list(WRITE), duration="2h"),
        "over": grant(before, "over", "old@example.com"),
        "over too": grant(before, "over too", "wim@example.com"),
    }
    for one in said.values():
        succeeded(one)
    expire(before, "over", "over too")
    after = server(major=major, superuser=before.superuser, password=before.password)
    client.restore(client.dump(before), after)
    return Restored(before=before, after=after, said=said)


def test_a_restored_server_has_every_grant_and_its_sweep_ends_what_is_over(restored: Restored) -> None:
    server, said = restored.after, restored.said
    assert ask(server, LEDGER + " ORDER BY 1, 2, 3, 4") == ask(restored.before, LEDGER + " ORDER BY 1, 2, 3, 4")
    assert [request for request, one in said.items() if one["password"] and not gets_in(server, one)] == []
    wim = said["writes"]
    with contextlib.closing(person(server, said["lasts"])) as reader, contextlib.closing(person(server, wim)) as writer:
        assert (refusal(reader, READS), refusal(reader, WRITES)) == (None, "42501")
        assert (refusal(writer, READS), refusal(writer, WRITES)) == (None, None)
        swept = succeeded(_sweep(restored))
        assert sorted(swept["ended"]) == ["over", "over too"]
        assert refusal(reader, READS) is None
    assert not gets_in(server, said["over"])
    assert (gets_in(server, said["lasts"]), gets_in(server, wim)) == (True, True)
    gone = {names.grant_role(request) for request in ("over", "over too")}
    assert gone.isdisjoint(row[0] for row in ask(server, "SELECT rolname::text FROM pg_roles"))
    assert succeeded(_sweep(restored))["changed"] is False
    # There is no way back to the server that was dumped, where nothing has been swept.
    assert gets_in(restored.before, said["over"])


def test_on_a_restored_server_requests_go_on(restored: Restored) -> None:
    """The same is unchanged, a longer one extended; and a new one gives what has been made since."""
    asked = {**restored.options(), "request_id": "lasts", "grantee": "Łucja O'Hara <l@example.com>"}
    scope = [{"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"]}]
    standing = {"access": scope, "return_password": True}
    same = succeeded(through(DOOR, {**asked, **standing, "duration": "1h"}))
    assert (same["changed"], same["expires_at"]) == (False, restored.said["lasts"]["expires_at"])
    # By somebody whose new objects no default privileges give to the profile.
    run_in(restored.after, DATABASE, "CREATE ROLE newcomer", "GRANT USAGE, CREATE ON SCHEMA alpha_s TO newcomer")
    run_in(restored.after, DATABASE, "CREATE TABLE alpha_s.since (id int)", user="newcomer")
    run_in(restored.after, "postgres", f"GRANT newcomer TO {CONNECTOR}")
    new = {**asked, **standing, "request_id": "new", "grantee": "new@example.com", "duration": "1h"}
    said = succeeded(through(DOOR, new))
    with contextlib.closing(person(restored.after, said)) as conn:
        assert refusal(conn, READS) is None
        assert refusal(conn, "SELECT count(*) FROM alpha_s.since") is None
    ended = succeeded(through(DOOR, {**restored.options(), "request_id": "lasts", "state": "absent"}))
    assert ended["revoked"] == ["lasts"]
    assert not gets_in(restored.after, restored.said["lasts"])


def _sweep(restored: Restored) -> dict[str, Any]:
    return sweep(restored.before, **restored.options())
