# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's credentials: where they are, in which order they get there, and where no password ever is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.fakes import FakeAzure, FakeSecretsManager
from tests.integration import access as product
from tests.integration.access import DATABASE, bootstrapped, expire, gets_in, person, refusal
from tests.integration.connector_secrets import Aws, Azure, enter
from tests.integration.product import CONNECTOR, Log, ask, catalog, changes, succeeded
from tests.integration.test_faults_common import refused, unchanged
from tests.rig.faults import Proxy

if TYPE_CHECKING:
    from tests.rig import ShapedServer

Shaped = Callable[..., "ShapedServer"]
UNREADABLE, UNREACHABLE = "secret_unreadable", "server_unreachable"
NUMBERS = itertools.count()
COUNT = "SELECT count(*) FROM alpha_s.t_plain"
LOG_ALL = {"log_statement": "all", "log_min_messages": "debug2", "log_min_error_statement": "debug2"}

pytestmark = pytest.mark.usefixtures("forgotten")


@dataclass(kw_only=True)
class Site:
    """A server with the store of its cloud, and a person with a secret that no other test has."""

    server: ShapedServer
    store: Aws | Azure
    who: str
    secret: str

    @property
    def login(self) -> str:
        """The person's login."""
        return names.login_role(self.who)

    def grant(self, request: str = "1", **options: Any) -> dict[str, Any]:
        """Ask for access whose credentials go to the secret, as a process that knows nothing from before."""
        access._known.clear()
        to = {"secret": {"name": self.secret}, "secret_store": self.store.option}
        return product.grant(self.server, f"{self.who} {request}", self.who, **{**to, **options})

    def revoke(self, request: str = "1", **options: Any) -> dict[str, Any]:
        """End it, and the secret."""
        access._known.clear()
        cloud = {"secret_store": self.store.option, **options}
        return product.revoke(self.server, f"{self.who} {request}", **cloud)

    def sweep(self, **options: Any) -> dict[str, Any]:
        """Sweep, the secrets too."""
        access._known.clear()
        return product.sweep(self.server, secret_store=self.store.option, **options)

    def stored(self) -> dict[str, Any]:
        """What a reader of the secret gets."""
        return dict(json.loads(self.store.read(self.secret)))

    def said(self) -> dict[str, Any]:
        """What the store says, as an answer would."""
        stored = self.stored()
        return {"login": stored["username"], "password": stored["password"]}

    def known(self) -> bool:
        """Whether the server has a login for the person."""
        return bool(ask(self.server, "SELECT FROM pg_roles WHERE rolname = %(u)s", u=self.login))

    def on_write(self, action: Callable[[Any], object]) -> None:
        """Call when a value has been written, before the product knows."""
        operations = ("CreateSecret", "PutSecretValue") if isinstance(self.store, Aws) else ("set_secret",)
        for operation in operations:
            self.store.fake.on(operation, action, when="after", times=1)

    def down(self) -> None:
        """Let the store fail."""
        for operation in sorted(self.store.fake.operations() - {"token", "openid", "unknown", "instance"}):
            self.store.fake.fail(
                operation,
                code="AccessDeniedException" if isinstance(self.store, Aws) else "Forbidden",
                status=400 if isinstance(self.store, Aws) else 403,
            )


@pytest.fixture
def store(shape: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws | Azure]:
    """Return the store of the server's cloud."""
    with FakeSecretsManager() if shape == "rds" else FakeAzure() as fake:
        found = Aws(fake=fake) if isinstance(fake, FakeSecretsManager) else Azure(fake=fake)
        enter(found.environment(), monkeypatch)
        yield found


@pytest.fixture(scope="module")
def ready(shaped_once: Shaped) -> Shaped:
    """Return servers that are bootstrapped once and log all."""
    done: set[int] = set()

    def get(**options: Any) -> ShapedServer:
        server = shaped_once(**options)
        if server.port not in done:
            server.restart(**LOG_ALL)
            bootstrapped(server)
            done.add(server.port)
        return server

    return get


@pytest.fixture
def site(ready: Shaped, store: Aws | Azure, shape: str) -> Site:
    """Return a server of each cloud."""
    number = next(NUMBERS)
    who = f"secret-{number}@example.org"
    return Site(server=ready(major=17, shape=shape), store=store, who=who, secret=f"person-{number}")


# ------------------------------------------------------------------ delivery
def test_who_reads_the_secret_logs_in_and_it_was_there_before_the_server_knew(site: Site) -> None:
    known: list[bool] = []
    site.on_write(lambda _request: known.append(site.known()))
    said = succeeded(site.grant(secret={"name": site.secret, "tags": {"team": "data"}}))
    assert known == [False]
    stored = site.stored()
    assert {key: stored[key] for key in ("username", "host", "port", "dbname", "engine")} == {
        "username": said["login"],
        "host": site.server.host,
        "port": site.server.port,
        "dbname": DATABASE,
        "engine": "postgres",
    }
    assert site.secret in said["secret"]
    assert site.secret in said["access_details"]
    assert "password" not in said
    assert site.store.tags(site.secret) == {"team": "data"}
    with person(site.server, site.said()) as session:
        assert refusal(session, COUNT) is None
    written = len(site.store.history(site.secret))
    again = succeeded(site.grant())
    assert (again["changed"], again["secret"]) == (False, said["secret"])
    assert len(site.store.history(site.secret)) == written == 1
    succeeded(site.revoke())


