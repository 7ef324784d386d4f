# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is killed: how a trial of each operation begins, goes on after the kill, and what must hold then."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.auth import CANARY
from tests.fault.killer import STORE, Order
from tests.integration.access import DATABASE, PAST, READ

if TYPE_CHECKING:
    from tests.fault.ground import Ground, Sight
    from tests.integration.product import Row

PASSWORD = "pw-of-a-person"
EXISTING = "fault_existing"
# Profiles that somebody keeps in use all the time; and one that each trial finds unmade.
OTHER = ({"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_plain"]},)
FRESH = ({"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"], "tables": ["t_*"]},)
# All scopes give the first; the second comes with READ alone.
COMMON, OF_READ = "SELECT count(*) FROM alpha_s.t_plain", "SELECT count(*) FROM alpha_s.v_plain"
STAYS = "before the fence"


def make_verifier(ground: Ground) -> str:
    """What the server keeps of a password that the person has chosen."""
    return bytes(ground.conn.pgconn.encrypt_password(PASSWORD.encode(), b"anybody", b"scram-sha-256")).decode()


@dataclass(kw_only=True, eq=False)
class Trial:
    """One run of an operation that is killed, on roles of its own. `cut`: whether it was."""

    ground: Ground
    variant: str
    verifier: str
    cut: bool = False
    sessions: list[psycopg.Connection[Row]] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)

    name: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ("plain",)

    # ------------------------------------------------------------------------------- to be said by each

    def prepare(self) -> None:
        """Make what the run finds."""

    def order(self) -> Order:
        """The run that is killed."""
        raise NotImplementedError

    def again(self) -> Order:
        """The run that must put all right."""
        return self.order()

    def hit(self) -> str:
        """How far the run had come."""
        raise NotImplementedError

    def wrong(self, said: Mapping[str, Any]) -> list[str]:
        """What is not as the operation promises; `said` by the last run."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Take away what was made beside roles of ours."""

    # ------------------------------------------------------------------------------- means

    def grant(self, request: str, grantee: str, **options: Any) -> Order:
        """Ask for access, with a password that is known to the person unless told otherwise."""
        asked: dict[str, Any] = {"access": READ, "duration": "1h", **options}
        if not {"secret", "return_password"} & options.keys() and "login" not in options:
            asked["password_verifier"] = self.verifier
        return self._order("grant", request_id=request, grantee=grantee, **asked)

    def revoke(self, request: str) -> Order:
        """End a request."""
        return self._order("grant", request_id=request, state="absent")

    def sweep(self, **options: Any) -> Order:
        """Sweep."""
        return self._order("sweep", **options)

    def _order(self, door: str, **options: Any) -> Order:
        return Order(door=door, options={**self.ground.options(), "secret_store": STORE, **options})

    def done(self, order: Order) -> dict[str, Any]:
        """Run without a kill; it must work."""
        said = self.ground.victim.run(order).said
        if said is None or said.get("failed"):
            raise RuntimeError(f"{self.ground.name}: {self.name} could not be prepared: {said and said['msg']}")
        return said

    def given(self, request: str, grantee: str, **options: Any) -> dict[str, Any]:
        """Give access."""
        said = self.done(self.grant(request, grantee, **options))
        self.passwords[said["login"]] = PASSWORD
        return said

    def over(self, request: str) -> None:
        """Let the time of a request pass."""
        self.ground.conn.execute(f"ALTER ROLE {names.grant_role(request)} VALID UNTIL '{PAST}'".encode())

    def enter(self, login: str) -> psycopg.Connection[Row] | None:
        """Log in as a person, who knows the password."""
        password = self.passwords.get(login)
        if not password:
            return None
        try:
            return self.ground.server.connect(user=login, password=password, dbname=DATABASE)
        except psycopg.OperationalError:
            return None

    def stay(self, login: str, request: str) -> None:
        """Log in and stay; before 16 as the profile itself, whose rights would outlive the membership."""
        conn = self.enter(login)
        if conn is None:
            raise RuntimeError(f"{self.ground.name}: {login} can't log in")
        if not self.ground.has_options:
            (profile,) = self.sight_of(request)
            conn.execute(f"SET ROLE {profile}".encode())
        self.sessions.append(conn)

    def sight_of(self, request: str) -> list[str]:
        """The profiles of a request."""
        ties, grant = self.ground.look().ties, names.grant_role(request)
        return [tie[0] for tie in ties if tie[1] == grant and tie[0] != names.MARKER]

    def can(self, login: str, query: str) -> bool:
        """Whether a person can log in and do something."""
        conn = self.enter(login)
        if conn is None:
            return False
        with contextlib.closing(conn):
            return does(conn, query)

    def close(self) -> None:
        """End the sessions that are left."""
        for conn in self.sessions:
            conn.close()

    # ------------------------------------------------------------------------------- what is said of an end

    def progress(self, *requests: str) -> str:
        """How far an end has come."""
        sight = self.ground.look()
        return "; ".join(dict.fromkeys(_progress(sight, names.grant_role(request)) for request in requests))

    def ended(self, request: str) -> list[str]:
        """Whether nothing is left of a request."""
        left = names.grant_role(request) in self.ground.look().roles
        return [f"{names.grant_role(request)} is still there"] if left else []

    def shut_out(self, login: str) -> list[str]:
        """Whether a person has no access at all."""
        found = [f"{login} can still log in"] if self.can(login, "SELECT 1") else []
        alive = [conn for conn in self.sessions if conn.info.user == login and does(conn, "SELECT 1")]
        return [*found, *(f"{login} still has a session" for _conn in alive)]


