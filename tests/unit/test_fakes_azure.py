# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake of Azure, asked by Microsoft's SDK with its default settings: it says no where Azure does."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

identity = pytest.importorskip("azure.identity")
keyvault = pytest.importorskip("azure.keyvault.secrets")
pytest.importorskip("trustme")

from azure.core.credentials import AccessToken  # noqa: E402
from azure.core.exceptions import (  # noqa: E402
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.keyvault.secrets._shared import http_challenge_cache  # noqa: E402

from tests.fakes import FakeAzure, Vault, clean_environment  # noqa: E402

OTHER_TENANT = "99999999-9999-4999-8999-999999999999"
POSTGRES = "https://ossrdbms-aad.database.windows.net/.default"
Connect = Callable[..., Any]


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    """A fake with a vault."""
    with FakeAzure() as fake:
        fake.add_vault("lk")
        yield fake


@pytest.fixture
def vault(azure: FakeAzure) -> Vault:
    """The vault."""
    return azure.vaults["lk"]


@pytest.fixture
def connect(azure: FakeAzure, tmp_path: Path) -> Iterator[Connect]:
    """Make clients as a product does: `connect(identity="secret", url=…, **variables)`."""
    with contextlib.ExitStack() as stack:

        def client(who: Any = "secret", *, url: str = "https://lk.vault.azure.net", **variables: str) -> Any:
            # Neither tools that may be signed in nor what an earlier test learned of the vault.
            clean = clean_environment(os.environ) | {"PATH": str(tmp_path), "HOME": str(tmp_path)}
            everything = {**clean, **azure.environment(who), **variables}
            stack.enter_context(mock.patch.dict(os.environ, everything, clear=True))
            http_challenge_cache.clear()
            credential = stack.enter_context(identity.DefaultAzureCredential())
            return stack.enter_context(keyvault.SecretClient(url, credential))

        yield client


@pytest.fixture
def client(connect: Connect) -> Any:
    """A client that signs in with a secret."""
    return connect()


@contextlib.contextmanager
def refused(status: int, code: str, inner: str | None = None) -> Iterator[None]:
    """Expect an error of the service."""
    with pytest.raises(HttpResponseError) as caught:
        yield
    error = caught.value.error
    assert error is not None
    found = error.innererror["code"] if error.innererror else None
    assert (caught.value.status_code, error.code, found) == (status, code, inner)


def operations(azure: FakeAzure) -> list[str]:
    """What was asked for, without what msal remembers for the process."""
    return [one.operation for one in azure.requests if one.operation not in {"openid", "instance"}]


def test_the_sdk_works_by_its_defaults_alone(azure: FakeAzure, client: Any) -> None:
    """Way B: real names, the challenge and the authority verified, nothing but the environment."""
    assert client.set_secret("a", "s3cret", tags={"k": "v"}).value == "s3cret"
    read = client.get_secret("a")
    assert (read.value, read.properties.tags, read.properties.enabled) == ("s3cret", {"k": "v"}, True)
    assert operations(azure) == ["set_secret", "token", "set_secret", "get_secret"]
    assert set(azure.proxy.tunnels) <= {"lk.vault.azure.net", "login.microsoftonline.com"}
    first = azure.requests[0]
    assert (first.host, first.path, first.body, first.token) == ("lk.vault.azure.net", "/secrets/a", b"", None)


def test_managed_identity_needs_no_configuration(azure: FakeAzure, connect: Connect) -> None:
    """The machine's own endpoint is asked, and it is another principal."""
    connect("managed").set_secret("a", "x")
    assert operations(azure) == ["set_secret", "managed_token", "set_secret"]
    assert [token.principal for token in azure.tokens.values()] == [azure.system_identity]


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(azure: FakeAzure, connect: Connect) -> None:
    """Which must be one of the machine's."""
    with pytest.raises(ClientAuthenticationError, match="No Managed Identity found"):
        connect("managed", AZURE_CLIENT_ID="mine").set_secret("a", "x")
    azure.directory.user_identities.add("mine")
    connect("managed", AZURE_CLIENT_ID="mine").set_secret("a", "x")
    assert [token.principal for token in azure.tokens.values()] == ["mine"]


def test_the_identity_endpoint_wants_its_header(connect: Connect) -> None:
    """A wrong one gets no token."""
    with pytest.raises(ClientAuthenticationError):
        connect("managed", IDENTITY_HEADER="wrong").set_secret("a", "x")


def test_workload_identity_signs_in_with_the_token_of_a_file(
    azure: FakeAzure, connect: Connect, tmp_path: Path
) -> None:
    """It is sent as the assertion, and another is refused."""
    connect("workload").set_secret("a", "x")
    assert b"client_assertion" in next(one for one in azure.requests if one.operation == "token").body
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(ClientAuthenticationError, match="AADSTS50027"):
        connect("workload", AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "token")).set_secret("b", "x")


