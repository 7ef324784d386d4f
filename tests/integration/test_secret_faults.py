# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that can't be had: each reason has its message, with the next step, in time, and without a value."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest

for library in ("boto3", "azure.identity", "azure.keyvault.secrets", "trustme"):
    pytest.importorskip(library)


from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (  # noqa: E402
    InvalidOption,
    LatchkeyError,
    LibraryMissing,
    NotAuthenticated,
    SecretDeleted,
    SecretDenied,
    SecretDisabled,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import (  # noqa: E402
    access,
    aws_session,
    azure_credential,
    document,
    tokens,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (  # noqa: E402
    Aws,
    Azure,
    Cloud,
    Version,
    locate,
)
from tests.fakes import FakeAzure, FakeSecretsManager, Refusal  # noqa: E402
from tests.fakes.aws import Secret  # noqa: E402

Enter = Callable[[dict[str, str]], None]
VALUE, KEY, WRONG = "S3cret~Value", "s3cret~Access~Key", "wr0ng~Client~Secret"
TEXT = f'{{"username": "app", "password": "{VALUE}"}}'
OTHER_TENANT = "99999999-9999-4999-8999-999999999999"
VAULT = "https://lk.vault.azure.net"
AT_AWS, AT_AZURE = "secret db in AWS Secrets Manager in eu-west-1", f"secret db in Key Vault {VAULT}"
SECONDS = 15


pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture
def aws(enter: Enter) -> Iterator[FakeSecretsManager]:
    """A strict fake with one secret."""
    with FakeSecretsManager() as fake:
        enter({**fake.environment(), "AWS_SECRET_ACCESS_KEY": KEY})
        fake.create({"Name": "db", "SecretString": TEXT, "ClientRequestToken": token()})
        yield fake


@pytest.fixture
def azure(enter: Enter) -> Iterator[FakeAzure]:
    """A strict fake with one secret."""
    with FakeAzure() as fake:
        fake.add_vault("lk").write("db", {"value": TEXT})
        enter(fake.environment())
        yield fake


@pytest.fixture(params=[True, False], ids=["strict_aws", "strict_azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each of the clouds, with one secret."""
    request.getfixturevalue("aws" if request.param else "azure")
    return Aws() if request.param else Azure(vault_url=VAULT)


@pytest.fixture
def hole() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield int(listening.getsockname()[1])


@pytest.fixture
def closed() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def hang() -> Iterator[Callable[[Any], None]]:
    """A hook that keeps the client waiting, until the end of the test."""
    over = threading.Event()
    yield lambda _request: over.wait(60) and None
    over.set()


def token() -> str:
    """What makes a write one write."""
    return str(uuid.uuid4())


def read(cloud: Cloud, name: str = "db", **which: Any) -> str:
    """Read a secret as a lookup does."""
    return access.read(locate(cloud, name, **which)).text


def said_by(error: BaseException | None) -> str:
    """All that an error and its causes tell."""
    said = ""
    while error is not None:
        said += f"{error}\n{error!r}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


@contextlib.contextmanager
def refused(kind: type[LatchkeyError], where: str, what: str, next_step: str, *, seconds: float = 10) -> Iterator[None]:
    """Expect exactly this kind of error, in one line of this form, soon, and no secret in it or its causes."""
    start = time.monotonic()
    with pytest.raises(LatchkeyError) as caught:
        yield
    took = time.monotonic() - start
    assert re.fullmatch(rf"{re.escape(where)}: {what}\. {next_step}.*", str(caught.value))
    assert caught.type is kind
    assert not [secret for secret in (VALUE, KEY, WRONG, "fake~client~secret") if secret in said_by(caught.value)]
    assert took < seconds


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, and what is said about it."""

    arrange: Callable[[Any], object]
    kind: type[LatchkeyError]
    what: str
    next_step: str
    which: dict[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------ AWS
def fails(code: str, message: str = "no") -> Callable[[FakeSecretsManager], object]:
    return lambda aws: aws.fail("GetSecretValue", code=code, message=message)


def is_binary(aws: FakeSecretsManager) -> None:
    aws.put_value({"SecretId": "db", "SecretBinary": "UzNjcmV0flZhbHVl", "ClientRequestToken": token()})


def has_a_key_that_is_denied(aws: FakeSecretsManager) -> None:
    aws.secrets["db"].kms_key_id = "alias/theirs"
    aws.denied_keys.add("alias/theirs")


AWS_FAULTS = {
    "missing": Fault(
        arrange=lambda aws: aws.secrets.clear(),
        kind=SecretMissing,
        what=r"it does not exist \(ResourceNotFoundException\)",
        next_step="Check the name, the region and the account",
    ),
    "no such version": Fault(
        arrange=lambda _aws: None,
        which={"version": "v" * 32},
        kind=SecretMissing,
        what="it has no such version",
        next_step="Check version_stage and version_id",
    ),
    "scheduled for deletion": Fault(
        arrange=lambda aws: aws.delete({"SecretId": "db"}),
        kind=SecretDeleted,
        what="it is scheduled for deletion",
        next_step="Restore it",
    ),
    "binary": Fault(
        arrange=is_binary,
        kind=SecretUnreadable,
        what="it is binary",
        next_step="Store the credentials as text",
    ),
    "denied": Fault(
        arrange=fails("AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized to perform: y"),
        kind=SecretDenied,
        what=r"access denied \(AccessDeniedException: User: arn:aws:iam::1:user/x is not authorized .*\)",
        next_step="Allow this identity the action",
    ),
    "KMS key denied": Fault(
        arrange=has_a_key_that_is_denied,
        kind=SecretDenied,
        what=r"access denied \(AccessDeniedException: Access to KMS is not allowed\)",
        next_step=r"Allow .* \(and on its KMS key\)",
    ),
    "KMS key off": Fault(
        arrange=fails("DecryptionFailure"),
        kind=SecretDenied,
        what=r"its KMS key can't be used \(DecryptionFailure: no\)",
        next_step="Allow kms:Decrypt",
    ),
    "unknown key": Fault(
        arrange=lambda aws: setattr(aws, "known_keys", {"another"}),
        kind=NotAuthenticated,
        what=r"the access key is not known \(UnrecognizedClientException: .*\)",
        next_step="Check access_key or profile",
    ),
    "wrong secret key": Fault(
        arrange=fails("InvalidSignatureException"),
        kind=NotAuthenticated,
        what=r"the secret key is wrong \(InvalidSignatureException: no\)",
        next_step="Check secret_key or profile",
    ),
    "expired session": Fault(
        arrange=fails("ExpiredTokenException"),
        kind=NotAuthenticated,
        what=r"the session has expired \(ExpiredTokenException: no\)",
        next_step="Renew the credentials",
    ),
    "always throttled": Fault(
        arrange=fails("ThrottlingException", "Rate exceeded"),
        kind=SecretUnreadable,
        what=r"throttled, after several tries \(ThrottlingException\)",
        next_step="Run again with fewer forks",
    ),
}


@pytest.mark.parametrize("name", AWS_FAULTS)
def test_aws_refuses_for_one_reason(aws: FakeSecretsManager, name: str) -> None:
    fault = AWS_FAULTS[name]
    fault.arrange(aws)
    with refused(fault.kind, AT_AWS, fault.what, fault.next_step):
        read(Aws(), **fault.which)


@pytest.mark.parametrize("step", ["describe", "create", "write_pending", "promote", "clear_pending", "tag"])
def test_on_aws_every_step_sees_a_deletion(aws: FakeSecretsManager, step: str) -> None:
    store = access.open_store(Aws())
    more: dict[str, Any] = {
        "create": {"text": TEXT, "tags": {}},
        "write_pending": {"text": TEXT, "token": token()},
        "promote": {"pending": Version(id=token(), text=TEXT), "expected": token()},
        "clear_pending": {"version": token()},
        "tag": {"tags": {"a": "b"}},
    }
    aws.delete({"SecretId": "db"})
    before = repr(aws.secrets)
    with refused(SecretDeleted, AT_AWS, "it is scheduled for deletion", "Restore it"):
        getattr(store, step)("db", **more.get(step, {}))
    assert repr(aws.secrets) == before


def test_two_current_versions_are_not_guessed_about(aws: FakeSecretsManager) -> None:
    class Torn(Secret):
        def labels_of(self, version_id: str) -> list[str]:  # noqa: ARG002
            return ["AWSCURRENT"]

    aws.put_value({"SecretId": "db", "SecretString": TEXT, "ClientRequestToken": token()})
    aws.secrets["db"].__class__ = Torn
    one, two = aws.secrets["db"].versions
    with refused(
        SecretUnreadable, AT_AWS, f"two versions carry AWSCURRENT: {one} and {two}", "Take the label from the one"
    ):
        access.open_store(Aws()).promote("db", Version(id=two, text=""), expected=one)
    assert "UpdateSecretVersionStage" not in {request.operation for request in aws.requests}


def test_without_a_region_the_message_says_where_to_set_it(
    aws: FakeSecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    what, next_step = "no AWS region is known", "Set region, or AWS_REGION in the environment"
    with refused(SecretUnreadable, "AWS Secrets Manager", what, next_step):
        read(Aws())
    with refused(SecretUnreadable, "IAM token for app at db.example.com", what, next_step):
        tokens.rds_iam_token(Aws(), host="db.example.com", port=5432, user="app")
    assert not aws.requests


def test_an_unknown_profile_is_named(aws: FakeSecretsManager) -> None:
    with refused(NotAuthenticated, "AWS", r"The config profile \(ops\) could not be found", "Check profile"):
        read(Aws(profile="ops"))
    assert not aws.requests


def test_a_role_that_may_not_be_assumed_is_named(
    aws: FakeSecretsManager, monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed}")
    role = "arn:aws:iam::123456789012:role/reader"
    with refused(SecretUnreadable, f"role {role}", r"AWS can't be reached \(\w+\)", "Check the region"):
        read(Aws(assume_role_arn=role))
    assert not aws.requests


# ------------------------------------------------------------------ Azure
def changed(**properties: Any) -> Callable[[FakeAzure], None]:
    """Change the one version of the secret."""

    def change(azure: FakeAzure) -> None:
        versions = azure.vaults["lk"].secrets["db"].versions
        versions[:] = [dataclasses.replace(versions[0], **properties)]

    return change


def is_deleted(azure: FakeAzure) -> None:
    vault = azure.vaults["lk"]
    vault.deleted["db"] = vault.secrets.pop("db")


def is_deleted_and_nobody_may_know(azure: FakeAzure) -> None:
    is_deleted(azure)
    azure.vaults["lk"].rights[azure.client_id] = {"get_secret"}


def signs_in_wrongly(**variables: str) -> Callable[[FakeAzure], None]:
    return lambda _azure: os.environ.update(variables)


AZURE_FAULTS = {
    "missing": Fault(
        arrange=lambda azure: azure.vaults["lk"].secrets.clear(),
        kind=SecretMissing,
        what=r"it does not exist \(SecretNotFound\)",
        next_step="Check the name, the version and the vault",
    ),
    "deleted": Fault(
        arrange=is_deleted,
        kind=SecretDeleted,
        what="it is deleted",
        next_step="Recover it",
    ),
    "disabled": Fault(
        arrange=changed(enabled=False),
        kind=SecretDisabled,
        what="it is disabled",
        next_step="Enable it, or store a new version",
    ),
    "expired": Fault(
        arrange=changed(exp=1000000000),
        kind=SecretUnreadable,
        what="it expired at 2001-09-09 01:46 UTC",
        next_step="Store a new version",
    ),
    "not yet valid": Fault(
        arrange=changed(nbf=4000000000),
        kind=SecretUnreadable,
        what="it is not valid before 2096-10-02 07:06 UTC",
        next_step="Wait, or store a new version",
    ),
    "denied": Fault(
        arrange=lambda azure: azure.vaults["lk"].rights.update({azure.client_id: set()}),
        kind=SecretDenied,
        what=r"access denied \(ForbiddenByRbac\)",
        next_step="Allow this identity to get secrets",
    ),
    "tenant of another vault": Fault(
        arrange=signs_in_wrongly(AZURE_TENANT_ID=OTHER_TENANT),
        kind=NotAuthenticated,
        what="the vault belongs to another tenant than the credentials",
        next_step="Check tenant, client_id and client_secret",
    ),
    "client unknown": Fault(
        arrange=signs_in_wrongly(AZURE_CLIENT_ID=OTHER_TENANT),
        kind=NotAuthenticated,
        what=r"the tenant does not know the client_id \(AADSTS700016\)",
        next_step="Check tenant, client_id and client_secret",
    ),
    "client secret wrong": Fault(
        arrange=signs_in_wrongly(AZURE_CLIENT_SECRET=WRONG),
        kind=NotAuthenticated,
        what=r"the client_secret is wrong \(AADSTS7000215\)",
        next_step="Check tenant, client_id and client_secret",
    ),
}


@pytest.mark.parametrize("name", AZURE_FAULTS)
def test_azure_refuses_for_one_reason(azure: FakeAzure, name: str) -> None:
    fault = AZURE_FAULTS[name]
    fault.arrange(azure)
    with refused(fault.kind, AT_AZURE, fault.what, fault.next_step):
        read(Azure(vault_url=VAULT), **fault.which)


@pytest.mark.parametrize("faults", [AWS_FAULTS, AZURE_FAULTS], ids=["aws", "azure"])
def test_no_two_faults_are_told_alike(faults: dict[str, Fault]) -> None:
    assert len({fault.what for fault in faults.values()}) == len(faults)


def test_on_azure_who_may_not_know_of_a_deletion_is_told_that_it_is_missing(azure: FakeAzure) -> None:
    is_deleted_and_nobody_may_know(azure)
    with refused(SecretMissing, AT_AZURE, r"it does not exist \(SecretNotFound\)", "Check the name"):
        read(Azure(vault_url=VAULT))


def test_on_azure_the_version_that_is_missing_is_not_the_secret(azure: FakeAzure) -> None:
    with refused(SecretMissing, AT_AZURE, r"it does not exist \(SecretNotFound\)", "Check the name, the version"):
        read(Azure(vault_url=VAULT), version="0" * 32)
    assert azure.vaults["lk"].secrets


def test_on_azure_a_disabled_secret_is_not_created_again(azure: FakeAzure) -> None:
    changed(enabled=False)(azure)
    with refused(SecretDisabled, AT_AZURE, "it is disabled", "Enable it"):
        access.open_store(Azure(vault_url=VAULT)).create("db", TEXT, tags={})
    assert len(azure.vaults["lk"].secrets["db"].versions) == 1


def test_a_vault_that_does_not_exist_is_named(azure: FakeAzure) -> None:
    where = "secret db in Key Vault https://typo.vault.azure.net"
    with refused(
        SecretUnreadable, where, r"Azure can't be reached \(ServiceRequestError\)", "Check the name of the vault"
    ):
        read(Azure(vault_url="https://typo.vault.azure.net"))
    assert azure.proxy.refused == ["typo.vault.azure.net"] * 2


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"AZURE_TENANT_ID": OTHER_TENANT}, "the tenant does not exist, or not in this cloud"),
        ({"AZURE_CLIENT_SECRET": WRONG}, r"the client_secret is wrong \(AADSTS7000215\)"),
        ({"AZURE_CLIENT_ID": OTHER_TENANT}, r"the tenant does not know the client_id \(AADSTS700016\)"),
    ],
)
def test_an_entra_token_is_refused_for_one_reason(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], what: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with refused(NotAuthenticated, "Entra token for PostgreSQL", what, "Check tenant, client_id and client_secret"):
        tokens.entra_token(Azure())
    assert not azure.tokens


@pytest.mark.parametrize("ask", [tokens.entra_token, read], ids=["token", "secret"])
def test_a_tenant_that_can_be_none_is_refused_before_anything_is_sent(
    azure: FakeAzure, ask: Callable[[Azure], str]
) -> None:
    cloud = Azure(vault_url=VAULT, tenant="my tenant", client_id="x", client_secret=WRONG)
    with pytest.raises(SecretUnreadable, match="Invalid tenant ID") as caught:
        ask(cloud)
    assert WRONG not in said_by(caught.value)
    assert not azure.requests


def test_a_machine_without_an_identity_is_told_what_was_tried(azure: FakeAzure, enter: Enter) -> None:
    azure.directory.system_identity = None
    enter(azure.environment("managed"))
    with refused(NotAuthenticated, AT_AZURE, "no credentials for Azure were found", "Give tenant, client_id and"):
        read(Azure(vault_url=VAULT))


@pytest.mark.parametrize("identity", ["secret", "workload"])
def test_a_place_of_login_that_is_down_is_not_a_wrong_login(
    azure: FakeAzure, enter: Enter, closed: int, identity: Any
) -> None:
    enter({**azure.environment(identity), "AZURE_AUTHORITY_HOST": f"127.0.0.1:{closed}"})
    with refused(SecretUnreadable, AT_AZURE, r"Azure can't be reached \(ServiceRequestError\)", "Check .* the network"):
        read(Azure(vault_url=VAULT))


# ------------------------------------------------------------------ what is in it
@pytest.mark.parametrize(
    ("text", "what", "next_step"),
    [
        (f'{{"password": "{VALUE}"', "it begins like JSON and is none", "Repair its text"),
        (f'["{VALUE}"]', "it is JSON, but no object", "Store "),
        (f'{{"username": "{VALUE}"}}', "the JSON object in it has no password", "Store a password in it"),
        (VALUE, "it is no JSON object, and who the bare password belongs to is not known", "Give the user name"),
    ],
)
def test_a_text_that_is_no_credentials_is_refused(cloud: Cloud, text: str, what: str, next_step: str) -> None:
    store = access.open_store(cloud)
    store.promote("db", store.write_pending("db", text, token=token()), expected=store.read("db").id)
    wanted = locate(cloud, "db")
    found = access.read(wanted)
    assert VALUE not in repr(found)
    with refused(SecretUnreadable, wanted.where, re.escape(what), next_step):
        document.parse(found.text, where=wanted.where)


# ------------------------------------------------------------------ throttled, unreachable, silent
def test_throttled_twice_is_no_failure(cloud: Cloud, request: pytest.FixtureRequest) -> None:
    if isinstance(cloud, Aws):
        fake = request.getfixturevalue("aws")
        fake.fail("GetSecretValue", code="ThrottlingException", message="Rate exceeded", times=2)
    else:
        request.getfixturevalue("azure").fail("get_secret", code="Throttled", status=429, times=2)
    start = time.monotonic()
    assert read(cloud) == TEXT
    assert time.monotonic() - start < SECONDS


def test_on_azure_always_throttled_is_given_up(azure: FakeAzure) -> None:
    azure.fail("get_secret", code="Throttled", status=429)
    with refused(
        SecretUnreadable, AT_AZURE, r"throttled, after several tries \(Throttled\)", "Run again with", seconds=20
    ):
        read(Azure(vault_url=VAULT))


UNREACHED = r"{} can't be reached \(\w+\)"


def test_on_aws_a_port_where_nobody_listens_is_told_at_once(aws: FakeSecretsManager, closed: int) -> None:
    with refused(SecretUnreadable, AT_AWS, UNREACHED.format("AWS"), "Check the region, the network, the proxy"):
        read(Aws(endpoint_url=f"http://127.0.0.1:{closed}"))
    assert not aws.requests


def test_on_azure_a_port_where_nobody_listens_is_told_at_once(azure: FakeAzure, closed: int) -> None:
    where = f"secret db in Key Vault https://127.0.0.1:{closed}"
    with refused(SecretUnreadable, where, UNREACHED.format("Azure"), "Check the name of the vault, the network"):
        read(Azure(vault_url=f"https://127.0.0.1:{closed}"))
    assert not azure.requests


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_aws_that_never_answers_is_given_up(aws: FakeSecretsManager, hole: int, scheme: str) -> None:
    with refused(SecretUnreadable, AT_AWS, UNREACHED.format("AWS"), "Check the region", seconds=SECONDS):
        read(Aws(endpoint_url=f"{scheme}://127.0.0.1:{hole}"))
    assert not aws.requests


def test_a_vault_whose_handshake_never_ends_is_given_up(azure: FakeAzure, hole: int) -> None:
    where = f"secret db in Key Vault https://127.0.0.1:{hole}"
    with refused(SecretUnreadable, where, UNREACHED.format("Azure"), "Check the name of the vault", seconds=SECONDS):
        read(Azure(vault_url=f"https://127.0.0.1:{hole}"))
    assert not azure.requests


@pytest.mark.parametrize("operation", ["get_secret", "token"])
def test_azure_that_never_answers_is_given_up(azure: FakeAzure, hang: Callable[[Any], None], operation: str) -> None:
    azure.on(operation, hang)
    with refused(SecretUnreadable, AT_AZURE, UNREACHED.format("Azure"), "Check the name of the vault", seconds=SECONDS):
        read(Azure(vault_url=VAULT))


def test_a_service_that_is_out_of_order_once_is_no_failure(azure: FakeAzure, aws: FakeSecretsManager) -> None:
    azure.on("get_secret", broken(503), times=1)
    aws.on("GetSecretValue", broken(500), times=1)
    with mock.patch.dict(os.environ, azure.environment()):
        assert read(Azure(vault_url=VAULT)) == TEXT
    assert read(Aws()) == TEXT


def broken(status: int) -> Callable[[Any], None]:
    """A hook that answers as a service out of order."""

    def answer(_request: Any) -> None:
        raise Refusal("InternalServiceError", "out of order", status=status)

    return answer


# ------------------------------------------------------------------ no credentials
CHAINS = {
    "aws": "Give access_key and secret_key, or profile; else the SDK looks at its environment variables, the shared"
    " files, a web identity, and the role of the container or instance",
    "azure": "Give tenant, client_id and client_secret, here or in the environment as AZURE_TENANT_ID, "
    r"AZURE_CLIENT_ID and AZURE_CLIENT_SECRET \(or AWX's AZURE_TENANT and AZURE_SECRET\); else DefaultAzureCredential "
    "tries a workload identity, a managed identity and the login of the command line tools",
}


@pytest.fixture
def nobody(aws: FakeSecretsManager, azure: FakeAzure, enter: Enter) -> None:
    """An environment in which neither cloud's SDK finds an identity."""
    ours = {name: value for name, value in aws.environment().items() if "ACCESS_KEY" not in name}
    enter({**ours, **azure.environment("none")})


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("chain", "where", "ask"),
    [
        ("aws", AT_AWS, lambda: read(Aws())),
        ("azure", AT_AZURE, lambda: read(Azure(vault_url=VAULT))),
        ("azure", "Entra token for PostgreSQL", lambda: tokens.entra_token(Azure())),
        (
            "aws",
            "IAM token for app at db.example.com",
            lambda: tokens.rds_iam_token(Aws(), host="db.example.com", port=5432, user="app"),
        ),
    ],
)
def test_without_credentials_the_message_says_what_was_tried(chain: str, where: str, ask: Callable[[], str]) -> None:
    name = {"aws": "AWS", "azure": "Azure"}[chain]
    with refused(NotAuthenticated, where, f"no credentials for {name} were found", CHAINS[chain]):
        ask()


def test_a_metadata_service_that_never_answers_is_given_up(
    azure: FakeAzure, enter: Enter, hole: int, aws: FakeSecretsManager
) -> None:
    ours = {name: value for name, value in aws.environment().items() if "ACCESS_KEY" not in name}
    del ours["AWS_EC2_METADATA_DISABLED"]
    silent = f"http://127.0.0.1:{hole}"
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": silent, "AZURE_POD_IDENTITY_AUTHORITY_HOST": silent}
    enter({**ours, **azure.environment("none"), **metadata})
    for where, name, cloud in ((AT_AWS, "AWS", Aws()), (AT_AZURE, "Azure", Azure(vault_url=VAULT))):
        said = f"no credentials for {name} were found"
        with refused(NotAuthenticated, where, said, CHAINS[name.lower()], seconds=SECONDS):
            read(cloud)


# Not in this process, where pytest has taken over the logging.
ASK = """
import sys
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, tokens
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure, locate
kind, values = sys.argv[1], []
cloud = Aws() if kind == "aws" else Azure(vault_url="https://lk.vault.azure.net")
for ask in (
    lambda: access.read(locate(cloud, "db")),
    lambda: tokens.entra_token(cloud) if kind == "azure" else tokens.rds_iam_token(cloud, host="h", port=1, user="u"),
):
    try:
        ask()
    except Exception as error:
        values.append(type(error).__name__)
assert values == ["NotAuthenticated"] * 2, values
"""


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("kind", ["aws", "azure"])
def test_without_credentials_the_sdk_prints_nothing(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


# ------------------------------------------------------------------ no library
def test_a_missing_library_of_amazon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_session, "BOTO3_TRACEBACK", "Traceback\nImportError: no boto3")
    with pytest.raises(LibraryMissing, match=r"\(boto3\).*ImportError: no boto3$"):
        read(Aws())


@pytest.mark.parametrize("ask", [tokens.entra_token, read], ids=["token", "secret"])
def test_a_missing_library_of_microsoft_is_named(monkeypatch: pytest.MonkeyPatch, ask: Callable[[Azure], str]) -> None:
    monkeypatch.setattr(azure_credential, "AZURE_TRACEBACK", "Traceback\nImportError: no azure.identity")
    monkeypatch.setattr(azure_credential, "exceptions", None)
    monkeypatch.delattr(azure_credential, "CredentialUnavailableError")
    with pytest.raises(LibraryMissing, match=r"\(azure-identity\).*ImportError: no azure.identity$"):
        ask(Azure(vault_url=VAULT))


def test_a_vault_that_wants_to_be_left_alone_for_an_hour_is_asked_sooner(azure: FakeAzure, enter: Enter) -> None:
    """The SDK alone would wait: in a run that holds a server, and that others wait for."""
    enter(azure.environment())
    azure.fail("get_secret", status=429, code="Throttled", message="later", times=2, headers={"Retry-After": "3600"})
    began = time.monotonic()
    assert read(Azure(vault_url=VAULT)) == TEXT
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize(
    "given", [{"client_secret": "s"}, {"client_secret": "s", "client_id": "c"}, {"client_secret": "s", "tenant": "t"}]
)
def test_a_service_principal_in_parts_is_refused_and_nobody_else_asks_in_its_place(
    azure: FakeAzure, enter: Enter, given: dict[str, str]
) -> None:
    enter(azure.environment("managed"))
    with pytest.raises(InvalidOption, match=r"client_secret needs a client_id and a tenant\. Give all three"):
        read(Azure(vault_url=VAULT, **given))
    assert azure.requests == []


@pytest.mark.parametrize("name", ["aws", "azure"])
def test_a_store_with_several_addresses_that_never_answer_is_given_up(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As the endpoints of a private network have, one for each zone; a firewall drops what is sent to them."""
    addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    with contextlib.ExitStack() as stack:
        places = [(address, stack.enter_context(full(address))) for address in addresses]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)
        enter({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_EC2_METADATA_DISABLED": "true"})
        cloud: Cloud = Aws(region="eu-west-1")
        if name == "azure":
            cloud = Azure(vault_url=VAULT, tenant=OTHER_TENANT, client_id="c", client_secret=WRONG)
        where = AT_AWS if name == "aws" else AT_AZURE
        with refused(SecretUnreadable, where, r"\w+ can't be reached \(\w+\)", "Check ", seconds=SECONDS):
            read(cloud)


@contextlib.contextmanager
def full(address: str) -> Iterator[int]:
    """A port where nobody accepts, and what waits to be accepted is full already: who comes now hears nothing."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind((address, 0))
        listening.listen(0)
        for _waiting in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        time.sleep(0.1)
        yield int(listening.getsockname()[1])
