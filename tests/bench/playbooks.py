# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timing real `ansible-playbook` runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOTHING: Sequence[Mapping[str, Any]] = ({"ansible.builtin.meta": "noop"},)


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A play of these tasks over these hosts, connection local."""

    tasks: Sequence[Mapping[str, Any]]
    hosts: Mapping[str, Mapping[str, Any]]
    collections: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, changed: bool) -> float:
        """Return the seconds from start to end; what else happens than is expected, is an error."""
        seconds, said = _play(self, self.tasks)
        found = sum(int(count) for count in re.findall(r"changed=(\d+)", said))
        if bool(found) is not changed:
            msg = f"changed={found}:\n{said}"
            raise RuntimeError(msg)
        return seconds

    def start(self) -> float:
        """Return the seconds of the same with nothing to do."""
        return _play(self, NOTHING)[0]


def _play(book: Playbook, tasks: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "module_defaults": book.defaults,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "ansible.cfg").touch()
        # JSON is YAML.
        (place / "play.yml").write_text(json.dumps([play]))
        (place / "hosts.yml").write_text(json.dumps({"all": {"hosts": book.hosts}}))
        begin = time.perf_counter()
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", place / "hosts.yml", place / "play.yml"],
            env=_environment(book, place),
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - begin
    if done.returncode:
        msg = f"ansible-playbook failed:\n{done.stdout}{done.stderr}"
        raise RuntimeError(msg)
    return seconds, done.stdout


def _environment(book: Playbook, place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": book.collections,
        # An empty one, in place of the user's.
        "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
        "ANSIBLE_HOME": str(place / "home"),
        # Ansible looks for it in the account's home, which need not be HOME.
        "ANSIBLE_REMOTE_TMP": str(place / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        **book.environment,
    }
