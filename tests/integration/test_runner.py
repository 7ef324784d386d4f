# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bootstrap of a fleet as AWX runs it, by ansible-runner, with all credentials in the clouds' stores."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import FakeAzure, FakeSecretsManager
from tests.integration.ansible_runs import environment
from tests.integration.product import Log, run_in
from tests.rig import ShapedServer, shaped_server

ADMIN = "Adm1n-in-the-store"
EACH = 25  # hosts in either cloud


class Watcher:
    """The command lines of all processes, looked at again and again."""

    def __init__(self, secrets: list[str]) -> None:
        self.secrets = secrets
        self.found: set[str] = set()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.looks += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = path.read_bytes().decode(errors="replace")
                    self.found.update(line for secret in self.secrets if secret in line)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, ShapedServer]]:
    settings = {"log_statement": "all", "log_min_messages": "debug1", "max_connections": 200}
    with (
        shaped_server(shape="rds", settings=settings) as rds,
        shaped_server(shape="azure", settings=settings) as azure,
    ):
        for server in (rds, azure):
            run_in(server, "postgres", f"ALTER ROLE {server.admin} PASSWORD '{ADMIN}'")
            server.passwords[server.admin] = ADMIN
        yield {"rds": rds, "azure": azure}


@pytest.fixture
def clouds(servers: dict[str, ShapedServer]) -> Iterator[tuple[FakeSecretsManager, FakeAzure]]:
    """The stores with the administrators' secrets."""
    with FakeSecretsManager() as aws, FakeAzure() as azure:
        azure.add_vault("acme")
        admin = json.dumps({"username": servers["rds"].admin, "password": ADMIN})
        for name in ("admin/rds", "admin"):
            store((aws, azure), name, admin)
        yield aws, azure


def store(clouds: tuple[FakeSecretsManager, FakeAzure], name: str, text: str) -> None:
    """Put a secret with its tag into the store where it belongs."""
    aws, azure = clouds
    tags = {"apono-connector-read": "true"}
    if "rds" in name:
        labels = [{"Key": key, "Value": value} for key, value in tags.items()]
        aws.create({"Name": name, "SecretString": text, "Tags": labels, "ClientRequestToken": str(uuid.uuid4())})
    else:
        azure.vaults["acme"].write(name, {"value": text, "tags": tags})


