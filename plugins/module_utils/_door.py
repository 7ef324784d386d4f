# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The door between Ansible and a function of this collection.

A function takes checked options and a `Context` and returns a `Result`; it knows nothing of Ansible. It is reached by
two doors that give the same result: the module (a process of its own) and the action (inside the Ansible worker).
"""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import PSYCOPG_TRACEBACK, psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    LatchkeyError,
    ServerUnreachable,
)

LIBRARY = "psycopg"
SHORTEST = 6
# SQLSTATEs of a server that ends the session: an operator's order, a crash, a shutdown, a dropped database.
SHUTDOWN = ("57P01", "57P02", "57P03", "57P04")


@dataclass(frozen=True, kw_only=True)
class Context:
    """How Ansible runs the task. ``secrets`` that come up on the way are removed from all that is shown."""

    check: bool = False
    diff: bool = False
    secrets: set[str] = field(default_factory=set, repr=False)

    def hide(self, secret: str | None) -> None:
        """One that is too short would take letters out of every word, and so be read off what is left."""
        if secret and len(secret) >= SHORTEST:
            self.secrets.add(secret)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a function has to say; ``failure`` is one line, and the rest is returned with it."""

    changed: bool
    values: c.Mapping[str, t.Any] = field(default_factory=dict)
    diff: c.Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()
    failure: str | None = None
    failure_kind: str = DatabaseRefused.kind


Params = c.Mapping[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Door:
    """One plugin: its options, the rules between them, and the function behind it."""

    arguments: c.Mapping[str, t.Any]
    run: c.Callable[[Params, Context], Result]
    rules: c.Mapping[str, t.Any] = field(default_factory=dict)

    def answer(self, params: Params, context: Context) -> dict[str, t.Any]:
        """The result as Ansible wants it. Only what the server calls the primary message of an error is shown:
        its other parts can quote a statement, and so a password.
        """
        if PSYCOPG_TRACEBACK:
            return {"failed": True, "msg": missing_required_lib(LIBRARY), "exception": PSYCOPG_TRACEBACK}
        try:
            result = self.run(params, context)
        except LatchkeyError as error:
            return _failure(error)
        except psycopg.Error as error:
            return _failure(_explained(error, where=f"{params['login_host']}:{params['login_port']}"))
        return _as_dict(result)


def _explained(error: psycopg.Error, *, where: str) -> LatchkeyError:
    said = error.diag.message_primary
    if said is None or (error.sqlstate or "").startswith(SHUTDOWN):
        what = f"the connection was lost: {said}" if said else "the connection was lost"
        return ServerUnreachable(what, where=where, next_step="Run again: it goes on where it stopped")
    return DatabaseRefused(f"{said} (SQLSTATE {error.sqlstate})", where=where)


def _failure(error: LatchkeyError) -> dict[str, t.Any]:
    return {"failed": True, "changed": False, "msg": str(error), "error_kind": error.kind}


def _as_dict(result: Result) -> dict[str, t.Any]:
    said: dict[str, t.Any] = {"changed": result.changed, **result.values}
    if result.diff is not None:
        said["diff"] = dict(result.diff)
    if result.warnings:
        said["warnings"] = list(result.warnings)
    if result.failure is not None:
        said.update(failed=True, msg=result.failure, error_kind=result.failure_kind)
    return said


def run_module(door: Door) -> t.NoReturn:
    """The module door."""
    module = AnsibleModule(argument_spec=dict(door.arguments), supports_check_mode=True, **door.rules)
    module.no_log_values.update(hidden(module.params))
    context = Context(check=module.check_mode, diff=module._diff)  # noqa: SLF001
    said = door.answer(module.params, context)
    module.no_log_values.update(context.secrets)
    for warning in said.pop("warnings", ()):
        module.warn(warning)
    if said.pop("failed", False):
        module.fail_json(**said)
    module.exit_json(**said)


def hidden(params: Params) -> set[str]:
    """Secrets inside options that as a whole are none."""
    secrets = ("password", "passfile", "sslpassword")
    return {str(value) for key, value in params["connect_params"].items() if key in secrets}
