# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of one running server, and the clearing away of abandoned ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.rig.places import Account, locked, runtime_root


@dataclass(frozen=True, kw_only=True)
class Home:
    """A directory that is known to be in use for as long as `lock` is open anywhere.

    The lock is handed to the watcher. Only when both it and the owner are gone can somebody else
    take it, and does so to clear away what the two left.
    """

    path: Path
    lock: int

    @classmethod
    def make(cls) -> Home:
        """Make a fresh one, having removed those nobody owns any more."""
        root = runtime_root()
        with locked(root / ".lock"):
            reap(root)
            path = Path(tempfile.mkdtemp(dir=root))
            lock = os.open(path / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        path.chmod(0o711)
        home = cls(path=path, lock=lock)
        home.data.mkdir(mode=0o700)
        Account.current().own(home.data)
        return home

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.path / "data"

    def write(self, name: str, text: str) -> Path:
        """Write a file only the server's user may read."""
        path = self.path / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        Account.current().own(path)
        return path

    def remove(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self.lock)


def reap(root: Path) -> None:
    """Remove the directories below `root` that nobody holds, with servers still running there."""
    for path in root.iterdir():
        if not path.is_dir():
            continue
        try:
            lock = os.open(path / "in-use", os.O_RDWR)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _kill_server(path / "data")
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _kill_server(data: Path) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        if str(data) not in _command_line(pid):
            return
        os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while str(data) in _command_line(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    said = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout
