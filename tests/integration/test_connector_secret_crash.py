# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed at any point, or are two at once: one secret, one password that never changes, one login."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest

from tests.fakes import FakeAzure, FakeSecretsManager, Refusal, moto_server
from tests.integration.connector_secrets import NUMBERS, READABLE, REGION, Aws, Azure, Site, enter
from tests.integration.product import ask, succeeded
from tests.rig import Proxy, ShapedServer

Shaped = Callable[..., ShapedServer]
Victim = subprocess.Popen[str]
When = Literal["before", "after"]
ROOT = Path(__file__).parents[2]
MAJORS = {"rds": 17, "azure": 15}
KILLS = 10  # for each cloud
WRITES = (3, 16, 30, 55, 90)  # of about 95 that a run makes
SECRET = re.compile(r"apono-orders-\d+")
DRIVER = "from tests.integration.connector_secrets import drive; drive()"

# What the store holds before the run; an operation of the run, and which of its calls.
AWS_STEPS = [
    ("nothing", "GetSecretValue", 1, "before"),
    ("nothing", "CreateSecret", 1, "before"),
    ("nothing", "CreateSecret", 1, "after"),
    ("nothing", "GetSecretValue", 2, "before"),
    ("nothing", "GetSecretValue", 3, "before"),
    ("no tags", "DescribeSecret", 1, "before"),
    ("no tags", "TagResource", 1, "before"),
    ("no tags", "TagResource", 1, "after"),
    ("of another", "PutSecretValue", 1, "before"),
    ("of another", "PutSecretValue", 1, "after"),
    ("of another", "TagResource", 1, "before"),
]
AZURE_STEPS = [
    ("nothing", "get_secret", 1, "before"),
    ("nothing", "set_secret", 1, "before"),
    ("nothing", "set_secret", 1, "after"),
    ("nothing", "get_secret", 3, "before"),
    ("nothing", "get_secret", 4, "before"),
    ("no tags", "update_secret", 1, "before"),
    ("no tags", "update_secret", 1, "after"),
    ("of another", "set_secret", 1, "before"),
    ("of another", "set_secret", 1, "after"),
]
STEPS = [*(("rds", *step) for step in AWS_STEPS), *(("azure", *step) for step in AZURE_STEPS)]


pytestmark = pytest.mark.usefixtures("forgotten")


@pytest.fixture
def site(shaped_once: Shaped, shape: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a server with the store of its cloud, which is empty."""
    server = shaped_once(major=MAJORS[shape], shape=shape)
    with FakeSecretsManager() if shape == "rds" else FakeAzure() as fake:
        store = Aws(fake=fake) if isinstance(fake, FakeSecretsManager) else Azure(fake=fake)
        enter(store.environment(), monkeypatch)
        yield Site(server=server, store=store)


@contextlib.contextmanager
def victim(site: Site, **options: Any) -> Iterator[Victim]:
    """Start a process that will run the product when it is told to."""
    path = f"{ROOT}{os.pathsep}{ROOT / '.venv' / 'collections'}"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        try:
            print(json.dumps(site.options(**options)), file=process.stdin)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def let_go(process: Victim) -> None:
    """Tell it."""
    print(file=process.stdin)


def killed(process: Victim) -> bool:
    """Wait for its end; return whether it was killed before."""
    return process.wait(timeout=60) == -signal.SIGKILL


def put(site: Site, prepared: str) -> dict[str, Any]:
    """Let the store hold something; return the options to go with it."""
    if prepared == "nothing":
        return {}
    site.put(**({"username": "somebody"} if prepared == "of another" else {}))
    return {"secret": {"force": True}} if prepared == "of another" else {}


def goes_on(site: Site, **options: Any) -> None:
    """Assert that what was cut short is completed by the next run, with the password that was stored, and once."""
    settled(site.server)
    history, found = site.store.history(site.secret), json.loads(site.store.current(site.secret) or "{}")
    ours = found.get("username") == site.connector
    assert ours or not site.role_exists(), "a role without a secret"
    assert not site.role_exists() or site.logs_in(found["password"])
    assert succeeded(site.run(**options))["secret"]["verified"] is True
    if ours:
        assert site.stored() == found
        assert site.store.history(site.secret) == history
    assert not [name for name in site.store.names() if not SECRET.fullmatch(name)]
    assert not site.store.pending(site.secret)
    assert site.store.tags(site.secret) == READABLE
    assert site.reader_logs_in()
    last, written = site.stored(), site.written()
    again = succeeded(site.run(**options))
    assert (again["changed"], site.stored(), site.written()) == (False, last, written)


def settled(server: ShapedServer) -> None:
    """Wait until the server has noticed that its clients are gone."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'latchkey'"
    deadline = time.monotonic() + 20
    while ask(server, query) != [(0,)]:
        assert time.monotonic() < deadline, "sessions stay"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("shape", "prepared", "operation", "number", "when"), STEPS, ids=lambda part: str(part).replace(" ", "_")
)
def test_a_run_that_is_killed_at_a_step_in_the_store_is_completed_by_the_next(
    site: Site, prepared: str, operation: str, number: int, when: When
) -> None:
    options = put(site, prepared)
    killed_at(site, operation, number, when, **options)
    goes_on(site, **options)


