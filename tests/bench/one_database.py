# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part A: one database of 1,000 schemas with 10 tables each, beside the vendor's step 3."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tests.bench.estates import BARE, KEYED, Counters, Estate, bench_server
from tests.bench.product import bootstrap, expect
from tests.bench.results import Row, Samples, Settings
from tests.rig import ShapedServer, vendor_objects

DATABASE = "work"
KINDS = {"tables with a key and text": KEYED, "tables of one int, no index": BARE}
VENDOR = "the vendor's step 3, over a connection that is already open"


def measure(settings: Settings) -> Iterator[Row]:
    """Yield first and second run for both kinds of tables."""
    with bench_server(settings) as server:
        # The connector exists from here on; its privileges go with each copy of the database.
        bootstrap(server, databases=["postgres"])
        for words, columns in KINDS.items():
            estate = Estate(schemas=1000 // settings.scale, tables=10, columns=columns)
            estate.build(server)
            yield from _rows(server, estate, words, settings)


def _rows(server: ShapedServer, estate: Estate, words: str, settings: Settings) -> Iterator[Row]:
    samples = Samples()
    written: dict[str, Counters] = {}
    for _run in range(settings.runs):
        _vendor(server, estate, samples, written)
        _ours(server, estate, samples, written)
    size = f"{estate.schemas:,} schemas x {estate.tables} {words}"
    for number, speedup in (("first", 10), ("second", 30)):
        yield Row(
            part="A",
            what=f"{size}: {number} run",
            against=VENDOR,
            ours=samples.of(f"our {number}"),
            theirs=samples.of(f"vendor {number}"),
            speedup=speedup,
            note=(
                f"connector exists, two connections are opened; ours {written[f'our {number}']};"
                f" theirs {written[f'vendor {number}']}"
            ),
        )


def _vendor(server: ShapedServer, estate: Estate, samples: Samples, written: dict[str, Counters]) -> None:
    estate.copy(server, [DATABASE])
    for number in ("first", "second"):
        before = Counters.read(server)
        with server.connect_admin(dbname=DATABASE) as conn:
            conn.execute("SELECT 1")
            samples.time(f"vendor {number}", functools.partial(vendor_objects, conn, server.group))
        written[f"vendor {number}"] = Counters.read(server) - before


def _ours(server: ShapedServer, estate: Estate, samples: Samples, written: dict[str, Counters]) -> None:
    estate.copy(server, [DATABASE])
    for number in ("first", "second"):
        before = Counters.read(server)
        result = samples.time(f"our {number}", lambda: bootstrap(server, databases=[DATABASE]))
        expect(result, changed=number == "first")
        written[f"our {number}"] = Counters.read(server) - before
