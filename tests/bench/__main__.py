# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the collection beside what it replaces: `make bench`, or `python -m tests.bench --only A,C --quick`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import access, doors, many_databases, memory, one_database, secrets
from tests.bench.product import ROOT
from tests.bench.results import Row, Settings, table
from tests.rig import MAJORS, RigError, find

PARTS: Mapping[str, Callable[[Settings], Iterator[Row]]] = {
    "A": one_database.measure,
    "B": many_databases.measure,
    "C": memory.measure,
    "D": doors.measure,
    "E": secrets.measure,
    "F": access.measure,
}
QUICK = Settings(runs=1, cheap_runs=1, scale=10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    base = QUICK if options.quick else Settings(runs=options.runs, cheap_runs=options.runs + 2)
    settings = replace(base, major=options.major)
    about = facts(settings)
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    rows: list[Row] = []
    try:
        for part in options.only:
            begin = time.perf_counter()
            rows.extend(row if settings.scale == 1 else without_targets(row) for row in PARTS[part](settings))
            print(f"{part}: measured in {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    except (RigError, RuntimeError) as error:
        print(f"tests.bench: {error}", file=sys.stderr)
        return 1
    finally:
        print(table(rows), flush=True)
        write(options.json, {**about, "rows": [row.values() for row in rows]})
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--major", type=int, choices=MAJORS, help="PostgreSQL's major version; default: the rig's")
    parser.add_argument("--only", type=chosen, default=list(PARTS), metavar="A,B", help="parts; default: all")
    parser.add_argument("--runs", type=int, default=3, help="runs of A and C, two more of the others; default: 3")
    parser.add_argument("--quick", action="store_true", help="one run on a tenth of the size: no result, only a trial")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache" / "bench.json", help="default: %(default)s")
    return parser.parse_args(arguments)


def chosen(text: str) -> list[str]:
    """Read a list of parts."""
    parts = text.upper().split(",")
    if not set(parts) <= set(PARTS):
        msg = f"{text!r}: the parts are {', '.join(PARTS)}"
        raise argparse.ArgumentTypeError(msg)
    return parts


def without_targets(row: Row) -> Row:
    """They are meant for the full size."""
    return replace(row, speedup=None, slowdown=None, ceiling=None)


def facts(settings: Settings) -> dict[str, Any]:
    """Say what was measured, and on what."""
    return {
        "PostgreSQL": find(settings.major).version,
        "Python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "runs": f"{settings.runs} (A, C), {settings.cheap_runs} (others)",
        "scale": f"1/{settings.scale}",
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write(path: Path, values: dict[str, Any]) -> None:
    """Keep it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
