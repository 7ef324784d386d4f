# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every graph of roles and every plan, whatever it looks like."""

from __future__ import annotations

import collections
import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import RDS
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import (
    MEMBERSHIP_OPTIONS,
    Membership,
    Role,
    RoleGraph,
    Route,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import cut
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    MOST_OBJECTS,
    AnyStep,
    Batch,
    DefaultItem,
    DefaultStep,
    Kind,
    ObjectName,
    Step,
    Verb,
)

# Where the other tools keep what they remember.
set_hypothesis_home_dir(".cache/hypothesis")
ME, GROUP = "me", "rds_superuser"
NAMES = (ME, GROUP, "a", "b", "c", "d", "boss")
QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None, print_blob=True)


@st.composite
def graphs(draw: st.DrawFn) -> RoleGraph:
    """Roles whose memberships form no loop, as the server sees to; `boss` is a superuser."""
    order = draw(st.permutations(NAMES))
    pairs = list(itertools.combinations(order, 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=2, max_size=9))
    version = draw(st.sampled_from([130000, 150018, 160000, 170010, 180004]))
    memberships = []
    for role, member in chosen:
        flags = st.sampled_from([True, True, False])
        settable = True if version < MEMBERSHIP_OPTIONS else draw(flags)
        memberships.append(
            Membership(role=role, member=member, admin=draw(flags), inherit=draw(flags), set=settable),
        )
    roles = {name: Role(name=name, oid=number, superuser=name == "boss") for number, name in enumerate(NAMES, 16384)}
    roles[ME] = Role(name=ME, oid=1, create_role=True, login=True)
    return RoleGraph(me=ME, version=version, roles=roles, platform=RDS, memberships=tuple(memberships))


class Simulation:
    """The rules of the server for one login, tried out one statement after another."""

    def __init__(self, graph: RoleGraph) -> None:
        self.graph = graph
        self.rows = {(m.role, m.member, m.admin, m.inherit, m.set) for m in graph.memberships}

    def reached(self, *, inherit: bool = False, settable: bool = False) -> set[str]:
        """All that the login is a member of by memberships of this sort."""
        found = {ME}
        for _round in NAMES:
            found |= {
                role
                for role, member, _admin, inherits, sets in self.rows
                if member in found and inherits >= inherit and sets >= settable
            }
        return found

    def grant(self, role: str, *, inherit: bool, settable: bool) -> bool:
        """GRANT role TO me; whether the server takes it."""
        if self.graph.roles[role].superuser:
            return False
        if self.graph.version >= MEMBERSHIP_OPTIONS:
            mine = self.reached(inherit=True)
            allowed = any(r == role and member in mine and admin for r, member, admin, _inherit, _set in self.rows)
        else:
            allowed = ME not in Simulation._members_up(self.rows, role)
        if allowed:
            self.rows.add((role, ME, False, inherit, settable))
        return allowed

    def acts_as(self, role: str) -> bool:
        """Whether the login may take on the role, or has all of its rights."""
        return role in self.reached(settable=True) or role in self.reached(inherit=True)

    def clone(self) -> Simulation:
        """A second one, to try something in."""
        other = Simulation(self.graph)
        other.rows = set(self.rows)
        return other

    @staticmethod
    def _members_up(rows: set[tuple[str, str, bool, bool, bool]], start: str) -> set[str]:
        found = {start}
        for _round in NAMES:
            found |= {role for role, member, *_flags in rows if member in found}
        return found


def reachable(graph: RoleGraph, target: str) -> bool:
    """Whether any order of borrowing customer roles ends with acting as the target."""
    simulation = Simulation(graph)
    if simulation.acts_as(target):
        return True
    if graph.roles[target].superuser:
        return False
    lenders = [name for name in NAMES if name not in (ME, target) and not RDS.owns_role(name)]
    for _round in NAMES:
        for lender in lenders if graph.version >= MEMBERSHIP_OPTIONS else ():
            simulation.grant(lender, inherit=True, settable=False)
    for last in (target, *lenders):
        attempt = simulation.clone()
        if attempt.grant(last, inherit=True, settable=True) and attempt.acts_as(target):
            return True
    return False


def follows(graph: RoleGraph, route: Route) -> bool:
    """Whether a route works, step by step."""
    simulation = Simulation(graph)
    for role in route.borrow[:-1]:
        if not simulation.grant(role, inherit=True, settable=False):
            return False
    if route.borrow and not simulation.grant(route.borrow[-1], inherit=route.inherited, settable=not route.inherited):
        return False
    if route.inherited:
        return route.role in simulation.reached(inherit=True)
    return route.role in simulation.reached(settable=True)


