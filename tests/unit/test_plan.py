# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan and its SQL, without a server."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import RDS
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import (
    Membership,
    Role,
    RoleGraph,
    Route,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import cut, make_plan, missing_defaults
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.statements import compose
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    MOST_OBJECTS,
    Batch,
    Cause,
    DefaultItem,
    DefaultStep,
    Entitlement,
    Gap,
    Kind,
    ObjectName,
    Plan,
    Scope,
    Snapshot,
    Step,
    Verb,
    matches,
)

KNOWN = {
    Kind.DATABASE: ("CONNECT", "CREATE", "TEMPORARY"),
    Kind.SCHEMA: ("CREATE", "USAGE"),
    Kind.TABLE: ("DELETE", "INSERT", "SELECT"),
    Kind.SEQUENCE: ("SELECT", "UPDATE", "USAGE"),
    Kind.ROUTINE: ("EXECUTE",),
    Kind.TYPE: ("USAGE",),
}
ALL = Entitlement(grantee="conn", privileges=dict.fromkeys(Kind), grant_option=True)
READ = Entitlement(grantee="conn", privileges={Kind.TABLE: ("SELECT",), Kind.SCHEMA: ("USAGE",)})
GRAPH = RoleGraph(
    me="me",
    version=170000,
    roles={name: Role(name=name, oid=number) for number, name in enumerate(("me", "alpha", "gamma", "conn"))},
    platform=RDS,
    memberships=(Membership(role="alpha", member="me", admin=True, inherit=False, set=False),),
)


def names(count: int, schema: str = "s") -> tuple[ObjectName, ...]:
    """So many tables."""
    return tuple(ObjectName(schema, f"t{number:05}") for number in range(count))


def gap(owner: str = "alpha", **more: Any) -> Gap:
    """One table of an owner that lacks everything."""
    return Gap(**{"kind": Kind.TABLE, "owner": owner, "privileges": KNOWN[Kind.TABLE], "objects": names(1), **more})


def planned(*gaps: Gap, defaults: tuple[DefaultItem, ...] = (), database_owner: str = "alpha") -> Plan:
    """The plan for these."""
    return make_plan(gaps, defaults, entitlement=ALL, known=KNOWN, graph=GRAPH, database_owner=database_owner)


def step(*objects: ObjectName, **more: Any) -> Step:
    """One GRANT of everything on tables."""
    standing = {
        "verb": Verb.GRANT, "grantee": "conn", "kind": Kind.TABLE, "privileges": KNOWN[Kind.TABLE],
        "every_privilege": True, "objects": objects, "grant_option": True,
    }  # fmt: skip
    return Step(**{**standing, **more})


# ------------------------------------------------------------------ make_plan
def test_nothing_missing_is_an_empty_plan() -> None:
    assert planned() == Plan()


def test_an_owner_within_reach_gives_in_one_batch_and_another_is_reported() -> None:
    item = DefaultItem(creator="alpha", schema=None, kind=Kind.TABLE, privileges=KNOWN[Kind.TABLE])
    plan = planned(gap(), gap(kind=Kind.SCHEMA, privileges=("USAGE",)), gap("gamma"), defaults=(item,))
    (batch,) = plan.batches
    assert (batch.owner, batch.route, batch.size) == ("alpha", Route(role="alpha", borrow=("alpha",)), 3)
    (left,) = plan.uncovered
    assert (left.owner, left.cause, left.sqlstate, left.objects) == ("gamma", Cause.NO_WAY, "42501", 1)
    assert "me may not act as gamma" in left.reason


def test_what_is_the_platforms_is_never_tried_even_if_its_owner_is_within_reach() -> None:
    plan = planned(gap(reserved=True))
    assert (plan.batches, [entry.cause for entry in plan.uncovered]) == ((), [Cause.PLATFORM])


def test_what_one_can_pass_on_oneself_needs_no_owner_but_an_owner_within_reach_is_preferred() -> None:
    plan = planned(gap("gamma", passable=True), gap("alpha", passable=True))
    assert [(batch.owner, batch.route.role) for batch in plan.batches] == [("gamma", "me"), ("alpha", "alpha")]
    assert plan.uncovered == ()


def test_what_is_whoever_owns_the_databases_is_given_as_that_role_which_only_its_owner_can_become() -> None:
    plan = planned(gap("pg_database_owner"))
    assert [batch.route for batch in plan.batches] == [Route(role="pg_database_owner", borrow=("alpha",))]
    mine = planned(gap("pg_database_owner"), database_owner="me")
    assert [batch.route for batch in mine.batches] == [Route(role="pg_database_owner")]
    assert planned(gap("pg_database_owner"), database_owner="gamma").batches == ()


