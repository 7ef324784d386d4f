# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each strategy on a server of either cloud: what readers and the server have before, during and after."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import run as running
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import steps
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.options import SECRET_STORE, cloud_of
from tests.fakes import FakeAzure, FakeSecretsManager
from tests.integration.access import bootstrapped, grant
from tests.integration.ansible_runs import play
from tests.integration.connector_secrets import Aws, Azure, enter
from tests.integration.product import Log, ask, run_in, succeeded
from tests.integration.rotation import ADMIN_SECRET, FIRST, WHOLE, Site
from tests.integration.test_faults_common import refused, unchanged

if TYPE_CHECKING:
    from tests.rig import ShapedServer

Shaped = Callable[..., "ShapedServer"]
MAJORS = {"rds": 17, "azure": 15}
UNREADABLE, REFUSED, INVALID = "secret_unreadable", "database_refused", "invalid_option"
LOG_ALL = {"log_statement": "all", "log_min_messages": "debug2", "log_min_error_statement": "debug2"}

pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture(scope="module")
def server(shaped_once: Shaped) -> Shaped:
    """Return servers that log all."""
    known: set[int] = set()

    def get(shape: str) -> ShapedServer:
        found = shaped_once(major=MAJORS[shape], shape=shape)
        if found.port not in known:
            found.restart(**LOG_ALL)
            known.add(found.port)
        return found

    return get


@pytest.fixture
def site(server: Shaped, shape: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return an application on a server of each cloud."""
    with FakeSecretsManager() if shape == "rds" else FakeAzure() as fake:
        store = Aws(fake=fake) if isinstance(fake, FakeSecretsManager) else Azure(fake=fake)
        enter(store.environment(), monkeypatch)
        one = Site(server=server(shape), store=store)
        one.prepare()
        yield one


def rotated(site: Site, **options: Any) -> dict[str, Any]:
    """Run it; it must have made a new password that readers have."""
    said = succeeded(site.run(**options))
    assert (said["changed"], said["action"]) == (True, "rotated")
    assert said["steps"][:6] == WHOLE
    site.settled()
    return said


# ------------------------------------------------------------------ the strategies
@pytest.mark.parametrize("strategy", ["single", "admin"])
def test_a_rotation_gives_readers_and_the_server_a_new_password(site: Site, strategy: str) -> None:
    admin = {"admin_secret": ADMIN_SECRET} if strategy == "admin" else {}
    before = site.stored()
    said = rotated(site, strategy=strategy, **admin)
    after = site.stored()
    assert after["password"] != before["password"]
    assert {**after, "password": ""} == {**before, "password": ""}
    assert not site.logs_in(FIRST)
    assert json.loads(site.store.previous(site.secret)) == before
    assert said["username"] == site.login
    assert said["secret"]["version"] == site.store.version(site.secret)
    assert len(after["password"]) == 40
    assert site.verifier().startswith("SCRAM-SHA-256$")


def test_two_logins_take_turns_and_the_previous_stays_valid_until_the_next(site: Site) -> None:
    options = {"strategy": "alternate", "admin_secret": ADMIN_SECRET}
    run_in(site.server, "postgres", f"GRANT CREATE ON SCHEMA public TO {site.login}")
    documents = [site.stored()]
    for number in range(1, 5):
        rotated(site, **(options if number == 1 else {"strategy": "alternate"}))
        documents.append(site.stored())
        users = [one["username"] for one in documents]
        assert users == [site.login, site.second, site.login, site.second, site.login][: number + 1]
        valid = [site.logs_in(one["password"], one["username"]) for one in documents]
        assert valid == [False] * (number - 1) + [True, True]
        with site.server.connect(user=documents[-1]["username"], password=documents[-1]["password"]) as conn:
            conn.execute(f"CREATE TABLE public.made_{site.number}_{number} ()".encode())
    owners = f"SELECT DISTINCT tableowner::text FROM pg_tables WHERE tablename ~ '^made_{site.number}_'"
    assert ask(site.server, owners) == [(site.login,)]
    owned = (
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = %(u)s::regrole AND classid <> 'pg_auth_members'::regclass"
    )
    assert ask(site.server, owned, u=site.second) == [(0,)]


def test_an_administrator_is_needed_only_to_make_the_second_login(site: Site) -> None:
    before = site.stored()
    refused(site.run(strategy="alternate"), REFUSED, f"password of {site.second} is known", "admin_secret")
    assert site.stored() == before
    succeeded(site.run(strategy="alternate", admin_secret=ADMIN_SECRET))
    site.settled()
    rotated(site, strategy="alternate")


def test_a_second_login_that_does_not_act_as_the_first_is_never_given_to_readers(site: Site) -> None:
    for _turn in range(2):
        rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    before, second = site.stored(), json.loads(site.store.previous(site.secret))
    run_in(site.server, "postgres", f"SET ROLE {site.server.admin}; REVOKE {site.login} FROM {site.second}")
    refused(site.run(strategy="alternate"), REFUSED, f"login {site.second} acts as {site.second}", "former password")
    assert site.stored() == before
    assert site.logs_in(second["password"], site.second)
    site.settled()


def closed_to_others(site: Site) -> str:
    """Make a database that only the login may enter; return its name."""
    name = f"closed_{site.number}"
    run_in(
        site.server,
        "postgres",
        f"CREATE DATABASE {name}",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO {site.login}",
    )
    return name


def test_a_second_login_gets_in_wherever_the_first_does(site: Site) -> None:
    """CONNECT is asked of the login itself, before it acts as anybody."""
    closed = closed_to_others(site)
    rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    found = site.stored()
    assert found["username"] == site.second
    with site.server.connect(user=site.second, password=found["password"], dbname=closed) as conn:
        assert conn.execute("SELECT current_user::text").fetchall() == [(site.login,)]


@pytest.mark.parametrize("shape", ["rds"])
def test_a_second_login_that_may_not_connect_where_readers_do_is_never_given_to_them(site: Site) -> None:
    """Somebody else has made it."""
    closed, second = closed_to_others(site), f"CREATE ROLE {site.second} LOGIN"
    act = (f"ALTER ROLE {site.second} SET role = {site.login}", f"GRANT {site.second} TO cloudadmin WITH ADMIN OPTION")
    run_in(site.server, "postgres", second, f"GRANT {site.login} TO {site.second} WITH INHERIT FALSE, SET TRUE", *act)
    site.put(dbname=closed)
    for _run in range(2):
        said = site.run(strategy="alternate", admin_secret=ADMIN_SECRET)
        refused(said, "server_unreachable", "permission denied for database")
        assert site.stored()["username"] == site.login
        assert site.reader_logs_in()


def test_a_second_login_that_forgets_whom_it_acts_as_is_told_of_and_left_alone(site: Site) -> None:
    for _turn in range(3):
        rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    before = site.stored()
    run_in(site.server, "postgres", f"ALTER ROLE {site.second} RESET role")
    said = site.run(strategy="alternate", admin_secret=ADMIN_SECRET)
    acting = f"""ALTER ROLE "{site.second}" SET role = '{site.login}'"""
    refused(said, REFUSED, f"login {site.second} is the second of {site.login} by its name", acting)
    assert site.stored() == before
    run_in(site.server, "postgres", acting)
    rotated(site, strategy="alternate")
    assert site.stored()["username"] == site.login


def test_a_second_login_that_lost_the_first_leaves_it_to_the_administrator(site: Site) -> None:
    rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    site.set_password("pw-Nobody-knows")
    grant = f"GRANT {site.login} TO {site.second}"
    run_in(site.server, "postgres", f"SET ROLE {site.server.admin}; REVOKE {site.login} FROM {site.second}")
    refused(site.run(strategy="alternate"), REFUSED, f"nobody who may set the password of {site.login}")
    rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    run_in(site.server, "postgres", f"SET ROLE {site.server.admin}; {grant}")
    rotated(site, strategy="alternate")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER ROLE {login} REPLICATION", "has REPLICATION"),
        ("ALTER ROLE {login} IN DATABASE postgres SET role = 'pg_monitor'", "acts as another role in a database"),
    ],
)
def test_a_login_that_no_second_one_could_stand_in_for_is_refused(site: Site, change: str, words: str) -> None:
    run_in(site.server, "postgres", change.format(login=site.login))
    for check in (True, False):
        with unchanged(site.server):
            said = site.run(check=check, strategy="alternate", admin_secret=ADMIN_SECRET)
        refused(said, REFUSED, f"login {site.login} {words}", "strategy single or admin")
    assert not site.store.pending(site.secret)


@pytest.mark.parametrize("strategy", ["single", "alternate"])
def test_a_login_that_only_reads_by_default_is_rotated_all_the_same(site: Site, strategy: str) -> None:
    run_in(site.server, "postgres", f"ALTER ROLE {site.login} SET default_transaction_read_only = on")
    admin = {} if strategy == "single" else {"admin_secret": ADMIN_SECRET}
    for _turn in range(3):
        rotated(site, strategy=strategy, **admin)
        admin = {}


def test_the_administrator_is_neither_of_the_two(site: Site) -> None:
    rotated(site, strategy="alternate", admin_secret=ADMIN_SECRET)
    site.store.put("other-admin", json.dumps({"username": site.login, "password": FIRST}))
    for check in (True, False):
        said = site.run(check=check, strategy="alternate", admin_secret="other-admin")
        refused(said, REFUSED, f"the administrator is {site.login}, whose password is to be rotated")


def test_the_second_login_is_made_with_the_settings_and_limits_of_the_first(site: Site) -> None:
    run_in(
        site.server,
        "postgres",
        f"ALTER ROLE {site.login} CONNECTION LIMIT 7 VALID UNTIL '2040-01-02 03:04:05+00'",
        f"""ALTER ROLE {site.login} SET search_path = "Two words", "$user", public""",
        f"ALTER ROLE {site.login} SET statement_timeout = '7s'",
        f"ALTER ROLE {site.login} SET app.tenant = 'a=b, ''c'''",
        f"ALTER ROLE {site.login} IN DATABASE postgres SET work_mem = '7MB'",
    )
    wish = {"strategy": "alternate", "admin_secret": ADMIN_SECRET}
    refused(site.run(**wish), REFUSED, "42501", "app.tenant", "copied by who may SET their parameters")
    run_in(site.server, "postgres", f"GRANT SET ON PARAMETER app.tenant TO {site.server.admin}")
    rotated(site, **wish)
    limits = "SELECT rolconnlimit, rolvaliduntil FROM pg_roles WHERE rolname = %(u)s"
    assert ask(site.server, limits, u=site.second) == ask(site.server, limits, u=site.login)
    settings = """SELECT setdatabase, unnest(setconfig) FROM pg_db_role_setting
                   WHERE setrole = %(u)s::regrole ORDER BY 1, 2"""
    copied = [row for row in ask(site.server, settings, u=site.second) if row[1] != f"role={site.login}"]
    assert copied == ask(site.server, settings, u=site.login)
    assert len(copied) == 4
    found = site.stored()
    with site.server.connect(user=found["username"], password=found["password"]) as conn:
        assert conn.execute("SHOW search_path").fetchone() == ('"Two words", "$user", public',)
        assert conn.execute("SHOW work_mem").fetchone() == ("7MB",)


# ------------------------------------------------------------------ due or not
def test_what_is_not_due_costs_one_read_and_no_connection(site: Site) -> None:
    rotated(site)
    log, asked = Log(site.server), len(site.asked())
    said = succeeded(site.run(max_age_days=30, login_port=1))
    assert (said["changed"], said["action"], said["due"], said["steps"]) == (False, "none", False, [])
    assert site.asked()[asked:] == ["DescribeSecret" if isinstance(site.store, Aws) else "get_secret"]
    assert said["age_days"] < 0.1
    assert "connection" not in log.text()
    again = succeeded(site.run(max_age_days=30, force=True))
    assert (again["action"], again["due"]) == ("rotated", True)


def test_check_mode_writes_nothing(site: Site) -> None:
    written, history = site.written(), site.store.history(site.secret)
    with unchanged(site.server):
        said = succeeded(site.run(check=True, diff=True))
    assert (said["changed"], said["action"], said["steps"]) == (True, "rotated", WHOLE)
    with unchanged(site.server):
        two = succeeded(site.run(check=True, diff=True, strategy="alternate", admin_secret=ADMIN_SECRET))
    assert two["diff"]["after"].startswith(f"{site.second}, a new password")
    with unchanged(site.server):
        said = site.run(check=True, strategy="alternate")
    refused(said, REFUSED, f"nobody who may set the password of {site.second} is known")
    assert (site.written(), site.store.history(site.secret)) == (written, history)
    assert site.logs_in(FIRST)


# ------------------------------------------------------------------ what an earlier run or somebody else has left
def write_pending(site: Site, **changed: Any) -> str:
    """Do what a run does before it ends at once; return the version."""
    cloud = cloud_of(site.store.option | dict.fromkeys(SECRET_STORE["options"].keys() - site.store.option.keys()))
    document = {**site.stored(), "password": "pw-Pending-password", **changed}
    return access.open_store(cloud).write_pending(site.secret, json.dumps(document), token=str(uuid.uuid4())).id


@pytest.mark.parametrize("strategy", ["single", "admin"])
@pytest.mark.parametrize("known", [False, True], ids=["before the server knew", "before readers got it"])
def test_what_was_begun_is_brought_to_its_end_with_the_same_password(site: Site, strategy: str, known: bool) -> None:
    write_pending(site)
    if known:
        site.set_password("pw-Pending-password")
    admin = {"admin_secret": ADMIN_SECRET} if strategy == "admin" else {}
    options = {"strategy": strategy, "max_age_days": 30, "window": "0-1" if hour() else "1-2", **admin}
    checked = succeeded(site.run(check=True, **options))
    said = succeeded(site.run(**options))
    assert (said["changed"], said["action"], said["due"]) == (True, "resumed", False)
    assert said["steps"] == checked["steps"] == WHOLE[2 if known else 1 :]
    assert site.stored()["password"] == "pw-Pending-password"
    site.settled()
    asked = len(site.asked())
    assert succeeded(site.run(**options))["action"] == "none"
    assert len(site.asked()) == asked + 1


def hour() -> int:
    """The hour of the day, in UTC."""
    return dt.datetime.now(dt.timezone.utc).hour


def test_a_password_that_was_set_back_is_put_right(site: Site) -> None:
    rotated(site)
    site.set_password(FIRST)
    said = succeeded(site.run(max_age_days=30, force=True))
    assert said["steps"] == ["restore", *WHOLE]
    site.settled()
    site.set_password(json.loads(site.store.previous(site.secret))["password"])
    before = site.stored()
    write_pending(site)
    said = succeeded(site.run(max_age_days=30))
    assert (said["action"], said["steps"]) == ("resumed", ["restore", *WHOLE[1:]])
    site.settled()
    assert site.stored()["password"] != before["password"]


def test_a_password_that_nobody_knows_is_replaced_only_by_an_administrator_who_is_told_to(site: Site) -> None:
    site.set_password("pw-Nobody-knows")
    before, history = site.verifier(), site.store.history(site.secret)
    refused(site.run(), REFUSED, f"no password in the secret {site.secret} is that of {site.login}", "force")
    admin = {"strategy": "admin", "admin_secret": ADMIN_SECRET}
    refused(site.run(**admin), REFUSED, f"no password in the secret {site.secret} is that of {site.login}")
    assert (site.verifier(), site.store.history(site.secret)) == (before, history)
    said = succeeded(site.run(force=True, **admin))
    assert (said["action"], said["steps"]) == ("rotated", ["restore", *WHOLE])
    site.settled()


def test_that_somebody_else_logs_in_proves_nothing(site: Site) -> None:
    """Who can write the secret must not have an administrator set a password of any login's."""
    with site.server.connect_admin() as conn:
        conn.execute(f"CREATE ROLE victim_{site.number} LOGIN PASSWORD 'pw-Victim-password'".encode())
    site.put(username=f"victim_{site.number}", password="pw-Attacker-password")
    for strategy in ("single", "admin", "alternate"):
        admin = {} if strategy == "single" else {"admin_secret": ADMIN_SECRET}
        refused(site.run(strategy=strategy, **admin), REFUSED, "no password in the secret")
    assert site.logs_in("pw-Victim-password", f"victim_{site.number}")


@pytest.mark.parametrize("known", [False, True])
def test_what_another_strategy_has_left_is_discarded(site: Site, known: bool) -> None:
    write_pending(site, username=site.second)
    if known:
        run_in(site.server, "postgres", f"CREATE ROLE {site.second} LOGIN PASSWORD 'pw-Pending-password'")
    said = succeeded(site.run(max_age_days=30))
    assert (said["action"], said["steps"]) == ("resumed", ["discard"])
    assert site.stored()["password"] == FIRST
    site.settled()


def test_what_another_strategy_has_left_is_used_if_readers_have_nothing_else(site: Site) -> None:
    write_pending(site, username=site.second)
    second = f"CREATE ROLE {site.second} LOGIN PASSWORD 'pw-Pending-password' IN ROLE {site.login}"
    run_in(site.server, "postgres", second, f"ALTER ROLE {site.second} SET role = {site.login}")
    site.set_password("pw-Nobody-knows")
    said = succeeded(site.run(max_age_days=30))
    assert (said["action"], said["username"]) == ("resumed", site.second)
    site.settled()


@pytest.mark.parametrize("shape", ["rds"])
def test_a_secret_that_somebody_changes_meanwhile_is_theirs_and_works(site: Site) -> None:
    theirs = {**site.stored(), "password": "pw-Theirs-password"}
    site.store.fake.on("UpdateSecretVersionStage", lambda _request: site.put(password="pw-Theirs-password"), times=1)
    refused(site.run(), UNREADABLE, "somebody else has changed it", "has its former password again")
    assert site.stored() == theirs
    site.settled()


@pytest.mark.parametrize("known", [False, True], ids=["before the server knew", "before readers got it"])
def test_what_somebody_has_written_into_the_secret_meanwhile_is_kept(site: Site, known: bool) -> None:
    write_pending(site)
    if known:
        site.set_password("pw-Pending-password")
    site.put(team="data", owner="ada")
    assert succeeded(site.run(max_age_days=30, force=True))["action"] == "resumed"
    found = site.stored()
    assert (found["password"], found["owner"]) == ("pw-Pending-password", "ada")
    site.settled()


def test_what_readers_have_already_is_finished_though_somebody_has_written_more_into_the_secret(site: Site) -> None:
    write_pending(site, password=FIRST)
    site.put(owner="ada")
    said = succeeded(site.run())
    assert (said["action"], said["steps"]) == ("resumed", WHOLE[-2:])
    assert site.stored()["owner"] == "ada"
    site.settled()


def test_force_does_not_leave_it_at_finishing(site: Site) -> None:
    write_pending(site, password=FIRST)
    said = succeeded(site.run(max_age_days=30, force=True))
    assert (said["action"], said["steps"]) == ("rotated", [*WHOLE[-2:], *WHOLE])
    assert not site.logs_in(FIRST)
    site.settled()


def test_a_run_that_found_it_due_before_another_rotated_it_lets_it_be(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, others = running.begin, iter([site.run])

    def late(*arguments: Any) -> Any:
        for other in others:
            assert succeeded(other())["action"] == "rotated"
        return begin(*arguments)

    monkeypatch.setattr(running, "begin", late)
    said = succeeded(site.run())
    assert (said["action"], said["reason"]) == ("none", "another run has rotated it meanwhile")
    assert len(site.store.history(site.secret)) == 2
    site.settled()


def test_of_two_runs_at_once_one_rotates_and_the_other_says_so(site: Site) -> None:
    site.store.fake.delay = 0.05
    with ThreadPoolExecutor(2) as pool:
        said = [run.result() for run in [pool.submit(site.run) for _run in range(2)]]
    assert sorted(succeeded(one)["action"] for one in said) == ["none", "rotated"]
    assert {one["reason"] for one in said if one["action"] == "none"} == {"another run has rotated it meanwhile"}
    assert len(site.store.history(site.secret)) == 2
    site.settled()


# ------------------------------------------------------------------ what the server says no to
@pytest.mark.parametrize("shape", ["rds"])
def test_an_administrator_without_the_right_is_told_what_gives_it(site: Site) -> None:
    run_in(site.server, "postgres", f"CREATE ROLE x_{site.number} LOGIN PASSWORD '{FIRST}'")
    site.put(username=f"x_{site.number}")
    me = site.server.admin
    statement = f'GRANT "x_{site.number}" TO "{me}" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
    for strategy in ("admin", "alternate"):
        said = site.run(strategy=strategy, admin_secret=ADMIN_SECRET)
        refused(said, REFUSED, f"login {me} may not set the password", "42501", statement)
        assert not site.store.pending(site.secret)
    run_in(site.server, "postgres", statement)
    for strategy in ("admin", "alternate"):
        rotated(site, strategy=strategy, admin_secret=ADMIN_SECRET)


@pytest.mark.parametrize("shape", ["azure"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_password_that_the_server_refuses_is_replaced_by_another(
    site: Site, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    tried: list[str] = []
    original = steps.execute_together

    def strict(session: Any, commands: Any) -> None:
        tried.append(str(commands))
        if len(tried) <= times:
            raise psycopg.errors.InvalidParameterValue("password is easily cracked")
        original(session, commands)

    monkeypatch.setattr(steps, "execute_together", strict)
    said = site.run()
    assert len(set(tried)) == 3
    if times == 3:
        refused(said, REFUSED, "the server refuses the new password", "22023")
    else:
        assert succeeded(said)["steps"][-6:] == WHOLE
    site.settled()


def test_older_sessions_end_if_that_is_asked_for(site: Site) -> None:
    def still_there(said: dict[str, Any]) -> bool:
        succeeded(said)
        try:
            session.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    with site.server.connect(user=site.login, password=FIRST) as session:
        assert still_there(site.run())
        said = site.run(terminate_older_sessions=True)
        assert not still_there(said)
        assert said["steps"][-3:] == ["confirm", "end_older_sessions", "finish"]
    site.settled()


@pytest.mark.parametrize("shape", ["rds"])
def test_a_person_keeps_the_password_as_long_as_the_access_lasts(site: Site) -> None:
    bootstrapped(site.server)
    to = {"secret": {"name": site.secret + "-person"}, "secret_store": site.store.option}
    granted = succeeded(grant(site.server, f"rotation {site.number}", "ada@example.org", **to))
    options = {"secret": site.secret + "-person"}
    for check in (True, False):
        said = succeeded(site.run(check=check, **options))
        assert (said["changed"], said["action"], said["username"]) == (False, "deferred", granted["login"])
    assert len(site.store.history(site.secret + "-person")) == 1
    two = {"strategy": "alternate", "admin_secret": ADMIN_SECRET}
    with unchanged(site.server):
        said = site.run(**options, **two, defer_while_active=False)
    refused(said, REFUSED, f"login {granted['login']} is a person's", "strategy single or admin")
    assert succeeded(site.run(**options, defer_while_active=False))["action"] == "rotated"
    assert len(site.store.history(site.secret + "-person")) == 2


# ------------------------------------------------------------------ what is never done
@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"strategy": "admin"}, INVALID, ["strategy: admin needs an administrator"]),
        ({"admin_secret": ADMIN_SECRET}, INVALID, ["admin_secret: with strategy single"]),
        ({"window": "soon"}, INVALID, ["window: 'soon'", "22-04"]),
        ({"max_age_days": -1}, INVALID, ["max_age_days: -1"]),
        ({"password_length": 15}, INVALID, ["password_length: 15", "16 to 128"]),
        ({"password_length": 129}, INVALID, ["password_length: 129"]),
        ({"login_host": "p.proxy-abc.eu-west-1.rds.amazonaws.com"}, INVALID, ["is an RDS Proxy"]),
        ({"login_host": "127.0.0.1"}, UNREADABLE, ["it is for another server, localhost:"]),
        ({"secret": "gone"}, UNREADABLE, ["secret gone in AWS Secrets Manager", "it does not exist"]),
    ],
)
def test_bad_input_is_one_clear_line(site: Site, options: dict[str, Any], kind: str, words: list[str]) -> None:
    written = site.written()
    with unchanged(site.server):
        refused(site.run(**options), kind, *words)
    assert site.written() == written


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        ({"port": 1}, UNREADABLE, ["it is for another server", ":1, than"]),
        ({"username": "rdsadmin"}, UNREADABLE, ["rdsadmin, a role of the platform"]),
        ({"username": "x" * 62}, INVALID, ["longer than 63 bytes"]),
        ({"username": "nobody"}, REFUSED, ["role nobody does not exist"]),
        ({"username": "readers"}, REFUSED, ["role readers has no LOGIN"]),
        ({"username": "by_token"}, REFUSED, ["role by_token is in rds_iam", "no password to rotate"]),
        ({"username": "cloudadmin"}, REFUSED, ["the administrator is cloudadmin"]),
        ({"username": "somebody"}, REFUSED, ["no password in the secret"]),
        ({"username": "owned", "password": "owned-password"}, REFUSED, ["acts as role readers by a setting"]),
        ({"username": "taken", "password": "taken-password"}, REFUSED, ["taken_b exists, and does not act as taken"]),
    ],
)
def test_a_secret_that_is_not_fit_is_refused(site: Site, document: dict[str, Any], kind: str, words: list[str]) -> None:
    if not ask(site.server, "SELECT FROM pg_roles WHERE rolname = 'readers'"):
        long = f"CREATE ROLE {'x' * 62} LOGIN PASSWORD '{FIRST}'"
        owned = "CREATE ROLE owned LOGIN PASSWORD 'owned-password' IN ROLE readers; ALTER ROLE owned SET role = readers"
        taken = "CREATE ROLE taken LOGIN PASSWORD 'taken-password'; CREATE ROLE taken_b LOGIN"
        token = "CREATE ROLE by_token LOGIN IN ROLE rds_iam"
        with site.server.connect() as conn:
            for command in ("CREATE ROLE readers", "CREATE ROLE somebody LOGIN", token, long, owned, taken):
                conn.execute(command.encode())
            conn.execute("GRANT taken TO cloudadmin WITH ADMIN OPTION")
    site.put(**document)
    refused(site.run(strategy="alternate", admin_secret=ADMIN_SECRET), kind, *words)
    assert not site.store.pending(site.secret)


@pytest.mark.parametrize("strategy", ["admin", "alternate"])
def test_the_administrator_of_another_server_is_refused(site: Site, strategy: str) -> None:
    admin = {"username": site.server.admin, "password": site.server.passwords[site.server.admin]}
    site.store.put("other-admin", json.dumps({**admin, "host": "elsewhere.example.com"}))
    with unchanged(site.server):
        said = site.run(strategy=strategy, admin_secret="other-admin")
    refused(said, UNREADABLE, "admin_secret: secret other-admin", "it is for another server, elsewhere.example.com:")
    assert not site.store.pending(site.secret)


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize("owner", ["rds", "a function", "rds!cluster-1"])
def test_a_secret_that_somebody_else_rotates_is_left_alone(site: Site, owner: str) -> None:
    secret = site.store.fake.secrets[site.secret]
    options: dict[str, Any] = {}
    if owner == "a function":
        secret.rotation_enabled = True
        secret.rotation_lambda = "arn:aws:lambda:eu-west-1:123456789012:function:rotate"
    elif owner == "rds":
        secret.owning_service = "rds"
    else:
        site.store.put(owner, json.dumps(site.stored()))
        options = {"secret": owner}
    refused(site.run(**options), UNREADABLE, "changes it, so nobody else may")
    if owner == "a function":
        assert succeeded(site.run(force=True))["action"] == "rotated"
    else:
        refused(site.run(**options, force=True), UNREADABLE, "changes it, so nobody else may")


