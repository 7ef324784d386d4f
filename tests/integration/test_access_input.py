# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access that is asked for wrongly, of the wrong server, or while somebody is in the way."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    auth,
    drift,
    ending,
    journal,
    ledger,
    names,
    period,
    plan,
    profiles,
    statements,
    sweep_options,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access import (
    sweep as sweeping,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session
from tests.integration.access import (
    DATABASE,
    READ,
    bootstrapped,
    connector_options,
    expire,
    gets_in,
    grant,
    person,
    refusal,
    revoke,
    sweep,
)
from tests.integration.product import CONNECTOR, ask, catalog, changes, next_xid, run_in, succeeded
from tests.integration.test_faults_common import refused, unchanged
from tests.rig import ShapedServer
from tests.rig.faults import Proxy

if TYPE_CHECKING:
    from psycopg.sql import Composable

Shaped = Callable[..., ShapedServer]
INVALID, REFUSED, UNREACHABLE = "invalid_option", "database_refused", "server_unreachable"
NUMBERS = itertools.count()
SENTENCE = re.compile(r"[.?] [A-Z]")  # where the next step begins
COUNT = "SELECT count(*) FROM alpha_s.t_plain"
A_DAY = 24 * 3600


@pytest.fixture(scope="module")
def ready(shaped_once: Shaped) -> Shaped:
    """Return servers that are bootstrapped once."""
    done: set[int] = set()

    def get(**options: Any) -> ShapedServer:
        server = shaped_once(**options)
        if server.port not in done:
            run_in(server, "postgres", *ROLES)
            bootstrapped(server)
            done.add(server.port)
        return server

    return get


@pytest.fixture
def server(ready: Shaped, major: int) -> ShapedServer:
    """Return a server of each kind that other tests of this file use too."""
    return ready(major=major, shape="rds")


@pytest.fixture
def one(ready: Shaped) -> ShapedServer:
    """Return one server, where its version makes no difference."""
    return ready(major=17, shape="rds")


@pytest.fixture
def who() -> str:
    """Return a person and a request of this test's own."""
    return f"input-{next(NUMBERS)}@example.org"


ROLES = (
    "CREATE ROLE login_of_theirs LOGIN",
    "CREATE ROLE group_of_theirs NOLOGIN",
    "CREATE ROLE chief NOLOGIN CREATEROLE",
    "CREATE ROLE leads_to_chief NOLOGIN IN ROLE chief",
    f"CREATE ROLE {names.login_role('squatter')} LOGIN",
)


def item(database: str = DATABASE, permission: str = "READ_ONLY", **more: Any) -> dict[str, Any]:
    """A request for one thing."""
    return {"access": [{"database": database, "permission": permission, **more}]}


def role(name: str) -> dict[str, Any]:
    """A request for membership in a role."""
    return {"access": [{"role": name}]}


def existing(name: str) -> dict[str, Any]:
    """A request for a login that is there."""
    return {"grantee": name, "login": "existing"}


# ------------------------------------------------------------------ options that are wrong
# What is wrong, and the words that must be in the answer; those with {where} were found out on the server.
BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no time": ({"duration": "0h"}, ("duration: 0h is no time at all",)),
    "negative": ({"duration": "-1h"}, ("duration: '-1h' is not a duration", "Write 4h")),
    "over the cap": ({"duration": "9h"}, ("duration: 9h is longer than max_duration, 8h", "Ask for less")),
    "over its cap": ({"duration": "61m", "max_duration": "1h"}, ("longer than max_duration, 1h",)),
    "nonsense": ({"duration": "soon"}, ("duration: 'soon' is not a duration",)),
    "of many digits": ({"duration": "9" * 5000 + "h"}, ("too long",)),
    "null": ({"duration": None}, ("duration: neither it nor expires_at is given", "Say how long")),
    "empty": ({"duration": ""}, ("duration: neither it nor expires_at is given",)),
    "no grantee": ({"grantee": None}, ("grantee: it must have 1 to 256 characters",)),
    "no request": ({"request": None}, ("request_id: it must have 1 to 256 characters",)),
    "null access": ({"access": None}, ("access: the list is empty",)),
    "a cap of nothing": ({"max_duration": "0h"}, ("max_duration: 0h is no time at all",)),
    "past": ({"expires_at": "2020-01-01T00:00:00Z"}, ("{where}: expires_at: 2020-01-01T00:00:00Z is past", "clock")),
    "no offset": ({"expires_at": "2030-01-01T00:00:00"}, ("expires_at: ", "offset from UTC", "Write it as")),
    "too late": ({"expires_at": "2090-01-01T00:00:00Z"}, ("{where}: expires_at", "more than max_duration after")),
    "beyond the calendar": ({"expires_at": "9999-12-31T23:59:59-14:00"}, ("expires_at: ", "offset from UTC")),
    "no database": (item("nope"), ("{where}: access: there is no database 'nope'", "The server has: ", "admindb")),
    "a closed database": (
        item("noconn_db"),
        ("{where}: access: login apono_connector can't enter database noconn_db",),
    ),
    "no schema": (item(schemas=["alpha_s", "n?pe"]), ("{where}: access: no schema of", "'n?pe'", "It has: ", "beta_s")),
    "the journal's schema": (item("postgres", schemas=["latchkey"]), ("{where}: access: no schema of", "'latchkey'")),
    "the catalog's schema": (item(schemas=["pg_catalog"]), ("{where}: access: no schema of",)),
    "no table": (item(tables=["t_plain", "nope*"]), ("{where}: access: no table in the schemas", "'nope*'", "Check")),
    "a table with a dot": (item(tables=["beta_s.t_plain"]), ("{where}: access: no table", "'beta_s.t_plain'")),
    "a table elsewhere": (item(schemas=["hidden_s"], tables=["t_plain"]), ("{where}: access: no table", "hidden_s")),
    "no routine": (item(permission="EXECUTE", routines=["nope"]), ("{where}: access: no routine in", "'nope'")),
    "routines to read": (item(routines=["f_add"]), ("access: item 1 has routines with READ_ONLY", "Name tables")),
    "tables to execute": (item(permission="EXECUTE", tables=["t"]), ("access: item 1 has tables with EXECUTE",)),
    "empty schemas": (item(schemas=[]), ("access: item 1 has an empty schemas", "Leave it out")),
    "an empty table": (item(tables=[""]), ("access: item 1 has an empty tables",)),
    "no access": ({"access": []}, ("access: the list is empty", "Say what is asked for")),
    "no role": (role("nope"), ("{where}: access: role 'nope' can't be used: the server has no such role", "Check")),
    "an administrator's role": (
        role("cloudadmin"),
        ("{where}: access: role 'cloudadmin' can't be used: it", "give a role that holds"),
    ),
    "a chief's role": (
        role("leads_to_chief"),
        ("{where}: access: role 'leads_to_chief'", "member of chief, which has"),
    ),
    "the platform's role": (role("rds_superuser"), ("{where}: access: role 'rds_superuser' can't be used: it is",)),
    "the server's role": (
        role("pg_execute_server_program"),
        ("{where}: access: role 'pg_execute_server_program' can't be used: it is",),
    ),
    "the marker": (role("latchkey_managed"), ("{where}: access: role 'latchkey_managed' can't be used: it is",)),
    "the connector's role": (
        role(CONNECTOR),
        ("{where}: access: role 'apono_connector' can't be used: it is the connector",),
    ),
    "a platform role": (existing("rds_superuser"), ("{where}: grantee: 'rds_superuser' is a role of the platform",)),
    "the superuser": (existing("rdsadmin"), ("{where}: grantee: 'rdsadmin' is a role of the platform",)),
    "a role of PostgreSQL": (existing("pg_monitor"), ("{where}: grantee: 'pg_monitor' is a role of the platform",)),
    "our own role": (existing("latchkey_managed"), ("{where}: grantee: 'latchkey_managed' is a role of",)),
    "the connector": (existing(CONNECTOR), ("{where}: grantee: 'apono_connector' is the connector itself",)),
    "an administrator": (existing("cloudadmin"), ("{where}: grantee: 'cloudadmin' is an administrator", "Use login")),
    "a group": (existing("group_of_theirs"), ("{where}: grantee: 'group_of_theirs' is no login", "Use login: managed")),
    "nobody": (existing("nope"), ("{where}: grantee: there is no login 'nope'", "Use login: managed")),
    "64 bytes": (existing("ü" * 32), ("grantee: the name of a role has at most 63 bytes, this one has 64",)),
    "64 bytes in Entra": ({"grantee": "a" * 64, "auth": "entra"}, ("at most 63 bytes, this one has 64",)),
    "an unmarked login": (
        {"grantee": "squatter"},
        ("{where}: grantee: login squatter_", "did not make it", "Use login"),
    ),
    "an empty grantee": ({"grantee": " "}, ("grantee: it must have 1 to 256 characters",)),
    "a line break": ({"grantee": "a\nb"}, ("grantee: it must have", "printable")),
    "a null byte": ({"grantee": "a\0b"}, ("grantee: it must have", "printable")),
    "257 characters": ({"grantee": "a" * 257}, ("grantee: it must have 1 to 256 characters",)),
    "no credentials": ({"return_password": False}, ("known to nobody", "Say where it goes")),
    "no verifier": ({"password_verifier": "md5abc"}, ("password_verifier: it is no SCRAM-SHA-256 verifier",)),
    "a limit of nothing": ({"connection_limit": 0}, ("connection_limit: it must be at least 1",)),
    "a long message": ({"access_details": "x" * 401}, ("access_details: it has 401 characters", "Shorten it to 400")),
    "no reader": ({"readers": [":5432"]}, ("readers: ':5432' is no endpoint", "Write HOST")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_option_is_one_clear_line_and_changes_nothing(one: ShapedServer, who: str, name: str) -> None:
    options, words = BAD[name]
    for check in (False, True):
        with unchanged(one):
            said = grant(one, **{"request": who, "grantee": who, **options}, check=check)
        refused(said, REFUSED if name == "a closed database" else INVALID)
        for word in words:
            assert word.format(where=f"{one.host}:{one.port}") in said["msg"], said["msg"]
        assert SENTENCE.search(said["msg"]), f"no next step: {said['msg']}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (item(permission="BOSS"), "value of permission must be one of"),
        (item(permission="read_only"), "value of permission must be one of"),
        ({"access": [{"database": DATABASE}]}, "required together: database, permission"),
        ({"access": [{"schemas": ["alpha_s"]}]}, "one of the following is required: database, role"),
        ({"access": [{"role": "r", "tables": ["t"]}]}, "mutually exclusive: role|tables"),
        ({"login": "theirs"}, "value of login must be one of"),
        ({"auth": "kerberos"}, "value of auth must be one of"),
        ({"duration": "1h", "expires_at": "2030-01-01T00:00:00Z"}, "mutually exclusive: duration|expires_at"),
    ],
)
def test_what_the_options_do_not_allow_is_said_by_ansible_itself(
    one: ShapedServer, who: str, options: dict[str, Any], words: str
) -> None:
    said = grant(one, who, who, **options)
    assert said["failed"]
    assert words in said["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_a_role_that_the_connector_may_not_give_is_refused_with_what_lets_it(
    ready: Shaped, who: str, check: bool
) -> None:
    server = ready(major=17, shape="rds")
    with unchanged(server):
        said = grant(server, who, who, **role("group_of_theirs"), check=check)
    remedy = 'GRANT "group_of_theirs" TO "apono_connector" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;'
    refused(said, REFUSED, "has no ADMIN OPTION on role group_of_theirs", "grantable_roles", remedy)
    run_in(server, "postgres", remedy)
    succeeded(grant(server, who, who, **role("group_of_theirs")))
    succeeded(revoke(server, who))
    run_in(server, "postgres", "REVOKE group_of_theirs FROM apono_connector")


