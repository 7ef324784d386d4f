# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""AWS Secrets Manager: stages are labels on versions, and moving one is compare-and-set."""

from __future__ import annotations

import collections.abc as c
import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    SecretChanged,
    SecretDeleted,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.aws_session import (
    RESTORE,
    explained,
    open_client,
    open_session,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import (
    CURRENT,
    LABELS,
    PENDING,
    STAGES,
    Description,
    Version,
    rotated_at,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Store


class SecretsManager:
    """The store in one region. A stage that is no stage of ours is a label of the user's."""

    def __init__(self, *, client: t.Any) -> None:
        self._client = client
        self._place = f"AWS Secrets Manager in {client.meta.region_name}"

    def read(self, name: str, *, stage: str = CURRENT, version: str | None = None) -> Version:
        # The stage is always named: what comes without it is a matter of the service's mood during a rotation.
        which = {"VersionId": version} if version else {"VersionStage": LABELS.get(stage, stage)}
        with explained(self._where(name)):
            found = self._client.get_secret_value(SecretId=name, **which)
        if "SecretString" not in found:
            raise SecretUnreadable(
                "it is binary", where=self._where(name), next_step="Store the credentials as text (SecretString)"
            )
        return Version(id=found["VersionId"], text=found["SecretString"])

    def describe(self, name: str) -> Description:
        with explained(self._where(name)):
            found = self._client.describe_secret(SecretId=name)
        if "DeletedDate" in found:
            raise SecretDeleted("it is scheduled for deletion", where=self._where(name), next_step=RESTORE)
        owner = found.get("OwningService") or (found.get("RotationLambdaARN") if found.get("RotationEnabled") else None)
        tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
        return Description(
            reference=found["ARN"],
            tags=tags,
            stages=self._stages(name, found.get("VersionIdsToStages", {})),
            rotated_by=owner,
            changed_at=rotated_at(tags) or found.get("LastChangedDate") or found.get("CreatedDate"),
        )

    def _stages(self, name: str, labels: c.Mapping[str, c.Sequence[str]]) -> dict[str, str]:
        stages: dict[str, str] = {}
        for version, attached in labels.items():
            for label in attached:
                stage = STAGES.get(label, label)
                if stages.setdefault(stage, version) != version:
                    raise SecretUnreadable(
                        f"two versions carry {label}: {stages[stage]} and {version}",
                        where=self._where(name),
                        next_step="Take the label from the one that is not in use (update-secret-version-stage)",
                    )
        return stages

    def create(self, name: str, text: str, *, tags: c.Mapping[str, str], kms_key_id: str | None = None) -> Version:
        more = {"KmsKeyId": kms_key_id} if kms_key_id else {}
        if name.startswith("arn:"):
            return self._give_first_value(name, text, tags)
        try:
            with explained(self._where(name)):
                made = self._client.create_secret(Name=name, SecretString=text, Tags=_tags(tags), **more)
        except SecretChanged:
            return self._give_first_value(name, text, tags)
        return Version(id=made["VersionId"], text=text)

    def _give_first_value(self, name: str, text: str, tags: c.Mapping[str, str]) -> Version:
        """Others may make a secret first and give it a value later: Terraform does."""
        found = self.describe(name)
        if CURRENT in found.stages or found.rotated_by:
            raise SecretChanged("it exists already", where=self._where(name), next_step="Run again")
        self.tag(name, tags)
        return self.replace(name, text)

    def replace(self, name: str, text: str) -> Version:
        with explained(self._where(name)):
            made = self._client.put_secret_value(SecretId=name, SecretString=text, VersionStages=[LABELS[CURRENT]])
        return Version(id=made["VersionId"], text=text)

    def write_pending(self, name: str, text: str, *, token: str) -> Version:
        with explained(self._where(name)):
            self._client.put_secret_value(
                SecretId=name, SecretString=text, ClientRequestToken=token, VersionStages=[LABELS[PENDING]]
            )
        return Version(id=token, text=text)

    def promote(self, name: str, pending: Version, *, expected: str) -> None:
        stages = self.describe(name).stages
        if stages.get(CURRENT) == pending.id:
            return
        if stages.get(CURRENT) != expected:
            raise SecretChanged("somebody else has changed it", where=self._where(name), next_step="Run again")
        # The service compares once more: it refuses when the label is no longer on the expected version.
        with explained(self._where(name)):
            self._client.update_secret_version_stage(
                SecretId=name, VersionStage=LABELS[CURRENT], MoveToVersionId=pending.id, RemoveFromVersionId=expected
            )

    def clear_pending(self, name: str, version: str) -> None:
        if self.describe(name).stages.get(PENDING) != version:
            return
        with explained(self._where(name)):
            self._client.update_secret_version_stage(
                SecretId=name, VersionStage=LABELS[PENDING], RemoveFromVersionId=version
            )

    def tag(self, name: str, tags: c.Mapping[str, str]) -> None:
        with explained(self._where(name)):
            self._client.tag_resource(SecretId=name, Tags=_tags(tags))

    def _where(self, name: str) -> str:
        return f"secret {name} in {self._place}"


def _tags(tags: c.Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def open_store(cloud: Aws) -> Store:
    session = open_session(cloud)
    with explained("AWS Secrets Manager"):
        return SecretsManager(client=open_client(session, "secretsmanager", endpoint_url=cloud.endpoint_url))
