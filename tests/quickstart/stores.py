# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the passwords are: local stand-ins for both clouds' stores, used through the clouds' own SDKs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

from tests.fakes import FakeAzure, MotoServer, clean_environment, moto_server

REGION = "eu-west-1"
VAULT = "quickstart"
NAMES = {"rds": "AWS Secrets Manager", "azure": "Azure Key Vault"}


@dataclass(frozen=True, kw_only=True)
class Stores:
    """One store for each shape of server."""

    aws: MotoServer
    azure: FakeAzure

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which the SDKs find them."""
        return {**self.aws.environment(), **self.azure.environment("secret")}

    def options(self, shape: str) -> dict[str, str]:
        """Return what the inventory says of a shape's store."""
        return {"region": REGION} if shape == "rds" else {"vault_url": self.azure.vaults[VAULT].url}

    def write(self, shape: str, name: str, content: dict[str, Any]) -> None:
        """Store a secret, as somebody would who set the server up."""
        if shape == "rds":
            self._manager().create_secret(Name=name, SecretString=json.dumps(content))
        else:
            self._vault().set_secret(name, json.dumps(content))

    def read(self, shape: str, name: str) -> dict[str, Any]:
        """Read a secret, as the service that works through the connector would."""
        if shape == "rds":
            text = self._manager().get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
        else:
            text = self._vault().get_secret(name).value or ""
        found: dict[str, Any] = json.loads(text)
        return found

    def _manager(self) -> Any:
        return boto3.client("secretsmanager", region_name=REGION)

    def _vault(self) -> SecretClient:
        return SecretClient(self.options("azure")["vault_url"], DefaultAzureCredential())


@contextlib.contextmanager
def start() -> Iterator[Stores]:
    """Start both, and let nothing of this machine's own clouds come between."""
    with moto_server() as aws, FakeAzure() as azure:
        azure.add_vault(VAULT)
        stores = Stores(aws=aws, azure=azure)
        kept = clean_environment(os.environ)
        os.environ.clear()
        os.environ.update({**kept, **stores.environment})
        yield stores