def test_one_item_that_fails_undoes_all_unless_the_rest_is_wanted(one: ShapedServer, who: str) -> None:
    lacking = {"access": [*READ, {"database": DATABASE, "permission": "READ_WRITE", "schemas": ["fellow_s"]}]}
    before = catalog(one)
    said = grant(one, who, who, **lacking)
    assert said["failed"], said
    assert "not given: READ_WRITE on appdb_open in fellow_s" in said["msg"]
    assert "set allow_partial" in said["msg"]
    assert not said["changed"]
    assert [entry["status"] for entry in said["items"]] == ["undone", "partial"]
    assert said.get("password") is None
    assert changes(before, catalog(one)) == []
    partial = succeeded(grant(one, who, who, allow_partial=True, **lacking))
    assert [entry["status"] for entry in partial["items"]] == ["granted", "partial"]
    assert gets_in(one, partial)
    succeeded(revoke(one, who))


# ------------------------------------------------------------------ people and requests
HOSTILE = (
    'O\'Neil "the\\boss"; DROP ROLE x;--',
    "100%s %(name)s {x} $1 $$",
    "Zoë Müller <zoë@exämple.org>",
    "李雷 😀",
    "pg_read_all_data",
    "latchkey_managed",
    "PUBLIC",
    "none",
    "  spaces  inside and  out ",
    "\\'; SELECT 1; --",
)


