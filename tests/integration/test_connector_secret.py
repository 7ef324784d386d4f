# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connector's credentials live in the cloud's store: what is made, used, left alone and refused."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from tests.fakes import FakeAzure, FakeSecretsManager, moto_server
from tests.fakes.aws import OPERATIONS
from tests.fakes.azure import CLIENT, TENANT
from tests.integration.access import through
from tests.integration.connector_secrets import READABLE, REGION, Aws, Azure, Site, enter
from tests.integration.product import Log, catalog, changes, login_options, run_in, succeeded, task
from tests.integration.test_faults_common import refused, unchanged
from tests.rig import Authority, ShapedServer

Shaped = Callable[..., ShapedServer]
UNREADABLE, INVALID, UNREACHABLE = "secret_unreadable", "invalid_option", "server_unreachable"
GENERATED = re.compile(r"[A-Za-z0-9_-]{40}")
LOG_ALL = {"log_statement": "all", "log_min_messages": "debug2", "log_min_error_statement": "debug2"}


pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture
def store(shape: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws | Azure]:
    """Return the store of the server's cloud."""
    with FakeSecretsManager() if shape == "rds" else FakeAzure() as fake:
        found = Aws(fake=fake) if isinstance(fake, FakeSecretsManager) else Azure(fake=fake)
        enter(found.environment(), monkeypatch)
        yield found


@pytest.fixture
def site(shaped_once: Shaped, store: Aws | Azure, major: int, shape: str) -> Site:
    """Return a server of each kind with the store of its cloud."""
    return Site(server=shaped_once(major=major, shape=shape), store=store)


@pytest.fixture
def one_site(shaped_once: Shaped, store: Aws | Azure, shape: str) -> Site:
    """Return one server for each cloud, where its version makes no difference."""
    return Site(server=shaped_once(major=17, shape=shape), store=store)


# ------------------------------------------------------------------ a secret that is not there
def test_a_missing_secret_is_made_and_a_reader_logs_in_with_it(site: Site) -> None:
    said = succeeded(site.run(secret={"tags": {"team": "data"}}))
    stored = site.stored()
    assert GENERATED.fullmatch(stored["password"])
    assert stored == site.credentials(password=stored["password"])
    assert site.store.tags(site.secret) == {**READABLE, "team": "data"}
    assert site.reader_logs_in()
    assert said["changed"] is True
    assert said["secret"] == {
        "name": site.secret,
        "version": site.store.version(site.secret),
        "created": True,
        "replaced": False,
        "tags": {},
        "instance": None,
        "verified": True,
    }


def test_a_second_run_writes_nothing_on_the_server_or_in_the_store(site: Site) -> None:
    succeeded(site.run())
    before, written = site.stored(), site.written()
    with unchanged(site.server):
        said = succeeded(site.run(diff=True))
    assert (said["changed"], said["statements"], said["diff"]["after"]) == (False, [], "")
    assert said["secret"]["version"] == site.store.version(site.secret)
    assert (said["secret"]["created"], said["secret"]["tags"], said["secret"]["verified"]) == (False, {}, True)
    assert site.written() == written
    assert site.stored() == before
    assert len(site.store.history(site.secret)) == 1


def test_a_secret_whose_two_logins_take_turns_is_the_connectors_still(site: Site) -> None:
    succeeded(site.run())
    for login in (f"{site.connector}_b", site.connector):
        turn = {"secret": site.secret, "secret_store": site.store.option, "strategy": "alternate", "max_age_days": 0}
        succeeded(through(ROTATE, {**login_options(site.server), **turn}))
        assert site.stored()["username"] == login
        with unchanged(site.server):
            said = succeeded(site.run())
        assert (said["changed"], said["secret"]["verified"]) == (False, True)
        assert site.reader_logs_in()


@pytest.mark.parametrize("update_password", ["on_create", "always"])
def test_the_second_login_whose_password_was_changed_by_hand_is_left_to_the_next_rotation(
    one_site: Site, update_password: str
) -> None:
    site = one_site
    succeeded(site.run())
    turn = {"secret": site.secret, "secret_store": site.store.option, "strategy": "alternate", "max_age_days": 0}
    succeeded(through(ROTATE, {**login_options(site.server), **turn}))
    run_in(site.server, "postgres", f"ALTER ROLE {site.connector}_b PASSWORD 'pw-By-hand'")
    with unchanged(site.server):
        said = site.run(update_password=update_password)
    refused(said, UNREADABLE, f"its password is not that of role {site.connector}_b", "or run pg_rotate_credentials")
    said = succeeded(through(ROTATE, {**login_options(site.server), **turn}))
    assert said["steps"][0] == "restore"
    assert succeeded(site.run())["secret"]["verified"] is True


