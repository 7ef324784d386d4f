# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same grants with community.postgresql, task by task, on a sample of the databases."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.bench.others import collection, version
from tests.bench.playbooks import Playbook
from tests.bench.product import COLLECTIONS, login
from tests.bench.results import Row, Samples, Settings

if TYPE_CHECKING:
    from tests.bench.estates import Estate
    from tests.rig import ShapedServer

SAMPLE = 3
CONNECTOR = "apono_connector"
COMMUNITY = "community/postgresql"


def measure(
    server: ShapedServer, estate: Estate, names: Sequence[str], *, ours: Samples, settings: Settings
) -> Iterator[Row]:
    """Yield first and second run, scaled to all databases."""
    chosen = names[:SAMPLE]
    try:
        where = collection(COMMUNITY)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        yield Row(part="B", what="community.postgresql", note=f"not measured: no wheel ({error})")
        return
    tasks = [task for name in chosen for task in tasks_for(estate, name)]
    play = Playbook(tasks=tasks, hosts={"server": {}}, collections=f"{where}:{COLLECTIONS}", defaults=defaults(server))
    samples = Samples()
    for _run in range(settings.runs):
        estate.copy(server, chosen)
        start = play.start()
        for number in ("first", "second"):
            samples.add(number, (play.run(changed=number == "first") - start) * len(names) / len(chosen))
    for number in ("first", "second"):
        yield Row(
            part="B",
            what=f"the same {len(names)} databases: {number} run",
            against=(
                f"SCALED from {len(chosen)} databases: community.postgresql {version(where, COMMUNITY)},"
                f" {len(tasks)} tasks ({len(tasks) // len(chosen)} per database) in one ansible-playbook,"
                " whose start is taken off"
            ),
            ours=ours.of(number),
            theirs=samples.of(number),
            note=(
                "its tasks give what the estate has: no sequences, routines and types, nothing on schema public,"
                " no default privileges on schemas (it refuses them)"
            ),
        )


def tasks_for(estate: Estate, database: str) -> list[dict[str, Any]]:
    """Return the fewest tasks that give the connector a database of the estate, and what is created later."""
    schemas = [f"app{number}" for number in range(estate.schemas)]
    given: list[dict[str, Any]] = [
        {"type": "database", "objs": database},
        {"type": "schema", "objs": ",".join(schemas)},
        *({"type": "table", "objs": "ALL_IN_SCHEMA", "schema": schema} for schema in schemas),
        {"type": "default_privs", "objs": "TABLES,SEQUENCES,FUNCTIONS,TYPES", "schema": "not-specified"},
    ]
    common = {"login_db": database, "roles": CONNECTOR, "privs": "ALL", "grant_option": True}
    return [{"community.postgresql.postgresql_privs": {**common, **options}} for options in given]


def defaults(server: ShapedServer) -> dict[str, Any]:
    """Return the login, which both collections spell alike."""
    return {"community.postgresql.postgresql_privs": {**login(server), "ssl_mode": "verify-full"}}