@pytest.mark.parametrize("identity", HOSTILE)
def test_any_identity_works_from_grant_to_cleanup(server: ShapedServer, identity: str) -> None:
    request = f"{identity} {server.major}"
    said = succeeded(grant(server, request, identity, reason=identity, approver=identity))
    assert (said["grantee"], said["request_id"]) == (identity, request)
    with person(server, said) as session:
        assert refusal(session, COUNT) is None
        assert succeeded(grant(server, request, identity))["changed"] is False
        assert succeeded(grant(server, request, identity, duration="2h"))["changed"] is True
        expire(server, request)
        swept = succeeded(sweep(server, gone=[identity], cleanup_after_days=0))
        assert request in swept["ended"]
        assert said["login"] in swept["dropped"]
        assert refusal(session, COUNT) == "57P01"
    entries = "SELECT action, grantee FROM latchkey.journal WHERE request = %(request)s ORDER BY id"
    assert ask(server, entries, request=request) == [("grant", identity), ("extend", identity), ("expire", identity)]


@pytest.mark.parametrize("identity", ["Theirs \"q\" 'x' %s \\ ü", "th\\eirs@example.org"])
def test_an_existing_login_of_any_name_works(server: ShapedServer, who: str, identity: str) -> None:
    name = sql.name(identity).as_string(None)
    run_in(server, "postgres", f"CREATE ROLE {name} LOGIN PASSWORD 'own'")
    succeeded(grant(server, who, identity, login="existing"))
    with person(server, {"login": identity, "password": "own"}) as session:
        assert refusal(session, COUNT) is None
        succeeded(revoke(server, who))
        assert refusal(session, COUNT) == "57P01"
    run_in(server, "postgres", f"DROP ROLE {name}")