def test_check_mode_writes_no_secret(site: Site) -> None:
    with unchanged(site.server):
        assert succeeded(site.grant(check=True))["changed"]
    assert site.store.history(site.secret) == []


def test_a_run_that_is_cut_between_store_and_server_is_healed_by_the_next(site: Site) -> None:
    with Proxy(port_behind=site.server.port, refuse=True) as proxy:
        site.on_write(lambda _request: proxy.cut())
        refused(site.grant(connect_params={"port": proxy.port}), UNREACHABLE)
    assert not site.known()
    lost = site.stored()["password"]
    said = succeeded(site.grant())
    assert site.stored()["password"] != lost
    assert gets_in(site.server, site.said())
    assert not gets_in(site.server, {**said, "password": lost})
    succeeded(site.revoke())


def test_a_second_request_of_the_person_keeps_the_credentials(site: Site) -> None:
    first = succeeded(site.grant())
    before = site.stored()
    more = [{"database": "admindb", "permission": "READ_ONLY"}]
    second = succeeded(site.grant("2", access=more))
    assert second["secret"] == first["secret"]
    assert site.stored() == before
    assert gets_in(site.server, site.said(), "admindb")
    assert succeeded(site.revoke())["secrets_withdrawn"] == []
    assert site.stored() == before
    succeeded(site.revoke("2"))
    assert "password" not in site.stored()


@pytest.mark.parametrize("whose", ["another person", "the connector", "bare", "nobody"])
def test_a_secret_of_somebody_else_is_never_overwritten(site: Site, whose: str) -> None:
    text = {
        "another person": json.dumps({"username": "bob_0123abcd", "password": "of-bob"}),
        "the connector": json.dumps({"username": CONNECTOR, "password": "of-connector"}),
        "bare": "just-a-password",
        "nobody": json.dumps({"password": "of-nobody"}),
    }[whose]
    site.store.put(site.secret, text)
    before = catalog(site.server)
    refused(site.grant(), UNREADABLE, site.secret, f"not of {site.login}", "Name a secret of the person's own")
    assert site.store.history(site.secret) == [text]
    assert changes(before, catalog(site.server)) == []


def test_one_secret_is_not_for_two_servers(site: Site) -> None:
    text = json.dumps({"username": site.login, "password": "of-there", "host": "elsewhere.example.com", "port": 5432})
    site.store.put(site.secret, text)
    before = catalog(site.server)
    refused(site.grant(), UNREADABLE, site.secret, "for another server, elsewhere.example.com:5432", "for each server")
    assert site.store.history(site.secret) == [text]
    assert changes(before, catalog(site.server)) == []


def test_a_store_that_is_down_keeps_the_server_as_it_is(site: Site) -> None:
    succeeded(site.sweep(cleanup_after_days=0, profile_retention_days=0))
    before = catalog(site.server)
    site.down()
    refused(site.grant(access=[{"database": "admindb", "permission": "READ_WRITE"}]), UNREADABLE)
    assert changes(before, catalog(site.server)) == []
    site.store.fake.clear_hooks()
    succeeded(site.grant())
    assert gets_in(site.server, site.said())
    succeeded(site.revoke())


# ------------------------------------------------------------------ the end of it
@pytest.mark.parametrize("end", ["revoke", "sweep", "gone"])
def test_after_the_end_the_secret_has_no_password_and_the_next_grant_refreshes_it(site: Site, end: str) -> None:
    said = succeeded(site.grant())
    old = site.said()
    if end == "revoke":
        answer = site.revoke()
    elif end == "gone":
        answer = site.sweep(gone=[site.who])
    else:
        expire(site.server, f"{site.who} 1")
        answer = site.sweep()
    assert succeeded(answer)["secrets_withdrawn"] == [said["secret"]]
    left = site.stored()
    assert set(left) == {"username", "revoked_at"}
    assert old["password"] not in str(site.store.current(site.secret))
    assert not gets_in(site.server, old)
    succeeded(site.grant("2"))
    assert gets_in(site.server, site.said())
    assert not gets_in(site.server, old)
    succeeded(site.revoke("2"))


def test_a_store_that_is_down_at_the_end_stops_no_fence_and_is_told(site: Site) -> None:
    succeeded(site.grant())
    old = site.said()
    site.down()
    answer = succeeded(site.revoke())
    assert answer["fenced"] == [site.login]
    assert any(site.secret in line for line in answer["warnings"])
    assert not gets_in(site.server, old)
    assert old["password"] in str(site.store.current(site.secret))


