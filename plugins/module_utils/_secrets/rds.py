# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Amazon RDS itself: an instance or cluster, and its tags."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws_session

if t.TYPE_CHECKING:
    import collections.abc as c

    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import Endpoint
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance or cluster with its tags."""

    arn: str
    tags: c.Mapping[str, str]


def find(cloud: Aws, endpoint: Endpoint) -> Instance:
    where = _where(endpoint)
    client = _client(cloud, endpoint)
    with aws_session.explained(where):
        if endpoint.cluster:
            found = client.describe_db_clusters(DBClusterIdentifier=endpoint.name)["DBClusters"][0]
        else:
            found = client.describe_db_instances(DBInstanceIdentifier=endpoint.name)["DBInstances"][0]
    arn = found["DBClusterArn" if endpoint.cluster else "DBInstanceArn"]
    return Instance(arn=arn, tags={tag["Key"]: tag["Value"] for tag in found.get("TagList", ())})


def tag(cloud: Aws, endpoint: Endpoint, instance: Instance, tags: c.Mapping[str, str]) -> None:
    client = _client(cloud, endpoint)
    with aws_session.explained(_where(endpoint)):
        client.add_tags_to_resource(
            ResourceName=instance.arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
        )


def _client(cloud: Aws, endpoint: Endpoint) -> t.Any:
    with aws_session.explained(_where(endpoint)):
        return aws_session.open_client(aws_session.open_session(replace(cloud, region=endpoint.region)), "rds")


def _where(endpoint: Endpoint) -> str:
    return f"{endpoint.name} in Amazon RDS, {endpoint.region}"
