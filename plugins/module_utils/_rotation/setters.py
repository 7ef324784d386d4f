# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Who may set a password, and with which statements. The strategies differ in this alone."""

from __future__ import annotations

import collections.abc as c
import re
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
ROLE = "SELECT 1 FROM pg_roles WHERE rolname = %(login)s"
EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %(login)s AND rolcanlogin"
LIMITS = "SELECT rolconnlimit, rolvaliduntil::text, rolreplication FROM pg_roles WHERE rolname = %(login)s"
# For every database where there is no name.
SETTINGS = """
SELECT datname::text, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
  FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase,
       unnest(setconfig) setting
 WHERE rolname = %(login)s
"""
# Settings that are lists of names, in which each is quoted by itself; they are those of pg_dumpall.
LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
LISTED = re.compile(r'"((?:[^"]|"")*)"|([^,\s]+)')


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
    second, first = user + SECOND, user.removesuffix(SECOND)
    if acts_as is not None:
        raise DatabaseRefused(
            f"login {user} acts as role {acts_as} by a setting, which {second} could not do through it",
            where=rotation.where,
            next_step="Use strategy single or admin",
        )
    if first != user and rotation.session.rows(EXISTS, {"login": first}):
        setting = sql.statement("ALTER ROLE {user} SET role = {first}", user=sql.name(user), first=sql.literal(first))
        raise DatabaseRefused(
            f"login {user} is the second of {first} by its name, and does not act as it",
            where=rotation.where,
            next_step=f"Make it a member of {first} and run: {setting.as_string(None)}. If it is another's, use"
            " strategy single or admin",
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
        _require_second(rotation, user)
    for held in _known(rotation) if rotation.order.strategy is not Strategy.ADMIN else ():
        if held.user != user and not (rotation.order.strategy is Strategy.ALTERNATE and held.user == user + SECOND):
            continue
        login = rotation.order.login(held.credentials)
        try:
            session = rotation.open(login)
        except ServerUnreachable as error:
            if probe.read(error, login, refusal=rotation.refusal) is not Answer.REFUSED:
                raise
            continue
        if held.user == user or session.rows("SELECT current_user::text") == [(user,)]:
            return Setter(session=session, own=held.user == user)
    if rotation.administrator is None:
        raise DatabaseRefused(
            f"nobody who may set the password of {user} is known",
            where=rotation.where,
            next_step="Name an administrator in admin_secret or login_user",
        )
    return Setter(session=rotation.session)


def _require_second(rotation: Rotation, second: str) -> None:
    """What has the name of the second login must be one, or not be there yet and be able to do what the first does."""
    first = rotation.current.user
    if rotation.session.rows(ROLE, {"login": second}):
        if catalog.read_acts_as(rotation.session, login=second) == first:
            return
        raise DatabaseRefused(
            f"login {second} exists, and does not act as {first}",
            where=rotation.where,
            next_step="Rename it, because strategy alternate needs the name; or use strategy single or admin",
        )
    objection = _objection_to_second(rotation, first)
    if objection is not None:
        raise DatabaseRefused(
            f"login {first} {objection}", where=rotation.where, next_step="Use strategy single or admin"
        )


def _objection_to_second(rotation: Rotation, first: str) -> str | None:
    if guards.is_of_person(rotation.session, first):
        return "is a person's: access would not end with a second login, which no sweep knows"
    if any(name == "role" for _database, name, _value in rotation.session.rows(SETTINGS, {"login": first})):
        return "acts as another role in a database, which a second login could not do through it"
    if any(replication for _limit, _until, replication in rotation.session.rows(LIMITS, {"login": first})):
        return "has REPLICATION, which a second login would not have through it"
    return None


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
    writing = sql.keyword("SET TRANSACTION READ WRITE")  # whatever the login's own default is
    if setter.own:
        return (writing, sql.keyword("SET LOCAL ROLE NONE"), command)
    return (writing, *_make_second(rotation, user), command)


def _make_second(rotation: Rotation, user: str) -> tuple[Composable, ...]:
    """A login that owns nothing and is granted nothing: whatever it does, it does as the first."""
    first = rotation.current.user
    if user != first + SECOND:
        return ()
    if rotation.session.rows(ROLE, {"login": user}):
        return ()
    names = {"first": sql.name(first), "second": sql.name(user)}
    # CONNECT, say, is asked of the login itself, before it acts as the first.
    options = " WITH INHERIT TRUE, SET TRUE" if _has_options(rotation) else ""
    limit, until, _replication = rotation.session.rows(LIMITS, {"login": first})[0]
    limits = {"limit": sql.literal(limit), "until": sql.literal(until or "infinity")}
    return (
        sql.statement("CREATE ROLE {second} LOGIN CONNECTION LIMIT {limit} VALID UNTIL {until}", **limits, **names),
        sql.statement("GRANT {first} TO {second}{options}", options=sql.keyword(options), **names),
        sql.statement("ALTER ROLE {second} SET role = {value}", second=names["second"], value=sql.literal(first)),
        *(
            copied_setting(user, database, name, value)
            for database, name, value in rotation.session.rows(SETTINGS, {"login": first})
        ),
    )


def copied_setting(login: str, database: str | None, name: str, value: str) -> Composable:
    """A session has those of the login, not of the role that it acts as."""
    place = sql.statement(" IN DATABASE {name}", name=sql.name(database)) if database else sql.keyword("")
    parts = [value]
    if name in LISTS:
        parts = [found[2] or found[1].replace('""', '"') for found in LISTED.finditer(value)]
    return sql.statement(
        "ALTER ROLE {login}{place} SET {name} TO {value}",
        login=sql.name(login),
        place=place,
        name=sql.name(name),
        value=sql.joined(map(sql.literal, parts)),
    )


def _has_options(rotation: Rotation) -> bool:
    return rotation.session.connection.info.server_version >= MEMBERSHIP_OPTIONS


def remedy(rotation: Rotation, setter: Setter, user: str) -> str:
    """What gives the right that was missing."""
    me = setter.session.connection.info.user
    if me in (user, user + SECOND):
        return f"Where rds.restrict_password_commands is on: GRANT rds_password TO {sql.name(user).as_string(None)}"
    first, made = rotation.current.user, rotation.session.rows(ROLE, {"login": user})
    more = ""
    if not made and rotation.session.rows(SETTINGS, {"login": first}):
        more = f"; the settings of {first} can be copied by who may SET their parameters"
    if not _has_options(rotation):
        return f"Run as who may: ALTER ROLE {sql.name(me).as_string(None)} CREATEROLE{more}"
    # Who makes the second login administers it, and needs the same of the first to make it a member.
    return f"Run as who may: {administer(user if made else first, me).as_string(None)}{more}"
