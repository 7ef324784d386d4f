# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Privileges move from one grantee to another whole or not at all."""

from __future__ import annotations

from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import SCHEMA
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import POSTGRES
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role, RoleGraph
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges import inspect
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import Holding
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.statements import compose
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.transfer import make_transfer_plan
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    EVERYBODY,
    MOST_OBJECTS,
    Batch,
    Kind,
    ObjectName,
    Plan,
)

GRAPH = RoleGraph(
    me="chief",
    version=170000,
    platform=POSTGRES,
    roles={name: Role(name=name, oid=oid) for oid, name in enumerate(("chief", "ann"), start=1)},
)


def plan(size: int, grantor: str = "chief") -> Plan:
    """Tables from PUBLIC to a role."""
    tables = tuple(ObjectName("s", f"t{number}") for number in range(size))
    holding = Holding(kind=Kind.TABLE, grantor=grantor, privileges=("SELECT",), objects=tables)
    return make_transfer_plan([holding], source=EVERYBODY, target="heir", graph=GRAPH, database_owner="chief")


def texts(batch: Batch) -> list[str]:
    return [compose(step).as_string(None) for step in batch.steps]


def test_what_is_taken_is_given_in_the_same_transaction() -> None:
    (batch,) = plan(1).batches
    assert texts(batch) == ['GRANT SELECT ON TABLE "s"."t0" TO "heir"', 'REVOKE SELECT ON TABLE "s"."t0" FROM PUBLIC']


def test_a_batch_that_is_cut_or_split_keeps_both_halves_together() -> None:
    batches = plan(MOST_OBJECTS).batches
    assert [batch.size for batch in batches] == [MOST_OBJECTS // 2] * 2
    for part in (*batches, *batches[0].split(), *batches[0].split()[0].split()):
        given, taken = part.steps
        assert given.objects == taken.objects != ()
    (smallest,) = plan(1).batches
    assert smallest.size == 1


def test_what_nobody_may_move_is_reported() -> None:
    found = plan(2, grantor="ann")
    assert found.batches == ()
    assert found.uncovered[0].reason == "login chief may not act as ann, who gave it to PUBLIC"
    assert found.uncovered[0].objects == 2


def test_the_engine_leaves_the_schema_of_the_journal_alone() -> None:
    assert f",{SCHEMA}}}" in inspect.SCHEMAS
