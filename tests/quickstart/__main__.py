# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show that it works: `make quickstart`; with `KEEP=1` the servers stay and it says how to reach them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import psycopg

from tests.quickstart import access, proof, rotation, show
from tests.quickstart.fleet import PLAYBOOK, Fleet, start
from tests.quickstart.show import Story
from tests.quickstart.stores import NAMES
from tests.rig import RigError


def main() -> int:
    """Run it all; with KEEP in a child that goes on when this process has said its last word."""
    if os.environ.get("KEEP", "0") in ("", "0"):
        return run()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        return run(keep_for=writing)
    os.close(writing)
    with contextlib.suppress(KeyboardInterrupt):
        if os.read(reading, 1):
            return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(*, keep_for: int | None = None) -> int:
    """Show it; say in one line what went wrong if anything did."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        show.say("Starting two throw-away PostgreSQL servers, and stand-ins for the clouds' secret stores …")
        with start() as fleet:
            show.servers(fleet)
            stories = bootstrap(fleet)
            show.table(stories)
            show.uncovered(stories)
            visits = access.show_it(fleet)
            show.visits(visits)
            rotations = rotation.show_it(fleet)
            show.rotations(rotations)
            told: list[Story | access.Visit | rotation.Rotation] = [*stories, *visits, *rotations]
            complaints = [f"{one.name}: {complaint}" for one in told for complaint in one.complaints]
            if keep_for is not None and not complaints:
                keep(fleet, keep_for)
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
    secrets = {name: fleet.connector(name) for name in fleet.servers}
    for name, server in fleet.servers.items():
        proof.use(server, secrets[name])
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
            store=NAMES[server.shape.name],
            same_secret=secrets[name] == fleet.connector(name),
        )
        for name, server in fleet.servers.items()
    ]


def keep(fleet: Fleet, keep_for: int) -> None:
    """Say how to reach the servers, let the one who waits go, and stay until told to stop."""
    show.kept(fleet, os.getpid())
    sys.stdout.flush()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.write(keep_for, b"!")
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
