# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The credential document: what a secret holds, as a value.

It is the JSON object that the vendors use, ``{"username": …, "password": …}`` with ``engine``, ``host``, ``port``,
``dbname`` and ``masterarn`` where they are known, or a bare password for a user who is known otherwise.
Source of the keys: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
"""

from __future__ import annotations

import collections.abc as c
import json
import re
import secrets
import string
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import SecretUnreadable

# Needs no quoting in a URL, JSON or a libpq string, and no normalisation before SCRAM.
ALPHABET = string.ascii_letters + string.digits + "_-"
LENGTH = 40
KNOWN = ("username", "password", "engine", "host", "port", "dbname", "masterarn")
PORT, LARGEST_PORT = re.compile(r"[0-9]{1,5}"), 65535


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """``others`` are the keys that others keep in the secret. ``bare``: the secret is the password alone."""

    username: str
    password: str = field(repr=False)
    engine: str | None = None
    host: str | None = None
    port: int | None = None
    dbname: str | None = None
    masterarn: str | None = None
    others: c.Mapping[str, t.Any] = field(default_factory=dict, repr=False)
    bare: bool = False

    def as_dict(self) -> dict[str, t.Any]:
        known = {key: getattr(self, key) for key in KNOWN}
        return {**{key: value for key, value in known.items() if value is not None}, **self.others}


def parse(text: str, *, where: str, username: str | None = None) -> Credentials:
    """The credentials in a secret; no error quotes any of it.

    A text that begins with a bracket is meant as JSON; anything else is a password, of the user who is given.
    """
    begin = text.lstrip()[:1]
    if begin not in ("{", "[", '"') or (begin == '"' and not _is_json(text)):
        return _bare(text.rstrip("\r\n"), where=where, username=username)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise SecretUnreadable(
            "it begins like JSON and is none", where=where, next_step="Repair its text, or store the bare password"
        ) from None  # the error quotes the text
    if not isinstance(found, dict):
        raise SecretUnreadable(
            "it is JSON, but no object", where=where, next_step='Store {"username": …, "password": …}'
        )
    return _from_object(found, where=where, username=username)


def _is_json(text: str) -> bool:
    """A password may begin with a quote, but one in quotes is a mistake."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _bare(password: str, *, where: str, username: str | None) -> Credentials:
    if not password.strip():
        raise SecretUnreadable("it is empty", where=where, next_step="Store the credentials in it")
    if not username:
        raise SecretUnreadable(
            "it is no JSON object, and who the bare password belongs to is not known",
            where=where,
            next_step='Give the user name too, or store {"username": …, "password": …}',
        )
    return Credentials(username=username, password=password, bare=True)


def _from_object(found: dict[str, t.Any], *, where: str, username: str | None) -> Credentials:
    def text_of(key: str) -> str | None:
        value = found.get(key)
        if value is not None and not isinstance(value, str):
            raise SecretUnreadable(f"the {key} in it is not a text", where=where, next_step="Repair the secret")
        return value or None

    password, user = text_of("password"), text_of("username") or username
    if password is None or user is None:
        missing = "password" if password is None else "username"
        raise SecretUnreadable(
            f"the JSON object in it has no {missing}", where=where, next_step=f"Store a {missing} in it"
        )
    return Credentials(
        username=user,
        password=password,
        engine=text_of("engine"),
        host=text_of("host"),
        port=_port(found.get("port"), where=where),
        dbname=text_of("dbname"),
        masterarn=text_of("masterarn"),
        others={key: value for key, value in found.items() if key not in KNOWN},
    )


def _port(value: t.Any, *, where: str) -> int | None:
    if value is None or value == "":
        return None
    if PORT.fullmatch(str(value)) and 0 < int(value) <= LARGEST_PORT:
        return int(value)
    raise SecretUnreadable("the port in it is no port number", where=where, next_step="Repair the secret")


def compose(credentials: Credentials) -> str:
    """The text to store."""
    return credentials.password if credentials.bare else json.dumps(credentials.as_dict())


def generate_password(length: int = LENGTH) -> str:
    return "".join(secrets.choice(ALPHABET) for _index in range(length))
