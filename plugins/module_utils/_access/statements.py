# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The role statements of access; nothing is decided here."""

from __future__ import annotations

import datetime as dt
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import Mark

HIDDEN = "********"


def create_marked(
    role: str, mark: Mark, *, has_options: bool, until: dt.datetime | None = None
) -> tuple[Composable, ...]:
    """A role of ours that can't log in."""
    make = sql.statement("CREATE ROLE {role} NOLOGIN", role=sql.name(role))
    if until is not None:
        make = sql.statement("{make} {end}", make=make, end=valid_until(until))
    return (make, *mark_role(role, mark, has_options=has_options))


def mark_role(role: str, mark: Mark, *, has_options: bool) -> tuple[Composable, ...]:
    return (comment_on(role, mark), grant(names.MARKER, role, has_options=has_options, inherit=False))


def comment_on(role: str, mark: Mark) -> Composable:
    return sql.statement("COMMENT ON ROLE {role} IS {text}", role=sql.name(role), text=sql.literal(mark.text()))


def valid_until(moment: dt.datetime) -> Composable:
    """With its offset, because the server reads a time without one as its own."""
    return sql.statement("VALID UNTIL {moment}", moment=sql.literal(moment.astimezone(dt.timezone.utc).isoformat()))


def expire(role: str, moment: dt.datetime) -> Composable:
    return sql.statement("ALTER ROLE {role} {until}", role=sql.name(role), until=valid_until(moment))


def grant(role: str, member: str, *, has_options: bool, inherit: bool = True) -> Composable:
    """A membership whose rights are used, and that can't be stepped into: SET ROLE would outlive its end."""
    options = f" WITH INHERIT {'TRUE' if inherit else 'FALSE'}, SET FALSE" if has_options else ""
    return sql.statement(
        "GRANT {role} TO {member}{options}", role=sql.name(role), member=sql.name(member), options=sql.keyword(options)
    )


def administer(role: str, member: str) -> Composable:
    """What lets the member, since 16, put others into a role, and gives it nothing else."""
    return sql.statement(
        "GRANT {role} TO {member} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        role=sql.name(role),
        member=sql.name(member),
    )


def revoke(role: str, member: str) -> Composable:
    return sql.statement("REVOKE {role} FROM {member}", role=sql.name(role), member=sql.name(member))


def open_login(verb: str, role: str, *, until: dt.datetime, verifier: str | None, connection_limit: int) -> Statement:
    """CREATE or ALTER a login that is open until then."""

    def compose(password: str | None) -> Composable:
        return sql.statement(
            "{verb} ROLE {role} LOGIN PASSWORD {password} CONNECTION LIMIT {limit} {until}",
            verb=sql.keyword(verb),
            role=sql.name(role),
            password=sql.keyword("NULL") if password is None else sql.literal(password),
            limit=sql.literal(connection_limit),
            until=valid_until(until),
        )

    return Statement(command=compose(verifier), shown=compose(None if verifier is None else HIDDEN))


def shut_login(role: str, moment: dt.datetime) -> Composable:
    """No way of logging in is left; VALID UNTIL says since when."""
    return sql.statement(
        "ALTER ROLE {role} NOLOGIN PASSWORD NULL {until}", role=sql.name(role), until=valid_until(moment)
    )


def limit(role: str, connections: int) -> Composable:
    return sql.statement(
        "ALTER ROLE {role} CONNECTION LIMIT {number}", role=sql.name(role), number=sql.literal(connections)
    )


def reset(role: str, database: str | None) -> Composable:
    """Forget the settings that a person made for itself, in one database or everywhere."""
    place = sql.keyword("") if database is None else sql.statement(" IN DATABASE {d}", d=sql.name(database))
    return sql.statement("ALTER ROLE {role}{place} RESET ALL", role=sql.name(role), place=place)


def drop(role: str) -> Composable:
    return sql.statement("DROP ROLE {role}", role=sql.name(role))
