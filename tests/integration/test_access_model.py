# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access through random histories: grants, ends, time, crashes and a DBA who works by hand, on real servers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from tests.integration.access_model import (
    EXISTING,
    GRANTEES,
    ITEMS,
    OUTSIDER,
    PEOPLE,
    REQUESTS,
    A,
    B,
    Crash,
    Ours,
    Stage,
    World,
)
from tests.integration.test_properties import careful
from tests.rig import shaped_server

EXAMPLES, STEPS = 6, 14
KINDS = [(15, "azure"), (17, "rds")]

people, grantees, requests = (st.sampled_from(each) for each in (PEOPLE, GRANTEES, REQUESTS))
anybody = st.sampled_from((*GRANTEES, OUTSIDER))
items = st.sampled_from(tuple(ITEMS))
accesses = st.sampled_from(
    [frozenset({name}) for name in ITEMS]
    + [frozenset(some.split()) for some in ("read role", "write admin", "read execute")]
)
hours = st.integers(1, 4)
# A repeated grant has some 20 round trips, one that makes two profiles 150, a sweep with work 100.
crashes = st.one_of(
    st.none(),
    st.builds(Crash, at=st.integers(1, 40), after=st.booleans(), killed=st.booleans()),
    st.builds(Crash, at=st.integers(15, 120), after=st.booleans(), killed=st.booleans()),
)
profiles = st.sampled_from([name for name in ITEMS if "permission" in ITEMS[name]])


