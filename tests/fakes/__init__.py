# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fakes of cloud services for tests: strict, local, and reached by unmodified clients through the environment.

with FakeSecretsManager() as aws, FakeAzure() as azure:
    azure.add_vault("lk")
    run(command, env={**clean_environment(os.environ), **aws.environment(), **azure.environment("managed")})
    assert [request.operation for request in aws.requests] == ["GetSecretValue"]
"""

from __future__ import annotations

from tests.fakes.aws import AwsRequest, FakeSecretsManager
from tests.fakes.azure import AzureRequest, FakeAzure
from tests.fakes.keyvault import Vault
from tests.fakes.moto import MotoServer, moto_server
from tests.fakes.proxy import ConnectProxy, connect_proxy
from tests.fakes.service import Cut, Refusal, clean_environment

__all__ = [
    "AwsRequest",
    "AzureRequest",
    "ConnectProxy",
    "Cut",
    "FakeAzure",
    "FakeSecretsManager",
    "MotoServer",
    "Refusal",
    "Vault",
    "clean_environment",
    "connect_proxy",
    "moto_server",
]
