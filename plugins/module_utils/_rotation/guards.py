# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What is never rotated: said before anything is changed."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import read_ledger
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    InvalidOption,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.options import Order
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Description

# What RDS calls the secrets of its own, by name and in an ARN.
MANAGED = re.compile(r"(?:.*:secret:)?rds!.*")
LAMBDA = ":function:"
PROXY = ".proxy-"
TARGET = """
WITH RECURSIVE reached AS (
  SELECT oid FROM pg_roles WHERE rolname = %(role)s
   UNION SELECT m.roleid FROM pg_auth_members m JOIN reached ON reached.oid = m.member
)
SELECT rolcanlogin, EXISTS (SELECT FROM reached JOIN pg_roles USING (oid) WHERE rolname = %(iam)s)
  FROM pg_roles WHERE rolname = %(role)s
"""


def require_free(order: Order, found: Description) -> None:
    """Whoever else changes the secret would not know what the server has."""
    owner = "Amazon RDS" if MANAGED.fullmatch(order.name) else found.rotated_by
    if owner is None or (LAMBDA in owner and order.policy.force):
        return
    step = "Turn its rotation off, or set force" if LAMBDA in owner else "Let it, or keep the login in another secret"
    raise SecretUnreadable(f"{owner} changes it, so nobody else may", where=order.where, next_step=step)


def require_direct_address(order: Order) -> None:
    if PROXY in order.address.host:
        raise InvalidOption(
            f"login_host: {order.address.host} is an RDS Proxy, which logs in with what it has kept",
            next_step="Give the endpoint of the instance or cluster",
        )


def require_of_server(address: Login, credentials: Credentials, *, where: str) -> None:
    """A login of that name on another server is not the secret's, whatever could be done to it."""
    host, port = credentials.host or address.host, credentials.port or address.port
    if (host.lower(), port) != (address.host.lower(), address.port):
        raise SecretUnreadable(
            f"it is for another server, {host}:{port}, than {address.where}",
            where=where,
            next_step="Correct login_host and login_port, or the secret",
        )


def require_own(credentials: Credentials, *, where: str) -> None:
    if platforms.owns_role(credentials.username):
        raise SecretUnreadable(
            f"it is for {credentials.username}, a role of the platform or of PostgreSQL itself",
            where=where,
            next_step="Name the secret of a login of your own",
        )


def require_login(session: Session, user: str) -> None:
    """What an administrator can tell of the login whose password it is to set."""
    rows = session.rows(TARGET, {"role": user, "iam": platforms.RDS_IAM})
    if not rows:
        why, step = "does not exist", "Correct the secret, or make the role"
    elif not rows[0][0]:
        why, step = "has no LOGIN", "Correct the secret, or give it LOGIN"
    elif rows[0][1]:
        why, step = "is in rds_iam and logs in by a token, so that it has no password to rotate", "Leave it alone"
    else:
        return
    raise DatabaseRefused(f"role {user} {why}", where=session.where, next_step=step)


def require_no_pooler(session: Session) -> None:
    """A pooler has process numbers of its own, and may log in with a password that it has kept."""
    if session.rows("SELECT pg_backend_pid()")[0][0] != session.connection.info.backend_pid:
        raise DatabaseRefused(
            "this is a pooler, which logs in with what it has kept",
            where=session.where,
            next_step="Give the address of the server itself",
        )


def is_of_person(session: Session, user: str, *, active: bool = False) -> bool:
    """Whether `pg_access_grant` has made it; ``active``: and the person has access now, and the password that goes."""
    ledger = read_ledger(session, version=session.connection.info.server_version, roles=[user])
    found = ledger.roles.get(user)
    if found is None or found.kind is not RoleKind.LOGIN:
        return False
    return bool(ledger.grants_of(user)) or not active