def test_two_long_identities_with_the_same_beginning_are_two_people(one: ShapedServer) -> None:
    long = "a" * 63
    first, second = (succeeded(grant(one, f"long {end}", f"{long}{end}")) for end in ("b", "c"))
    assert first["login"] != second["login"]
    succeeded(revoke(one, "long b"))
    assert not gets_in(one, first)
    assert gets_in(one, second)
    succeeded(revoke(one, "long c"))


def test_a_request_cannot_be_turned_into_another(one: ShapedServer, who: str) -> None:
    said = succeeded(grant(one, who, who))
    for options, words in (
        ({"grantee": "somebody else"}, f"was given with another grantee, '{who}'"),
        (item(schemas=["beta_s"]), "was given with another access"),
        (item(permission="READ_WRITE", schemas=["alpha_s"]), "was given with another access"),
        ({"access": [*READ, *item("admindb")["access"]]}, "was given with another access"),
    ):
        with unchanged(one):
            refused(grant(one, **{"request": who, "grantee": who, **options}), INVALID, words, "request_id of its own")
    with unchanged(one):
        refused(revoke(one, who, grantee="somebody else"), INVALID, "was given to another grantee")
    assert gets_in(one, said)
    succeeded(revoke(one, who, grantee=who))


def test_a_login_of_ours_is_not_taken_for_an_existing_one(one: ShapedServer, who: str) -> None:
    said = succeeded(grant(one, who, who))
    with unchanged(one):
        answer = grant(one, f"{who} 2", said["login"], login="existing")
    refused(answer, INVALID, "is one that this collection made", f"the grantee {who}")
    succeeded(revoke(one, who))


# ------------------------------------------------------------------ a connector without rights, and other servers
def test_a_connector_without_createrole_is_told_what_it_lacks(server: ShapedServer, who: str) -> None:
    run_in(server, "postgres", f"ALTER ROLE {CONNECTOR} NOCREATEROLE")
    try:
        for run in (grant(server, who, who), revoke(server, who), sweep(server), sweep(server, check=True)):
            refused(run, REFUSED, f"{server.host}:{server.port}: login {CONNECTOR} has no CREATEROLE")
            assert f'ALTER ROLE "{CONNECTOR}" CREATEROLE' in run["msg"]
    finally:
        run_in(server, "postgres", f"ALTER ROLE {CONNECTOR} CREATEROLE")


def test_a_server_without_the_marker_or_the_right_to_give_it_is_refused(shaped: Shaped, major: int, who: str) -> None:
    server = shaped(major=major, shape="azure")
    bootstrapped(server)
    if major >= 16:
        taken = f"REVOKE ADMIN OPTION FOR latchkey_managed FROM {CONNECTOR} GRANTED BY {server.admin}"
        run_in(server, "postgres", taken)
        with unchanged(server):
            said = grant(server, who, who)
        remedy = f'GRANT "latchkey_managed" TO "{CONNECTOR}" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
        refused(said, REFUSED, "has no ADMIN OPTION on latchkey_managed", "pg_apono_bootstrap", remedy)
        run_in(server, "postgres", remedy)
        succeeded(grant(server, who, who))
        succeeded(sweep(server, gone=[who], cleanup_after_days=0, profile_retention_days=0))
    run_in(server, "postgres", "DROP ROLE latchkey_managed")
    with unchanged(server):
        refused(grant(server, who, who), REFUSED, "has no role latchkey_managed", "Run pg_apono_bootstrap")
        refused(sweep(server), REFUSED, "has no role latchkey_managed")


def test_a_standby_takes_no_grant_and_can_be_asked_in_check_mode(one: ShapedServer, who: str) -> None:
    with one.standby() as standby:
        standby.wait_for(one)
        at = {"login_port": standby.port}
        for said in (grant(one, who, who, **at), revoke(one, who, **at), sweep(one, **at)):
            refused(said, REFUSED, f":{standby.port}: this server is a standby", "address of the primary")
        assert succeeded(grant(one, who, who, check=True, **at))["changed"] is True
        assert succeeded(sweep(one, check=True, **at))["changed"] is False


