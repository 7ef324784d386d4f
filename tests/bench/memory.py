# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part C: the memory of one process that finds 100,000 objects missing, gives them, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.bench.estates import BARE, Estate, bench_server
from tests.bench.product import COLLECTIONS, ROOT, bootstrap, login
from tests.bench.results import Row, Samples, Settings

if TYPE_CHECKING:
    from tests.rig import ShapedServer

DATABASE = "work"
# A shell between: getrusage starts from the size of the process that a new one was forked from.
FORK = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
CEILING = 200
# (what, door, check mode, diff mode, has the target)
WAYS = (
    ("result and its JSON", "function", False, False, True),
    ("module, to the end of its process", "module", False, False, True),
    ("check mode", "function", True, False, False),
    ("check mode with diff", "function", True, True, False),
)


def measure(settings: Settings) -> Iterator[Row]:
    """Yield the peak of each way to run it."""
    estate = Estate(schemas=1000 // settings.scale, tables=100, columns=BARE)
    with bench_server(settings) as server:
        bootstrap(server, databases=["postgres"])
        estate.build(server)
        for what, door, check, diff, bounded in WAYS:
            peaks = Samples()
            for run in range(settings.runs):
                if run == 0 or not check:
                    estate.copy(server, [DATABASE])
                said = child(server, door=door, check=check, diff=diff)
                peaks.add("peak", said["peak"])
            yield Row(
                part="C",
                what=f"peak memory, {said['objects']:,} objects missing: {what}",
                unit="MiB",
                ours=peaks.of("peak"),
                ceiling=CEILING if bounded else None,
                note=f"{said['floor']:.0f} MiB of it before the task; JSON of {said['json']:.1f} MiB;"
                f" {said['seconds']:.1f} s",
            )


def child(server: ShapedServer, *, door: str, check: bool, diff: bool) -> dict[str, Any]:
    """Run it in a process of its own, and return what that says."""
    asked = {"arguments": {**login(server), "databases": [DATABASE]}, "door": door, "check": check, "diff": diff}
    done = subprocess.run(
        [*FORK, sys.executable, "-m", "tests.bench.memory_child"],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), COLLECTIONS))},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"the child failed:\n{done.stderr}"
        raise RuntimeError(msg)
    said: dict[str, Any] = json.loads(done.stdout)
    return said
