# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What to do, by what is found: a run may have ended anywhere, and the next one begins here.

| pending   | current | pending | previous | action                                              |
| in store  | logs in | logs in | logs in  |                                                     |
|-----------|---------|---------|----------|-----------------------------------------------------|
| no        | yes     |         |          | ROTATE if due, else NOTHING                         |
| yes       | yes     | no      |          | APPLY: it ended before the server knew              |
| unfit     | yes     | no      |          | DISCARD: another strategy has left it               |
| yes       | no      | yes     |          | PROMOTE: it ended before readers got it             |
| yes       | yes     | yes     |          | STOP_BOTH; of another login PROMOTE, unfit DISCARD  |
| = current | yes     |         |          | FINISH: it ended before it was cleared              |
| any       | no      | no      | yes      | RESTORE: changed by hand, or a backup came back     |
| any       | no      | no      | no       | RESTORE if it may be reset, else STOP_LOST          |
| any one of them is not known            | STOP_UNKNOWN: no failure to connect is a wrong password |
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Answer


class Action(enum.Enum):
    NOTHING = "nothing"
    ROTATE = "rotate"
    APPLY = "apply"
    PROMOTE = "promote"
    FINISH = "finish"
    DISCARD = "discard"
    RESTORE = "restore"
    STOP_UNKNOWN = "stop: unknown"
    STOP_BOTH = "stop: both"
    STOP_LOST = "stop: lost"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Whom the server lets in; None for what is not there, or need not be asked.

    ``promoted``: what is pending is what readers get already. ``other_login``: it is for another login than current.
    ``fits``: it is what the strategy would make. ``may_reset``: an administrator was told to set what readers hold.
    """

    current: Answer
    pending: Answer | None = None
    previous: Answer | None = None
    due: bool = False
    promoted: bool = False
    other_login: bool = False
    fits: bool = True
    may_reset: bool = False


def decide(seen: Observation) -> Action:
    if Answer.UNKNOWN in (seen.current, seen.pending, seen.previous):
        return Action.STOP_UNKNOWN
    current = seen.current is Answer.IN
    if seen.pending is Answer.IN and not seen.promoted:
        return _roll_forward(seen) if current else Action.PROMOTE
    if current:
        return _go_on(seen)
    return Action.RESTORE if seen.previous is Answer.IN or seen.may_reset else Action.STOP_LOST


def _roll_forward(seen: Observation) -> Action:
    """Two passwords of one login can't both be right; of two logins they are."""
    if not seen.other_login:
        return Action.STOP_BOTH
    return Action.PROMOTE if seen.fits else Action.DISCARD


def _go_on(seen: Observation) -> Action:
    """Readers are served, and nothing is between the server and the store."""
    if seen.promoted:
        return Action.FINISH
    if seen.pending is not None:
        return Action.APPLY if seen.fits else Action.DISCARD
    return Action.ROTATE if seen.due else Action.NOTHING
