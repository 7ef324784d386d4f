# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores from behind the scenes: what is held there, without asking."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes.aws import CURRENT, PREVIOUS, REGION

if TYPE_CHECKING:
    from tests.fakes import FakeAzure, FakeSecretsManager, Vault

PENDING = "AWSPENDING"
ROTATED_AT = "latchkey-rotated-at"


@dataclass(frozen=True, kw_only=True)
class Held:
    """The texts of a secret, and whether it tells when it was rotated."""

    current: str
    pending: str | None
    previous: str | None
    dated: bool

    @property
    def texts(self) -> list[str]:
        """All from which a run could go on."""
        return [text for text in (self.current, self.pending, self.previous) if text is not None]


@dataclass(kw_only=True, eq=False)
class AwsShelf:
    """Secrets Manager."""

    fake: FakeSecretsManager
    option: Mapping[str, str] = field(default_factory=lambda: {"provider": "aws", "region": REGION})

    def environment(self) -> dict[str, str]:
        """What brings clients here."""
        return self.fake.environment()

    def put(self, name: str, text: str) -> None:
        """Make a secret."""
        self.fake.create({"Name": name, "SecretString": text, "ClientRequestToken": str(uuid.uuid4())})

    def look(self, name: str) -> Held:
        """Read all of it."""
        secret = self.fake.secrets[name]
        current, pending, previous = (
            secret.value(label) if label in secret.labels else None for label in (CURRENT, PENDING, PREVIOUS)
        )
        return Held(current=str(current), pending=pending, previous=previous, dated=ROTATED_AT in secret.tags)


@dataclass(kw_only=True, eq=False)
class AzureShelf:
    """A Key Vault."""

    fake: FakeAzure
    vault: Vault = field(init=False)
    option: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Make the vault."""
        self.vault = self.fake.add_vault("orders")
        self.option = {"provider": "azure", "vault_url": self.vault.url}

    def environment(self) -> dict[str, str]:
        """What brings clients here."""
        return self.fake.environment()

    def put(self, name: str, text: str) -> None:
        """Make a secret."""
        self.vault.write(name, {"value": text})

    def look(self, name: str) -> Held:
        """Read all of it."""
        versions = self.vault.secrets[name].versions
        sibling = self.vault.secrets.get(f"{name}-pending")
        return Held(
            current=versions[-1].value,
            pending=sibling.latest.value if sibling and sibling.latest.enabled else None,
            previous=versions[-2].value if len(versions) > 1 else None,
            dated=ROTATED_AT in (versions[-1].tags or {}),
        )


Shelf = AwsShelf | AzureShelf
