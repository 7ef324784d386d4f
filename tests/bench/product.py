# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as both of its doors call it, in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.rig import ShapedServer

ROOT = Path(__file__).parents[2]
# `make bench` names it; a run by hand need not.
COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(ROOT / ".venv" / "collections")
sys.path.extend(path for path in COLLECTIONS.split(os.pathsep) if path not in sys.path)


def login(server: ShapedServer) -> dict[str, Any]:
    """Return the login options of the server's administrator."""
    return {
        "login_host": server.host,
        "login_port": server.port,
        "login_user": server.admin,
        "login_password": server.passwords[server.admin],
        "ca_cert": str(server.ca),
    }


def bootstrap(server: ShapedServer, **options: Any) -> dict[str, Any]:
    """Run the task; anything but success is an error here."""
    return answer({**login(server), **options})


def answer(arguments: dict[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """Run the function behind the doors."""
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: PLC0415

    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.run import BOOTSTRAP  # noqa: PLC0415
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context  # noqa: PLC0415

    checked = ArgumentSpecValidator(dict(BOOTSTRAP.arguments)).validate(arguments)
    said = {"failed": True, "msg": checked.error_messages}
    if not checked.error_messages:
        said = BOOTSTRAP.answer(checked.validated_parameters, Context(check=check, diff=diff))
    if said.get("failed"):
        raise RuntimeError(said["msg"])
    return said


def expect(result: dict[str, Any], *, changed: bool) -> dict[str, Any]:
    """A measurement of work that was not done would be worth nothing."""
    if result["changed"] is not changed or result["coverage"]["ratio"] != 1.0:
        msg = f"changed is {result['changed']}, coverage is {result['coverage']}"
        raise RuntimeError(msg)
    return result
