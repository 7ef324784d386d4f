# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connector's secret in either cloud: the product that keeps it, and the store as its other users see it."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.integration.product import ask, login_options, task

if TYPE_CHECKING:
    import pytest

    from tests.fakes import FakeAzure, FakeSecretsManager
    from tests.rig import ShapedServer

REGION = "eu-west-1"
VAULT = "orders"
READABLE = {"apono-connector-read": "true"}
NUMBERS = itertools.count()


@dataclass(kw_only=True)
class Aws:
    """Secrets Manager, by the plain SDK and from behind the scenes."""

    fake: FakeSecretsManager
    reads = frozenset({"GetSecretValue", "DescribeSecret"})
    option = {"provider": "aws"}  # noqa: RUF012

    def environment(self) -> dict[str, str]:
        """What brings clients here."""
        return self.fake.environment()

    def put(self, name: str, text: str, **tags: str) -> None:
        """Make a secret, or write it anew."""
        if name in self.fake.secrets:
            self._client().put_secret_value(SecretId=name, SecretString=text)
        else:
            labels = [{"Key": key, "Value": value} for key, value in tags.items()]
            self._client().create_secret(Name=name, SecretString=text, Tags=labels)

    def read(self, name: str) -> str:
        """What a reader gets."""
        return str(self._client().get_secret_value(SecretId=name)["SecretString"])

    def previous(self, name: str) -> str:
        """What a reader of the previous version gets."""
        return str(self._client().get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")["SecretString"])

    def version(self, name: str) -> str:
        """Which version a reader gets."""
        return str(self._client().get_secret_value(SecretId=name)["VersionId"])

    def tags(self, name: str) -> dict[str, str]:
        """All tags."""
        return dict(self.fake.secrets[name].tags)

    def history(self, name: str) -> list[str | None]:
        """The values of all versions; none if there is no secret."""
        return [one.string for one in self.fake.secrets[name].versions.values()] if name in self.fake.secrets else []

    def current(self, name: str) -> str | None:
        """The current value, without asking."""
        return self.fake.secrets[name].value() if name in self.fake.secrets else None

    def pending(self, name: str) -> bool:
        """Whether a version is pending."""
        return "AWSPENDING" in self.fake.secrets[name].labels

    def names(self) -> set[str]:
        """The names of all secrets."""
        return set(self.fake.secrets)

    def _client(self) -> Any:
        import boto3  # noqa: PLC0415 - only where it is of use

        return boto3.client("secretsmanager", region_name=REGION)


@dataclass(kw_only=True)
class Azure:
    """A Key Vault, by the plain SDK and from behind the scenes."""

    fake: FakeAzure
    reads = frozenset(
        {"get_secret", "get_deleted", "list_versions", "token", "managed_token", "instance", "openid", "unknown"}
    )
    option = {"provider": "azure", "vault_url": f"https://{VAULT}.vault.azure.net"}  # noqa: RUF012

    def __post_init__(self) -> None:
        """Make the vault."""
        self.vault = self.fake.add_vault(VAULT)

    def environment(self) -> dict[str, str]:
        """What brings clients here."""
        return self.fake.environment("secret")

    def put(self, name: str, text: str, **tags: str) -> None:
        """Make a secret, or write it anew."""
        self._client().set_secret(name, text, tags=tags)

    def read(self, name: str) -> str:
        """What a reader gets."""
        return str(self._client().get_secret(name).value)

    def previous(self, name: str) -> str:
        """The value of the version before, which a vault does not name."""
        return str(self.history(name)[-2])

    def version(self, name: str) -> str:
        """Which version a reader gets."""
        return str(self._client().get_secret(name).properties.version)

    def tags(self, name: str) -> dict[str, str]:
        """All tags but those by which a promotion is noted."""
        tags = self.vault.secrets[name].latest.tags or {}
        return {key: value for key, value in tags.items() if not key.startswith("latchkey-")}

    def history(self, name: str) -> list[str | None]:
        """The values of all versions; none if there is no secret."""
        return [one.value for one in self.vault.secrets[name].versions] if name in self.vault.secrets else []

    def current(self, name: str) -> str | None:
        """The current value, without asking."""
        return self.vault.secrets[name].latest.value if name in self.vault.secrets else None

    def pending(self, name: str) -> bool:
        """Whether a value is pending: who may read all secrets could take it for one in use."""
        sibling = self.vault.secrets.get(f"{name}-pending")
        return sibling is not None and sibling.latest.enabled

    def names(self) -> set[str]:
        """The names of all secrets with something to read."""
        return {name for name, one in self.vault.secrets.items() if one.latest.enabled}

    def _client(self) -> Any:
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415

        return SecretClient(self.vault.url, DefaultAzureCredential())


Store = Aws | Azure


@dataclass(kw_only=True)
class Site:
    """A server with its cloud, and a connector and a secret that no other test has."""

    server: ShapedServer
    store: Store
    number: int = field(default_factory=lambda: next(NUMBERS))

    @property
    def connector(self) -> str:
        """The connector's name."""
        return f"connector_{self.number}"

    @property
    def secret(self) -> str:
        """The secret's name."""
        return f"apono-orders-{self.number}"

    def options(self, *, secret: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """The options of a task; `secret` adds to connector_secret."""
        return {
            **login_options(self.server),
            "connector": self.connector,
            "connector_secret": {"name": self.secret, **(secret or {})},
            "secret_store": self.store.option,
            "databases": ["admindb"],
            "template1": False,
            **options,
        }

    def run(self, *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        """Run the product, as a process that knows nothing from before."""
        access._known.clear()
        return task(self.options(**options), check=check, diff=diff)

    def credentials(self, **changed: Any) -> dict[str, Any]:
        """What the product would store, with another password."""
        at = {"host": self.server.host, "port": self.server.port, "dbname": "postgres"}
        return {"username": self.connector, "password": "pw-Before", "engine": "postgres", **at, **changed}

    def put(self, **changed: Any) -> str:
        """Store credentials, as somebody else; return the text."""
        text = json.dumps(self.credentials(**changed))
        self.store.put(self.secret, text)
        return text

    def stored(self) -> dict[str, Any]:
        """What a reader of the secret gets."""
        return dict(json.loads(self.store.read(self.secret)))

    def logs_in(self, password: str) -> bool:
        """Whether the connector gets in."""
        try:
            self.server.connect(user=self.connector, password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def reader_logs_in(self) -> bool:
        """Whether a reader of the secret does who uses all that it says; a cloud's name of this server is none here."""
        known = self.stored()
        mode = "verify-full" if known["host"] == self.server.host else "verify-ca"
        with self.server.connect(
            user=known["username"],
            password=known["password"],
            host=known["host"],
            port=known["port"],
            dbname=known["dbname"],
            hostaddr="127.0.0.1",
            sslmode=mode,
        ) as conn:
            return conn.execute("SELECT current_user::text").fetchall() == [(self.connector,)]

    def role_exists(self) -> bool:
        """Whether the server has the connector."""
        return bool(ask(self.server, "SELECT FROM pg_roles WHERE rolname = %(name)s", name=self.connector))

    def asked(self) -> list[str]:
        """The operations that the store was asked for so far."""
        return [request.operation for request in self.store.fake.requests]

    def written(self) -> list[str]:
        """Those among them that write."""
        return [operation for operation in self.asked() if operation not in self.store.reads]


def enter(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the environment of a cloud's client."""
    from tests.fakes import clean_environment  # noqa: PLC0415

    for name in set(os.environ) - set(clean_environment(os.environ)):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def drive() -> None:
    """Be a process that runs the product: options come in, and the result goes out."""
    options = json.loads(sys.stdin.readline())
    # What takes long is loaded first, so that times count from the word.
    if options["secret_store"]["provider"] == "azure":
        from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import azure as _store  # noqa: PLC0415
    else:
        from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws as _store  # noqa: PLC0415, F401
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(task(options)), flush=True)


if __name__ == "__main__":
    drive()
