# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show that it works: `make quickstart`; with `KEEP=1` the servers stay and it says how to reach them."""

from __future__ import annotations

import os
import signal
import sys
import time

import psycopg

from tests.quickstart import proof, show
from tests.quickstart.fleet import PLAYBOOK, Fleet, start
from tests.quickstart.show import Story
from tests.rig import RigError


def main() -> int:
    """Run it all; say in one line what went wrong if anything did."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        show.say("Starting two throw-away PostgreSQL servers …")
        with start() as fleet:
            show.servers(fleet)
            stories = bootstrap(fleet)
            show.table(stories)
            show.uncovered(stories)
            complaints = [f"{story.name}: {complaint}" for story in stories for complaint in story.complaints]
            if not complaints and os.environ.get("KEEP", "0") not in ("", "0"):
                keep(fleet)
    except KeyboardInterrupt:
        complaints = ["interrupted, the servers are stopped"]
    except (RigError, psycopg.Error, OSError) as error:
        complaints = [str(error)]
    if complaints:
        print(*(f"quickstart: {complaint}" for complaint in complaints), sep="\n", file=sys.stderr)
        return 1
    show.say(
        f"Done in {time.monotonic() - begun:.0f} s; the servers are gone. KEEP=1 make quickstart leaves them running."
    )
    return 0


def bootstrap(fleet: Fleet) -> list[Story]:
    """Measure, bootstrap, measure again, use it, and bootstrap once more."""
    before = {name: proof.vendor(server) for name, server in fleet.servers.items()}
    show.command(PLAYBOOK)
    first = fleet.run()[0]
    for server in fleet.servers.values():
        proof.use(server, fleet.connector_password)
    show.command(f"{PLAYBOOK}   # again")
    second, output = fleet.run(quiet=True)
    show.recap(output)
    return [
        Story(
            name=name,
            version=server.binaries.version,
            before=before[name],
            after=proof.reached(server),
            first=first[name],
            second=second[name],
        )
        for name, server in fleet.servers.items()
    ]


def keep(fleet: Fleet) -> None:
    """Leave the servers to a process in the background; they live for as long as somebody holds their pipes."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        while True:
            signal.pause()
    show.kept(fleet, child)
    sys.stdout.flush()
    # No clearing up here: that is now the other's.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
