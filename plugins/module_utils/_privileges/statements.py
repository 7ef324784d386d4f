# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""From steps to SQL; nothing is decided here."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    AnyStep,
    DefaultStep,
    ObjectName,
    Step,
    Verb,
)

if t.TYPE_CHECKING:
    from psycopg.sql import Composable


def compose(step: AnyStep) -> Composable:
    return _on_defaults(step) if isinstance(step, DefaultStep) else _on_objects(step)


def _on_objects(step: Step) -> Composable:
    return sql.statement(
        "{verb} {privileges} ON {kind} {objects} {grantee}",
        verb=sql.keyword(step.verb.value),
        privileges=_privileges(step.privileges, every=step.every_privilege),
        kind=sql.keyword(step.kind.value),
        objects=sql.joined(_object(name) for name in step.objects),
        grantee=_grantee(step),
    )


def _on_defaults(step: DefaultStep) -> Composable:
    item = step.item
    return sql.statement(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {creator}{schema} {verb} {privileges} ON {kind} {grantee}",
        creator=sql.name(item.creator),
        schema=sql.keyword("") if item.schema is None else sql.statement(" IN SCHEMA {s}", s=sql.name(item.schema)),
        verb=sql.keyword(step.verb.value),
        privileges=_privileges(item.privileges, every=step.every_privilege),
        kind=sql.keyword(item.kind.plural),
        grantee=_grantee(step),
    )


def _grantee(step: AnyStep) -> Composable:
    grantee = sql.keyword("PUBLIC") if step.grantee == EVERYBODY else sql.name(step.grantee)
    if step.verb is Verb.REVOKE:
        return sql.statement("FROM {grantee}", grantee=grantee)
    template = "TO {grantee} WITH GRANT OPTION" if step.grant_option else "TO {grantee}"
    return sql.statement(template, grantee=grantee)


def _privileges(privileges: tuple[str, ...], *, every: bool) -> Composable:
    """``ALL PRIVILEGES`` where it says the same; the words come from the server, never from a user."""
    return sql.keyword("ALL PRIVILEGES" if every else ", ".join(privileges))


def _object(name: ObjectName) -> Composable:
    path = sql.name(*(part for part in (name.schema, name.name) if part is not None))
    if name.arguments is None:
        return path
    return sql.statement("{path}({arguments})", path=path, arguments=sql.keyword(name.arguments))
