# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options of `pg_access_sweep`, checked before anything is sent."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access import cleanup, options
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._login import (
    LOGIN_ARGUMENTS,
    LOGIN_RULES,
    login_of,
    store_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Params
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "gone": {"type": "list", "elements": "str", "default": []},
    "cleanup_after_days": {"type": "int", "default": 7},
    "owned_objects": {
        "type": "str",
        "default": cleanup.KEEP,
        "choices": [cleanup.KEEP, cleanup.GRAVEYARD, cleanup.REASSIGN, cleanup.DROP],
    },
    "reassign_to": {"type": "str"},
    "confirm_drop": {"type": "list", "elements": "str", "default": []},
    "profile_retention_days": {"type": "int", "default": 30},
    "complete_profiles": {"type": "bool", "default": True},
    "enforcement": {"type": "str", "choices": ["none", "pg_cron"]},
    "readers": options.READERS,
}
RULES: c.Mapping[str, t.Any] = {
    **LOGIN_RULES,
    "required_if": [("owned_objects", cleanup.REASSIGN, ["reassign_to"])],
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a sweep is told."""

    login: Login
    cloud: Cloud | None = None
    gone: tuple[str, ...] = ()
    cleanup_after: dt.timedelta = dt.timedelta(days=7)
    policy: cleanup.Policy = field(default_factory=cleanup.Policy)
    retention: dt.timedelta = dt.timedelta(days=30)
    complete_profiles: bool = True
    enforcement: str | None = None
    readers: tuple[tuple[str, int], ...] = ()


def parse(params: Params, context: Context) -> Order:
    for option in ("cleanup_after_days", "profile_retention_days"):
        if params[option] < 0:
            raise InvalidOption(f"{option}: {params[option]} is less than nothing", next_step="Give 0 or more days")
    return Order(
        readers=options.endpoints(params["readers"]),
        login=login_of(params, context),
        cloud=store_of(params),
        gone=tuple(params["gone"]),
        cleanup_after=dt.timedelta(days=params["cleanup_after_days"]),
        policy=cleanup.Policy(
            owned=params["owned_objects"], heir=params["reassign_to"], confirmed=tuple(params["confirm_drop"])
        ),
        retention=dt.timedelta(days=params["profile_retention_days"]),
        complete_profiles=params["complete_profiles"],
        enforcement=params["enforcement"],
    )
