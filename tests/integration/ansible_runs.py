# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook, run in a directory of its own with nothing of the user's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import clean_environment

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a run said; `kept` is what its tasks registered under the name `kept`."""

    code: int
    output: str
    kept: dict[str, Any]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The variables of a run: no cloud's, no server's, no setting of Ansible but ours."""
    mine = ("ANSIBLE", "PG", "LATCHKEY")
    kept = {name: value for name, value in clean_environment(os.environ).items() if not name.startswith(mine)}
    return {
        **kept,
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv" / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        **more,
    }


def play(
    home: Path, tasks: list[dict[str, Any]], *arguments: str, hosts: int = 1, env: Mapping[str, str], **variables: Any
) -> Played:
    """Run tasks on some hosts, all of them local; what is in the fact `kept` comes back, by host."""
    names = [f"host{number:02}" for number in range(hosts)]
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ kept | default({}) | to_json }}",
            "dest": f"{home}/kept-{{{{ inventory_hostname }}}}.json",
            "mode": "0600",
        },
        "no_log": True,
    }
    content = {"hosts": "all", "gather_facts": False, "vars": {**here, **variables}, "tasks": [*tasks, keep]}
    (home / "play.json").write_text(json.dumps([content]))
    (home / "hosts").write_text("\n".join(names))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts", "play.json", *arguments],
        cwd=home,
        env=environment(home, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    kept = {path.stem.removeprefix("kept-"): json.loads(path.read_text()) for path in home.glob("kept-*.json")}
    return Played(code=done.returncode, output=done.stdout, kept=kept)
