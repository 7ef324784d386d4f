# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Which databases of a server are meant, and what keeps the others out of reach."""

from __future__ import annotations

import collections.abc as c
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import matches

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform

TEMPLATE1 = "template1"


def choose(
    databases: c.Iterable[Database], patterns: c.Sequence[str], *, where: str, but: c.Sequence[str] = ()
) -> tuple[Database, ...]:
    """The databases that these patterns mean, and the others do not."""
    known = tuple(databases)
    for pattern in patterns:
        if not any(matches(database.name, [pattern]) for database in known):
            raise InvalidOption(
                f"databases: {pattern!r} matches no database",
                where=where,
                next_step="The server has: " + ", ".join(database.name for database in known),
            )
    return tuple(d for d in known if matches(d.name, patterns) and not matches(d.name, but))


def obstacle(database: Database, platform: Platform) -> str | None:
    """What makes it certain, before any attempt, that nobody gets in; None if nothing does."""
    if database.name in platform.databases and database.name != "template0":
        return "it is the platform's own"
    if not database.valid:
        return "it is invalid: a DROP DATABASE was interrupted"
    if not database.allows_connections:
        return "it takes no connections"
    return None
