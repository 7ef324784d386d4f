# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Who may set a password, and with which statements. The strategies differ in this alone."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access.statements import administer
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    ServerUnreachable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, scram, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import MEMBERSHIP_OPTIONS
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import guards, probe
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import SECOND, Answer, Strategy

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.rotation import Rotation
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Held
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

LONGEST = 63  # bytes; the server cuts longer names with a mere notice
EXISTS = "SELECT rolcanlogin FROM pg_roles WHERE rolname = %(login)s"
LIMITS = "SELECT rolconnlimit, rolvaliduntil::text FROM pg_roles WHERE rolname = %(login)s"
# For every database where there is no name; what the login acts as is set by other means.
SETTINGS = """
SELECT datname::text, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
  FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase,
       unnest(setconfig) setting
 WHERE rolname = %(login)s AND setting !~ '^(role|session_authorization)='
"""


@dataclass(frozen=True, kw_only=True)
class Setter:
    """``own``: it is the login's own session, and what it acts as by a setting could not change the password."""

    session: Session
    own: bool = False


# ------------------------------------------------------------------ whose password is the next
def next_user(rotation: Rotation) -> str:
    """The login that the next document names."""
    user = rotation.current.user
    return _other_of(rotation, user) if rotation.order.strategy is Strategy.ALTERNATE else user


def _other_of(rotation: Rotation, user: str) -> str:
    """The second of two acts as the first; who acts as somebody else can't have a second one."""
    acts_as = catalog.read_acts_as(rotation.session, login=user)
    if acts_as is not None and user == acts_as + SECOND:
        return acts_as
    second = user + SECOND
    if acts_as is not None:
        raise DatabaseRefused(
            f"login {user} acts as role {acts_as} by a setting, which {second} could not do through it",
            where=rotation.where,
            next_step="Use strategy single or admin",
        )
    if len(second.encode()) > LONGEST:
        raise InvalidOption(
            f"strategy: alternate needs a second login {second}, whose name would be longer than {LONGEST} bytes",
            next_step="Use strategy single or admin",
        )
    return second


# ------------------------------------------------------------------ who sets it
def find_setter(rotation: Rotation, user: str) -> Setter:
    """Itself, or the second for the first, with any password that is known; else the administrator."""
    if user == rotation.current.user + SECOND:
        _require_free_name(rotation, user)
    for held in _known(rotation) if rotation.order.strategy is not Strategy.ADMIN else ():
        if held.user != user and not (rotation.order.strategy is Strategy.ALTERNATE and held.user == user + SECOND):
            continue
        login = rotation.order.login(held.credentials)
        try:
            return Setter(session=rotation.open(login), own=held.user == user)
        except ServerUnreachable as error:
            if probe.read(error, login, refusal=rotation.refusal) is not Answer.REFUSED:
                raise
    if rotation.administrator is None:
        raise DatabaseRefused(
            f"nobody who may set the password of {user} is known",
            where=rotation.where,
            next_step="Name an administrator in admin_secret or login_user",
        )
    return Setter(session=rotation.session)


def _require_free_name(rotation: Rotation, second: str) -> None:
    """What has the name of the second login must be one, or not be there yet."""
    first = rotation.current.user
    exists = rotation.session.rows(EXISTS, {"login": second})
    if not exists and guards.is_of_person(rotation.session, first):
        raise DatabaseRefused(
            f"login {first} is a person's: access would not end with a second login, which no sweep knows",
            where=rotation.where,
            next_step="Use strategy single or admin",
        )
    if exists and catalog.read_acts_as(rotation.session, login=second) != first:
        raise DatabaseRefused(
            f"login {second} exists, and does not act as {first}",
            where=rotation.where,
            next_step="Rename it, because strategy alternate needs the name; or use strategy single or admin",
        )


def _known(rotation: Rotation) -> c.Iterator[Held]:
    """The previous is read from the store only if the others do not do."""
    yield rotation.current
    if rotation.pending is not None:
        yield rotation.pending
    previous = rotation.read_previous()
    if previous is not None:
        yield previous


# ------------------------------------------------------------------ how
def statements(rotation: Rotation, setter: Setter, credentials: Credentials) -> tuple[Composable, ...]:
    """The server gets the verifier and never the password. All of it is one transaction."""
    user = credentials.username
    verifier = scram.verifier(setter.session, role=user, password=credentials.password)
    template = "ALTER ROLE {role} PASSWORD {verifier}"
    command = sql.statement(template, role=sql.name(user), verifier=sql.literal(verifier))
    if setter.own:
        return (sql.keyword("SET LOCAL ROLE NONE"), command)
    return (*_make_second(rotation, user), command)


def _make_second(rotation: Rotation, user: str) -> tuple[Composable, ...]:
    """A login that owns nothing and is granted nothing: whatever it does, it does as the first."""
    first = rotation.current.user
    if user != first + SECOND:
        return ()
    if rotation.session.rows(EXISTS, {"login": user}):
        return ()
    names = {"first": sql.name(first), "second": sql.name(user)}
    options = " WITH INHERIT FALSE, SET TRUE" if _has_options(rotation) else ""
    limit, until = rotation.session.rows(LIMITS, {"login": first})[0]
    limits = {"limit": sql.literal(limit), "until": sql.literal(until or "infinity")}
    return (
        sql.statement("CREATE ROLE {second} LOGIN CONNECTION LIMIT {limit} VALID UNTIL {until}", **limits, **names),
        sql.statement("GRANT {first} TO {second}{options}", options=sql.keyword(options), **names),
        sql.statement("ALTER ROLE {second} SET role = {value}", second=names["second"], value=sql.literal(first)),
        *_copy_settings(rotation.session.rows(SETTINGS, {"login": first}), user),
    )


def _copy_settings(settings: c.Iterable[tuple[t.Any, ...]], second: str) -> c.Iterator[Composable]:
    """A session has those of the login, not of the role that it acts as. A list is stored as it is: FROM CURRENT."""
    for database, name, value in settings:
        parts = {"name": sql.literal(name), "value": sql.literal(value)}
        yield sql.statement("SELECT pg_catalog.set_config({name}, {value}, true)", **parts)
        place = sql.statement(" IN DATABASE {name}", name=sql.name(database)) if database else sql.keyword("")
        template = "ALTER ROLE {second}{place} SET {name} FROM CURRENT"
        yield sql.statement(template, second=sql.name(second), place=place, name=sql.name(name))


def _has_options(rotation: Rotation) -> bool:
    return rotation.session.connection.info.server_version >= MEMBERSHIP_OPTIONS


def remedy(rotation: Rotation, setter: Setter, user: str) -> str:
    """What gives the right that was missing."""
    me = setter.session.connection.info.user
    if me in (user, user + SECOND):
        return f"Where rds.restrict_password_commands is on: GRANT rds_password TO {sql.name(user).as_string(None)}"
    first, made = rotation.current.user, rotation.session.rows(EXISTS, {"login": user})
    more = ""
    if not made and rotation.session.rows(SETTINGS, {"login": first}):
        more = f"; the settings of {first} can be copied by who may SET their parameters"
    if not _has_options(rotation):
        return f"Run as who may: ALTER ROLE {sql.name(me).as_string(None)} CREATEROLE{more}"
    # Who makes the second login administers it, and needs the same of the first to make it a member.
    return f"Run as who may: {administer(user if made else first, me).as_string(None)}{more}"
