# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Azure Key Vault: no stages and no compare-and-set, so that both are made of versions, tags and a second secret.

The latest version is the current one. A pending value is the latest version of the sibling ``<name>-pending``, which is
disabled when it is done with and never deleted, because a deleted secret's name stays taken. A tag on the current
version says that something may be pending, so that who sees none need not look.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import datetime as dt
import traceback
import typing as t

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    InvalidOption,
    LibraryMissing,
    SecretChanged,
    SecretDeleted,
    SecretDisabled,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.azure_credential import (
    PATIENCE,
    RECOVER,
    cloud_of,
    explained,
    open_credential,
    require_library,
    vault_host,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (
    CURRENT,
    PENDING,
    PREVIOUS,
    ROTATED_AT,
    Description,
    Version,
    rotated_at,
)

if t.TYPE_CHECKING:
    from azure.core.exceptions import AzureError, ResourceNotFoundError
    from azure.core.pipeline.policies import RetryPolicy
    from azure.keyvault.secrets import KeyVaultSecret, SecretClient, SecretProperties

    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Azure, Store

SECRETS_TRACEBACK: str | None = None

if not t.TYPE_CHECKING:
    try:
        from azure.core.exceptions import AzureError, ResourceNotFoundError
        from azure.core.pipeline.policies import RetryPolicy
        from azure.keyvault.secrets import SecretClient
    except ImportError:
        SecretClient, RetryPolicy = None, object
        SECRETS_TRACEBACK = traceback.format_exc()

# On a current version: the one that it replaced. On a pending one: what it was made from, and for which rotation.
BASE, TOKEN = "latchkey-base-version", "latchkey-token"
# On a current version, from before something is pending until after: of which rotation.
ANNOUNCED = "latchkey-pending"
JSON = "application/json"


class BoundedRetries(RetryPolicy):  # type: ignore[type-arg]  # in old versions it takes none
    """The SDK waits for as long as the service says, be it an hour, in a run that others wait for."""

    def get_retry_after(self, response: t.Any) -> float | None:
        return min(super().get_retry_after(response) or 0, float(self.backoff_max))


class KeyVault:
    """The store in one vault."""

    def __init__(self, *, client: SecretClient, vault: str) -> None:
        self._client = client
        self._vault = vault

    def read(self, name: str, *, stage: str = CURRENT, version: str | None = None) -> Version:
        if version is None and stage == PREVIOUS:
            version = self._previous(name)
        if version is None and stage == PENDING:
            return self._read_pending(name)
        return self._usable(name, self._get(name, version))

    def _get(self, name: str, version: str | None = None) -> KeyVaultSecret:
        with explained(self._where(name)):
            try:
                return self._client.get_secret(name, version)
            except ResourceNotFoundError as error:
                if not self._is_deleted(name):
                    raise
                raise SecretDeleted("it is deleted", where=self._where(name), next_step=RECOVER) from error

    def _is_deleted(self, name: str) -> bool:
        """For the message only: who may not know is told that it is missing."""
        try:
            self._client.get_deleted_secret(name)
        except AzureError:
            return False
        return True

    def _usable(self, name: str, found: KeyVaultSecret) -> Version:
        """The service hands out values outside their period, for recovery; a reader must not take them."""
        now, period = dt.datetime.now(dt.timezone.utc), found.properties
        if period.expires_on is not None and period.expires_on <= now:
            what = f"it expired at {period.expires_on:%Y-%m-%d %H:%M} UTC"
            raise SecretUnreadable(what, where=self._where(name), next_step="Store a new version")
        if period.not_before is not None and period.not_before > now:
            what = f"it is not valid before {period.not_before:%Y-%m-%d %H:%M} UTC"
            raise SecretUnreadable(what, where=self._where(name), next_step="Wait, or store a new version")
        return _version(found)

    def _read_pending(self, name: str) -> Version:
        sibling = _pending(name)
        try:
            return self._usable(sibling, self._get(sibling))
        except (SecretDisabled, SecretMissing) as error:
            raise SecretMissing("nothing is pending", where=self._where(name)) from error

    def _previous(self, name: str) -> str:
        """As promotion has noted it; else the youngest but one, by the second in which each was made."""
        current = self._get(name).properties
        noted = (current.tags or {}).get(BASE)
        if noted:
            return noted
        with explained(self._where(name)):
            versions = list(self._client.list_properties_of_secret_versions(name))
        older = [one for one in versions if one.version != current.version and one.enabled]
        if not older:
            raise SecretMissing("it has no previous version", where=self._where(name))
        return str(max(older, key=_made).version)

    def describe(self, name: str) -> Description:
        current = self._get(name).properties
        tags = current.tags or {}
        stages = {CURRENT: str(current.version)}
        if tags.get(BASE):
            stages[PREVIOUS] = tags[BASE]
        if ANNOUNCED in tags:
            with contextlib.suppress(SecretMissing):
                stages[PENDING] = self._read_pending(name).id
        return Description(
            reference=f"{self._vault}/secrets/{name}",
            tags=tags,
            stages=stages,
            changed_at=rotated_at(tags) or current.created_on,
        )

    def create(self, name: str, text: str, *, tags: c.Mapping[str, str], kms_key_id: str | None = None) -> Version:
        if kms_key_id is not None:
            raise InvalidOption(
                "kms_key_id: a Key Vault has its own keys", where=self._where(name), next_step="Leave it out"
            )
        with contextlib.suppress(SecretMissing):
            self._get(name)
            raise SecretChanged("it exists already", where=self._where(name), next_step="Run again")
        return self._set(name, text, tags)

    def replace(self, name: str, text: str) -> Version:
        current = self._get(name).properties
        return self._set(name, text, {**_lasting(current), BASE: str(current.version)})

    def _set(self, name: str, text: str, tags: c.Mapping[str, str]) -> Version:
        with explained(self._where(name)):
            return _version(self._client.set_secret(name, text, tags=dict(tags), content_type=JSON))

    def write_pending(self, name: str, text: str, *, token: str) -> Version:
        with contextlib.suppress(SecretMissing):
            found = self._read_pending(name)
            if (found.tags or {}).get(TOKEN) == token:
                return found
        current = self._get(name).properties
        self._retag(name, current, {**(current.tags or {}), ANNOUNCED: token})
        return self._set(_pending(name), text, {BASE: str(current.version), TOKEN: token})

    def promote(self, name: str, pending: Version, *, expected: str) -> None:
        """The comparison and the write are two calls: one who comes between them is overwritten."""
        current = self._get(name).properties
        tags = current.tags or {}
        if tags.get(TOKEN) == pending.id:
            return
        if current.version != expected:
            raise SecretChanged("somebody else has changed it", where=self._where(name), next_step="Run again")
        self._set(name, pending.text, {**_lasting(current), BASE: expected, TOKEN: pending.id})

    def clear_pending(self, name: str, version: str) -> None:
        sibling = _pending(name)
        with explained(self._where(sibling)), contextlib.suppress(ResourceNotFoundError):
            self._client.update_secret_properties(sibling, version, enabled=False)
        current = self._get(name).properties
        tags = dict(current.tags or {})
        if tags.pop(ANNOUNCED, None):
            self._retag(name, current, tags)

    def tag(self, name: str, tags: c.Mapping[str, str]) -> None:
        current = self._get(name).properties
        self._retag(name, current, {**(current.tags or {}), **tags})

    def _retag(self, name: str, current: SecretProperties, tags: dict[str, str]) -> None:
        with explained(self._where(name)):
            self._client.update_secret_properties(name, current.version, tags=tags)

    def _where(self, name: str) -> str:
        return f"secret {name} in Key Vault {self._vault}"


def _pending(name: str) -> str:
    return f"{name}-pending"


def _lasting(current: SecretProperties) -> dict[str, str]:
    """The tags that a next version keeps: all but the age of this one."""
    return {key: value for key, value in (current.tags or {}).items() if key != ROTATED_AT}


def _made(one: SecretProperties) -> dt.datetime:
    return one.created_on or dt.datetime.min.replace(tzinfo=dt.timezone.utc)


def _version(found: KeyVaultSecret) -> Version:
    return Version(id=str(found.properties.version), text=str(found.value), tags=found.properties.tags or {})


def open_store(cloud: Azure) -> Store:
    if SECRETS_TRACEBACK:
        last = SECRETS_TRACEBACK.splitlines()[-1]
        raise LibraryMissing(f"{missing_required_lib('azure-keyvault-secrets')} {last}")
    vault = str(cloud.vault_url).rstrip("/")
    require_library()
    with explained(f"Key Vault {vault}"):
        credential = open_credential(cloud, authority=cloud_of(vault_host(vault))[0])
        patience = t.cast("t.Any", PATIENCE)
        client = SecretClient(vault, credential, retry_policy=BoundedRetries(**patience), **patience)
    return KeyVault(client=client, vault=vault)