def test_both_logins_that_take_turns_are_taken_away(shaped: Shaped, store: Aws | Azure, major: int, shape: str) -> None:
    site = Site(server=shaped(major=major, shape=shape), store=store)
    run_in(site.server, "postgres", "REVOKE CONNECT ON DATABASE admindb FROM PUBLIC")
    before, second = catalog(site.server), f"{site.connector}_b"
    succeeded(site.run())
    turn = {"secret": site.secret, "secret_store": site.store.option, "strategy": "alternate", "max_age_days": 0}
    succeeded(through(ROTATE, {**login_options(site.server), **turn}))
    run_in(site.server, "postgres", f"GRANT CONNECT ON DATABASE admindb TO {second}")
    between = catalog(site.server)
    for check in (True, False):
        said = task({**login_options(site.server), "connector": site.connector, "state": "absent"}, check=check)
        refused(said, "database_refused", f"the server: {second}, its second login, owns or holds something itself")
    assert changes(between, catalog(site.server)) == []
    run_in(site.server, "postgres", f"REVOKE CONNECT ON DATABASE admindb FROM {second}")
    said = succeeded(task({**login_options(site.server), "connector": site.connector, "state": "absent"}))
    assert {"database": None, "sql": f'DROP ROLE "{second}"'} in said["statements"]
    assert changes(before, catalog(site.server)) == []


@pytest.mark.parametrize("prepared", ["nothing", "no tags", "of another", "another password"])
def test_check_mode_writes_nothing_and_says_what_the_run_does(one_site: Site, prepared: str) -> None:
    site, more = one_site, {}
    if prepared == "no tags":
        site.put()
    if prepared == "of another":
        site.put(username="somebody")
        more = {"secret": {"force": True}}
    if prepared == "another password":
        succeeded(site.run())
        site.put()
        more = {"update_password": "always"}
    written = site.written()
    with unchanged(site.server):
        planned = succeeded(site.run(check=True, diff=True, **more))
    assert site.written() == written
    done = succeeded(site.run(diff=True, **more))
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]
    assert planned["statements"][0] == done["statements"][0]
    assert planned["connector"]["created"] is done["connector"]["created"]
    for what in ("created", "replaced", "tags", "instance"):
        assert planned["secret"][what] == done["secret"][what]
    assert (planned["secret"]["verified"], done["secret"]["verified"]) == (None, True)
    again = succeeded(site.run(check=True, diff=True, **more))
    assert (again["changed"], again["diff"]["after"], again["secret"]["verified"]) == (False, "", True)


@pytest.mark.parametrize("shape", ["rds"])
def test_the_secret_is_encrypted_with_the_key_that_is_asked_for(one_site: Site) -> None:
    key = f"arn:aws:kms:{REGION}:123456789012:key/00000000-0000-4000-8000-000000000000"
    succeeded(one_site.run(secret={"kms_key_id": key}))
    assert one_site.store.fake.secrets[one_site.secret].kms_key_id == key


@pytest.mark.parametrize("shape", ["rds"])
def test_a_secret_that_was_made_without_a_value_gets_one(one_site: Site) -> None:
    """Terraform makes a secret first, and its value later or never."""
    boto3.client("secretsmanager", region_name=REGION).create_secret(Name=one_site.secret)
    said = succeeded(one_site.run())
    assert (said["secret"]["created"], said["secret"]["verified"]) == (True, True)
    assert one_site.store.tags(one_site.secret) == READABLE
    assert one_site.reader_logs_in()
    assert succeeded(one_site.run())["changed"] is False


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize("check", [True, False])
def test_a_missing_secret_that_is_named_by_its_arn_is_not_made(one_site: Site, *, check: bool) -> None:
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{one_site.secret}-AbCdEf"
    with unchanged(one_site.server):
        refused(one_site.run(secret={"name": arn}, check=check), UNREADABLE, "it does not exist")
    assert one_site.written() == []


