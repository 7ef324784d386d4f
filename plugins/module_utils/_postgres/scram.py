# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Passwords, as the server stores them."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session


def verifier(session: Session, *, role: str, password: str) -> str:
    """The SCRAM-SHA-256 verifier that ``CREATE ROLE … PASSWORD`` takes instead of the password.

    libpq makes it in this process (RFC 5803, RFC 7677), so the password never leaves the controller.
    """
    made = session.connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return made.decode()
