# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""How long: durations as people write them."""

from __future__ import annotations

import datetime as dt
import re

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption

# 4h, 90m, 1d12h; or ISO 8601 without years and months, whose length is not fixed.
PLAIN = re.compile(r"(?:(?P<days>\d+)d)?(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")
ISO = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?"
)

LONGEST = dt.timedelta(days=36525)  # a moment that is further away may have no date


def duration(text: str, *, option: str) -> dt.timedelta:
    """More than nothing, and no more than the calendar holds."""
    found = PLAIN.fullmatch(text) or ISO.fullmatch(text)
    parts = {unit: number for unit, number in (found.groupdict() if found else {}).items() if number}
    if not parts:
        raise InvalidOption(f"{option}: {text!r} is not a duration", next_step="Write 4h, 90m, 1d12h or PT4H")
    try:
        length = dt.timedelta(**{unit: int(number) for unit, number in parts.items()})
    except (OverflowError, ValueError):  # Python reads no number of thousands of digits
        length = dt.timedelta.max
    if length > LONGEST:
        raise InvalidOption(f"{option}: {text[:30]} is too long", next_step="Write 4h, 90m, 1d12h or PT4H")
    if not length:
        raise InvalidOption(f"{option}: {text} is no time at all", next_step="Give at least 1s")
    return length


def moment(text: str, *, option: str) -> dt.datetime:
    """A moment that means the same everywhere."""
    try:
        found = dt.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        utc = found.astimezone(dt.timezone.utc) if found.tzinfo else None
    except (ValueError, OverflowError):
        utc = None
    if utc is None:
        raise InvalidOption(
            f"{option}: {text!r} is not a moment with its offset from UTC",
            next_step="Write it as 2030-01-31T16:00:00Z or 2030-01-31T18:00:00+02:00",
        )
    return utc


def shown(when: dt.datetime) -> str:
    return when.astimezone(dt.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
