# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make quickstart` as a newcomer runs it, and interrupts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psycopg
import pytest

from tests.quickstart.access import EXPECTED, MOMENT, Visit
from tests.quickstart.rotation import Reader, Rotation

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.quickstart"]
FIXTURE = 195
LONGEST = 300  # seconds, on a machine that is busy with other tests


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that the quickstart's servers live below, so that theirs are told from others'."""
    from tests.rig.places import Account  # noqa: PLC0415

    memory = Path("/dev/shm")
    short = (memory if memory.is_dir() else Path("/tmp")) / f"quickstart-{os.getpid()}-{tmp_path.name[-12:]}"
    short.mkdir(mode=0o755)
    assert Account.current().reaches(short)
    yield short
    assert processes(short) == []
    subprocess.run(["rm", "-r", short], check=True)


def processes(place: Path) -> list[str]:
    """Return the command lines that mention the directory, of others than this test."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(place) in line]


def environment(place: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1", **more}


def rows(output: str) -> dict[str, list[str]]:
    """Return the table: its heads with the cells of both servers."""
    return {cells[0]: cells[1:] for line in output.splitlines() if len(cells := re.split(r"  +", line.strip())) == 3}


def shows_more_than_the_vendor_reaches_and_what_a_person_meets(output: str) -> None:
    """Assert it of what the quickstart says."""
    table = rows(output)
    assert table["PostgreSQL"][0].split(".")[0].isdigit()
    for version, vendor, ours in zip(
        table["PostgreSQL"], table["appdb_open: vendor's SQL"], table["appdb_open: Latchkey"], strict=True
    ):
        assert ours == f"{193 if int(version.split('.')[0]) < 16 else 145} of {FIXTURE}"
        assert int(vendor.split()[0]) < 50
    assert table["all databases: vendor's SQL"][0].split()[2] == table["all databases: Latchkey"][0].split()[2]
    assert all(cell.endswith("changed=0") for cell in table["second run"])
    if any(version.startswith("17") for version in table["PostgreSQL"]):
        assert "GRANT ALL PRIVILEGES ON SCHEMA" in output
    assert {head: cells for head, cells in table.items() if head in EXPECTED} == {
        "ada reads": ["yes", "yes"],
        "ada writes": ["refused", "refused"],
        "after the revoke, her session": ["ended", "ended"],
        "after the revoke, a new login": ["refused", "refused"],
        "after the revoke, her password": ["gone from the secret", "gone from the secret"],
        f"grace's session after her {MOMENT}": ["goes on", "goes on"],
        "grace's new login": ["refused", "refused"],
        "after the sweep, her session": ["ended", "ended"],
        "open logins of people": ["0", "0"],
    }
    assert {head: table[head] for head in ("strategy", "readers that failed", "the password before", "again")} == {
        "strategy": ["single", "alternate"],
        "readers that failed": ["0", "0"],
        "the password before": ["refused", "valid until the next"],
        "again": ["not due", "not due"],
    }
    assert table["readers that had to try again"][1] == "0"
    assert re.search(r"You have READ_ONLY on appdb_open in beta_s until \S+Z:\s+postgresql://ada_\S+@", output)


@pytest.mark.parametrize(
    ("strategy", "seen", "complaints"),
    [
        ("single", {"logins": 9, "tried_again": 2}, []),
        ("single", {"logins": 9, "failures": 1}, ["readers that failed: 1"]),
        ("alternate", {"logins": 9, "tried_again": 2}, ["readers that had to try again: 2"]),
        ("alternate", {}, ["nobody logged in while it was rotated"]),
    ],
)
def test_what_a_reader_meets_is_a_complaint_if_it_is_not_what_it_should_be(
    strategy: str, seen: dict[str, int], complaints: list[str]
) -> None:
    found = Rotation(
        name="orders",
        strategy=strategy,
        answer={"username": "app"},
        seconds=1,
        reader=Reader(fleet=mock.Mock(), name="orders", **seen),
        before="refused" if strategy == "single" else "valid until the next",
        again={"action": "none", "due": False},
    )
    assert found.complaints == complaints


def test_the_quickstart_shows_what_it_is_for_and_keeps_its_servers_if_asked(place: Path) -> None:
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(place, KEEP="1"),
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = re.search(r"Stop all with: kill (\d+)", done.stdout)
    assert found
    try:
        shows_more_than_the_vendor_reaches_and_what_a_person_meets(done.stdout)
        said = done.stdout.partition("sslmode=verify-full")[2]
        server = re.search(r"(host=\S+ port=(\d+) sslrootcert=\S+ dbname=\S+)", said)
        login = re.search(r"(user=apono_connector password=\S+)", said)
        assert server
        assert login
        with psycopg.connect(f"{server[1]} {login[1]} sslmode=verify-full") as conn:
            assert conn.execute("SELECT count(*) FROM beta_s.t_plain").fetchone() == (0,)
    finally:
        os.kill(int(found[1]), signal.SIGTERM)
    until_nothing_runs(place)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(server[2]))) != 0
    assert [path for path in place.rglob("*") if path.name in {"data", "inventory.yml"}] == []


def test_what_a_person_meets_is_a_complaint_if_it_is_not_what_it_should_be() -> None:
    right = list(EXPECTED.values())
    wrong = [*right[:-1], "1"]
    said = [Visit(name="orders", server=mock.Mock(), found=found).complaints for found in (right, wrong)]
    assert said == [[], ["open logins of people: 1"]]


def test_an_interrupted_quickstart_stops_its_servers_and_does_not_claim_success(place: Path) -> None:
    with subprocess.Popen(
        COMMAND,
        cwd=ROOT,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout
        for line in running.stdout:
            if line.startswith("PLAY ["):
                break
        assert processes(place)
        # As the terminal does it: to all processes in the foreground.
        os.killpg(running.pid, signal.SIGINT)
        said = running.stdout.read()
        assert running.wait(timeout=30) != 0
    # Ansible may have said much before that.
    assert said.splitlines()[-1] == "quickstart: interrupted, the servers are stopped"
    until_nothing_runs(place)


def test_a_failed_playbook_fails_the_quickstart(place: Path) -> None:
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(place, ANSIBLE_HOST_PATTERN_MISMATCH="error", ANSIBLE_INVENTORY_ENABLED="ini"),
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 1
    assert "quickstart: ansible-playbook ended with" in done.stderr
    assert "Latchkey" not in done.stdout


def until_nothing_runs(place: Path) -> None:
    deadline = time.monotonic() + 20
    while processes(place):
        assert time.monotonic() < deadline, processes(place)
        time.sleep(0.1)