def test_the_variables_of_awx_mean_nothing_to_the_sdk(azure: FakeAzure, connect: Connect) -> None:
    """So the product must understand them: AZURE_TENANT, AZURE_CLIENT_ID, AZURE_SECRET."""
    with pytest.raises(ClientAuthenticationError, match="EnvironmentCredential authentication unavailable"):
        connect("awx").set_secret("a", "x")
    credential = identity.ClientSecretCredential(
        os.environ["AZURE_TENANT"], os.environ["AZURE_CLIENT_ID"], os.environ["AZURE_SECRET"]
    )
    with credential, keyvault.SecretClient("https://lk.vault.azure.net", credential) as client:
        client.set_secret("a", "x")
    assert azure.vaults["lk"].secrets["a"].latest.value == "x"


def test_without_an_identity_nothing_is_found_and_no_time_lost(azure: FakeAzure, connect: Connect) -> None:
    """No metadata service answers."""
    start = time.monotonic()
    with pytest.raises(ClientAuthenticationError, match="failed to retrieve a token"):
        connect("none").get_secret("a")
    assert time.monotonic() - start < 3
    assert not azure.tokens


@pytest.mark.parametrize(
    ("variable", "message"),
    [("AZURE_CLIENT_SECRET", "AADSTS7000215"), ("AZURE_CLIENT_ID", "AADSTS700016")],
)
def test_a_wrong_application_or_secret_gets_no_token(connect: Connect, variable: str, message: str) -> None:
    """And is told why."""
    with pytest.raises(ClientAuthenticationError, match=message):
        connect(**{variable: "wrong"}).get_secret("a")


def test_the_sdk_refuses_a_vault_of_another_tenant(azure: FakeAzure, connect: Connect) -> None:
    """By itself, after the challenge."""
    with pytest.raises(ClientAuthenticationError, match="not configured to acquire tokens for tenant"):
        connect(AZURE_TENANT_ID=OTHER_TENANT).get_secret("a")
    assert operations(azure) == ["get_secret"]


def test_a_tenant_that_there_is_not_gives_no_tokens(connect: Connect) -> None:
    """msal hears of it from the tenant's discovery document."""
    client = connect(AZURE_TENANT_ID=OTHER_TENANT)
    with pytest.raises(ClientAuthenticationError, match="Unable to get authority configuration"):
        client._client._config.authentication_policy._credential.get_token(POSTGRES)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        pytest.param("AKV10022", {"audience": "https://ossrdbms-aad.database.windows.net"}, id="of another service"),
        pytest.param("AKV10032", {"tenant": OTHER_TENANT}, id="of another tenant"),
        pytest.param("AKV10046", {"expires": 1}, id="expired"),
        pytest.param("AKV10000", {"text": "not given by the fake"}, id="invented"),
    ],
)
def test_the_vault_believes_no_other_tokens(
    azure: FakeAzure, connect: Connect, problem: str, change: dict[str, Any]
) -> None:
    """Than its own, for itself, and as long as they last."""
    connect().set_secret("a", "x")
    text, good = azure.tokens.popitem()
    if "text" not in change:
        azure.tokens[text] = dataclasses.replace(good, **change)
    shown = mock.Mock(spec=["get_token"])
    shown.get_token.return_value = AccessToken(text, good.expires)
    with (
        keyvault.SecretClient("https://lk.vault.azure.net", shown) as client,
        pytest.raises(ClientAuthenticationError, match=problem),
    ):
        client.get_secret("a")


def test_a_name_that_does_not_resolve_is_a_request_error(connect: Connect) -> None:
    """As when DNS fails: behind a proxy it is the proxy that says so."""
    credential = connect()._client._config.authentication_policy._credential
    with (
        keyvault.SecretClient("https://nowhere.vault.azure.net", credential, retry_total=0) as client,
        pytest.raises(ServiceRequestError, match="502"),
    ):
        client.get_secret("a")