def test_all_privileges_is_said_only_where_all_are_missing() -> None:
    plan = planned(gap(), gap(privileges=("DELETE", "INSERT")))
    said = [compose(one).as_string(None) for batch in plan.batches for one in batch.steps]
    assert said == [
        'GRANT ALL PRIVILEGES ON TABLE "s"."t00000" TO "conn" WITH GRANT OPTION',
        'GRANT DELETE, INSERT ON TABLE "s"."t00000" TO "conn" WITH GRANT OPTION',
    ]


# ------------------------------------------------------------------ cut, split
@pytest.mark.parametrize("sizes", [(1,), (MOST_OBJECTS,), (MOST_OBJECTS + 1,), (300, 300, 10), (2345, 1, 499, 500)])
def test_cutting_keeps_every_object_once_in_transactions_that_are_not_too_large(sizes: tuple[int, ...]) -> None:
    steps = tuple(step(*names(size, schema=f"s{number}")) for number, size in enumerate(sizes))
    parts = list(cut(Batch(owner="alpha", steps=steps, route=Route(role="alpha"))))
    assert max(part.size for part in parts) <= MOST_OBJECTS
    found = [name for part in parts for one in part.steps for name in one.objects]
    assert found == [name for one in steps for name in one.objects]
    assert len(parts) <= 2 * sum(sizes) // MOST_OBJECTS + 1


def test_default_privileges_count_as_one_object_each() -> None:
    item = DefaultItem(creator="alpha", schema=None, kind=Kind.TYPE, privileges=("USAGE",))
    default = DefaultStep(verb=Verb.GRANT, grantee="conn", item=item, every_privilege=True, grant_option=True)
    batch = Batch(owner="alpha", steps=(step(*names(MOST_OBJECTS)), default), route=Route(role="alpha"))
    assert [part.size for part in cut(batch)] == [MOST_OBJECTS, 1]


def test_splitting_again_and_again_ends_with_each_object_alone() -> None:
    batch = Batch(owner="alpha", steps=(step(*names(5)), step(*names(2, "u"))), route=Route(role="alpha"))
    waiting, alone = collections.deque([batch]), []
    while waiting:
        part = waiting.popleft()
        if part.size == 1:
            alone += [name for one in part.steps for name in one.objects]
        else:
            waiting.extend(part.split())
    assert sorted(alone, key=str) == sorted((*names(5), *names(2, "u")), key=str)


# ------------------------------------------------------------------ missing_defaults
def missing(*held: DefaultItem, scope: Scope | None = None, entitlement: Entitlement = ALL, **more: Any) -> set[Any]:
    """The default privileges that are missing for the creators, as tuples."""
    snapshot = Snapshot(objects=0, schemas=("s", "u"), defaults=held)
    found = missing_defaults(
        snapshot, entitlement=entitlement, scope=scope or Scope(), known=KNOWN, **{"creators": ("alpha",), **more}
    )
    return {(item.creator, item.schema, item.kind, item.privileges) for item in found}


def test_each_creator_lacks_every_kind_but_databases() -> None:
    found = missing(creators=("alpha", "beta"))
    assert found == {
        (creator, None, kind, KNOWN[kind])
        for creator in ("alpha", "beta") for kind in Kind if kind is not Kind.DATABASE
    }  # fmt: skip


def test_the_grantee_gives_nothing_to_itself() -> None:
    assert missing(creators=("conn",)) == set()


def test_only_the_privileges_that_miss_are_asked_for() -> None:
    held = DefaultItem(creator="alpha", schema=None, kind=Kind.TABLE, privileges=("INSERT", "SELECT"))
    assert ("alpha", None, Kind.TABLE, ("DELETE",)) in missing(held)
    assert missing(held, entitlement=READ) == {("alpha", None, Kind.SCHEMA, ("USAGE",))}


def test_with_excluded_schemas_defaults_go_to_each_schema_and_never_to_schemas() -> None:
    found = missing(scope=Scope(exclude_schemas=("x",)))
    assert {schema for _creator, schema, _kind, _privileges in found} == {"s", "u"}
    assert Kind.SCHEMA not in {kind for _creator, _schema, kind, _privileges in found}


