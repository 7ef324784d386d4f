# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options of the bootstrap, checked before anything is sent."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import GRAVEYARD, MARKER
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._login import (
    LOGIN_ARGUMENTS,
    LOGIN_RULES,
    login_of,
    store_of,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.databases import TEMPLATE1
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PUBLIC_HEIR
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Scope
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import read_endpoint
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.options import TARGET
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (
    Aws,
    Azure,
    Reference,
    locate,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Params
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import Endpoint

LONGEST_NAME = 63  # bytes; the server cuts longer ones with a mere notice
# By this tag, a just-in-time access service is allowed to read the connector's secret; source: its connector's policy.
READABLE = {"apono-connector-read": "true"}
RESERVED_NAMES = frozenset({"public", "none"})
OWN_NAMES = frozenset({MARKER, GRAVEYARD, PUBLIC_HEIR})

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "platform": {"type": "str", "default": "auto", "choices": ["auto", *sorted(platforms.BY_NAME)]},
    "connector": {"type": "str", "default": "apono_connector"},
    "connector_password": {"type": "str", "no_log": True},
    "connector_secret": {
        "type": "dict",
        "no_log": False,
        "options": {
            **TARGET,
            "force": {"type": "bool", "default": False},
            "instance_tag": {"type": "bool", "default": False},
        },
    },
    "update_password": {"type": "str", "default": "on_create", "choices": ["on_create", "always"], "no_log": False},
    "password_encryption": {"type": "str", "default": "client", "choices": ["client", "server"], "no_log": False},
    "platform_membership": {"type": "bool", "default": True},
    "grant_to": {"type": "str", "default": "connector", "choices": ["connector", "platform_group"]},
    "databases": {"type": "list", "elements": "str", "default": ["*"]},
    "exclude_databases": {"type": "list", "elements": "str", "default": []},
    "exclude_schemas": {"type": "list", "elements": "str", "default": []},
    "default_privileges": {"type": "bool", "default": True},
    "template1": {"type": "bool", "default": True},
    "grantable_roles": {"type": "list", "elements": "str", "default": []},
    "access": {"type": "bool", "default": True},
    "journal": {"type": "bool", "default": True},
    "harden_public": {"type": "bool", "default": False},
    "fail_on_uncovered": {"type": "bool", "default": False},
    "connections": {"type": "int", "default": 4},
}
RULES: c.Mapping[str, t.Any] = {
    **LOGIN_RULES,
    "required_by": {**LOGIN_RULES["required_by"], "connector_secret": ["secret_store"]},
}


@dataclass(frozen=True, kw_only=True)
class ConnectorSecret:
    """Where the connector's credentials are kept. ``endpoint``: the RDS instance to tag with it, if any."""

    reference: Reference
    tags: c.Mapping[str, str]
    kms_key_id: str | None = None
    force: bool = False
    endpoint: Endpoint | None = None

    @property
    def where(self) -> str:
        return f"connector_secret: {self.reference.where}"

    @property
    def cloud(self) -> Aws:
        """For what is asked of AWS besides; as the same identity."""
        return self.reference.cloud if isinstance(self.reference.cloud, Aws) else Aws()


@dataclass(frozen=True, kw_only=True)
class Options:
    login: Login
    platform: Platform | None
    connector: str
    connector_password: str | None = field(default=None, repr=False)
    secret: ConnectorSecret | None = None
    always_set_password: bool = False
    encrypt_password_here: bool = True
    platform_membership: bool = True
    grant_to_group: bool = False
    databases: tuple[str, ...] = ("*",)
    # Databases that are not meant, though `databases` matches them.
    left_out: tuple[str, ...] = ()
    scope: Scope = field(default_factory=Scope)
    default_privileges: bool = True
    grantable_roles: tuple[str, ...] = ()
    access: bool = True
    journal: bool = True
    harden_public: bool = False
    fail_on_uncovered: bool = False
    connections: int = 4


def parse(params: Params, context: Context) -> Options:
    """Everything is checked before the login's secret is fetched."""
    _check_name(params["connector"])
    _check_rest(params)
    secret = _secret(params)
    options = Options(
        login=login_of(params, context),
        platform=platforms.BY_NAME.get(params["platform"]),
        connector=params["connector"],
        connector_password=params["connector_password"] or None,
        secret=secret,
        always_set_password=params["update_password"] == "always",  # noqa: S105
        encrypt_password_here=params["password_encryption"] == "client",  # noqa: S105
        platform_membership=params["platform_membership"],
        grant_to_group=params["grant_to"] == "platform_group",
        databases=tuple(params["databases"]),
        left_out=(*params["exclude_databases"], *(() if params["template1"] else (TEMPLATE1,))),
        scope=Scope(exclude_schemas=tuple(params["exclude_schemas"])),
        default_privileges=params["default_privileges"],
        grantable_roles=tuple(params["grantable_roles"]),
        access=params["access"],
        journal=params["journal"],
        harden_public=params["harden_public"],
        fail_on_uncovered=params["fail_on_uncovered"],
        connections=params["connections"],
    )
    if options.connector == options.login.user:
        raise InvalidOption(
            f"connector: {options.connector!r} is the administrator that this task logs in as (login_user)",
            next_step="Give the connector a role of its own",
        )
    return options


def _secret(params: Params) -> ConnectorSecret | None:
    cloud, wanted = store_of(params), params["connector_secret"]
    if wanted is None or cloud is None:
        return None
    reference = locate(cloud, wanted["name"])
    if reference.version is not None:
        raise InvalidOption(
            "connector_secret: a version of the secret is named", next_step="Give its name or URL without the version"
        )
    if isinstance(cloud, Azure) and (wanted["kms_key_id"] or wanted["instance_tag"]):
        raise InvalidOption(
            "connector_secret: kms_key_id and instance_tag are AWS's", next_step="Leave them out for a Key Vault"
        )
    return ConnectorSecret(
        reference=reference,
        tags={**READABLE, **{str(key): _tag_value(value) for key, value in wanted["tags"].items()}},
        kms_key_id=wanted["kms_key_id"] or None,
        force=wanted["force"],
        endpoint=_endpoint(params["login_host"]) if wanted["instance_tag"] else None,
    )


def _tag_value(value: t.Any) -> str:
    """YAML's true is the word true."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _endpoint(host: str) -> Endpoint:
    endpoint = read_endpoint(host)
    if endpoint is None or endpoint.name is None:
        raise InvalidOption(
            f"connector_secret: instance_tag is wanted, but which RDS instance {host} is can't be read from its name",
            next_step="Give the endpoint of the instance or cluster in login_host, or leave instance_tag out",
        )
    return endpoint


def _check_name(connector: str) -> None:
    size = len(connector.encode())
    if not 0 < size <= LONGEST_NAME or "\0" in connector:
        raise InvalidOption(
            f"connector: a role name has 1 to {LONGEST_NAME} bytes and no NUL, this one has {size} bytes",
            next_step="Choose another name",
        )
    if connector in OWN_NAMES:
        raise InvalidOption(
            f"connector: {connector!r} is a role that this collection makes for itself",
            next_step="Choose another name; the default is apono_connector",
        )
    if connector in RESERVED_NAMES or platforms.owns_role(connector):
        raise InvalidOption(
            f"connector: {connector!r} is a role of the platform or of PostgreSQL itself",
            next_step="Choose a name of your own; the default is apono_connector",
        )


def _check_rest(params: Params) -> None:
    if params["connections"] < 1:
        raise InvalidOption("connections: at least 1 is needed", next_step="Leave it out for 4")
    if params["grantable_roles"] and not params["access"]:
        raise InvalidOption("grantable_roles: they are for access, which is false", next_step="Correct one of them")
    if not params["databases"]:
        raise InvalidOption("databases: the list is empty", next_step="Leave it out for all databases")
    if params["grant_to"] != "platform_group":
        return
    if not params["platform_membership"]:
        raise InvalidOption(
            "grant_to: platform_group gives the connector nothing while platform_membership is false",
            next_step="Set platform_membership to true, or grant_to to connector",
        )
    if params["platform"] == platforms.POSTGRES.name:
        raise InvalidOption(
            "grant_to: the platform postgres has no platform_group", next_step="Set grant_to to connector"
        )