class History(RuleBasedStateMachine):
    """Random steps; who or what is meant need not be there, and then nothing happens."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.stage)

    def teardown(self) -> None:
        """Whatever happened, a sweep puts it right."""
        try:
            self.world.sweep()
        finally:
            self.world.close()

    @initialize(who=grantees, other=grantees, first=accesses, second=accesses)
    def begin(self, who: str, other: str, first: frozenset[str], second: frozenset[str]) -> None:
        """So that there is something to do it to."""
        self.world.grant(REQUESTS[0], who, first, 2)
        self.world.grant(REQUESTS[1], other, second, 3)

    # ------------------------------------------------------------------------------- the product
    @rule(request=requests, grantee=grantees, access=accesses, hours=hours, crash=crashes)
    def grant(self, request: str, grantee: str, access: frozenset[str], hours: int, crash: Crash | None) -> None:
        self.world.grant(request, grantee, access, hours, crash)

    @rule(request=requests, hours=hours, crash=crashes)
    def extend(self, request: str, hours: int, crash: Crash | None) -> None:
        known = self.world.requests.get(request)
        if known is not None:
            self.world.grant(request, known.grantee, known.items, hours, crash)

    @rule(request=requests, other=requests, access=accesses, hours=hours, crash=crashes)
    def overlap(self, request: str, other: str, access: frozenset[str], hours: int, crash: Crash | None) -> None:
        known = self.world.requests.get(request)
        if known is not None:
            self.world.grant(other, known.grantee, access, hours, crash)

    @rule(request=requests, crash=crashes)
    def revoke(self, request: str, crash: Crash | None) -> None:
        self.world.revoke(request, crash)

    @rule(crash=crashes)
    def sweep(self, crash: Crash | None) -> None:
        self.world.sweep(crash)

    @rule(hours=st.sampled_from((1.5, 3, 3, 9 * 24, 40 * 24)))
    def time_passes(self, hours: float) -> None:
        self.world.pass_time(hours)

    @rule(who=anybody)
    def visit(self, who: str) -> None:
        self.world.visit(who)

    # ------------------------------------------------------------------------------- a DBA
    @rule(request=requests, until=st.sampled_from((("2020-01-01", 0), ("-infinity", 0), ("infinity", 0))))
    def a_dba_ends_a_grant(self, request: str, until: tuple[str, float]) -> None:
        self.world.end_time(request, *until)

    @rule(who=people, until=st.sampled_from(("2020-01-01", "infinity", "2100-01-01")))
    def a_dba_changes_the_end_of_a_login(self, who: str, until: str) -> None:
        self.world.end_login(who, until)

    @rule(request=requests)
    def a_dba_drops_a_grant(self, request: str) -> None:
        self.world.drop_grant(request)

    @rule(who=people)
    def a_dba_drops_a_login(self, who: str) -> None:
        self.world.drop_login(who)

    @rule(item=profiles)
    def a_dba_drops_a_profile(self, item: str) -> None:
        self.world.drop_profile(item)

    @rule(request=requests, who=people, item=profiles, kind=st.sampled_from(("grant", "login", "profile")))
    def a_dba_renames(self, request: str, who: str, item: str, kind: str) -> None:
        self.world.rename(self._roles(kind, request, who, item))

    def _roles(self, kind: str, request: str, who: str, item: str) -> list[Ours]:
        seen = self.world.stage.look()
        found = {"grant": seen.grants(request), "login": seen.logins(who), "profile": seen.profiles(item)}
        return found[kind][:1]

    @rule(request=requests, who=anybody, item=profiles, kind=st.sampled_from(("grant", "profile")))
    def a_dba_gives_a_role_of_ours(self, request: str, who: str, item: str, kind: str) -> None:
        for role in self._roles(kind, request, who, item):
            self.world.give(role.oid, who)

    @rule(who=people)
    def a_dba_gives_another_role(self, who: str) -> None:
        self.world.give_unrelated(who)

    @rule(who=people, words=st.sampled_from(("", "LOGIN", "LOGIN VALID UNTIL 'infinity'")))
    def a_dba_sets_a_password(self, who: str, words: str) -> None:
        self.world.set_password(who, words)

    @rule(who=people)
    def a_dba_shuts_a_login(self, who: str) -> None:
        self.world.shut(who)

    @rule(request=requests, who=people, kind=st.sampled_from(("grant", "login")), database=st.sampled_from((A, B)))
    def a_role_owns_a_table(self, request: str, who: str, kind: str, database: str) -> None:
        self.world.own(self._roles(kind, request, who, ""), database)

    @rule(
        name=st.one_of(
            st.sampled_from((f"{names.GRANT}x", f"{names.PROFILE}x")),
            requests.map(names.grant_role),
            people.map(names.login_role),
        )
    )
    def a_role_that_is_not_ours_takes_a_name(self, name: str) -> None:
        self.world.squat(name)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """One server for the module, to which people also come without TLS, because it is quicker."""
    major, shape = request.param
    with shaped_server(major=major, shape=shape, plain=True) as server, contextlib.closing(Stage(server)) as made:
        yield made


# --------------------------------------------------------------------------------------------- told stories
ONE, TWO = PEOPLE[:2]
FIRST, SECOND = REQUESTS[:2]
READ, WRITE = frozenset({"read"}), frozenset({"write"})


def a_renamed_grant_is_revoked(world: World) -> None:
    world.grant(FIRST, ONE, READ, 2)
    world.rename(world.stage.look().grants(FIRST))
    world.revoke(FIRST)


def a_grant_whose_role_and_login_are_renamed_is_extended(world: World) -> None:
    world.grant(FIRST, ONE, READ, 2)
    world.rename([*world.stage.look().grants(FIRST), *world.stage.look().logins(ONE)])
    world.grant(FIRST, ONE, READ, 4)
    world.sweep()
    world.revoke(FIRST)


def a_request_whose_role_is_renamed_is_not_somebody_elses(world: World) -> None:
    world.grant(FIRST, ONE, READ, 2)
    world.rename(world.stage.look().grants(FIRST))
    world.grant(FIRST, TWO, READ, 2)


def a_grant_without_its_login_ends(world: World) -> None:
    world.grant(FIRST, ONE, READ, 2)
    world.drop_login(ONE)


def a_login_is_not_kept_open_by_the_grant_of_another(world: World) -> None:
    world.grant(FIRST, ONE, READ, 4)
    world.grant(SECOND, TWO, WRITE, 1)
    world.give(world.stage.look().grants(FIRST)[0].oid, TWO)
    world.pass_time(2)


def a_fenced_login_is_shut_again_though_it_is_in_the_grant_of_another(world: World) -> None:
    world.grant(FIRST, ONE, READ, 2)
    world.revoke(FIRST)
    world.grant(SECOND, TWO, WRITE, 2)
    world.give(world.stage.look().grants(SECOND)[0].oid, ONE)
    world.set_password(ONE, "LOGIN VALID UNTIL 'infinity'")


def a_session_does_not_outlive_a_membership_that_was_given_by_hand(world: World) -> None:
    world.grant(FIRST, ONE, READ, 4)
    world.give(world.stage.look().profiles("read")[0].oid, OUTSIDER)
    world.give(world.stage.look().grants(FIRST)[0].oid, EXISTING)
    world.visit(OUTSIDER)
    world.visit(EXISTING)


def a_profile_that_only_strangers_were_in_goes_with_them(world: World) -> None:
    world.grant(FIRST, ONE, READ, 4)
    world.give(world.stage.look().profiles("read")[0].oid, ONE)
    world.pass_time(5)
    world.sweep()
    world.pass_time(80 * 24)


def a_grant_that_owns_a_table_is_over(world: World) -> None:
    world.grant(FIRST, ONE, READ, 4)
    world.own(world.stage.look().grants(FIRST), A)
    world.give(world.stage.look().grants(FIRST)[0].oid, OUTSIDER)
    world.pass_time(5)
    world.sweep()
    world.grant(FIRST, ONE, READ, 4)


def a_crash_between_the_fence_and_the_sessions_leaves_none(world: World) -> None:
    for at in range(16, 24, 2):
        world.grant(FIRST, ONE, READ, 4)
        world.visit(ONE)
        world.grant(SECOND, ONE, WRITE, 4)
        world.revoke(FIRST, Crash(at=at, after=True))
        world.sweep()


STORIES = (
    a_renamed_grant_is_revoked,
    a_grant_whose_role_and_login_are_renamed_is_extended,
    a_request_whose_role_is_renamed_is_not_somebody_elses,
    a_grant_without_its_login_ends,
    a_login_is_not_kept_open_by_the_grant_of_another,
    a_fenced_login_is_shut_again_though_it_is_in_the_grant_of_another,
    a_session_does_not_outlive_a_membership_that_was_given_by_hand,
    a_profile_that_only_strangers_were_in_goes_with_them,
    a_grant_that_owns_a_table_is_over,
    a_crash_between_the_fence_and_the_sessions_leaves_none,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_after_a_sweep_the_model_holds(stage: Stage, story: Callable[[World], None]) -> None:
    with contextlib.closing(World(stage)) as world:
        story(world)
        world.sweep()


def test_nobody_has_more_or_less_than_was_given_whatever_happens(stage: Stage, request: pytest.FixtureRequest) -> None:
    plan = settings(careful(request, EXAMPLES), stateful_step_count=STEPS)
    run_state_machine_as_test(type("OnStage", (History,), {"stage": stage}), settings=plan)