def test_what_is_given_for_the_whole_database_is_not_asked_for_again_in_a_schema() -> None:
    whole = DefaultItem(creator="alpha", schema=None, kind=Kind.TABLE, privileges=KNOWN[Kind.TABLE])
    one = DefaultItem(creator="alpha", schema="s", kind=Kind.TYPE, privileges=("USAGE",))
    found = missing(whole, one, scope=Scope(exclude_schemas=("x",)))
    assert Kind.TABLE not in {kind for _creator, _schema, kind, _privileges in found}
    assert {schema for _c, schema, kind, _p in found if kind is Kind.TYPE} == {"u"}


# ------------------------------------------------------------------ SQL
EVIL = 'a"; DROP ROLE x;-- %s {b} $$ é'
QUOTED = '"a""; DROP ROLE x;-- %s {b} $$ é"'


@pytest.mark.parametrize(
    ("kind", "name", "written"),
    [
        (Kind.DATABASE, ObjectName(None, EVIL), f"DATABASE {QUOTED}"),
        (Kind.SCHEMA, ObjectName(EVIL, None), f"SCHEMA {QUOTED}"),
        (Kind.TABLE, ObjectName(EVIL, EVIL), f"TABLE {QUOTED}.{QUOTED}"),
        (Kind.TYPE, ObjectName("s", EVIL), f'TYPE "s".{QUOTED}'),
        (Kind.ROUTINE, ObjectName("s", EVIL, ""), f'ROUTINE "s".{QUOTED}()'),
        (Kind.ROUTINE, ObjectName("s", "f", f"integer, s.{QUOTED}[]"), f'ROUTINE "s"."f"(integer, s.{QUOTED}[])'),
    ],
)
def test_hostile_names_are_quoted_wherever_they_stand(kind: Kind, name: ObjectName, written: str) -> None:
    given = step(name, kind=kind, grantee=EVIL)
    assert compose(given).as_string(None) == f"GRANT ALL PRIVILEGES ON {written} TO {QUOTED} WITH GRANT OPTION"
    taken = step(name, kind=kind, grantee=EVIL, verb=Verb.REVOKE, every_privilege=False, privileges=("USAGE", "CREATE"))
    assert compose(taken).as_string(None) == f"REVOKE USAGE, CREATE ON {written} FROM {QUOTED}"


@pytest.mark.parametrize("schema", [None, EVIL])
def test_hostile_names_are_quoted_in_default_privileges(schema: str | None) -> None:
    item = DefaultItem(creator=EVIL, schema=schema, kind=Kind.ROUTINE, privileges=("EXECUTE",))
    given = DefaultStep(verb=Verb.GRANT, grantee=EVIL, item=item, every_privilege=True, grant_option=False)
    place = "" if schema is None else f" IN SCHEMA {QUOTED}"
    assert compose(given).as_string(None) == (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {QUOTED}{place} GRANT ALL PRIVILEGES ON ROUTINES TO {QUOTED}"
    )


# ------------------------------------------------------------------ patterns
@pytest.mark.parametrize(
    ("name", "patterns", "found"),
    [
        ("orders", ["*"], True),
        ("orders", ["ord*"], True),
        ("orders", ["Ord*"], False),
        ("orders", ["order"], False),
        ("orders", ["order?"], True),
        ("orders", ["x", "[n-p]rders"], True),
        ("orders", [], False),
        ("pgboss", ["pg_*"], False),
        ("a.b", ["a?b"], True),
        ("a[b", ["a[[]b"], True),
    ],
)
def test_patterns_are_those_of_a_shell_and_case_counts(name: str, patterns: list[str], found: bool) -> None:
    assert matches(name, patterns) is found


def test_a_scope_is_the_schemas_less_the_excluded() -> None:
    scope = Scope(schemas=("app*",), exclude_schemas=("*_old",))
    assert ["app" in scope, "app_old" in scope, "other" in scope] == [True, False, False]
    assert [Scope().whole_database, Scope(exclude_schemas=("x",)).whole_database, scope.whole_database] == [
        True, False, False,
    ]  # fmt: skip


def test_an_entitlement_names_only_what_the_server_knows() -> None:
    wanted = Entitlement(grantee="x", privileges={Kind.TABLE: ("SELECT", "MAINTAIN"), Kind.SCHEMA: None})
    assert wanted.of(Kind.TABLE, KNOWN) == ("SELECT",)
    assert wanted.of(Kind.SCHEMA, KNOWN) == ("CREATE", "USAGE")
    assert wanted.of(Kind.TYPE, KNOWN) == ()
