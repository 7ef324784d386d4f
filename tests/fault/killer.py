# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that is killed, as seen by who kills it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
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
    """One run: of `grant` or `sweep`, with these options."""

    door: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; one that was killed said nothing."""

    killed: bool
    seconds: float
    steps: int | None
    said: dict[str, Any] | None


class Victim:
    """Runs the product in a process of its own; the product is loaded once. `engine`: as if on Amazon's own."""

    def __init__(self, environment: Mapping[str, str], options: Mapping[str, Any], *, engine: bool = False) -> None:
        self._first = {"options": {**options, "secret_store": STORE}, "engine": engine}
        path = f"{ROOT}{os.pathsep}{ROOT / '.venv' / 'collections'}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.victim"],
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

    def run(self, order: Order, *, delay: float | None = None, after: int | None = None) -> Outcome:
        """Run the product; kill it after so many seconds, or when it has got so many answers."""
        said = self._tell({"door": order.door, "options": dict(order.options), "delay": delay, "after": after})
        return Outcome(**json.loads(said))

    def _tell(self, what: Mapping[str, Any]) -> str:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the victim has no pipes")
        print(json.dumps(what), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError("the victim's parent has died")
        return answer