@pytest.mark.parametrize("shape", ["azure"])
@pytest.mark.parametrize("wish", [{"kms_key_id": "mine"}, {"instance_tag": True}])
def test_what_a_key_vault_does_not_have_is_refused(one_site: Site, wish: dict[str, Any]) -> None:
    host = {"login_host": "orders.abc123.eu-west-1.rds.amazonaws.com"}
    refused(one_site.run(secret=wish, **host), INVALID, "kms_key_id and instance_tag are AWS's")
    assert one_site.asked() == []


def test_absent_leaves_the_secret_and_the_next_run_uses_it(one_site: Site) -> None:
    succeeded(one_site.run())
    before, written = one_site.stored(), one_site.written()
    said = succeeded(one_site.run(state="absent"))
    assert (said["changed"], said["secret"], one_site.role_exists()) == (True, None, False)
    assert succeeded(one_site.run())["secret"]["created"] is False
    assert one_site.written() == written
    assert one_site.stored() == before
    assert one_site.reader_logs_in()


# ------------------------------------------------------------------ a secret that is there
def texts(site: Site) -> dict[str, str]:
    """Secrets as others make them."""
    two = {"username": site.connector, "password": "pw-Two"}
    return {
        "two keys": json.dumps(two, indent=1),
        "no user": '{"password":"pw-Two"}',
        "bare": "pw-Two",
        "bare, with a line end": "pw-Two\n",
        "unknown keys": json.dumps({**two, "rotated": None, "owner": {"team": ["data"]}, "ümlaut": 1}),
    }


@pytest.mark.parametrize("kind", ["two keys", "no user", "bare", "bare, with a line end", "unknown keys"])
def test_a_secret_that_exists_is_used_and_its_text_left_as_it_is(one_site: Site, kind: str) -> None:
    text = texts(one_site)[kind]
    one_site.store.put(one_site.secret, text, **READABLE)
    written = one_site.written()
    said = succeeded(one_site.run())
    assert one_site.logs_in("pw-Two")
    assert one_site.store.history(one_site.secret) == [text]
    assert one_site.written() == written
    assert (said["secret"]["created"], said["secret"]["verified"]) == (False, True)
    assert succeeded(one_site.run())["changed"] is False


def test_missing_tags_are_added_and_others_are_kept(one_site: Site) -> None:
    site = one_site
    site.store.put(site.secret, json.dumps(site.credentials()), team="ops", cost="7")
    said = succeeded(site.run(secret={"tags": {"team": "data", "cost": 7}}))
    assert said["secret"]["tags"] == {**READABLE, "team": "data"}
    assert site.store.tags(site.secret) == {**READABLE, "team": "data", "cost": "7"}
    assert len(site.store.history(site.secret)) == 1
    assert succeeded(site.run(secret={"tags": {"team": "data"}}))["changed"] is False


@pytest.mark.parametrize(("reads", "made"), [(2, False), (3, True)])
def test_a_secret_that_another_server_writes_in_the_same_moment_is_not_taken_for_ours(
    one_site: Site, reads: int, made: bool
) -> None:
    """The lock is each server's own, and a Key Vault keeps the last. Found out before the role is made, or after."""
    site, theirs = one_site, json.dumps(one_site.credentials(password="of-the-other-server"))
    # To make a secret in a Key Vault takes one more look, because a write would replace what is there.
    count = itertools.count(1 if site.store.option["provider"] == "aws" else 0)

    def overwrite(request: Any) -> None:
        answered = getattr(request, "token", True)  # Azure's first request has no token, and is asked to come again
        if answered and next(count) == reads:
            site.put(password="of-the-other-server")

    site.store.fake.on("GetSecretValue" if site.store.option["provider"] == "aws" else "get_secret", overwrite)
    said = site.run()
    assert (said["failed"], said["error_kind"]) == (True, UNREADABLE)
    assert "another run has stored other credentials in it" in said["msg"]
    assert site.role_exists() is made
    site.store.fake.clear_hooks()
    assert site.store.current(site.secret) == theirs


STRANGE = {"host": {"host": "other.example.com"}, "port": {"port": 1}, "user": {"username": "somebody"}}
TOLD = {"host": "another server, other.example.com:", "port": "another server, localhost:1", "user": "another user"}


@pytest.mark.parametrize("what", STRANGE)
def test_a_secret_of_another_is_refused_before_anything_is_changed(site: Site, what: str) -> None:
    text = site.put(**STRANGE[what])
    before, written = catalog(site.server), site.written()
    for check in (False, True):
        refused(site.run(check=check), UNREADABLE, site.secret, TOLD[what], "set force")
    assert catalog(site.server) == before
    assert site.written() == written
    assert site.store.history(site.secret) == [text]


@pytest.mark.parametrize("what", STRANGE)
def test_force_replaces_a_secret_of_another_and_the_store_keeps_the_old_value(one_site: Site, what: str) -> None:
    site = one_site
    site.store.put(site.secret, text := json.dumps(site.credentials(**STRANGE[what], note="theirs")), team="ops")
    said = succeeded(site.run(secret={"force": True}))
    assert (said["secret"]["created"], said["secret"]["replaced"]) == (False, True)
    assert said["secret"]["version"] == site.store.version(site.secret)
    assert site.stored() == site.credentials(password=site.stored()["password"]), "nothing is the other's any more"
    assert GENERATED.fullmatch(site.stored()["password"])
    assert site.store.previous(site.secret) == text
    assert site.store.tags(site.secret) == {**READABLE, "team": "ops"}
    assert not site.store.pending(site.secret)
    assert site.reader_logs_in()
    assert succeeded(site.run(secret={"force": True}))["changed"] is False


ROTATION = {
    "rds": {"OwningService": "rds", "RotationEnabled": True},
    "function:rotate": {"RotationLambdaARN": "function:rotate", "RotationEnabled": True},
}


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize("owner", ROTATION)
def test_a_secret_that_others_rotate_is_not_overwritten_even_with_force(
    one_site: Site, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    def describe(fake: FakeSecretsManager, body: dict[str, Any]) -> dict[str, Any]:
        return {**fake.describe(body), **ROTATION[owner]}

    monkeypatch.setitem(OPERATIONS, "DescribeSecret", describe)
    text = one_site.put(username="somebody")
    with unchanged(one_site.server):
        for check in (False, True):
            said = one_site.run(check=check, secret={"force": True})
            refused(said, UNREADABLE, f"{owner} changes it", "Choose another secret")
    assert one_site.store.history(one_site.secret) == [text]


# ------------------------------------------------------------------ a role that is there
@pytest.fixture
def with_role(site: Site) -> Site:
    """Return a site whose connector was made without a secret."""
    succeeded(site.run(connector_secret=None, connector_password="pw-Role"))
    return site


def test_a_role_without_a_secret_is_refused_and_the_way_out_said(with_role: Site) -> None:
    with unchanged(with_role.server):
        for more in ({}, {"connector_password": "pw-Wrong"}, {"check": True}):
            refused(with_role.run(**more), UNREADABLE, with_role.connector, "connector_password", "update_password")
    assert with_role.written() == []
    assert with_role.logs_in("pw-Role")


def test_a_role_is_adopted_with_its_right_password(with_role: Site) -> None:
    with unchanged(with_role.server):
        said = succeeded(with_role.run(connector_password="pw-Role"))
    assert (said["changed"], said["statements"], said["secret"]["created"]) == (True, [], True)
    assert with_role.stored()["password"] == "pw-Role"
    assert with_role.reader_logs_in()
    assert succeeded(with_role.run())["changed"] is False


def test_with_always_a_role_without_a_secret_gets_a_new_password(with_role: Site) -> None:
    said = succeeded(with_role.run(update_password="always"))
    assert [one["sql"] for one in said["statements"]] == [f"ALTER ROLE \"{with_role.connector}\" PASSWORD '********'"]
    assert with_role.reader_logs_in()
    assert not with_role.logs_in("pw-Role")
    assert succeeded(with_role.run(update_password="always"))["changed"] is False


def test_a_secret_with_another_password_than_the_roles_is_refused_and_mended_with_always(with_role: Site) -> None:
    site = with_role
    text = site.put(password="pw-Store")
    with unchanged(site.server):
        for check in (False, True):
            refused(site.run(check=check), UNREADABLE, site.secret, site.connector, "update_password")
    assert site.store.tags(site.secret) == {}
    assert succeeded(site.run(update_password="always"))["secret"]["verified"] is True
    assert site.store.history(site.secret) == [text]
    assert site.logs_in("pw-Store")
    assert not site.logs_in("pw-Role")


def test_force_does_not_part_a_secret_from_a_role_that_keeps_its_password(with_role: Site) -> None:
    text = with_role.put(host="other.example.com")
    with unchanged(with_role.server):
        refused(with_role.run(secret={"force": True}), UNREADABLE, "would not change the password", "always")
    assert with_role.store.history(with_role.secret) == [text]
    succeeded(with_role.run(secret={"force": True}, update_password="always"))
    assert with_role.reader_logs_in()


@pytest.mark.parametrize("attribute", ["NOLOGIN", "CONNECTION LIMIT 0"])
def test_what_keeps_the_connector_out_after_its_password_is_not_taken_for_a_wrong_one(
    one_site: Site, attribute: str
) -> None:
    succeeded(one_site.run())
    run_in(one_site.server, "postgres", f"ALTER ROLE {one_site.connector} {attribute}")
    said = one_site.run()
    assert said.get("error_kind") != UNREADABLE, said["msg"]
    if attribute == "NOLOGIN":
        assert said["statements"] == [{"database": None, "sql": f'ALTER ROLE "{one_site.connector}" LOGIN'}]
        assert one_site.reader_logs_in()
    else:
        assert said["failed"]
        assert "too many connections for role" in said["msg"]


def test_a_login_that_fails_in_the_end_is_a_failure_and_the_next_run_goes_on(
    shaped: Shaped, store: Aws | Azure, shape: str
) -> None:
    site = Site(server=shaped(major=17, shape=shape), store=store)
    site.server.hba = (*site.server.hba, f"hostssl all {site.connector} all reject")
    site.server.restart()
    said = site.run()
    assert (said["failed"], said["changed"], said["secret"]["verified"]) == (True, True, False)
    assert "does not log in" in said["msg"]
    assert site.secret in said["msg"]
    assert "pg_hba.conf rejects" in said["msg"]
    again = site.run()
    assert "pg_hba.conf rejects" in again["msg"]
    before = site.stored()
    site.server.hba = site.server.hba[:-1]
    site.server.restart()
    said = succeeded(site.run())
    assert (said["changed"], said["secret"]["verified"], site.stored()) == (False, True, before)
    assert site.reader_logs_in()


# ------------------------------------------------------------------ the administrator's login
def as_admin(site: Site, text: str) -> dict[str, Any]:
    """Store the administrator's secret; return the options that use it and nothing else."""
    name = f"rds-admin-{site.number}"
    site.store.put(name, text)
    return {"login_secret": name, "login_user": None, "login_password": None}


def test_the_administrator_logs_in_with_a_secret(one_site: Site) -> None:
    admin = one_site.server.admin
    password = one_site.server.passwords[admin]
    options = as_admin(one_site, json.dumps({"username": admin, "password": password, "host": "elsewhere"}))
    assert succeeded(one_site.run(**options))["server"]["login"] == admin


def test_a_bare_password_needs_the_administrators_name(one_site: Site) -> None:
    admin = one_site.server.admin
    options = as_admin(one_site, one_site.server.passwords[admin])
    refused(one_site.run(**options), UNREADABLE, "login_secret", "user name")
    assert succeeded(one_site.run(**{**options, "login_user": admin}))["server"]["login"] == admin


def test_an_administrators_secret_that_does_not_let_in_is_said(one_site: Site) -> None:
    site, admin = one_site, one_site.server.admin
    wrong = as_admin(site, json.dumps({"username": admin, "password": "pw-Wrong"}))
    refused(site.run(**wrong), UNREACHABLE, "password authentication failed", admin)
    missing = {**wrong, "login_secret": "nowhere"}
    refused(site.run(**missing), UNREADABLE, "nowhere", "does not exist")
    operation = "GetSecretValue" if isinstance(site.store, Aws) else "get_secret"
    code, status = ("AccessDeniedException", 400) if isinstance(site.store, Aws) else ("Forbidden", 403)
    site.store.fake.fail(operation, code=code, status=status)
    refused(site.run(**wrong), UNREADABLE, wrong["login_secret"], "access denied")
    assert not site.role_exists()
    assert "pw-Wrong" not in json.dumps([site.run(**wrong), site.run(**missing)])


def test_the_secret_wins_over_a_password_of_the_environment(one_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "pw-Wrong")
    admin = one_site.server.admin
    options = as_admin(one_site, json.dumps({"username": admin, "password": one_site.server.passwords[admin]}))
    given = {key: value for key, value in one_site.options(**options).items() if value is not None}
    assert succeeded(task(given))["server"]["login"] == admin
    del given["login_secret"]
    refused(task({**given, "login_user": admin}), UNREACHABLE, "password authentication failed")


@contextlib.contextmanager
def asking_for_the_password(home: Path) -> Iterator[tuple[int, list[str]]]:
    """A listener that speaks as much of the protocol as to be told a password over TLS; it refuses all."""
    told: list[str] = []
    certificate, key = home / "server.pem", home / "server.key"
    Authority().write_server(certificate=certificate, key=key, names=("localhost",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client = listener.accept()[0]
            assert client.recv(8) == struct.pack("!ii", 8, 80877103)  # SSLRequest
            client.sendall(b"S")
            with tls.wrap_socket(client, server_side=True) as private, private.makefile("rwb") as stream:
                stream.read(struct.unpack("!i", stream.read(4))[0] - 4)  # the startup message
                stream.write(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
                stream.flush()
                _kind, size = struct.unpack("!ci", stream.read(5))
                told.append(stream.read(size - 4).rstrip(b"\0").decode())
                error = b"SFATAL\0C28P01\0Mno\0\0"
                stream.write(b"E" + struct.pack("!i", len(error) + 4) + error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], told
        thread.join(timeout=10)


ENDPOINT = "orders.abc123def456.us-east-2.rds.amazonaws.com"
HERE = {"connect_params": {"hostaddr": "127.0.0.1"}}


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize("named", [True, False])
def test_an_iam_token_for_this_login_is_what_is_sent(store: Aws, tmp_path: Path, named: bool) -> None:
    host, region = (ENDPOINT, "us-east-2") if named else ("127.0.0.1", REGION)
    with asking_for_the_password(tmp_path) as (port, told):
        login = {"login_host": host, "login_port": port, "login_user": "iam_admin", "login_auth": "rds_iam"}
        store_too = {} if named else {"secret_store": store.option}
        said = task({**login, **store_too, **HERE, "ssl_mode": "require", "login_password": "pw-Wrong"})
    refused(said, UNREACHABLE, "iam_admin")
    (token,) = told
    parts = urllib.parse.urlsplit(f"//{token}")
    query = dict(urllib.parse.parse_qsl(parts.query))
    assert (parts.hostname, parts.port) == (host, port)
    assert (query["Action"], query["DBUser"], query["X-Amz-Expires"]) == ("connect", "iam_admin", "900")
    assert query["X-Amz-Credential"].split("/")[2:] == [region, "rds-db", "aws4_request"]
    assert query["X-Amz-Signature"] not in json.dumps(said)


@pytest.mark.parametrize("shape", ["azure"])
@pytest.mark.parametrize("with_store", [True, False])
def test_an_entra_token_for_postgresql_is_what_is_sent(store: Azure, tmp_path: Path, with_store: bool) -> None:
    with asking_for_the_password(tmp_path) as (port, told):
        login = {"login_host": "127.0.0.1", "login_port": port, "login_user": "me@example.com", "login_auth": "entra"}
        store_too = {"secret_store": store.option} if with_store else {}
        said = task({**login, **store_too, "ssl_mode": "require", "login_password": "pw-Wrong"})
    refused(said, UNREACHABLE, "me@example.com")
    (token,) = told
    assert store.fake.tokens[token].audience == "https://ossrdbms-aad.database.windows.net"
    assert token not in json.dumps(said)


@pytest.mark.parametrize("shape", ["azure"])
@pytest.mark.parametrize("ssl_mode", ["disable", "allow", "prefer"])
def test_a_token_is_never_sent_in_the_clear(one_site: Site, ssl_mode: str) -> None:
    said = one_site.run(login_auth="entra", login_secret=None, ssl_mode=ssl_mode)
    refused(said, INVALID, "login_auth", f"ssl_mode {ssl_mode} may send it without TLS")
    assert one_site.asked() == []


@pytest.mark.parametrize("shape", ["azure"])
def test_a_secret_and_a_token_do_not_go_together(one_site: Site) -> None:
    refused(one_site.run(login_secret="mine", login_auth="entra"), INVALID, "login_secret", "Leave one of them out")
    refused(one_site.run(login_auth="rds_iam"), INVALID, "login_auth", "secret_store")
    assert one_site.asked() == []


# ------------------------------------------------------------------ the tag of the RDS instance
@dataclass
class Instance:
    """An instance or a cluster of moto's, with a server behind its endpoint."""

    site: Site
    arn: str
    endpoint: str

    def run(self, *, wish: bool = True, **options: Any) -> dict[str, Any]:
        """Run the product against the endpoint."""
        login = {"login_host": self.endpoint, "ssl_mode": "verify-ca", **HERE}
        return self.site.run(secret={"instance_tag": wish}, **{**login, **options})

    def tags(self) -> dict[str, str]:
        """The tags that the service has."""
        found = boto3.client("rds", region_name=REGION).list_tags_for_resource(ResourceName=self.arn)["TagList"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def secret(self) -> dict[str, Any]:
        """What the service tells of the secret."""
        return dict(boto3.client("secretsmanager", region_name=REGION).describe_secret(SecretId=self.site.secret))


@pytest.fixture(params=["instance", "cluster"])
def instance(
    request: pytest.FixtureRequest, shaped_once: Shaped, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """Return an instance and a cluster."""
    tags, engine = [{"Key": "team", "Value": "data"}], {"MasterUsername": "me", "MasterUserPassword": "password"}
    with moto_server() as aws:
        enter(aws.environment(), monkeypatch)
        rds = boto3.client("rds", region_name=REGION)
        if request.param == "cluster":
            made = rds.create_db_cluster(DBClusterIdentifier="orders", Engine="aurora-postgresql", Tags=tags, **engine)
            arn, endpoint = made["DBCluster"]["DBClusterArn"], made["DBCluster"]["Endpoint"]
        else:
            made = rds.create_db_instance(
                DBInstanceIdentifier="orders", Engine="postgres", DBInstanceClass="db.t3.micro", Tags=tags, **engine
            )
            found = rds.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"][0]
            arn, endpoint = found["DBInstanceArn"], found["Endpoint"]["Address"]
        site = Site(server=shaped_once(major=17, shape="rds"), store=Aws(fake=FakeSecretsManager()))
        yield Instance(site=site, arn=arn, endpoint=endpoint)


def test_the_instance_is_tagged_with_the_secret_once(instance: Instance) -> None:
    planned = succeeded(instance.run(check=True))
    assert (planned["secret"]["instance"], instance.tags()) == (instance.arn, {"team": "data"})
    said = succeeded(instance.run(diff=True))
    assert (said["secret"]["instance"], said["secret"]["verified"]) == (instance.arn, True)
    assert f"instance {instance.arn}: tag apono-secret" in said["diff"]["after"]
    assert instance.tags() == {"team": "data", "apono-secret": instance.secret()["ARN"]}
    assert instance.site.reader_logs_in()
    again = succeeded(instance.run())
    assert (again["changed"], again["secret"]["instance"]) == (False, None)


def test_a_run_that_ended_before_the_tag_is_completed_by_the_next(instance: Instance) -> None:
    succeeded(instance.run(wish=False))
    assert instance.tags() == {"team": "data"}
    said = succeeded(instance.run())
    assert (said["changed"], said["statements"], said["secret"]["created"]) == (True, [], False)
    assert instance.tags()["apono-secret"] == instance.secret()["ARN"]
    assert succeeded(instance.run())["changed"] is False


@pytest.mark.parametrize("instance", ["instance"], indirect=True)
def test_a_host_that_is_no_endpoint_or_of_no_instance_is_refused_before_anything(instance: Instance) -> None:
    with unchanged(instance.site.server):
        refused(instance.run(login_host="localhost"), INVALID, "instance_tag", "localhost", "endpoint")
        nobody = instance.endpoint.replace("orders", "invoices", 1)
        refused(instance.run(login_host=nobody), UNREADABLE, "invoices")
    assert boto3.client("secretsmanager", region_name=REGION).list_secrets()["SecretList"] == []


# ------------------------------------------------------------------ nothing is shown
def as_secret_admin(site: Site) -> dict[str, Any]:
    """Give the administrator a password that can be looked for; return the options that log in with its secret."""
    run_in(site.server, "postgres", f"ALTER ROLE {site.server.admin} PASSWORD 'pw-Adm1n'")
    site.server.passwords[site.server.admin] = "pw-Adm1n"
    return as_admin(site, json.dumps({"username": site.server.admin, "password": "pw-Adm1n"}))


def test_no_secret_is_in_the_servers_log_or_in_a_result(shaped: Shaped, store: Aws | Azure, shape: str) -> None:
    site = Site(server=shaped(major=17, shape=shape, settings=LOG_ALL), store=store)
    options, log = as_secret_admin(site), Log(site.server)
    said = [site.run(check=check, diff=True, **options) for check in (True, False, False)]
    made = site.stored()["password"]
    site.put(password="pw-Parted")
    said.append(site.run(diff=True, **options))
    said.append(site.run(diff=True, update_password="always", **options))
    site.store.put(site.secret, '{"username": "x", "password": "pw-Broken')
    said.append(site.run(diff=True, **options))
    assert [bool(one.get("failed")) for one in said] == [False, False, False, True, False, True]
    text = log.text()
    assert "SCRAM-SHA-256$" in text, "the log must show what was sent instead"
    for secret in (made, "pw-Adm1n", "pw-Parted", "pw-Broken"):
        assert secret not in text
        assert secret not in json.dumps(said)


PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{python}"
    options: {options}
  tasks:
    - latchkey.postgres.pg_apono_bootstrap: "{{{{ options }}}}"
      diff: true
      register: first
    - latchkey.postgres.pg_apono_bootstrap: "{{{{ options }}}}"
      register: second
    - latchkey.postgres.pg_apono_bootstrap: "{{{{ options | combine({{'login_secret': 'broken'}}) }}}}"
      ignore_errors: true
      register: third
    - ansible.builtin.copy:
        content: "{{{{ [first, second, third] | to_json }}}}"
        dest: results.json
        mode: "0600"
      no_log: true
"""
OWN = {
    "rds": {"access_key": "AKIAOWNOWNOWNOWN", "secret_key": "pw-0fTheCl0ud", "region": REGION},
    "azure": {"tenant": TENANT, "client_id": CLIENT, "client_secret": "pw-0fTheCl0ud"},
}


@contextlib.contextmanager
def watching_processes() -> Iterator[set[bytes]]:
    """Collect the arguments and environments of all new processes."""
    seen: set[bytes] = set()
    old, done = set(Path("/proc").glob("[0-9]*")), threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for process in set(Path("/proc").glob("[0-9]*")) - old:
                with contextlib.suppress(OSError):
                    seen.update(((process / "cmdline").read_bytes(), (process / "environ").read_bytes()))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    done.set()
    thread.join()


@pytest.mark.parametrize("direct", ["auto", "never"])
def test_through_both_doors_no_secret_is_shown_or_left_anywhere(
    one_site: Site, shape: str, direct: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, secrets = one_site, ["pw-Adm1n", "pw-0fTheCl0ud", "pw-Broken"]
    site.store.put("broken", '{"username": "x", "password": "pw-Broken')
    login = as_secret_admin(site)
    if isinstance(site.store, Azure):
        site.store.fake.directory.applications[CLIENT] = replace(
            site.store.fake.directory.applications[CLIENT], secret="pw-0fTheCl0ud"
        )
        for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
            monkeypatch.delenv(name)
    whole = site.options(**login, secret_store={**site.store.option, **OWN[shape]}, direct=direct)
    options = {key: value for key, value in whole.items() if value is not None}
    (tmp_path / "play.yml").write_text(PLAYBOOK.format(python=sys.executable, options=json.dumps(options)))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-vvvv", "play.yml"]
    with watching_processes() as seen:
        done = subprocess.run(
            command, cwd=tmp_path, env=for_ansible(tmp_path), capture_output=True, text=True, check=False
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert ("AnsiballZ_pg_apono_bootstrap" in output) is (direct == "never"), "the wrong door"
    text = (tmp_path / "results.json").read_text()
    first, second, third = json.loads(text)
    assert (first["secret"]["created"], second["changed"], third["error_kind"]) == (True, False, UNREADABLE)
    assert any(b"ansible-playbook" in one for one in seen)
    (tmp_path / "play.yml").unlink()
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "pw-0fTheCl0ud")
    for secret in (*secrets, site.stored()["password"]):
        assert secret not in output
        assert secret not in text
        assert secret.encode() not in left
        assert not [one for one in seen if secret.encode() in one]
    assert site.reader_logs_in()


def for_ansible(where: Path) -> dict[str, str]:
    """The environment of a cloud's client who runs Ansible, and no other settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE", "PG", "LATCHKEY"))}
    collections = Path(__file__).parents[2] / ".venv" / "collections"
    own = {"HOME": str(where), "LC_ALL": "C.UTF-8", "ANSIBLE_REMOTE_TMP": str(where / "tmp")}
    return {**kept, **own, "ANSIBLE_COLLECTIONS_PATH": str(collections)}
