# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""A person's credentials in a secret store: put there before the server knows them, and made void afterwards."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    SecretDeleted,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, document

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.options import Delivery
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Reference


def deliver(delivery: Delivery, credentials: Credentials) -> str:
    """The secret as its service names it. Never over what belongs to somebody else."""
    reference, text = delivery.reference, document.compose(credentials)
    store = access.open_store(reference.cloud)
    try:
        found = store.read(reference.name)
    except SecretMissing as error:
        if isinstance(error, SecretDeleted):
            raise
        store.create(reference.name, text, tags=delivery.tags, kms_key_id=delivery.kms_key_id)
        return store.describe(reference.name).reference
    held = _object(found.text)
    owner = held.get("username")
    server = (("host", credentials.host), ("port", credentials.port))
    if "password" in held and any(key in held and str(held[key]) != str(known) for key, known in server):
        raise SecretUnreadable(
            f"it holds credentials for another server, {held.get('host')}:{held.get('port')}",
            where=f"secret: {reference.where}",
            next_step="Name a secret for each server, such as people/{{ inventory_hostname }}/ada",
        )
    if owner != credentials.username:
        raise SecretUnreadable(
            f"it holds the credentials of {owner or 'nobody who could be read from it'}, not of {credentials.username}",
            where=f"secret: {reference.where}",
            next_step="Name a secret of the person's own",
        )
    store.replace(reference.name, text)
    return store.describe(reference.name).reference


def withdraw(reference: Reference, username: str, *, when: str) -> bool:
    """Leave a secret without a password, so that readers are told; whether there was anything to do."""
    store = access.open_store(reference.cloud)
    try:
        found = store.read(reference.name)
    except SecretMissing:
        return False
    held = _object(found.text)
    if held.get("username") != username or "password" not in held:
        return False
    store.replace(reference.name, json.dumps({"username": username, "revoked_at": when}))
    return True


def _object(text: str) -> dict[str, t.Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
