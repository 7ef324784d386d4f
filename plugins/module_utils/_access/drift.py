# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What the ledger shows that should not be so. Pure: it reads values and makes values."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import RoleKind
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import RDS_IAM

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked, Tie

UNMARKED = "unmarked_grant"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One finding. ``repaired``: whether this run has put it right."""

    kind: str
    role: str
    what: str
    repaired: bool = False


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """``stray``: memberships in roles of ours that no grant of ours made; ``others``: memberships that others gave."""

    expired: tuple[Marked, ...]
    open_without_grant: tuple[Marked, ...]
    wrong_end: c.Mapping[str, dt.datetime]
    stray: tuple[Tie, ...]
    others: tuple[Tie, ...]
    shut_with_grant: tuple[Marked, ...]
    strangers: tuple[Marked, ...]
    without_profile: tuple[Marked, ...]
    unmarked: tuple[str, ...]


def assess(ledger: Ledger, *, gone: c.Collection[str] = ()) -> Assessment:
    """``gone``: identities whose access ends now."""
    grants, logins = ledger.of_kind(RoleKind.GRANT), ledger.of_kind(RoleKind.LOGIN)
    over = tuple(g for g in grants if ledger.is_over(g) or g.fact("grantee") in gone)
    ending = {grant.name for grant in over}
    expired = (*over, *(g for g in grants if g.name not in ending and _is_empty(ledger, g)))
    ending = {grant.name for grant in expired}
    left = {u.name: [g for g in ledger.grants_of(u.name) if g.name not in ending] for u in logins}
    covered = {tie.member for grant in over for tie in ledger.members(grant.name)}
    ends = {u.name: max(g.valid_until for g in left[u.name] if g.valid_until) for u in logins if left[u.name]}
    return Assessment(
        expired=expired,
        open_without_grant=tuple(u for u in logins if u.login and not left[u.name] and u.name not in covered),
        wrong_end={
            u.name: ends[u.name] for u in logins if u.login and u.name in ends and u.valid_until != ends[u.name]
        },
        stray=tuple(tie for tie in ledger.ties if _is_stray(ledger, tie)),
        others=tuple(tie for tie in ledger.ties if _is_others(ledger, tie)),
        shut_with_grant=tuple(u for u in logins if not u.login and left[u.name]),
        strangers=tuple(role for role in ledger.roles.values() if role.kind is None),
        without_profile=tuple(g for g in grants if g.name not in ending and not ledger.memberships(g.name)),
        unmarked=ledger.unmarked,
    )


def _is_empty(ledger: Ledger, grant: Marked) -> bool:
    """Somebody has dropped the login that it was made for, or has taken it out. A part of the ledger can't tell."""
    return not any(ledger.is_made_for(grant, tie.member) for tie in ledger.members(grant.name))


def _is_stray(ledger: Ledger, tie: Tie) -> bool:
    """Profiles have no members but grants; a grant none but the login that it was made for; a login none at all."""
    role, member = ledger.roles.get(tie.role), ledger.roles.get(tie.member)
    if role is None or role.kind is None:
        return False
    if role.kind is RoleKind.LOGIN:
        return True
    if role.kind is RoleKind.PROFILE:
        return member is None or member.kind is not RoleKind.GRANT
    return not ledger.is_made_for(role, tie.member)


def _is_others(ledger: Ledger, tie: Tie) -> bool:
    """A person of ours, or all who have a profile, in a role of somebody else's: theirs to give, and ours to tell."""
    member = ledger.roles.get(tie.member)
    if member is None or member.kind not in (RoleKind.LOGIN, RoleKind.PROFILE):
        return False
    return tie.role not in ledger.roles and tie.role != RDS_IAM


def findings(found: Assessment) -> tuple[Drift, ...]:
    return (
        *(_said("open_login", u.name, "can log in, and has no grant") for u in found.open_without_grant),
        *(_said("wrong_end", name, "does not end with its last grant") for name in found.wrong_end),
        *(_said("stray_member", t.member, f"is in {t.role}, by the grant of {t.grantor}") for t in found.stray),
        *(_said("other_membership", t.member, f"is in {t.role}, by the grant of {t.grantor}") for t in found.others),
        *(_said("shut_login", u.name, "can't log in, though a grant of it lasts") for u in found.shut_with_grant),
        *(_said("unknown_role", role.name, "is marked as ours, and its comment is not") for role in found.strangers),
        *(_said(UNMARKED, name, what_marks(name)) for name in found.unmarked),
        *(_said("empty_grant", g.name, f"request {g.fact('request')} gives nothing") for g in found.without_profile),
    )


def what_marks(name: str) -> str:
    """Somebody has taken the mark away, or the role that marks."""
    return f"is named as a grant and lacks the mark, so that nothing ends it: GRANT {names.MARKER} TO {name}"


def _said(kind: str, role: str, what: str) -> Drift:
    return Drift(kind=kind, role=role, what=what)


def compared(before: c.Iterable[Drift], after: c.Collection[Drift]) -> tuple[Drift, ...]:
    """What was found, and whether it is gone now."""
    return tuple(replace(one, repaired=one not in after) for one in before)
