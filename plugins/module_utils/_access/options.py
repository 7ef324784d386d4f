# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options of `pg_access_grant`, checked before anything is sent."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, period
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Permission, Profile
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._login import (
    LOGIN_ARGUMENTS,
    LOGIN_RULES,
    login_of,
    store_of,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.options import TARGET
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Reference, locate

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Params
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login

LONGEST_IDENTITY, LONGEST_DETAILS = 256, 400  # characters
PORTS = range(1, 65536)
VERIFIER = re.compile(r"SCRAM-SHA-256\$[1-9]\d{3,6}:[A-Za-z0-9+/]+={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=")
READERS: c.Mapping[str, t.Any] = {"type": "list", "elements": "str", "default": []}

ARGUMENTS: c.Mapping[str, t.Any] = {
    **LOGIN_ARGUMENTS,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "request_id": {"type": "str", "required": True},
    "grantee": {"type": "str"},
    "access": {
        "type": "list",
        "elements": "dict",
        "options": {
            "database": {"type": "str"},
            "permission": {"type": "str", "choices": [permission.value for permission in Permission]},
            "schemas": {"type": "list", "elements": "str"},
            "tables": {"type": "list", "elements": "str"},
            "routines": {"type": "list", "elements": "str"},
            "role": {"type": "str"},
        },
        "mutually_exclusive": [
            ["role", "database"],
            ["role", "permission"],
            ["role", "schemas"],
            ["role", "tables"],
            ["role", "routines"],
        ],
        "required_together": [["database", "permission"]],
        "required_one_of": [["database", "role"]],
    },
    "duration": {"type": "str"},
    "expires_at": {"type": "str"},
    "max_duration": {"type": "str", "default": "8h"},
    "reason": {"type": "str"},
    "approver": {"type": "str"},
    "login": {"type": "str", "default": "managed", "choices": ["managed", "existing"]},
    "auth": {"type": "str", "default": "password", "choices": ["password", "rds_iam", "entra"]},
    "connection_limit": {"type": "int", "default": -1},
    "secret": {
        "type": "dict",
        "no_log": False,
        "options": TARGET,
    },
    "password_verifier": {"type": "str", "no_log": True},
    "return_password": {"type": "bool", "default": False, "no_log": False},
    "readers": READERS,
    "end_sessions": {"type": "str", "default": "auto", "choices": ["auto", "always"]},
    "allow_partial": {"type": "bool", "default": False},
    "access_details": {"type": "str"},
}
RULES: c.Mapping[str, t.Any] = {
    **LOGIN_RULES,
    "required_by": {**LOGIN_RULES["required_by"], "secret": ["secret_store"]},
    "required_if": [
        ("state", "present", ["grantee", "access"]),
        ("state", "present", ["duration", "expires_at"], True),
    ],
    "mutually_exclusive": [
        ["duration", "expires_at"],
        ["password_verifier", "secret"],
        ["password_verifier", "return_password"],
    ],
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is asked for: a profile, or membership in a role that there is."""

    profile: Profile | None = None
    role: str = ""

    @property
    def name(self) -> str:
        """The role that gives it."""
        return self.profile.role if self.profile else self.role

    def __str__(self) -> str:
        return str(self.profile) if self.profile else f"role {self.role}"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where a person's credentials go."""

    reference: Reference
    tags: c.Mapping[str, str] = field(default_factory=dict)
    kms_key_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """``length`` counts from the moment of the first grant; else ``until`` says when it ends."""

    login: Login
    request: str
    grantee: str = ""
    items: tuple[Item, ...] = ()
    length: dt.timedelta | None = None
    until: dt.datetime | None = None
    longest: dt.timedelta = dt.timedelta(hours=8)
    reason: str | None = None
    approver: str | None = None
    managed: bool = True
    auth: str = "password"
    connection_limit: int = -1
    delivery: Delivery | None = None
    verifier: str | None = field(default=None, repr=False)
    return_password: bool = False
    readers: tuple[tuple[str, int], ...] = ()
    always_end: bool = False
    allow_partial: bool = False
    details: str | None = None

    @property
    def person(self) -> str:
        """The role that the person logs in as. Entra knows a principal by its own name only."""
        return self.grantee if not self.managed or self.auth == "entra" else names.login_role(self.grantee)

    @property
    def database(self) -> str:
        """Where the person begins: the first database that is asked for."""
        return next((item.profile.database for item in self.items if item.profile), self.login.database)

    @property
    def scope(self) -> str:
        """What is asked for, in short: another scope is another request."""
        return names.digest("\n".join(sorted(item.name for item in self.items)), 16)


def parse(params: Params, context: Context) -> Request:
    """All of it is checked before the login's own secret is fetched."""
    present = params["state"] == "present"
    request = _identity(params["request_id"], option="request_id")
    longest = period.duration(params["max_duration"], option="max_duration")
    length = period.duration(params["duration"], option="duration") if params["duration"] else None
    if length and length > longest:
        raise InvalidOption(
            f"duration: {params['duration']} is longer than max_duration, {params['max_duration']}",
            next_step="Ask for less; max_duration is for who sets the policy",
        )
    if present:
        _check_person(params)
        _check_credentials(params)
    return Request(
        login=login_of(params, context),
        request=request,
        grantee=params["grantee"] or "",
        items=_items(params["access"] or ()),
        length=length,
        until=period.moment(params["expires_at"], option="expires_at") if params["expires_at"] else None,
        longest=longest,
        reason=params["reason"],
        approver=params["approver"],
        managed=params["login"] == "managed",
        auth=params["auth"],
        connection_limit=params["connection_limit"],
        delivery=_delivery(params),
        verifier=params["password_verifier"] or None,
        return_password=params["return_password"],
        readers=endpoints(params["readers"]),
        always_end=params["end_sessions"] == "always",
        allow_partial=params["allow_partial"],
        details=params["access_details"],
    )


def _identity(given: str | None, *, option: str) -> str:
    """To Ansible an option that is null has been given."""
    text = given or ""
    if not text.strip() or len(text) > LONGEST_IDENTITY or not text.isprintable():
        raise InvalidOption(
            f"{option}: it must have 1 to {LONGEST_IDENTITY} characters, all of them printable",
            next_step="Give the name by which your directory or ticket system knows it",
        )
    return text


def _check_person(params: Params) -> None:
    grantee = _identity(params["grantee"], option="grantee")
    own_name = params["login"] == "existing" or params["auth"] == "entra"
    if own_name and len(grantee.encode()) > names.LONGEST:
        raise InvalidOption(
            f"grantee: the name of a role has at most {names.LONGEST} bytes, this one has {len(grantee.encode())}",
            next_step="Use login: managed, which makes a name of its own",
        )
    if not params["access"]:
        raise InvalidOption("access: the list is empty", next_step="Say what is asked for")
    if not (params["duration"] or params["expires_at"]):
        raise InvalidOption("duration: neither it nor expires_at is given", next_step="Say how long: 4h, 90m or PT4H")
    if params["connection_limit"] < -1 or params["connection_limit"] == 0:
        raise InvalidOption(
            "connection_limit: it must be at least 1", next_step="Leave it out, or give -1, for no limit"
        )
    if params["access_details"] and len(params["access_details"]) > LONGEST_DETAILS:
        raise InvalidOption(
            f"access_details: it has {len(params['access_details'])} characters",
            next_step=f"Shorten it to {LONGEST_DETAILS}",
        )


def _check_credentials(params: Params) -> None:
    given = [key for key in ("secret", "password_verifier", "return_password") if params[key]]
    with_password = params["login"] == "managed" and params["auth"] == "password"
    if with_password and not given:
        raise InvalidOption(
            "the person's new password would be known to nobody",
            next_step="Say where it goes: secret, password_verifier or return_password",
        )
    if given and not with_password:
        raise InvalidOption(
            f"{given[0]}: there is no new password with login {params['login']} and auth {params['auth']}",
            next_step="Leave it out",
        )
    if params["password_verifier"] and not VERIFIER.fullmatch(params["password_verifier"]):
        raise InvalidOption(
            "password_verifier: it is no SCRAM-SHA-256 verifier", next_step="Make it with psql's \\password or libpq"
        )


def _items(access: c.Sequence[c.Mapping[str, t.Any]]) -> tuple[Item, ...]:
    items = [_item(number, entry) for number, entry in enumerate(access, start=1)]
    return tuple({item.name: item for item in items}.values())


def _item(number: int, entry: c.Mapping[str, t.Any]) -> Item:
    if entry["role"]:
        return Item(role=entry["role"])
    permission = Permission(entry["permission"])
    wanted, other = ("routines", "tables") if permission is Permission.EXECUTE else ("tables", "routines")
    if entry[other] is not None:
        raise InvalidOption(
            f"access: item {number} has {other} with {permission.value}", next_step=f"Name {wanted}, or correct it"
        )
    for key in ("schemas", wanted):
        if entry[key] is not None and not all(entry[key] or [""]):
            raise InvalidOption(
                f"access: item {number} has an empty {key}", next_step="Leave it out to mean all of them"
            )
    objects = entry[wanted]
    return Item(
        profile=Profile(
            database=entry["database"],
            permission=permission,
            schemas=_patterns(entry["schemas"] or ["*"]),
            objects=None if objects is None or "*" in objects else _patterns(objects),
        )
    )


def _patterns(given: c.Iterable[str]) -> tuple[str, ...]:
    patterns = sorted(set(given))
    return ("*",) if "*" in patterns else tuple(patterns)


def _delivery(params: Params) -> Delivery | None:
    cloud, wanted = store_of(params), params["secret"]
    if wanted is None or cloud is None:
        return None
    return Delivery(
        reference=locate(cloud, wanted["name"]),
        tags={str(key): str(value) for key, value in wanted["tags"].items()},
        kms_key_id=wanted["kms_key_id"] or None,
    )


def endpoints(readers: c.Iterable[str], *, port: int = 5432) -> tuple[tuple[str, int], ...]:
    """``host`` or ``host:port``."""
    found = []
    for reader in readers:
        host, colon, number = reader.rpartition(":")
        if not colon or not number.isdigit():
            host, number = reader, str(port)
        if not host or int(number) not in PORTS:
            raise InvalidOption(f"readers: {reader!r} is no endpoint", next_step="Write HOST or HOST:PORT")
        found.append((host, int(number)))
    return tuple(found)
