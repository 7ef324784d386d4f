# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict AWS Secrets Manager: what it does, and what it refuses, follows the service's API reference."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.service import Call, Refusal, Reply, Request, Service, around_proxies, serving

ACCOUNT = "123456789012"
REGION = "eu-west-1"
CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
MAX_BYTES = 65536
MAX_LABELS = 20
MAX_TAGS = 50
KEPT_VERSIONS = 100
DAY = 86400
WINDOW = range(7, 31)
NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
TARGET = re.compile(r"secretsmanager\.(\w+)")
TOKEN = re.compile(r".{32,64}")
CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/\d{8}/([^/,]+)/secretsmanager/aws4_request, ")


def aws_environment(url: str) -> dict[str, str]:
    """Return the variables that bring AWS clients to a fake, and keep them from the user's settings.

    botocore does not read AWS_REGION; that is left to who makes the client.
    """
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        **around_proxies(),
    }


@dataclass(frozen=True, kw_only=True)
class AwsRequest(Request):
    """What a client asked for, and with which access key."""

    body: dict[str, Any]
    access_key: str | None
    region: str | None


@dataclass(kw_only=True)
class Version:
    """A value; exactly one of the two is set. Binary ones are as they are sent: base64."""

    id: str
    string: str | None
    binary: str | None
    created: float = field(default_factory=time.time)

    @property
    def content(self) -> tuple[str | None, str | None]:
        """What makes two versions the same."""
        return self.string, self.binary

    def answer(self) -> dict[str, str]:
        """Return the value as AWS names it."""
        both = {"SecretString": self.string, "SecretBinary": self.binary}
        return {name: value for name, value in both.items() if value is not None}


@dataclass(kw_only=True)
class Secret:
    """A secret; that a label is on one version at a time is in the shape of `labels`."""

    name: str
    arn: str
    description: str | None = None
    kms_key_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    changed: float = field(default_factory=time.time)
    deleted: float | None = None
    rotation_enabled: bool = False
    rotation_lambda: str | None = None
    owning_service: str | None = None

    def labels_of(self, version_id: str) -> list[str]:
        """Return the labels of a version."""
        return [label for label, holder in self.labels.items() if holder == version_id]

    def value(self, label: str = CURRENT) -> str | None:
        """Return the string that has a label."""
        return self.versions[self.labels[label]].string

    def attach(self, label: str, version_id: str) -> None:
        """Put a label on a version; the version that was current becomes the previous one."""
        before = self.labels.get(label)
        self.labels[label] = version_id
        if label == CURRENT and before not in {None, version_id}:
            self.labels[PREVIOUS] = str(before)

    def clean_up(self) -> None:
        """Drop the oldest deprecated versions beyond the limit, unless they are of the last day."""
        old = time.time() - DAY
        held = set(self.labels.values())
        deprecated = [one.id for one in self.versions.values() if one.id not in held and one.created < old]
        for version_id in deprecated[: max(0, len(self.versions) - KEPT_VERSIONS)]:
            del self.versions[version_id]


def invalid_parameter(message: str) -> Refusal:
    """The request makes no sense."""
    return Refusal("InvalidParameterException", message)


def invalid_request(message: str) -> Refusal:
    """The request makes no sense in the secret's state."""
    return Refusal("InvalidRequestException", message)


def not_found(what: str = "secret.") -> Refusal:
    """There is none."""
    return Refusal("ResourceNotFoundException", f"Secrets Manager can't find the specified {what}")


