# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill runs at any moment: `make fault`, or `python -m tests.fault --count 50 --only revoke,single`.

So many kills of the access modules at random moments and, with 500 of them, one after each answer of the server or the
store that a run waits for; with fewer a part of these. Twice as many of a rotation, these included, with each strategy
and each store. After each one run more must put all right, which the superuser, the people themselves and readers of
the secret look at.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.fakes import FakeSecretsManager, clean_environment
from tests.fault.ground import Ground
from tests.fault.killer import Victim
from tests.fault.operations import EXISTING, FRESH, OPERATIONS, OTHER, PASSWORD
from tests.fault.rotation import PLACES as ROTATED
from tests.fault.rotation import STRATEGIES, Window, rotate
from tests.fault.trials import Result, Trials
from tests.integration.access import DATABASE, bootstrapped, connector_options
from tests.integration.product import run_in
from tests.rig import RigError, shaped_server

COUNT = 500
ROTATIONS = 2  # for each kill of the access modules
KNOWN = (*OPERATIONS, *STRATEGIES)
HOOK = (
    "CREATE SCHEMA engine",
    "GRANT USAGE ON SCHEMA engine TO PUBLIC",
    """CREATE FUNCTION engine.rds_iam(text, text, text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
       AS $$ BEGIN EXECUTE format('%s rds_iam %s %I', $1, $2, $3); END $$""",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server. `engine`: whether it has a hook like Amazon's own, by which logins by token can be made."""

    major: int
    shape: str
    engine: bool = False

    def __str__(self) -> str:
        return f"{self.major}/{self.shape}"


PLACES = (Place(major=15, shape="azure"), Place(major=17, shape="rds"))
TOKENS = Place(major=17, shape="rds", engine=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, look, tell."""
    options = parse(arguments)
    print(f"seed {options.seed}", flush=True)
    begin = time.monotonic()
    results: list[Result] = []
    windows: list[Window] = []
    failures = [*kill_access(options, results), *kill_rotations(options, results, windows)]
    code = tell(results, seconds=time.monotonic() - begin)
    tell_windows(windows)
    print("".join(f"tests.fault: {line}\n" for line in failures), end="", file=sys.stderr)
    return 1 if failures else code


def kill_access(options: argparse.Namespace, results: list[Result]) -> list[str]:
    """Kill runs of the access modules; return what could not be tried."""
    names = [name for name in options.only if name in OPERATIONS]
    others = [name for name in names if name != "token"]
    work = {place: others for place in PLACES if others} | ({TOKENS: ["token"]} if "token" in names else {})
    each = options.count / max(len(names), 1)
    with ThreadPoolExecutor(max(len(work), 1)) as pool:
        runs = {
            place: pool.submit(
                run,
                place,
                some,
                seed=options.seed,
                count=math.ceil(each if place.engine else each / len(PLACES)),
                share=min(1.0, options.count / COUNT),
                results=results,
            )
            for place, some in work.items()
        }
        return list(complaints(runs))


def kill_rotations(options: argparse.Namespace, results: list[Result], windows: list[Window]) -> list[str]:
    """Kill rotations; return what could not be tried."""
    names = [name for name in options.only if name in STRATEGIES]
    with ThreadPoolExecutor(len(ROTATED)) as pool:
        runs = {
            shape: pool.submit(
                rotate,
                shape,
                names,
                seed=options.seed,
                kills=math.ceil(ROTATIONS * options.count / len(ROTATED) / len(names)),
                share=min(1.0, options.count / COUNT),
                results=results,
            )
            for shape in ROTATED
            if names
        }
        failures = list(complaints(runs))
    for one in runs.values():
        windows += [] if one.exception() else one.result()
    return failures


def complaints(runs: Mapping[Any, Future[Any]]) -> Iterator[str]:
    """Yield what went wrong with the trials themselves."""
    for place, one in runs.items():
        try:
            one.result()
        except (RigError, RuntimeError, psycopg.Error) as error:
            yield f"{place}: {error}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="kills at random moments; default: %(default)s")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: another one each time")
    parser.add_argument(
        "--only", type=chosen, default=list(KNOWN), metavar="A,B", help=f"of {', '.join(KNOWN)}; default: all"
    )
    return parser.parse_args(arguments)


def chosen(text: str) -> list[str]:
    """Read a list of operations."""
    names = text.split(",")
    if not set(names) <= set(KNOWN):
        msg = f"{text!r}: the operations are {', '.join(KNOWN)}"
        raise argparse.ArgumentTypeError(msg)
    return names


def run(place: Place, names: Sequence[str], *, seed: int, count: int, share: float, results: list[Result]) -> None:
    """All trials of one server; where one is killed after odd answers, it is even ones on the other."""
    with prepared(place) as ground:
        trials = Trials(ground=ground, seed=seed, turn=(seed + place.major // 2) % 2)
        for name in names:
            results.extend(trials.of(OPERATIONS[name], count=count, share=share))


@contextlib.contextmanager
def prepared(place: Place) -> Iterator[Ground]:
    """Start a server where somebody keeps two profiles in use, and all that trials use has been whole once."""
    with contextlib.ExitStack() as stack:
        settings = {"rds.extensions": "none"} if place.engine else {}
        server = stack.enter_context(shaped_server(major=place.major, shape=place.shape, settings=settings))
        bootstrapped(server)
        run_in(server, "postgres", f"CREATE ROLE {EXISTING} LOGIN PASSWORD '{PASSWORD}'", *HOOK)
        store = stack.enter_context(FakeSecretsManager())
        environment = {**clean_environment(os.environ), **store.environment()}
        victim = stack.enter_context(Victim(environment, connector_options(server), engine=place.engine))
        conn, app = (stack.enter_context(server.connect(dbname=name)) for name in ("postgres", DATABASE))
        ground = Ground(server=server, victim=victim, store=store, conn=conn, app=app)
        keep(ground)
        yield ground


def keep(ground: Ground) -> None:
    """Let a person keep two profiles in use; and see what those that trials make are when they are whole."""
    keeper = Trials(ground=ground, seed=0).trial(OPERATIONS["extend"], "plain")
    keeper.given("fault-keep", "kim@example.com", duration="8h")
    keeper.given("fault-keep-other", "kim@example.com", access=OTHER, duration="8h")
    ground.baseline = ground.look()
    keeper.given("fault-fresh", "kim@example.com", access=FRESH)
    ground.remember_profiles()
    keeper.done(keeper.revoke("fault-fresh"))
    ground.clear()


def tell(results: Sequence[Result], *, seconds: float) -> int:
    """Print what came of it; whether anything was wrong."""
    rows = [("operation", "kills", "runs needed", "violations", "where they hit")]
    for name in dict.fromkeys(result.operation for result in results):
        some = [result for result in results if result.operation == name]
        rows.append((name, *counted(some), hits(some)))
    rows.append(("all", *counted(results), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    kills = sum(result.killed for result in results)
    print(f"{seconds:.0f} s, {seconds / max(kills, 1):.2f} s per kill")
    wrong = [result for result in results if result.violations]
    for result in wrong:
        print(f"{result.operation} ({result.variant}) on {result.place}, killed {result.point}, {result.hit}:")
        print("".join(f"    {line}\n" for line in result.violations), end="")
    return 1 if wrong or not kills else 0


def tell_windows(windows: Sequence[Window]) -> None:
    """Print how long readers were refused in rotations that nobody killed."""
    for name, delay in sorted({(window.operation, window.delay) for window in windows}):
        for place in sorted({window.place for window in windows}):
            some = [one for one in windows if (one.operation, one.delay, one.place) == (name, delay, place)]
            if not some:
                continue
            told = [
                f"{what} median {statistics.median(times) * 1000:.0f} ms, at most {max(times) * 1000:.0f} ms"
                for what, times in (
                    ("from ALTER to promote", [one.open for one in some]),
                    ("refused to the reader", [one.felt for one in some]),
                )
            ]
            answers = f"answers after {delay * 1000:.0f} ms" if delay else "answers at once"
            print(f"{name} on {place}, {len(some)} whole runs, {answers}: {'; '.join(told)}")


def counted(results: Sequence[Result]) -> tuple[str, str, str]:
    """Kills, runs that were needed after one, and violations."""
    return (
        str(sum(result.killed for result in results)),
        str(max((result.runs for result in results), default=0)),
        str(sum(bool(result.violations) for result in results)),
    )


def hits(results: Sequence[Result]) -> str:
    """Where they hit."""
    found: Mapping[str, int] = {
        hit: sum(result.killed and result.hit == hit for result in results)
        for hit in dict.fromkeys(result.hit for result in results if result.killed)
    }
    return ", ".join(f"{hit} {number}" for hit, number in found.items())


if __name__ == "__main__":
    sys.exit(main())
