# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The words of access, as values.

Profile            one permission on a part of one database: what a profile role gives
Mark               what the comment of a role of ours says
"""

from __future__ import annotations

import collections.abc as c
import enum
import functools
import json
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Entitlement, Kind, Scope

VERSION = 1  # of the comments


class Permission(enum.Enum):
    READ_ONLY = "READ_ONLY"
    READ_WRITE = "READ_WRITE"
    ADMIN = "ADMIN"
    EXECUTE = "EXECUTE"


class RoleKind(enum.Enum):
    """What a role of ours is for."""

    GRANT = "grant"
    PROFILE = "profile"
    LOGIN = "login"


Privileges = c.Mapping[Kind, t.Optional[tuple[str, ...]]]  # noqa: UP045  evaluated when the file is read

# What each permission contains; None stands for every privilege that the server's version knows. None carries a grant
# option or ownership.
CONTENTS: c.Mapping[Permission, Privileges] = {
    Permission.READ_ONLY: {
        Kind.DATABASE: ("CONNECT",),
        Kind.SCHEMA: ("USAGE",),
        Kind.TABLE: ("SELECT",),
        Kind.SEQUENCE: ("SELECT",),
    },
    Permission.READ_WRITE: {
        Kind.DATABASE: ("CONNECT", "TEMPORARY"),
        Kind.SCHEMA: ("USAGE",),
        Kind.TABLE: ("SELECT", "INSERT", "UPDATE", "DELETE"),
        Kind.SEQUENCE: ("SELECT", "UPDATE", "USAGE"),
    },
    Permission.ADMIN: {
        Kind.DATABASE: None,
        Kind.SCHEMA: None,
        Kind.TABLE: None,
        Kind.SEQUENCE: None,
        Kind.ROUTINE: None,
        Kind.TYPE: None,
    },
    Permission.EXECUTE: {
        Kind.DATABASE: ("CONNECT",),
        Kind.SCHEMA: ("USAGE",),
        Kind.ROUTINE: ("EXECUTE",),
    },
}
# ADMIN of a part must not make new schemas beside it, and of single tables none of the rest of their schema.
PARTIAL: Privileges = {**CONTENTS[Permission.ADMIN], Kind.DATABASE: ("CONNECT", "TEMPORARY")}
NAMED: Privileges = {
    Kind.DATABASE: ("CONNECT", "TEMPORARY"),
    Kind.SCHEMA: ("USAGE",),
    Kind.TABLE: None,
    Kind.SEQUENCE: None,
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """``schemas`` and ``objects`` are shell patterns of names; ``objects`` means tables or, with EXECUTE, routines."""

    database: str
    permission: Permission
    schemas: tuple[str, ...] = ("*",)
    objects: tuple[str, ...] | None = None

    @functools.cached_property
    def role(self) -> str:
        return names.profile_role(json.dumps(self.as_dict(), sort_keys=True))

    @property
    def scope(self) -> Scope:
        return Scope(schemas=self.schemas, objects=self.objects)

    def entitlement(self, role: str) -> Entitlement:
        """``role``: its own name, unless somebody has renamed it."""
        return Entitlement(grantee=role, privileges=self._privileges())

    def _privileges(self) -> Privileges:
        if self.permission is not Permission.ADMIN or (self.scope.whole_database and self.objects is None):
            return CONTENTS[self.permission]
        return PARTIAL if self.objects is None else NAMED

    def as_dict(self) -> dict[str, t.Any]:
        return {
            "database": self.database,
            "permission": self.permission.value,
            "schemas": list(self.schemas),
            "objects": None if self.objects is None else list(self.objects),
        }

    @classmethod
    def of(cls, found: c.Mapping[str, t.Any]) -> Profile:
        objects = found.get("objects")
        return cls(
            database=str(found["database"]),
            permission=Permission(found["permission"]),
            schemas=tuple(map(str, found["schemas"])),
            objects=None if objects is None else tuple(map(str, objects)),
        )

    def __str__(self) -> str:
        what = f" {', '.join(self.objects)}" if self.objects is not None else ""
        where = "" if self.scope.whole_database else f" in {', '.join(self.schemas)}"
        return f"{self.permission.value} on {self.database}{where}{what}"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The comment of a role of ours: no secret and no reason, because everybody can read it."""

    kind: RoleKind
    facts: c.Mapping[str, t.Any]

    def text(self) -> str:
        return json.dumps({"v": VERSION, "kind": self.kind.value, **self.facts})

    def get(self, key: str) -> str | None:
        value = self.facts.get(key)
        return None if value is None else str(value)


def read_mark(comment: str | None) -> Mark | None:
    """What a comment says, or None if it is not one of ours: somebody may have changed it."""
    try:
        found = json.loads(comment or "")
        kind = RoleKind(found.pop("kind"))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    found.pop("v", None)
    return Mark(kind=kind, facts=found) if _is_text(found) else None


def _is_text(value: object) -> bool:
    """JSON can say what no server takes back as text."""
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(map(_is_text, (*value, *value.values())))
    return not isinstance(value, list) or all(map(_is_text, value))