# ------------------------------------------------------------------ a connection that is lost
def verifier(server: ShapedServer, login: str, password: str) -> str:
    """What the server keeps of a password, made by libpq."""
    with server.connect() as conn:
        return conn.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()


SHAKEN = 6  # times that a client writes before it has a session
TABLES = {"schemas": ["admin_s"], "tables": ["t_plain"]}


@pytest.mark.parametrize(("used", "step"), [(True, 1), (False, 8)])
def test_a_grant_that_is_lost_at_any_moment_is_completed_by_the_next_run(
    one: ShapedServer, who: str, used: bool, step: int
) -> None:
    """With a profile that is there, at every write; and with one that it makes, at every eighth."""
    if used:
        succeeded(grant(one, who, who, **item("admindb", "READ_WRITE", **TABLES)))
    for moment in itertools.count(SHAKEN, step):
        name = f"{moment} {who}"
        mine = {"login": names.login_role(name), "password": "own-Secret"}
        wish = {**item("admindb", "READ_WRITE", **TABLES), "password_verifier": verifier(one, **mine)}
        with Proxy(port_behind=one.port, after=moment, refuse=True) as proxy:
            said = grant(one, name, name, login_port=proxy.port, **wish)
            was_cut = proxy.was_cut.is_set()
        if said.get("failed"):
            # Lost in the database of the item, it is the item that could not be given.
            assert said["error_kind"] in {UNREACHABLE, REFUSED}, said["msg"]
            half_made(one, name)
        succeeded(grant(one, name, name, **wish))
        with person(one, mine, "admindb") as session:
            assert refusal(session, "INSERT INTO admin_s.t_plain (v) VALUES ('x')") is None
        if not used:
            succeeded(sweep(one, gone=[name], profile_retention_days=0))
        if not was_cut:
            break
    assert moment > 30
    succeeded(sweep(one, gone=[who, *(f"{number} {who}" for number in range(moment + 1))]))


def half_made(server: ShapedServer, name: str) -> None:
    """See that there is a grant with its login, or neither."""
    found = {row[0] for row in ask(server, "SELECT rolname::text FROM pg_roles")}
    assert (names.grant_role(name) in found) is (names.login_role(name) in found)


def test_a_revoke_that_is_lost_at_any_moment_is_completed_by_the_next_run(one: ShapedServer, who: str) -> None:
    for moment in itertools.count(SHAKEN, 2):
        said = succeeded(grant(one, who, who))
        with Proxy(port_behind=one.port, after=moment, refuse=True) as proxy:
            answer = revoke(one, who, login_port=proxy.port)
            was_cut = proxy.was_cut.is_set()
        if answer.get("failed"):
            refused(answer, UNREACHABLE)
        untouched = gets_in(one, said)  # a sweep ends only what is over, or was begun
        succeeded(revoke(one, who) if untouched or moment % 4 else sweep(one))
        assert not gets_in(one, said)
        assert not ask(one, "SELECT FROM pg_roles WHERE rolname = %(g)s", g=names.grant_role(who))
        if not was_cut:
            break
    assert moment > 20


# ------------------------------------------------------------------ clocks
class Shifted(type):
    """What is a datetime is one of a clock that is wrong, too."""

    def __instancecheck__(cls, value: object) -> bool:
        """Ask the true class."""
        return isinstance(value, REAL)


REAL = dt.datetime


@pytest.mark.parametrize("days", [-1, 1])
def test_a_wrong_clock_of_the_controller_changes_nothing(
    one: ShapedServer, who: str, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = dt.timedelta(days=days)

    class Wrong(REAL, metaclass=Shifted):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return REAL.now(tz) + off

        @classmethod
        def utcnow(cls) -> dt.datetime:  # type: ignore[override]
            return REAL.now(dt.timezone.utc).replace(tzinfo=None) + off

        @classmethod
        def today(cls) -> dt.datetime:  # type: ignore[override]
            return REAL.now() + off

    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + days * A_DAY)
    monkeypatch.setattr(dt, "datetime", Wrong)
    for module in (auth, drift, ending, journal, ledger, period, plan, profiles, statements, sweep_options, sweeping):
        assert getattr(module, "dt", dt) is dt
    said = succeeded(grant(one, who, who, duration="2h"))
    monkeypatch.undo()
    left = "SELECT extract(epoch FROM rolvaliduntil - now())::int FROM pg_roles WHERE rolname = %(role)s"
    for role_name in (names.grant_role(who), said["login"]):
        assert 7100 < ask(one, left, role=role_name)[0][0] <= 7200
    monkeypatch.setattr(time, "time", lambda: true_time() + days * A_DAY)
    monkeypatch.setattr(dt, "datetime", Wrong)
    assert who not in succeeded(sweep(one))["ended"]
    assert succeeded(grant(one, who, who, duration="2h"))["changed"] is False
    monkeypatch.undo()
    assert gets_in(one, said)
    succeeded(revoke(one, who))


