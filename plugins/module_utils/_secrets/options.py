# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The option `secret_store` of modules: as whom to ask which cloud; and what is said of a secret to be made."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import fields

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud

PROVIDERS: c.Mapping[str, type[Cloud]] = {"aws": Aws, "azure": Azure}
HIDDEN = ("secret_key", "session_token", "client_secret")
# As the clouds' own collections call them.
ALIASES = {
    "access_key": ["aws_access_key_id"],
    "secret_key": ["aws_secret_access_key"],
    "session_token": ["aws_session_token"],
    "tenant": ["tenant_id"],
    "client_secret": ["secret"],
}

SECRET_STORE: c.Mapping[str, t.Any] = {
    "type": "dict",
    "no_log": False,
    "options": {
        "provider": {"type": "str", "required": True, "choices": list(PROVIDERS)},
        **{
            one.name: {
                "type": "str",
                "no_log": one.name in HIDDEN,
                **({"aliases": ALIASES[one.name]} if one.name in ALIASES else {}),
            }
            for kind in PROVIDERS.values()
            for one in fields(kind)
        },
    },
}

# A secret that is made if it is not there.
TARGET: c.Mapping[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "tags": {"type": "dict", "default": {}},
    "kms_key_id": {"type": "str", "no_log": False},
}


def cloud_of(store: c.Mapping[str, t.Any]) -> Cloud:
    """An option that is given and means nothing to the provider is a mistake."""
    kind = PROVIDERS[store["provider"]]
    aliases = {alias for names in ALIASES.values() for alias in names}
    given = {key: value for key, value in store.items() if key not in {"provider", *aliases} and value}
    if strange := sorted(set(given) - {one.name for one in fields(kind)}):
        raise InvalidOption(
            f"secret_store: {', '.join(strange)} is of no use with the provider {store['provider']}",
            next_step="Leave it out, or correct the provider",
        )
    return kind(**given)
