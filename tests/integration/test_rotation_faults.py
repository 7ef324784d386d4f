# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation that fails anywhere: who reads the secret logs in as soon as can be, and one plain run puts all right."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.fakes import FakeAzure, FakeSecretsManager, Refusal
from tests.integration.connector_secrets import Aws, Azure, enter
from tests.integration.rotation import ADMIN_SECRET, Site
from tests.rig import Proxy

if TYPE_CHECKING:
    from tests.rig import ShapedServer

Shaped = Callable[..., "ShapedServer"]
Sites = Callable[[], Site]
When = Literal["before", "after"]
ROOT = Path(__file__).parents[2]
KILLS = 10  # for each cloud and strategy
MAJORS = {"rds": 17, "azure": 15}
OPTIONS: dict[str, dict[str, Any]] = {
    "single": {},
    "admin": {"strategy": "admin", "admin_secret": ADMIN_SECRET},
    "alternate": {"strategy": "alternate", "admin_secret": ADMIN_SECRET},
}

pytestmark = [pytest.mark.usefixtures("forgotten"), pytest.mark.thorough]


@pytest.fixture
def sites(shaped_once: Shaped, shape: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    """Return a maker of applications on a server of each cloud."""
    with FakeSecretsManager() if shape == "rds" else FakeAzure() as fake:
        store = Aws(fake=fake) if isinstance(fake, FakeSecretsManager) else Azure(fake=fake)
        enter(store.environment(), monkeypatch)

        def make() -> Site:
            fake.clear_hooks()
            site = Site(server=shaped_once(major=MAJORS[shape], shape=shape), store=store)
            site.prepare()
            return site

        yield make


def refuse_from(site: Site, number: int, *, when: When, times: int | None) -> list[str]:
    """Let the store refuse its call of that number, and so many in all; return what it has refused."""
    calls, refused = itertools.count(1), []
    denied = Refusal("AccessDeniedException" if isinstance(site.store, Aws) else "Forbidden", "No.", status=403)

    def strike(request: Any) -> None:
        call = next(calls)
        if call < number or (times is not None and call >= number + times):
            return
        refused.append(request.operation)
        raise denied

    for operation in site.store.fake.operations() - {"token", "openid", "unknown", "instance", "managed_token"}:
        site.store.fake.on(operation, strike, when=when)
    return refused


@pytest.mark.parametrize(
    ("strategy", "when"),
    [("single", "before"), ("single", "after"), ("admin", "before"), ("alternate", "before"), ("alternate", "after")],
)
def test_an_error_of_the_store_at_any_call_keeps_readers_in(sites: Sites, strategy: str, when: When) -> None:
    for number in itertools.count(1):
        site = sites()
        refused = refuse_from(site, number, when=when, times=1)
        said = site.run(**OPTIONS[strategy])
        site.store.fake.clear_hooks()
        if not refused:
            break
        assert site.reader_logs_in(), (number, refused, said)
        if said.get("failed"):
            assert said["error_kind"] == "secret_unreadable", said["msg"]
        site.healed(**OPTIONS[strategy])
    assert number > 10


@pytest.mark.parametrize("strategy", ["single", "alternate"])
def test_a_store_that_goes_down_at_any_call_is_no_end(sites: Sites, strategy: str) -> None:
    kept_out = 0
    for number in itertools.count(1):
        site = sites()
        refused = refuse_from(site, number, when="before", times=None)
        said = site.run(**OPTIONS[strategy])
        site.store.fake.clear_hooks()
        if not refused:
            break
        assert said.get("failed")
        kept_out += not site.reader_logs_in()
        site.healed(**OPTIONS[strategy])
    assert (kept_out > 0) is (strategy == "single"), "only when it goes down in the promotion itself"


@pytest.mark.parametrize("shape", ["rds"])
@pytest.mark.parametrize(
    ("strategy", "network"),
    [("single", "goes down"), ("single", "comes back"), ("admin", "goes down"), ("alternate", "goes down")],
)
def test_a_connection_that_is_lost_at_any_write_is_no_end(sites: Sites, strategy: str, network: str) -> None:
    kept_out = 0
    for after in itertools.count(0, 1 if strategy == "single" else 3):
        site = sites()
        with Proxy(port_behind=site.server.port, after=after, refuse=network == "goes down") as proxy:
            said = site.run(**OPTIONS[strategy], connect_params={"port": proxy.port})
            cut = proxy.was_cut.is_set()
        if not cut:
            break
        if said.get("failed"):
            assert said["error_kind"] == "server_unreachable", said["msg"]
        kept_out += not site.reader_logs_in()
        site.healed(**OPTIONS[strategy])
    assert after > 20
    assert (kept_out > 0) is (strategy != "alternate"), kept_out


@pytest.mark.parametrize("strategy", ["single", "alternate"])
def test_runs_that_are_killed_at_any_time_are_completed_by_the_next(sites: Sites, strategy: str) -> None:
    moments, cut_short, whole = random.Random(strategy), 0, 0.0  # noqa: S311
    for kill in range(KILLS + 1):
        site = sites()
        with victim(site, **OPTIONS[strategy]) as process:
            start = time.monotonic()
            print(file=process.stdin, flush=True)
            if kill:
                time.sleep(moments.uniform(0, 0.9 * whole))
                process.kill()
            process.wait()
            whole = whole or time.monotonic() - start
            cut_short += process.returncode < 0
        if strategy == "alternate":
            assert site.reader_logs_in()
        site.healed(**OPTIONS[strategy])
    assert cut_short > KILLS // 2


@contextlib.contextmanager
def victim(site: Site, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process that will rotate when it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", "from tests.integration.rotation import drive; drive()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / '.venv' / 'collections'}"},
    ) as process:
        try:
            print(json.dumps(site.options(**options)), file=process.stdin, flush=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
