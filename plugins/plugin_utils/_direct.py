# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

"""The direct door: a module's function inside the Ansible worker, where nothing forces a process of its own."""

from __future__ import annotations

import os
import sys
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, hidden

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Door

HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


class DirectAction(ActionBase):
    """An action with the name of a module and the same function behind it."""

    door: t.ClassVar[Door]

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        variables = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, variables)
        if not self._may_run_here(variables):
            module = self._execute_module(task_vars=variables, wrap_async=self._task.async_val)
            return {**result, **module}
        return {**result, **self._answer()}

    def _may_run_here(self, variables: dict[str, t.Any]) -> bool:
        chosen = self._task.args.get("direct") or variables.get("latchkey_direct") or os.environ.get("LATCHKEY_DIRECT")
        if self._templar.template(chosen) == "never" or psycopg is None:
            return False
        interpreter = self._templar.template(variables.get("ansible_python_interpreter", "auto"))
        here = interpreter.startswith("auto") or os.path.realpath(interpreter) == os.path.realpath(sys.executable)
        task = self._task
        return (
            here
            and self._connection.transport == "local"
            and not (self._play_context.become or task.async_val or any(task.environment or ()))
        )

    def _answer(self) -> dict[str, t.Any]:
        checked = ArgumentSpecValidator(dict(self.door.arguments), **self.door.rules).validate(self._task.args)
        if checked.error_messages:
            said = checked.errors.msg
            if isinstance(checked.errors[0], UnsupportedError):
                said = f"Unsupported parameters for ({self._task.action}) module: {said}"  # as the module says it
            raise AnsibleActionFail(said)
        params = checked.validated_parameters
        secrets = checked._no_log_values | hidden(params)  # noqa: SLF001
        context = Context(check=self._task.check_mode, diff=self._task.diff)
        said = self.door.answer(params, context)
        shown = {key: HIDDEN if self._is_secret(key) and value else value for key, value in params.items()}
        said["invocation"] = {"module_args": shown}
        cleaned: dict[str, t.Any] = remove_values(said, secrets | context.secrets)
        return cleaned

    def _is_secret(self, option: str) -> bool:
        return bool(self.door.arguments.get(option, {}).get("no_log"))