# ------------------------------------------------------------------ an administrator's own hands
def test_a_grant_role_that_was_dropped_by_hand_is_made_again(server: ShapedServer, who: str) -> None:
    first = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"DROP ROLE {names.grant_role(who)}")
    swept = succeeded(sweep(server))
    assert first["login"] in swept["fenced"]
    assert {"kind": "open_login", "role": first["login"], "what": "can log in, and has no grant", "repaired": True} in (
        swept["drift"]
    )
    assert not gets_in(server, first)
    again = succeeded(grant(server, who, who))
    with person(server, again) as session:
        assert refusal(session, COUNT) is None
    succeeded(revoke(server, who))


def test_a_login_or_profile_that_was_dropped_by_hand_is_made_again(server: ShapedServer, who: str) -> None:
    first = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"DROP ROLE {first['login']}")
    second = succeeded(grant(server, who, who))
    profile = second["items"][0]["role"]
    inherit = " WITH INHERIT TRUE" if server.major >= 16 else ""
    empty = f"DROP OWNED BY {profile}"  # of what is not one's own only what one has given oneself
    borrow = (f"GRANT {profile} TO {CONNECTOR}{inherit}", f"SET ROLE {CONNECTOR}", empty, "RESET ROLE")
    run_in(server, DATABASE, *borrow, empty, f"DROP ROLE {profile}")
    with person(server, second) as session:
        assert refusal(session, COUNT) is not None
        assert succeeded(grant(server, who, who))["changed"] is True
        assert refusal(session, COUNT) is None
    succeeded(revoke(server, who))


@pytest.mark.parametrize("renamed", ["grant", "login", "profile"])
@pytest.mark.parametrize("end", ["revoke", "expire", "gone"])
def test_a_role_that_was_renamed_by_hand_is_still_ended(server: ShapedServer, who: str, renamed: str, end: str) -> None:
    said = succeeded(grant(server, who, who))
    role_name = {"grant": names.grant_role(who), "login": said["login"], "profile": said["items"][0]["role"]}[renamed]
    new = f"by hand {next(NUMBERS)}"
    run_in(server, "postgres", f'ALTER ROLE {role_name} RENAME TO "{new}"')
    mine = {**said, "login": new} if renamed == "login" else said
    with person(server, mine) as session:
        assert refusal(session, COUNT) is None
        if end == "revoke":
            assert succeeded(revoke(server, who))["changed"] is True
        elif end == "gone":
            succeeded(sweep(server, gone=[who]))
        else:
            run_in(
                server,
                "postgres",
                f"ALTER ROLE \"{new if renamed == 'grant' else names.grant_role(who)}\" VALID UNTIL '2020-01-01Z'",
            )
            succeeded(sweep(server))
        assert refusal(session, COUNT) is not None
    assert not gets_in(server, mine)
    if renamed == "profile":
        succeeded(sweep(server, profile_retention_days=0))


TAMPERING = {
    "no end": "VALID UNTIL 'infinity'",
    "an end that no calendar has": "VALID UNTIL '20000-01-01Z'",
    "an end before Christ": "VALID UNTIL '0044-03-15Z BC'",
}


@pytest.mark.parametrize("name", TAMPERING)
@pytest.mark.parametrize("which", ["grant", "login"])
def test_an_end_that_was_changed_by_hand_stops_no_sweep(server: ShapedServer, who: str, name: str, which: str) -> None:
    said = succeeded(grant(server, who, who))
    other = succeeded(grant(server, f"{who} 2", f"{who} 2"))
    changed = names.grant_role(who) if which == "grant" else said["login"]
    run_in(server, "postgres", f"ALTER ROLE {changed} {TAMPERING[name]}")
    expire(server, f"{who} 2")
    swept = succeeded(sweep(server))
    assert f"{who} 2" in swept["ended"]
    assert (who in swept["ended"]) is (which == "grant")
    assert not gets_in(server, other)
    assert gets_in(server, said) is (which == "login")
    succeeded(revoke(server, who))


def test_a_comment_that_was_changed_by_hand_stops_neither_revoke_nor_sweep(server: ShapedServer, who: str) -> None:
    said = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"COMMENT ON ROLE {names.grant_role(who)} IS '{'[' * 5000}'")
    succeeded(revoke(server, who))
    assert not gets_in(server, said)
    said = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"COMMENT ON ROLE {names.grant_role(who)} IS NULL")
    expire(server, who)
    succeeded(sweep(server))
    assert not gets_in(server, said)


