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
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Database
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform

TEMPLATE1 = "template1"


def choose(databases: c.Iterable[Database], options: Options, *, where: str) -> tuple[Database, ...]:
    """The databases that the patterns mean; the platform's own stay in the list, to be reported."""
    known = tuple(databases)
    for pattern in options.databases:
        if not any(matches(database.name, [pattern]) for database in known):
            raise InvalidOption(
                f"databases: {pattern!r} matches no database",
                where=where,
                next_step="The server has: " + ", ".join(database.name for database in known),
            )
    return tuple(database for database in known if _meant(database.name, options))


def _meant(name: str, options: Options) -> bool:
    if name == TEMPLATE1 and not options.template1:
        return False
    return matches(name, options.databases) and not matches(name, options.exclude_databases)


def obstacle(database: Database, platform: Platform) -> str | None:
    """What makes it certain, before any attempt, that nobody gets in; None if nothing does."""
    if database.name in platform.databases:
        return "it is the platform's own" if database.name != "template0" else "it takes no connections"
    if not database.valid:
        return "it is invalid: a DROP DATABASE was interrupted"
    if not database.allows_connections:
        return "it takes no connections"
    return None