def does(conn: psycopg.Connection[Row], query: str) -> bool:
    """Whether a session takes a query."""
    try:
        conn.execute(query.encode())
    except psycopg.Error:
        return False
    return True


def _progress(sight: Sight, grant: str) -> str:
    if grant not in sight.roles:
        return "grant role dropped"
    return STAYS if sight.members(grant) else "fenced"


class Grant(Trial):
    """A first request, of a person who is new or has access already, to a profile that is in use or to a new one."""

    name = "grant"
    variants = ("plain", "fresh", "secret", "answer", "second")

    def prepare(self) -> None:
        """Give the person something before, if it is to be the second."""
        if self.variant == "second":
            self.given("fault-other", "fay@example.com", access=OTHER)

    def order(self) -> Order:
        """Ask."""
        more: dict[str, Mapping[str, Any]] = {
            "fresh": {"access": FRESH},
            "secret": {"secret": {"name": self.secret}},
            "answer": {"return_password": True},
        }
        return self.grant("fault-grant", "fay@example.com", **more.get(self.variant, {}))

    @property
    def secret(self) -> str:
        """Where the credentials go."""
        return f"fault/{self.ground.server.port}"

    def hit(self) -> str:
        """How far it had come."""
        sight = self.ground.look()
        if names.grant_role("fault-grant") in sight.roles:
            return "granted"
        if self.ground.document(self.secret):
            return "secret written"
        if any(name.startswith(CANARY) for name in sight.roles):
            return "canary there"
        fresh = [role for role in sight.of_kind("profile") if role.name not in self.ground.baseline.roles]
        half = any(self.ground.complete[role.name] - self.ground.held(role) for role in fresh)
        return "profile half made" if half else "profile made" if fresh else "nothing yet"

    def wrong(self, said: Mapping[str, Any]) -> list[str]:
        """The person logs in with what was said, and reads."""
        login = names.login_role("fay@example.com")
        self.passwords[login] = self._password(said)
        return [] if self.can(login, COMMON) else [f"{login} has a grant and can't read"]

    def _password(self, said: Mapping[str, Any]) -> str:
        if self.variant == "secret":
            return str((self.ground.document(self.secret) or {}).get("password"))
        if self.variant != "answer":
            return PASSWORD
        if said.get("password"):
            return str(said["password"])
        # The answer died with the run, and nobody else was told: the request is ended and made again.
        self.done(self.revoke("fault-grant"))
        return str(self.done(self.order())["password"])

    def tidy(self) -> None:
        """Forget the secret."""
        self.ground.store.secrets.pop(self.secret, None)


class Canary(Grant):
    """A grant by a token of the cloud: on an engine where a canary must tell whether the connector survives it."""

    name = "grant by token"

    def order(self) -> Order:
        """Ask."""
        return self._order(
            "grant",
            request_id="fault-token",
            grantee="tim@example.com",
            access=READ,
            duration="1h",
            auth="rds_iam",
        )

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """The person is one of those who log in by a token."""
        login = names.login_role("tim@example.com")
        sight = self.ground.look()
        there = login in sight.roles and sight.roles[login].login and login in sight.members("rds_iam")
        return [] if there else [f"{login} can't log in by a token"]


