# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part F: access of one person beside the usual way; and a server with 1,000 people and 3,000 grants."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tests.bench.estates import BARE, Estate, bench_server
from tests.bench.results import Row, Samples, Settings
from tests.integration import access
from tests.integration.access import bootstrapped
from tests.integration.product import CONNECTOR, SECRET, ask, run_in

if TYPE_CHECKING:
    from tests.rig import ShapedServer

TABLES = (10, 10_000, 100_000)
PEOPLE, GRANTS = 1_000, 3
USUAL = (
    "the usual way: CREATE ROLE, GRANT SELECT ON ALL TABLES; then REVOKE, DROP OWNED, DROP ROLE; one open connection"
)
SCRIPT = "the bare role statements in one script over one open session"


def measure(settings: Settings) -> Iterator[Row]:
    """Yield grant and revoke by size of the database, then what a crowd costs."""
    with bench_server(settings) as server:
        bootstrapped(server, databases=["postgres"])
        yield from _by_size(server, settings)
    with bench_server(settings) as server:
        bootstrapped(server)
        yield from _crowd(server, settings)


def expect(said: dict[str, Any], *, changed: bool) -> dict[str, Any]:
    """A measurement of work that was not done would be worth nothing."""
    if said.get("failed") or said["changed"] is not changed:
        raise RuntimeError(said.get("msg") or f"changed is {said['changed']}")
    return said


