# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake of AWS Secrets Manager, asked by boto3: it says no where AWS does."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

boto3 = pytest.importorskip("boto3")
pytest.importorskip("trustme")

from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from tests.fakes import AwsRequest, FakeSecretsManager, Refusal, clean_environment, moto_server  # noqa: E402

ONE_TRY = Config(retries={"total_max_attempts": 1})
DELETED = "You can't perform this operation on the secret because it was marked for deletion."


@pytest.fixture
def aws() -> Iterator[FakeSecretsManager]:
    """A fake that the environment leads to."""
    with FakeSecretsManager() as fake, environment(fake.environment()):
        yield fake


@pytest.fixture
def client(aws: FakeSecretsManager) -> Any:
    """A client as a product makes it, but for its patience."""
    return boto3.client("secretsmanager", region_name=aws.region, config=ONE_TRY)


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables, and none of the user's clouds."""
    with mock.patch.dict(os.environ, {**clean_environment(os.environ), **variables}, clear=True):
        yield


@contextlib.contextmanager
def refused(code: str, message: str | None = None) -> Iterator[None]:
    """Expect an error of the service."""
    with pytest.raises(ClientError, match=message) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


def token() -> str:
    """A new version's id."""
    return str(uuid.uuid4())


def two_versions(client: Any, name: str = "a") -> tuple[str, str]:
    """Make a secret with a current version and a pending one."""
    old = client.create_secret(Name=name, SecretString="old")["VersionId"]
    new = client.put_secret_value(SecretId=name, SecretString="new", VersionStages=["AWSPENDING"])["VersionId"]
    return old, new


def test_a_created_secret_is_read_by_name_and_by_arn(client: Any) -> None:
    """The answer has the id, the value and the label."""
    made = client.create_secret(Name="app/db", SecretString="s3cret")
    assert made["ARN"].startswith("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/db-")
    for secret_id in ("app/db", made["ARN"], made["ARN"][:-7]):
        read = client.get_secret_value(SecretId=secret_id)
        assert (read["SecretString"], read["VersionStages"]) == ("s3cret", ["AWSCURRENT"])
        assert read["VersionId"] == made["VersionId"]


def test_a_binary_value_stays_binary(client: Any) -> None:
    """And is not turned into a string."""
    client.create_secret(Name="a", SecretBinary=b"\x00\xff")
    read = client.get_secret_value(SecretId="a")
    assert read["SecretBinary"] == b"\x00\xff"
    assert "SecretString" not in read


def test_the_default_stage_follows_a_moved_label(client: Any, aws: FakeSecretsManager) -> None:
    """moto, gap 1: it goes on answering the old value."""
    old, new = two_versions(client)
    client.update_secret_version_stage(
        SecretId="a", VersionStage="AWSCURRENT", MoveToVersionId=new, RemoveFromVersionId=old
    )
    assert client.get_secret_value(SecretId="a")["SecretString"] == "new"
    assert client.get_secret_value(SecretId="a", VersionStage="AWSPREVIOUS")["SecretString"] == "old"
    assert aws.secrets["a"].value() == "new"


def test_one_version_is_current_and_custom_labels_stay(client: Any, aws: FakeSecretsManager) -> None:
    """moto, gap 2: after a move, a put leaves two current versions and loses a label."""
    old, new = two_versions(client)
    client.update_secret_version_stage(SecretId="a", VersionStage="mine", MoveToVersionId=old)
    client.update_secret_version_stage(
        SecretId="a", VersionStage="AWSCURRENT", MoveToVersionId=new, RemoveFromVersionId=old
    )
    newest = client.put_secret_value(SecretId="a", SecretString="newest")["VersionId"]
    assert client.describe_secret(SecretId="a")["VersionIdsToStages"] == {
        old: ["mine"],
        new: ["AWSPENDING", "AWSPREVIOUS"],
        newest: ["AWSCURRENT"],
    }
    assert aws.secrets["a"].labels_of(new) == ["AWSPENDING", "AWSPREVIOUS"]


