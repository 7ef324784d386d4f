# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store does alike, as whom it is asked, and how often; with the real SDKs."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

for library in ("boto3", "moto", "azure.identity", "azure.keyvault.secrets", "trustme"):
    pytest.importorskip(library)


from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (  # noqa: E402
    InvalidOption,
    NotAuthenticated,
    SecretChanged,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import (  # noqa: E402
    access,
    aws_session,
    tokens,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws as aws_store  # noqa: E402
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import azure as azure_store  # noqa: E402
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (  # noqa: E402
    CURRENT,
    PENDING,
    PREVIOUS,
    ROTATED_AT,
    Aws,
    Azure,
    Cloud,
    Store,
    Version,
    locate,
)
from tests.fakes import FakeAzure, FakeSecretsManager, moto_server  # noqa: E402

if TYPE_CHECKING:
    from tests.fakes.service import Call

Enter = Callable[[dict[str, str]], None]
VAULT = "https://lk.vault.azure.net"
HOST = "db-1.c1a2b3.eu-central-1.rds.amazonaws.com"
READABLE = {"apono-connector-read": "true"}
FIRST, SECOND, THEIRS = '{"password": "first"}', '{"password": "second"}', '{"password": "theirs"}'
KEY = "AKIAOTHEROTHEROTHER1"


pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture
def aws(enter: Enter) -> Iterator[FakeSecretsManager]:
    """A strict fake that the environment leads to."""
    with FakeSecretsManager() as fake:
        enter(fake.environment())
        yield fake


@pytest.fixture
def azure(enter: Enter) -> Iterator[FakeAzure]:
    """A strict fake with a vault that the environment leads to."""
    with FakeAzure() as fake:
        fake.add_vault("lk")
        enter(fake.environment())
        yield fake


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store, and the fake behind it, which has its requests."""

    cloud: Cloud
    fake: Any

    @property
    def store(self) -> Store:
        """The store, as the product opens it."""
        return access.open_store(self.cloud)


def strict_aws(_enter: Enter) -> Iterator[Place]:
    with FakeSecretsManager() as fake:
        _enter(fake.environment())
        yield Place(cloud=Aws(), fake=fake)
    assert "DeleteSecret" not in {request.operation for request in fake.requests}


def moto(_enter: Enter) -> Iterator[Place]:
    with moto_server() as fake:
        _enter(fake.environment())
        yield Place(cloud=Aws(), fake=fake)


def strict_azure(_enter: Enter) -> Iterator[Place]:
    with FakeAzure() as fake:
        fake.add_vault("lk")
        _enter(fake.environment())
        yield Place(cloud=Azure(vault_url=VAULT), fake=fake)
    assert "DELETE" not in {request.method for request in fake.requests}, "a deleted name stays taken"


@pytest.fixture(params=[strict_aws, moto, strict_azure], ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, enter: Enter) -> Iterator[Place]:
    """Each of the stores, empty; nothing is ever deleted in it."""
    yield from request.param(enter)


@pytest.fixture(params=[strict_aws, strict_azure], ids=lambda kind: kind.__name__)
def strict(request: pytest.FixtureRequest, enter: Enter) -> Iterator[Place]:
    """Each of the strict ones."""
    yield from request.param(enter)


@pytest.fixture
def store(place: Place) -> Store:
    """A store with one secret."""
    place.store.create("db", FIRST, tags=READABLE)
    return place.store


def token() -> str:
    """What makes a write one write."""
    return str(uuid.uuid4())


def stages(store: Store) -> dict[str, str]:
    """The versions of the secret, by stage."""
    return dict(store.describe("db").stages)


def state(store: Store) -> list[Any]:
    """All that the store tells, but for the second of the last change: moto moves that with any call."""
    found = replace(store.describe("db"), changed_at=None)
    return [found, *(store.read("db", stage=stage).text for stage in sorted(found.stages))]


def changed_by_another(store: Store) -> None:
    """Someone else rotates the secret."""
    current = store.read("db").id
    store.promote("db", store.write_pending("db", THEIRS, token=token()), expected=current)


# ------------------------------------------------------------------ the contract
def test_what_is_created_is_read(place: Place) -> None:
    text = '{"password": "ünï 🔑 \\u0000"}\n'
    made = place.store.create("db", text, tags={})
    assert made.text == text
    assert place.store.read("db") == made or place.store.read("db").text == text
    assert place.store.read("db").id == made.id
    assert place.store.read("db", version=made.id).text == text
    assert stages(place.store) == {CURRENT: made.id}


def test_creating_what_exists_changes_nothing(store: Store) -> None:
    before = state(store)
    for text in (FIRST, SECOND):
        with pytest.raises(SecretChanged, match=r"secret db in .*: it exists already.*\. Run again$"):
            store.create("db", text, tags={"more": "tags"})
    assert state(store) == before


def test_readers_do_not_get_what_is_pending(store: Store) -> None:
    made = store.write_pending("db", SECOND, token=token())
    assert store.read("db").text == FIRST
    pending = store.read("db", stage=PENDING)
    assert (pending.id, pending.text) == (made.id, SECOND)
    assert stages(store) == {CURRENT: store.read("db").id, PENDING: made.id}


def test_pending_written_twice_with_one_token_is_one_version(store: Store) -> None:
    one = token()
    first = store.write_pending("db", SECOND, token=one)
    before = state(store)
    assert store.write_pending("db", SECOND, token=one).id == first.id
    assert state(store) == before


def test_replacing_makes_readers_get_it_at_once_and_keeps_the_previous_and_the_tags(store: Store) -> None:
    made = store.replace("db", SECOND)
    assert store.read("db").text == SECOND
    assert store.read("db").id == made.id
    assert store.read("db", stage=PREVIOUS).text == FIRST
    assert READABLE.items() <= store.describe("db").tags.items()
    with pytest.raises(SecretMissing):
        store.read("db", stage=PENDING)


def test_another_token_replaces_what_is_pending(store: Store) -> None:
    first = store.write_pending("db", SECOND, token=token())
    other = store.write_pending("db", THEIRS, token=token())
    assert first.id != other.id
    assert store.read("db", stage=PENDING).text == THEIRS
    assert store.read("db").text == FIRST


def test_promotion_makes_readers_get_it_and_keeps_the_previous(store: Store) -> None:
    old = store.read("db").id
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=old)
    assert store.read("db").text == SECOND
    previous = store.read("db", stage=PREVIOUS)
    assert (previous.id, previous.text) == (old, FIRST)
    assert stages(store) == {CURRENT: store.read("db").id, PREVIOUS: old, PENDING: made.id}


def test_promotion_keeps_the_tags(store: Store) -> None:
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=store.read("db").id)
    assert READABLE.items() <= store.describe("db").tags.items()


def test_promoting_twice_is_harmless(store: Store) -> None:
    old = store.read("db").id
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=old)
    before = state(store)
    store.promote("db", made, expected=old)
    assert state(store) == before


def test_promotion_is_refused_when_someone_else_has_changed_it(store: Store) -> None:
    old = store.read("db").id
    mine = store.write_pending("db", SECOND, token=token())
    changed_by_another(store)
    before = state(store)
    with pytest.raises(SecretChanged, match=r"secret db in .*: somebody else has changed it\. Run again$"):
        store.promote("db", mine, expected=old)
    assert state(store) == before
    assert store.read("db").text == THEIRS


def test_clearing_ends_it_and_may_be_repeated(store: Store) -> None:
    made = store.write_pending("db", SECOND, token=token())
    for _time in range(2):
        store.clear_pending("db", made.id)
        with pytest.raises(SecretMissing):
            store.read("db", stage=PENDING)
        assert stages(store) == {CURRENT: store.read("db").id}
    assert store.read("db").text == FIRST


def test_two_rotations_follow_each_other(store: Store) -> None:
    texts = [FIRST]
    for text in (SECOND, THEIRS):
        made = store.write_pending("db", text, token=token())
        store.promote("db", made, expected=store.read("db").id)
        store.clear_pending("db", made.id)
        assert store.read("db").text == text
        assert store.read("db", stage=PREVIOUS).text == texts[-1]
        with pytest.raises(SecretMissing):
            store.read("db", stage=PENDING)
        texts.append(text)


def test_nothing_is_pending_or_previous_at_first(store: Store) -> None:
    for stage in (PENDING, PREVIOUS):
        with pytest.raises(SecretMissing, match=r"^secret db in .*: "):
            store.read("db", stage=stage)


def test_tags_are_added_and_others_stay(store: Store) -> None:
    store.tag("db", {"team": "a", "more": "x"})
    store.tag("db", {"team": "b"})
    assert store.describe("db").tags == {**READABLE, "team": "b", "more": "x"}
    assert store.read("db").text == FIRST


def test_the_reference_in_a_description_leads_to_the_secret(place: Place, store: Store) -> None:
    assert access.read(locate(place.cloud, store.describe("db").reference)).text == FIRST


@pytest.mark.parametrize("step", ["read", "describe", "write_pending", "promote", "tag"])
def test_every_step_says_that_there_is_no_such_secret(place: Place, step: str) -> None:
    more: dict[str, Any] = {
        "write_pending": {"text": SECOND, "token": token()},
        "promote": {"pending": Version(id=token(), text=SECOND), "expected": token()},
        "tag": {"tags": {}},
    }
    with pytest.raises(SecretMissing, match=r"^secret gone in .*: it does not exist .*\. Check the name"):
        getattr(place.store, step)("gone", **more.get(step, {}))


def test_a_description_says_since_when_the_current_value_is_there(store: Store) -> None:
    before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=2)
    made = store.describe("db").changed_at
    assert made is not None
    assert before < made < before + dt.timedelta(minutes=1)
    store.tag("db", {ROTATED_AT: "2024-05-06T07:08:09Z"})
    assert store.describe("db").changed_at == dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone.utc)
    for nonsense in ("yesterday", "2024-05-06"):
        store.tag("db", {ROTATED_AT: nonsense})
        told = store.describe("db").changed_at
        assert told is not None
        assert told > before


def test_a_secret_with_nothing_pending_is_described_in_one_request(strict: Place) -> None:
    store = strict.store
    store.create("db", FIRST, tags={})
    for _rotation in range(2):
        made = store.write_pending("db", SECOND, token=token())
        assert asked(strict, store) > 0
        store.promote("db", made, expected=store.read("db").id)
        store.clear_pending("db", made.id)
        assert asked(strict, store) == 1


def asked(place: Place, store: Store) -> int:
    """How many requests a description takes, the login of the SDK aside."""
    before = len(place.fake.requests)
    store.describe("db")
    operations = [request.operation for request in place.fake.requests[before:]]
    return len([one for one in operations if one in {"DescribeSecret", "get_secret"}])


# ------------------------------------------------------------------ AWS
def test_reading_from_aws_always_names_the_version(aws: FakeSecretsManager) -> None:
    store = access.open_store(Aws())
    first = store.create("db", FIRST, tags={})
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=first.id)
    for stage in (CURRENT, PENDING, PREVIOUS):
        store.read("db", stage=stage)
    store.read("db", version=first.id)
    aws.secrets["db"].attach("blue", first.id)
    assert store.read("db", stage="blue").text == FIRST
    asked = [request.body for request in aws.requests if request.operation == "GetSecretValue"]
    assert asked == [
        {"SecretId": "db", "VersionStage": "AWSCURRENT"},
        {"SecretId": "db", "VersionStage": "AWSPENDING"},
        {"SecretId": "db", "VersionStage": "AWSPREVIOUS"},
        {"SecretId": "db", "VersionId": first.id},
        {"SecretId": "db", "VersionStage": "blue"},
    ]


@pytest.mark.parametrize("step", ["promote", "clear_pending"])
def test_on_aws_one_who_comes_between_comparing_and_setting_wins(aws: FakeSecretsManager, step: str) -> None:
    store = access.open_store(Aws())
    old = store.create("db", FIRST, tags={})
    mine = store.write_pending("db", SECOND, token=token())
    theirs = token()

    def come_between(_request: Any) -> None:
        label = "AWSCURRENT" if step == "promote" else "AWSPENDING"
        aws.put_value(
            {"SecretId": "db", "SecretString": THEIRS, "ClientRequestToken": theirs, "VersionStages": [label]}
        )

    aws.on("UpdateSecretVersionStage", come_between, times=1)
    what: dict[str, Any] = {"pending": mine, "expected": old.id} if step == "promote" else {"version": mine.id}
    with pytest.raises(SecretChanged, match=r"^secret db in .*: somebody else has changed it\. Run again$"):
        getattr(store, step)("db", **what)
    assert stages(store)[CURRENT if step == "promote" else PENDING] == theirs


def test_on_aws_a_token_that_meant_another_value_is_refused(aws: FakeSecretsManager) -> None:
    store = access.open_store(Aws())
    store.create("db", FIRST, tags={})
    one = token()
    store.write_pending("db", SECOND, token=one)
    with pytest.raises(SecretChanged):
        store.write_pending("db", THEIRS, token=one)
    assert aws.secrets["db"].value("AWSPENDING") == SECOND


def test_on_aws_the_key_is_the_one_that_is_asked_for(aws: FakeSecretsManager) -> None:
    access.open_store(Aws()).create("db", FIRST, tags={}, kms_key_id="alias/db")
    access.open_store(Aws()).create("plain", FIRST, tags={})
    assert aws.secrets["db"].kms_key_id == "alias/db"
    assert "KmsKeyId" not in aws.requests[-1].body


def test_on_aws_a_creation_whose_answer_was_lost_is_done_once(aws: FakeSecretsManager) -> None:
    aws.fail("CreateSecret", code="InternalServiceError", status=500, when="after", times=1)
    assert access.open_store(Aws()).create("db", FIRST, tags={}).text == FIRST
    assert len(aws.secrets["db"].versions) == 1


@pytest.mark.parametrize(("field", "owner"), [({"owning_service": "rds"}, "rds"), ({"rotation_enabled": True}, None)])
def test_on_aws_a_description_says_who_rotates_it(
    aws: FakeSecretsManager, field: dict[str, Any], owner: str | None
) -> None:
    store = access.open_store(Aws())
    store.create("db", FIRST, tags={})
    assert store.describe("db").rotated_by is None
    for name, value in field.items():
        setattr(aws.secrets["db"], name, value)
    assert store.describe("db").rotated_by == owner


# ------------------------------------------------------------------ Azure
def test_on_azure_what_is_pending_is_announced_before_it_is_there_and_until_it_is_not(azure: FakeAzure) -> None:
    vault, store = azure.vaults["lk"], access.open_store(Azure(vault_url=VAULT))
    old = store.create("db", FIRST, tags=READABLE)
    seen: list[bool] = []

    def look(_request: Any) -> None:
        sibling = vault.secrets.get("db-pending")
        pending = sibling is not None and sibling.latest.enabled
        announced = "latchkey-pending" in (vault.secrets["db"].latest.tags or {})
        seen.append(announced or not pending)

    for operation in ("set_secret", "update_secret"):
        azure.on(operation, look, when="after")
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=old.id)
    store.clear_pending("db", made.id)
    assert seen == [True] * 5
    assert "latchkey-pending" not in (vault.secrets["db"].latest.tags or {})


@pytest.mark.usefixtures("azure")
def test_on_azure_a_new_version_does_not_inherit_the_age_of_the_one_before() -> None:
    store = access.open_store(Azure(vault_url=VAULT))
    old = store.create("db", FIRST, tags={**READABLE, ROTATED_AT: "2024-05-06T07:08:09Z"})
    store.promote("db", store.write_pending("db", SECOND, token=token()), expected=old.id)
    assert READABLE.items() <= store.describe("db").tags.items()
    assert ROTATED_AT not in store.describe("db").tags


def test_on_azure_no_key_can_be_asked_for(azure: FakeAzure) -> None:
    with pytest.raises(InvalidOption, match=r"^secret db in .*: kms_key_id: .*\. Leave it out$"):
        access.open_store(Azure(vault_url=VAULT)).create("db", FIRST, tags={}, kms_key_id="alias/db")
    assert not azure.vaults["lk"].secrets


def test_on_azure_the_previous_of_a_change_by_hand_is_the_youngest_but_one_that_is_enabled(azure: FakeAzure) -> None:
    vault, store = azure.vaults["lk"], access.open_store(Azure(vault_url=VAULT))
    for second, (text, enabled) in enumerate([("a", True), ("b", True), ("c", False), ("d", True)]):
        with mock.patch("tests.fakes.keyvault.now", return_value=1000 + second):
            vault.write("db", {"value": text, "attributes": {"enabled": enabled}})
    one, two, three, four = vault.secrets["db"].versions
    vault.secrets["db"].versions[:] = [
        type(one)(**{**vars(version), "created": 1000 + second})
        for second, version in enumerate([one, two, three, four])
    ]
    assert store.read("db", stage=PREVIOUS).text == "b"


def test_on_azure_what_is_pending_is_a_disabled_sibling_in_the_end(azure: FakeAzure) -> None:
    vault, store = azure.vaults["lk"], access.open_store(Azure(vault_url=VAULT))
    old = store.create("db", FIRST, tags={})
    made = store.write_pending("db", SECOND, token=token())
    store.promote("db", made, expected=old.id)
    store.clear_pending("db", made.id)
    assert sorted(vault.secrets) == ["db", "db-pending"]
    assert [version.enabled for version in vault.secrets["db-pending"].versions] == [False]
    assert [version.enabled for version in vault.secrets["db"].versions] == [True, True]
    assert {version.content_type for version in vault.secrets["db"].versions} == {"application/json"}


def test_on_azure_creating_what_is_deleted_says_how_to_get_it_back(azure: FakeAzure) -> None:
    vault, store = azure.vaults["lk"], access.open_store(Azure(vault_url=VAULT))
    store.create("db", FIRST, tags={})
    vault.deleted["db"] = vault.secrets.pop("db")
    with pytest.raises(SecretMissing, match=r"^secret db in .*: it is deleted, and its name is still taken\. Recover"):
        store.create("db", SECOND, tags={})


# ------------------------------------------------------------------ as whom: AWS
def read_as(cloud: Cloud) -> str:
    """Read the secret as somebody."""
    return access.read(locate(cloud, "db")).text


def put(fake: FakeSecretsManager) -> None:
    """Give the fake the secret."""
    fake.create({"Name": "db", "SecretString": FIRST, "ClientRequestToken": token()})


def test_a_profile_gives_keys_and_region_whatever_the_environment_says(
    aws: FakeSecretsManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(aws)
    (tmp_path / "credentials").write_text(f"[ops]\naws_access_key_id = {KEY}\naws_secret_access_key = x\n")
    (tmp_path / "config").write_text(f"[profile ops]\nregion = {aws.region}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_REGION")
    assert read_as(Aws(profile="ops")) == FIRST
    assert aws.requests[-1].access_key == KEY


def test_keys_by_options_win_over_the_environment(aws: FakeSecretsManager) -> None:
    put(aws)
    aws.known_keys = {KEY}
    assert read_as(Aws(access_key=KEY, secret_key="x")) == FIRST
    with pytest.raises(NotAuthenticated, match="the access key is not known"):
        read_as(Aws())


@pytest.mark.parametrize("given", ["options", "environment"])
def test_a_session_token_is_sent(enter: Enter, given: str) -> None:
    seen = []

    class Noting(FakeSecretsManager):
        def admit(self, call: Call, request: Any) -> None:
            seen.append((request.access_key, call.headers.get("x-amz-security-token")))
            super().admit(call, request)

    with Noting() as fake:
        put(fake)
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        mine = dict(zip(names, (KEY, "x", "mine"), strict=True)) if given == "environment" else {}
        enter({**fake.environment(), **mine})
        options = {"access_key": KEY, "secret_key": "x", "session_token": "mine"} if given == "options" else {}
        assert read_as(Aws(**options)) == FIRST
    assert seen == [(KEY, "mine")]


@pytest.mark.parametrize(
    "half",
    [{"access_key": KEY}, {"secret_key": "x~y~z"}, {"session_token": "x~y~z"}],
    ids=lambda half: next(iter(half)),
)
def test_half_a_key_is_refused_and_nobody_elses_taken(aws: FakeSecretsManager, half: dict[str, str]) -> None:
    with pytest.raises(
        InvalidOption, match=r"access_key, secret_key and session_token .*\. Give the missing"
    ) as caught:
        read_as(Aws(**half))
    assert "x~y~z" not in str(caught.value)
    assert not aws.requests


def test_a_role_is_assumed(enter: Enter) -> None:
    role = "arn:aws:iam::123456789012:role/reader"
    with moto_server() as fake:
        enter(fake.environment())
        access.open_store(Aws()).create("db", FIRST, tags={})
        assert read_as(Aws(assume_role_arn=role)) == FIRST
        session = aws_session.open_session(Aws(assume_role_arn=role))
        who = session.client("sts").get_caller_identity()["Arn"]
    assert session.region_name == "eu-west-1"
    assert who.endswith("assumed-role/reader/latchkey")


@pytest.mark.parametrize(
    ("variables", "option"),
    [
        ({"AWS_REGION": "eu-central-1"}, None),
        ({"AWS_DEFAULT_REGION": "eu-central-1"}, None),
        ({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-east-1"}, None),
        ({"AWS_REGION": "us-east-1"}, "eu-central-1"),
    ],
)
def test_the_region_is_the_options_or_the_environments(
    enter: Enter, variables: dict[str, str], option: str | None
) -> None:
    with FakeSecretsManager(region="eu-central-1") as fake:
        put(fake)
        ours = {name: value for name, value in fake.environment().items() if name != "AWS_REGION"}
        enter({**ours, **variables})
        assert read_as(Aws(region=option)) == FIRST


def test_the_region_of_an_arn_is_asked_whatever_the_environment_says(
    aws: FakeSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(aws)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert access.read(locate(Aws(region="us-east-2"), aws.secrets["db"].arn)).text == FIRST


# ------------------------------------------------------------------ as whom: Azure
def put_in(fake: FakeAzure, vault: str = "lk") -> None:
    """Give the fake the secret."""
    fake.vaults[vault].write("db", {"value": FIRST})


def principals(fake: FakeAzure) -> set[str]:
    """Who has read something from a vault."""
    return {request.token.principal for request in fake.requests if request.operation == "get_secret" and request.token}


def logins(fake: FakeAzure) -> list[dict[str, str]]:
    """What was shown where identities log in."""
    return [dict(parse_qsl(one.body.decode())) for one in fake.requests if one.operation == "token"]


@pytest.mark.parametrize("spelling", ["secret", "awx"])
def test_the_environment_names_a_service_principal_in_both_spellings(
    azure: FakeAzure, enter: Enter, spelling: Any
) -> None:
    put_in(azure)
    enter(azure.environment(spelling))
    assert read_as(Azure(vault_url=VAULT)) == FIRST
    assert principals(azure) == {azure.client_id}


@pytest.mark.parametrize("around", ["none", "secret", "managed"])
def test_a_service_principal_by_options_wins_over_the_environment(azure: FakeAzure, enter: Enter, around: Any) -> None:
    put_in(azure)
    wrong = {"AZURE_TENANT_ID": "other", "AZURE_CLIENT_ID": "other", "AZURE_CLIENT_SECRET": "other"}
    enter({**azure.environment(around), **(wrong if around == "secret" else {})})
    cloud = Azure(vault_url=VAULT, tenant=azure.tenant, client_id=azure.client_id, client_secret=azure.client_secret)
    assert read_as(cloud) == FIRST
    assert principals(azure) == {azure.client_id}


def test_the_managed_identity_of_the_machine_is_used(azure: FakeAzure, enter: Enter) -> None:
    put_in(azure)
    enter(azure.environment("managed"))
    assert read_as(Azure(vault_url=VAULT)) == FIRST
    assert principals(azure) == {azure.system_identity}


def test_a_client_id_names_one_of_several_managed_identities(azure: FakeAzure, enter: Enter) -> None:
    put_in(azure)
    azure.directory.user_identities.add("44444444-4444-4444-8444-444444444444")
    enter(azure.environment("managed"))
    assert read_as(Azure(vault_url=VAULT, client_id="44444444-4444-4444-8444-444444444444")) == FIRST
    assert principals(azure) == {"44444444-4444-4444-8444-444444444444"}


def test_a_workload_identity_is_used(azure: FakeAzure, enter: Enter) -> None:
    put_in(azure)
    enter(azure.environment("workload"))
    assert read_as(Azure(vault_url=VAULT)) == FIRST
    assert principals(azure) == {azure.client_id}
    assert all("client_assertion" in login and "client_secret" not in login for login in logins(azure))


@pytest.mark.parametrize("identity", ["secret", "workload"])
@pytest.mark.parametrize(
    ("suffix", "login"),
    [
        ("vault.azure.net", "login.microsoftonline.com"),
        ("vault.usgovcloudapi.net", "login.microsoftonline.us"),
        ("vault.azure.cn", "login.chinacloudapi.cn"),
    ],
)
def test_identities_log_in_where_the_vaults_cloud_has_them(
    azure: FakeAzure, enter: Enter, suffix: str, login: str, identity: Any
) -> None:
    azure.add_vault("own", suffix=suffix)
    put_in(azure, "own")
    enter(azure.environment(identity))
    assert read_as(Azure(vault_url=f"https://own.{suffix}/")) == FIRST
    assert {request.host for request in azure.requests} == {login, f"own.{suffix}"}
    assert [one["scope"].split()[0] for one in logins(azure)] == [f"https://{suffix}/.default"]


# ------------------------------------------------------------------ tokens
@pytest.mark.parametrize(
    ("host", "region"),
    [(HOST, "eu-central-1"), ("db.example.com", "us-east-1"), ("cn.c1.rds.cn-north-1.amazonaws.com.cn", "cn-north-1")],
)
def test_an_iam_token_is_made_here_for_the_region_of_the_host(
    aws: FakeSecretsManager, monkeypatch: pytest.MonkeyPatch, host: str, region: str
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    made = tokens.rds_iam_token(Aws(access_key=KEY, secret_key="x"), host=host, port=5433, user="a p+p")
    parts = urlsplit(f"https://{made}")
    told = {name: value for name, (value,) in parse_qs(parts.query).items()}
    assert parts.netloc == f"{host}:5433"
    assert (told["Action"], told["DBUser"], told["X-Amz-Expires"]) == ("connect", "a p+p", "900")
    assert told["X-Amz-Credential"].startswith(f"{KEY}/")
    assert told["X-Amz-Credential"].endswith(f"/{region}/rds-db/aws4_request")
    assert not aws.requests


@pytest.mark.parametrize(
    ("host", "audience", "login"),
    [
        ("", "https://ossrdbms-aad.database.windows.net", "login.microsoftonline.com"),
        (
            "db.postgres.database.azure.com",
            "https://ossrdbms-aad.database.windows.net",
            "login.microsoftonline.com",
        ),
        (
            "db.postgres.database.usgovcloudapi.net",
            "https://ossrdbms-aad.database.usgovcloudapi.net",
            "login.microsoftonline.us",
        ),
        (
            "db.postgres.database.chinacloudapi.cn",
            "https://ossrdbms-aad.database.chinacloudapi.cn",
            "login.chinacloudapi.cn",
        ),
    ],
)
def test_an_entra_token_is_for_postgresql_in_the_cloud_of_the_host(
    azure: FakeAzure, host: str, audience: str, login: str
) -> None:
    made = azure.tokens[tokens.entra_token(Azure(), host=host)]
    assert (made.audience, made.principal) == (audience, azure.client_id)
    assert {request.host for request in azure.requests} == {login}


@pytest.mark.parametrize("identity", ["awx", "managed", "workload"])
def test_an_entra_token_is_given_to_every_identity(azure: FakeAzure, enter: Enter, identity: Any) -> None:
    enter(azure.environment(identity))
    expected = azure.system_identity if identity == "managed" else azure.client_id
    assert azure.tokens[tokens.entra_token(Azure())].principal == expected


# ------------------------------------------------------------------ one client and one fetch
@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that have made a client of a store; in a child, its own."""
    made: list[int] = []

    def counted(function: Any) -> Any:
        def make(*args: Any, **more: Any) -> Any:
            made.append(os.getpid())
            return function(*args, **more)

        return make

    monkeypatch.setattr(aws_store, "open_client", counted(aws_store.open_client))
    monkeypatch.setattr(azure_store, "SecretClient", counted(azure_store.SecretClient))
    return made


def fill(place: Place, count: int) -> None:
    """Put secrets into the fake itself."""
    for index in range(count):
        if isinstance(place.fake, FakeAzure):
            place.fake.vaults["lk"].write(f"db-{index}", {"value": str(index)})
        else:
            place.fake.create({"Name": f"db-{index}", "SecretString": str(index), "ClientRequestToken": token()})


def reads(place: Place) -> list[str]:
    """The secrets that were asked for by someone who was let in."""
    if isinstance(place.fake, FakeAzure):
        return [one.name for one in place.fake.requests if one.operation == "get_secret" and one.token]
    return [one.body["SecretId"] for one in place.fake.requests if one.operation == "GetSecretValue"]


def test_fifty_references_to_two_secrets_are_two_requests_of_one_client(strict: Place, clients: list[int]) -> None:
    fill(strict, 2)
    wanted = [locate(strict.cloud, f"db-{index % 2}") for index in range(50)]
    answers = access.read_all(wanted)
    assert [answer.text for answer in answers if not isinstance(answer, SecretUnreadable)] == ["0", "1"] * 25
    for reference in wanted:
        access.read(reference)
    assert sorted(reads(strict)) == ["db-0", "db-1"]
    assert clients == [os.getpid()]


def test_many_secrets_are_fetched_at_once(strict: Place) -> None:
    fill(strict, 17)
    together = threading.Barrier(access.AT_ONCE)

    def slow(request: Any) -> None:
        if (request.body["SecretId"] if isinstance(strict.cloud, Aws) else request.name) != "db-0":
            together.wait(10)  # the first one gets the token for all
        time.sleep(0.2)

    strict.fake.on("GetSecretValue" if isinstance(strict.cloud, Aws) else "get_secret", slow)
    start = time.monotonic()
    answers = access.read_all([locate(strict.cloud, f"db-{index}") for index in range(17)])
    assert time.monotonic() - start < 17 * 0.2
    assert [answer.text for answer in answers if not isinstance(answer, SecretUnreadable)] == [
        str(index) for index in range(17)
    ]


def test_each_of_several_stores_has_one_client(aws: FakeSecretsManager, clients: list[int]) -> None:
    put(aws)
    others = [locate(Aws(access_key=KEY, secret_key="x"), f"gone-{index}") for index in range(8)]
    first, *answers = access.read_all([locate(Aws(), "db"), *others])
    assert not isinstance(first, SecretUnreadable)
    assert all(isinstance(answer, SecretMissing) for answer in answers)
    assert len(clients) == 2


FORK = """
import os
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure, locate

cloud = CLOUD
access.read(locate(cloud, "db-0"))
mine = access.open_store(cloud)
child = os.fork()
if child == 0:
    texts = [access.read(locate(cloud, name)).text for name in ("db-0", "db-1", "db-1")]
    print(texts, access.open_store(cloud) is mine, access._open.cache_info().misses, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(access.open_store(cloud) is mine)
"""


def test_a_forked_child_makes_its_own_client(strict: Place) -> None:
    """In a process without threads, as Ansible's is when it forks: the fake's are here."""
    fill(strict, 2)
    paths = f"{Path(__file__).parents[2] / '.venv' / 'collections'}"
    command = [sys.executable, "-c", FORK.replace("CLOUD", repr(strict.cloud))]
    env = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['0', '1', '1'] False 2", "True"]
    assert reads(strict) == ["db-0", "db-1"], "the child knows what was read before it was made"


def test_who_asks_afresh_gets_the_store(strict: Place, clients: list[int]) -> None:
    strict.store.create("db", FIRST, tags={})
    wanted = locate(strict.cloud, "db")
    assert access.read(wanted).text == FIRST
    changed_by_another(strict.store)
    assert access.read(wanted).text == FIRST
    (found,) = access.read_all([wanted], afresh=True)
    assert isinstance(found, Version)
    assert found.text == THEIRS
    assert access.read(wanted).text == THEIRS
    assert len(clients) == 1


def test_failures_are_told_in_their_place_and_not_remembered(strict: Place) -> None:
    fill(strict, 1)
    wanted = [locate(strict.cloud, name) for name in ("gone", "db-0", "gone")]
    first, second, third = access.read_all(wanted)
    assert isinstance(first, SecretMissing)
    assert first is third
    assert not isinstance(second, SecretUnreadable)
    assert second.text == "0"
    strict.store.create("gone", FIRST, tags={})
    assert access.read(wanted[0]).text == FIRST


def test_stages_and_versions_are_different_references(strict: Place) -> None:
    strict.store.create("db", FIRST, tags={})
    changed_by_another(strict.store)
    found = {stage: access.read(locate(strict.cloud, "db", stage=stage)).text for stage in (CURRENT, PREVIOUS)}
    assert found == {CURRENT: THEIRS, PREVIOUS: FIRST}


def test_identities_do_not_share_a_client_or_a_value(aws: FakeSecretsManager, clients: list[int]) -> None:
    put(aws)
    aws.known_keys = {KEY}
    assert read_as(Aws(access_key=KEY, secret_key="x")) == FIRST
    with pytest.raises(NotAuthenticated):
        read_as(Aws(access_key="AKIASOMEBODYSOMEBODY", secret_key="x"))
    assert len(clients) == 2
