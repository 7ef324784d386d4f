# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Through ansible-playbook: the module and the action give the same result and show no password."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration import ansible_runs
from tests.integration.product import connector, login_options, run_in
from tests.rig import ShapedServer, shaped_server

ROOT = Path(__file__).parents[2]
SECRET, ADMINS = "Conn3ctorSecret", "Adm1nSecret"
ARGUMENT = re.compile(r'"(connector_password|login_password|update_password|login_user|connect_timeout)": (\S+?),?\n')
PLAYBOOK = """
- hosts: servers
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{python}"
  tasks:
    - name: With options
      latchkey.postgres.pg_apono_bootstrap:
{options}
        direct: "{direct}"
      diff: true
      register: first
    - name: With the environment
      latchkey.postgres.pg_apono_bootstrap:
        connector_password: "{secret}"
        update_password: always
        direct: "{direct}"
      register: second
    - name: In check mode
      latchkey.postgres.pg_apono_bootstrap:
        state: absent
        direct: "{direct}"
      check_mode: true
      register: third
    - name: A mistake
      latchkey.postgres.pg_apono_bootstrap:
        connector: pg_mine
        direct: "{direct}"
      ignore_errors: true
      register: fourth
    - name: An unknown word
      latchkey.postgres.pg_apono_bootstrap:
        state: gone
        direct: "{direct}"
      ignore_errors: true
      register: fifth
    - name: A password in connect_params, and a database that is not there
      latchkey.postgres.pg_apono_bootstrap:
        connect_params:
          password: "{admins}"
        login_password: "not it"
        databases: [nowhere]
        direct: "{direct}"
      ignore_errors: true
      register: sixth
    - ansible.builtin.copy:
        content: "{{{{ [first, second, third, fourth, fifth, sixth] | to_json }}}}"
        dest: "{results}"
        mode: "0600"
      no_log: true
"""


@dataclass(frozen=True)
class Played:
    """One run of ansible-playbook."""

    results: list[dict[str, Any]]
    output: str


def play(server: ShapedServer, where: Path, *, direct: str) -> Played:
    """Run the playbook at -vvvv; what differs between two servers of one kind is made the same."""
    where.mkdir()
    options = {**login_options(server), "connector_password": SECRET}
    text = PLAYBOOK.format(
        python=sys.executable,
        options="\n".join(f"        {key}: {json.dumps(value)}" for key, value in options.items()),
        direct=direct,
        secret=SECRET,
        admins=ADMINS,
        results=where / "results.json",
    )
    (where / "play.yml").write_text(text)
    (where / "hosts").write_text("[servers]\none\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts", "-vvvv", "play.yml"],
        cwd=where,
        env=environment(server, where),
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    results = (where / "results.json").read_text().replace(str(server.home), "HOME").replace(str(server.port), "PORT")
    return Played(results=[tidy(one) for one in json.loads(results)], output=output)


def environment(server: ShapedServer, where: Path) -> dict[str, str]:
    """What the second task takes its options from."""
    return ansible_runs.environment(
        where,
        ANSIBLE_REMOTE_TMP=str(where / "tmp"),
        PGHOST=server.host,
        PGPORT=str(server.port),
        PGUSER=server.admin,
        PGPASSWORD=ADMINS,
        PGDATABASE="admindb",
        PGSSLMODE="verify-full",
        PGSSLROOTCERT=str(server.ca),
        PGCONNECT_TIMEOUT="7",
    )


def tidy(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the answer to which door it came through."""
    arguments = result.get("invocation", {}).get("module_args", {})
    arguments.pop("direct", None)
    return result


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[ShapedServer, Played]]]:
    """The same playbook through each door, against fresh servers of the same kind."""
    base, found = tmp_path_factory.mktemp("doors"), {}
    with contextlib.ExitStack() as stack:
        for direct in ("auto", "never"):
            server = stack.enter_context(shaped_server(shape="azure"))
            run_in(server, "postgres", f"ALTER ROLE {server.admin} PASSWORD '{ADMINS}'")
            server.passwords[server.admin] = ADMINS
            found[direct] = (server, play(server, base / direct, direct=direct))
        yield found


Both = dict[str, tuple[ShapedServer, Played]]


def test_each_door_was_the_one_asked_for(both: Both) -> None:
    assert "AnsiballZ_pg_apono_bootstrap" not in both["auto"][1].output
    assert "AnsiballZ_pg_apono_bootstrap" in both["never"][1].output


@pytest.mark.parametrize("number", range(6))
def test_both_doors_give_the_same_result(both: Both, number: int) -> None:
    direct, module = (both[direct][1].results[number] for direct in ("auto", "never"))
    assert json.dumps(direct, indent=1, sort_keys=True) == json.dumps(module, indent=1, sort_keys=True)


@pytest.mark.parametrize("direct", ["auto", "never"])
def test_each_door_does_the_work(both: Both, direct: str) -> None:
    server, played = both[direct]
    first, second, third, fourth, fifth, sixth = played.results
    assert first["changed"] is True
    assert len(first["diff"]["after"].splitlines()) > 200
    with connector(server, "appdb_open", password=SECRET) as conn:
        conn.execute("INSERT INTO beta_s.t_plain (v) VALUES ('x')")
    assert (second["changed"], second["statements"]) == (False, []), "the same server, found by PG* variables"
    assert second["server"] == first["server"]
    assert (third["changed"], "failed" in third and third["failed"]) == (True, False)
    assert fourth["error_kind"] == "invalid_option"
    assert "pg_mine" in fourth["msg"]
    assert "gone" in fifth["msg"]
    assert "'nowhere' matches no database" in sixth["msg"]


def test_both_doors_show_the_arguments_alike_with_secrets_left_out(both: Both) -> None:
    """But for options that are refused at once: the module repeats all of them, the action shows none."""
    shown = {direct: set(ARGUMENT.findall(played.output)) for direct, (_server, played) in both.items()}
    assert shown["auto"] == shown["never"]
    assert ("connector_password", '"VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"') in shown["auto"]


@pytest.mark.parametrize("direct", ["auto", "never"])
def test_at_the_highest_verbosity_no_password_is_shown(both: Both, direct: str) -> None:
    _server, played = both[direct]
    assert '"sql": "CREATE ROLE' in played.output, "the output must show what is returned"
    for secret in (SECRET, ADMINS, "not it", "SCRAM-SHA-256$"):
        assert secret not in played.output
        assert secret not in json.dumps(played.results)
