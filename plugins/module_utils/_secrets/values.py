# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What a secret store is told and what it tells, as values."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import re
import typing as t
import urllib.parse
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption

CURRENT, PENDING, PREVIOUS = "current", "pending", "previous"
# What AWS calls them.
LABELS = {CURRENT: "AWSCURRENT", PENDING: "AWSPENDING", PREVIOUS: "AWSPREVIOUS"}
STAGES = {label: stage for stage, label in LABELS.items()}
# When the current value was made, where the store's own dates can't tell: they count every change of a tag.
ROTATED_AT = "latchkey-rotated-at"
# Of a secret in a Key Vault, and of the vault itself.
NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
VAULT = re.compile(r"https://[^/?#]+/?")


@dataclass(frozen=True, kw_only=True)
class Aws:
    """As whom to ask AWS, and where. What is not given, the SDK's standard chain finds."""

    region: str | None = None
    profile: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    assume_role_arn: str | None = None
    endpoint_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Azure:
    """As whom to ask Azure, and which vault. What is not given, the environment and DefaultAzureCredential find."""

    vault_url: str | None = None
    tenant: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)


Cloud = t.Union[Aws, Azure]  # noqa: UP007  evaluated when the file is read


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One version of one secret. ``stage`` counts where no ``version`` is named.

    ``stage`` is current, pending or previous; on AWS also any staging label.
    """

    cloud: Cloud
    name: str
    stage: str = CURRENT
    version: str | None = None

    @property
    def where(self) -> str:
        which = f", version {self.version}" if self.version else "" if self.stage == CURRENT else f", {self.stage}"
        place = f"Key Vault {self.cloud.vault_url}" if isinstance(self.cloud, Azure) else "AWS Secrets Manager"
        region = f" in {self.cloud.region}" if isinstance(self.cloud, Aws) and self.cloud.region else ""
        return f"secret {self.name}{which} in {place}{region}"


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a store holds under a reference; with the secret's tags, where it tells them along with the value."""

    id: str
    text: str = field(repr=False)
    tags: c.Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """All about a secret but its values. ``reference`` is its ARN or URL, and ``stages`` names a version for each.

    ``rotated_by``: a service or function that changes the value, so that nobody else may. ``changed_at``: since when
    the current value has been there, as well as it is known.
    """

    reference: str
    tags: c.Mapping[str, str] = field(default_factory=dict)
    stages: c.Mapping[str, str] = field(default_factory=dict)
    rotated_by: str | None = None
    changed_at: dt.datetime | None = None


class Store(t.Protocol):
    """A place for secrets with versions, of which one is current and at most one pending.

    Every method is one step that is done or not, raises `SecretUnreadable` or one of its kind, and may be repeated.
    """

    def read(self, name: str, *, stage: str = CURRENT, version: str | None = None) -> Version: ...

    def describe(self, name: str) -> Description:
        """In one request, unless something is pending."""

    def create(self, name: str, text: str, *, tags: c.Mapping[str, str], kms_key_id: str | None = None) -> Version:
        """Store a first value; SecretChanged if there is one already."""

    def replace(self, name: str, text: str) -> Version:
        """Make a value the current one at once; the one before becomes the previous."""

    def write_pending(self, name: str, text: str, *, token: str) -> Version:
        """Store a value that readers do not get yet. The same ``token`` again stores nothing twice."""

    def promote(self, name: str, pending: Version, *, expected: str) -> None:
        """Make the ``pending`` version the current one, if ``expected`` still is; else SecretChanged."""

    def clear_pending(self, name: str, version: str) -> None:
        """End the pending state of a version, whether promoted or given up."""

    def tag(self, name: str, tags: c.Mapping[str, str]) -> None: ...


def rotated_at(tags: c.Mapping[str, str]) -> dt.datetime | None:
    """The moment in the tag, unless somebody has made something else of it."""
    try:
        found = dt.datetime.fromisoformat(tags.get(ROTATED_AT, "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def locate(cloud: Cloud, name: str, *, stage: str = CURRENT, version: str | None = None) -> Reference:
    """The reference that a user's words mean: a name, an ARN, or the URL of a secret in a Key Vault."""
    if not name or not name.strip():
        raise InvalidOption("the name of a secret is empty", next_step="Give a name, an ARN or a URL")
    if isinstance(cloud, Aws):
        if name.startswith("arn:"):
            cloud = replace(cloud, region=_region_of(name))
        return Reference(cloud=cloud, name=name, stage=STAGES.get(stage, stage), version=version)
    if name.lower().startswith("https://"):
        cloud, name, version = _of_url(cloud, name, version)
    if not cloud.vault_url:
        raise InvalidOption(
            f"secret {name}: in which Key Vault is not known",
            next_step="Set vault_url, or give the secret's whole URL",
        )
    if not NAME.fullmatch(name):
        raise InvalidOption(
            f"secret {name}: a name in a Key Vault has 1 to 127 letters, digits and hyphens, and nothing else",
            next_step="Give another name, such as one with - in place of / and _",
        )
    if not VAULT.fullmatch(cloud.vault_url):
        raise InvalidOption(
            f"vault_url: {cloud.vault_url} is not the URL of a Key Vault", next_step="Give https://NAME.vault.azure.net"
        )
    cloud = replace(cloud, vault_url=cloud.vault_url.rstrip("/").lower())
    return Reference(cloud=cloud, name=name, stage=stage, version=version)


def _region_of(arn: str) -> str:
    match arn.split(":", 6):
        case ["arn", _partition, "secretsmanager", region, _account, "secret", name] if region and name:
            return region
    raise InvalidOption(
        f"{arn} is not the ARN of a secret", next_step="It is arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"
    )


def _of_url(cloud: Azure, url: str, version: str | None) -> tuple[Azure, str, str | None]:
    parts = urllib.parse.urlsplit(url)
    match [parts.netloc, *parts.path.strip("/").split("/")]:
        case [vault, "secrets", name] if vault and name:
            found = version
        case [vault, "secrets", name, found] if vault and name:
            pass
        case _other:
            raise InvalidOption(f"{url} is not the URL of a secret", next_step="It ends in /secrets/NAME")
    return replace(cloud, vault_url=f"https://{vault}"), name, found