def test_a_login_that_was_shut_by_hand_is_reported_and_opened_by_the_same_request(
    server: ShapedServer, who: str
) -> None:
    first = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"ALTER ROLE {first['login']} NOLOGIN")
    kinds = [entry["kind"] for entry in succeeded(sweep(server))["drift"] if entry["role"] == first["login"]]
    assert kinds == ["shut_login"]
    again = succeeded(grant(server, who, who))
    assert gets_in(server, again)
    assert not gets_in(server, first)
    succeeded(revoke(server, who))


def test_what_others_give_to_the_person_is_told_and_the_fence_holds_all_the_same(
    server: ShapedServer, who: str
) -> None:
    said = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"GRANT pg_monitor TO {said['login']}")
    found = [entry for entry in succeeded(sweep(server))["drift"] if entry["role"] == said["login"]]
    assert [(entry["kind"], entry["repaired"]) for entry in found] == [("other_membership", False)]
    assert "pg_monitor" in found[0]["what"]
    with person(server, said) as session:
        succeeded(revoke(server, who))
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(server, said)
    succeeded(sweep(server, gone=[who]))
    assert not ask(server, "SELECT FROM pg_roles WHERE rolname = %(u)s", u=said["login"])


def test_a_stranger_in_a_role_of_ours_is_put_out_or_the_run_fails(server: ShapedServer, who: str) -> None:
    said = succeeded(grant(server, who, who))
    run_in(server, "postgres", f"GRANT {names.grant_role(who)} TO login_of_theirs")
    member = "SELECT pg_has_role('login_of_theirs', %(g)s, 'MEMBER')"
    swept = sweep(server)
    (found,) = [entry for entry in swept["drift"] if entry["role"] == "login_of_theirs"]
    assert (found["kind"], found["repaired"]) == ("stray_member", server.major < 16)
    assert ask(server, member, g=names.grant_role(who)) == [(server.major >= 16,)]
    succeeded(revoke(server, who))  # a dropped role has no members, whoever has put them in
    assert not gets_in(server, said)
    assert not ask(server, "SELECT FROM pg_auth_members WHERE member = 'login_of_theirs'::regrole")


# ------------------------------------------------------------------ logins by a token
@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imitate the hook of Amazon's engine: who made a role may put it into rds_iam without ADMIN OPTION on it."""
    true = Session.execute

    def execute(self: Session, command: Composable) -> None:
        text = command.as_bytes(self.connection)
        hooked = re.sub(
            rb'(GRANT|REVOKE) "rds_iam" (TO|FROM) "([^"]+)"', rb"SELECT engine.rds_iam('\1', '\2', '\3')", text
        )
        if hooked == text:
            true(self, command)
        else:
            self.connection.execute(hooked, prepare=False)

    monkeypatch.setattr(Session, "execute", execute)


HOOK = (
    "CREATE SCHEMA engine",
    "GRANT USAGE ON SCHEMA engine TO PUBLIC",
    """CREATE FUNCTION engine.rds_iam(text, text, text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
       AS $$ BEGIN EXECUTE format('%s rds_iam %s %I', $1, $2, $3); END $$""",
)
REJECTED = ("host all +rds_iam all reject",)
OPEN_ENGINE = {"rds.extensions": "none"}
IAM = {"auth": "rds_iam"}


@pytest.mark.usefixtures("engine")
def test_an_iam_login_that_would_lock_the_connector_out_is_refused_and_leaves_nothing(
    shaped: Shaped, major: int, who: str
) -> None:
    server = shaped(major=major, shape="rds", hba=REJECTED, settings=OPEN_ENGINE)
    bootstrapped(server)
    run_in(server, "postgres", *HOOK)
    before = catalog(server)
    said = grant(server, who, who, **IAM)
    if major >= 16:
        refused(said, REFUSED, "auth: rds_iam would lock the connector out", "login_auth: rds_iam")
        assert changes(before, catalog(server)) == []
    else:
        succeeded(said)
        assert is_iam(server, said["login"])
        with pytest.raises(psycopg.OperationalError, match="reject"):
            server.connect(user=said["login"], password="", dbname=DATABASE)
        succeeded(revoke(server, who))
        assert not is_iam(server, said["login"])
    succeeded(grant(server, f"{who} 2", who))


def is_iam(server: ShapedServer, login: str) -> bool:
    """Whether a login is one by a token."""
    return bool(ask(server, "SELECT pg_has_role(%(u)s, 'rds_iam', 'MEMBER')", u=login)[0][0])


