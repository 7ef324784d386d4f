# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The steps of a rotation in their order. Each may be the last that a run does; `recovery` says how the next goes on.

prepare    the new password is in the store, where readers do not see it
apply      the server has it: from here on a single login's readers fail, until
verify     it logs in
promote    readers get it
confirm    who reads as they do logs in with just that
finish     nothing is pending, and the secret tells its age

All that takes long comes before `apply`, or after `promote`.
"""

from __future__ import annotations

import datetime as dt
import typing as t
import uuid
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import period
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    LatchkeyError,
    SecretChanged,
    SecretUnreadable,
    ServerUnreachable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import setters
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.rotation import read, read_current
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import SECOND, Answer, Held
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import PENDING, ROTATED_AT

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.rotation import Rotation
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.setters import Setter
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

NO_RIGHT = "42501"
# A password that the server's rules refuse (passwordcheck and its like), by SQLSTATE or class.
AGAINST_RULES = ("22023", "28")
OLDER_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = session_user) AND pid <> ALL (%(ours)s)
   AND backend_start < (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
"""


class PasswordRefused(DatabaseRefused):
    """Another password may do."""


def prepare(rotation: Rotation) -> None:
    user = setters.next_user(rotation)
    rotation.setter = setters.find_setter(rotation, user)
    password = document.generate_password(rotation.order.password_length)
    rotation.context.hide(password)
    _write_pending(rotation, replace(rotation.current.credentials, username=user, password=password))


def refresh(rotation: Rotation) -> None:
    """What somebody has written into the secret since `prepare`, beside the password, goes along."""
    pending = _pending(rotation).credentials
    wanted = replace(rotation.current.credentials, username=pending.username, password=pending.password)
    if wanted != pending:
        _write_pending(rotation, wanted)


def _write_pending(rotation: Rotation, credentials: Credentials) -> None:
    order, store = rotation.order, rotation.store
    store.write_pending(order.name, document.compose(credentials), token=str(uuid.uuid4()))
    rotation.pending = read(order, store, rotation.context, PENDING)
    if rotation.pending is None or rotation.pending.credentials != credentials:
        raise SecretChanged("another run has begun to rotate it", where=order.where, next_step="Run again")


def apply(rotation: Rotation) -> None:
    pending = _pending(rotation)
    setter = rotation.setter = rotation.setter or setters.find_setter(rotation, pending.user)
    if pending.user != rotation.current.user:
        rotation.read_previous()  # the former password of the other login, for `_set_back`
    try:
        _set_password(rotation, setter, pending.credentials)
    except DatabaseRefused:
        discard(rotation)  # what the server refused was not done, and is not to be done again
        raise


def _set_password(rotation: Rotation, setter: Setter, credentials: Credentials) -> None:
    try:
        execute_together(setter.session, setters.statements(rotation, setter, credentials))
    except psycopg.Error as error:
        refusal = None if setter.session.lost else _refusal(rotation, setter, credentials.username, error)
        if refusal is None:
            raise
        raise refusal from error


def _refusal(rotation: Rotation, setter: Setter, user: str, error: psycopg.Error) -> DatabaseRefused | None:
    """None for what has to do with neither the right nor the password, and may be tried again."""
    said = f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    if error.sqlstate == NO_RIGHT:
        me, step = setter.session.connection.info.user, setters.remedy(rotation, setter, user)
        return DatabaseRefused(
            f"login {me} may not set the password of {user}: {said}", where=rotation.where, next_step=step
        )
    if (error.sqlstate or "").startswith(AGAINST_RULES):
        return PasswordRefused(
            f"the server refuses the new password of {user}: {said}",
            where=rotation.where,
            next_step="Raise password_length, if it is too short; a server that takes no verifiers can't be rotated",
        )
    return None


def verify(rotation: Rotation) -> None:
    pending = _pending(rotation)
    found = rotation.probe(pending)
    if found.error is not None and found.answer is not Answer.IN:
        _set_back(rotation, rotation.current, found.error)
    if pending.user == rotation.current.user + SECOND:
        _require_acting(rotation, pending, first=rotation.current.user)