def test_a_token_for_postgresql_is_known(azure: FakeAzure, connect: Connect) -> None:
    """To whom it was given, and for what; clients may look into it."""
    connect()
    with identity.DefaultAzureCredential() as credential:
        text = credential.get_token(POSTGRES).token
    token = azure.tokens[text]
    assert (token.audience, token.principal) == (POSTGRES.removesuffix("/.default"), azure.client_id)
    payload = text.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["aud"], claims["tid"]) == (token.audience, azure.tenant)


@pytest.mark.parametrize(
    ("login", "suffix", "audience"),
    [
        ("login.microsoftonline.us", "vault.usgovcloudapi.net", "https://ossrdbms-aad.database.usgovcloudapi.net"),
        ("login.chinacloudapi.cn", "vault.azure.cn", "https://ossrdbms-aad.database.chinacloudapi.cn"),
    ],
)
def test_other_clouds_have_their_own_names(
    azure: FakeAzure, connect: Connect, login: str, suffix: str, audience: str
) -> None:
    """And the public one gives no tokens for them."""
    url = azure.add_vault("other", suffix=suffix).url
    connect(url=url, AZURE_AUTHORITY_HOST=login).set_secret("a", "x")
    with identity.DefaultAzureCredential() as credential:
        assert azure.tokens[credential.get_token(f"{audience}/.default").token].audience == audience
    with pytest.raises(ClientAuthenticationError, match="AADSTS500011"):
        connect(url=url).get_secret("a")


def test_the_latest_version_is_read_or_the_one_that_is_named(client: Any) -> None:
    """Every write makes one."""
    old = client.set_secret("a", "old").properties.version
    client.set_secret("A", "new")
    assert client.get_secret("a").value == "new"
    assert client.get_secret("a", old).value == "old"
    with pytest.raises(ResourceNotFoundError):
        client.get_secret("a", "0" * 32)


def test_no_version_stands_in_for_a_disabled_one(client: Any) -> None:
    """It is forbidden, by its id too; the others are not."""
    old = client.set_secret("a", "old").properties.version
    new = client.set_secret("a", "new", enabled=False).properties.version
    with refused(403, "Forbidden", "SecretDisabled"):
        client.get_secret("a")
    with refused(403, "Forbidden", "SecretDisabled"):
        client.get_secret("a", new)
    assert client.get_secret("a", old).value == "old"
    client.update_secret_properties("a", new, enabled=True)
    assert client.get_secret("a").value == "new"


def test_properties_change_and_the_value_does_not(client: Any) -> None:
    """What is not mentioned stays."""
    made = client.set_secret("a", "x", tags={"k": "v"}, content_type="text/plain")
    client.update_secret_properties("a", made.properties.version, tags={"l": "w"})
    read = client.get_secret("a")
    assert (read.value, read.properties.content_type, read.properties.tags) == ("x", "text/plain", {"l": "w"})
    assert read.properties.version == made.properties.version


def test_an_expired_secret_is_still_answered(client: Any) -> None:
    """As is one that is not valid yet: the times are for the reader to heed."""
    times = [dt.datetime.fromtimestamp(number, tz=dt.timezone.utc) for number in (4_000_000_000, 1_000_000)]
    client.set_secret("a", "x", not_before=times[0], expires_on=times[1])
    read = client.get_secret("a")
    assert (read.value, read.properties.not_before, read.properties.expires_on) == ("x", *times)


def test_versions_come_in_pages_and_without_values(azure: FakeAzure, vault: Vault, client: Any) -> None:
    """Also those that are disabled, in no order that means anything."""
    vault.page_size = 2
    made = {client.set_secret("a", str(number), enabled=number != 3).properties.version for number in range(5)}
    azure.requests.clear()
    listed = [one.version for one in client.list_properties_of_secret_versions("a")]
    assert (set(listed), listed) == (made, sorted(made))
    assert operations(azure) == ["list_versions"] * 3
    assert [(one.name, one.version) for one in client.list_properties_of_secrets()] == [("a", None)]