def test_a_token_is_good_for_one_content(client: Any) -> None:
    """moto, gap 3: it overwrites."""
    client.create_secret(Name="a", SecretString="old")
    one = token()
    first = client.put_secret_value(SecretId="a", SecretString="x", ClientRequestToken=one)
    again = client.put_secret_value(SecretId="a", SecretString="x", ClientRequestToken=one)
    assert first["VersionId"] == again["VersionId"] == one
    with refused("ResourceExistsException", one):
        client.put_secret_value(SecretId="a", SecretString="y", ClientRequestToken=one)
    assert client.get_secret_value(SecretId="a", VersionId=one)["SecretString"] == "x"


def test_a_repeated_put_does_not_move_labels_back(client: Any) -> None:
    """The repetition is ignored, not done again."""
    client.create_secret(Name="a", SecretString="old")
    one = token()
    client.put_secret_value(SecretId="a", SecretString="x", ClientRequestToken=one)
    client.put_secret_value(SecretId="a", SecretString="y")
    again = client.put_secret_value(SecretId="a", SecretString="x", ClientRequestToken=one)
    assert again["VersionStages"] == ["AWSPREVIOUS"]
    assert client.get_secret_value(SecretId="a")["SecretString"] == "y"


def test_a_secret_marked_for_deletion_is_not_read_or_written(client: Any) -> None:
    """moto, gap 4: it lets puts through."""
    old, new = two_versions(client)
    client.delete_secret(SecretId="a", RecoveryWindowInDays=7)
    with refused("InvalidRequestException", DELETED):
        client.put_secret_value(SecretId="a", SecretString="x")
    with refused("InvalidRequestException", DELETED):
        client.get_secret_value(SecretId="a")
    with refused("InvalidRequestException", DELETED):
        client.update_secret_version_stage(SecretId="a", VersionStage="AWSPENDING", RemoveFromVersionId=new)
    with refused("InvalidRequestException", DELETED):
        client.tag_resource(SecretId="a", Tags=[{"Key": "k", "Value": "v"}])
    with refused("InvalidRequestException", "scheduled for deletion"):
        client.create_secret(Name="a", SecretString="x", ClientRequestToken=old)
    assert client.describe_secret(SecretId="a")["DeletedDate"]
    client.restore_secret(SecretId="a")
    assert client.get_secret_value(SecretId="a")["SecretString"] == "old"


def test_a_value_has_at_most_64_kib(client: Any) -> None:
    """moto, gap 4: there is no limit. Bytes count, not characters."""
    client.create_secret(Name="a", SecretString="x" * 65536)
    with refused("ValidationException", "65536"):
        client.put_secret_value(SecretId="a", SecretString="x" * 65537)
    with refused("ValidationException", "65536"):
        client.put_secret_value(SecretId="a", SecretString="é" * 32769)
    client.put_secret_value(SecretId="a", SecretBinary=b"x" * 65536)
    with refused("ValidationException", "65536"):
        client.put_secret_value(SecretId="a", SecretBinary=b"x" * 65537)


def test_a_denied_key_is_access_denied(client: Any, aws: FakeSecretsManager) -> None:
    """moto, gap 4: keys are not looked at. The description needs none."""
    client.create_secret(Name="a", SecretString="x", KmsKeyId="alias/mine")
    aws.denied_keys.add("alias/mine")
    with refused("AccessDeniedException", "Access to KMS is not allowed"):
        client.get_secret_value(SecretId="a")
    with refused("AccessDeniedException"):
        client.put_secret_value(SecretId="a", SecretString="y")
    with refused("AccessDeniedException"):
        client.create_secret(Name="b", SecretString="x", KmsKeyId="alias/mine")
    assert client.describe_secret(SecretId="a")["KmsKeyId"] == "alias/mine"
    assert set(aws.secrets) == {"a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"MoveToVersionId": "new"}, "can't be empty", id="not said from where"),
        pytest.param(
            {"MoveToVersionId": "old", "RemoveFromVersionId": "new"}, "not currently attached", id="not there"
        ),
        pytest.param({"RemoveFromVersionId": "old"}, "only move", id="nowhere"),
        pytest.param({}, "must provide", id="nothing"),
    ],
)
def test_the_current_label_is_compared_and_set(client: Any, change: dict[str, str], message: str) -> None:
    """Who has not seen the present state does not change it."""
    ids = dict(zip(("old", "new"), two_versions(client), strict=True))
    before = client.describe_secret(SecretId="a")["VersionIdsToStages"]
    with refused("InvalidParameterException", message):
        client.update_secret_version_stage(
            SecretId="a", VersionStage="AWSCURRENT", **{name: ids[version] for name, version in change.items()}
        )
    assert client.describe_secret(SecretId="a")["VersionIdsToStages"] == before


