# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part B: 100 databases in one task, beside merely opening them, and beside community.postgresql."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.bench import community
from tests.bench.estates import Estate, bench_server
from tests.bench.product import bootstrap, expect
from tests.bench.results import Row, Samples, Settings

if TYPE_CHECKING:
    from tests.rig import ShapedServer

ESTATE = Estate(schemas=3, tables=10)
AT_ONCE = 4
READ = "SELECT oid, relname, relnamespace, relkind, relowner, relacl FROM pg_class"


def measure(settings: Settings) -> Iterator[Row]:
    """Yield the rows of both comparisons."""
    with bench_server(settings) as server:
        bootstrap(server, databases=["postgres"])
        ESTATE.build(server)
        names = [f"bench_{number:03}" for number in range(100 // settings.scale)]
        samples = Samples()
        for _run in range(settings.cheap_runs):
            ESTATE.copy(server, names)
            samples.time("one by one", functools.partial(_look_at, server, names, at_once=1))
            samples.time("at once", functools.partial(_look_at, server, names, at_once=AT_ONCE))
            expect(samples.time("first", lambda: bootstrap(server, databases=["bench_*"])), changed=True)
            expect(samples.time("second", lambda: bootstrap(server, databases=["bench_*"])), changed=False)
        yield from _rows(samples, len(names))
        yield from community.measure(server, ESTATE, names, ours=samples, settings=settings)


def _look(server: ShapedServer, name: str) -> None:
    with server.connect_admin(dbname=name) as conn:
        conn.execute(READ).fetchall()


def _look_at(server: ShapedServer, names: list[str], *, at_once: int) -> None:
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        list(pool.map(lambda name: _look(server, name), names))


def _rows(samples: Samples, databases: int) -> Iterator[Row]:
    opened = f"open {databases} connections (TLS verify-full, SCRAM) and read pg_class once in each"
    for number, slowdown in (("first", 3), ("second", 2)):
        what = f"{databases} databases x {ESTATE.schemas} schemas x {ESTATE.tables} tables: {number} run"
        yield Row(
            part="B",
            what=what,
            against=f"{opened}, one after the other",
            ours=samples.of(number),
            theirs=samples.of("one by one"),
            slowdown=slowdown,
            note=f"ours visits {AT_ONCE} databases at once (the default)",
        )
        yield Row(
            part="B",
            what=f"{what}, for comparison",
            against=f"{opened}, {AT_ONCE} at once",
            ours=samples.of(number),
            theirs=samples.of("at once"),
        )
