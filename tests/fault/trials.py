# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials on one server: a run is killed, another puts all right, and what there is then is looked at."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fault.operations import Trial, make_verifier

if TYPE_CHECKING:
    from tests.fault.ground import Ground

TRIES = 5  # for a kill at a random moment, which may come too late
RUNS = 3  # to put all right; one must do
LATEST = 0.97


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one trial. `runs`: how many it took until all was right."""

    operation: str
    variant: str
    place: str
    point: str
    hit: str
    killed: bool
    runs: int
    violations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How long a run takes, and how often it waits for an answer, if nobody kills it."""

    seconds: float
    steps: int


@dataclass(kw_only=True, eq=False)
class Trials:
    """`turn`: 0 or 1, whose turn it is among the servers to be killed after odd answers."""

    ground: Ground
    seed: int
    turn: int = 0

    @functools.cached_property
    def verifier(self) -> str:
        """Of everybody's password."""
        return make_verifier(self.ground)

    def trial(self, operation: type[Trial], variant: str) -> Trial:
        """One that has not begun."""
        return operation(ground=self.ground, variant=variant, verifier=self.verifier)

    def of(self, operation: type[Trial], *, count: int, share: float) -> Iterator[Result]:
        """So many at random moments, and this share of those after each answer."""
        measures: dict[str, Measure] = {}
        for variant in operation.variants:
            result, measures[variant] = self._whole(operation, variant)
            yield result
        for number in range(count):
            variant = operation.variants[number % len(operation.variants)]
            moments = random.Random(f"{self.seed} {self.ground.name} {operation.name} {number}")  # noqa: S311
            yield from self._at_random(operation, variant, measures[variant], moments)
        exact = [(v, n) for v, m in measures.items() for n in range(1, m.steps + 1) if n % 2 == self.turn]
        chosen = random.Random(f"{self.seed} {self.ground.name} {operation.name}").sample(  # noqa: S311
            exact, round(share * len(exact))
        )
        for variant, step in sorted(chosen):
            yield self._one(operation, variant, after=step, point=f"after answer {step} of {measures[variant].steps}")

    def _whole(self, operation: type[Trial], variant: str) -> tuple[Result, Measure]:
        """Nobody is killed: it takes so long, and nothing is wrong."""
        trial = self.trial(operation, variant)
        try:
            trial.prepare()
            outcome = self.ground.victim.run(trial.order())
            if outcome.steps is None or outcome.said is None or outcome.said.get("failed"):
                raise RuntimeError(f"{self.ground.name}: {operation.name} ({variant}) fails: {outcome.said}")
            runs, violations = self._put_right(trial)
            result = self._result(trial, point="never", hit="at its end", killed=False, runs=runs, wrong=violations)
            return result, Measure(seconds=outcome.seconds, steps=outcome.steps)
        finally:
            self._finish(trial)

    def _at_random(
        self, operation: type[Trial], variant: str, measure: Measure, moments: random.Random
    ) -> Iterator[Result]:
        for _try in range(TRIES):
            part = moments.uniform(0, LATEST)
            result = self._one(operation, variant, delay=part * measure.seconds, point=f"at {part:.0%} of its time")
            yield result
            if result.killed:
                return

    def _one(
        self,
        operation: type[Trial],
        variant: str,
        *,
        point: str,
        delay: float | None = None,
        after: int | None = None,
    ) -> Result:
        trial = self.trial(operation, variant)
        try:
            trial.prepare()
            outcome = self.ground.victim.run(trial.order(), delay=delay, after=after)
            self.ground.settle()
            trial.cut, hit = outcome.killed, trial.hit()
            runs, violations = self._put_right(trial)
            return self._result(trial, point=point, hit=hit, killed=outcome.killed, runs=runs, wrong=violations)
        finally:
            self._finish(trial)

    def _put_right(self, trial: Trial) -> tuple[int, tuple[str, ...]]:
        """How many runs it takes, and what was wrong after the first."""
        first: tuple[str, ...] = ()
        for number in range(1, RUNS + 1):
            said = self.ground.victim.run(trial.again()).said or {"failed": True, "msg": "the run gave no answer"}
            failed = [f"the next run fails: {said['msg']}"] if said.get("failed") else []
            found = [*failed, *trial.wrong(said), *self.ground.faults()]
            first = first or tuple(found)
            if not found:
                return number, first
        return RUNS + 1, first

    def _finish(self, trial: Trial) -> None:
        trial.close()
        trial.tidy()
        self.ground.clear()

    def _result(self, trial: Trial, *, point: str, hit: str, killed: bool, runs: int, wrong: tuple[str, ...]) -> Result:
        return Result(
            operation=trial.name,
            variant=trial.variant,
            place=self.ground.name,
            point=point,
            hit=hit,
            killed=killed,
            runs=runs,
            violations=wrong,
        )
