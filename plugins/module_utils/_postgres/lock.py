# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""One run at a time on a server."""

from __future__ import annotations

import collections.abc as c
import contextlib
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import LOCK_TIMEOUT

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# Any two numbers, as long as all of the collection uses the same: "latc" and "hkey" in ASCII.
LOCK = {"space": 0x6C617463, "key": 0x686B6579}
PATIENCE = "120s"


@contextlib.contextmanager
def only_run(session: Session) -> c.Iterator[None]:
    """Hold the collection's advisory lock; it goes with the session, so a crash frees it.

    Advisory locks belong to a database: the session must be one with the maintenance database.
    """
    try:
        with session.writing():
            session.rows("SELECT set_config('lock_timeout', %(patience)s, true)", {"patience": PATIENCE})
            session.rows("SELECT pg_advisory_lock(%(space)s, %(key)s)", LOCK)
    except psycopg.Error as error:
        if error.sqlstate != LOCK_TIMEOUT:
            raise
        raise DatabaseRefused(
            f"another run of this collection has held the server for {PATIENCE}",
            where=session.where,
            next_step="Wait for it to end, then run again",
        ) from error
    try:
        yield
    finally:
        _release(session)


def _release(session: Session) -> None:
    """The lock goes with a session that is lost, and what was done under it is done."""
    if session.lost:
        return
    try:
        session.rows("SELECT pg_advisory_unlock(%(space)s, %(key)s)", LOCK)
    except psycopg.Error:
        if not session.lost:
            raise
