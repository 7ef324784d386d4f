# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small model of access, a server to hold against it, crashes, and a DBA who works by hand.

The model says which requests last, what was given besides them and what was taken from them by hand. The server is
looked at by its superuser and by the people themselves, never through the product.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from tests.integration import access
from tests.integration.access import bootstrapped
from tests.integration.estates import ident, literal
from tests.integration.product import CONNECTOR, Row, run_in

if TYPE_CHECKING:
    from tests.rig import ShapedServer

Connection = psycopg.Connection[Row]

# --------------------------------------------------------------------------------------------- the stage
A, B = "model_a", "model_b"
SCHEMA = 'One "é"'
GIVEN, UNRELATED = "model_readers", "model clerks"
EXISTING, OUTSIDER = "Exist\"ing o'Login", "out sider"
PASSWORD = "pw of those who were there before"
# The last two have the same first 63 bytes, as long as a role's name can be.
PEOPLE = ("ann@example.com", 'O\'Brien "Q" é 表; --', "x" * 63 + "-one", "x" * 63 + "-two")
GRANTEES = (*PEOPLE, EXISTING)
REQUESTS = ("R-1", "R'2\" é", "R 3", "R-4")
ITEMS: Mapping[str, dict[str, Any]] = {
    "read": {"database": A, "permission": "READ_ONLY", "schemas": [SCHEMA]},
    "write": {"database": A, "permission": "READ_WRITE", "schemas": [SCHEMA], "tables": ["t 1", "t2"]},
    "execute": {"database": A, "permission": "EXECUTE", "schemas": [SCHEMA]},
    "admin": {"database": B, "permission": "ADMIN"},
    "role": {"role": GIVEN},
}
ITEM_OF = {item["permission"]: name for name, item in ITEMS.items() if "permission" in item}
# What somebody may try, each in a transaction that is rolled back.
PROBES: Mapping[str, tuple[str, str]] = {
    "enter a": (A, "SELECT 1"),
    "read t1": (A, f'TABLE {ident(SCHEMA)}."t 1"'),
    "write t1": (A, f'INSERT INTO {ident(SCHEMA)}."t 1" VALUES (1)'),
    "read t3": (A, f"TABLE {ident(SCHEMA)}.t3"),
    "write t3": (A, f"DELETE FROM {ident(SCHEMA)}.t3"),
    "execute": (A, f"SELECT {ident(SCHEMA)}.f()"),
    "temporary": (A, "CREATE TEMPORARY TABLE x ()"),
    "read u1": (A, "TABLE two.u1"),
    "write u1": (A, "INSERT INTO two.u1 VALUES (1)"),
    "read u2": (A, "TABLE two.u2"),
    "create in a": (A, "CREATE SCHEMA x"),
    "enter b": (B, "SELECT 1"),
    "write b": (B, "INSERT INTO one.t VALUES (1)"),
    "create in b": (B, "CREATE TABLE one.x ()"),
    "schema in b": (B, "CREATE SCHEMA x"),
    "create role": ("postgres", "CREATE ROLE x"),
}
GIVES: Mapping[str, frozenset[str]] = {
    "read": frozenset({"enter a", "read t1", "read t3"}),
    "write": frozenset({"enter a", "read t1", "write t1", "temporary"}),
    "execute": frozenset({"enter a", "execute"}),
    "admin": frozenset({"enter b", "write b", "create in b", "schema in b"}),
    "role": frozenset({"enter a", "read u1"}),
    UNRELATED: frozenset({"enter a", "read u2"}),
}
IN_A = (
    f"CREATE SCHEMA {ident(SCHEMA)}",
    *(f"CREATE TABLE {ident(SCHEMA, table)} (id int)" for table in ("t 1", "t2", "t3")),
    f"CREATE FUNCTION {ident(SCHEMA)}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    f"REVOKE ALL ON FUNCTION {ident(SCHEMA)}.f() FROM PUBLIC",
    "CREATE SCHEMA two",
    "CREATE TABLE two.u1 (id int)",
    "CREATE TABLE two.u2 (id int)",
    f"GRANT USAGE ON SCHEMA two TO {GIVEN}, {ident(UNRELATED)}",
    f"GRANT SELECT ON two.u1 TO {GIVEN}",
    f"GRANT SELECT ON two.u2 TO {ident(UNRELATED)}",
    f"GRANT CONNECT ON DATABASE {A} TO {GIVEN}, {ident(UNRELATED)}",
    "CREATE SCHEMA scratch",
)
IN_B = ("CREATE SCHEMA one", "CREATE TABLE one.t (id int)")

