# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options of `pg_rotate_credentials`, checked before anything is sent."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._login import (
    LOGIN_ARGUMENTS,
    LOGIN_RULES,
    address_of,
    credentials_of,
    login_of,
    store_of,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import guards, policy
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Strategy
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Reference, locate

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Params
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

LENGTHS = range(16, 129)

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "secret": {"type": "str", "required": True, "no_log": False},
    "strategy": {"type": "str", "default": "single", "choices": [one.value for one in Strategy]},
    "admin_secret": {"type": "str", "no_log": False},
    "max_age_days": {"type": "int", "default": 30},
    "window": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "password_length": {"type": "int", "default": document.LENGTH, "no_log": False},
    "terminate_older_sessions": {"type": "bool", "default": False},
    "defer_while_active": {"type": "bool", "default": True},
}
RULES: c.Mapping[str, t.Any] = {
    "required_by": {**LOGIN_RULES["required_by"], "secret": ["secret_store"]},
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run is told. ``address`` is the server, as nobody yet; ``fallback`` is whose a bare password is."""

    address: Login
    reference: Reference
    strategy: Strategy = Strategy.SINGLE
    policy: policy.Policy = field(default_factory=policy.Policy)
    fallback: str | None = None
    password_length: int = document.LENGTH
    end_sessions: bool = False
    defer: bool = True

    @property
    def name(self) -> str:
        return self.reference.name

    @property
    def where(self) -> str:
        return f"secret: {self.reference.where}"

    def login(self, credentials: Credentials, *, database: str | None = None) -> Login:
        source = f"the secret {self.name}"
        return self.address.identified(
            credentials.username, credentials.password, source=source, database=database or self.address.database
        )


def parse(params: Params) -> Order:
    strategy = Strategy(params["strategy"])
    if params["max_age_days"] < 0:
        raise InvalidOption(
            f"max_age_days: {params['max_age_days']} is less than nothing", next_step="Give 0 or more days"
        )
    if params["password_length"] not in LENGTHS:
        raise InvalidOption(
            f"password_length: {params['password_length']} characters", next_step="Give a number from 16 to 128"
        )
    if strategy is Strategy.SINGLE and params["admin_secret"]:
        raise InvalidOption(
            "admin_secret: with strategy single no administrator has a part", next_step="Leave it out, or use admin"
        )
    if strategy is Strategy.ADMIN and not _names_admin(params):
        raise InvalidOption(
            "strategy: admin needs an administrator", next_step="Name it in admin_secret, login_secret or login_user"
        )
    return Order(
        address=address_of(params),
        reference=_reference(params),
        strategy=strategy,
        policy=policy.Policy(
            max_age=dt.timedelta(days=params["max_age_days"]),
            window=policy.window(params["window"]) if params["window"] else None,
            force=params["force"],
        ),
        fallback=params["login_user"] if strategy is Strategy.SINGLE else None,
        password_length=params["password_length"],
        end_sessions=params["terminate_older_sessions"],
        defer=params["defer_while_active"],
    )


def _names_admin(params: Params) -> bool:
    return bool(params["admin_secret"] or params["login_secret"] or params["login_user"])


def _reference(params: Params) -> Reference:
    cloud = store_of(params)
    if cloud is None:
        raise InvalidOption("secret: where it is, is not known", next_step="Set secret_store")
    found = locate(cloud, params["secret"])
    if found.version is not None:
        raise InvalidOption(
            "secret: the URL names one version of it", next_step="Leave the version out: there will be a new one"
        )
    return found


def administrator(params: Params, context: Context) -> Login | None:
    """The other login, if the strategy knows one; its password is fetched only now."""
    if Strategy(params["strategy"]) is Strategy.SINGLE or not _names_admin(params):
        return None
    option = "admin_secret" if params["admin_secret"] else "login_secret"
    cloud = store_of(params)
    if not params[option] or cloud is None or (option == "login_secret" and params["login_auth"] != "password"):
        return login_of(params, context)
    user, address = params["login_user"] if option == "login_secret" else None, address_of(params)
    found, where = credentials_of(cloud, params[option], option=option, user=user, afresh=True)
    context.hide(found.password)
    guards.require_of_server(address, found, where=f"{option}: {where}")
    source = f"{option} ({where})"
    return address.identified(found.username, found.password, source=source, database=address.database)
