# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what our task returned for each host, and how long it took, beside Ansible's ordinary output."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

# A playbook has one of them.
ACTIONS = {
    f"latchkey.postgres.pg_{name}" for name in ("apono_bootstrap", "access_grant", "access_sweep", "rotate_credentials")
}


class CallbackModule(CallbackBase):
    """Writes to the file that TASK_RESULTS names."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_results"

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self._begun: dict[str, float] = {}
        self._results: dict[str, Any] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Start the clock."""
        if task.action in ACTIONS:
            self._begun[host.get_name()] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep the result."""
        if result._task.action in ACTIONS:
            name = result._host.get_name()
            seconds = time.monotonic() - self._begun[name]
            self._results[name] = {**result._result, "seconds": seconds}

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write them down, with the number of changed tasks of every host."""
        for name in stats.processed:
            self._results.setdefault(name, {})["changed_tasks"] = stats.changed.get(name, 0)
        Path(os.environ["TASK_RESULTS"]).write_text(json.dumps(self._results, default=str))
