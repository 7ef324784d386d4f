# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each strategy on a server of either cloud: what readers and the server have before, during and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import FakeAzure, FakeSecretsManager
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
    assert (site.written(), site.store.history(site.secret)) == (written, history)
    assert site.logs_in(FIRST)
