# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part D: the two doors, over an inventory where nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.bench.estates import Estate, bench_server
from tests.bench.playbooks import Playbook
from tests.bench.product import COLLECTIONS, bootstrap, login
from tests.bench.results import Row, Samples, Settings

if TYPE_CHECKING:
    from tests.rig import ShapedServer

HOSTS = 20
ESTATE = Estate(schemas=3, tables=10)


def measure(settings: Settings) -> Iterator[Row]:
    """Yield one row."""
    with bench_server(settings) as server:
        # The hosts are one server: they find the role and don't all make it.
        bootstrap(server, databases=["postgres"])
        ESTATE.build(server)
        names = [f"host_{number:02}" for number in range(max(HOSTS // settings.scale, 2))]
        ESTATE.copy(server, names)
        doors = {door: playbook(server, names, door) for door in ("auto", "never")}
        doors["auto"].run(changed=True)
        samples = Samples()
        for _run in range(settings.cheap_runs):
            samples.add("start", doors["auto"].start())
            for door, book in doors.items():
                samples.add(door, book.run(changed=False))
    yield Row(
        part="D",
        what=f"{len(names)} hosts, nothing to do: direct=auto",
        against="direct=never: a module process for each host",
        ours=samples.of("auto"),
        theirs=samples.of("never"),
        note=(
            f"wall time of ansible-playbook with 5 forks, of which its start is {samples.median('start'):.3f} s;"
            " one server, a database for each host, so that none waits for another's lock"
        ),
    )


def playbook(server: ShapedServer, names: list[str], door: str) -> Playbook:
    """Return a play of one task, in which each host has its own database."""
    options: dict[str, Any] = {**login(server), "direct": door, "login_db": "{{ database }}"}
    task = {"latchkey.postgres.pg_apono_bootstrap": {**options, "databases": ["{{ database }}"]}}
    return Playbook(tasks=[task], hosts={name: {"database": name} for name in names}, collections=COLLECTIONS)
