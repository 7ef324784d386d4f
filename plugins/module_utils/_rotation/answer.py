# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What is returned."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import period
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Result
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import CURRENT, PREVIOUS

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.options import Order
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.policy import Verdict
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.rotation import Rotation
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Description

DEFERRED = "the login belongs to a person whose access lasts"


def idle(order: Order, found: Description, verdict: Verdict) -> Result:
    """Nothing but the description was read."""
    secret = {"name": order.name, "version": found.stages.get(CURRENT), "previous": found.stages.get(PREVIOUS)}
    return Result(changed=False, values=_values(verdict, action="none", secret=secret))


def of_rotation(rotation: Rotation, verdict: Verdict, reason: str | None) -> Result:
    """``reason``: why nothing was done."""
    order, steps = rotation.order, rotation.steps
    previous = rotation.before.version if rotation.before.version != rotation.current.version else None
    secret = {"name": order.name, "version": rotation.current.version, "previous": previous}
    action = "deferred" if reason == DEFERRED else _action(steps)
    values = _values(verdict, action=action, secret=secret, username=rotation.current.user, steps=steps, reason=reason)
    if rotation.finished_at is not None:
        values["next_due"] = period.shown(rotation.finished_at + order.policy.max_age)
    return Result(changed=bool(steps), values=values, diff=_diff(rotation) if steps else None)


def _action(steps: list[str]) -> str:
    """The farthest that it came: what was put right on the way is in the steps."""
    words = {"prepare": "rotated", "confirm": "resumed", "restore": "restored", "discard": "resumed"}
    return next((word for step, word in words.items() if step in steps), "none")


def _values(
    verdict: Verdict,
    *,
    action: str,
    secret: dict[str, t.Any],
    username: str | None = None,
    steps: t.Sequence[str] = (),
    reason: str | None = None,
) -> dict[str, t.Any]:
    return {
        "action": action,
        "due": verdict.due,
        "age_days": verdict.age_days,
        "next_due": None if verdict.next_due is None else period.shown(verdict.next_due),
        "reason": reason or verdict.reason,
        "username": username,
        "secret": secret,
        "steps": list(steps),
    }


def _diff(rotation: Rotation) -> dict[str, str]:
    header = f"secret {rotation.order.name}"
    what = "a new password" if {"prepare", "promote"} & set(rotation.steps) else "the same password"
    return {
        "before_header": header,
        "after_header": header,
        "before": f"{rotation.before.user}\n",
        "after": f"{rotation.foreseen or rotation.current.user}, {what} ({', '.join(rotation.steps)})\n",
    }
