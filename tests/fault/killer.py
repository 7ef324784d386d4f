# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that is killed and the one that reads meanwhile, as seen by who kills and looks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing import Self

ROOT = Path(__file__).parents[2]
STORE = {"provider": "aws"}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run: of `grant`, `sweep` or `rotate`, with these options."""

    door: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; one that was killed said nothing. `events`: what a rotation did, and when."""

    killed: bool
    began: float
    seconds: float
    steps: int | None
    said: dict[str, Any] | None
    events: Sequence[tuple[str, float]]


class Servant:
    """A process that takes a line of JSON and answers with one."""

    def __init__(self, module: str, environment: Mapping[str, str], first: Mapping[str, Any]) -> None:
        self._name, self._first = module, first
        path = f"{ROOT}{os.pathsep}{ROOT / '.venv' / 'collections'}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONPATH": path},
        )

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        self._tell(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        """End it."""
        self._process.kill()
        self._process.communicate()
        return False

    def _tell(self, what: Mapping[str, Any]) -> str:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError(f"{self._name} has no pipes")
        print(json.dumps(what), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} has died")
        return answer


class Victim(Servant):
    """Runs the product in a process of its own; the product is loaded once. `engine`: as if on Amazon's own."""

    def __init__(
        self,
        environment: Mapping[str, str],
        options: Mapping[str, Any],
        *,
        engine: bool = False,
        store: Mapping[str, str] | None = None,
    ) -> None:
        first = {"options": {**options, "secret_store": store or STORE}, "engine": engine}
        super().__init__("tests.fault.victim", environment, first)

    def run(
        self, order: Order, *, delay: float | None = None, after: int | None = None, from_write: bool = False
    ) -> Outcome:
        """Run the product; kill it after so many seconds, or when it has got so many answers.

        `from_write`: the seconds count from a rotation's first write.
        """
        when = {"delay": delay, "after": after, "from_write": from_write}
        return Outcome(**json.loads(self._tell({"door": order.door, "options": dict(order.options), **when})))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One reading of the secret from `begin` to `asked`, and the login with what it said until `end`."""

    begin: float
    asked: float
    end: float
    error: str | None


class Reader(Servant):
    """Reads a secret as its readers do and logs in with that, again and again."""

    def __init__(self, environment: Mapping[str, str], store: Mapping[str, str], server: Mapping[str, Any]) -> None:
        super().__init__("tests.fault.reader", environment, {"store": dict(store), "server": dict(server)})

    def start(self, secret: str) -> None:
        """Begin; it has read once when this returns."""
        self._tell({"secret": secret})

    def stop(self) -> list[Attempt]:
        """Read once more and stop; return what all attempts came to."""
        return [Attempt(**one) for one in json.loads(self._tell({"secret": None}))]