def test_a_deleted_secret_keeps_its_name(client: Any, vault: Vault) -> None:
    """Until it is recovered or purged."""
    client.set_secret("a", "x")
    client.begin_delete_secret("a").wait()
    with refused(404, "SecretNotFound"):
        client.get_secret("a")
    with refused(409, "Conflict", "ObjectIsDeletedButRecoverable"):
        client.set_secret("a", "y")
    assert client.get_deleted_secret("a").name == "a"
    client.begin_recover_deleted_secret("a").wait()
    assert client.get_secret("a").value == "x"
    client.begin_delete_secret("a").wait()
    assert [one.name for one in client.list_deleted_secrets()] == ["a"]
    client.purge_deleted_secret("a")
    assert not vault.deleted
    client.set_secret("a", "y")


@pytest.mark.parametrize("name", ["with_underscore", "a.b", "a" * 128])
def test_a_name_that_is_none_is_a_bad_parameter(client: Any, name: str) -> None:
    """Letters, digits and hyphens."""
    with refused(400, "BadParameter"):
        client.set_secret(name, "x")


def test_a_value_has_at_most_25_kib(client: Any) -> None:
    """And there are at most 15 tags."""
    client.set_secret("a", "x" * 25600, tags=dict.fromkeys("abcdefghijklmno", ""))
    with refused(400, "BadParameter"):
        client.set_secret("a", "x" * 25601)
    with refused(400, "BadParameter"):
        client.set_secret("a", "x", tags=dict.fromkeys("abcdefghijklmnop", ""))


def test_rights_are_given_by_principal_and_operation(azure: FakeAzure, vault: Vault, connect: Connect) -> None:
    """One may read and not write, another nothing, the rest all."""
    connect("managed").set_secret("a", "x")
    vault.rights[azure.client_id] = {"get_secret"}
    assert connect().get_secret("a").value == "x"
    with refused(403, "Forbidden", "ForbiddenByRbac"):
        connect().set_secret("a", "y")
    vault.rights[str(azure.system_identity)] = set()
    with refused(403, "Forbidden", "ForbiddenByRbac"):
        connect("managed").get_secret("a")


def test_the_sdk_waits_and_tries_again_when_throttled(azure: FakeAzure, client: Any) -> None:
    """For as long as it is told to."""
    client.set_secret("a", "x")
    azure.requests.clear()
    azure.fail("get_secret", status=429, code="Throttled", headers={"Retry-After": "1"}, times=1)
    start = time.monotonic()
    assert client.get_secret("a").value == "x"
    assert 0.9 < time.monotonic() - start < 3
    assert operations(azure) == ["get_secret", "get_secret"]


def test_a_lost_answer_makes_two_versions(azure: FakeAzure, vault: Vault, client: Any) -> None:
    """The service has no token against it: after an error the SDK writes again."""
    client.set_secret("a", "x")
    azure.fail("set_secret", status=503, headers={"Retry-After": "0"}, times=1, when="after")
    client.set_secret("a", "y")
    assert [one.value for one in vault.secrets["a"].versions] == ["x", "y", "y"]


def test_callbacks_run_before_and_after_the_state_changes(azure: FakeAzure, vault: Vault, client: Any) -> None:
    """Once for each request that was let in: the one for the challenge is not."""
    seen: list[tuple[str, int]] = []
    azure.on("set_secret", lambda request: seen.append((f"before {request.name}", len(vault.secrets))))
    azure.on("set_secret", lambda request: seen.append((f"after {request.name}", len(vault.secrets))), when="after")
    client.set_secret("a", "x")
    assert seen == [("before a", 0), ("after a", 1)]


def test_several_at_once_know_nothing_of_each_other(azure: FakeAzure, connect: Connect, vault: Vault) -> None:
    """Neither does one believe the tokens of the other."""
    client = connect()
    client.set_secret("a", "x")
    with FakeAzure(client_secret="another") as other:
        other.add_vault("lk")
        with mock.patch.dict(os.environ, other.environment()):
            sign_in = identity.ClientSecretCredential(azure.tenant, azure.client_id, azure.client_secret)
            with sign_in, pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
                sign_in.get_token(POSTGRES)
            with pytest.raises(ClientAuthenticationError, match="AKV10000"):
                client.get_secret("a")
        assert not other.vaults["lk"].secrets
    assert list(vault.secrets) == ["a"]