def test_a_label_goes_to_an_existing_version_only(client: Any) -> None:
    """Another id is not found."""
    old = two_versions(client)[0]
    with refused("ResourceNotFoundException"):
        client.update_secret_version_stage(
            SecretId="a", VersionStage="AWSCURRENT", MoveToVersionId=token(), RemoveFromVersionId=old
        )


def test_a_label_can_be_taken_off(client: Any) -> None:
    """The version is deprecated then: it is listed on demand only, in pages."""
    old, new = two_versions(client)
    client.update_secret_version_stage(SecretId="a", VersionStage="AWSPENDING", RemoveFromVersionId=new)
    assert client.describe_secret(SecretId="a")["VersionIdsToStages"] == {old: ["AWSCURRENT"]}
    assert [one["VersionId"] for one in client.list_secret_version_ids(SecretId="a")["Versions"]] == [old]
    first = client.list_secret_version_ids(SecretId="a", IncludeDeprecated=True, MaxResults=1)
    second = client.list_secret_version_ids(
        SecretId="a", IncludeDeprecated=True, MaxResults=1, NextToken=first["NextToken"]
    )
    assert "NextToken" not in second
    found = [[one["VersionId"] for one in page["Versions"]] for page in (first, second)]
    assert sorted(found) == sorted([[old], [new]])


def test_the_first_version_is_current_whatever_its_labels(client: Any) -> None:
    """A secret has values, and then it has a current one."""
    made = client.create_secret(Name="a")
    assert "VersionId" not in made
    with refused("ResourceNotFoundException", "staging label: AWSCURRENT"):
        client.get_secret_value(SecretId="a")
    put = client.put_secret_value(SecretId="a", SecretString="x", VersionStages=["AWSPENDING"])
    assert put["VersionStages"] == ["AWSPENDING", "AWSCURRENT"]


def test_a_name_is_created_once_unless_the_token_says_it_is_the_same(client: Any) -> None:
    """A repetition is answered, another creation is not."""
    one = token()
    made = client.create_secret(Name="a", SecretString="x", ClientRequestToken=one)
    again = client.create_secret(Name="a", SecretString="x", ClientRequestToken=one)
    assert made["VersionId"] == again["VersionId"] == one
    with refused("ResourceExistsException", "already exists"):
        client.create_secret(Name="a", SecretString="x")
    with refused("ResourceExistsException", "ClientRequestToken"):
        client.create_secret(Name="a", SecretString="y", ClientRequestToken=one)


@pytest.mark.parametrize("name", ["with space", "ü", "a*b"])
def test_a_name_that_is_none_is_refused(client: Any, name: str) -> None:
    """Letters, digits, and a few others."""
    with refused("InvalidParameterException", "Invalid name"):
        client.create_secret(Name=name, SecretString="x")


def test_what_is_not_there_is_not_found(client: Any) -> None:
    """Neither a secret nor a version nor a label."""
    with refused("ResourceNotFoundException", "can't find the specified secret"):
        client.get_secret_value(SecretId="a")
    old, new = two_versions(client)
    with refused("ResourceNotFoundException", "VersionId"):
        client.get_secret_value(SecretId="a", VersionId=token())
    with refused("ResourceNotFoundException", "AWSPREVIOUS"):
        client.get_secret_value(SecretId="a", VersionStage="AWSPREVIOUS")
    with refused("InvalidRequestException", "not associated"):
        client.get_secret_value(SecretId="a", VersionId=new, VersionStage="AWSCURRENT")
    assert client.get_secret_value(SecretId="a", VersionId=old, VersionStage="AWSCURRENT")["SecretString"] == "old"


def test_both_kinds_of_value_or_none_are_refused(client: Any) -> None:
    """A version has exactly one."""
    client.create_secret(Name="a", SecretString="x")
    with refused("InvalidParameterException", "both"):
        client.put_secret_value(SecretId="a", SecretString="x", SecretBinary=b"x")
    with refused("InvalidParameterException", "either"):
        client.put_secret_value(SecretId="a")


