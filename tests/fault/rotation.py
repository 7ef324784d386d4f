# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations that are killed while a reader keeps on reading the secret and logging in."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes import FakeAzure, FakeSecretsManager, clean_environment
from tests.fault.killer import Order, Reader, Victim
from tests.fault.shelves import AwsShelf, AzureShelf
from tests.fault.trials import LATEST, RUNS, TRIES, Result
from tests.rig import shaped_server

if TYPE_CHECKING:
    import psycopg

    from tests.fault.killer import Attempt, Outcome
    from tests.fault.shelves import Held, Shelf
    from tests.integration.product import Row
    from tests.rig import ShapedServer

STRATEGIES = ("single", "admin", "alternate")
VARIANTS = ("first", "again")
# The services, each with a server of its shape: what is killed with the one is killed with the other.
PLACES = {"rds": 17, "azure": 15}
ADMIN_SECRET = "fault-admin"
FIRST = "pw-of-an-application"
TEAM = "data"
# A request that was on its way when its sender was killed arrives.
ON_ITS_WAY = 0.03
SLOW_STORE = 0.2
ALTER, PROMOTE = "execute_together", "promote"
PHASES = {
    "write_pending begins": "in prepare",
    "write_pending ended": "before apply",
    "execute_together begins": "in apply",
    "execute_together ended": "in verify",
    "promote begins": "in promote",
    "promote ended": "in confirm",
    "tag begins": "in finish",
    "tag ended": "in finish",
    "clear_pending begins": "in finish",
    "clear_pending ended": "at the end",
}


@dataclass(frozen=True, kw_only=True)
class Application:
    """Whose password is rotated."""

    login: str
    secret: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """A whole rotation as readers saw it: from ALTER to promote, and from the first refusal to the end of the last.

    `delay`: how long each answer of the store took.
    """

    operation: str
    place: str
    delay: float
    open: float
    felt: float


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A whole run: how long it takes, when the first write begins, and how often it waits for an answer."""

    seconds: float
    prepare: float
    steps: int


@dataclass(kw_only=True, eq=False)
class Arena:
    """A server, the store of its cloud, the process that is killed and the one that reads."""

    server: ShapedServer
    shelf: Shelf
    victim: Victim
    reader: Reader
    conn: psycopg.Connection[Row]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def name(self) -> str:
        """How to call it."""
        return f"{self.server.major}/{self.server.shape.name}"

    def application(self) -> Application:
        """Make one as its administrator does, and its secret."""
        number = next(self.numbers)
        one = Application(login=f"app_{number}", secret=f"orders-app-{number}")
        self.conn.execute(f"CREATE ROLE {one.login} LOGIN PASSWORD '{FIRST}'".encode())
        at = {"host": self.server.host, "port": self.server.port, "dbname": "postgres", "team": TEAM}
        self.shelf.put(one.secret, json.dumps({"username": one.login, "password": FIRST, **at}))
        return one

    def logs_in(self, text: str) -> bool:
        """Whether the server takes what a version of a secret says."""
        found = json.loads(text)
        return self.server.takes(user=found["username"], password=found["password"])


@contextlib.contextmanager
def arena(shape: str) -> Iterator[Arena]:
    """Start all of it."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(shaped_server(major=PLACES[shape], shape=shape))
        shelf: Shelf
        if shape == "rds":
            shelf = AwsShelf(fake=stack.enter_context(FakeSecretsManager()))
        else:
            shelf = AzureShelf(fake=stack.enter_context(FakeAzure()))
        shelf.put(ADMIN_SECRET, json.dumps({"username": server.admin, "password": server.passwords[server.admin]}))
        environment = {**clean_environment(os.environ), **shelf.environment()}
        address = {"login_host": server.host, "login_port": server.port, "ca_cert": str(server.ca)}
        reached = {"host": server.host, "port": server.port, "dbname": "postgres", "sslmode": "verify-full"}
        yield Arena(
            server=server,
            shelf=shelf,
            victim=stack.enter_context(Victim(environment, address, store=shelf.option)),
            reader=stack.enter_context(Reader(environment, shelf.option, {**reached, "sslrootcert": str(server.ca)})),
            conn=stack.enter_context(server.connect_admin()),
        )


