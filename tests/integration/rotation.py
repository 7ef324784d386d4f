# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation as its readers see it: an application with a secret in either cloud, on a server of that cloud's shape."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.integration.access import through
from tests.integration.connector_secrets import Aws, Azure
from tests.integration.product import ask, run_in

if TYPE_CHECKING:
    from tests.rig import ShapedServer

NUMBERS = itertools.count()
ADMIN_SECRET = "orders-admin"
FIRST = "pw-First-password"
WHOLE = ["prepare", "apply", "verify", "promote", "confirm", "finish"]


@dataclass(kw_only=True)
class Site:
    """A server, the store of its cloud, and an application's login and secret that no other test has."""

    server: ShapedServer
    store: Aws | Azure
    number: int = field(default_factory=lambda: next(NUMBERS))

    @property
    def login(self) -> str:
        """The application's login."""
        return f"app_{self.number}"

    @property
    def second(self) -> str:
        """The one that it takes turns with."""
        return f"app_{self.number}_b"

    @property
    def secret(self) -> str:
        """The application's secret."""
        return f"orders-app-{self.number}"

    def prepare(self) -> None:
        """Make the login as the administrator does, and store the secrets of both."""
        with self.server.connect_admin() as conn:
            conn.execute(f"CREATE ROLE {self.login} LOGIN PASSWORD '{FIRST}'".encode())
        self.put(password=FIRST)
        admin = {"username": self.server.admin, "password": self.server.passwords[self.server.admin]}
        if self.store.current(ADMIN_SECRET) is None:
            self._write(ADMIN_SECRET, admin)

    def put(self, **changed: Any) -> None:
        """Store a document, as somebody else."""
        at = {"host": self.server.host, "port": self.server.port, "dbname": "postgres", "team": "data"}
        self._write(self.secret, {"username": self.login, "password": FIRST, **at, **changed})

    def _write(self, name: str, document: dict[str, Any]) -> None:
        """To the vault itself where a client takes long to make."""
        if isinstance(self.store, Azure):
            self.store.vault.write(name, {"value": json.dumps(document)})
        else:
            self.store.put(name, json.dumps(document))

    def options(self, **options: Any) -> dict[str, Any]:
        """The options of a task: due at once."""
        return {
            "login_host": self.server.host,
            "login_port": self.server.port,
            "ca_cert": str(self.server.ca),
            "secret": self.secret,
            "secret_store": self.store.option,
            "max_age_days": 0,
            **options,
        }

    def run(self, *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        """Run the product, as a process that knows nothing from before."""
        access._known.clear()
        return through(ROTATE, self.options(**options), check=check, diff=diff)

    def stored(self) -> dict[str, Any]:
        """What a reader of the secret gets."""
        return dict(json.loads(str(self.store.current(self.secret))))

    def logs_in(self, password: str, user: str | None = None) -> bool:
        """Whether the server takes it."""
        return self.server.takes(user=user or self.login, password=password)

    def reader_logs_in(self) -> bool:
        """Whether a reader of the secret does."""
        found = self.stored()
        return self.logs_in(found["password"], found["username"])

    def set_password(self, password: str, user: str | None = None) -> None:
        """Change it by hand."""
        run_in(self.server, "postgres", f"ALTER ROLE {user or self.login} PASSWORD '{password}'")

    def verifier(self, user: str | None = None) -> str:
        """What the server has."""
        query = "SELECT rolpassword FROM pg_authid WHERE rolname = %(u)s"
        return str(ask(self.server, query, u=user or self.login)[0][0])

    def asked(self) -> list[str]:
        """The operations on secrets that the store was asked for so far."""
        names = [request.operation for request in self.store.fake.requests]
        return [name for name in names if name not in {"token", "openid", "instance", "managed_token", "unknown"}]

    def written(self) -> list[str]:
        """Those among them that write."""
        return [name for name in self.asked() if name not in self.store.reads]

    def healed(self, **options: Any) -> None:
        """One plain run, and all is well."""
        said = self.run(**{"max_age_days": 30, **options})
        assert not said.get("failed"), said["msg"]
        self.settled()

    def settled(self) -> None:
        """A reader logs in, and nothing is left over."""
        assert self.reader_logs_in()
        assert not self.store.pending(self.secret)
        assert self.stored()["team"] == "data"


def drive() -> None:
    """Be a process that rotates: options come in, and it begins at a word."""
    options = json.loads(sys.stdin.readline())
    through(ROTATE, {**options, "force": False, "login_port": 1, "secret": "gone"})  # loads what takes long
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(through(ROTATE, options)), flush=True)