class Extend(Trial):
    """A longer time for a request."""

    name = "extend"

    def prepare(self) -> None:
        """Give an hour."""
        self.given("fault-extend", "eve@example.com")

    def order(self) -> Order:
        """Make it two."""
        return self.grant("fault-extend", "eve@example.com", duration="2h")

    def hit(self) -> str:
        """Whether it was done."""
        return "extended" if self._hours() == 2 else "not yet extended"

    def _hours(self) -> int:
        role = self.ground.look().roles[names.grant_role("fault-extend")]
        query = "SELECT extract(epoch FROM %s::timestamptz)::float"
        row = self.ground.conn.execute(query, (role.facts["start"],)).fetchone()
        return round(((role.until or 0.0) - (row[0] if row else 0.0)) / 3600)

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """It ends two hours after it began; `faults` sees that the login does too."""
        login = names.login_role("eve@example.com")
        return [
            *([] if self._hours() == 2 else [f"the request lasts {self._hours()} hours"]),
            *([] if self.can(login, OF_READ) else [f"{login} has a grant and can't read"]),
        ]


class Revoke(Trial):
    """The end of a request: of the only one, of one of two, of a login that is not ours, of one with a secret."""

    name = "revoke"
    variants = ("plain", "one of two", "existing", "secret")

    @property
    def login(self) -> str:
        """Who had access."""
        return EXISTING if self.variant == "existing" else names.login_role("rob@example.com")

    @property
    def secret(self) -> str:
        """Where the credentials are."""
        return f"fault/{self.ground.server.port}"

    def prepare(self) -> None:
        """Give it, and let the person be there."""
        if self.variant == "existing":
            self.given("fault-revoke", EXISTING, login="existing")
        elif self.variant == "secret":
            self.given("fault-revoke", "rob@example.com", secret={"name": self.secret})
            self.passwords[self.login] = str((self.ground.document(self.secret) or {})["password"])
        else:
            self.given("fault-revoke", "rob@example.com")
        if self.variant == "one of two":
            self.given("fault-other", "rob@example.com", access=OTHER)
        self.stay(self.login, "fault-revoke")

    def order(self) -> Order:
        """End it."""
        return self.revoke("fault-revoke")

    def again(self) -> Order:
        """Nobody asks for a revoke twice: the sweep goes on with it."""
        sight = self.ground.look()
        begun = _progress(sight, names.grant_role("fault-revoke")) != STAYS
        return self.sweep() if begun else self.order()

    def hit(self) -> str:
        """How far it had come."""
        return self.progress("fault-revoke")

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """It is gone, and nothing else."""
        found = self.ended("fault-revoke")
        if self.variant == "one of two":
            return [*found, *keeps_other(self, self.login)]
        if self.variant == "existing":
            alive = does(self.sessions[0], COMMON)
            return [*found, *([f"{self.login} still reads"] if alive or self.can(self.login, COMMON) else [])]
        document = self.ground.document(self.secret) or {}
        void = ["the secret still has a password"] if "password" in document else []
        return [*found, *self.shut_out(self.login), *void]

    def tidy(self) -> None:
        """Forget the secret."""
        self.ground.store.secrets.pop(self.secret, None)


def keeps_other(trial: Trial, login: str) -> list[str]:
    """Whether one of two requests is gone, and the other is as it was."""
    found = [] if trial.can(login, COMMON) else [f"{login} has lost what another grant gives"]
    if trial.can(login, OF_READ):
        found.append(f"{login} can still read what the grant gave")
    for conn in trial.sessions:
        if conn.info.user == login and does(conn, OF_READ):
            found.append(f"{login} has a session that still reads what the grant gave")
        # A run that goes on with another's work cannot know which sessions are done with, and ends them.
        if conn.info.user == login and trial.ground.has_options and not trial.cut and not does(conn, COMMON):
            found.append(f"{login} has lost the session, though another grant lasts")
    return found


