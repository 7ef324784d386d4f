# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could be given, judged without a server."""

from __future__ import annotations

from typing import Any

from ansible_collections.latchkey.postgres.plugins.module_utils._access.inventory import Part, Powers, edges_of
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Kind

KNOWN = {
    Kind.DATABASE: ("CONNECT", "CREATE", "TEMPORARY"),
    Kind.SCHEMA: ("CREATE", "USAGE"),
    Kind.TABLE: ("DELETE", "INSERT", "SELECT", "TRUNCATE", "UPDATE"),
    Kind.SEQUENCE: ("SELECT", "UPDATE", "USAGE"),
    Kind.ROUTINE: ("EXECUTE",),
    Kind.TYPE: ("USAGE",),
}
POWERS = Powers(known=KNOWN, acts_as=lambda owner: owner == "mine")
ALL = ["READ_ONLY", "READ_WRITE", "ADMIN", "EXECUTE"]


def part(kind: Kind, *objects: str, owner: str = "theirs", place: str = "s", passable: str = "", **more: Any) -> Part:
    """Some objects."""
    return Part(kind=kind, place=place, owner=owner, passable=frozenset(passable.split()), names=objects, **more)


def judged(*parts: Part, database: Part | None = None) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """The permissions of each thing, in full and in part."""
    gate = database or part(Kind.DATABASE, place="db", owner="mine")
    found = edges_of(gate, parts, POWERS, objects=True)
    return {(edge["type"], edge["name"]): (edge["permissions"], edge["partial"]) for edge in found}


SCHEMA = part(Kind.SCHEMA, owner="mine")


def test_what_the_login_can_act_for_is_given_in_full() -> None:
    found = judged(SCHEMA, part(Kind.TABLE, "t", owner="mine"), part(Kind.ROUTINE, "f", owner="mine"))
    assert found == {
        ("database", "db"): (ALL, []),
        ("schema", "s"): (ALL, []),
        ("table", "t"): (["READ_ONLY", "READ_WRITE", "ADMIN"], []),
        ("routine", "f"): (["EXECUTE"], []),
    }


def test_a_grant_option_gives_as_much_as_it_holds() -> None:
    found = judged(SCHEMA, part(Kind.TABLE, "t", passable="SELECT INSERT UPDATE DELETE"))
    assert found["table", "t"] == (["READ_ONLY", "READ_WRITE"], [])
    assert found["schema", "s"] == (["READ_ONLY", "READ_WRITE", "EXECUTE"], ["ADMIN"])
    assert found["database", "db"] == (["READ_ONLY", "READ_WRITE", "EXECUTE"], ["ADMIN"])


def test_one_table_beyond_reach_makes_its_schema_and_database_partial() -> None:
    found = judged(SCHEMA, part(Kind.TABLE, "t", owner="mine"), part(Kind.TABLE, "far"))
    assert found["database", "db"] == found["schema", "s"] == (["EXECUTE"], ["READ_ONLY", "READ_WRITE", "ADMIN"])
    assert ("table", "far") not in found


def test_a_table_needs_its_sequence_and_its_schema() -> None:
    assert judged(SCHEMA, part(Kind.TABLE, "t", owner="mine"), part(Kind.SEQUENCE, "t", passable="SELECT"))[
        "table", "t"
    ] == (["READ_ONLY"], [])
    assert ("table", "t") not in judged(part(Kind.SCHEMA), part(Kind.TABLE, "t", owner="mine"))
    assert ("table", "t") in judged(part(Kind.SCHEMA, passable="USAGE"), part(Kind.TABLE, "t", owner="mine"))


def test_a_routine_is_listed_if_all_of_its_name_can_be_given() -> None:
    found = judged(SCHEMA, part(Kind.ROUTINE, "f", "g", owner="mine"), part(Kind.ROUTINE, "g"))
    assert ("routine", "f") in found
    assert ("routine", "g") not in found


def test_the_platforms_own_is_not_listed_and_lessens_nothing() -> None:
    found = judged(
        SCHEMA,
        part(Kind.TABLE, "t", owner="mine"),
        part(Kind.TABLE, "theirs", reserved=True),
        part(Kind.SCHEMA, place="cron", reserved=True),
        part(Kind.TABLE, "job", place="cron", reserved=True),
    )
    assert set(found) == {("database", "db"), ("schema", "s"), ("table", "t")}
    assert found["database", "db"] == (ALL, [])


def test_without_connect_nothing_inside_is_listed() -> None:
    table = part(Kind.TABLE, "t", owner="mine")
    assert judged(SCHEMA, table, database=part(Kind.DATABASE, place="db")) == {}
    read_only = judged(SCHEMA, table, database=part(Kind.DATABASE, place="db", passable="CONNECT"))
    assert read_only["table", "t"] == (["READ_ONLY"], [])
    by_public = part(Kind.DATABASE, place="db", reserved=True, public=frozenset({"CONNECT"}))
    assert judged(SCHEMA, table, database=by_public)["table", "t"] == (["READ_ONLY", "READ_WRITE", "ADMIN"], [])
    assert judged(SCHEMA, table, database=part(Kind.DATABASE, place="db", reserved=True)) == {}