def test_deletion_has_a_window_or_is_at_once(client: Any, aws: FakeSecretsManager) -> None:
    """And not both."""
    client.create_secret(Name="a", SecretString="x")
    with refused("InvalidParameterException", "between 7 and 30"):
        client.delete_secret(SecretId="a", RecoveryWindowInDays=6)
    with refused("InvalidParameterException", "conjunction"):
        client.delete_secret(SecretId="a", RecoveryWindowInDays=7, ForceDeleteWithoutRecovery=True)
    client.delete_secret(SecretId="a", ForceDeleteWithoutRecovery=True)
    assert not aws.secrets
    with refused("ResourceNotFoundException"):
        client.delete_secret(SecretId="a")
    client.delete_secret(SecretId="a", ForceDeleteWithoutRecovery=True)
    client.create_secret(Name="a", SecretString="y")


def test_tags_are_kept_and_described(client: Any) -> None:
    """As are owner and rotation, which a test sets on the stored secret."""
    client.create_secret(Name="a", SecretString="x", Tags=[{"Key": "k", "Value": "v"}])
    client.tag_resource(SecretId="a", Tags=[{"Key": "k", "Value": "w"}, {"Key": "l", "Value": ""}])
    client.untag_resource(SecretId="a", TagKeys=["l", "none"])
    assert client.describe_secret(SecretId="a")["Tags"] == [{"Key": "k", "Value": "w"}]
    with refused("InvalidParameterException", "aws:"):
        client.tag_resource(SecretId="a", Tags=[{"Key": "aws:x", "Value": "v"}])


def test_owner_and_rotation_are_shown(client: Any, aws: FakeSecretsManager) -> None:
    """Nothing is said of a secret without them."""
    client.create_secret(Name="rds!db-1", SecretString="x")
    assert not {"OwningService", "RotationEnabled"} & set(client.describe_secret(SecretId="rds!db-1"))
    aws.secrets["rds!db-1"].owning_service = "rds"
    aws.secrets["rds!db-1"].rotation_enabled = True
    described = client.describe_secret(SecretId="rds!db-1")
    assert (described["OwningService"], described["RotationEnabled"]) == ("rds", True)


def test_deprecated_versions_go_beyond_a_hundred_and_after_a_day(client: Any, aws: FakeSecretsManager) -> None:
    """The oldest first, and none that has a label."""
    first = client.create_secret(Name="a", SecretString="0")["VersionId"]
    client.update_secret_version_stage(SecretId="a", VersionStage="keep", MoveToVersionId=first)
    for number in range(1, 105):
        client.put_secret_value(SecretId="a", SecretString=str(number))
    secret = aws.secrets["a"]
    assert len(secret.versions) == 105
    for version in secret.versions.values():
        version.created -= 90000
    client.put_secret_value(SecretId="a", SecretString="last")
    assert len(secret.versions) == 100
    assert [one.string for one in secret.versions.values()][:2] == ["0", "7"]


def test_requests_are_recorded(client: Any, aws: FakeSecretsManager) -> None:
    """With what was asked and by whom."""
    client.create_secret(Name="a", SecretString="x")
    request = aws.requests[0]
    assert (request.operation, request.body["Name"]) == ("CreateSecret", "a")
    assert request.access_key == os.environ["AWS_ACCESS_KEY_ID"]


def test_strangers_are_refused(client: Any, aws: FakeSecretsManager) -> None:
    """No signature, a key of nobody, another region, no such operation."""
    aws.known_keys = {"AKIAOTHER"}
    with refused("UnrecognizedClientException"):
        client.get_secret_value(SecretId="a")
    aws.known_keys = None
    with refused("InvalidSignatureException", "us-east-1"):
        boto3.client("secretsmanager", region_name="us-east-1", config=ONE_TRY).get_secret_value(SecretId="a")
    with refused("UnknownOperationException"):
        client.get_random_password()
    host = aws.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    connection.request("POST", "/", body="{}", headers={"X-Amz-Target": "secretsmanager.GetSecretValue"})
    answer = connection.getresponse()
    assert (answer.status, b"MissingAuthenticationToken" in answer.read()) == (403, True)
    connection.close()