def project(where: Path, servers: dict[str, ShapedServer], numbers: range) -> None:
    """An inventory of many hosts: each server by several names, with databases and a connector for each."""
    stores: dict[str, dict[str, Any]] = {
        "rds": {"pg_admin_secret": "admin/rds", "pg_secret_store": {"region": "eu-west-1"}},
        "azure": {"pg_admin_secret": "admin", "pg_secret_store": {"vault_url": "https://acme.vault.azure.net"}},
    }
    groups = {}
    for shape, server in servers.items():
        at = {"pg_host": server.host, "pg_port": server.port, "pg_ca_cert": str(server.ca)}
        names = [f"{shape}{number:02}" for number in numbers]
        own = {
            f"{shape}_postgresql_connector": "connector_{{ inventory_hostname }}",
            f"{shape}_postgresql_databases": ["admindb"],
            # Each connector may create, and would be one more creator for the others.
            f"{shape}_postgresql_default_privileges": False,
            "pg_connector_secret": "connector-{{ inventory_hostname }}",
        }
        groups[f"pg_{shape}"] = {"hosts": dict.fromkeys(names, at), "vars": {**stores[shape], **own}}
    for folder in ("project", "inventory", "env"):
        (where / folder).mkdir(parents=True, exist_ok=True)
    (where / "project" / "site.yml").write_text("- import_playbook: latchkey.postgres.bootstrap\n")
    (where / "inventory" / "hosts.yml").write_text(yaml.safe_dump(groups))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What ansible-runner left of a run."""

    code: int
    output: str

    @property
    def changed(self) -> list[str]:
        """The hosts on which something changed."""
        return sorted(re.findall(r"^(\S+) +: ok=\d+ +changed=[1-9]", self.output, re.M))


def run(where: Path, clouds: tuple[FakeSecretsManager, FakeAzure], name: str, *arguments: str) -> Job:
    """Run it as a machine with identities of its own: no secret of ours is in the environment."""
    aws, azure = clouds
    tools = Path(sys.executable).parent
    env = environment(where, **{**aws.environment(), **azure.environment("managed")})
    play = [tools / "ansible-runner", "run", where, "-p", "site.yml", "--ident", name, "--quiet"]
    done = subprocess.run(
        [*play, "--cmdline", " ".join(["--forks", "8", *arguments])],
        env={**env, "PATH": f"{tools}:{env['PATH']}"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", (where / "artifacts" / name / "stdout").read_text())
    return Job(code=done.returncode, output=output)


def test_no_secret_is_in_the_output_the_artifacts_the_servers_logs_or_a_command_line(
    servers: dict[str, ShapedServer], clouds: tuple[FakeSecretsManager, FakeAzure], tmp_path: Path
) -> None:
    aws, azure = clouds
    project(tmp_path, servers, range(1))
    logs = [Log(server) for server in servers.values()]
    with Watcher([ADMIN]) as watcher:
        first = run(tmp_path, clouds, "first", "-vvvv")
        assert (first.code, first.changed) == (0, ["azure00", "rds00"]), first.output[-3000:]
        made = [
            aws.secrets["connector-rds00"].value() or "",
            azure.vaults["acme"].secrets["connector-azure00"].latest.value,
        ]
        passwords = [json.loads(text)["password"] for text in made]
        watcher.secrets += passwords
        second = run(tmp_path, clouds, "second", "-vvvv -e latchkey_direct=never")
        assert (second.code, second.changed) == (0, []), second.output[-3000:]
    assert "AnsiballZ_pg_apono_bootstrap" in second.output, "the second run came through the module"
    secrets = [ADMIN, *passwords, *azure.tokens]
    assert len(secrets) > 4
    assert [secret for secret in secrets if secret in first.output + second.output] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.parent.name == "job_events" for path in files)
    assert [(path, one) for path in files for one in secrets if one.encode() in path.read_bytes()] == []
    for log in logs:
        text = log.text()
        assert "SCRAM-SHA-256$" in text
        assert [secret for secret in secrets if secret in text] == []
    assert watcher.looks > 20
    assert watcher.found == set()


@pytest.mark.thorough
def test_a_fleet_reads_each_secret_once_with_one_client_each(
    servers: dict[str, ShapedServer],
    clouds: tuple[FakeSecretsManager, FakeAzure],
    tmp_path: Path,
) -> None:
    """Each host is worked on in a process of its own, where it reads two secrets, and writes none that is there."""
    aws, azure = clouds
    # Others than host 0, which is the other test's.
    fleet = range(1, EACH + 1)
    project(tmp_path, servers, fleet)
    names = [f"{shape}{number:02}" for shape in servers for number in fleet]
    for name in names:
        text = json.dumps({"username": f"connector_{name}", "password": name})
        store(clouds, f"connector-{name}", text)
        server = servers[name[:-2]]
        with server.connect_admin() as conn:
            conn.execute(f"CREATE ROLE connector_{name} LOGIN CREATEROLE PASSWORD '{name}'".encode())
    job = run(tmp_path, clouds, "fleet")
    assert (job.code, job.changed) == (0, sorted(names)), job.output[-3000:]
    read = Counter(one.body["SecretId"] for one in aws.requests if one.operation == "GetSecretValue")
    own = [f"connector-{name}" for name in names]
    assert read == {"admin/rds": EACH, **dict.fromkeys(own[:EACH], 1)}
    assert {one.operation for one in aws.requests} == {"GetSecretValue", "DescribeSecret"}
    found = Counter(one.name for one in azure.requests if one.operation == "get_secret" and one.token)
    assert found == {"admin": EACH, **dict.fromkeys(own[EACH:], 1)}
    assert "set_secret" not in {one.operation for one in azure.requests}
    assert [one.operation for one in azure.requests].count("managed_token") == EACH
