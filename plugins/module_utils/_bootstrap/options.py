# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options of the bootstrap, checked before anything is sent."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._door import LOGIN_ARGUMENTS, Params, login_of
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Scope

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login

LONGEST_NAME = 63  # bytes; the server cuts longer ones with a mere notice
RESERVED_NAMES = frozenset({"public", "none"})

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "platform": {"type": "str", "default": "auto", "choices": ["auto", *sorted(platforms.BY_NAME)]},
    "connector": {"type": "str", "default": "apono_connector"},
    "connector_password": {"type": "str", "no_log": True},
    "update_password": {"type": "str", "default": "on_create", "choices": ["on_create", "always"], "no_log": False},
    "password_encryption": {"type": "str", "default": "client", "choices": ["client", "server"], "no_log": False},
    "platform_membership": {"type": "bool", "default": True},
    "grant_to": {"type": "str", "default": "connector", "choices": ["connector", "platform_group"]},
    "databases": {"type": "list", "elements": "str", "default": ["*"]},
    "exclude_databases": {"type": "list", "elements": "str", "default": []},
    "exclude_schemas": {"type": "list", "elements": "str", "default": []},
    "default_privileges": {"type": "bool", "default": True},
    "template1": {"type": "bool", "default": True},
    "fail_on_uncovered": {"type": "bool", "default": False},
    "connections": {"type": "int", "default": 4},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    login: Login
    platform: Platform | None
    connector: str
    connector_password: str | None = field(default=None, repr=False)
    always_set_password: bool = False
    encrypt_password_here: bool = True
    platform_membership: bool = True
    grant_to_group: bool = False
    databases: tuple[str, ...] = ("*",)
    exclude_databases: tuple[str, ...] = ()
    scope: Scope = field(default_factory=Scope)
    default_privileges: bool = True
    template1: bool = True
    fail_on_uncovered: bool = False
    connections: int = 4


def parse(params: Params) -> Options:
    options = Options(
        login=login_of(params),
        platform=platforms.BY_NAME.get(params["platform"]),
        connector=params["connector"],
        connector_password=params["connector_password"] or None,
        always_set_password=params["update_password"] == "always",  # noqa: S105
        encrypt_password_here=params["password_encryption"] == "client",  # noqa: S105
        platform_membership=params["platform_membership"],
        grant_to_group=params["grant_to"] == "platform_group",
        databases=tuple(params["databases"]),
        exclude_databases=tuple(params["exclude_databases"]),
        scope=Scope(exclude_schemas=tuple(params["exclude_schemas"])),
        default_privileges=params["default_privileges"],
        template1=params["template1"],
        fail_on_uncovered=params["fail_on_uncovered"],
        connections=params["connections"],
    )
    _check_name(options.connector)
    _check_rest(options)
    return options


def _check_name(connector: str) -> None:
    size = len(connector.encode())
    if not 0 < size <= LONGEST_NAME or "\0" in connector:
        raise InvalidOption(
            f"connector: a role name has 1 to {LONGEST_NAME} bytes and no NUL, this one has {size} bytes",
            next_step="Choose another name",
        )
    if connector in RESERVED_NAMES or any(p.owns_role(connector) for p in platforms.BY_NAME.values()):
        raise InvalidOption(
            f"connector: {connector!r} is a role of the platform or of PostgreSQL itself",
            next_step="Choose a name of your own; the default is apono_connector",
        )


def _check_rest(options: Options) -> None:
    if options.connector == options.login.user:
        raise InvalidOption(
            f"connector: {options.connector!r} is the administrator that this task logs in as (login_user)",
            next_step="Give the connector a role of its own",
        )
    if options.connections < 1:
        raise InvalidOption("connections: at least 1 is needed", next_step="Leave it out for 4")
    if not options.databases:
        raise InvalidOption("databases: the list is empty", next_step="Leave it out for all databases")
    if options.grant_to_group and not options.platform_membership:
        raise InvalidOption(
            "grant_to: platform_group gives the connector nothing while platform_membership is false",
            next_step="Set platform_membership to true, or grant_to to connector",
        )
    if options.grant_to_group and options.platform is platforms.POSTGRES:
        raise InvalidOption(
            "grant_to: the platform postgres has no platform_group", next_step="Set grant_to to connector"
        )