def detours() -> RoleGraph:
    """Owners reached by a lender's inherited ADMIN (c), and by a borrowed role's own membership (d)."""
    return RoleGraph(
        me=ME,
        version=MEMBERSHIP_OPTIONS,
        roles={name: Role(name=name, oid=number) for number, name in enumerate(NAMES, 16384)},
        platform=RDS,
        memberships=(
            Membership(role="a", member=ME, admin=True, inherit=False, set=False),
            Membership(role="b", member="a", set=False),
            Membership(role="c", member="b", admin=True, inherit=False, set=False),
            Membership(role="d", member="a"),
        ),
    )


@QUICK
@example(detours())
@given(graphs())
def test_a_route_is_found_exactly_where_the_rules_of_the_server_leave_one(graph: RoleGraph) -> None:
    """No owner is given up that could be reached, and none is promised that can't."""
    for name in NAMES:
        route = graph.route(name)
        assert (route is not None) == reachable(graph, name), name
        assert route is None or (route.proven and route.role == name and follows(graph, route)), route


@QUICK
@given(graphs())
def test_a_route_is_as_short_as_can_be(graph: RoleGraph) -> None:
    """Leaving a lender out breaks it."""
    for name in NAMES:
        route = graph.route(name)
        for left_out in range(len(route.borrow) - 1 if route else 0):
            rest = (*route.borrow[:left_out], *route.borrow[left_out + 1 :]) if route else ()
            assert not follows(graph, Route(role=name, borrow=rest)), (name, rest)


SIZES = st.one_of(st.integers(0, 12), st.integers(MOST_OBJECTS - 3, MOST_OBJECTS + 3), st.integers(0, 1600))
KINDS = st.sampled_from([Kind.TABLE, Kind.SCHEMA, Kind.ROUTINE])


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Work of one owner; every object is named once."""
    steps: list[AnyStep] = []
    for number, size in enumerate(draw(st.lists(SIZES, min_size=1, max_size=4))):
        kind = draw(KINDS)
        if not size:
            item = DefaultItem(creator="o", schema=f"s{number}", kind=kind, privileges=("USAGE",))
            steps.append(DefaultStep(verb=Verb.GRANT, grantee="g", item=item, every_privilege=False, grant_option=True))
            continue
        steps.append(
            Step(
                verb=Verb.GRANT,
                grantee="g",
                kind=kind,
                privileges=("USAGE",),
                every_privilege=True,
                objects=tuple(ObjectName(f"s{number}", f"o{serial}") for serial in range(size)),
                grant_option=True,
            )
        )
    return Batch(owner="o", steps=tuple(steps), route=Route(role="o", borrow=("o",)))


def work(*parts: Batch) -> list[tuple[object, ...]]:
    """All that is to be done, in order, name by name and with the words it is done with."""
    done: list[tuple[object, ...]] = []
    for step in itertools.chain.from_iterable(part.steps for part in parts):
        if isinstance(step, DefaultStep):
            done.append((step,))
        else:
            rest = (step.verb, step.grantee, step.kind, step.privileges, step.every_privilege, step.grant_option)
            done += [(*rest, name) for name in step.objects]
    return done


@QUICK
@given(batches())
def test_cutting_loses_nothing_doubles_nothing_and_names_at_most_500(batch: Batch) -> None:
    """The parts are the whole in its order, done by the same way."""
    parts = list(cut(batch))
    assert work(*parts) == work(batch)
    assert max(part.size for part in parts) <= MOST_OBJECTS == 500
    assert {(part.owner, part.route) for part in parts} == {(batch.owner, batch.route)}
    assert all(part.steps for part in parts)


@QUICK
@given(batches())
def test_few_transactions_are_made_of_a_batch(batch: Batch) -> None:
    """Any two neighbours of the parts would be too big as one."""
    parts = list(cut(batch))
    assert all(one.size + _first(following) > MOST_OBJECTS for one, following in itertools.pairwise(parts))


def _first(batch: Batch) -> int:
    return len(batch.steps[0].objects) or 1


@QUICK
@given(batches())
def test_splitting_ends_at_single_objects_and_loses_none(batch: Batch) -> None:
    """Halving again and again, as is done when a batch is refused, comes to every object once."""
    waiting, single = collections.deque([batch]), []
    while waiting:
        part = waiting.popleft()
        if part.size == 1:
            single.append(part)
            continue
        halves = part.split()
        assert len(halves) == 2
        assert all(0 < half.size < part.size for half in halves)
        assert work(*halves) == work(part)
        if part.size <= 40:
            waiting.extend(halves)
    assert all(part.size == 1 for part in single)
