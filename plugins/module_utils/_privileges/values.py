# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The words of the privilege engine, as values.

Entitlement + Scope   what a grantee should hold, and where
Snapshot              what one database says: what is missing, who creates objects there
Step, Batch, Plan     what would be done about it, and what cannot be done
"""

from __future__ import annotations

import collections.abc as c
import enum
import fnmatch
import typing as t
from dataclasses import dataclass, replace

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Route

# A statement that names more takes too many locks on 18, where GRANT locks what it names.
MOST_OBJECTS = 500
# The role that PostgreSQL keeps for "whoever owns this database"; nobody can be made a member of it.
DATABASE_OWNER = "pg_database_owner"
# As a grantee this means everybody: no role can have the name, and the server takes even the quoted one for PUBLIC.
EVERYBODY = "public"


class Kind(enum.Enum):
    """Kinds of objects; the value is the word of GRANT. ROUTINE means functions, procedures and aggregates."""

    DATABASE = "DATABASE"
    SCHEMA = "SCHEMA"
    TABLE = "TABLE"
    SEQUENCE = "SEQUENCE"
    ROUTINE = "ROUTINE"
    TYPE = "TYPE"

    @property
    def plural(self) -> str:
        """The word of ALTER DEFAULT PRIVILEGES."""
        return self.value + "S"


SCHEMA_OBJECTS = (Kind.SCHEMA, Kind.TABLE, Kind.SEQUENCE, Kind.ROUTINE, Kind.TYPE)
# Every privilege of each kind that the server's version knows.
Known = c.Mapping[Kind, tuple[str, ...]]


def matches(name: str, patterns: c.Iterable[str]) -> bool:
    """Whether a name is, or matches, one of the shell patterns (``*``, ``?``, ``[a-z]``); case counts."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is meant in a database, by shell patterns: its schemas, and of their objects all or those that match.

    ``objects``: patterns of their names, without the schema; None for every object. Only with None are new objects
    meant from the moment they are made.
    """

    schemas: tuple[str, ...] = ("*",)
    exclude_schemas: tuple[str, ...] = ()
    objects: tuple[str, ...] | None = None

    @property
    def whole_database(self) -> bool:
        return "*" in self.schemas and not self.exclude_schemas

    def __contains__(self, schema: str) -> bool:
        return matches(schema, self.schemas) and not matches(schema, self.exclude_schemas)


@dataclass(frozen=True, kw_only=True)
class Entitlement:
    """What one grantee should hold on each kind of object; ``None`` stands for every privilege there is."""

    grantee: str
    privileges: c.Mapping[Kind, tuple[str, ...] | None]
    grant_option: bool = False

    def of(self, kind: Kind, known: Known) -> tuple[str, ...]:
        if kind not in self.privileges:
            return ()
        wanted = self.privileges[kind]
        return known[kind] if wanted is None else tuple(p for p in known[kind] if p in wanted)


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object by its qualified name; ``arguments`` are a routine's types, quoted by the server."""

    schema: str | None
    name: str | None
    arguments: str | None = None

    def __str__(self) -> str:
        text = ".".join(part for part in (self.schema, self.name) if part is not None)
        return text if self.arguments is None else f"{text}({self.arguments})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Objects of one owner that lack the same privileges.

    ``passable``: the session's login holds these privileges with grant option by some other way than the owner.
    ``reserved``: they belong to the platform, which lets nobody else give them away.
    """

    kind: Kind
    owner: str
    privileges: tuple[str, ...]
    objects: tuple[ObjectName, ...]
    passable: bool = False
    reserved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultItem:
    """One kind of default privileges of one creator: for a schema, or (None) for the whole database."""

    creator: str
    schema: str | None
    kind: Kind
    privileges: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one database says about an entitlement and a scope."""

    objects: int
    gaps: tuple[Gap, ...] = ()
    schemas: tuple[str, ...] = ()
    creators: tuple[str, ...] = ()
    defaults: tuple[DefaultItem, ...] = ()
    database_owner: str = ""

    @property
    def covered(self) -> int:
        return self.objects - sum(len(gap.objects) for gap in self.gaps)


class Verb(enum.Enum):
    GRANT = "GRANT"
    REVOKE = "REVOKE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One GRANT or REVOKE on named objects of one kind."""

    verb: Verb
    grantee: str
    kind: Kind
    privileges: tuple[str, ...]
    every_privilege: bool
    objects: tuple[ObjectName, ...]
    grant_option: bool

    def split(self) -> tuple[Step, ...]:
        """Two halves, or the step itself when it names one object."""
        middle = len(self.objects) // 2
        if not middle:
            return (self,)
        return replace(self, objects=self.objects[:middle]), replace(self, objects=self.objects[middle:])


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultStep:
    """One ALTER DEFAULT PRIVILEGES of one creator."""

    verb: Verb
    grantee: str
    item: DefaultItem
    every_privilege: bool
    grant_option: bool

    @property
    def objects(self) -> tuple[ObjectName, ...]:
        return ()

    def split(self) -> tuple[DefaultStep, ...]:
        return (self,)


AnyStep = t.Union[Step, DefaultStep]  # noqa: UP007


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Steps for one transaction, done as one role: the owner of the objects, or whoever else can give the privilege.

    ``together``: all steps name the same objects, and what is done to one of these is done whole or not at all.
    """

    owner: str
    steps: tuple[AnyStep, ...]
    route: Route
    together: bool = False

    @property
    def size(self) -> int:
        sizes = [len(step.objects) or 1 for step in self.steps]
        return max(sizes) if self.together else sum(sizes)

    def split(self) -> tuple[Batch, ...]:
        if self.together:
            halves = [step.split() for step in self.steps]
            return tuple(replace(self, steps=part) for part in zip(*halves, strict=True))
        if len(self.steps) > 1:
            middle = len(self.steps) // 2
            parts: tuple[tuple[AnyStep, ...], ...] = (self.steps[:middle], self.steps[middle:])
        else:
            parts = tuple((half,) for half in self.steps[0].split())
        return tuple(replace(self, steps=part) for part in parts)


class Cause(enum.Enum):
    """Why something stays uncovered."""

    PLATFORM = "platform"  # it belongs to the platform: nobody can change that
    NO_WAY = "no_way"  # the login may not act as the owner
    REFUSED = "refused"  # the server refused, or granted nothing
    BUSY = "busy"  # somebody else held it; another run will do
    UNKNOWN = "unknown"  # it appeared while this run was under way


@dataclass(frozen=True, kw_only=True)
class Uncovered:
    """What one owner would have to give, and why it was not given.

    ``remedy``: who may do so could run this instead, and the next run gives it all.
    """

    owner: str
    steps: tuple[AnyStep, ...]
    cause: Cause
    sqlstate: str | None
    reason: str
    remedy: str | None = None

    @property
    def objects(self) -> int:
        """How many objects inside the database are meant; the database itself is not one of them."""
        steps = (step for step in self.steps if isinstance(step, Step) and step.kind is not Kind.DATABASE)
        return len({(step.kind, name) for step in steps for name in step.objects})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Desired minus actual: what to do in which order, and what cannot be done."""

    batches: tuple[Batch, ...] = ()
    uncovered: tuple[Uncovered, ...] = ()
