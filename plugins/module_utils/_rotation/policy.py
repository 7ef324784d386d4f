# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""When a password is to be changed: its age, and the hours of the day in which that may be done."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import PENDING

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Description

WINDOW = re.compile(r"([01]?\d|2[0-3])-([01]?\d|2[0-4])")
DAY = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """From the beginning of the hour ``start`` to that of ``end``, in UTC; it may go over midnight."""

    start: int
    end: int

    def holds(self, moment: dt.datetime) -> bool:
        hour = moment.astimezone(dt.timezone.utc).hour
        if self.start < self.end:
            return self.start <= hour < self.end
        return hour >= self.start or hour < self.end

    def __str__(self) -> str:
        return f"{self.start:02}-{self.end:02} UTC"


@dataclass(frozen=True, kw_only=True)
class Policy:
    max_age: dt.timedelta = dt.timedelta(days=30)
    window: Window | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``due``: it is old enough. ``now``: and it may be done now. ``pending``: a run has not come to its end."""

    due: bool
    now: bool
    pending: bool
    reason: str
    age: dt.timedelta | None = None
    next_due: dt.datetime | None = None

    @property
    def age_days(self) -> float | None:
        return None if self.age is None else round(self.age / DAY, 2)


def window(text: str) -> Window:
    found = WINDOW.fullmatch(text.strip())
    if found is None or int(found[1]) == int(found[2]):
        raise InvalidOption(
            f"window: {text!r} is not two hours of a day", next_step="Write 22-04 for 22:00 to 04:00 UTC"
        )
    return Window(start=int(found[1]), end=int(found[2]))


def judge(policy: Policy, found: Description, *, now: dt.datetime) -> Verdict:
    """What has no known age is due: the first rotation gives it one."""
    age = None if found.changed_at is None else max(now - found.changed_at, dt.timedelta(0))
    due = policy.force or age is None or age >= policy.max_age
    closed = policy.window if due and not policy.force and policy.window and not policy.window.holds(now) else None
    if closed:
        reason = f"it is due, and waits for the window {closed}"
    elif policy.force:
        reason = "it is forced"
    else:
        reason = f"it is {'' if due else 'not '}older than {policy.max_age.days} days"
    return Verdict(
        due=due,
        now=due and not closed,
        pending=PENDING in found.stages,
        reason=reason,
        age=age,
        next_due=None if found.changed_at is None else found.changed_at + policy.max_age,
    )
