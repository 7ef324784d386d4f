# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run does by what it finds, and when it looks at all."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.policy import Policy, Window, judge, window
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.recovery import Action, Observation, decide
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Answer
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Description

IN, NO, UNKNOWN = Answer.IN, Answer.REFUSED, Answer.UNKNOWN
NOON = dt.datetime(2026, 11, 22, 12, 30, tzinfo=dt.timezone.utc)


# ------------------------------------------------------------------ the matrix
@pytest.mark.parametrize(
    ("current", "pending", "more", "expected"),
    [
        (IN, None, {}, Action.NOTHING),
        (IN, None, {"due": True}, Action.ROTATE),
        (IN, NO, {}, Action.APPLY),
        (IN, NO, {"due": True}, Action.APPLY),
        (IN, NO, {"other_login": True}, Action.APPLY),
        (IN, NO, {"fits": False}, Action.DISCARD),
        (IN, NO, {"fits": False, "other_login": True}, Action.DISCARD),
        (NO, IN, {}, Action.PROMOTE),
        (NO, IN, {"fits": False}, Action.PROMOTE),
        (NO, IN, {"other_login": True}, Action.PROMOTE),
        (IN, IN, {"other_login": True}, Action.PROMOTE),
        (IN, IN, {"other_login": True, "fits": False}, Action.DISCARD),
        (IN, IN, {"fits": False}, Action.STOP_BOTH),
        (IN, IN, {}, Action.STOP_BOTH),
        (IN, IN, {"promoted": True}, Action.FINISH),
        (IN, IN, {"promoted": True, "fits": False}, Action.FINISH),
        (NO, NO, {"promoted": True, "previous": IN}, Action.RESTORE),
        (NO, NO, {"promoted": True, "previous": NO}, Action.STOP_LOST),
        (NO, None, {}, Action.STOP_LOST),
        (NO, None, {"previous": NO}, Action.STOP_LOST),
        (NO, None, {"previous": IN}, Action.RESTORE),
        (NO, None, {"previous": NO, "may_reset": True}, Action.RESTORE),
        (NO, None, {"may_reset": True}, Action.RESTORE),
        (NO, NO, {}, Action.STOP_LOST),
        (NO, NO, {"previous": NO}, Action.STOP_LOST),
        (NO, NO, {"previous": IN}, Action.RESTORE),
        (NO, NO, {"previous": NO, "may_reset": True}, Action.RESTORE),
    ],
)
def test_every_state_has_one_action(
    current: Answer, pending: Answer | None, more: dict[str, Any], expected: Action
) -> None:
    assert decide(Observation(current=current, pending=pending, **more)) is expected


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("may_reset", [False, True])
def test_what_is_not_known_is_never_acted_upon(due: bool, promoted: bool, may_reset: bool) -> None:
    answers = (IN, NO, UNKNOWN, None)
    for current, pending, previous in itertools.product(answers[:3], answers, answers):
        if UNKNOWN not in (current, pending, previous):
            continue
        seen = Observation(
            current=current, pending=pending, previous=previous, due=due, promoted=promoted, may_reset=may_reset
        )
        assert decide(seen) is Action.STOP_UNKNOWN


def test_age_never_makes_a_difference_but_to_a_state_that_is_clean() -> None:
    for current, pending, previous in itertools.product((IN, NO), (IN, NO, None), (IN, NO, None)):
        found = {
            due: decide(Observation(current=current, pending=pending, previous=previous, due=due)) for due in (0, 1)
        }
        assert (found[0] is found[1]) is not (current is IN and pending is None)


def test_a_login_that_readers_can_use_gets_no_password_but_a_new_one() -> None:
    for pending, previous, due, other in itertools.product(
        (IN, NO, None), (IN, NO, None), (False, True), (False, True)
    ):
        seen = Observation(current=IN, pending=pending, previous=previous, due=due, other_login=other, may_reset=True)
        assert decide(seen) not in {Action.RESTORE, Action.STOP_LOST}


# ------------------------------------------------------------------ the window
@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22-04", {22, 23, 0, 1, 2, 3}),
        ("9-17", set(range(9, 17))),
        ("00-24", set(range(24))),
        ("0-1", {0}),
        ("23-0", {23}),
        (" 5-6 ", {5}),
    ],
)
def test_a_window_holds_its_hours(text: str, hours: set[int]) -> None:
    found = window(text)
    assert {hour for hour in range(24) if found.holds(NOON.replace(hour=hour, minute=59))} == hours


def test_a_window_is_of_utc() -> None:
    moment = dt.datetime(2026, 11, 22, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=3)))
    assert Window(start=22, end=23).holds(moment)


@pytest.mark.parametrize("text", ["22", "22:00-04:00", "24-3", "3-25", "5-5", "-", "a-b", "1-2-3", "22_04"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"^window: .*\. Write 22-04"):
        window(text)


# ------------------------------------------------------------------ due or not
def described(days: float | None, **stages: str) -> Description:
    changed_at = None if days is None else NOON - dt.timedelta(days=days)
    return Description(reference="x", stages={"current": "1", **stages}, changed_at=changed_at)


@pytest.mark.parametrize(
    ("days", "policy", "due", "now"),
    [
        (29.9, {}, False, False),
        (30, {}, True, True),
        (31, {}, True, True),
        (None, {}, True, True),
        (-1, {}, False, False),
        (-1, {"max_age": dt.timedelta(0)}, True, True),
        (0, {"max_age": dt.timedelta(0)}, True, True),
        (1, {"force": True}, True, True),
        (31, {"window": Window(start=12, end=13)}, True, True),
        (31, {"window": Window(start=13, end=12)}, True, False),
        (1, {"window": Window(start=12, end=13)}, False, False),
        (1, {"window": Window(start=13, end=12), "force": True}, True, True),
    ],
)
def test_age_and_hour_decide(days: float | None, policy: dict[str, Any], due: bool, now: bool) -> None:
    verdict = judge(Policy(**policy), described(days), now=NOON)
    assert (verdict.due, verdict.now, verdict.pending) == (due, now, False)


def test_what_is_pending_is_seen_whatever_the_age_and_the_hour() -> None:
    closed = Policy(window=Window(start=13, end=12))
    assert judge(closed, described(1, pending="2"), now=NOON).pending
    assert judge(closed, described(31, pending="2"), now=NOON).pending


def test_a_verdict_says_how_old_it_is_and_when_it_is_due() -> None:
    verdict = judge(Policy(), described(1.5), now=NOON)
    assert verdict.age_days == 1.5
    assert verdict.next_due == NOON + dt.timedelta(days=28.5)
    unknown = judge(Policy(), described(None), now=NOON)
    assert (unknown.age_days, unknown.next_due) == (None, None)