@dataclass(kw_only=True, eq=False)
class Rotations:
    """The trials of one strategy; `known` is an application that was rotated before."""

    arena: Arena
    strategy: str
    seed: int
    known: Application | None = None
    before: Held = field(init=False)
    windows: list[Window] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How to call it."""
        return f"rotate, {self.strategy}"

    def of(self, *, kills: int, share: float) -> Iterator[Result]:
        """So many kills: this share of those after each answer, but half at most, and the others at any time."""
        measures: dict[str, Measure] = {}
        for variant in VARIANTS:
            result, measures[variant] = self._whole(variant)
            yield result
        moments = random.Random(f"{self.seed} {self.arena.name} {self.strategy}")  # noqa: S311
        every = [(variant, step) for variant in VARIANTS for step in range(1, measures[variant].steps + 1)]
        exact = moments.sample(every, min(round(share * len(every)), kills // 2))
        for number in range(kills - len(exact)):
            yield from self._at_random(number, measures, moments)
        for variant, step in sorted(exact):
            point = f"after answer {step} of {measures[variant].steps}"
            yield self._one(variant, self.arena.victim.run(self._begin(variant), after=step), point)
        for delay in (0.0, SLOW_STORE):
            for _run in range(max(1, round((10 if self.strategy == "single" else 5) * share))):
                yield self._whole("again", delay=delay)[0]

    def _at_random(self, number: int, measures: dict[str, Measure], moments: random.Random) -> Iterator[Result]:
        """Most of them hit when there is something to break."""
        variant = VARIANTS[number % len(VARIANTS)]
        for _try in range(TRIES):
            measure = measures[variant]
            writing = number % 5 > 0
            moment = moments.uniform(0, LATEST * (measure.seconds - (measure.prepare if writing else 0)))
            outcome = self.arena.victim.run(self._begin(variant), delay=moment, from_write=writing)
            point = f"{moment * 1000:.0f} ms after {'its first write' if writing else 'its start'}"
            yield self._one(variant, outcome, point)
            if outcome.killed:
                return
            measures[variant] = min(measure, measure_of(outcome), key=lambda one: one.seconds)

    # ------------------------------------------------------------------------------- one trial

    def _begin(self, variant: str) -> Order:
        """Let the reader read, and order a rotation that is due."""
        if variant == "first" or self.known is None:
            self.known = self.arena.application()
        self.before = self.arena.shelf.look(self.known.secret)
        self.arena.reader.start(self.known.secret)
        return self._order(self.known, max_age_days=0)

    def _order(self, application: Application, **options: Any) -> Order:
        server = self.arena.server
        known = {} if self.strategy == "single" else {"admin_secret": ADMIN_SECRET}
        asked = {
            "login_host": server.host,
            "login_port": server.port,
            "ca_cert": str(server.ca),
            "secret": application.secret,
            "secret_store": self.arena.shelf.option,
            "strategy": self.strategy,
        }
        return Order(door="rotate", options={**asked, **known, **options})

    def _whole(self, variant: str, *, delay: float = 0.0) -> tuple[Result, Measure]:
        """Nobody is killed: it takes so long, and readers fail only so long."""
        self.arena.shelf.fake.delay = delay
        try:
            outcome = self.arena.victim.run(self._begin(variant))
            if outcome.said is None or outcome.said.get("failed"):
                raise RuntimeError(f"{self.arena.name}: {self.name} ({variant}) fails: {outcome.said}")
            result = self._one(variant, outcome, "never", delay=delay)
        finally:
            self.arena.shelf.fake.delay = 0.0
        return result, measure_of(outcome)

    def _one(self, variant: str, outcome: Outcome, point: str, *, delay: float = 0.0) -> Result:
        """Look at what is left, run again, and look at what readers met."""
        application = self.known
        if application is None:
            raise RuntimeError("nothing was begun")
        time.sleep(ON_ITS_WAY)
        left = self.arena.shelf.look(application.secret)
        wrong = [] if any(map(self.arena.logs_in, left.texts)) else ["lost: no version in the store logs in"]
        runs, again, found = self._put_right(application, left.pending)
        attempts = self.arena.reader.stop()
        window = between(outcome, again)
        wrong += [*found, *self._refused(attempts, window)]
        if not outcome.killed:
            self._measure(attempts, outcome, delay)
        elif wrong:
            self.known = None  # the next trial is one of its own
        return Result(
            operation=self.name,
            variant=variant,
            place=self.arena.name,
            point=point,
            hit=phase(outcome) if outcome.killed else "at its end",
            killed=outcome.killed,
            runs=runs,
            violations=tuple(wrong),
        )

    def _put_right(self, application: Application, pending: str | None) -> tuple[int, Outcome, list[str]]:
        """How many runs it takes, the first of them, and what was wrong after it."""
        first: tuple[Outcome, list[str]] | None = None
        for number in range(1, RUNS + 1):
            outcome = self.arena.victim.run(self._order(application, max_age_days=30))
            said = outcome.said or {"failed": True, "msg": "the run gave no answer"}
            failed = [f"the next run fails: {said['msg']}"] if said.get("failed") else []
            wrong = [*failed, *self._wrong(application, pending)]
            first = first or (outcome, wrong)
            if not wrong:
                return number, *first
        if first is None:
            raise RuntimeError("no run at all")
        return RUNS + 1, *first

    def _wrong(self, application: Application, pending: str | None) -> list[str]:
        """What is not as it must be when all is right; `pending` is what the run that was killed had prepared."""
        held = self.arena.shelf.look(application.secret)
        rotated = held.current != self.before.current
        found = {
            "readers do not log in": not self.arena.logs_in(held.current),
            "something is still pending": held.pending is not None,
            "what was prepared is not what readers have": pending is not None and held.current != pending,
            "what the document said beside is gone": json.loads(held.current).get("team") != TEAM,
            "nothing tells that it was rotated": rotated and not held.dated,
            "the former password is still valid": (
                rotated and self.strategy != "alternate" and self.arena.logs_in(self.before.current)
            ),
            "the former login is gone": self.strategy == "alternate" and not self.arena.logs_in(self.before.current),
        }
        return [what for what, is_so in found.items() if is_so]

    def _refused(self, attempts: Sequence[Attempt], window: tuple[float, float] | None) -> list[str]:
        """With two logins nobody is ever refused; with one, only who came between ALTER and promote."""
        allowed = window if self.strategy != "alternate" else None
        late = [
            one for one in attempts if one.error and (allowed is None or one.end < allowed[0] or one.begin > allowed[1])
        ]
        if not late:
            return []
        begin = attempts[0].begin
        return [f"{len(late)} of {len(attempts)} reads failed, after {late[0].end - begin:.3f} s: {late[0].error}"]

    def _measure(self, attempts: Sequence[Attempt], outcome: Outcome, delay: float) -> None:
        found, failed = between(outcome, outcome), [one for one in attempts if one.error]
        if found is None:
            raise RuntimeError(f"{self.arena.name}: {self.name} took no window")
        felt = failed[-1].end - failed[0].asked if failed else 0.0
        self.windows.append(
            Window(operation=self.name, place=self.arena.name, delay=delay, open=found[1] - found[0], felt=felt)
        )


def measure_of(outcome: Outcome) -> Measure:
    """What a run that came to its end took."""
    begin = next(at for event, at in outcome.events if event == "write_pending begins")
    return Measure(seconds=outcome.seconds, prepare=begin - outcome.began, steps=outcome.steps or 0)


def phase(outcome: Outcome) -> str:
    """How far a run had come."""
    return PHASES[outcome.events[-1][0]] if outcome.events else "before prepare"


def between(outcome: Outcome, again: Outcome) -> tuple[float, float] | None:
    """From when on the server had a password that readers had not, and until when.

    If the next run sets the password, the one before had not.
    """
    altered = [at for one in (again, outcome) for event, at in one.events if event == f"{ALTER} begins"]
    if not altered:
        return None
    promoted = [at for one in (outcome, again) for event, at in one.events if event == f"{PROMOTE} ended"]
    return altered[0], promoted[-1] if promoted else outcome.began + outcome.seconds + ON_ITS_WAY


def rotate(
    shape: str, names: Sequence[str], *, seed: int, kills: int, share: float, results: list[Result]
) -> list[Window]:
    """All trials with the store of one cloud."""
    windows: list[Window] = []
    with arena(shape) as one:
        for name in names:
            rotations = Rotations(arena=one, strategy=name, seed=seed)
            results.extend(rotations.of(kills=kills, share=share))
            windows += rotations.windows
    return windows
