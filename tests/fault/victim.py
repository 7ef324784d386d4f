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
from azure.core.pipeline.transport import RequestsTransport
from botocore.client import BaseClient

from ansible_collections.latchkey.postgres.plugins.module_utils._access.run import GRANT
from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep import SWEEP
from ansible_collections.latchkey.postgres.plugins.module_utils._login import store_of
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import steps as rotation_steps
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.integration.access import through

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Store

DOORS = {"grant": GRANT, "sweep": SWEEP, "rotate": ROTATE}
# What a rotation does to the store.
WRITES = ("write_pending", "promote", "tag", "clear_pending")
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


def warm(first: dict[str, Any]) -> Store | None:
    """Make what all children can share: to make a client of the store takes longer than a whole run."""
    store = None
    checked = ArgumentSpecValidator(dict(SWEEP.arguments), **SWEEP.rules).validate(first["options"])
    cloud = store_of(checked.validated_parameters)
    if cloud is not None:
        store = access.open_store(cloud)
        mock.patch.object(access, "open_store", return_value=store).start()
    if first["engine"]:
        imitate_engine()
    gc.collect()
    gc.freeze()
    return store


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


def note(out: int, owner: Any, method: str) -> None:
    """Tell when a method is called and when it has returned; what was told survives the kill."""
    original = getattr(owner, method)

    def tell(event: str) -> None:
        os.write(out, json.dumps({"event": f"{method} {event}", "at": time.monotonic()}).encode() + b"\n")

    def noted(*arguments: Any, **options: Any) -> Any:
        tell("begins")
        answer = original(*arguments, **options)
        tell("ended")
        return answer

    setattr(owner, method, noted)


def child(order: dict[str, Any], out: int, store: Store | None) -> NoReturn:
    """Run the product."""
    steps = Steps(order["after"])
    steps.watch(psycopg.Connection, "wait")
    steps.watch(BaseClient, "_make_api_call")
    steps.watch(RequestsTransport, "send")
    if order["door"] == "rotate":
        note(out, rotation_steps, "execute_together")
        for method in WRITES:
            note(out, type(store), method)
    try:
        said = through(DOORS[order["door"]], order["options"])
        with os.fdopen(out, "w") as pipe:
            json.dump({"steps": steps.count, "said": said}, pipe)
    except Exception:  # noqa: BLE001 - whatever it is must not go on in what was the parent's stack
        traceback.print_exc()
    os._exit(0)


def run(order: dict[str, Any], store: Store | None) -> dict[str, Any]:
    """Run the product in a child, and tell how it ended."""
    source, target = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(source)
        child(order, target, store)
    os.close(target)
    text = _read(source, pid, order["delay"], start=None if order["from_write"] else start)
    status = os.waitpid(pid, 0)[1]
    lines = [json.loads(line) for line in text.splitlines()]
    events = [(line["event"], line["at"]) for line in lines if "event" in line]
    told = lines[-1] if os.WIFEXITED(status) and lines else {"steps": None, "said": None}
    ended = {"killed": os.WIFSIGNALED(status), "began": start, "seconds": time.monotonic() - start}
    return {**told, **ended, "events": events}


def _read(source: int, pid: int, delay: float | None, *, start: float | None) -> bytes:
    """Read all that the child says; kill it so long after the start or, without one, after it has told anything.

    It is not reaped yet, so the pid is its own.
    """
    text = b""
    while True:
        deadline = None if delay is None or start is None else start + delay
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([source], [], [], patience)[0]:
            os.kill(pid, signal.SIGKILL)
            delay = None
        elif part := os.read(source, 1 << 16):
            text += part
            start = time.monotonic() if start is None else start
        else:
            os.close(source)
            return text


def main() -> None:
    """Obey until nobody is there to give orders."""
    store = warm(json.loads(sys.stdin.readline()))
    print(flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), store)), flush=True)


if __name__ == "__main__":
    main()
