# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""One run at a time on a server."""

from __future__ import annotations

import collections.abc as c
import contextlib
import types
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import LOCK_TIMEOUT

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

# Any two numbers, as long as all of the collection uses the same: "latc" and "hkey" in ASCII.
LOCK: c.Mapping[str, int] = types.MappingProxyType({"space": 0x6C617463, "key": 0x686B6579})
# "latc" and "rota": of rotations, which applications run themselves.
ROTATIONS: c.Mapping[str, int] = types.MappingProxyType({"space": 0x6C617463, "key": 0x726F7461})
PATIENCE = 120  # seconds
ONE_WAIT = 5
# Whoever may connect may take any lock. What changes the server runs as one that has CREATEROLE.
EVICT = """
SELECT pg_terminate_backend(l.pid)
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_roles r ON r.oid = a.usesysid
 WHERE l.locktype = 'advisory' AND l.objsubid = 2
   AND l.classid = %(space)s::bigint::oid AND l.objid = %(key)s::bigint::oid
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolname = current_user)
"""


@contextlib.contextmanager
def only_run(session: Session, *, lock: c.Mapping[str, int] = LOCK) -> c.Iterator[None]:
    """Hold an advisory lock; it goes with the session, so a crash frees it.

    Advisory locks belong to a database: the session must be one with the maintenance database.
    """
    _take(session, lock)
    try:
        yield
    finally:
        _release(session, lock)


def _take(session: Session, lock: c.Mapping[str, int]) -> None:
    for _wait in range(PATIENCE // ONE_WAIT):
        if lock is LOCK:
            _evict(session)
        try:
            with session.writing():
                session.rows("SELECT set_config('lock_timeout', %(wait)s, true)", {"wait": f"{ONE_WAIT}s"})
                session.rows("SELECT pg_advisory_lock(%(space)s, %(key)s)", lock)
        except psycopg.Error as error:
            if error.sqlstate != LOCK_TIMEOUT:
                raise
        else:
            return
    raise DatabaseRefused(
        f"another run of this collection has held the server for {PATIENCE}s",
        where=session.where,
        next_step="Wait for it to end, then run again",
    )


def _evict(session: Session) -> None:
    """Nobody else keeps a run from ending access by taking the lock."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        session.rows(EVICT, LOCK)


def _release(session: Session, lock: c.Mapping[str, int]) -> None:
    """The lock goes with a session that is lost, and what was done under it is done."""
    if session.lost:
        return
    try:
        session.rows("SELECT pg_advisory_unlock(%(space)s, %(key)s)", lock)
    except psycopg.Error:
        if not session.lost:
            raise
