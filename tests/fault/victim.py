# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has loaded the product. On orders it runs it in a child of its own, and kills that when told to.

It has no threads and no connections, so that it may fork. An order is a line of JSON, and so is what came of it.
"""

from __future__ import annotations

import gc
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

import psycopg
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from botocore.client import BaseClient

from ansible_collections.latchkey.postgres.plugins.module_utils._access.run import GRANT
from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep import SWEEP
from ansible_collections.latchkey.postgres.plugins.module_utils._login import store_of
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.integration.access import through

if TYPE_CHECKING:
    from psycopg.sql import Composable

DOORS = {"grant": GRANT, "sweep": SWEEP}
GIVEN_BY_ENGINE = re.compile(rb'(GRANT|REVOKE) "rds_iam" (TO|FROM) "([^"]+)"')


class Steps:
    """How often the product has waited for an answer of the server or of the store; after so many it is killed."""

    def __init__(self, limit: int | None) -> None:
        self.count, self._limit = 0, limit

    def watch(self, owner: Any, method: str) -> None:
        """Count the calls of a method."""
        original = getattr(owner, method)

        def counted(*arguments: Any, **options: Any) -> Any:
            answer = original(*arguments, **options)
            self.count += 1
            if self.count == self._limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(owner, method, counted)


def warm(first: dict[str, Any]) -> None:
    """Make what all children can share: to make a client of the store takes longer than a whole run."""
    checked = ArgumentSpecValidator(dict(SWEEP.arguments), **SWEEP.rules).validate(first["options"])
    cloud = store_of(checked.validated_parameters)
    if cloud is not None:
        mock.patch.object(access, "open_store", return_value=access.open_store(cloud)).start()
    if first["engine"]:
        imitate_engine()
    gc.collect()
    gc.freeze()


def imitate_engine() -> None:
    """Do as the hook of Amazon's engine: who made a role may put it into rds_iam without ADMIN OPTION on it."""
    true = Session.execute

    def execute(self: Session, command: Composable) -> None:
        text = command.as_bytes(self.connection)
        hooked = GIVEN_BY_ENGINE.sub(rb"SELECT engine.rds_iam('\1', '\2', '\3')", text)
        if hooked == text:
            true(self, command)
        else:
            self.connection.execute(hooked, prepare=False)

    mock.patch.object(Session, "execute", execute).start()


def child(order: dict[str, Any], out: int) -> NoReturn:
    """Run the product."""
    steps = Steps(order["after"])
    steps.watch(psycopg.Connection, "wait")
    steps.watch(BaseClient, "_make_api_call")
    try:
        said = through(DOORS[order["door"]], order["options"])
        with os.fdopen(out, "w") as pipe:
            json.dump({"steps": steps.count, "said": said}, pipe)
    except Exception:  # noqa: BLE001 - whatever it is must not go on in what was the parent's stack
        traceback.print_exc()
    os._exit(0)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Run the product in a child, and tell how it ended."""
    source, target = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(source)
        child(order, target)
    os.close(target)
    text = _read(source, pid, None if order["delay"] is None else start + order["delay"])
    status = os.waitpid(pid, 0)[1]
    told = json.loads(text) if os.WIFEXITED(status) and text else {"steps": None, "said": None}
    return {**told, "killed": os.WIFSIGNALED(status), "seconds": time.monotonic() - start}


def _read(source: int, pid: int, deadline: float | None) -> bytes:
    """Read all that the child says; kill it when its time has come. It is not reaped yet, so the pid is its own."""
    text = b""
    while True:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([source], [], [], patience)[0]:
            os.kill(pid, signal.SIGKILL)
            deadline = None
        elif part := os.read(source, 1 << 16):
            text += part
        else:
            os.close(source)
            return text


def main() -> None:
    """Obey until nobody is there to give orders."""
    warm(json.loads(sys.stdin.readline()))
    print(flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
