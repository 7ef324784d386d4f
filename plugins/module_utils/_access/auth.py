# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Logins by a token of the cloud instead of a password."""

from __future__ import annotations

import contextlib
import secrets
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names, statements
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import RDS_IAM

if t.TYPE_CHECKING:
    import collections.abc as c

    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site

CANARY = f"{names.PREFIX}canary_"
MEMBER = "SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = %(role)s"
CANARIES = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, %(prefix)s) AND pg_has_role(oid, 'MEMBER')"
PRINCIPALS = "SELECT to_regproc('pg_catalog.pgaadauth_create_principal') IS NOT NULL"
# It goes on in the server even if this process is killed: no canary can keep the connector out for long.
DEAD_MANS_SWITCH = "DO $$ BEGIN PERFORM pg_sleep(10); DROP ROLE IF EXISTS {canary}; END $$"


def iam_membership(ledger: Ledger, person: str, *, wanted: bool) -> tuple[Composable, ...]:
    """Members of rds_iam log in by an IAM token, and by nothing else."""
    member = any(tie.role == RDS_IAM for tie in ledger.memberships(person))
    if wanted and not member:
        return (sql.statement("GRANT {role} TO {person}", role=sql.name(RDS_IAM), person=sql.name(person)),)
    return (statements.revoke(RDS_IAM, person),) if member and not wanted else ()


def create_principal(name: str) -> Composable:
    """Azure's own function: neither an administrator nor bound to multi-factor login by the server."""
    return sql.statement("SELECT pg_catalog.pgaadauth_create_principal({name}, false, false)", name=sql.literal(name))


def require_entra(site: Site) -> None:
    if not site.session.rows(PRINCIPALS)[0][0]:
        raise DatabaseRefused(
            "auth: entra needs pgaadauth_create_principal, which this database does not have",
            where=site.where,
            next_step="Turn Entra authentication on, and log in to database postgres as an Entra administrator",
        )


def require_iam(site: Site) -> None:
    """A person's IAM login must not make the connector one too."""
    _drop_canaries(site)
    rows = site.session.rows(MEMBER, {"role": RDS_IAM})
    if not rows:
        raise DatabaseRefused(
            "auth: rds_iam needs the role rds_iam, which this server does not have",
            where=site.where,
            next_step="Use auth: password, or entra on Azure",
        )
    if rows[0][0] or not site.has_options:
        return
    if not (catalog.read_administers(site.session, role=RDS_IAM) or site.graph.open_engine):
        remedy = statements.administer(RDS_IAM, site.server.user)
        raise DatabaseRefused(
            f"login {site.server.user} has no ADMIN OPTION on {RDS_IAM}",
            where=site.where,
            next_step="Let it log in with login_auth: rds_iam, because that makes it a member, and run as who may: "
            + remedy.as_string(None),
        )
    if not site.check and not _survives_canary(site):
        raise DatabaseRefused(
            "auth: rds_iam would lock the connector out: it administers the logins that it makes, and this server"
            " counts it as a member of rds_iam for that, whose passwords are refused",
            where=site.where,
            next_step="Let the connector itself log in with login_auth: rds_iam",
        )


def _drop_canaries(site: Site) -> None:
    """Those of runs that were killed: who made one is a member of rds_iam by it, and that proves nothing."""
    for (name,) in () if site.check else site.session.rows(CANARIES, {"prefix": CANARY}):
        site.session.execute(sql.statement("DROP ROLE IF EXISTS {canary}", canary=sql.name(name)))


def _survives_canary(site: Site) -> bool:
    """Whether the connector's password is still taken while a role that it made is in rds_iam."""
    # Not the name of a run's that was killed, whose switch may still be going to drop it.
    name = CANARY + secrets.token_hex(4)
    canary, options = sql.name(name), {"has_options": site.has_options, "inherit": False}
    make = (
        sql.statement("CREATE ROLE {canary} NOLOGIN", canary=canary),
        statements.grant(names.MARKER, name, **options),
        sql.statement("GRANT {role} TO {canary}", role=sql.name(RDS_IAM), canary=canary),
    )
    with _dead_mans_switch(site, canary):
        with site.session.writing():
            site.session.execute(sql.script(make))
        try:
            sessions.connect(site.login, read_only=True).close()
        except ServerUnreachable:
            return False
        finally:
            site.session.execute(sql.statement("DROP ROLE IF EXISTS {canary}", canary=canary))
    return True


@contextlib.contextmanager
def _dead_mans_switch(site: Site, canary: Composable) -> c.Iterator[None]:
    with sessions.connect(site.login) as watch:
        switch = sql.statement(DEAD_MANS_SWITCH, canary=canary)
        watch.connection.pgconn.send_query(switch.as_bytes(watch.connection))
        try:
            yield
        finally:
            watch.connection.cancel_safe(timeout=5)