def test_a_secret_that_could_not_be_withdrawn_is_withdrawn_by_the_next_sweep(site: Site) -> None:
    succeeded(site.grant())
    site.down()
    succeeded(site.revoke())
    site.store.fake.clear_hooks()
    assert len(succeeded(site.sweep())["secrets_withdrawn"]) == 1
    assert "password" not in site.stored()


@pytest.mark.parametrize("gone", [False, True])
def test_every_sweep_comes_back_to_a_secret_until_it_is_withdrawn(site: Site, gone: bool) -> None:
    options: dict[str, Any] = {"gone": [site.who] if gone else [], "cleanup_after_days": 7}
    succeeded(site.grant())
    expire(site.server, f"{site.who} 1")
    site.down()
    for _time in range(2):
        swept = succeeded(site.sweep(**options))
        assert any(site.secret in line for line in swept["warnings"])
        assert swept["dropped"] == []
    site.store.fake.clear_hooks()
    assert len(succeeded(site.sweep(**options))["secrets_withdrawn"]) == 1
    assert "password" not in site.stored()


@pytest.mark.parametrize("how", ["revoke", "sweep"])
def test_a_secret_of_who_was_shut_without_the_store_is_withdrawn_by_the_next_sweep(site: Site, how: str) -> None:
    succeeded(site.grant())
    if how == "revoke":
        succeeded(product.revoke(site.server, f"{site.who} 1"))
    else:
        expire(site.server, f"{site.who} 1")
        succeeded(product.sweep(site.server))
    assert "password" in site.stored()
    assert len(succeeded(site.sweep())["secrets_withdrawn"]) == 1
    assert "password" not in site.stored()
    assert succeeded(site.sweep())["secrets_withdrawn"] == []
    succeeded(site.grant("2"))
    assert gets_in(site.server, site.said())
    succeeded(site.revoke("2"))
    assert "password" not in site.stored()


def test_a_request_that_is_over_gives_its_secret_back_when_it_is_asked_for_again(site: Site) -> None:
    succeeded(site.grant())
    expire(site.server, f"{site.who} 1")
    assert "expires_at" in site.grant(expires_at=product.PAST)["msg"]
    assert "password" not in site.stored()


# ------------------------------------------------------------------ where no password is
def everywhere(site: Site, log: Log) -> str:
    """All that others can read: the server's log, the journal, the comments."""
    journal = ask(site.server, "SELECT to_jsonb(j)::text FROM latchkey.journal j")
    comments = ask(site.server, "SELECT description FROM pg_shdescription")
    return log.text() + repr(journal) + repr(comments)


def test_a_password_of_the_store_is_nowhere_else(site: Site) -> None:
    log = Log(site.server)
    said = [site.grant(check=True), site.grant(), site.grant(), site.grant(duration="2h")]
    secret = site.said()["password"]
    said += [site.grant(access=[{"database": "nope", "permission": "READ_ONLY"}]), site.revoke(check=True)]
    said += [site.revoke(), site.sweep(), site.grant("3", duration="9h")]
    assert len(secret) >= 20
    assert secret not in json.dumps(said, default=str)
    assert secret not in everywhere(site, log)


def test_return_password_is_the_one_place_where_a_password_is(site: Site) -> None:
    log = Log(site.server)
    options = {"secret": None, "secret_store": None, "return_password": True}
    given = succeeded(site.grant(**options))
    password = given.pop("password")
    assert gets_in(site.server, {**given, "password": password})
    rest = [
        given,
        site.grant(**options),
        site.grant(**options, duration="2h"),
        product.revoke(site.server, f"{site.who} 1"),
    ]
    assert password not in json.dumps(rest, default=str)
    assert password not in everywhere(site, log)
    checked = succeeded(site.grant("2", check=True, **options))
    assert checked["password"] is None


def test_a_verifier_of_the_person_works_and_no_other_password_is_made(site: Site) -> None:
    with site.server.connect() as conn:
        encrypted = conn.pgconn.encrypt_password(b"known to me alone", site.login.encode(), b"scram-sha-256")
    log = Log(site.server)
    said = succeeded(
        product.grant(site.server, f"{site.who} 1", site.who, password_verifier=encrypted.decode()),
    )
    assert (said.get("password"), said["secret"]) == (None, None)
    assert gets_in(site.server, {**said, "password": "known to me alone"})
    stored = ask(site.server, "SELECT rolpassword FROM pg_authid WHERE rolname = %(u)s", u=site.login)
    assert stored == [(encrypted.decode(),)]
    assert encrypted.decode() not in json.dumps(said)
    assert "known to me alone" not in everywhere(site, log)
    assert site.store.names() == set()
    succeeded(product.revoke(site.server, f"{site.who} 1"))
