# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Behind `pg_rotate_credentials`: look, decide, take the steps, and say what was done."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Door, Params, Result
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import (
    answer,
    guards,
    options,
    policy,
    setters,
    steps,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.recovery import Action, Observation, decide
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.rotation import Rotation, begin, lost
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Answer, Strategy
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import CURRENT

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.policy import Verdict
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Probe

Step = c.Callable[[Rotation], None]

# What logs in is verified once more: the second of two logins must also act as the first.
FROM_VERIFY: tuple[Step, ...] = (steps.verify, steps.promote, steps.confirm, steps.finish)
FROM_APPLY: tuple[Step, ...] = (steps.apply, *FROM_VERIFY)
PATHS: c.Mapping[Action, tuple[Step, ...]] = {
    Action.ROTATE: (steps.prepare, *FROM_APPLY),
    Action.APPLY: FROM_APPLY,
    Action.PROMOTE: FROM_VERIFY,
    Action.FINISH: (steps.confirm, steps.finish),
    Action.DISCARD: (steps.discard,),
    Action.RESTORE: (steps.restore,),
}
# After these it is looked at again: what was in the way is gone.
PREPARATORY = (Action.DISCARD, Action.RESTORE)
NEW_PASSWORDS = 3
LOOKS = 3


def rotate(params: Params, context: Context) -> Result:
    order = options.parse(params)
    guards.require_direct_address(order)
    store = access.open_store(order.reference.cloud)
    found = store.describe(order.name)
    guards.require_free(order, found)
    verdict = policy.judge(order.policy, found, now=dt.datetime.now(dt.timezone.utc))
    if not (verdict.now or verdict.pending):
        return answer.idle(order, found, verdict)
    with begin(order, store, context, options.administrator(params, context)) as rotation:
        reason = _work(rotation, verdict, begun=found.stages.get(CURRENT))
        return answer.of_rotation(rotation, verdict, reason)


def _work(rotation: Rotation, verdict: Verdict, *, begun: str | None) -> str | None:
    """Why nothing was done, if that has another reason than its age. In check mode steps are only noted.

    ``begun``: the version that was found to be due, before this run was alone.
    """
    # What is only finished has the password that it had before, and to be rid of that is what force is for.
    preparatory = (*PREPARATORY, Action.FINISH) if rotation.order.policy.force else PREPARATORY
    for _look in range(LOOKS):
        rotation.reread()
        action = _look_at(rotation, due=verdict.now)
        if action is Action.NOTHING:
            return None
        if action is Action.ROTATE and rotation.current.version != begun:
            return "another run has rotated it meanwhile"
        if rotation.order.defer and action in (Action.ROTATE, Action.APPLY) and _is_in_use(rotation):
            return answer.DEFERRED
        _follow(rotation, action)
        if action not in preparatory or rotation.context.check:
            return None
    raise DatabaseRefused(
        "it does not come to rest: somebody else changes the password or the secret at the same time",
        where=rotation.where,
        next_step="Find out who, then run again",
    )


def _look_at(rotation: Rotation, *, due: bool) -> Action:
    seen, probes = _observe(rotation, due=due)
    action = decide(seen)
    if action is Action.STOP_UNKNOWN:
        raise next(one.error for one in probes if one.answer is Answer.UNKNOWN and one.error)
    if action is Action.STOP_BOTH:
        raise DatabaseRefused(
            f"two different passwords of {rotation.current.user} are taken, so that no login proves anything",
            where=rotation.where,
            next_step="Give the server itself and no pooler",
        )
    if action is Action.STOP_LOST:
        raise lost(rotation.order, rotation.current.user)
    return action


def _observe(rotation: Rotation, *, due: bool) -> tuple[Observation, list[Probe]]:
    """Each password that fails counts with a server that slows down who guesses: the previous is asked last."""
    order, current, pending = rotation.order, rotation.current, rotation.pending
    probes = [rotation.probe(one) for one in (current, pending) if one is not None]
    answers = [one.answer for one in probes]
    other = setters.next_user(rotation)
    previous = rotation.read_previous() if set(answers) == {Answer.REFUSED} else None
    if previous is not None and previous.user not in (current.user, other):
        previous = None  # that somebody else logs in proves nothing of this login
    if previous is not None:
        probes.append(rotation.probe(previous))
    seen = Observation(
        current=answers[0],
        pending=answers[1] if pending is not None else None,
        previous=None if previous is None else probes[-1].answer,
        due=due,
        promoted=pending is not None and pending.is_same_login(current),
        other_login=pending is not None and pending.user != current.user,
        fits=pending is None or pending.user == other,
        may_reset=order.policy.force and order.strategy is Strategy.ADMIN,
    )
    return seen, probes


def _is_in_use(rotation: Rotation) -> bool:
    return guards.is_of_person(rotation.session, rotation.current.user, active=True)


def _follow(rotation: Rotation, action: Action) -> None:
    """A server may have rules for passwords that we do not know: another one may do."""
    path = PATHS[action]
    if rotation.context.check:
        _foresee(rotation, action)
    elif action in (Action.APPLY, Action.PROMOTE):
        steps.refresh(rotation)
    for _password in range(NEW_PASSWORDS - 1):
        try:
            return _take(rotation, path)
        except steps.PasswordRefused:
            path = PATHS[Action.ROTATE]
    return _take(rotation, path)


def _take(rotation: Rotation, path: tuple[Step, ...]) -> None:
    for step in path:
        if step is steps.finish and rotation.order.end_sessions:
            _take(rotation, (steps.end_older_sessions,))
        if not rotation.context.check:
            step(rotation)
        rotation.steps.append(step.__name__)


def _foresee(rotation: Rotation, action: Action) -> None:
    """What stops a run before anything is changed stops check mode too."""
    user = rotation.current.user
    if action is Action.ROTATE:
        user = setters.next_user(rotation)
    elif action in (Action.APPLY, Action.PROMOTE) and rotation.pending is not None:
        user = rotation.pending.user
    if {steps.apply, steps.restore} & set(PATHS[action]):
        setters.find_setter(rotation, user)
    rotation.foreseen = user


ROTATE = Door(arguments=options.ARGUMENTS, run=rotate, rules=options.RULES)
