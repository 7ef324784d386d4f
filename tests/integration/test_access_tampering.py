# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DBA takes away what the ledger goes by: the mark, the role that marks, a comment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.info import INFO
from tests.integration.access import (
    bootstrapped,
    connector_options,
    expire,
    gets_in,
    grant,
    revoke,
    sweep,
    through,
)
from tests.integration.product import run_in, succeeded
from tests.integration.test_faults_common import refused, unchanged

if TYPE_CHECKING:
    from tests.rig import ShapedServer

Shaped = Callable[..., "ShapedServer"]
WHO, REQUEST = "ann@example.com", "tampering"
ROLE = names.grant_role(REQUEST)
MARK = f"GRANT latchkey_managed TO {ROLE}"


def info(server: ShapedServer) -> dict[str, Any]:
    """All that pg_access_info tells."""
    return succeeded(through(INFO, connector_options(server)))


def test_a_grant_that_lost_its_mark_is_told_of_by_all_and_ended_once_it_has_it_again(
    shaped: Shaped, major: int
) -> None:
    server = shaped(major=major, shape="rds")
    bootstrapped(server)
    said = succeeded(grant(server, REQUEST, WHO))
    run_in(server, "postgres", f"SET ROLE apono_connector; REVOKE latchkey_managed FROM {ROLE}")
    with unchanged(server):
        for again in (revoke(server, REQUEST), grant(server, REQUEST, WHO)):
            refused(again, "database_refused", f"role {ROLE} of this request lacks the mark", MARK)
    swept = sweep(server)
    assert swept["failed"]
    assert MARK in swept["msg"]
    assert [one["role"] for one in info(server)["overdue"]] == [ROLE]
    run_in(server, "postgres", f"SET ROLE apono_connector; {MARK}")
    assert succeeded(sweep(server))["ended"] == []
    succeeded(revoke(server, REQUEST))
    assert not gets_in(server, said)


def test_who_dropped_the_role_that_marks_is_told_of_every_grant(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    succeeded(grant(server, REQUEST, WHO))
    run_in(server, "postgres", "DROP ROLE latchkey_managed")
    refused(sweep(server), "database_refused", "the server has no role latchkey_managed")
    assert [one["role"] for one in info(server)["overdue"]] == [ROLE]
    bootstrapped(server)
    swept = sweep(server)
    assert swept["failed"]
    assert MARK in swept["msg"]


def test_a_login_whose_comment_was_changed_is_shut_with_its_grant(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    for end in (lambda: revoke(server, REQUEST), lambda: (expire(server, REQUEST), sweep(server))[1]):
        said = succeeded(grant(server, REQUEST, WHO))
        run_in(server, "postgres", f"COMMENT ON ROLE {said['login']} IS 'contractor'")
        assert gets_in(server, said)
        assert succeeded(end())["fenced"] == [said["login"]]
        assert not gets_in(server, said)
        run_in(server, "postgres", f"DROP ROLE {said['login']}")


def test_a_comment_that_no_server_takes_back_stops_no_sweep(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    for number, strange in enumerate(("\\ud800", "\\u0000")):
        said = succeeded(grant(server, f"{REQUEST} {number}", WHO))
        role = names.grant_role(f"{REQUEST} {number}")
        text = f'{{"v": 1, "kind": "grant", "login": "{strange}"}}'
        run_in(server, "postgres", f"COMMENT ON ROLE {role} IS '{text}'", f"ALTER ROLE {role} VALID UNTIL '2020-01-01'")
        succeeded(sweep(server))
        assert not gets_in(server, said)


def test_what_a_profile_was_put_into_by_hand_is_told(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    succeeded(grant(server, REQUEST, WHO))
    profile = info(server)["profiles"][0]["role"]
    run_in(server, "postgres", f"GRANT app_alpha TO {profile}")
    drift = info(server)["drift"]
    assert [(one["kind"], one["role"]) for one in drift] == [("other_membership", profile)]
    assert "is in app_alpha" in drift[0]["what"]


def test_another_connector_is_told_whose_roles_are_in_the_way(shaped: Shaped) -> None:
    server = shaped(major=17, shape="azure")
    bootstrapped(server)
    succeeded(grant(server, REQUEST, WHO))
    bootstrapped(server, connector="second")
    second = {**connector_options(server), "login_user": "second"}
    with unchanged(server):
        for who in ("bob@example.com", WHO):
            said = grant(server, f"{REQUEST} 2", who, **second)
            refused(said, "database_refused", "login second has no ADMIN OPTION on", "WITH ADMIN TRUE")
