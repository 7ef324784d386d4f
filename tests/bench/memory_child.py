# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process whose memory is measured: it takes its orders as JSON, and answers with what it needed."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from typing import Any

from tests.bench.product import answer

MIB = 2**20
# Kilobytes, but on macOS, where getrusage counts bytes.
UNIT = 1 if sys.platform == "darwin" else 1024


def peak() -> float:
    """Return this process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / MIB


def main() -> None:
    """Run one task, by the function or by the module."""
    import ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.run  # noqa: F401, PLC0415

    asked = json.load(sys.stdin)
    floor, begin = peak(), time.perf_counter()
    run = by_module if asked["door"] == "module" else by_function
    text = run(asked["arguments"], check=asked["check"], diff=asked["diff"])
    highest, seconds = peak(), time.perf_counter() - begin
    objects = json.loads(text)["coverage"]["objects"]
    said = {"peak": highest, "floor": floor, "seconds": seconds, "json": len(text) / MIB, "objects": objects}
    print(json.dumps(said))


def by_function(arguments: dict[str, Any], *, check: bool, diff: bool) -> str:
    """Do what both doors do, and serialise it."""
    return json.dumps(answer(arguments, check=check, diff=diff))


def by_module(arguments: dict[str, Any], *, check: bool, diff: bool) -> str:
    """Run the module's own `main`, which ends the process, as Ansible's wrapper would."""
    from ansible.module_utils import basic  # noqa: PLC0415

    from ansible_collections.latchkey.postgres.plugins.modules.pg_apono_bootstrap import main as module  # noqa: PLC0415

    modes = {"_ansible_check_mode": check, "_ansible_diff": diff}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **modes}}).encode()
    # ansible-core 2.19 and newer want to know how values are to be written.
    basic._ANSIBLE_PROFILE = "legacy"  # type: ignore[attr-defined, unused-ignore]
    spoken = io.StringIO()
    with contextlib.redirect_stdout(spoken), contextlib.suppress(SystemExit):
        module()
    return spoken.getvalue()


if __name__ == "__main__":
    main()
