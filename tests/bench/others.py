# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other collections to measure against, taken out of the `ansible` package that goes with this ansible-core."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ansible.release import __version__ as core

from tests.rig.places import cache_root, locked


def collection(name: str) -> Path:
    """Return a collections directory that has `namespace/name`."""
    # ansible 11 came with ansible-core 2.18, 12 with 2.19, and so on
    series = int(core.split(".")[1]) - 7
    target = cache_root() / f"{name.replace('/', '-')}-{series}"
    with locked(cache_root() / f"{target.name}.lock"), tempfile.TemporaryDirectory(dir=cache_root()) as scratch:
        if not target.is_dir():
            _download(f"ansible=={series}.*", Path(scratch))
            wheel = next(Path(scratch).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                wanted = [one for one in archive.namelist() if one.startswith(f"ansible_collections/{name}/")]
                archive.extractall(Path(scratch) / "unpacked", wanted)
            (Path(scratch) / "unpacked").rename(target)
    return target


def version(where: Path, name: str) -> str:
    """Return the version of what was unpacked."""
    manifest = (where / "ansible_collections" / name / "MANIFEST.json").read_text()
    found = re.search(r'"version": "([^"]+)"', manifest)
    return found[1] if found else "?"


def _download(requirement: str, place: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(place), requirement], check=True, capture_output=True)