# ------------------------------------------------------------------ one person
def _by_size(server: ShapedServer, settings: Settings) -> Iterator[Row]:
    samples = Samples()
    sizes = [max(size // settings.scale, 1) for size in TABLES]
    for size in sizes:
        schemas = max(size // 100, 1)
        name = f"tables_{size}"
        Estate(schemas=schemas, tables=max(size // schemas, 1), columns=BARE, name=name).build(server)
        bootstrapped(server, databases=[name])
        # The first use of a scope makes its profile; that is measured by itself.
        samples.time(f"first {size}", functools.partial(_give, server, "first", name))
        _take(server, "first")
    for number in range(settings.cheap_runs):
        for size in sizes:
            request = f"run {number}"
            samples.time(f"grant {size}", functools.partial(_give, server, request, f"tables_{size}"))
            samples.time(f"revoke {size}", functools.partial(_take, server, request))
            _usual(server, f"tables_{size}", samples, size)
    for verb in ("grant", "revoke"):
        for size in sizes:
            yield Row(
                part="F",
                what=f"{verb}, {size:,} tables",
                against=f"{verb} with {sizes[0]} tables, side by side",
                ours=samples.of(f"{verb} {size}"),
                theirs=samples.of(f"{verb} {sizes[0]}"),
                slowdown=1.2,
                note=(
                    f"the usual way {samples.median(f'usual {verb} {size}'):.3f} s ({USUAL});"
                    f" first use of the scope {samples.median(f'first {size}'):.1f} s"
                ),
            )


def _give(server: ShapedServer, request: str, database: str) -> None:
    wanted = [{"database": database, "permission": "READ_ONLY"}]
    expect(access.grant(server, request, "ana@example.com", access=wanted), changed=True)


def _take(server: ShapedServer, request: str) -> None:
    expect(access.revoke(server, request), changed=True)


def _usual(server: ShapedServer, database: str, samples: Samples, size: int) -> None:
    with server.connect_admin(dbname=database) as conn:
        schemas = [
            row[0] for row in conn.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^app[0-9]'").fetchall()
        ]
        everywhere = sql.SQL(", ").join(map(sql.Identifier, schemas))

        def run(*templates: str) -> None:
            for template in templates:
                conn.execute(sql.SQL(template).format(schemas=everywhere))

        samples.time(
            f"usual grant {size}",
            lambda: run(
                "CREATE ROLE usual LOGIN PASSWORD 'x'",
                "GRANT USAGE ON SCHEMA {schemas} TO usual",
                "GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO usual",
            ),
        )
        samples.time(
            f"usual revoke {size}",
            lambda: run(
                "REVOKE ALL ON ALL TABLES IN SCHEMA {schemas} FROM usual",
                "REVOKE ALL ON SCHEMA {schemas} FROM usual",
                "DROP ROLE usual",
            ),
        )


# ------------------------------------------------------------------ a crowd
def _crowd(server: ShapedServer, settings: Settings) -> Iterator[Row]:
    samples, people = Samples(), PEOPLE // settings.scale
    profiles = [_profile(server, schema) for schema in ("alpha_s", "beta_s", "admin_s")]
    for _run in range(settings.runs):
        _gather(server, people, profiles)
        samples.time("idle sweep", lambda: expect(access.sweep(server, complete_profiles=False), changed=False))
        idle = _statements(server, lambda: access.sweep(server, complete_profiles=False))
        _end_time(server)
        result = samples.time("sweep", lambda: access.sweep(server, complete_profiles=False))
        if len(result["ended"]) != people * GRANTS:
            msg = f"{len(result['ended'])} grants ended"
            raise RuntimeError(msg)
        expect(access.sweep(server, cleanup_after_days=0, complete_profiles=False), changed=True)
        _gather(server, people, profiles)
        _end_time(server)
        samples.time("script", lambda: _script(server))
    what = f"{people:,} people x {GRANTS} grants"
    yield Row(
        part="F",
        what=f"{what}: a sweep that ends all",
        against=SCRIPT,
        ours=samples.of("sweep"),
        theirs=samples.of("script"),
        slowdown=3,
    )
    yield Row(
        part="F", what=f"{what}: a sweep with nothing to do", ours=samples.of("idle sweep"), note=f"{idle} statements"
    )


def _profile(server: ShapedServer, schema: str) -> str:
    """Make a profile that stays: somebody else is in it."""
    wanted = [{"database": access.DATABASE, "permission": "READ_ONLY", "schemas": [schema]}]
    said = access.grant(server, f"keeps {schema}", "keeper@example.com", access=wanted, allow_partial=True)
    return str(expect(said, changed=True)["items"][0]["role"])


def _gather(server: ShapedServer, people: int, profiles: list[str]) -> None:
    """Make what as many calls of the module would make, by the connector and in one transaction."""
    options = " WITH INHERIT TRUE, SET FALSE" if server.major >= 16 else ""
    marking = " WITH INHERIT FALSE, SET FALSE" if server.major >= 16 else ""
    lines = []
    for number in range(people):
        login = f"person_{number}_{hashlib.sha256(str(number).encode()).hexdigest()[:8]}"
        facts = json.dumps({"v": 1, "kind": "login", "grantee": f"person {number}", "auth": "password", "secret": None})
        lines += [
            f"CREATE ROLE {login} LOGIN PASSWORD NULL VALID UNTIL '2100-01-01'",
            f"COMMENT ON ROLE {login} IS '{facts}'",
            f"GRANT latchkey_managed TO {login}{marking}",
        ]
        for which, profile in enumerate(profiles[:GRANTS]):
            request = f"request {number} {which}"
            role = "latchkey_g_" + hashlib.sha256(request.encode()).hexdigest()[:16]
            told = {
                "v": 1,
                "kind": "grant",
                "request": request,
                "grantee": f"person {number}",
                "login": login,
                "by": None,
            }
            lines += [
                f"CREATE ROLE {role} NOLOGIN VALID UNTIL '2100-01-01'",
                f"COMMENT ON ROLE {role} IS '{json.dumps(told)}'",
                f"GRANT latchkey_managed TO {role}{marking}",
                f"GRANT {profile} TO {role}{options}",
                f"GRANT {role} TO {login}{options}",
            ]
    with server.connect(user=CONNECTOR, password=SECRET) as conn:
        conn.execute("; ".join(lines).encode())


def _end_time(server: ShapedServer) -> None:
    run_in(
        server,
        "postgres",
        """DO $$ DECLARE r name; BEGIN
             FOR r IN SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%"request "%' OR
                      shobj_description(oid, 'pg_authid') LIKE '%"request": "request %'
             LOOP EXECUTE format('ALTER ROLE %I VALID UNTIL ''2020-01-01''', r); END LOOP; END $$""",
    )


def _script(server: ShapedServer) -> None:
    """Do without anything but the statements, one after the other over one session."""
    grants = ask(
        server,
        "SELECT g.rolname::text, u.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles u ON u.oid = m.member WHERE g.rolname LIKE 'latchkey_g_%' AND u.rolname LIKE 'person_%'",
    )
    with server.connect(user=CONNECTOR, password=SECRET) as conn:
        for login in sorted({row[1] for row in grants}):
            conn.execute(f"ALTER ROLE {login} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'".encode())
        for role, login in grants:
            conn.execute(f"REVOKE {role} FROM {login}".encode())
            conn.execute(f"DROP ROLE {role}".encode())
        for login in sorted({row[1] for row in grants}):
            conn.execute(f"DROP ROLE {login}".encode())


def _statements(server: ShapedServer, action: Any) -> int:
    """How many statements the server is sent."""
    before = ask(server, "SELECT sum(xact_commit) FROM pg_stat_database")[0][0]
    action()
    return int(ask(server, "SELECT sum(xact_commit) FROM pg_stat_database")[0][0] - before)
