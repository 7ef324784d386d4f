# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict Azure Key Vault: versions without labels, soft delete, and times in whole seconds."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.fakes.service import Call, Refusal, Reply

if TYPE_CHECKING:
    from tests.fakes.entra import Token

NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
MAX_BYTES = 25600
MAX_TAGS = 15
MAX_PAGE = 25
DAY = 86400
RETENTION_DAYS = 90
RECOVERY = {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": RETENTION_DAYS}


def now() -> int:
    """Return the time as the service keeps it: two versions may well be of the same second."""
    return int(time.time())


@dataclass(frozen=True, kw_only=True)
class SecretVersion:
    """A version; a change of its properties puts another in its place."""

    value: str
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    content_type: str | None = None
    tags: Mapping[str, str] | None = None
    created: int = field(default_factory=now)
    updated: int = field(default_factory=now)


@dataclass(kw_only=True)
class VaultSecret:
    """A secret's versions, oldest first: the last is what a reader gets who names none."""

    name: str
    versions: list[SecretVersion] = field(default_factory=list)
    deleted: int | None = None

    @property
    def latest(self) -> SecretVersion:
        """The version that counts."""
        return self.versions[-1]


@dataclass(kw_only=True, eq=False)
class Vault:
    """A vault. Secrets are kept by their names in lower case, for names differ by more than case.

    `rights` are the operations that a principal may do; who is not mentioned may do all.
    """

    name: str
    tenant: str
    suffix: str = "vault.azure.net"
    page_size: int = MAX_PAGE
    rights: dict[str, set[str]] = field(default_factory=dict)
    secrets: dict[str, VaultSecret] = field(default_factory=dict)
    deleted: dict[str, VaultSecret] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The vault's host name."""
        return f"{self.name}.{self.suffix}"

    @property
    def url(self) -> str:
        """The vault's address."""
        return f"https://{self.host}"

    def admit(self, *, token: Token | None, login: str, operation: str) -> None:
        """Refuse who has no token for this vault, or not the right to do it."""
        challenge = f'Bearer authorization="https://{login}/{self.tenant}", resource="https://{self.suffix}"'
        problem = self._problem(token)
        if problem or token is None:
            raise Refusal("Unauthorized", problem, status=401, headers={"WWW-Authenticate": challenge})
        if operation not in self.rights.get(token.principal, {operation}):
            raise Refusal(
                "Forbidden",
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or "
                "role definitions were changed recently, please observe propagation time.\r\n"
                f"Caller: appid={token.principal};oid={token.principal}\r\nAction: '{operation}'\r\n"
                f"Vault: {self.name};location=westeurope\r\n",
                status=403,
                inner="ForbiddenByRbac",
            )

    def act(self, call: Call, *, operation: str, name: str, version: str) -> Reply:
        """Do what is asked for, or refuse it."""
        if "api-version" not in call.query:
            raise bad_parameter("api-version must be specified")
        if name and not NAME.fullmatch(name):
            raise bad_parameter(
                f"The request URI contains an invalid name: {name}. Names match the pattern ^[0-9a-zA-Z-]+$."
            )
        body = json.loads(call.body or b"{}")
        match operation:
            case "set_secret":
                return self.write(name, body)
            case "get_secret":
                return self.read(name, version)
            case "update_secret":
                return self.update(name, version, body)
            case "list_versions":
                secret = self.find(name)
                return self._page(call, [self.bundle(secret, one, shown=False) for one in secret.versions])
            case "list_secrets":
                return self._page(call, [self._entry(one) for one in self.secrets.values()])
        return self._act_on_deleted(call, operation, name)

    def write(self, name: str, body: Mapping[str, Any]) -> Reply:
        """Make a new version, which is the latest, even if it is disabled."""
        if name.lower() in self.deleted:
            raise Refusal(
                "Conflict",
                f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; "
                "in this state, the secret can only be recovered or purged.",
                status=409,
                inner="ObjectIsDeletedButRecoverable",
            )
        value = body.get("value")
        if not isinstance(value, str):
            raise bad_parameter("The parameter value is missing or not a string.")
        if len(value.encode()) > MAX_BYTES:
            raise bad_parameter(f"The secret value is too long: the limit is {MAX_BYTES} bytes.")
        version = SecretVersion(value=value, **properties(body))
        secret = self.secrets.setdefault(name.lower(), VaultSecret(name=name))
        secret.versions.append(version)
        return Reply(body=self.bundle(secret, version))

    def read(self, name: str, version: str) -> Reply:
        """Read a version; one that is disabled is not, and no other stands in for it."""
        secret = self.find(name)
        found = self.find_version(secret, version)
        if not found.enabled:
            raise Refusal(
                "Forbidden",
                "Operation get is not allowed on a disabled secret.",
                status=403,
                inner="SecretDisabled",
            )
        return Reply(body=self.bundle(secret, found))

    def update(self, name: str, version: str, body: Mapping[str, Any]) -> Reply:
        """Change properties of a version; those that are not mentioned stay."""
        secret = self.find(name)
        found = self.find_version(secret, version)
        changed = replace(found, **properties(body), updated=now())
        secret.versions[secret.versions.index(found)] = changed
        return Reply(body=self.bundle(secret, changed, shown=False))

    def find(self, name: str, *, deleted: bool = False) -> VaultSecret:
        """Find a secret, or one that is deleted."""
        found = (self.deleted if deleted else self.secrets).get(name.lower())
        if found is None:
            raise Refusal(
                "SecretNotFound",
                f"A secret with (name/id) {name} was not found in this key vault. If you recently deleted this "
                "secret you may be able to recover it using the correct recovery command.",
                status=404,
            )
        return found

    def find_version(self, secret: VaultSecret, version: str) -> SecretVersion:
        """Find a version, or the latest."""
        if not version:
            return secret.latest
        for found in secret.versions:
            if found.id == version:
                return found
        raise Refusal(
            "SecretNotFound",
            f"A secret with (name/id) {secret.name}/{version} was not found in this key vault.",
            status=404,
        )

    def bundle(self, secret: VaultSecret, version: SecretVersion, *, shown: bool = True) -> dict[str, Any]:
        """Describe a version; who may see its value must have asked for it."""
        times = {"nbf": version.nbf, "exp": version.exp, "created": version.created, "updated": version.updated}
        known = {name: value for name, value in times.items() if value is not None}
        answer: dict[str, Any] = {
            "value": version.value if shown else None,
            "id": f"{self.url}/secrets/{secret.name}/{version.id}",
            "contentType": version.content_type,
            "attributes": {"enabled": version.enabled, **known, **RECOVERY},
            "tags": version.tags,
        }
        if secret.deleted is not None:
            answer |= {
                "recoveryId": f"{self.url}/deletedsecrets/{secret.name}",
                "deletedDate": secret.deleted,
                "scheduledPurgeDate": secret.deleted + RETENTION_DAYS * DAY,
            }
        return {name: value for name, value in answer.items() if value is not None}

    def _act_on_deleted(self, call: Call, operation: str, name: str) -> Reply:
        if operation == "list_deleted":
            return self._page(call, [self._entry(one) for one in self.deleted.values()])
        secret = self.find(name, deleted=operation != "delete_secret")
        if operation == "purge_secret":
            del self.deleted[name.lower()]
            return Reply(status=204)
        if operation == "delete_secret":
            secret.deleted = now()
            self.deleted[name.lower()] = self.secrets.pop(name.lower())
        if operation == "recover_secret":
            secret.deleted = None
            self.secrets[name.lower()] = self.deleted.pop(name.lower())
        return Reply(body=self.bundle(secret, secret.latest, shown=False))

    def _entry(self, secret: VaultSecret) -> dict[str, Any]:
        whole = self.bundle(secret, secret.latest, shown=False)
        return whole | {"id": f"{self.url}/secrets/{secret.name}"}

    def _page(self, call: Call, bundles: Sequence[dict[str, Any]]) -> Reply:
        """Answer a part of a list, in the order of the random ids: the service promises none."""
        size = int(call.query.get("maxresults", self.page_size))
        if not 1 <= size <= MAX_PAGE:
            raise bad_parameter(f"maxresults is not between 1 and {MAX_PAGE}")
        first = int(call.query.get("$skiptoken", "0"))
        everything = sorted(bundles, key=lambda bundle: str(bundle["id"]))
        following = first + size
        query = f"api-version={call.query['api-version']}&$skiptoken={following}&maxresults={size}"
        more = f"{self.url}{call.path}?{query}" if following < len(everything) else None
        return Reply(body={"value": everything[first:following], "nextLink": more})

    def _problem(self, token: Token | None) -> str:
        if token is None:
            return "AKV10000: Request is missing a Bearer or PoP token."
        if token.expires <= now():
            return "AKV10046: The token is expired."
        if token.audience != f"https://{self.suffix}":
            return f"AKV10022: Invalid audience. Expected https://{self.suffix}, found: {token.audience}."
        if token.tenant != self.tenant:
            return f"AKV10032: Invalid issuer. Expected tenant {self.tenant}, found {token.tenant}."
        return ""


def bad_parameter(message: str) -> Refusal:
    """The request makes no sense."""
    return Refusal("BadParameter", message)


def properties(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a version that a request mentions."""
    attributes = body.get("attributes") or {}
    found = {name: attributes[name] for name in ("enabled", "nbf", "exp") if attributes.get(name) is not None}
    if body.get("contentType") is not None:
        found["content_type"] = body["contentType"]
    tags = body.get("tags")
    if tags is not None:
        if len(tags) > MAX_TAGS:
            raise bad_parameter(f"There are more than {MAX_TAGS} tags.")
        if any(not isinstance(text, str) or len(text) > 256 for pair in tags.items() for text in pair):
            raise bad_parameter("Tags are strings of at most 256 characters.")
        found["tags"] = dict(tags)
    return found


def vault_error(refusal: Refusal) -> Reply:
    """Say no, as Key Vault does."""
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.inner:
        error["innererror"] = {"code": refusal.inner}
    return Reply(status=refusal.status, body={"error": error}, headers=refusal.headers)
