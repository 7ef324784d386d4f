# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Whether a password is right. libpq gives text and no SQLSTATE, and the server's part of it may be translated."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import diagnosis
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Answer, Probe
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import document

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login

# What RDS says to a password of a login that must bring a token.
BY_TOKEN = "PAM authentication failed"  # noqa: S105


def learn_refusal(login: Login) -> str:
    """What this server says to a wrong password. If it takes one, no probe would prove anything."""
    wrong = replace(login, password=document.generate_password())
    try:
        sessions.connect(wrong, read_only=True).close()
    except ServerUnreachable as error:
        if BY_TOKEN in error.what:
            raise DatabaseRefused(
                f"login {login.user} is in rds_iam and logs in by a token, so that it has no password to rotate",
                where=login.where,
                next_step=f"Leave the secret alone, or run: REVOKE rds_iam FROM {login.user}",
            ) from error
        if _is_of_the_password(error, wrong):
            return _impersonal(error, wrong)
        if not diagnosis.is_let_in(error.what):
            raise
    raise DatabaseRefused(
        f"a wrong password of {login.user} is taken, so that no login proves anything",
        where=login.where,
        next_step="Give the server itself and no pooler, and see that pg_hba.conf asks for scram-sha-256, not trust",
    )


def probe(login: Login, *, refusal: str) -> Probe:
    """``refusal``: what `learn_refusal` has learned."""
    try:
        sessions.connect(login, read_only=True).close()
    except ServerUnreachable as error:
        return Probe(answer=read(error, login, refusal=refusal), error=error)
    return Probe(answer=Answer.IN)


def read(error: ServerUnreachable, login: Login, *, refusal: str) -> Answer:
    """Who has no slot or no CONNECT has been let in: the password comes first."""
    if diagnosis.is_let_in(error.what):
        return Answer.IN
    known = diagnosis.is_wrong_password(error.what) or _impersonal(error, login) == refusal
    return Answer.REFUSED if known and _asked_for_password(error) else Answer.UNKNOWN


def _is_of_the_password(error: ServerUnreachable, login: Login) -> bool:
    """In every language the server names the login then, and libpq's own messages do not."""
    if not _asked_for_password(error) or diagnosis.is_let_in(error.what):
        return False
    return diagnosis.is_wrong_password(error.what) or login.user in error.what.rpartition(": ")[2]


def _asked_for_password(error: ServerUnreachable) -> bool:
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.pgconn is not None and bool(cause.pgconn.used_password)


def _impersonal(error: ServerUnreachable, login: Login) -> str:
    return error.what.replace(login.user, "")