def _require_acting(rotation: Rotation, second: Held, *, first: str) -> None:
    """A server ignores a setting of the role that is not, or no longer, allowed; some releases ignore all of them.

    Others, before November 2024, forget it when a pool takes a connection back with ``DISCARD ALL``.
    """
    login = rotation.order.login(second.credentials, database=second.credentials.dbname)
    try:
        with sessions.connect(login, read_only=True) as session:
            session.execute(sql.keyword("DISCARD ALL"))
            acting = session.rows("SELECT current_user::text")[0][0]
    except ServerUnreachable as error:
        _set_back(rotation, rotation.current, error)
    if acting == first:
        return
    wrong = DatabaseRefused(
        f"login {second.user} acts as {acting}, not as {first}",
        where=rotation.where,
        next_step=f"See that it is a member of {first}, and that the server is of the newest minor release",
    )
    _set_back(rotation, rotation.current, wrong)


def promote(rotation: Rotation) -> None:
    """What failed may have been done: readers' own answer counts."""
    pending, before = _pending(rotation), rotation.current
    try:
        rotation.store.promote(rotation.order.name, pending.as_stored, expected=before.version)
    except SecretUnreadable as error:
        now = _readers_have(rotation, error)
        if not now.is_same_login(pending):
            _set_back(rotation, now, error)


def _readers_have(rotation: Rotation, error: SecretUnreadable) -> Held:
    """If it can't be told, all stays as it is, and the next run goes on from there."""
    try:
        return read_current(rotation.order, rotation.store, rotation.context)
    except SecretUnreadable:
        raise error from None


def _set_back(rotation: Rotation, readers: Held, error: LatchkeyError) -> t.NoReturn:
    """As long as the session is open that has set the password: the server gets again what readers have."""
    target, setter = _pending(rotation).user, rotation.setter
    known = [one for one in (readers, rotation.previous) if one is not None and one.user == target]
    done = "the next run goes on from here"
    if setter is not None and known:
        try:
            _set_password(rotation, setter, known[0].credentials)
            discard(rotation)
            done = f"{target} has its former password again"
        except (psycopg.Error, LatchkeyError):
            pass  # the next run finds what there is
    raise type(error)(f"{error.what}; {done}", where=error.where, next_step=error.next_step or "Run again") from error


def confirm(rotation: Rotation) -> None:
    rotation.current = read_current(rotation.order, rotation.store, rotation.context)
    found = rotation.probe(rotation.current, database=rotation.current.credentials.dbname)
    if found.error is not None and found.answer is not Answer.IN:
        raise found.error


def finish(rotation: Rotation) -> None:
    """The age comes first: without it, a run that ends between the two would rotate again."""
    rotation.finished_at = dt.datetime.now(dt.timezone.utc)
    rotation.store.tag(rotation.order.name, {ROTATED_AT: period.shown(rotation.finished_at)})
    discard(rotation)


def end_older_sessions(rotation: Rotation) -> None:
    """Those that began with a password which is no longer valid."""
    ours = [one.connection.info.backend_pid for one in rotation.sessions if not one.lost]
    with sessions.connect(rotation.order.login(rotation.current.credentials)) as session, session.writing():
        session.execute(sql.keyword("SET LOCAL ROLE NONE"))
        session.rows(OLDER_SESSIONS, {"ours": ours})


def discard(rotation: Rotation) -> None:
    rotation.store.clear_pending(rotation.order.name, _pending(rotation).version)
    rotation.pending = None


def restore(rotation: Rotation) -> None:
    """The server gets what readers have."""
    credentials = rotation.current.credentials
    _set_password(rotation, setters.find_setter(rotation, credentials.username), credentials)


def _pending(rotation: Rotation) -> Held:
    if rotation.pending is None:
        raise SecretChanged("nothing is pending any more", where=rotation.order.where, next_step="Run again")
    return rotation.pending