class Sweep(Trial):
    """The end of three requests whose time is over; one of the two people has another that lasts."""

    name = "sweep"

    def prepare(self) -> None:
        """Give four, and let time pass for three."""
        sue, sam = (self.given(f"fault-{name}", f"{name}@example.com")["login"] for name in ("sue", "sam"))
        self.given("fault-more", "sam@example.com", access=FRESH)
        self.given("fault-other", "sam@example.com", access=OTHER)
        for login, request in ((sue, "fault-sue"), (sam, "fault-sam")):
            self.stay(login, request)
        for request in ("fault-sue", "fault-sam", "fault-more"):
            self.over(request)

    def order(self) -> Order:
        """End what is over."""
        return self.sweep()

    def hit(self) -> str:
        """How far it had come."""
        return self.progress("fault-sue", "fault-sam", "fault-more")

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """All that is over is gone, and nothing else."""
        return [
            *(line for request in ("fault-sue", "fault-sam", "fault-more") for line in self.ended(request)),
            *self.shut_out(names.login_role("sue@example.com")),
            *keeps_other(self, names.login_role("sam@example.com")),
        ]


class Gone(Trial):
    """A person who has left, with two requests, a session and a table: nothing of the login stays."""

    name = "gone + cleanup"

    def prepare(self) -> None:
        """Let the person be there and own something."""
        login = self.given("fault-gone", "gus@example.com")["login"]
        self.given("fault-other", "gus@example.com", access=OTHER)
        self.stay(login, "fault-gone")
        self.ground.app.execute("CREATE TABLE public.fault_left (id int)")
        self.ground.app.execute(f"ALTER TABLE public.fault_left OWNER TO {login}".encode())

    def order(self) -> Order:
        """End all of it at once."""
        return self.sweep(gone=["gus@example.com"], owned_objects="graveyard")

    def hit(self) -> str:
        """How far it had come."""
        sight, login = self.ground.look(), names.login_role("gus@example.com")
        if login not in sight.roles:
            return "login dropped"
        return "objects given away" if self._owner() != login else self.progress("fault-gone", "fault-other")

    def _owner(self) -> str:
        query = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.fault_left'::regclass"
        row = self.ground.app.execute(query).fetchone()
        return str(row and row[0])

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """Nothing is left but the table, which is nobody's."""
        login = names.login_role("gus@example.com")
        return [
            *self.ended("fault-gone"),
            *self.ended("fault-other"),
            *self.shut_out(login),
            *([f"login {login} is still there"] if login in self.ground.look().roles else []),
            *([] if self._owner() == names.GRAVEYARD else [f"the table belongs to {self._owner()}"]),
        ]

    def tidy(self) -> None:
        """Drop the table."""
        self.ground.app.execute("DROP TABLE IF EXISTS public.fault_left")


class Retire(Trial):
    """The end of a profile that nobody uses; then the same sweep, or a grant that needs it."""

    name = "drop profile"
    variants = ("then sweep", "then grant")

    def prepare(self) -> None:
        """Leave one unused."""
        self.given("fault-retire", "ray@example.com", access=FRESH)
        self.done(self.revoke("fault-retire"))

    def order(self) -> Order:
        """Drop what is unused."""
        return self.sweep(profile_retention_days=0, cleanup_after_days=0)

    def again(self) -> Order:
        """Sweep, or grant."""
        if self.variant == "then sweep":
            return self.order()
        self.passwords[names.login_role("rae@example.com")] = PASSWORD
        return self.grant("fault-reuse", "rae@example.com", access=FRESH)

    def hit(self) -> str:
        """How far it had come."""
        sight = self.ground.look()
        fresh = [role for role in sight.of_kind("profile") if role.name not in self.ground.baseline.roles]
        if not fresh:
            return "profile dropped"
        held = self.ground.held(fresh[0])
        return "profile whole" if held >= self.ground.complete[fresh[0].name] else "profile half emptied"

    def wrong(self, said: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """Nothing is left of it; or it is whole, as `faults` sees, and read by."""
        if self.variant == "then grant":
            login = names.login_role("rae@example.com")
            return [] if self.can(login, COMMON) else [f"{login} has a grant and can't read"]
        left = self.ground.look().roles.keys() - self.ground.baseline.roles.keys()
        return [f"{name} is still there" for name in sorted(left)]


OPERATIONS: Mapping[str, type[Trial]] = {
    "grant": Grant,
    "token": Canary,
    "extend": Extend,
    "revoke": Revoke,
    "sweep": Sweep,
    "gone": Gone,
    "retire": Retire,
}
