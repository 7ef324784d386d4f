# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Tokens of the clouds that serve as a password of PostgreSQL: short-lived, and made without a store."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import read_endpoint

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure


def rds_iam_token(cloud: Aws, *, host: str, port: int, user: str) -> str:
    """For 15 minutes. It is a signed request, made here: AWS is not asked, unless for the identity itself.

    Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html
    """
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws_session  # noqa: PLC0415

    # A token for another region than the server's is of no use, whatever region the environment is set to.
    endpoint = read_endpoint(host)
    if endpoint:
        cloud = replace(cloud, region=endpoint.region)
    session = aws_session.open_session(cloud)
    with aws_session.explained(f"IAM token for {user} at {host}"):
        client = aws_session.open_client(session, "rds")
        return str(client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user))


def entra_token(cloud: Azure, *, host: str = "") -> str:
    """For about an hour, for any server of the host's cloud; the public one where no host is given.

    Source: https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-configure-sign-in-azure-ad-authentication
    """
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import azure_credential  # noqa: PLC0415

    azure_credential.require_library()
    authority, scope = azure_credential.cloud_of(host)
    with azure_credential.explained("Entra token for PostgreSQL"):
        return azure_credential.open_credential(cloud, authority=authority).get_token(scope).token
