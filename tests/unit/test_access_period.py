# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and moments as people write them."""

from __future__ import annotations

import datetime as dt

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access.period import duration, moment, shown
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption

UTC = dt.timezone.utc


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90m", 5400),
        ("4h", 14400),
        ("1d12h", 129600),
        ("1d2h3m4s", 93784),
        ("PT4H", 14400),
        ("PT90M", 5400),
        ("P1D", 86400),
        ("P1DT12H", 129600),
        ("P1W", 604800),
        ("0h30m", 1800),
    ],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert duration(text, option="duration") == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "4",
        "h",
        "4 h",
        "4h ",
        "4h\n",
        "-4h",
        "+4h",
        "4.5h",
        "1e3h",
        "4H",
        "4h30",
        "30m4h",
        "4hours",
        "P",
        "PT",
        "P1Y",
        "P1M",
        "P1DT",
        "PT-4H",
        "4h; DROP ROLE x",
        "infinity",
        "0s",
        "0d0h",
        "PT0S",
        "9" * 9 + "d",
        "9" * 12 + "d",
        "9" * 5000 + "h",
        "9" * 300 + "s",
    ],
)
def test_what_is_no_duration_is_refused_with_the_option_and_what_to_write(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"^duration: ") as refused:
        duration(text, option="duration")
    assert refused.value.next_step
    assert len(str(refused.value)) < 6000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-31T16:00:00Z", dt.datetime(2030, 1, 31, 16, tzinfo=UTC)),
        ("2030-01-31T16:00:00z", dt.datetime(2030, 1, 31, 16, tzinfo=UTC)),
        ("2030-01-31T18:00:00+02:00", dt.datetime(2030, 1, 31, 16, tzinfo=UTC)),
        ("2030-01-31 10:30:00-05:30", dt.datetime(2030, 1, 31, 16, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_with_its_offset(text: str, expected: dt.datetime) -> None:
    assert moment(text, option="expires_at") == expected
    assert moment(text, option="expires_at").utcoffset() == dt.timedelta()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "now",
        "infinity",
        "2030-01-31",
        "2030-01-31T16:00:00",
        "2030-02-31T16:00:00Z",
        "2030-01-31T25:00:00Z",
        "2030-01-31T16:00:00 Europe/Berlin",
        "1893456000",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_a_moment_that_is_not_the_same_everywhere_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"^expires_at: ") as refused:
        moment(text, option="expires_at")
    assert refused.value.next_step


def test_a_moment_is_shown_in_utc() -> None:
    there = dt.datetime(2030, 1, 31, 18, 0, 0, 999, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert shown(there) == "2030-01-31T16:00:00Z"