@pytest.mark.parametrize("shape", ["rds"])
def test_a_standby_is_refused(site: Site) -> None:
    with site.server.standby() as standby:
        standby.wait_for(site.server)
        site.put(port=standby.port)
        refused(site.run(login_port=standby.port), REFUSED, "this server is a standby")
    assert site.logs_in(FIRST)


@pytest.mark.parametrize("shape", ["azure"])
def test_a_server_that_takes_any_password_proves_nothing(site: Site, shaped: Shaped) -> None:
    with_trust = shaped(major=15, shape="azure", hba=("hostssl all all all trust",))
    one = Site(server=with_trust, store=site.store)
    one.prepare()
    before = one.verifier()
    refused(one.run(), REFUSED, f"a wrong password of {one.login} is taken", "scram-sha-256")
    assert one.verifier() == before
    assert not one.store.pending(one.secret)


# ------------------------------------------------------------------ where no password ever is
def test_a_password_is_in_the_store_and_nowhere_else(site: Site) -> None:
    log, admin = Log(site.server), {"admin_secret": ADMIN_SECRET}
    said = [site.run(check=True, diff=True), site.run(diff=True), site.run(max_age_days=30)]
    said += [site.run(strategy="admin", **admin), site.run(strategy="alternate", **admin)]
    said += [site.run(strategy="alternate", terminate_older_sessions=True), site.run(secret="gone")]
    write_pending(site, username=site.login)
    said += [site.run(), site.run(strategy="alternate", login_port=1)]
    passwords = {json.loads(str(text))["password"] for text in site.store.history(site.secret)}
    assert len(passwords) >= 5
    for password in passwords:
        assert password not in json.dumps(said, default=str)
        assert password not in log.text()


