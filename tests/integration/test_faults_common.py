# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of bad input and faults share: ways to see that a fault did no harm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.integration import product
from tests.integration.product import CONNECTOR, ask, reach
from tests.rig import coverage

if TYPE_CHECKING:
    from tests.rig import Server, ShapedServer

FROM_16 = 16
BY_DATABASE = {"appdb_hard": 23, "locked_db": 23, "admindb": 23}

MEMBERSHIPS = """
SELECT m::text FROM pg_auth_members m
 WHERE member::regrole::text !~ 'connector' AND roleid::regrole::text !~ 'connector'
"""
# Since 16 whoever makes a role administers it: the one membership in a connector that may stay.
BORROWED_CONNECTORS = """
SELECT m::text FROM pg_auth_members m
 WHERE roleid::regrole::text ~ 'connector' AND NOT (grantor = 10 AND admin_option)
"""


def task(*, check: bool = False, **options: Any) -> dict[str, Any]:
    """Run the product with these options and no others."""
    return product.task(options, check=check)


def login_as(server: ShapedServer, user: str) -> dict[str, str]:
    """Return the options to log in as somebody else than the administrator."""
    password = server.password if user == server.superuser else server.passwords[user]
    return {"login_user": user, "login_password": password}


def refused(said: dict[str, Any], kind: str, *words: str) -> None:
    """Assert one clear line of this class with all these words in it."""
    line = str(said.get("msg"))
    assert said.get("failed"), said
    assert said["error_kind"] == kind, line
    assert not said["changed"]
    assert "exception" not in said
    assert "\n" not in line
    for word in words:
        assert word in line, line


def next_transaction(server: Server) -> int:
    """Return the next transaction id: as long as it stays the same, nobody has changed anything anywhere."""
    return int(ask(server, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])


@contextlib.contextmanager
def unchanged(server: Server) -> Iterator[None]:
    """Assert that nothing on the whole server is written inside the block."""
    before = next_transaction(server)
    yield
    assert next_transaction(server) == before, "something was written"


@contextlib.contextmanager
def nothing_borrowed(server: Server) -> Iterator[None]:
    """Assert that after the block everybody's memberships are what they were, row by row, the connectors' own aside."""
    before = ask(server, MEMBERSHIPS)
    yield
    assert set(ask(server, MEMBERSHIPS)) == set(before)
    assert not ask(server, BORROWED_CONNECTORS)


def whole(server: ShapedServer, connector: str = CONNECTOR) -> None:
    """Assert all the coverage that the engine allows, by effective privileges."""
    wanted = {**BY_DATABASE, "appdb_open": reach(server.major, server.variant)}
    assert {name: coverage(server, connector, name).grantable for name in wanted} == wanted


def full_count(server: ShapedServer) -> int:
    """Return what `coverage.covered` of a whole run is."""
    return sum(BY_DATABASE.values()) + reach(server.major, server.variant)