def tags_of(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a request."""
    tags = {tag["Key"]: tag["Value"] for tag in body.get("Tags", [])}
    if len(tags) != len(body.get("Tags", [])):
        raise invalid_parameter("You can't have duplicate tag keys.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise invalid_parameter("You can't use the prefix aws: in tag keys.")
    return tags


def version_of(body: Mapping[str, Any]) -> Version:
    """Return the value that a request brings."""
    string, binary = body.get("SecretString"), body.get("SecretBinary")
    if string is not None and binary is not None:
        raise invalid_parameter("You can't specify both a binary secret value and a string secret value.")
    for name, value, size in (
        ("secretString", string, len((string or "").encode())),
        ("secretBinary", binary, len(binary or "") // 4 * 3 - (binary or "").count("=")),
    ):
        if value is not None and not 1 <= size <= MAX_BYTES:
            raise Refusal(
                "ValidationException",
                f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
                f"Member must have length between 1 and {MAX_BYTES}",
            )
    token = body.get("ClientRequestToken")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise invalid_parameter("You must provide a ClientRequestToken value of 32 to 64 characters.")
    return Version(id=token, string=string, binary=binary)


@dataclass(kw_only=True, eq=False)
class FakeSecretsManager(Service[AwsRequest]):
    """AWS Secrets Manager of one account and region, for `AWS_ENDPOINT_URL`.

    With `known_keys`, other access keys are refused. Secrets encrypted with one of `denied_keys`
    can be described, and not read or written.
    """

    region: str = REGION
    known_keys: set[str] | None = None
    denied_keys: set[str] = field(default_factory=set)

    secrets: dict[str, Secret] = field(default_factory=dict, init=False)
    url: str = field(default="", init=False)

    def environment(self) -> dict[str, str]:
        """Return the variables that bring AWS clients here."""
        return aws_environment(self.url) | {"AWS_REGION": self.region}

    def operations(self) -> set[str]:
        """Return the names of all operations."""
        return set(OPERATIONS)

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start the server."""
        self.url = f"http://127.0.0.1:{stack.enter_context(serving(self.answer)).port}"

    def read(self, call: Call) -> AwsRequest:
        """Say what is asked for."""
        target = TARGET.fullmatch(call.headers.get("x-amz-target", ""))
        key = CREDENTIAL.match(call.headers.get("authorization", ""))
        return AwsRequest(
            operation=target[1] if target else "",
            # What is not of this service, such as a request to STS, is refused by `act`.
            body=json.loads(call.body or b"{}") if target else {},
            access_key=key[1] if key else None,
            region=key[2] if key else None,
        )

    def admit(self, call: Call, request: AwsRequest) -> None:
        """Refuse those who did not sign, or with a key of nobody."""
        if "authorization" not in call.headers:
            raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
        if request.access_key is None:
            raise Refusal("IncompleteSignatureException", "Authorization header is not of Secrets Manager.")
        if self.known_keys is not None and request.access_key not in self.known_keys:
            raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
        if request.region != self.region:
            raise Refusal(
                "InvalidSignatureException",
                f"Credential should be scoped to a valid region, not '{request.region}'.",
            )

    def act(self, call: Call, request: AwsRequest) -> Reply:
        """Do what is asked for, or refuse it."""
        if call.method != "POST" or request.operation not in OPERATIONS:
            raise Refusal("UnknownOperationException", "")
        body = OPERATIONS[request.operation](self, request.body)
        return Reply(body=body, headers={"Content-Type": "application/x-amz-json-1.1"})

    def refuse(self, refusal: Refusal, request: AwsRequest) -> Reply:  # noqa: ARG002
        """Say no, as AWS does."""
        return Reply(
            status=refusal.status,
            body={"__type": refusal.code, "message": refusal.message},
            headers={"Content-Type": "application/x-amz-json-1.1", **refusal.headers},
        )

    def find(self, body: Mapping[str, Any], *, deleted: bool = False) -> Secret:
        """Find a secret by name or ARN; only some operations see one that is scheduled for deletion."""
        wanted = body.get("SecretId", "")
        for secret in self.secrets.values():
            if wanted in {secret.name, secret.arn, secret.arn[: -len("-XXXXXX")]}:
                if secret.deleted is not None and not deleted:
                    raise invalid_request(
                        "You can't perform this operation on the secret because it was marked for deletion."
                    )
                return secret
        raise not_found()

    def check_key(self, secret: Secret) -> None:
        """Refuse what needs a key that the caller may not use."""
        if secret.kms_key_id in self.denied_keys:
            raise Refusal("AccessDeniedException", "Access to KMS is not allowed")

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """CreateSecret: once for a token."""
        name, tags, version = body.get("Name", ""), tags_of(body), version_of(body)
        if not NAME.fullmatch(name):
            raise invalid_parameter(
                "Invalid name. Must be a valid name containing alphanumeric characters, "
                "or any of the following: -/_+=.@!"
            )
        if len(tags) > MAX_TAGS:
            raise Refusal("LimitExceededException", f"You can't have more than {MAX_TAGS} tags.")
        if name in self.secrets:
            return self._created_before(self.secrets[name], version)
        arn = f"arn:aws:secretsmanager:{self.region}:{ACCOUNT}:secret:{name}-{secrets.token_hex(3)}"
        secret = Secret(
            name=name, arn=arn, description=body.get("Description"), kms_key_id=body.get("KmsKeyId"), tags=tags
        )
        if version.answer():
            self.check_key(secret)
            secret.versions[version.id] = version
            secret.attach(CURRENT, version.id)
        self.secrets[name] = secret
        return {"ARN": arn, "Name": name} | ({"VersionId": version.id} if version.answer() else {})

    def get_value(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """GetSecretValue: of the version that is asked for, by id, by label, or the current one."""
        secret = self.find(body)
        version_id, label = body.get("VersionId"), body.get("VersionStage")
        if version_id is None:
            label = label or CURRENT
            version_id = secret.labels.get(label)
            if version_id is None:
                raise not_found(f"secret value for staging label: {label}")
        if version_id not in secret.versions:
            raise not_found(f"secret value for VersionId: {version_id}")
        if label is not None and secret.labels.get(label) != version_id:
            raise invalid_request("You provided a VersionStage that is not associated to the provided VersionId.")
        self.check_key(secret)
        version = secret.versions[version_id]
        stages = secret.labels_of(version_id)
        return {
            "ARN": secret.arn,
            "Name": secret.name,
            "VersionId": version_id,
            "CreatedDate": version.created,
            **({"VersionStages": stages} if stages else {}),
            **version.answer(),
        }

    def put_value(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """PutSecretValue: a new version, once for a token."""
        secret, version = self.find(body), version_of(body)
        stages = list(body.get("VersionStages") or [CURRENT])
        if not version.answer():
            raise invalid_parameter("You must provide either SecretString or SecretBinary.")
        self.check_key(secret)
        if version.id in secret.versions:
            self._same(secret, version)
        else:
            if not secret.versions:
                stages = [*(stage for stage in stages if stage != CURRENT), CURRENT]
            self._check_labels(secret, stages)
            secret.versions[version.id] = version
            for stage in stages:
                secret.attach(stage, version.id)
            secret.clean_up()
            secret.changed = time.time()
        stages = secret.labels_of(version.id)
        return {"ARN": secret.arn, "Name": secret.name, "VersionId": version.id, "VersionStages": stages}

    def move_label(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """UpdateSecretVersionStage: compare and set."""
        secret, label = self.find(body), body.get("VersionStage", "")
        source, target = body.get("RemoveFromVersionId"), body.get("MoveToVersionId")
        holder = secret.labels.get(label)
        for version_id in (source, target):
            if version_id is not None and version_id not in secret.versions:
                raise not_found(f"secret value for VersionId: {version_id}")
        self._compare(label=label, holder=holder, source=source, target=target)
        if target is None:
            del secret.labels[label]
        else:
            self._check_labels(secret, [label])
            secret.attach(label, target)
        secret.changed = time.time()
        return {"ARN": secret.arn, "Name": secret.name}

    def describe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeSecret: all but the value; a deprecated version is not mentioned."""
        secret = self.find(body, deleted=True)
        answer = {
            "ARN": secret.arn,
            "Name": secret.name,
            "Description": secret.description,
            "KmsKeyId": secret.kms_key_id,
            "RotationEnabled": secret.rotation_enabled or None,
            "RotationLambdaARN": secret.rotation_lambda,
            "OwningService": secret.owning_service,
            "DeletedDate": secret.deleted,
            "CreatedDate": secret.created,
            "LastChangedDate": secret.changed,
            "Tags": [{"Key": key, "Value": value} for key, value in secret.tags.items()],
            "VersionIdsToStages": {
                version_id: stages for version_id in secret.versions if (stages := secret.labels_of(version_id))
            },
        }
        return {name: value for name, value in answer.items() if value is not None}

    def tag(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """TagResource."""
        secret, tags = self.find(body), tags_of(body)
        if len(secret.tags | tags) > MAX_TAGS:
            raise Refusal("LimitExceededException", f"You can't have more than {MAX_TAGS} tags.")
        secret.tags |= tags
        secret.changed = time.time()
        return {}

    def untag(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """UntagResource."""
        secret = self.find(body)
        for key in body.get("TagKeys", []):
            secret.tags.pop(key, None)
        secret.changed = time.time()
        return {}

    def list_versions(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """ListSecretVersionIds: in no order, in pages; deprecated versions on demand."""
        secret, size = self.find(body, deleted=True), body.get("MaxResults", 100)
        first = body.get("NextToken", "0")
        if not first.isdigit():
            raise Refusal("InvalidNextTokenException", "The NextToken value is invalid.")
        if not 1 <= size <= 100:
            raise invalid_parameter("MaxResults must be between 1 and 100.")
        every = body.get("IncludeDeprecated", False)
        wanted = [secret.versions[key] for key in sorted(secret.versions) if every or secret.labels_of(key)]
        following = int(first) + size
        return {
            "ARN": secret.arn,
            "Name": secret.name,
            "Versions": [
                {"VersionId": one.id, "CreatedDate": one.created}
                | ({"VersionStages": stages} if (stages := secret.labels_of(one.id)) else {})
                for one in wanted[int(first) : following]
            ],
        } | ({"NextToken": str(following)} if following < len(wanted) else {})

    def delete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """DeleteSecret: some day, or at once."""
        force, window = body.get("ForceDeleteWithoutRecovery", False), body.get("RecoveryWindowInDays")
        if force and window is not None:
            raise invalid_parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays."
            )
        if window is not None and window not in WINDOW:
            raise invalid_parameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
        try:
            secret = self.find(body, deleted=force)
        except Refusal:
            if not force:
                raise
            # As documented: who forces it is not told that there is none.
            secret = Secret(name=body["SecretId"], arn=body["SecretId"])
        when = time.time() + (0 if force else DAY * (window or WINDOW[-1]))
        secret.deleted = when
        if force:
            self.secrets.pop(secret.name, None)
        return {"ARN": secret.arn, "Name": secret.name, "DeletionDate": when}

    def restore(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """RestoreSecret."""
        secret = self.find(body, deleted=True)
        secret.deleted = None
        return {"ARN": secret.arn, "Name": secret.name}

    def _created_before(self, secret: Secret, version: Version) -> dict[str, Any]:
        if secret.deleted is not None:
            raise invalid_request(
                "You can't create this secret because a secret with this name is already scheduled for deletion."
            )
        if version.id not in secret.versions:
            raise Refusal(
                "ResourceExistsException", f"The operation failed because the secret {secret.name} already exists."
            )
        self._same(secret, version)
        return {"ARN": secret.arn, "Name": secret.name, "VersionId": version.id}

    @staticmethod
    def _same(secret: Secret, version: Version) -> None:
        if secret.versions[version.id].content != version.content:
            raise Refusal(
                "ResourceExistsException",
                f"You can't use ClientRequestToken {version.id} because that value is already in use "
                f"for a version of secret {secret.arn}.",
            )

    @staticmethod
    def _check_labels(secret: Secret, added: list[str]) -> None:
        if len({*secret.labels, *added}) > MAX_LABELS:
            raise Refusal("LimitExceededException", f"You can't have more than {MAX_LABELS} staging labels.")

    @staticmethod
    def _compare(*, label: str, holder: str | None, source: str | None, target: str | None) -> None:
        if source is None and target is None:
            raise invalid_parameter("You must provide RemoveFromVersionId or MoveToVersionId.")
        if source is not None and source != holder:
            raise invalid_parameter(
                f"The parameter RemoveFromVersionId is not valid. "
                f"Staging label {label} is not currently attached to version {source}."
            )
        if source is None and holder not in {None, target}:
            raise invalid_parameter(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached "
                f"to version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            )
        if target is None and label == CURRENT:
            raise invalid_parameter(
                f"You can only move staging label {label} to a different secret version. It can't be removed."
            )


OPERATIONS = {
    "CreateSecret": FakeSecretsManager.create,
    "GetSecretValue": FakeSecretsManager.get_value,
    "PutSecretValue": FakeSecretsManager.put_value,
    "UpdateSecretVersionStage": FakeSecretsManager.move_label,
    "DescribeSecret": FakeSecretsManager.describe,
    "TagResource": FakeSecretsManager.tag,
    "UntagResource": FakeSecretsManager.untag,
    "ListSecretVersionIds": FakeSecretsManager.list_versions,
    "DeleteSecret": FakeSecretsManager.delete,
    "RestoreSecret": FakeSecretsManager.restore,
}