# --------------------------------------------------------------------------------------------- reading
OURS = f"""
WITH ours AS (SELECT member AS oid FROM pg_auth_members
               WHERE roleid = '{names.MARKER}'::regrole AND NOT admin_option)
"""
ROLES = f"""{OURS}
SELECT r.oid::bigint, r.rolname::text, r.rolcanlogin,
       CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil - clock_timestamp())::float8 / 3600
            WHEN rolvaliduntil < now() THEN -1e9 END,
       shobj_description(r.oid, 'pg_authid')
  FROM ours JOIN pg_roles r USING (oid) ORDER BY r.oid
"""
EDGES = f"""
SELECT roleid::bigint, member::bigint FROM pg_auth_members
 WHERE member <> '{CONNECTOR}'::regrole AND roleid <> '{names.MARKER}'::regrole
"""
# Everything about roles that are not ours: attributes and password, memberships, comments, settings.
UNMARKED = f"""{OURS}
SELECT 'role', to_jsonb(a)::text FROM pg_authid a WHERE oid NOT IN (SELECT oid FROM ours)
 UNION ALL
SELECT 'membership', to_jsonb(m)::text FROM pg_auth_members m
 WHERE NOT ARRAY[roleid, member] && ARRAY(SELECT oid FROM ours)
 UNION ALL
SELECT 'comment', to_jsonb(d)::text FROM pg_shdescription d
 WHERE classoid = 'pg_authid'::regclass AND objoid NOT IN (SELECT oid FROM ours)
 UNION ALL
SELECT 'setting', to_jsonb(s)::text FROM pg_db_role_setting s WHERE setrole NOT IN (SELECT oid FROM ours)
"""
# Who owns what, and what is granted to others than ours, in one database.
OBJECTS = f"""{OURS},
things AS (
  SELECT 'pg_class'::regclass AS class, oid, relowner AS owner, relacl AS acl FROM pg_class WHERE oid >= 16384
   UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl FROM pg_proc WHERE oid >= 16384
   UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl FROM pg_type WHERE oid >= 16384
   UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl FROM pg_namespace
   UNION ALL SELECT 'pg_database'::regclass, oid, datdba, datacl FROM pg_database
   UNION ALL
  SELECT 'pg_default_acl'::regclass, d.oid, defaclrole, array_agg(acl)
    FROM pg_default_acl d, unnest(defaclacl) acl, aclexplode(ARRAY[acl]) e
   WHERE e.grantee NOT IN (0, defaclrole) AND e.grantee NOT IN (SELECT oid FROM ours)
     AND defaclrole NOT IN (SELECT oid FROM ours)
   GROUP BY d.oid, defaclrole
)
SELECT class::text, pg_describe_object(class, things.oid, 0), owner::regrole::text,
       ARRAY(SELECT e::text FROM aclexplode(acl) e WHERE grantee NOT IN (SELECT oid FROM ours) ORDER BY 1)::text
  FROM things
"""
ALL_ROLES, ALL_NAMES = "SELECT oid::bigint FROM pg_roles", "SELECT rolname::text FROM pg_roles"
# What is granted to some, by whom.
GRANTED = """
SELECT DISTINCT grantor::regrole::text, what, grantee::regrole::text
  FROM (SELECT 'TABLE ' || oid::regclass, relacl FROM pg_class
         UNION ALL SELECT 'ROUTINE ' || oid::regprocedure, proacl FROM pg_proc
         UNION ALL SELECT 'TYPE ' || oid::regtype, typacl FROM pg_type
         UNION ALL SELECT 'SCHEMA ' || quote_ident(nspname), nspacl FROM pg_namespace
         UNION ALL SELECT 'DATABASE ' || quote_ident(datname), datacl FROM pg_database) t (what, acl),
       aclexplode(acl)
 WHERE grantee IN ({oids})
"""
EVERYTHING = """
SELECT 'role', (to_jsonb(a))::text FROM pg_authid a
 UNION ALL SELECT 'membership', to_jsonb(m)::text FROM pg_auth_members m
 UNION ALL SELECT 'comment', to_jsonb(d)::text FROM pg_shdescription d
 UNION ALL SELECT 'setting', to_jsonb(s)::text FROM pg_db_role_setting s
"""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """A role that carries the mark. ``hours``: until its end; None if it has none."""

    oid: int
    name: str
    login: bool
    hours: float | None
    mark: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it is for."""
        return str(self.mark["kind"])

    @property
    def lasts(self) -> bool:
        """Whether its time is not over."""
        return self.hours is not None and self.hours > 0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The roles of ours and all memberships (role, member), as the superuser sees them."""

    roles: Mapping[int, Ours]
    edges: frozenset[tuple[int, int]]

    def of_kind(self, kind: str) -> list[Ours]:
        """All of one kind."""
        return [role for role in self.roles.values() if role.kind == kind]

    def logins(self, grantee: str) -> list[Ours]:
        """The logins that were made for somebody."""
        return [role for role in self.of_kind("login") if role.mark["grantee"] == grantee]

    def grants(self, request: str) -> list[Ours]:
        """The grant roles of a request."""
        return [role for role in self.of_kind("grant") if role.mark["request"] == request]

    def profiles(self, item: str) -> list[Ours]:
        """The profiles of one of the items."""
        return [role for role in self.of_kind("profile") if ITEM_OF[role.mark["permission"]] == item]

    def members(self, role: int) -> set[int]:
        """Who is in a role."""
        return {member for one, member in self.edges if one == role}

    def reach(self, starts: set[int]) -> set[int]:
        """All roles that these are in, and they themselves."""
        found = set(starts)
        while more := {role for role, member in self.edges if member in found} - found:
            found |= more
        return found


