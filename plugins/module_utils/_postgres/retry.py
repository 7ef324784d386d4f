# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Trying again what PostgreSQL refuses only because somebody else was there at the same moment."""

from __future__ import annotations

import collections.abc as c
import random
import time
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

T = t.TypeVar("T")

LOCK_TIMEOUT = "55P03"
# serialization failure, deadlock, lock timeout
TRANSIENT = frozenset({"40001", "40P01", LOCK_TIMEOUT})


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed when it is run again.

    XX000 is any internal error: only "tuple concurrently updated" (or deleted) is one of timing. 23505 is one when
    the index is the catalog's: two sessions made the same role or membership.
    """
    state, diagnostic = error.sqlstate, error.diag
    if state == "XX000":
        return "tuple concurrently" in (diagnostic.message_primary or "")
    if state == "23505":
        return diagnostic.schema_name == "pg_catalog"
    return state in TRANSIENT


def retrying(action: c.Callable[[], T], *, attempts: int = 3) -> T:
    """Run a whole transaction up to ``attempts`` times, with a random pause (0.1 to 0.75 s) between."""
    for _attempt in range(attempts - 1):
        try:
            return action()
        except psycopg.Error as error:
            if not is_transient(error):
                raise
        time.sleep(random.uniform(0.1, 0.75))  # noqa: S311
    return action()


def execute_together(session: Session, commands: c.Iterable[Composable]) -> None:
    """All of these statements or none, in one round trip; nothing at all where there are none."""
    wanted = tuple(commands)

    def together() -> None:
        with session.writing():
            session.execute(sql.script(wanted))

    if wanted:
        retrying(together)
