# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook, run in a directory of its own with nothing of the user's settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.fakes import FakeAzure, FakeSecretsManager, clean_environment

ROOT = Path(__file__).parents[2]
VAULT = "people"
HERE = {"connection": "local", "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}}


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """What ansible-playbook said; `results` is what its hosts kept."""

    code: int
    output: str
    results: dict[str, dict[str, Any]]

    @property
    def recap(self) -> dict[str, tuple[int, int]]:
        """The numbers of changed and of failed tasks, by host."""
        line = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=\d+ +failed=(\d+)", re.M)
        return {name: (int(changed), int(failed)) for name, changed, failed in line.findall(self.output)}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A directory with an inventory, whose groups say what cloud a host is in."""

    path: Path
    aws: FakeSecretsManager
    azure: FakeAzure

    def inventory(self, group: str, **hosts: dict[str, Any]) -> None:
        """Add hosts to a group."""
        place = self.path / "inventory.yml"
        content = yaml.safe_load(place.read_text()) if place.exists() else {}
        known = content.setdefault(group, {"hosts": {}})["hosts"]
        known.update(hosts)
        place.write_text(yaml.safe_dump(content))

    def play(self, role: str, **options: Any) -> None:
        """Write play.yml, which gives the role these options and keeps what it found."""
        keep = {
            "content": f"{{{{ {role}_result | to_json }}}}",
            "dest": f"{self.path}/kept/{{{{ inventory_hostname }}}}.json",
        }
        play = {
            "hosts": "all",
            "gather_facts": False,
            "roles": [{"role": f"latchkey.postgres.{role}", **{f"{role}_{k}": v for k, v in options.items()}}],
            "post_tasks": [{"copy": keep, "changed_when": False, "check_mode": False, "no_log": True, **HERE}],
        }
        (self.path / "play.yml").write_text(yaml.safe_dump([play]))

    def run(self, *arguments: str, playbook: str = "play.yml", **variables: Any) -> Run:
        program, kept = Path(sys.executable).with_name("ansible-playbook"), self.path / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        done = subprocess.run(
            [program, "-i", "inventory.yml", "-e", json.dumps(variables), playbook, *arguments],
            cwd=self.path,
            env=environment(self.path, **{**self.aws.environment(), **self.azure.environment("secret")}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found = {place.stem: json.loads(place.read_text()) for place in kept.glob("*.json")}
        return Run(code=done.returncode, output=done.stdout, results=found)

    def store(self, name: str, content: dict[str, Any]) -> None:
        """Make a secret in AWS, as somebody would who set the server up."""
        self.aws.create({"Name": name, "SecretString": json.dumps(content), "ClientRequestToken": uuid.uuid4().hex})

    def value(self, shape: str, name: str) -> dict[str, Any]:
        """The current value of a secret in the store of a shape's cloud, from behind the scenes."""
        vault = self.azure.vaults[VAULT]
        text = self.aws.secrets[name].value() if shape == "rds" else vault.secrets[name].latest.value
        found: dict[str, Any] = json.loads(text or "")
        return found
