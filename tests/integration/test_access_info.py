# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_access_info tells is so: of requests, people and sessions, of drift, and of what can be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.info import INFO
from tests.integration.access import (
    DATABASE,
    bootstrapped,
    connector_options,
    expire,
    gets_in,
    grant,
    person,
    refusal,
    revoke,
    sweep,
    through,
)
from tests.integration.product import Log, ask, next_xid, run_in, succeeded
from tests.rig import ShapedServer

Shaped = Callable[..., ShapedServer]
EVERYTHING = {"journal": True, "public": True, "inventory": True}
READY: set[int] = set()


@pytest.fixture
def place(shaped_once: Shaped, major: int, shape: str) -> ShapedServer:
    """A bootstrapped server that the tests of this module share."""
    return prepared(shaped_once(major=major, shape=shape))


@pytest.fixture
def one_place(shaped_once: Shaped, major: int) -> ShapedServer:
    """The same, of one shape only."""
    return prepared(shaped_once(major=major, shape="azure"))


def prepared(server: ShapedServer) -> ShapedServer:
    """Bootstrap it once."""
    if id(server) not in READY:
        run_in(server, "postgres", "CREATE ROLE readers", user=server.admin)
        bootstrapped(server, grantable_roles=["readers"])
        # A superuser's objects are beyond reach on every version.
        run_in(
            server,
            DATABASE,
            "CREATE ROLE chief SUPERUSER",
            "CREATE SCHEMA chief_s AUTHORIZATION chief",
            "CREATE TABLE chief_s.t (id int)",
            "ALTER TABLE chief_s.t OWNER TO chief",
            "CREATE TABLE mixed_s.of_chief (id int)",
            "ALTER TABLE mixed_s.of_chief OWNER TO chief",
        )
        READY.add(id(server))
    return server


