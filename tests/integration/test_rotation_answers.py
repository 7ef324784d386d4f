# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call of a rotation goes wrong once; what comes of it is what the guide says.

With LATCHKEY_WRITE_GUIDE=1 the guide's tables are written anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws_session, azure_credential
from tests.fakes import FakeAzure, FakeSecretsManager
from tests.fault.shelves import AwsShelf, AzureShelf
from tests.integration.connector_secrets import enter
from tests.integration.rotation_faults import ADMIN_SECRET, STATEMENT, STEPS, STORE_READ, STORE_WRITE, Faults, Observed
from tests.integration.rotation_faults import Point as Call
from tests.rig import Proxy

if TYPE_CHECKING:
    from tests.fault.shelves import Shelf
    from tests.rig import ShapedServer

Shaped = Callable[..., "ShapedServer"]
GUIDE = Path(__file__).parents[2] / "docs" / "docsite" / "rst" / "rotation_faults.rst"
MAJORS = {"rds": 17, "azure": 15}
NAMES = {"rds": "AWS", "azure": "Azure"}
HEADER = ("Step", "What fails", "Store", "Readers have", "The run says", "The next run")
ORDER = ("describe", "begin", "look", *STEPS, "end")

pytestmark = [pytest.mark.usefixtures("forgotten"), pytest.mark.thorough]


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """What fails has failed in all attempts of the SDKs: there is but one."""
    none = dict.fromkeys(("retry_total", "retry_connect", "retry_read", "retry_status"), 0)
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    with mock.patch.dict(aws_session.PATIENCE, once), mock.patch.dict(azure_credential.PATIENCE, none):
        yield


@pytest.fixture
def shelves(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Shelf]]:
    """The stores of both clouds."""
    with FakeSecretsManager() as aws, FakeAzure() as azure:
        found: dict[str, Shelf] = {"rds": AwsShelf(fake=aws), "azure": AzureShelf(fake=azure)}
        enter({**aws.environment(), **azure.environment()}, monkeypatch)
        yield found


def wanted(points: Sequence[Call], strategy: str, *, again: bool) -> Iterator[Call]:
    """All calls with strategy `single`; with the others those in which they differ, and all that changes something."""
    for point in points:
        every = strategy == "single" or point.step == "apply"
        if strategy == "alternate" and not again and (point.step, point.what) != ("apply", STATEMENT):
            continue
        if every or point.what == STORE_WRITE or (point.what != STORE_READ and point.step in STEPS):
            yield point
        if point.what == STORE_WRITE or (point.what == STATEMENT and point.step == "apply"):
            yield Call(number=point.number, step=point.step, what=point.what, after=True)


@pytest.mark.parametrize("strategy", ["single", "admin", "alternate"])
def test_whatever_call_goes_wrong_the_next_run_heals_as_the_guide_says(
    shaped_once: Shaped, shelves: dict[str, Shelf], strategy: str
) -> None:
    rows: dict[Observed, dict[str, None]] = {}
    for shape, shelf in shelves.items():
        server = shaped_once(major=MAJORS[shape], shape=shape)
        shelf.put(ADMIN_SECRET, json.dumps({"username": server.admin, "password": server.passwords[server.admin]}))
        with Proxy(port_behind=server.port) as proxy:
            faults = Faults(server=server, shelf=shelf, strategy=strategy, proxy=proxy)
            for again in (False, True) if strategy == "alternate" else (False,):
                for point in wanted(faults.points(again=again), strategy, again=again):
                    rows.setdefault(faults.observe(point, again=again), {})[NAMES[shape]] = None
    if strategy == "alternate":
        assert not [row for row in rows if row.readers == "no valid password"]
    found = table({row: list(stores) for row, stores in rows.items()})
    if os.environ.get("LATCHKEY_WRITE_GUIDE"):
        write(strategy, found)
    assert section(strategy) == found, "the guide says something else: run this with LATCHKEY_WRITE_GUIDE=1"


# ------------------------------------------------------------------ the tables of the guide
def table(rows: dict[Observed, list[str]]) -> str:
    """The rows as a list-table, by steps."""
    lines = [".. list-table::", "    :header-rows: 1", ""]
    cells = [
        (f"``{row.step}``", row.what, ", ".join(stores), row.readers, row.said, row.following)
        for row, stores in sorted(rows.items(), key=lambda one: (ORDER.index(one[0].step), one[0].what, str(one)))
    ]
    for row in (HEADER, *cells):
        lines += [f"    {'* -' if number == 0 else '  -'} {cell}" for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def marks(strategy: str) -> tuple[str, str]:
    """Between what the table of a strategy is."""
    return f".. BEGIN observed: {strategy}\n\n", f"\n.. END observed: {strategy}\n"


def section(strategy: str) -> str:
    """What the guide says."""
    begin, end = marks(strategy)
    return GUIDE.read_text().partition(begin)[2].partition(end)[0]


def write(strategy: str, found: str) -> None:
    """Put a table in its place."""
    begin, end = marks(strategy)
    head, _begin, rest = GUIDE.read_text().partition(begin)
    GUIDE.write_text(f"{head}{begin}{found}{end}{rest.partition(end)[2]}")
