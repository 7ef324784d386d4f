# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the rig keeps things, and as whom the servers run.

The *cache* survives runs (server binaries, built data directories) and lies outside the source
tree. The *runtime* directory holds one directory per running server and is emptied by them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tests.rig.errors import RigError

MEMORY = Path("/dev/shm")
PLENTY = 4 << 30


class Switch(TypedDict, total=False):
    """The part of `subprocess.Popen`'s arguments that changes the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, kw_only=True)
class Account:
    """The operating system user the servers run as: PostgreSQL refuses to be root."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> Account:
        """Return `nobody` for root, and the calling user for everybody else."""
        if os.geteuid() != 0:
            return cls(uid=os.geteuid(), gid=os.getegid())
        entry = pwd.getpwnam("nobody")
        return cls(uid=entry.pw_uid, gid=entry.pw_gid)

    @property
    def foreign(self) -> bool:
        """Whether the servers run as somebody else than this process."""
        return self.uid != os.geteuid()

    def switch(self) -> Switch:
        """Return the arguments that make a child process run as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.foreign else {}

    def own(self, path: Path) -> None:
        """Hand a file or an (empty) directory to the account."""
        if self.foreign:
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Tell whether the account may pass through a directory and all its parents."""
        if not self.foreign:
            return os.access(path, os.X_OK)
        return all(
            where.stat().st_mode & stat.S_IXOTH or where.stat().st_uid == self.uid for where in (path, *path.parents)
        )


def cache_root() -> Path:
    """Return the directory for what is worth keeping between runs."""
    account = Account.current()
    if chosen := os.environ.get("LATCHKEY_CACHE"):
        candidates = [Path(chosen).expanduser().absolute()]
    elif account.foreign:
        candidates = [Path("/var/cache/latchkey"), Path("/var/tmp/latchkey")]
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        candidates = [Path(base).expanduser() / "latchkey"]
    return _first_usable(candidates, account, "the cache; set LATCHKEY_CACHE")


def runtime_root() -> Path:
    """Return the directory below which running servers live; in memory if there is plenty."""
    bases = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > PLENTY
    if roomy and "TMPDIR" not in os.environ:
        bases.insert(0, MEMORY)
    name = f"latchkey-rig-{os.geteuid()}"
    return _first_usable(
        [base / name for base in dict.fromkeys(bases)],
        Account.current(),
        "running servers; set TMPDIR",
    )


def _first_usable(candidates: list[Path], account: Account, purpose: str) -> Path:
    for path in candidates:
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            facts = path.lstat()
            mine = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if mine and not facts.st_mode & 0o022:
                path.chmod(0o711 if account.foreign else 0o700)
                if account.reaches(path):
                    return path
    tried = ", ".join(map(str, candidates))
    msg = f"no directory that is ours alone and open to the server's user for {purpose} ({tried})"
    raise RigError(msg)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes (and threads) on a file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def copy_tree(source: Path, target: Path, *, live: bool = False) -> None:
    """Copy a directory with owners and modes; in a `live` one files may vanish meanwhile."""
    done = subprocess.run(
        ["cp", "-Rp", f"{source}/.", str(target)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if line.strip()]
    if live:
        complaints = [line for line in complaints if "No such file" not in line]
    if done.returncode and (complaints or not live):
        msg = f"cannot copy {source}: {complaints[0] if complaints else done.returncode}"
        raise RigError(msg)