# ------------------------------------------------------------------ through Ansible
@pytest.mark.parametrize("direct", ["auto", "never"])
def test_both_doors_take_the_group_s_defaults_and_say_the_same(site: Site, direct: str, tmp_path: Path) -> None:
    options = site.options()
    common = {key: options.pop(key) for key in ("login_host", "login_port", "ca_cert", "secret_store")}
    defaults = {"group/latchkey.postgres.pg": {**common, "login_user": "nobody", "login_password": "of-nobody"}}
    name = "latchkey.postgres.pg_rotate_credentials"
    module = {"module_defaults": defaults, "no_log": False}
    tasks = [
        {name: {**options, "direct": direct}, **module, "check_mode": True, "register": "checked"},
        {name: {**options, "direct": direct}, **module, "register": "done"},
        {name: {**options, "direct": direct, "max_age_days": 30}, **module, "register": "again"},
        {"ansible.builtin.set_fact": {"kept": {one: f"{{{{ {one} }}}}" for one in ("checked", "done", "again")}}},
    ]
    played = play(tmp_path, tasks, "-vvvv", env=site.store.environment())
    assert played.code == 0, played.output
    (said,) = played.kept.values()
    assert [said[one]["action"] for one in ("checked", "done", "again")] == ["rotated", "rotated", "none"]
    assert said["checked"]["steps"] == said["done"]["steps"] == WHOLE
    assert [said[one]["changed"] for one in ("checked", "done", "again")] == [True, True, False]
    site.settled()
    assert site.stored()["password"] not in played.output
    assert FIRST not in played.output
