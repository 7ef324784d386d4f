# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, comments, profiles, and what is to be fenced: all without a server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import json
import re

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.drift import assess, compared, findings
from ansible_collections.latchkey.postgres.plugins.module_utils._access.fence import commands, plan_fence
from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Ledger, Marked, Tie
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import (
    CONTENTS,
    Mark,
    Permission,
    Profile,
    RoleKind,
    read_mark,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Kind

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
SOON, LATER, PAST = NOW + dt.timedelta(hours=1), NOW + dt.timedelta(hours=2), NOW - dt.timedelta(hours=1)
LONGEST = 63

# ------------------------------------------------------------------ names
IDENTITIES = (
    "ann@example.org",
    "Ann@example.org",
    "Ana Müller <ana@corp.com>",
    "李雷",
    "😀",
    'o\'neil "the" boss',
    "100%s\\",
    "pg_x",
    "latchkey_managed",
    "pg",
    "-",
    "_",
    "a" * 64,
    "a" * 63,
    "a" * 63 + "b",
    "a" * 256,
)


def test_every_identity_has_a_login_of_its_own_that_fits_and_needs_no_quotes() -> None:
    logins = [names.login_role(identity) for identity in IDENTITIES]
    assert len(set(logins)) == len(IDENTITIES)
    for login in logins:
        assert re.fullmatch(r"[a-z0-9_]+_[0-9a-f]{8}", login), login
        assert len(login.encode()) <= LONGEST
        assert not login.startswith(("pg_", "latchkey_"))


@pytest.mark.parametrize("make", [names.grant_role, names.profile_role])
def test_roles_of_requests_and_scopes_fit_and_differ(make: object) -> None:
    assert callable(make)
    found = [make(identity) for identity in IDENTITIES]
    assert len(set(found)) == len(IDENTITIES)
    assert all(len(name) <= LONGEST and re.fullmatch("latchkey_[gp]_[0-9a-f]{16}", name) for name in found)


# ------------------------------------------------------------------ comments
@pytest.mark.parametrize("kind", RoleKind)
def test_a_comment_is_read_as_it_was_written(kind: RoleKind) -> None:
    mark = Mark(kind=kind, facts={"request": "R'1\\\"%s", "grantee": "李雷", "by": None})
    assert read_mark(mark.text()) == mark
    assert json.loads(mark.text())["v"] == 1


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "hello",
        "{",
        "[]",
        "1",
        "null",
        '"grant"',
        "{}",
        '{"kind": 1}',
        '{"kind": "boss"}',
        '{"kind": ["grant"]}',
        "[" * 100000,
        '{"kind": "grant", "login": "\\ud800"}',
        '{"kind": "grant", "login": "\\u0000"}',
        '{"kind": "profile", "schemas": ["a", "\\u0000"]}',
        '{"kind": "grant", "\\udfff": "a"}',
    ],
)
def test_a_comment_of_somebody_else_is_none_of_ours(comment: str | None) -> None:
    assert read_mark(comment) is None


# ------------------------------------------------------------------ profiles
def test_the_same_scope_is_one_profile_and_another_is_another() -> None:
    one = Profile(database="d", permission=Permission.READ_ONLY, schemas=("a", "b"))
    assert one.role == Profile(database="d", permission=Permission.READ_ONLY, schemas=("a", "b")).role
    others = [
        dataclasses.replace(one, **change)  # type: ignore[arg-type]
        for change in (
            {"database": "e"},
            {"permission": Permission.READ_WRITE},
            {"schemas": ("a",)},
            {"schemas": ("a,b",)},
            {"objects": ("t",)},
            {"objects": ()},
        )
    ]
    assert len({one.role, *(other.role for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("objects", [None, ("t_*", "x")])
@pytest.mark.parametrize("permission", Permission)
def test_a_profile_is_read_back_from_its_comment(permission: Permission, objects: tuple[str, ...] | None) -> None:
    profile = Profile(database="d'\"", permission=permission, schemas=("ü*",), objects=objects)
    mark = read_mark(Mark(kind=RoleKind.PROFILE, facts={**profile.as_dict(), "seen": "1", "lagging": []}).text())
    assert mark is not None
    assert Profile.of(mark.facts) == profile


@pytest.mark.parametrize("permission", Permission)
def test_no_permission_can_be_passed_on_and_each_begins_with_connect(permission: Permission) -> None:
    entitlement = Profile(database="d", permission=permission).entitlement("r")
    assert not entitlement.grant_option
    everything = entitlement.privileges[Kind.DATABASE]
    assert everything is None or "CONNECT" in everything


def test_only_admin_of_a_whole_database_may_make_schemas_and_of_tables_nothing_beside_them() -> None:
    def of(**scope: tuple[str, ...]) -> dict[Kind, tuple[str, ...] | None]:
        profile = Profile(database="d", permission=Permission.ADMIN, **scope)  # type: ignore[arg-type]
        return dict(profile.entitlement("r").privileges)

    assert of()[Kind.DATABASE] is None
    assert of(schemas=("s",))[Kind.DATABASE] == ("CONNECT", "TEMPORARY")
    assert of(schemas=("s",))[Kind.SCHEMA] is None
    tables = of(objects=("t",))
    assert tables[Kind.DATABASE] == ("CONNECT", "TEMPORARY")
    assert tables[Kind.SCHEMA] == ("USAGE",)
    assert {Kind.ROUTINE, Kind.TYPE}.isdisjoint(tables)


def test_reading_is_less_than_writing_and_writing_less_than_admin() -> None:
    read, write, admin = (CONTENTS[one] for one in (Permission.READ_ONLY, Permission.READ_WRITE, Permission.ADMIN))
    for kind in read:
        assert set(read[kind] or ()) <= set(write[kind] or ())
    assert set(write) <= set(admin)


# ------------------------------------------------------------------ a ledger by hand
OIDS = itertools.count(20000)


def made(kind: RoleKind | None, name: str, **facts: object) -> Marked:
    """A role of ours; `until` and `login` are its own."""
    until, login = facts.pop("until", None), facts.pop("login", False)
    mark = None if kind is None else Mark(kind=kind, facts=facts)
    assert until is None or isinstance(until, dt.datetime)
    return Marked(oid=next(OIDS), name=name, login=bool(login), valid_until=until, mark=mark)


def request(name: str, grantee: str = "ann", until: dt.datetime | None = SOON) -> Marked:
    """The role of a request."""
    facts = {"request": name, "grantee": grantee}
    mark = Mark(kind=RoleKind.GRANT, facts={**facts, "login": f"{grantee}_u"})
    return Marked(oid=next(OIDS), name=names.grant_role(name), login=False, valid_until=until, mark=mark)


def ann(until: dt.datetime | None = SOON, login: bool = True) -> Marked:
    """The login of a person."""
    return made(RoleKind.LOGIN, "ann_u", grantee="ann", auth="password", secret=None, until=until, login=login)


def ledger(*roles: Marked, ties: tuple[tuple[str, str], ...] = (), version: int = 170000) -> Ledger:
    """Roles, and who is a member of what (role, member)."""
    by_name = {role.name: role for role in roles}
    found = tuple(
        Tie(
            role=role,
            member=member,
            member_oid=by_name[member].oid if member in by_name else 1,
            member_login=by_name[member].login if member in by_name else True,
            grantor="apono_connector",
            inherit=True,
            set=False,
        )
        for role, member in ties
    )
    return Ledger(now=NOW, version=version, roles=by_name, ties=found)


# ------------------------------------------------------------------ plan_fence
def test_the_last_grant_shuts_the_login_and_ends_its_sessions() -> None:
    one, login = request("1"), ann()
    found = plan_fence(ledger(one, login, ties=((one.name, "ann_u"),)), [one])
    assert (found.grants, found.shut, found.until, found.sessions) == ((one,), (login,), {}, {login.oid})


@pytest.mark.parametrize(("version", "ended"), [(150000, True), (160000, False)])
def test_another_grant_keeps_the_login_until_its_own_end(version: int, ended: bool) -> None:
    one, other, login = request("1", until=LATER), request("2", until=SOON), ann(until=LATER)
    book = ledger(one, other, login, ties=((one.name, "ann_u"), (other.name, "ann_u")), version=version)
    found = plan_fence(book, [one])
    assert (found.shut, found.until) == ((), {"ann_u": SOON})
    assert found.sessions == ({login.oid} if ended else set())
    assert plan_fence(book, [one], always=True).sessions == {login.oid}
    assert plan_fence(book, [one, other]).shut == (login,)


@pytest.mark.parametrize("end", [PAST, None, NOW])
def test_a_grant_that_is_over_or_has_no_end_keeps_nothing_open(end: dt.datetime | None) -> None:
    one, other, login = request("1"), request("2", until=end), ann()
    book = ledger(one, other, login, ties=((one.name, "ann_u"), (other.name, "ann_u")))
    assert plan_fence(book, [one]).shut == (login,)


def test_an_existing_login_is_not_shut_and_its_sessions_end() -> None:
    one = request("1")
    book = ledger(one, ties=((one.name, "ann_u"),))
    found = plan_fence(book, [one])
    assert (found.shut, found.until) == ((), {})
    assert found.sessions == {1}
    text = " ".join(command.as_string(None) for command in commands(found, book))
    assert "NOLOGIN" not in text
    assert f'REVOKE "{one.name}" FROM "ann_u"' in text


def test_what_a_member_by_hand_has_is_taken_and_a_group_has_no_sessions() -> None:
    one, login = request("1"), ann()
    book = ledger(one, login, ties=((one.name, "ann_u"), (one.name, "stranger")))
    text = " ".join(command.as_string(None) for command in commands(plan_fence(book, [one]), book))
    assert f'REVOKE "{one.name}" FROM "stranger"' in text


def test_the_fence_ends_the_grant_before_all_else_and_only_if_it_lasts() -> None:
    for until, first in ((SOON, "ALTER ROLE"), (None, "ALTER ROLE"), (PAST, "REVOKE")):
        one, login = request("1", until=until), ann()
        book = ledger(one, login, ties=((one.name, "ann_u"),))
        assert commands(plan_fence(book, [one]), book)[0].as_string(None).startswith(first), until


def test_an_iam_login_leaves_rds_iam_when_it_is_shut() -> None:
    one, login = request("1"), ann()
    book = ledger(one, login, ties=((one.name, "ann_u"), ("rds_iam", "ann_u")))
    text = [command.as_string(None) for command in commands(plan_fence(book, [one]), book)]
    assert 'REVOKE "rds_iam" FROM "ann_u"' in text


# ------------------------------------------------------------------ assess
def test_a_ledger_in_order_has_nothing_to_tell() -> None:
    one, login = request("1"), ann()
    profile = made(RoleKind.PROFILE, "latchkey_p_1", database="d")
    book = ledger(one, login, profile, ties=((one.name, "ann_u"), ("latchkey_p_1", one.name)))
    assert findings(assess(book)) == ()
    assert assess(book).expired == ()


@pytest.mark.parametrize("end", [PAST, NOW, None])
def test_what_is_over_or_without_an_end_has_expired(end: dt.datetime | None) -> None:
    one = request("1", until=end)
    assert assess(ledger(one)).expired == (one,)


def test_who_is_gone_has_no_grants_left_and_nobody_else_loses_any() -> None:
    one, other, login = request("1"), request("2", grantee="bob"), ann()
    book = ledger(one, other, login, ties=((one.name, "ann_u"), (other.name, "bob_u")))
    assert assess(book, gone=["ann"]).expired == (one,)


def drifts(book: Ledger) -> set[tuple[str, str]]:
    """What is found, by kind and role."""
    return {(one.kind, one.role) for one in findings(assess(book))}


def test_each_kind_of_drift_is_found() -> None:
    one, login = request("1"), ann()
    in_order = (one.name, "ann_u"), ("latchkey_p_1", one.name)
    profile = made(RoleKind.PROFILE, "latchkey_p_1", database="d")
    assert drifts(ledger(ann())) == {("open_login", "ann_u")}
    assert drifts(ledger(one, ann(until=LATER), profile, ties=in_order)) == {("wrong_end", "ann_u")}
    assert drifts(ledger(one, ann(until=None), profile, ties=in_order)) == {("wrong_end", "ann_u")}
    assert drifts(ledger(one, ann(login=False), profile, ties=in_order)) == {("shut_login", "ann_u")}
    assert drifts(ledger(one, login, ties=in_order[:1])) == {("empty_grant", one.name)}
    more = {
        ("stray_member", "stranger"): (("latchkey_p_1", "stranger"),),
        ("stray_member", "guest"): ((one.name, "guest"),),
        ("stray_member", "ann_u"): (("latchkey_p_1", "ann_u"),),
        ("other_membership", "ann_u"): (("pg_monitor", "ann_u"),),
    }
    for expected, ties in more.items():
        assert drifts(ledger(one, login, profile, ties=(*in_order, *ties))) == {expected}
    assert drifts(ledger(made(None, "odd"))) == {("unknown_role", "odd")}


def test_a_shut_login_and_a_role_that_is_an_iam_logins_are_no_drift() -> None:
    one, login = request("1"), ann()
    profile = made(RoleKind.PROFILE, "latchkey_p_1", database="d")
    ties = ((one.name, "ann_u"), ("latchkey_p_1", one.name), ("rds_iam", "ann_u"))
    assert drifts(ledger(one, login, profile, ties=ties)) == set()
    assert drifts(ledger(ann(login=False, until=PAST))) == set()


def test_a_finding_that_is_gone_afterwards_was_repaired() -> None:
    before = findings(assess(ledger(ann())))
    assert [one.repaired for one in compared(before, ())] == [True]
    assert [one.repaired for one in compared(before, before)] == [False]


def test_a_request_is_found_by_its_comment_and_else_by_its_name() -> None:
    renamed = dataclasses.replace(request("1"), name="renamed")
    assert ledger(renamed).request("1") is renamed
    bare = dataclasses.replace(request("2"), mark=None)
    assert ledger(bare).request("2") is bare
    taken = dataclasses.replace(request("3"), name=names.grant_role("4"))
    assert ledger(taken).request("4") is None
