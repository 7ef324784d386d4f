# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the quickstart prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tests.quickstart.proof import CONNECTOR, OPEN
from tests.rig import Coverage

if TYPE_CHECKING:
    from tests.quickstart.access import Visit
    from tests.quickstart.fleet import Fleet
    from tests.quickstart.rotation import Rotation

WIDTH = 110
REASONS = {
    "platform": "it is the platform's own",
    "no_way": "since PostgreSQL 16 the administrator may not act for an owner it has no ADMIN OPTION on",
}
SERVICES = {"rds": "Amazon RDS", "azure": "Azure flexible server"}


@dataclass(frozen=True, kw_only=True)
class Story:
    """One server, before and after."""

    name: str
    version: str
    before: dict[str, Coverage]
    after: dict[str, Coverage]
    first: dict[str, Any]
    second: dict[str, Any]
    store: str
    same_secret: bool

    @property
    def complaints(self) -> Iterable[str]:
        """Tell what should not be so."""
        if "coverage" not in self.first:
            yield "the bootstrap gave no answer"
            return
        claimed = {entry["name"]: entry["covered"] for entry in self.first["databases"] if entry["reachable"]}
        found = {name: one.grantable for name, one in self.after.items()}
        if claimed != found:
            yield f"the bootstrap claims {claimed}, but the catalog says {found}"
        if any(self.after[name].grantable < one.grantable for name, one in self.before.items()):
            yield "the vendor's SQL reaches more"
        if self.second.get("changed_tasks") != 0 or self.second.get("statements") != []:
            yield "the second run changed something"
        if not self.same_secret:
            yield "the second run changed the connector's secret"


def say(text: str) -> None:
    """Print a paragraph at once, because Ansible prints to the same place."""
    print(f"{text}\n", flush=True)


def servers(fleet: Fleet) -> None:
    """Introduce the servers."""
    for name, one in fleet.servers.items():
        print(f"  {name:14} PostgreSQL {one.binaries.version:6} shaped like {SERVICES[one.shape.name]}")
    print(flush=True)


def command(playbook: str) -> None:
    """Show what is about to run."""
    print(f"$ ansible-playbook -i inventory.yml {playbook}", flush=True)


def recap(output: str) -> None:
    """Show the end of Ansible's output."""
    say("PLAY RECAP" + output.rpartition("PLAY RECAP")[2].rstrip())


def table(stories: list[Story]) -> None:
    """Print a column for each server."""
    rows = [
        ("", *(story.name for story in stories)),
        ("PostgreSQL", *(story.version for story in stories)),
        (f"{OPEN}: vendor's SQL", *(_share([story.before[OPEN]]) for story in stories)),
        (f"{OPEN}: Latchkey", *(_share([story.after[OPEN]]) for story in stories)),
        ("all databases: vendor's SQL", *(_share(story.before.values()) for story in stories)),
        ("all databases: Latchkey", *(_share(story.after.values()) for story in stories)),
        ("first run", *(f"{story.first['seconds']:.1f} s" for story in stories)),
        (
            "second run",
            *(f"{story.second['seconds']:.1f} s, changed={story.second['changed_tasks']}" for story in stories),
        ),
        ("connector's secret is in", *(story.store for story in stories)),
        ("logged in with it, read, passed on", *("yes" for _story in stories)),
    ]
    print(f"Objects that {CONNECTOR} can pass on to people:\n")
    _columns(rows)


def _columns(rows: Iterable[tuple[str, ...]]) -> None:
    for head, *cells in rows:
        print(f"  {head:36}" + "".join(f"{cell:22}" for cell in cells).rstrip())
    print(flush=True)


def visits(found: list[Visit]) -> None:
    """Print what people met, and what they were told."""
    times = {"first request given in": "grant", "second, same scope": "second grant"}
    times |= {"revoked in": "revoke", "swept in": "sweep"}
    rows = [
        ("", *(one.name for one in found)),
        *((what, *(f"{one.answers[run]['seconds']:.1f} s" for one in found)) for what, run in times.items()),
        *((what, *(one.attempts[what] for one in found)) for what in found[0].attempts),
    ]
    print("Two people were given READ_ONLY, with their credentials in the same stores; one was told\n")
    print(
        textwrap.fill(found[0].answers["grant"]["access_details"], WIDTH, initial_indent="  ", subsequent_indent="  ")
    )
    print()
    _columns(rows)


def rotations(found: list[Rotation]) -> None:
    """Print what became of the connectors' passwords, and of those who use them."""
    rows = [
        ("", *(one.name for one in found)),
        *((what, *(one.found[what] for one in found)) for what in found[0].found),
    ]
    print("The connectors got new passwords, while readers of the secrets logged in all the time:\n")
    _columns(rows)


def uncovered(stories: list[Story]) -> None:
    """Print what is left, and the first statement that an owner must run."""
    left = [(story.name, entry) for story in stories for entry in story.first["uncovered"]]
    print("Not covered, because\n")
    for reason, entries in groupby(sorted(left, key=_cause), key=_cause):
        print(f"  {REASONS.get(reason, reason)}:")
        for name, entry in entries:
            print(f"    {name:14}{entry['owner']:12}{entry['objects']:3} objects in {entry['database']}")
    for name, entry in left:
        if entry["cause"] != "platform":
            print(f"\nOn {name}, {entry['reason']}. Who administers it can run\n")
            print(f"  {entry['remedy']}")
            print(f"\nor {entry['owner']} itself in {entry['database']}, beginning with\n")
            print(f"  {_shortened(entry['sql'][0])}")
            break
    print(flush=True)


def _cause(left: tuple[str, dict[str, Any]]) -> str:
    return str(left[1]["cause"])


def _share(parts: Iterable[Coverage]) -> str:
    total = sum(parts, Coverage())
    return f"{total.grantable} of {total.total}"


def _shortened(statement: str) -> str:
    return statement if len(statement) <= WIDTH else f"{statement[:WIDTH]} …"


def kept(fleet: Fleet, holder: int) -> None:
    """Tell how to go on with servers that keep running."""
    for name, one in fleet.servers.items():
        secret = fleet.connector(name)
        print(f"{name}: sslmode=verify-full")
        print(f"  host={one.host} port={one.port} sslrootcert={one.ca} dbname={OPEN}")
        print(f"  user={one.admin} password={one.passwords[one.admin]}")
        print(f"  user={secret['username']} password={secret['password']}")
    print(f"Inventory: {fleet.inventory}")
    print(f"Stand-ins for the clouds: source {fleet.write_environment()}")
    print(f"Stop all with: kill {holder}")
