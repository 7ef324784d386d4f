# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as values, as a table and as JSON."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

HEADINGS = ("", "what", "ours", "theirs", "ratio", "target", "met")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured. `runs` of the dear parts (A, C), `cheap_runs` of the others; `scale` shrinks."""

    major: int | None = None
    runs: int = 3
    cheap_runs: int = 5
    scale: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: the medians of all samples, and what they should be.

    `speedup`: ours takes at most 1/speedup of theirs. `slowdown`: at most slowdown times theirs. `ceiling`: at most
    that much.
    """

    part: str
    what: str
    against: str = ""
    unit: str = "s"
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    speedup: float | None = None
    slowdown: float | None = None
    ceiling: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return ours as a multiple of theirs."""
        if not self.ours or not self.theirs:
            return None
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def met(self) -> bool | None:
        """Tell whether the target is reached; None where there is none, or nothing was measured."""
        if self.ceiling is not None and self.ours:
            return statistics.median(self.ours) <= self.ceiling
        limit = 1 / self.speedup if self.speedup else self.slowdown
        return None if limit is None or self.ratio is None else self.ratio <= limit

    @property
    def target(self) -> str:
        """Return the target in words."""
        if self.ceiling is not None:
            return f"<= {self.ceiling:g} {self.unit}"
        if self.speedup:
            return f"<= 1/{self.speedup:g}"
        return f"<= {self.slowdown:g} x" if self.slowdown else ""

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        met = {True: "yes", False: "NO", None: ""}[self.met]
        sides = (_amount(self.ours, self.unit), _amount(self.theirs, self.unit))
        return (self.part, self.what, *sides, _ratio(self.ratio), self.target, met)

    def values(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {
            "part": self.part,
            "what": self.what,
            "against": self.against,
            "unit": self.unit,
            "ours": statistics.median(self.ours) if self.ours else None,
            "theirs": statistics.median(self.theirs) if self.theirs else None,
            "ratio": self.ratio,
            "target": self.target or None,
            "met": self.met,
            "ours_samples": list(self.ours),
            "theirs_samples": list(self.theirs),
            "note": self.note,
        }


@dataclass(kw_only=True)
class Samples:
    """Measurements of several things, by name."""

    by_name: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Keep one."""
        self.by_name.setdefault(name, []).append(value)

    def time(self, name: str, action: Callable[[], Any]) -> Any:
        """Keep how long something takes; return its result."""
        begin = time.perf_counter()
        result = action()
        self.add(name, time.perf_counter() - begin)
        return result

    def of(self, name: str) -> tuple[float, ...]:
        """Return all of one thing."""
        return tuple(self.by_name.get(name, ()))

    def median(self, name: str) -> float:
        """Return the median of one thing."""
        return statistics.median(self.by_name[name])


def table(rows: Iterable[Row]) -> str:
    """Return all rows aligned, each with what it is against and its note below."""
    known = list(rows)
    cells = [HEADINGS, *(row.cells() for row in known)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    indent = " " * (widths[0] + 4)
    for number in range(len(known), 0, -1):
        row = known[number - 1]
        remarks = (f"theirs: {row.against}" if row.against else "", row.note)
        lines[number + 1 : number + 1] = [indent + remark for remark in remarks if remark]
    return "\n".join(lines)


def _amount(samples: tuple[float, ...], unit: str) -> str:
    if not samples:
        return "-"
    middle = statistics.median(samples)
    return f"{middle:.3f} {unit}" if middle < 10 else f"{middle:.1f} {unit}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f} x" if ratio >= 0.5 else f"1/{1 / ratio:.1f}"