def killed_at(site: Site, operation: str, number: int, when: When, **options: Any) -> None:
    """Run the product and kill it at its call of that number for an operation of the store."""
    calls = itertools.count(1)
    with victim(site, **options) as process:

        def strike(_request: object) -> None:
            if next(calls) != number:
                return
            process.kill()
            process.wait()
            if when == "before":
                raise Refusal("Killed", "Nobody waits for an answer.")

        site.store.fake.on(operation, strike, when=when)
        let_go(process)
        assert killed(process)
    site.store.fake.clear_hooks()


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize(("operation", "number"), [("DescribeSecret", 1), ("GetSecretValue", 3)])
def test_a_run_that_is_killed_before_or_after_the_instances_tag_is_completed_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    with moto_server() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_RDS", aws.url)
        rds = boto3.client("rds", region_name=REGION)
        rds.create_db_instance(DBInstanceIdentifier="orders", Engine="postgres", DBInstanceClass="db.t3.micro")
        found = rds.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"][0]
        login = {"login_host": found["Endpoint"]["Address"], "ssl_mode": "verify-ca"}
        options = {**login, "secret": {"instance_tag": True}, "connect_params": {"hostaddr": "127.0.0.1"}}
        killed_at(site, operation, number, "before", **options)
        before = rds.list_tags_for_resource(ResourceName=found["DBInstanceArn"])["TagList"]
        assert bool(before) is (operation == "GetSecretValue")
        goes_on(site, **options)
        (tag,) = rds.list_tags_for_resource(ResourceName=found["DBInstanceArn"])["TagList"]
    assert tag == {"Key": "apono-secret", "Value": site.store.fake.secrets[site.secret].arn}


@dataclass(kw_only=True, eq=False)
class Killer(Proxy):
    """A proxy that kills its client when it is about to cut it off."""

    process: Victim | None = None

    def cut(self) -> None:
        """Kill, then cut."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        super().cut()


@pytest.mark.parametrize("shape", ["rds", "azure"])
@pytest.mark.parametrize("writes", WRITES)
def test_a_run_that_is_killed_after_so_many_writes_to_the_server_is_completed_by_the_next(
    site: Site, writes: int
) -> None:
    proxy = Killer(port_behind=site.server.port, after=writes)
    with proxy, victim(site, connect_params={"port": proxy.port}) as process:
        proxy.process = process
        let_go(process)
        assert killed(process)
    goes_on(site)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", ["rds", "azure"])
def test_runs_that_are_killed_at_any_time_are_completed_by_the_next(site: Site, shape: str) -> None:
    moments, cut_short = random.Random(shape), 0  # noqa: S311
    with victim(site) as process:
        let_go(process)
        start = time.monotonic()
        assert not killed(process)
        whole = time.monotonic() - start
    for _kill in range(KILLS):
        one = replace(site, number=next(NUMBERS))
        with victim(one) as process:
            let_go(process)
            time.sleep(moments.uniform(0, 0.9 * whole))
            process.kill()
            cut_short += killed(process)
        goes_on(one)
    assert cut_short >= KILLS // 2


@pytest.mark.parametrize("shape", ["rds", "azure"])
@pytest.mark.parametrize("delay", [0, 0.1])
def test_two_runs_at_once_make_one_secret_that_both_use(site: Site, delay: float) -> None:
    site.store.fake.delay = delay
    with victim(site) as one, victim(site) as other:
        for process in (one, other):
            let_go(process)
        said = [succeeded(json.loads(process.communicate(timeout=60)[0])) for process in (one, other)]
    assert sorted(result["secret"]["created"] for result in said) == [False, True]
    assert sorted(result["changed"] for result in said) == [False, True]
    assert all(result["secret"]["verified"] for result in said)
    assert len(site.store.history(site.secret)) == 1
    goes_on(site)