def tell(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """What the module says, as the connector unless told otherwise; it must work and change nothing."""
    said = succeeded(through(INFO, {**connector_options(server), **options}))
    assert said["changed"] is False
    json.dumps(said)
    return said


def only(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The one entry that there is."""
    (entry,) = entries
    return entry


def given_to(server: ShapedServer, request: str, grantee: str, **options: Any) -> dict[str, Any]:
    """A request that must be granted."""
    return succeeded(grant(server, request, grantee, **options))


def reporter(server: ShapedServer, name: str) -> dict[str, Any]:
    """The options of a login without any right."""
    run_in(server, "postgres", f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN PASSWORD 'x-{name}'")
    return {**connector_options(server), "login_user": name, "login_password": f"x-{name}"}


# ------------------------------------------------------------------------------------------- who has what
def test_a_request_shows_with_its_login_profile_and_session_and_is_gone_after_its_end(place: ShapedServer) -> None:
    given = given_to(place, "I-1", "ida@example.org", approver="olaf", connection_limit=3)
    with person(place, given) as session:
        session.execute("SET application_name = 'a client'")
        said = tell(place, grantee="ida@example.org")
        found = only(said["grants"])
        assert found["request_id"] == "I-1"
        assert (found["grantee"], found["login"], found["by"]) == ("ida@example.org", given["login"], "olaf")
        assert (found["expires_at"], found["overdue"], found["given"]) == (given["expires_at"], False, "full")
        assert found["start"] <= said["now"] < found["expires_at"]
        profile = {"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s"], "objects": None}
        assert found["access"] == [{**profile, "role": None, "complete": True}]
        login = only(said["logins"])
        assert (login["name"], login["open"], login["expires_at"]) == (given["login"], True, given["expires_at"])
        assert (login["requests"], login["connection_limit"], login["sessions"]) == (["I-1"], 3, 1)
        assert (login["auth"], login["secret"], login["fenced_since"]) == ("password", None, None)
        shared = only(said["profiles"])
        assert (shared["scope"], shared["complete"], shared["unused_since"]) == (profile, True, None)
        assert shared["used_by"] >= 1
        present = only(said["sessions"])
        assert present["pid"] == session.info.backend_pid
        assert (present["login"], present["grantee"]) == (given["login"], "ida@example.org")
        assert (present["database"], present["application_name"]) == (DATABASE, "a client")
        assert said["overdue"] == said["drift"] == []
    revoke(place, "I-1")
    after = tell(place, grantee="ida@example.org")
    assert (after["grants"], after["profiles"], after["sessions"]) == ([], [], [])
    login = only(after["logins"])
    assert (login["open"], login["expires_at"], login["requests"]) == (False, None, [])
    assert login["fenced_since"] <= after["now"]


def test_the_server_is_named(place: ShapedServer, major: int, shape: str) -> None:
    server = tell(place)["server"]
    assert server["version"].startswith(f"{major}.")
    assert {**server, "version": ""} == {
        "host": f"localhost:{place.port}",
        "version": "",
        "platform": shape,
        "login": "apono_connector",
        "standby": False,
    }


def test_creators_whose_new_objects_come_later_are_told(place: ShapedServer, major: int) -> None:
    """What somebody beyond reach makes is really not there before the next grant, and is after it."""
    run_in(place, "postgres", f"GRANT CREATE ON DATABASE {DATABASE} TO chief")
    wanted = [{"database": DATABASE, "permission": "READ_ONLY", "schemas": ["alpha_s", "hyb_s"]}]
    given = given_to(place, "I-later", "lee@example.org", access=wanted)
    later = only(tell(place, request_id="I-later")["profiles"])["later"]
    assert "chief" in later
    assert ("app_alpha" in later) == (major >= 16)
    run_in(place, DATABASE, "CREATE TABLE alpha_s.newest (id int)", user="app_alpha")
    with person(place, given) as session:
        assert (refusal(session, "SELECT FROM alpha_s.newest") is not None) == ("app_alpha" in later)
        given_to(place, "I-later", "lee@example.org", access=wanted)
        assert refusal(session, "SELECT FROM alpha_s.newest") is None
    run_in(place, DATABASE, "DROP TABLE alpha_s.newest")
    revoke(place, "I-later")


def test_requests_of_one_person_are_told_apart(place: ShapedServer) -> None:
    first = given_to(place, "I-2", "ove@example.org")
    write = {"database": DATABASE, "permission": "READ_WRITE", "schemas": ["alpha_s"], "tables": ["t_plain"]}
    second = given_to(place, "I-3", "ove@example.org", access=[write, {"role": "readers"}], duration="3h")
    said = tell(place, grantee="ove@example.org")
    assert [(g["request_id"], g["expires_at"]) for g in said["grants"]] == [
        ("I-2", first["expires_at"]),
        ("I-3", second["expires_at"]),
    ]
    login = only(said["logins"])
    assert (login["expires_at"], login["requests"]) == (second["expires_at"], ["I-2", "I-3"])
    found = only(tell(place, request_id="I-3")["grants"])
    assert [(item["permission"], item["objects"], item["role"]) for item in found["access"]] == [
        ("READ_WRITE", ["t_plain"], None),
        (None, None, "readers"),
    ]
    assert found["given"] == "full"
    assert tell(place, request_id="I-3", grantee="ida@example.org")["grants"] == []
    assert len(only(tell(place, request_id="I-3")["profiles"])["scope"]["objects"]) == 1
    run_in(place, "postgres", f"REVOKE readers FROM {names.grant_role('I-3')}", user="apono_connector")
    assert only(tell(place, request_id="I-3")["grants"])["given"] == "partial"
    revoke(place, "I-2")
    revoke(place, "I-3")


def test_less_than_was_asked_for_is_told(one_place: ShapedServer) -> None:
    wanted = [{"database": DATABASE, "permission": "READ_ONLY", "schemas": ["chief_s", "beta_s"]}]
    said = grant(one_place, "I-4", "pia@example.org", access=wanted, allow_partial=True)
    assert [item["status"] for item in said["items"]] == ["partial"]
    found = only(tell(one_place, request_id="I-4")["grants"])
    assert (found["given"], found["access"][0]["complete"]) == ("partial", False)
    assert not only(tell(one_place, request_id="I-4")["profiles"])["complete"]
    role = ask(one_place, f"SELECT roleid::regrole::text FROM pg_auth_members WHERE member = '{found['role']}'::regrole"
               " AND roleid <> 'latchkey_managed'::regrole")[0][0]  # fmt: skip
    run_in(one_place, "postgres", f"DROP ROLE IF EXISTS nobody; REVOKE {role} FROM {found['role']}",
           user="apono_connector")  # fmt: skip
    said = tell(one_place, request_id="I-4")
    assert only(said["grants"])["given"] == "none"
    assert [one["kind"] for one in said["drift"]] == ["empty_grant"]
    revoke(one_place, "I-4")


def test_an_existing_login_is_seen_with_its_sessions(one_place: ShapedServer) -> None:
    run_in(one_place, "postgres", "CREATE ROLE etta LOGIN PASSWORD 'etta-pw'")
    given_to(one_place, "I-5", "etta", login="existing")
    with one_place.connect(user="etta", password="etta-pw", dbname=DATABASE) as session:
        said = tell(one_place, grantee="etta")
        present = only(said["sessions"])
        assert (present["pid"], present["login"]) == (session.info.backend_pid, "etta")
        assert (said["logins"], only(said["grants"])["login"], said["overdue"]) == ([], "etta", [])
        revoke(one_place, "I-5")
    assert tell(one_place, grantee="etta")["sessions"] == []


# ------------------------------------------------------------------------------------------- what is not right
def test_what_is_over_is_overdue_until_a_sweep(place: ShapedServer) -> None:
    given_to(place, "I-6", "uwe@example.org")
    given_to(place, "I-7", "uwe@example.org")
    expire(place, "I-6")
    said = tell(place, grantee="uwe@example.org")
    assert [(g["request_id"], g["overdue"]) for g in said["grants"]] == [("I-6", True), ("I-7", False)]
    late = only(said["overdue"])
    assert (late["kind"], late["request_id"], late["grantee"]) == ("grant", "I-6", "uwe@example.org")
    assert late["since"] == "2020-01-01T00:00:00Z"
    sweep(place)
    after = tell(place, grantee="uwe@example.org")
    assert ([g["request_id"] for g in after["grants"]], after["overdue"]) == (["I-7"], [])
    revoke(place, "I-7")


def test_a_login_opened_by_hand_is_overdue(place: ShapedServer) -> None:
    given = given_to(place, "I-8", "ola@example.org")
    revoke(place, "I-8")
    assert tell(place, grantee="ola@example.org")["overdue"] == []
    run_in(place, "postgres", f"ALTER ROLE {given['login']} LOGIN PASSWORD 'by hand' VALID UNTIL 'infinity'")
    assert gets_in(place, {**given, "password": "by hand"})
    said = tell(place, grantee="ola@example.org")
    assert [(one["kind"], one["role"]) for one in said["overdue"]] == [("login", given["login"])]
    assert [(one["kind"], one["role"]) for one in said["drift"]] == [("open_login", given["login"])]
    sweep(place)
    assert tell(place, grantee="ola@example.org")["overdue"] == []


def test_a_session_of_a_shut_login_is_overdue(place: ShapedServer) -> None:
    given = given_to(place, "I-9", "sid@example.org")
    with person(place, given) as session:
        run_in(place, "postgres", f"DROP ROLE {names.grant_role('I-9')}", f"ALTER ROLE {given['login']} NOLOGIN")
        assert refusal(session, "SELECT 1") is None
        late = only(tell(place, grantee="sid@example.org")["overdue"])
        assert (late["kind"], late["role"]) == ("session", given["login"])
        sweep(place)
        assert refusal(session, "SELECT 1") is not None
    assert tell(place, grantee="sid@example.org")["overdue"] == []


def test_what_a_dba_grants_by_hand_is_told(place: ShapedServer) -> None:
    given = given_to(place, "I-10", "dan@example.org")
    role = names.grant_role("I-10")
    run_in(place, "postgres", f"GRANT {role} TO app_beta", f"GRANT app_hyb TO {given['login']}")
    said = tell(place, request_id="I-10")
    assert {(one["kind"], one["role"]) for one in said["drift"]} == {
        ("stray_member", "app_beta"),
        ("other_membership", given["login"]),
    }
    assert only(said["grants"])["login"] == given["login"]
    run_in(place, "postgres", f"REVOKE {role} FROM app_beta", f"REVOKE app_hyb FROM {given['login']}")
    assert tell(place, request_id="I-10")["drift"] == []
    revoke(place, "I-10")


def test_renamed_roles_are_found_by_their_comments(place: ShapedServer) -> None:
    given = given_to(place, "I-11", "ren@example.org")
    run_in(
        place,
        "postgres",
        f'ALTER ROLE {names.grant_role("I-11")} RENAME TO "Some Grant"',
        f'ALTER ROLE {given["login"]} RENAME TO "Some One"',
    )
    said = tell(place, request_id="I-11")
    assert (only(said["grants"])["role"], only(said["grants"])["login"]) == ("Some Grant", "Some One")
    assert only(said["grants"])["given"] == "full"
    assert (only(said["logins"])["name"], only(said["logins"])["open"]) == ("Some One", True)
    revoke(place, "I-11")
    assert tell(place, request_id="I-11")["grants"] == []


@pytest.mark.parametrize(
    "comment",
    [
        "NULL",
        "''",
        "'[1]'",
        "'{}'",
        "'{\"kind\": []}'",
        "'{\"kind\": \"grant\", \"start\": 5, \"scope\": {}, \"login\": [\"x\"], \"request\": null}'",
        "'{\"kind\": \"profile\", \"schemas\": 7, \"lagging\": 5, \"permission\": [], \"database\": null}'",
        "'{\"kind\": \"login\", \"grantee\": {\"a\": 1}}'",
    ],
)  # fmt: skip
def test_a_comment_that_somebody_changed_breaks_nothing(one_place: ShapedServer, comment: str) -> None:
    request = f"I-12 {comment}"
    given = given_to(one_place, request, "cora@example.org")
    role = names.grant_role(request)
    before = ask(one_place, f"SELECT shobj_description('{role}'::regrole, 'pg_authid')")[0][0]
    profile = only(tell(one_place, request_id=request)["profiles"])["role"]
    saved = ask(one_place, f"SELECT shobj_description('{profile}'::regrole, 'pg_authid')")[0][0]
    run_in(one_place, "postgres", *(f"COMMENT ON ROLE {r} IS {comment}" for r in (role, profile, given["login"])))
    tell(one_place, **EVERYTHING)
    old = {role: before, profile: saved}
    run_in(one_place, "postgres", *(f"COMMENT ON ROLE {name} IS $c${text}$c$" for name, text in old.items()))
    said = tell(one_place, request_id=request)
    assert only(said["grants"])["login"] == given["login"]
    revoke(one_place, request)
    run_in(one_place, "postgres", f"DROP ROLE {given['login']}")


@pytest.mark.parametrize("end", ["infinity", "12000-01-01", "294276-01-01", "-infinity", "4000-01-01 BC"])
def test_an_end_that_no_request_gives_is_overdue_and_swept(one_place: ShapedServer, end: str) -> None:
    request = f"I-13 {end}"
    given = given_to(one_place, request, f"{end}@example.org")
    run_in(
        one_place,
        "postgres",
        *(f"ALTER ROLE \"{r}\" VALID UNTIL '{end}'" for r in (names.grant_role(request), given["login"])),
    )
    said = tell(one_place, request_id=request)
    assert (only(said["grants"])["overdue"], only(said["overdue"])["kind"]) == (True, "grant")
    swept = succeeded(sweep(one_place))
    assert request in swept["ended"]
    assert not gets_in(one_place, given)
    assert tell(one_place, request_id=request)["overdue"] == []


# ------------------------------------------------------------------------------------------- whoever asks, wherever
def test_a_login_without_rights_sees_the_requests_and_nobodys_session_in_detail(place: ShapedServer) -> None:
    options = reporter(place, "rep_a")
    given = given_to(place, "I-14", "rita@example.org")
    with person(place, given):
        ours, theirs = tell(place, grantee="rita@example.org"), tell(place, grantee="rita@example.org", **options)
        for key in ("grants", "logins", "profiles", "overdue", "drift"):
            assert theirs[key] == ours[key], key
        assert theirs["server"]["login"] == "rep_a"
        seen = only(theirs["sessions"])
        assert (seen["login"], seen["since"]) == (given["login"], None)
        assert seen["pid"] == only(ours["sessions"])["pid"]
        assert theirs["enforcement"]["installed"] is False
    more = tell(place, **{**options, **EVERYTHING})
    assert (more["journal"], more["journal_reason"]) == (None, "login rep_a may not read latchkey.journal")
    assert more["inventory"] == []
    assert "login rep_a has no CREATEROLE" in more["inventory_reason"]
    assert {"database": "locked_db", "reason": "the login has no CONNECT on it"} in more["unreached"]
    assert more["public"]
    revoke(place, "I-14")


def test_a_server_without_anything_of_ours_is_told_of_too(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="rds")
    options = {"login_user": server.admin, "login_password": server.passwords[server.admin]}
    said = tell(server, **{**options, **EVERYTHING})
    assert said["grants"] == said["logins"] == said["profiles"] == said["overdue"] == said["inventory"] == []
    assert said["journal"] is None
    assert "no table latchkey.journal" in said["journal_reason"]
    assert "the server has no role latchkey_managed" in said["inventory_reason"]
    assert said["server"]["platform"] == "rds"


def test_a_standby_tells_the_same(shaped: Shaped, major: int, shape: str) -> None:
    server = prepared(shaped(major=major, shape=shape, settings={"wal_level": "replica", "max_wal_senders": 3}))
    given = given_to(server, "I-15", "sten@example.org")
    with server.standby() as standby:
        standby.wait_for(server)
        here = {"login_port": standby.port, "ca_cert": str(standby.ca)}
        with standby.connect(user=given["login"], password=given["password"], dbname=DATABASE):
            theirs, ours = tell(server, **{**here, **EVERYTHING}), tell(server, **EVERYTHING)
        assert (theirs["server"]["standby"], ours["server"]["standby"]) == (True, False)
        for key in ("grants", "profiles", "overdue", "drift", "journal", "public", "inventory", "unreached"):
            assert theirs[key] == ours[key], key
        assert (len(theirs["sessions"]), len(ours["sessions"])) == (1, 0)


def test_the_cost_does_not_depend_on_the_number_of_requests_and_nothing_is_written(
    shaped: Shaped, major: int, shape: str
) -> None:
    server = prepared(shaped(major=major, shape=shape, settings={"log_statement": "all"}))
    anybody = reporter(server, "rep_b")
    given_to(server, "I-16", "cost@example.org")
    role = only(tell(server)["grants"])["role"]
    profile = only(tell(server)["profiles"])["role"]
    sent: dict[int, list[int]] = {}
    for number in (5, 60):
        copy(server, number, role=role, profile=profile)
        sent[number] = []
        for options in ({}, anybody, EVERYTHING):
            xid, log = next_xid(server), Log(server)
            said = tell(server, **options)
            statements = [one for one in log.statements() if one not in {"BEGIN", "COMMIT"}]
            assert next_xid(server) == xid
            assert len(said["grants"]) == len(said["logins"]) == number + 1
            sent[number].append(len(statements))
    assert sent[5] == sent[60]
    assert 5 < sent[60][0] == sent[60][1] < 15


def copy(server: ShapedServer, number: int, *, role: str, profile: str) -> None:
    """As many requests as told, made by plain SQL after a real one; those of an earlier call are gone."""
    run_in(
        server,
        "postgres",
        """DO $$ DECLARE r name; BEGIN
             FOR r IN SELECT rolname FROM pg_roles WHERE rolname ~ '^(latchkey_g_copy|copied)_' LOOP
               EXECUTE format('DROP ROLE %I', r); END LOOP; END $$""",
        f"""DO $$ BEGIN FOR i IN 1 .. {number} LOOP
              EXECUTE format('CREATE ROLE latchkey_g_copy_%s VALID UNTIL ''2100-01-01''', i);
              EXECUTE format('CREATE ROLE copied_%s LOGIN', i);
              EXECUTE format('COMMENT ON ROLE latchkey_g_copy_%1$s IS %2$L; COMMENT ON ROLE copied_%1$s IS %3$L', i,
                jsonb_set(jsonb_set(shobj_description('{role}'::regrole, 'pg_authid')::jsonb, '{{grantee}}',
                                    to_jsonb('copy-' || i)), '{{request}}', to_jsonb('copy-' || i)),
                jsonb_build_object('kind', 'login', 'grantee', 'copy-' || i));
              EXECUTE format('GRANT latchkey_managed, {profile} TO latchkey_g_copy_%1$s;
                              GRANT latchkey_managed, latchkey_g_copy_%1$s TO copied_%1$s', i);
            END LOOP; END $$""",
    )


# ------------------------------------------------------------------------------------------- the journal
def test_the_journal_is_read_for_whom_it_concerns(place: ShapedServer) -> None:
    given_to(place, "I-17", "jon@example.org", reason="a look", approver="olaf")
    revoke(place, "I-17")
    said = tell(place, journal=True, request_id="I-17")
    assert said["journal_reason"] is None
    assert [(row["action"], row["request_id"], row["actor"]) for row in said["journal"]] == [
        ("grant", "I-17", "apono_connector"),
        ("revoke", "I-17", "apono_connector"),
    ]
    first = said["journal"][0]
    assert (first["grantee"], first["reason"], first["approver"]) == ("jon@example.org", "a look", "olaf")
    assert first["at"] <= said["now"] < first["expires_at"]
    assert tell(place, journal=True, request_id="I-none")["journal"] == []
    assert "journal" not in tell(place)


def test_a_journal_of_somebody_else_is_not_read(shaped: Shaped, major: int) -> None:
    """A view runs functions as who reads it."""
    server = shaped(major=major, shape="azure")
    bootstrapped(server, journal=False)
    run_in(
        server,
        "postgres",
        "CREATE ROLE eve LOGIN",
        "CREATE SCHEMA latchkey AUTHORIZATION eve",
        "CREATE FUNCTION latchkey.trap() RETURNS timestamptz LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE LOG 'trapped %', current_user; RETURN now(); END $$",
        "CREATE VIEW latchkey.journal AS SELECT 1 AS id, latchkey.trap() AS at, ''::text AS actor, ''::text AS action,"
        " ''::text AS request, ''::text AS grantee, ''::text AS login, now() AS expires_at, ''::text AS approver,"
        " ''::text AS reason",
        "ALTER VIEW latchkey.journal OWNER TO eve",
        "GRANT USAGE ON SCHEMA latchkey TO PUBLIC",
        "GRANT SELECT ON latchkey.journal TO PUBLIC",
    )
    log = Log(server)
    said = tell(server, journal=True)
    assert (said["journal"], said["journal_reason"]) == (
        None,
        "latchkey.journal is not a table that this collection made",
    )
    assert "trapped" not in log.text()


def test_a_journal_whose_types_run_code_when_read_is_not_read(shaped: Shaped, major: int) -> None:
    """A role that may make others owns it, with a type of its own that is cast by a function."""
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    run_in(
        server,
        "postgres",
        "CREATE TYPE latchkey.moment AS (at timestamptz)",
        "CREATE FUNCTION latchkey.trap(latchkey.moment) RETURNS timestamptz LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE LOG 'trapped %', current_user; RETURN now(); END $$",
        "CREATE CAST (latchkey.moment AS timestamptz) WITH FUNCTION latchkey.trap AS IMPLICIT",
        "ALTER TABLE latchkey.journal DROP COLUMN at, ADD COLUMN at latchkey.moment",
        "INSERT INTO latchkey.journal (action, at) VALUES ('grant', ROW(now()))",
    )
    log = Log(server)
    said = tell(server, journal=True)
    assert "trapped" not in log.text()
    assert said["journal_reason"] == "latchkey.journal is not a table that this collection made"


@pytest.mark.parametrize("days", [-1, 36501])
def test_days_that_make_no_sense_are_refused(one_place: ShapedServer, days: int) -> None:
    said = through(INFO, {**connector_options(one_place), "journal_days": days})
    assert (said["failed"], said["error_kind"]) == (True, "invalid_option")


# ------------------------------------------------------------------------------------------- PUBLIC
def test_what_public_gives_is_what_a_new_login_can_do(shaped: Shaped, major: int, shape: str) -> None:
    server = prepared(shaped(major=major, shape=shape))
    run_in(server, "postgres", "CREATE ROLE fresh LOGIN PASSWORD 'fresh'")
    run_in(server, DATABASE, "GRANT USAGE ON SCHEMA alpha_s TO PUBLIC", "GRANT SELECT ON alpha_s.t_plain TO PUBLIC")

    def public() -> dict[tuple[str, str, str], set[str]]:
        found: dict[tuple[str, str, str], set[str]] = {}
        for entry in tell(server, public=True, databases=["appdb_*", "noconn_db"])["public"]:
            found.setdefault((entry["database"], entry["kind"], entry["name"]), set()).update(entry["privileges"])
        return found

    seen = public()
    assert seen[DATABASE, "DATABASE", DATABASE] == {"CONNECT", "TEMPORARY"}
    assert seen[DATABASE, "TABLE", "alpha_s.t_plain"] == {"SELECT"}
    assert {database for database, _kind, _name in seen} == {"appdb_open", "appdb_hard", "noconn_db"}
    assert ("CREATE" in seen[DATABASE, "SCHEMA", "public"]) == (major < 15)
    with server.connect(user="fresh", password="fresh", dbname=DATABASE) as session:
        assert refusal(session, "SELECT FROM alpha_s.t_plain") is None
        assert (refusal(session, "CREATE TABLE public.mine (id int)") is None) == (major < 15)
        assert refusal(session, "SELECT FROM alpha_s.t_rls") == "42501"
    run_in(
        server,
        DATABASE,
        "REVOKE SELECT ON alpha_s.t_plain FROM PUBLIC",
        f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC",
    )
    after = public()
    assert after[DATABASE, "DATABASE", DATABASE] == {"TEMPORARY"}
    assert (DATABASE, "TABLE", "alpha_s.t_plain") not in after
    with pytest.raises(psycopg.OperationalError):
        server.connect(user="fresh", password="fresh", dbname=DATABASE)
    unreached = tell(server, public=True)["unreached"]
    assert {"database": "noconn_db", "reason": "it takes no connections"} in unreached


def test_a_pattern_without_a_database_is_refused(one_place: ShapedServer) -> None:
    said = through(INFO, {**connector_options(one_place), "inventory": True, "databases": ["appdb_*", "nowhere*"]})
    assert (said["failed"], said["error_kind"]) == (True, "invalid_option")
    assert "databases: 'nowhere*' matches no database" in said["msg"]


# ------------------------------------------------------------------------------------------- what can be asked for
TRIES = {
    "READ_ONLY": ("SELECT FROM {t}",),
    "READ_WRITE": ("SELECT FROM {t}", "DELETE FROM {t} WHERE false"),
    "ADMIN": ("SELECT FROM {t}", "DELETE FROM {t} WHERE false", "TRUNCATE {t}"),
}


def edges(server: ShapedServer, **options: Any) -> dict[tuple[str, str | None, str | None, str], dict[str, Any]]:
    """The inventory by type, database, schema and name."""
    said = tell(server, inventory=True, **options)
    assert said["inventory_reason"] is None
    return {(e["type"], e["database"], e["schema"], e["name"]): e for e in said["inventory"]}


def test_schemas_that_are_listed_are_given_in_full_and_no_others(place: ShapedServer) -> None:
    found = edges(place, inventory_objects=False, databases=[DATABASE])
    assert {kind for kind, *_rest in found} == {"database", "schema", "role"}
    query = "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    schemas = sorted(row[0] for row in ask(place, query, DATABASE))
    assert {"alpha_s", "beta_s", "gamma_s", "chief_s", "cron", "public"} <= set(schemas)
    for number, schema in enumerate(schemas):
        if schema == "cron":
            assert ("schema", DATABASE, schema, schema) not in found, "it is the platform's own"
            continue
        listed = found.get(("schema", DATABASE, schema, schema), {"permissions": [], "partial": []})
        wanted = [{"database": DATABASE, "permission": "READ_ONLY", "schemas": [schema]}]
        request = f"I-s{number}"
        said = grant(place, request, f"s{number}@example.org", access=wanted)
        assert bool(said.get("failed")) != ("READ_ONLY" in listed["permissions"]), (schema, said)
        if said.get("failed"):
            partly = grant(place, request, f"s{number}@example.org", access=wanted, allow_partial=True)
            assert partly["items"][0]["status"] == "partial", schema
        else:
            with person(place, said) as session:
                assert unreadable(session, schema) == [], schema
        revoke(place, request)
    assert "READ_ONLY" not in found.get(("schema", DATABASE, "chief_s", "chief_s"), {"permissions": []})["permissions"]
    assert found["schema", DATABASE, "mixed_s", "mixed_s"]["partial"] == ["READ_ONLY", "READ_WRITE", "ADMIN"]
    assert found["schema", DATABASE, "pgboss", "pgboss"]["permissions"] == [
        "READ_ONLY", "READ_WRITE", "ADMIN", "EXECUTE",
    ]  # fmt: skip


def unreadable(session: psycopg.Connection[Any], schema: str) -> list[Any]:
    """What a person can't read of a schema."""
    query = """SELECT relname FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(s)s)
                  AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege(oid, 'SELECT')"""
    return session.execute(query, {"s": schema}).fetchall()


def test_a_whole_database_is_listed_if_it_can_be_given_whole(place: ShapedServer) -> None:
    found = edges(place, inventory_objects=False, databases=["admindb", DATABASE])
    assert found["database", "admindb", None, "admindb"]["permissions"] == [
        "READ_ONLY", "READ_WRITE", "ADMIN", "EXECUTE",
    ]  # fmt: skip
    part = found["database", DATABASE, None, DATABASE]
    assert (part["permissions"], part["partial"]) == ([], ["READ_ONLY", "READ_WRITE", "ADMIN", "EXECUTE"])
    wanted = [{"database": "admindb", "permission": "READ_WRITE"}]
    said = grant(place, "I-20", "whole@example.org", access=wanted)
    with person(place, said, "admindb") as session:
        assert refusal(session, "DELETE FROM admin_s.t_plain WHERE false") is None
    less = grant(place, "I-21", "less@example.org", access=[{"database": DATABASE, "permission": "READ_ONLY"}])
    assert less["failed"]
    assert [item["status"] for item in less["items"]] == ["partial"]
    revoke(place, "I-20")


def test_tables_and_routines_that_are_listed_are_given_and_no_others(place: ShapedServer) -> None:
    found = edges(place, databases=[DATABASE])
    assert ("table", DATABASE, "mixed_s", "of_chief") not in found
    assert ("table", DATABASE, "mixed_s", "of_alpha") in found
    assert ("table", DATABASE, "cron", "job") not in found
    for permission, statements in TRIES.items():
        for table in ("t_plain", 'T "quoted" é'):
            assert permission in found["table", DATABASE, "alpha_s", table]["permissions"]
            wanted = {"database": DATABASE, "permission": permission, "schemas": ["alpha_s"], "tables": [table]}
            request = f"I-t {permission} {table}"
            said = grant(place, request, f"{permission} {table}", access=[wanted])
            with person(place, said) as session:
                name = 'alpha_s."{}"'.format(table.replace('"', '""'))
                for statement in statements:
                    assert refusal(session, statement.format(t=name)) is None, (permission, statement)
            revoke(place, request)
    refused = {"database": DATABASE, "permission": "READ_ONLY", "schemas": ["mixed_s"], "tables": ["of_chief"]}
    assert grant(place, "I-22", "nix@example.org", access=[refused])["failed"]
    assert found["routine", DATABASE, "alpha_s", "f_add"]["permissions"] == ["EXECUTE"]
    wanted = {"database": DATABASE, "permission": "EXECUTE", "schemas": ["alpha_s"], "routines": ["f_add"]}
    run_in(place, DATABASE, "REVOKE ALL ON ALL ROUTINES IN SCHEMA alpha_s FROM PUBLIC", user="app_alpha")
    said = grant(place, "I-23", "exe@example.org", access=[wanted])
    with person(place, said) as session:
        assert session.execute("SELECT alpha_s.f_add(1, 2), alpha_s.f_add('a', 'b')").fetchall() == [(3, "ab")]
        assert refusal(session, "SELECT alpha_s.f_secdef()") == "42501"
    revoke(place, "I-23")


def test_roles_that_are_listed_are_given_and_no_others(place: ShapedServer) -> None:
    run_in(place, "postgres", "CREATE ROLE mighty IN ROLE chief")
    known = [row[0] for row in ask(place, "SELECT rolname::text FROM pg_roles ORDER BY 1")]
    listed = {name for kind, *_place, name in edges(place, databases=["admindb"]) if kind == "role"}
    assert "readers" in listed
    assert not {"mighty", "chief", "apono_connector", place.admin, place.group, "latchkey_managed"} & listed
    # In check mode, because a request says all that can be said of a role before it changes anything.
    for role in known:
        said = grant(place, "I-24", "role@example.org", access=[{"role": role}], check=True)
        assert bool(said.get("failed")) != (role in listed), (role, said)
    said = grant(place, "I-24", "role@example.org", access=[{"role": "readers"}])
    with person(place, said) as session:
        assert session.execute("SELECT pg_has_role('readers', 'USAGE')").fetchall() == [(True,)]
    revoke(place, "I-24")
    run_in(place, "postgres", "DROP ROLE mighty")


def test_the_number_of_tables_costs_no_statement(shaped: Shaped, major: int) -> None:
    server = prepared(shaped(major=major, shape="rds", settings={"log_statement": "all"}))
    sent = []
    for number in (1, 300):
        make = (f"CREATE TABLE admin_s.n{number}_{one} (id serial)" for one in range(number))
        run_in(server, "admindb", *make, user=server.admin)
        log = Log(server)
        found = edges(server, databases=["admindb"])
        assert sum(name.startswith(f"n{number}_") for *_place, name in found) == number
        sent.append(len(log.statements()))
    assert 10 < sent[0] == sent[1]
