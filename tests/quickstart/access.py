# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two people's access, by the playbooks as a user runs them, and found out by being those people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from tests.quickstart import show
from tests.quickstart.proof import OPEN, TABLE

if TYPE_CHECKING:
    from tests.quickstart.fleet import Fleet
    from tests.rig import ShapedServer

ADA, GRACE = "ada@example.org", "grace@example.org"
HOUR, MOMENT = "1h", "8s"
EXPECTED = {
    "ada reads": "yes",
    "ada writes": "refused",
    "after the revoke, her session": "ended",
    "after the revoke, a new login": "refused",
    "after the revoke, her password": "gone from the secret",
    f"grace's session after her {MOMENT}": "goes on",
    "grace's new login": "refused",
    "after the sweep, her session": "ended",
    "open logins of people": "0",
}
OPEN_LOGINS = """
SELECT count(*) FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid
 WHERE m.roleid = 'latchkey_managed'::regrole AND NOT m.admin_option AND r.rolcanlogin
"""
UNTIL_IT_IS_OVER = """
SELECT pg_sleep(greatest(0, extract(epoch FROM rolvaliduntil - clock_timestamp())))
  FROM pg_roles WHERE rolname = %s
"""
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(kw_only=True)
class Visit:
    """What became of it on one server: the playbooks' answers, and what people found when they tried."""

    name: str
    server: ShapedServer
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    sessions: dict[str, Connection] = field(default_factory=dict)
    credentials: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def attempts(self) -> dict[str, str]:
        """Return what was tried, in this order, and what came of it."""
        return dict(zip(EXPECTED, self.found, strict=True))

    @property
    def complaints(self) -> list[str]:
        """Tell what should not be so."""
        return [f"{what}: {result}" for what, result in self.attempts.items() if result != EXPECTED[what]]

    def enter(self, fleet: Fleet, person: str) -> None:
        """Log in by what the person's secret says."""
        self.credentials[person] = fleet.person(self.name, person)
        self.sessions[person] = self._connect(person)

    def tries(self, person: str, statement: str) -> None:
        """Run a statement in the person's session."""
        try:
            self.sessions[person].execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            self.found.append("refused")
        else:
            self.found.append("yes")

    def looks_at_session(self, person: str) -> None:
        """See whether the session that is open can go on."""
        try:
            self.sessions[person].execute("SELECT 1")
        except psycopg.OperationalError:
            self.found.append("ended")
        else:
            self.found.append("goes on")

    def logs_in(self, person: str) -> None:
        """Try the credentials that were right."""
        try:
            self._connect(person).close()
        except psycopg.OperationalError:
            self.found.append("refused")
        else:
            self.found.append("yes")

    def _connect(self, person: str) -> Connection:
        known = self.credentials[person]
        return self.server.connect(user=known["username"], password=known["password"], dbname=OPEN)


def show_it(fleet: Fleet) -> list[Visit]:
    """One access is revoked; the other's time is over, and the sweep ends it."""
    visits = [Visit(name=name, server=server) for name, server in fleet.servers.items()]
    _run(fleet, visits, "grant", _request("DEMO-1", ADA, HOUR))
    for one in visits:
        one.enter(fleet, ADA)
        one.tries(ADA, f"SELECT count(*) FROM {TABLE}")
        one.tries(ADA, f"DELETE FROM {TABLE}")
    _run(fleet, visits, "grant", _request("DEMO-2", GRACE, MOMENT), keep="second grant")
    for one in visits:
        one.enter(fleet, GRACE)
    _run(fleet, visits, "revoke", {"access_request_id": "DEMO-1"})
    for one in visits:
        one.looks_at_session(ADA)
        one.logs_in(ADA)
        one.found.append("still in the secret" if "password" in fleet.person(one.name, ADA) else "gone from the secret")
        _wait(one)
        one.looks_at_session(GRACE)
        one.logs_in(GRACE)
    _run(fleet, visits, "sweep", {})
    for one in visits:
        one.looks_at_session(GRACE)
        one.found.append(str(_ask(one, OPEN_LOGINS)))
    print(flush=True)
    return visits


def _request(number: str, person: str, duration: str) -> dict[str, str]:
    schema = TABLE.partition(".")[0]
    what = {"access_database": OPEN, "access_schemas": schema, "access_duration": duration}
    return {"access_server": "all", "access_request_id": number, "access_grantee": person, **what}


def _run(fleet: Fleet, visits: list[Visit], name: str, variables: dict[str, str], *, keep: str | None = None) -> None:
    playbook, given = f"latchkey.postgres.{name}", " ".join(f"{key}={value}" for key, value in variables.items())
    show.command(f"{playbook} -e '{given}'" if given else playbook)
    answers, _output = fleet.run(playbook, variables, quiet=True)
    for one in visits:
        one.answers[keep or name] = answers[one.name]


def _wait(visit: Visit) -> None:
    _ask(visit, UNTIL_IT_IS_OVER, visit.credentials[GRACE]["username"])


def _ask(visit: Visit, query: str, *parameters: str) -> Any:
    with visit.server.connect() as conn:
        row = conn.execute(query.encode(), parameters or None).fetchone()
    return row[0] if row else None
