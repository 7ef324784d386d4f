# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations in this process of which one call to the store or the server goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg
from azure.core.pipeline.transport import RequestsTransport
from botocore.client import BaseClient

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.fakes import Cut, Refusal
from tests.integration.access import through

if TYPE_CHECKING:
    from tests.fakes.service import When
    from tests.fault.shelves import Held, Shelf
    from tests.rig import Proxy, ShapedServer

NUMBERS = itertools.count()
FIRST = "pw-of-an-application"
ADMIN_SECRET = "faults-admin"
STEPS = ("prepare", "apply", "verify", "promote", "confirm", "finish")
LOOKS = frozenset({"_look_at", "reread", "_is_in_use"})
READS = frozenset({"GetSecretValue", "DescribeSecret", "GET"})
SIGN_IN = ("/oauth2/", "/discovery/", "/openid-configuration")
# What is said of a request that has had no effect, and of one that has had it.
NOT_DONE: tuple[Exception, ...] = (
    Refusal("AccessDeniedException", "No.", status=403),
    Refusal("ThrottlingException", "Not now.", status=429),
    Refusal("InternalServiceError", "Alas.", status=500),
    Cut(),
)
DONE: tuple[Exception, ...] = (Refusal("InternalServiceError", "Alas.", status=500), Cut())
STORE_READ, STORE_WRITE, CONNECT, STATEMENT = (
    "a read of the store",
    "a write to the store",
    "a connection to the server",
    "a statement",
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """The call of that number in a run; `after`: it has its effect, and the answer is lost."""

    number: int
    step: str
    what: str
    after: bool = False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What came of a fault."""

    step: str
    what: str
    readers: str
    said: str
    following: str


def step_now() -> str:
    """Where the product is; it runs in this thread."""
    frame = sys._getframe(1)
    found = "describe"
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.endswith("_rotation/steps.py") and name in STEPS:
            return name
        if "/_rotation/" in file and name in LOOKS | {"begin", "administrator"}:
            found = "look" if name in LOOKS else "begin"
        frame = frame.f_back  # type: ignore[assignment]
    return found


@dataclass(kw_only=True, eq=False)
class Watch:
    """Counts the calls of a run, and lets one of them go wrong."""

    proxy: Proxy
    target: Point | None = None
    points: list[Point] = field(default_factory=list)
    struck: bool = False
    armed: bool = False

    def _is_due(self, what: str) -> bool:
        step = step_now()
        if step == "begin" and self.points and self.points[-1].step in {*STEPS, "end"}:
            step = "end"
        self.points.append(Point(number=len(self.points), step=step, what=what))
        due = self.target is not None and self.target.number == self.points[-1].number
        self.struck = self.struck or due
        return due

    def of_store(self, original: Callable[..., Any], operation: Callable[..., str]) -> Callable[..., Any]:
        """A call that goes to the store."""

        def called(*arguments: Any, **options: Any) -> Any:
            name = operation(*arguments)
            if name:
                self.armed = self._is_due(STORE_READ if name in READS else STORE_WRITE)
            return original(*arguments, **options)

        return called

    def of_connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A new connection."""

        def called(*arguments: Any, **options: Any) -> Any:
            if self._is_due(CONNECT):
                raise psycopg.OperationalError("connection failed: connection to server failed: Connection refused")
            return original(*arguments, **options)

        return called

    def of_statement(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A wait for the server's answer."""

        def called(*arguments: Any, **options: Any) -> Any:
            if not self._is_due(STATEMENT):
                return original(*arguments, **options)
            if self.target is not None and self.target.after:
                original(*arguments, **options)
                self.proxy.cut()
                raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")
            self.proxy.cut()
            return original(*arguments, **options)

        return called

    def strike(self, request: Any) -> None:  # noqa: ARG002
        """Answer a request to the store, in the store's thread."""
        if self.armed and self.target is not None:
            self.armed = False
            kinds = DONE if self.target.after else NOT_DONE
            raise kinds[self.target.number % len(kinds)]

    @contextlib.contextmanager
    def watching(self, shelf: Shelf) -> Iterator[None]:
        """Watch."""
        when: When = "after" if self.target is not None and self.target.after else "before"
        for operation in shelf.fake.operations():
            shelf.fake.on(operation, self.strike, when=when)
        with (
            mock.patch.object(
                BaseClient, "_make_api_call", self.of_store(BaseClient._make_api_call, lambda _me, name, _body: name)
            ),
            mock.patch.object(RequestsTransport, "send", self.of_store(RequestsTransport.send, of_vault)),
            mock.patch.object(psycopg, "connect", self.of_connect(psycopg.connect)),
            mock.patch.object(psycopg.Connection, "wait", self.of_statement(psycopg.Connection.wait)),
        ):
            yield
        shelf.fake.clear_hooks()


def of_vault(_transport: object, request: Any) -> str:
    """The method of a request to a vault; nothing for those by which one signs in."""
    return "" if any(part in request.url for part in SIGN_IN) else str(request.method)


@dataclass(kw_only=True, eq=False)
class Faults:
    """One server, its store, one strategy."""

    server: ShapedServer
    shelf: Shelf
    strategy: str
    proxy: Proxy

    def application(self) -> str:
        """Make one; return the name of its secret."""
        number = next(NUMBERS)
        login, secret = f"app_{number}", f"orders-app-{number}"
        with self.server.connect_admin() as conn:
            conn.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{FIRST}'".encode())
        at = {"host": self.server.host, "port": self.server.port, "dbname": "postgres"}
        self.shelf.put(secret, json.dumps({"username": login, "password": FIRST, **at}))
        return secret

    def run(self, secret: str, **options: Any) -> dict[str, Any]:
        """Run the product."""
        access._known.clear()
        known = {} if self.strategy == "single" else {"admin_secret": ADMIN_SECRET}
        asked = {
            "login_host": self.server.host,
            "login_port": self.server.port,
            "ca_cert": str(self.server.ca),
            "connect_params": {"port": self.proxy.port},
            "secret": secret,
            "secret_store": self.shelf.option,
            "strategy": self.strategy,
        }
        return through(ROTATE, {**asked, **known, "max_age_days": 0, **options})

    def logs_in(self, text: str) -> bool:
        """Whether the server takes what a secret says."""
        found = json.loads(text)
        return self.server.takes(user=found["username"], password=found["password"])

    def begin(self, *, again: bool) -> str:
        """An application's secret; `again`: one that was rotated before."""
        secret = self.application()
        if again:
            said = self.run(secret)
            assert said.get("action") == "rotated", said
        return secret

    def points(self, *, again: bool) -> list[Point]:
        """All calls of a run of which none goes wrong."""
        self.begin(again=True)  # the first of all signs in, which is no part of a rotation
        secret, watch = self.begin(again=again), Watch(proxy=self.proxy)
        with watch.watching(self.shelf):
            said = self.run(secret)
        assert said.get("action") == "rotated", said
        return watch.points

    def observe(self, point: Point, *, again: bool) -> Observed:
        """Let it go wrong; then one plain run must put all right."""
        secret = self.begin(again=again)
        before = self.shelf.look(secret)
        watch = Watch(proxy=self.proxy, target=point)
        with watch.watching(self.shelf):
            said = self.run(secret)
        assert watch.struck, f"{point} was not reached: {said}"
        hit = watch.points[point.number]
        assert (hit.step, hit.what) == (point.step, point.what), f"{point} is another call: {hit}"
        readers = self.readers(self.shelf.look(secret), before)
        following = self.run(secret, max_age_days=30)
        after = self.shelf.look(secret)
        assert not following.get("failed"), f"{point}: {said}, then {following['msg']}"
        assert self.logs_in(after.current), f"{point}: {said}, then {following}"
        assert after.pending is None, f"{point}: {said}, then {following}"
        again_said = self.run(secret, max_age_days=30)
        assert (again_said.get("action"), again_said["changed"]) == ("none", False), f"{point}: {again_said}"
        return Observed(
            step=point.step,
            what=described(point),
            readers=readers,
            said=told(said),
            following=f"{following['action']} ({', '.join(following['steps'])})" if following["steps"] else "nothing",
        )

    def readers(self, now: Held, before: Held) -> str:
        """What they have."""
        if not self.logs_in(now.current):
            return "no valid password"
        return "the former password" if now.current == before.current else "the new password"


def described(point: Point) -> str:
    """What fails, in words."""
    if point.what in {STORE_READ, CONNECT}:
        return point.what
    return f"{point.what}, {'done, but the answer is lost' if point.after else 'not done'}"


def told(said: dict[str, Any]) -> str:
    """What a run says, but for names and numbers."""
    if not said.get("failed"):
        return f"it works: {said['action']}"
    back = next((part for part in ("has its former password again", "the next run goes on") if part in said["msg"]), "")
    return f"fails: {said['error_kind']}" + (f', "… {back} …"' if back else "")