def canaries(server: ShapedServer) -> list[tuple[Any, ...]]:
    """Roles of runs that tried whether the connector would be locked out."""
    return ask(server, r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'latchkey\_canary%'")


@pytest.mark.usefixtures("engine")
def test_an_iam_login_works_where_the_connector_stays_in(shaped: Shaped, major: int, who: str) -> None:
    server = shaped(major=major, shape="rds", settings=OPEN_ENGINE)
    bootstrapped(server)
    run_in(server, "postgres", *HOOK)
    said = succeeded(grant(server, who, who, **IAM))
    assert "password" not in said
    assert is_iam(server, said["login"])
    password = "SELECT rolpassword, rolcanlogin FROM pg_authid WHERE rolname = %(u)s"
    assert ask(server, password, u=said["login"]) == [(None, True)]
    assert canaries(server) == []
    xid = next_xid(server)
    assert succeeded(grant(server, who, who, **IAM))["changed"] is False
    assert next_xid(server) == xid
    refused(grant(server, f"{who} 2", who), INVALID, "has access by rds_iam now", "End the other access first")
    succeeded(revoke(server, who))
    assert ask(server, password, u=said["login"]) == [(None, False)]
    assert not is_iam(server, said["login"])
    succeeded(grant(server, f"{who} 2", who))


@pytest.mark.usefixtures("engine")
def test_the_canary_of_a_run_that_was_killed_proves_nothing_and_goes(shaped: Shaped, who: str) -> None:
    server = shaped(major=17, shape="rds", settings=OPEN_ENGINE)
    bootstrapped(server)
    run_in(server, "postgres", *HOOK)
    left = ("CREATE ROLE latchkey_canary_0 NOLOGIN", "SELECT engine.rds_iam('GRANT', 'TO', 'latchkey_canary_0')")
    run_in(server, "postgres", *left, user=CONNECTOR)
    assert is_iam(server, CONNECTOR)
    said = succeeded(grant(server, who, who, **IAM))
    assert is_iam(server, said["login"])
    assert canaries(server) == []


def test_an_iam_login_that_the_server_does_not_know_or_allow_is_refused(ready: Shaped, who: str) -> None:
    with unchanged(ready(major=17, shape="azure")):
        said = grant(ready(major=17, shape="azure"), who, who, **IAM)
    refused(said, REFUSED, "needs the role rds_iam, which this server does not have")
    with unchanged(ready(major=17, shape="rds")):
        said = grant(ready(major=17, shape="rds"), who, who, **IAM)
    refused(said, REFUSED, "has no ADMIN OPTION on rds_iam", f'GRANT "rds_iam" TO "{CONNECTOR}" WITH ADMIN TRUE')


PRINCIPALS = """
CREATE FUNCTION pg_catalog.pgaadauth_create_principal(text, boolean, boolean) RETURNS text LANGUAGE plpgsql
AS $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN', $1); RETURN 'Created role for ' || $1; END $$
"""
ENTRA = {"auth": "entra"}


def test_an_entra_login_is_made_by_the_platforms_function(shaped: Shaped, major: int) -> None:
    server = shaped(major=major, shape="azure", settings={"allow_system_table_mods": True})
    bootstrapped(server)
    identity = "Ann.O'Neil@example.org"
    with unchanged(server):
        refused(grant(server, "e1", identity, **ENTRA), REFUSED, "pgaadauth_create_principal", "Turn Entra")
    run_in(server, "postgres", PRINCIPALS)
    said = succeeded(grant(server, "e1", identity, **ENTRA))
    assert said["login"] == identity
    row = "SELECT rolcanlogin, rolpassword, rolvaliduntil > now() FROM pg_authid WHERE rolname = %(u)s"
    assert ask(server, row, u=identity) == [(True, None, True)]
    reads = "SELECT has_table_privilege(%(u)s, 'alpha_s.t_plain', 'SELECT')"
    assert ask(server, reads, DATABASE, u=identity) == [(True,)]
    assert succeeded(grant(server, "e1", identity, **ENTRA))["changed"] is False
    succeeded(revoke(server, "e1"))
    assert ask(server, reads, DATABASE, u=identity) == [(False,)]
    assert ask(server, "SELECT rolcanlogin FROM pg_roles WHERE rolname = %(u)s", u=identity) == [(False,)]
    assert succeeded(grant(server, "e2", identity, **ENTRA))["login"] == identity
    run_in(server, "postgres", "CREATE ROLE theirs LOGIN")
    with unchanged(server):
        refused(grant(server, "e3", "theirs", **ENTRA), INVALID, "did not make it")
        refused(grant(server, "e3", "azure_pg_admin", **ENTRA), INVALID, "is a role of the platform")


def test_the_options_of_a_connector_are_used_as_they_are(one: ShapedServer, who: str) -> None:
    wrong = {**connector_options(one), "login_password": "wrong"}
    with unchanged(one):
        refused(grant(one, who, who, login_password=wrong["login_password"]), UNREACHABLE, f"login {CONNECTOR}")