class Killed(BaseException):
    """The process has been killed: nothing of the product catches this."""


@dataclass(frozen=True, kw_only=True)
class Crash:
    """What happens at a round trip of the product: before the server did it, or ``after``.

    ``killed``: the process is gone; else only its sessions are, and it goes on as far as it gets.
    """

    at: int
    after: bool = False
    killed: bool = True


class Stage:
    """A server with two databases, a connector and some people who were there before."""

    def __init__(self, server: ShapedServer) -> None:
        self.server = server
        there = (f"CREATE ROLE {ident(one)} LOGIN PASSWORD {literal(PASSWORD)}" for one in (EXISTING, OUTSIDER))
        run_in(server, "postgres", *there)
        by_admin = (f"CREATE ROLE {GIVEN}", f"CREATE ROLE {ident(UNRELATED)}")
        run_in(server, "postgres", *by_admin, *(f"CREATE DATABASE {name}" for name in (A, B)), user=server.admin)
        for name, commands in ((A, IN_A), (B, IN_B)):
            run_in(server, name, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC", *commands, user=server.admin)
            run_in(server, name, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        bootstrapped(server, databases=[A, B, "postgres"], template1=False, grantable_roles=[GIVEN])
        run_in(server, "postgres", f"GRANT pg_signal_backend TO {CONNECTOR}")
        self.roots = {name: server.connect(dbname=name) for name in ("postgres", A, B)}
        self.standing = {row[0] for row in self.rows(ALL_ROLES)}
        self.first = self.unmarked()

    @property
    def old(self) -> bool:
        """Before 16 memberships have no options, and whoever has CREATEROLE can revoke any."""
        return self.server.major < 16

    def close(self) -> None:
        """End the superuser's sessions."""
        for root in self.roots.values():
            root.close()

    def rows(self, query: str, database: str = "postgres") -> list[Row]:
        """The rows of a query, as the superuser."""
        return self.roots[database].execute(query.encode()).fetchall()

    def run(self, *commands: str, database: str = "postgres") -> bool:
        """Run commands as the superuser; whether the server took them all, and else none."""
        try:
            with self.roots[database].transaction():
                for command in commands:
                    self.roots[database].execute(command.encode())
        except psycopg.errors.DependentObjectsStillExist:
            return False
        return True

    def look(self) -> Seen:
        """What there is of ours now."""
        roles = [
            Ours(oid=oid, name=name, login=login, hours=hours, mark=json.loads(comment))
            for oid, name, login, hours, comment in self.rows(ROLES)
        ]
        edges = frozenset((role, member) for role, member in self.rows(EDGES))
        return Seen(roles={role.oid: role for role in roles}, edges=edges)

    def unmarked(self) -> frozenset[Row]:
        """All that is not ours."""
        objects = ((name, *row) for name in (A, B) for row in self.rows(OBJECTS, name))
        return frozenset([*self.rows(UNMARKED), *objects])

    def everything(self) -> frozenset[Row]:
        """All roles whosesoever, and the memberships."""
        return frozenset(self.rows(EVERYTHING))

    def connect(self, user: str, password: str, database: str = "postgres") -> Connection | None:
        """Log in as somebody, or not."""
        dsn = self.server.dsn(user=user, password=password, dbname=database, sslmode="disable")
        try:
            return psycopg.connect(dsn)
        except psycopg.OperationalError as error:
            said = str(error)
        known = ("password authentication failed", "not permitted to log in", "permission denied for database")
        assert any(words in said for words in known), said
        return None

    def verifier(self, password: str) -> str:
        """What a person gives instead of a password."""
        made = self.roots["postgres"].pgconn.encrypt_password(password.encode(), b"x", b"scram-sha-256")
        return made.decode()

    def end_backends(self) -> None:
        """End the connector's sessions, and wait for it: a server notices a dead client only when it writes to it."""
        ending = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{CONNECTOR}'"
        while self.rows(ending)[0][0]:
            time.sleep(0.005)

    @contextlib.contextmanager
    def crashing(self, crash: Crash | None) -> Iterator[None]:
        """Let the product crash at one of its round trips; BEGIN and COMMIT are round trips too."""
        plain = psycopg.Connection.wait
        count = itertools.count(1)
        mine: dict[int, psycopg.Connection[Any]] = {}

        def strike(go: Callable[[], Any]) -> Any:
            assert crash is not None
            done = go() if crash.after else None
            if crash.killed:
                for one in mine.values():
                    one.close()
                raise Killed
            self.end_backends()
            return done if crash.after else go()

        def wait(connection: psycopg.Connection[Any], *args: Any, **options: Any) -> Any:
            def go() -> Any:
                return plain(connection, *args, **options)

            if crash is None or connection.closed or connection.info.user != CONNECTOR:
                return go()
            mine[id(connection)] = connection
            return strike(go) if next(count) == crash.at else go()

        with mock.patch.object(psycopg.Connection, "wait", wait):
            yield
        if crash is not None:
            self.end_backends()

    def clear(self) -> None:
        """Drop all that an example has made."""
        made = [oid for (oid,) in self.rows(ALL_ROLES) if oid not in self.standing]
        if made:
            listed = ", ".join(map(str, made))
            self.rows(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid IN ({listed})")
            assert self.drop(made)
        assert self.unmarked() == self.first

    def drop(self, oids: list[int]) -> bool:
        """Drop roles with all that is theirs. DROP OWNED leaves what others than the owners have granted."""
        listed = ", ".join(map(str, oids))
        roles = ", ".join(ident(name) for (name,) in self.rows(f"{ALL_NAMES} WHERE oid IN ({listed})"))
        for database in self.roots:
            self.run(f"DROP OWNED BY {roles} CASCADE", database=database)
            found = self.rows(GRANTED.format(oids=listed), database)
            self.run(
                *(f"SET LOCAL ROLE {grantor}; REVOKE ALL ON {what} FROM {role}" for grantor, what, role in found),
                "RESET ROLE",
                database=database,
            )
        return self.run(f"DROP ROLE {roles}")


# --------------------------------------------------------------------------------------------- the model
@dataclass(kw_only=True)
class Request:
    """Access that lasts. ``lost``: the items that somebody took by hand; ``dark``: so is the way in."""

    grantee: str
    items: frozenset[str]
    hours: float
    lost: set[str] = field(default_factory=set)
    dark: bool = False


@dataclass(kw_only=True)
class Visit:
    """An open session of somebody, who may have become another role in it."""

    who: str
    session: Connection


class World:
    """One example: what should be, and what is done to the server.

    ``given``: memberships (role, member) that somebody gave by hand.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.requests: dict[str, Request] = {}
        self.given: set[tuple[int, int]] = set()
        self.passwords: dict[str, list[str]] = {EXISTING: [PASSWORD], OUTSIDER: [PASSWORD]}
        self.visits: list[Visit] = []
        self.tampered = False
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Leave the server as it was found."""
        for visit in self.visits:
            visit.session.close()
        self.stage.clear()

    # ------------------------------------------------------------------------------- the product
    def product(self, call: Callable[[], dict[str, Any]], crash: Crash | None = None) -> dict[str, Any] | None:
        """Run the product; None if it was killed. Whatever happens, what is not ours is as it was."""
        before = self.stage.unmarked()
        try:
            with self.stage.crashing(crash):
                said = call()
        except Killed:
            said = None
        after = self.stage.unmarked()
        assert after == before, {"gone": before - after, "new": after - before}
        if not self.tampered:
            self.require_pairs()
        return said

    def grant(
        self, request: str, grantee: str, items: frozenset[str], hours: int, crash: Crash | None = None
    ) -> dict[str, Any] | None:
        """Ask for access."""
        password = f"pw {next(self._numbers)}"
        options: dict[str, Any] = {"access": [ITEMS[name] for name in sorted(items)], "duration": f"{hours}h"}
        if grantee == EXISTING:
            options["login"] = "existing"
        elif crash is not None or hours % 2:
            options["password_verifier"] = self.stage.verifier(password)
            self.passwords.setdefault(grantee, []).append(password)
        before, refused = self.stage.look(), self._refused(request, grantee, items)
        said = self.product(lambda: access.grant(self.stage.server, request, grantee, **options), crash)
        if said is not None and said.get("password"):
            self.passwords.setdefault(grantee, []).append(said["password"])
        if said is None or (crash is not None and said.get("failed")):
            self._settle(request, grantee, items, before)
        elif refused:
            assert said.get("failed"), said
            assert refused in said["msg"], (refused, said["msg"])
        else:
            self.require_success(said)
            self._granted(request, grantee, items, hours)
        return said

    def _refused(self, request: str, grantee: str, items: frozenset[str]) -> str | None:
        """Why a request must be refused."""
        known = self.requests.get(request)
        if known is not None and known.hours > 0 and (known.grantee, known.items) != (grantee, items):
            return f"request_id: {request!r} was given with another"
        ours = {role.name for role in self.stage.look().roles.values()}
        there = {name for (name,) in self.stage.rows("SELECT rolname::text FROM pg_roles")} - ours
        if grantee != EXISTING and names.login_role(grantee) in there:
            return "exists, and this collection did not make it"
        if known is not None and known.hours > 0:
            return None
        seen = self.stage.look()
        owning = [role for role in seen.grants(request) if not role.lasts and self.owns(role)]
        if (
            any(role.oid == given for role in owning for given, member in self.given & seen.edges)
            and not self.stage.old
        ):
            return "who must revoke it"
        if names.grant_role(request) in there:
            return "already exists"
        return "can't be dropped" if owning else None

    def owns(self, role: Ours) -> bool:
        """Whether a role owns anything anywhere, and so can't be dropped."""
        query = f"SELECT FROM pg_shdepend WHERE refobjid = {role.oid} AND deptype = 'o'"
        return bool(self.stage.rows(query))

    def _granted(self, request: str, grantee: str, items: frozenset[str], hours: float) -> None:
        known = self.requests.get(request)
        until = max(hours, known.hours) if known is not None and known.hours > 0 else hours
        self.requests[request] = Request(grantee=grantee, items=items, hours=until)
        seen = self.stage.look()
        (role,) = [role for role in seen.grants(request) if role.lasts]
        in_it = seen.members(role.oid)
        assert grantee == EXISTING or in_it & {one.oid for one in seen.logins(grantee)}, (request, in_it)

    def _settle(self, request: str, grantee: str, items: frozenset[str], before: Seen) -> None:
        """After a crash: it was given, all of it, or nothing was."""
        seen = self.stage.look()
        lasting = [role for role in seen.grants(request) if role.lasts]
        was = {role.oid: role.hours for role in before.grants(request)}
        if not lasting:
            self.requests.pop(request, None)
            return
        hours = max(role.hours or 0 for role in lasting)
        if lasting[0].oid not in was:
            self.requests[request] = Request(grantee=grantee, items=items, hours=hours)
            return
        self.requests[request].hours = hours

    def revoke(self, request: str, crash: Crash | None = None) -> dict[str, Any] | None:
        """End a request."""
        said = self.product(lambda: access.revoke(self.stage.server, request), crash)
        if said is None or (crash is not None and said.get("failed")):
            known, seen = self.requests.get(request), self.stage.look()
            if known is not None and not any(role.lasts for role in seen.grants(request)):
                del self.requests[request]
            return said
        self.require_success(said)
        self.requests.pop(request, None)
        assert not any(role.lasts for role in self.stage.look().grants(request))
        return said

    def sweep(self, crash: Crash | None = None) -> None:
        """Sweep, and check all; after a crash sweep again."""
        if crash is not None:
            self.product(lambda: access.sweep(self.stage.server), crash)
        self._pass_judgement(self.stage.look())
        said = self.product(lambda: access.sweep(self.stage.server))
        assert said is not None
        self.require_success(said)
        self.tampered = False
        seen = self.stage.look()
        self.require_ledger(seen, said)
        self.require_drift(seen, said)
        self.require_effects(seen)
        self.require_nothing_to_do()

    def _pass_judgement(self, seen: Seen) -> None:
        """A request ends with its time, with its role, and with the last login that it is of use to."""
        for request, known in list(self.requests.items()):
            lasting = [role for role in seen.grants(request) if role.lasts]
            mine = self.logins(seen, known.grantee)
            if known.hours <= 0 or not any(seen.members(role.oid) & mine for role in lasting):
                del self.requests[request]

    def logins(self, seen: Seen, who: str) -> set[int]:
        """The logins of a person, of the existing login or of the outsider."""
        if who in PEOPLE:
            return {role.oid for role in seen.logins(who)}
        return {row[0] for row in self.stage.rows(f"SELECT oid::bigint FROM pg_roles WHERE rolname = {literal(who)}")}

    # ------------------------------------------------------------------------------- what must hold
    def require_success(self, said: dict[str, Any]) -> None:
        """A run fails only for a member that a superuser has put into a grant which can't be dropped, since 16."""
        if not said.get("failed"):
            return
        kept = {role.name for role in self.stage.look().of_kind("grant") if not role.lasts and self.owns(role)}
        assert not self.stage.old, said["msg"]
        giver = f"by the grant of {self.stage.server.superuser}"
        assert any(f"is a member of {name}, {giver}" in said["msg"] for name in kept), said["msg"]

    def require_pairs(self) -> None:
        """At every moment: no login without a grant, no grant role without a login."""
        seen = self.stage.look()
        grants = {role.oid for role in seen.of_kind("grant")}
        for login in seen.of_kind("login"):
            assert not login.login or {role for role, member in seen.edges if member == login.oid} & grants, login
        for role in seen.of_kind("grant"):
            assert not role.lasts or seen.members(role.oid), role

    def require_ledger(self, seen: Seen, said: dict[str, Any]) -> None:
        """After a sweep only what lasts is there, and what can't be dropped is told."""
        blocked = {one["role"] for one in said["blocked"]}
        for role in seen.of_kind("grant"):
            if not role.lasts:
                assert role.name in blocked, role
                assert not {edge for edge in seen.edges - self.given if role.oid in edge}, role
                continue
            known = self.requests.get(role.mark["request"])
            assert known is not None, role
            assert seen.members(role.oid) & self.logins(seen, known.grantee), role
        for login in seen.of_kind("login"):
            lasting = [known for known in self.requests.values() if known.grantee == login.mark["grantee"]]
            assert not login.login or lasting, login
            if not login.login and (login.hours or -1e9) < -7 * 24:
                assert lasting or login.name in blocked, login
        for role in seen.of_kind("profile"):
            assert seen.members(role.oid) or (role.hours is not None and role.hours > -30 * 24), role

    def require_drift(self, seen: Seen, said: dict[str, Any]) -> None:
        """What was given by hand is taken away, or told where only its giver can; what is not ours stays."""
        told = {(one["kind"], one["role"], one["repaired"]) for one in said["drift"]}
        names_of: dict[int, str] = dict(self.stage.rows("SELECT oid::bigint, rolname::text FROM pg_roles"))
        for role, member in list(self.given):
            there, ours = (role, member) in seen.edges, role in seen.roles
            if role not in names_of or member not in names_of:
                self.given.discard((role, member))
                continue
            if not ours:
                assert there, "a membership in a role of somebody else's has gone"
                assert ("other_membership", names_of[member], False) in told or member not in seen.roles, told
                continue
            assert not (there and self.stage.old), (names_of[role], names_of[member])
            if there:
                assert ("stray_member", names_of[member], False) in told, (names_of[role], told)
            else:
                self.given.discard((role, member))

    def require_nothing_to_do(self) -> None:
        """A second sweep changes nothing."""
        before = self.stage.everything()
        said = self.product(lambda: access.sweep(self.stage.server))
        assert said is not None
        after = self.stage.everything()
        assert after == before, {"gone": before - after, "new": after - before}
        assert said.get("failed") or not said["changed"], said

    def gives(self, role: Ours | None) -> frozenset[str]:
        """What a role gives to whom it was given by hand."""
        if role is None:
            return GIVES[UNRELATED]
        if role.kind == "profile":
            return GIVES[ITEM_OF[role.mark["permission"]]]
        known = self.requests.get(role.mark.get("request", ""))
        return frozenset().union(*(GIVES[item] for item in known.items)) if known else frozenset()

    def allowed(self, seen: Seen, who: str) -> set[str]:
        """All that somebody may do at most."""
        mine = self.logins(seen, who)
        found: set[str] = set()
        for known in self.requests.values():
            if known.grantee == who:
                found.update(*(GIVES[item] for item in known.items))
        for role, member in self.given:
            if member in mine:
                found |= self.gives(seen.roles.get(role))
        return found

    def promised(self, who: str) -> set[str]:
        """All that somebody can do at least."""
        found: set[str] = set()
        for known in self.requests.values():
            if known.grantee == who and not known.dark:
                found.update(*(GIVES[item] for item in known.items - known.lost))
        return found

    def require_effects(self, seen: Seen) -> None:
        """Everybody logs in with every password there ever was, and tries everything."""
        for who in (*PEOPLE, EXISTING, OUTSIDER):
            allowed, able = self.allowed(seen, who), set()
            for oid in self.logins(seen, who):
                able |= self._abilities(seen, who, oid)
            assert able <= allowed | {"login"}, (who, able - allowed)
            if who in PEOPLE:
                lasting = any(known.grantee == who for known in self.requests.values())
                assert "login" not in able or lasting, who
            promised = self.promised(who)
            assert promised <= able, (who, promised - able)
        self._require_visits(seen)

    def _abilities(self, seen: Seen, who: str, oid: int) -> set[str]:
        """What a login can do, in any database."""
        ((name,),) = self.stage.rows(f"SELECT rolname::text FROM pg_roles WHERE oid = {oid}")
        found: set[str] = set()
        for password in reversed(self.passwords.get(who, [])):
            session = self.stage.connect(name, password)
            if session is None:
                continue
            found |= {"login", *self._tried(session, "postgres")}
            self._require_no_steps(seen, who, session)
            session.close()
            for database in (A, B):
                session = self.stage.connect(name, password, database)
                if session is not None:
                    found |= self._tried(session, database)
                    session.close()
            break
        return found

    @staticmethod
    def _tried(session: Connection, database: str) -> set[str]:
        found = set()
        for probe, (where, statement) in PROBES.items():
            if where == database:
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement.encode())
                    found.add(probe)
                session.rollback()
        return found

    def _require_no_steps(self, seen: Seen, who: str, session: Connection) -> None:
        """Nobody becomes a role of ours, but before 16 those that are theirs."""
        mine = self.logins(seen, who)
        starts = {role for role, member in self.given if member in mine}
        if self.stage.old:
            for request, known in self.requests.items():
                if known.grantee == who:
                    starts |= {role.oid for role in seen.grants(request)}
        fair = mine | seen.reach(starts)
        for role in seen.roles.values():
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SET ROLE {ident(role.name)}".encode())
                assert role.oid in fair, (who, role)
            session.rollback()

    # ------------------------------------------------------------------------------- people
    def visit(self, who: str) -> None:
        """Somebody opens a session and, where the server allows it, becomes a role of ours in it."""
        seen = self.stage.look()
        for oid in self.logins(seen, who):
            ((name,),) = self.stage.rows(f"SELECT rolname::text FROM pg_roles WHERE oid = {oid}")
            for password in reversed(self.passwords.get(who, [])):
                session = self.stage.connect(name, password, A) or self.stage.connect(name, password)
                if session is None:
                    continue
                self._step(seen, oid, session)
                self.visits.append(Visit(who=who, session=session))
                return

    @staticmethod
    def _step(seen: Seen, oid: int, session: Connection) -> None:
        for role in sorted(seen.reach({oid}) - {oid}):
            if role in seen.roles and seen.roles[role].kind == "profile":
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    session.execute(f"SET ROLE {ident(seen.roles[role].name)}".encode())
                    session.commit()
                    return
                session.rollback()

    def leave(self, who: str | None = None) -> None:
        """Sessions end; of one, or of all."""
        for visit in [one for one in self.visits if who in (None, one.who)]:
            visit.session.close()
            self.visits.remove(visit)

    def _require_visits(self, seen: Seen) -> None:
        """A session that was opened before the sweep can do no more than a new one."""
        for visit in list(self.visits):
            try:
                able = self._tried(visit.session, visit.session.info.dbname)
            except psycopg.OperationalError:
                self.visits.remove(visit)
                continue
            lasting = any(known.grantee == visit.who for known in self.requests.values())
            assert visit.who not in PEOPLE or lasting, visit
            allowed = self.allowed(seen, visit.who)
            assert able - {"enter a"} <= allowed, (visit, able - allowed)

    # ------------------------------------------------------------------------------- time, and a DBA
    def pass_time(self, hours: float) -> None:
        """Let time pass for everything of ours."""
        past = f"{OURS} UPDATE pg_authid SET rolvaliduntil = rolvaliduntil - {hours} * interval '1 hour'"
        self.stage.run(f"{past} WHERE oid IN (SELECT oid FROM ours) AND isfinite(rolvaliduntil)")
        for known in self.requests.values():
            known.hours -= hours
        self.tampered = True

    def by_hand(self, *commands: str) -> bool:
        """What a DBA does as the superuser."""
        self.tampered = True
        return self.stage.run(*commands)

    def darken(self, who: str) -> None:
        """Somebody's way in was taken."""
        for known in self.requests.values():
            if known.grantee == who:
                known.dark = True
        self.leave(who)

    def end_time(self, request: str, until: str, hours: float) -> None:
        """The end of a request becomes another, or none, and then it is over."""
        for role in self.stage.look().grants(request):
            self.by_hand(f"ALTER ROLE {ident(role.name)} VALID UNTIL {literal(until)}")
        if request in self.requests:
            self.requests[request].hours = hours

    def end_login(self, who: str, until: str) -> None:
        """The end of a login differs from that of its grants."""
        for role in self.stage.look().logins(who):
            self.by_hand(f"ALTER ROLE {ident(role.name)} VALID UNTIL {literal(until)}")

    def drop_grant(self, request: str) -> None:
        """A grant role goes."""
        self.leave()
        for role in self.stage.look().grants(request):
            if self.by_hand(f"DROP ROLE {ident(role.name)}"):
                self.requests.pop(request, None)

    def drop_login(self, who: str) -> None:
        """A login goes, unless it owns something."""
        self.leave(who)
        for role in self.stage.look().logins(who):
            if self.by_hand(f"DROP ROLE {ident(role.name)}"):
                self.darken(who)

    def drop_profile(self, item: str) -> None:
        """A profile goes, with all that it holds."""
        self.leave()
        for role in self.stage.look().profiles(item):
            self.tampered = True
            assert self.stage.drop([role.oid])
            for known in self.requests.values():
                known.lost |= {item} & known.items

    def rename(self, roles: list[Ours]) -> None:
        """Roles get other names."""
        for role in roles:
            name = f"Re \"na'med é {next(self._numbers)}"
            self.by_hand(f"ALTER ROLE {ident(role.name)} RENAME TO {ident(name)}")

    def give(self, role: int, who: str) -> None:
        """Somebody is put into a role, if the server allows it."""
        seen = self.stage.look()
        known: dict[int, str] = dict(self.stage.rows("SELECT oid::bigint, rolname::text FROM pg_roles"))
        for member in sorted(self.logins(seen, who)):
            if (role, member) not in seen.edges and role not in self.logins(seen, who):
                self.by_hand(f"GRANT {ident(known[role])} TO {ident(known[member])}")
                self.given.add((role, member))

    def give_unrelated(self, who: str) -> None:
        """Somebody is put into a role that is not ours."""
        ((role,),) = self.stage.rows(f"SELECT {literal(ident(UNRELATED))}::regrole::oid::bigint")
        self.give(role, who)

    def set_password(self, who: str, words: str) -> None:
        """Somebody gets a password, and with it perhaps more."""
        password = f"by hand {next(self._numbers)}"
        for role in self.stage.look().logins(who):
            self.by_hand(f"ALTER ROLE {ident(role.name)} {words} PASSWORD {literal(password)}")
            self.passwords.setdefault(who, []).append(password)

    def shut(self, who: str) -> None:
        """A login that is open is shut."""
        for role in self.stage.look().logins(who):
            self.by_hand(f"ALTER ROLE {ident(role.name)} NOLOGIN")
            self.darken(who)

    def own(self, roles: list[Ours], database: str) -> None:
        """Roles own a table."""
        for role in roles:
            table = ident("scratch" if database == A else "one", f"own {next(self._numbers)}")
            self.tampered = True
            commands = (f"CREATE TABLE {table} ()", f"ALTER TABLE {table} OWNER TO {ident(role.name)}")
            self.stage.run(*commands, database=database)

    def squat(self, name: str) -> None:
        """A role that is not ours takes a name that one of ours could have."""
        if not self.stage.rows(f"SELECT FROM pg_roles WHERE rolname = {literal(name)}"):
            self.by_hand(f"CREATE ROLE {ident(name)} LOGIN PASSWORD 'pw'")
