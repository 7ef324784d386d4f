# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers, the inventory that describes them, and the playbook run over it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from psycopg import sql

from tests.quickstart import stores
from tests.rig import RigError, ShapedServer, find, shaped_server

if TYPE_CHECKING:
    from tests.quickstart.stores import Stores

ROOT = Path(__file__).parents[2]
PLAYBOOK = "playbooks/quickstart.yml"
# From 16 on an administrator may not act for everybody, so only there is something left to report.
STRICT = 17
SLUG = "regex_replace('[^0-9A-Za-z]+', '-')"
GROUPS = {"rds": "pg_rds", "azure": "pg_azure"}
STRATEGIES = {"rds": "single", "azure": "alternate"}


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Named servers, which run for as long as the `with` block of `start`."""

    servers: dict[str, ShapedServer]
    stores: Stores

    @property
    def _home(self) -> Path:
        return next(iter(self.servers.values())).home

    @property
    def inventory(self) -> Path:
        """Return the inventory's place, which goes when the servers go."""
        return self._home / "inventory.yml"

    def connector(self, name: str) -> dict[str, Any]:
        """Return what the connector's secret says."""
        return self.stores.read(self.servers[name].shape.name, f"apono-{name}")

    def person(self, name: str, grantee: str) -> dict[str, Any]:
        """Return what a person's secret says, which the inventory names."""
        return self.stores.read(self.servers[name].shape.name, f"people-{name}-{re.sub('[^0-9A-Za-z]+', '-', grantee)}")

    def write_secrets(self) -> None:
        """Keep the administrators' passwords where a company would, not in the inventory."""
        for name, server in self.servers.items():
            content = {"username": server.admin, "password": server.passwords[server.admin]}
            self.stores.write(server.shape.name, f"admin-{name}", content)

    def write_inventory(self) -> None:
        """Describe the servers as a user would."""
        groups: dict[str, Any] = {}
        for name, server in self.servers.items():
            shape = server.shape.name
            group = groups.setdefault(
                GROUPS[shape],
                {
                    "hosts": {},
                    "vars": {"pg_secret_store": self.stores.options(shape), "rotation_strategy": STRATEGIES[shape]},
                },
            )
            group["hosts"][name] = {"pg_host": server.host, "pg_port": server.port, "pg_ca_cert": str(server.ca)}
        common = {
            "pg_admin_secret": "admin-{{ inventory_hostname }}",
            "pg_connector_secret": "apono-{{ inventory_hostname }}",
            # Of letters, digits and hyphens, as a Key Vault wants it.
            "access_secret": f"people-{{{{ inventory_hostname }}}}-{{{{ access_grantee | {SLUG} }}}}",
        }
        self.inventory.write_text(yaml.safe_dump({"all": {"vars": common, "children": groups}}, sort_keys=False))

    def write_environment(self) -> Path:
        """Write the variables that lead to the stores, for a shell."""
        place = self._home / "environment.sh"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.stores.environment.items()]
        place.touch(mode=0o600)
        place.write_text("".join(lines))
        return place

    def run(
        self, playbook: str = PLAYBOOK, variables: Mapping[str, str] | None = None, *, quiet: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Run a playbook; return what each host answered, and the output if it was not shown."""
        results = self._home / "results.json"
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                "-i",
                self.inventory,
                "-e",
                json.dumps(variables or {}),
                playbook,
            ],
            cwd=ROOT,
            env={**os.environ, **_environment(results)},
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
            check=False,
        )
        output = done.stdout or ""
        if done.returncode:
            msg = f"ansible-playbook ended with {done.returncode}"
            raise RigError(f"{output}\n{msg}" if output else msg)
        answers: dict[str, Any] = json.loads(results.read_text())
        return answers, output


@contextlib.contextmanager
def start() -> Iterator[Fleet]:
    """Start both, the one that shows what PostgreSQL 16 changed on the newer binaries if they are to be had."""
    with contextlib.ExitStack() as stack:
        rds = stack.enter_context(shaped_server(shape="rds"))
        azure = stack.enter_context(shaped_server(shape="azure", major=_strict()))
        for server in (rds, azure):
            _choose_password(server)
        # Last, because from here on the environment leads to them.
        fleet = Fleet(servers={"orders-rds": rds, "billing-azure": azure}, stores=stack.enter_context(stores.start()))
        fleet.write_secrets()
        fleet.write_inventory()
        yield fleet


def _choose_password(server: ShapedServer) -> None:
    # The fixture's is the name itself, which Ansible would then hide as a secret wherever it is mentioned.
    password = secrets.token_urlsafe(12)
    with server.connect() as conn:
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(server.admin), sql.Literal(password)))
    server.passwords[server.admin] = password


def _strict() -> int | None:
    # No waiting for a registry that can't be reached: there are other binaries.
    for name, value in {"npm_config_fetch_retries": "0", "npm_config_fetch_timeout": "20000"}.items():
        os.environ.setdefault(name, value)
    try:
        return find(STRICT).major
    except RigError:
        return None


def _environment(results: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CALLBACKS_ENABLED": "task_results",
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback")),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv" / "collections"),
        "ANSIBLE_NOCOWS": "1",
        "LC_ALL": "C.UTF-8",
        "TASK_RESULTS": str(results),
    }
