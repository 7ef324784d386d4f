# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of secrets that are not due costs the stores one read each, and the servers nothing."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest import mock

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from tests.fakes import FakeAzure, FakeSecretsManager
from tests.fault.shelves import AwsShelf, AzureShelf
from tests.integration.access import through
from tests.integration.connector_secrets import enter
from tests.integration.product import succeeded

if TYPE_CHECKING:
    from tests.fault.shelves import Shelf

SECRETS = 200
READS = {"aws": "DescribeSecret", "azure": "get_secret"}
SIGN_IN = {"instance", "openid", "token"}

pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture(params=["aws", "azure"])
def shelf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Return the store of each cloud."""
    with FakeSecretsManager() if request.param == "aws" else FakeAzure() as fake:
        found: Shelf = AwsShelf(fake=fake) if isinstance(fake, FakeSecretsManager) else AzureShelf(fake=fake)
        enter(found.environment(), monkeypatch)
        yield found


@pytest.fixture
def closed() -> int:
    """Return a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_fleet_that_is_not_due_costs_one_read_each_and_no_connection(shelf: Shelf, closed: int) -> None:
    address = {"login_host": "localhost", "login_port": closed}
    names = [f"app-{number}" for number in range(SECRETS)]
    for name in names:
        shelf.put(name, json.dumps({"username": name, "password": "pw-of-an-application"}))
    with mock.patch.object(psycopg, "connect", side_effect=AssertionError("a connection")):
        for name in names:
            options = {**address, "secret": name, "secret_store": shelf.option}
            said = succeeded(through(ROTATE, options))
            assert (said["changed"], said["action"], said["due"]) == (False, "none", False)
    asked = Counter(request.operation for request in shelf.fake.requests if request.operation not in SIGN_IN)
    (read,) = asked
    # A vault says to the very first request where to sign in.
    assert (read, asked[read]) == (READS[shelf.option["provider"]], SECRETS + (shelf.option["provider"] == "azure"))
    due = {**address, "secret": names[0], "secret_store": shelf.option, "max_age_days": 0}
    assert through(ROTATE, due)["error_kind"] == "server_unreachable"