def test_a_failure_is_ordered_for_some_requests(client: Any, aws: FakeSecretsManager) -> None:
    """And the next one succeeds; nothing was done before."""
    aws.fail("CreateSecret", code="ThrottlingException", message="Rate exceeded", times=1)
    with refused("ThrottlingException", "Rate exceeded"):
        client.create_secret(Name="a", SecretString="x")
    assert not aws.secrets
    client.create_secret(Name="a", SecretString="x")
    with pytest.raises(ValueError, match="CreateSecrets is none of"):
        aws.fail("CreateSecrets")


def test_a_lost_answer_is_made_up_for_by_the_token(aws: FakeSecretsManager) -> None:
    """boto3 repeats what was done already, and the service knows it."""
    client = boto3.client("secretsmanager", region_name=aws.region, config=Config(retries={"mode": "standard"}))
    client.create_secret(Name="a", SecretString="x")
    aws.fail("PutSecretValue", code="InternalServiceError", status=500, times=1, when="after")
    client.put_secret_value(SecretId="a", SecretString="y")
    assert [request.operation for request in aws.requests] == ["CreateSecret", "PutSecretValue", "PutSecretValue"]
    assert len(aws.secrets["a"].versions) == 2


def test_a_client_can_be_killed_before_it_knows(aws: FakeSecretsManager) -> None:
    """The state has changed, and the fake does not mind."""
    client = "boto3.client('secretsmanager', region_name='eu-west-1')"
    source = f"import boto3; {client}.create_secret(Name='a', SecretString='x')"
    running: list[subprocess.Popen[bytes]] = []

    def kill(request: AwsRequest) -> None:  # noqa: ARG001
        running[0].kill()
        running[0].wait()

    aws.on("CreateSecret", kill, when="after")
    running.append(subprocess.Popen([sys.executable, "-c", source]))
    assert running[0].wait(timeout=30) == -9
    assert aws.secrets["a"].value() == "x"


def test_a_callback_before_sees_the_old_state_and_may_refuse(client: Any, aws: FakeSecretsManager) -> None:
    """It may also use the service itself."""
    seen: list[int] = []

    def look(request: AwsRequest) -> None:
        seen.append(len(aws.secrets))
        if request.body["Name"] == "b":
            raise Refusal("LimitExceededException", "enough")

    aws.on("CreateSecret", look)
    client.create_secret(Name="a", SecretString="x")
    with refused("LimitExceededException", "enough"):
        client.create_secret(Name="b", SecretString="x")
    assert seen == [0, 1]


@pytest.mark.parametrize("mistake", [AssertionError, FileNotFoundError])
def test_a_mistake_in_a_callback_comes_out(mistake: type[Exception]) -> None:
    """Not only as a cut connection."""

    def fail(request: AwsRequest) -> None:
        raise mistake(request.operation)

    aws = FakeSecretsManager()
    aws.on("CreateSecret", fail)
    with pytest.raises(RuntimeError, match="hook") as caught:  # noqa: SIM117  it is raised at the fake's end
        with aws, environment(aws.environment()):
            boto3.client("secretsmanager", region_name=aws.region, config=ONE_TRY).create_secret(Name="a")
    assert isinstance(caught.value.__cause__, mistake)


def test_several_at_once_know_nothing_of_each_other() -> None:
    """Two accounts, or two regions."""
    with FakeSecretsManager() as one, FakeSecretsManager(region="us-east-1") as other:
        for fake in (one, other):
            with environment(fake.environment()):
                client = boto3.client("secretsmanager", region_name=fake.region, config=ONE_TRY)
                client.create_secret(Name="a", SecretString=fake.region)
        assert [fake.secrets["a"].value() for fake in (one, other)] == ["eu-west-1", "us-east-1"]


def test_moto_starts_empty_and_answers_all_services() -> None:
    """What was there before is gone."""
    pytest.importorskip("moto.server")
    for attempt in range(2):
        with moto_server() as moto, environment(moto.environment()):
            client = boto3.client("secretsmanager", region_name="eu-west-1", config=ONE_TRY)
            client.create_secret(Name="a", SecretString=str(attempt))
            assert client.get_secret_value(SecretId="a", VersionStage="AWSCURRENT")["SecretString"] == str(attempt)
            assert boto3.client("sts", region_name="eu-west-1").get_caller_identity()["Account"] == "123456789012"
