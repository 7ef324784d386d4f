# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New passwords for the connectors, by the playbook as a user runs it, while others log in with them all the time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from tests.quickstart import proof, show
from tests.quickstart.fleet import STRATEGIES
from tests.rig import RigError

if TYPE_CHECKING:
    from tests.quickstart.fleet import Fleet
    from tests.rig import ShapedServer

PATIENCE = 30.0  # seconds, on a machine that is busy
PAUSE = 0.05
NEVER = "0"
EXPECTED = {
    "single": {"readers that failed": NEVER, "the password before": "refused", "again": "not due"},
    "alternate": {
        "readers that failed": NEVER,
        "readers that had to try again": NEVER,
        "the password before": "valid until the next",
        "again": "not due",
    },
}


@dataclass(kw_only=True)
class Reader:
    """Whoever works with the secret: reads it, logs in, and reads it again when the login is refused."""

    fleet: Fleet
    name: str
    logins: int = 0
    tried_again: int = 0
    failures: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Log in again and again meanwhile."""
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _work(self) -> None:
        while not self._over.wait(PAUSE):
            self.logins += 1
            if self._gets_in():
                continue
            self.tried_again += 1
            until = time.monotonic() + PATIENCE
            while not self._gets_in():
                if time.monotonic() > until:
                    self.failures += 1
                    break

    def _gets_in(self) -> bool:
        return logs_in(self.fleet.servers[self.name], self.fleet.connector(self.name))


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """What became of it on one server."""

    name: str
    strategy: str
    answer: dict[str, Any]
    seconds: float
    reader: Reader
    before: str
    again: dict[str, Any]

    @property
    def found(self) -> dict[str, str]:
        """Return what was seen."""
        unchanged = self.again["action"] == "none" and not self.again["due"]
        return {
            "strategy": self.strategy,
            "login now": str(self.answer["username"]),
            "rotated in": f"{self.seconds:.1f} s",
            "logins of a reader meanwhile": str(self.reader.logins),
            "readers that had to try again": str(self.reader.tried_again),
            "readers that failed": str(self.reader.failures),
            "the password before": self.before,
            "again": "not due" if unchanged else str(self.again["action"]),
        }

    @property
    def complaints(self) -> list[str]:
        """Tell what should not be so."""
        expected = EXPECTED[self.strategy]
        wrong = [f"{what}: {self.found[what]}" for what in expected if self.found[what] != expected[what]]
        return wrong if self.reader.logins else [*wrong, "nobody logged in while it was rotated"]


def show_it(fleet: Fleet) -> list[Rotation]:
    """Rotate, and see that it is not done again and that the connectors work."""
    before = {name: fleet.connector(name) for name in fleet.servers}
    readers = {name: Reader(fleet=fleet, name=name) for name in fleet.servers}
    with contextlib.ExitStack() as at_work:
        for reader in readers.values():
            at_work.enter_context(reader.at_work())
        answers = _run(fleet, {"rotation_max_age_days": "0"})
    again = _run(fleet, {})
    for name, server in fleet.servers.items():
        proof.use(server, fleet.connector(name))
    print(flush=True)
    return [
        Rotation(
            name=name,
            strategy=STRATEGIES[server.shape.name],
            answer=_only(answers[name]),
            seconds=answers[name]["seconds"],
            reader=readers[name],
            before="valid until the next" if logs_in(server, before[name]) else "refused",
            again=_only(again[name]),
        )
        for name, server in fleet.servers.items()
    ]


def logs_in(server: ShapedServer, secret: dict[str, Any]) -> bool:
    """Whether the server takes what a secret says."""
    try:
        server.connect(user=secret["username"], password=secret["password"], dbname=proof.OPEN).close()
    except psycopg.OperationalError:
        return False
    return True


def _run(fleet: Fleet, variables: dict[str, str]) -> dict[str, Any]:
    playbook, given = "latchkey.postgres.rotate", " ".join(f"{key}={value}" for key, value in variables.items())
    show.command(f"{playbook} -e '{given}'" if given else playbook)
    return fleet.run(playbook, variables, quiet=True)[0]


def _only(answer: dict[str, Any]) -> dict[str, Any]:
    """What the module said of the one secret."""
    try:
        (found,) = answer["results"]
    except (KeyError, ValueError):
        msg = "the rotation gave no answer"
        raise RigError(msg) from None
    return dict(found)
