# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one server and outlive nobody: started by path, imports nothing of the rig.

    watcher.py HOME UID GID PROGRAM [ARGUMENT...]

Standard input is a pipe whose other end only the owner holds. Its end of file, which the death of
the owner causes too, however it died, stops the server at once and removes HOME. The byte `k`
stops the server in good order and keeps HOME.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

PATIENCE = 20.0


def main(home: str, uid: str, gid: str, *command: str) -> int:
    """Wait for the server to end, by itself or on the owner's order."""
    switch: dict[str, Any] = {}
    if os.geteuid() != int(uid):
        switch = {"user": int(uid), "group": int(gid), "extra_groups": []}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/", **switch)
    orders: list[bytes] = []
    threading.Thread(target=obey, args=(server, orders), daemon=True).start()
    status = server.wait()
    if orders == [b""]:
        shutil.rmtree(home, ignore_errors=True)
    return 0 if orders else (abs(status) or 1)


def obey(server: subprocess.Popen[bytes], orders: list[bytes]) -> None:
    """Read one order, pass it on, and insist."""
    orders.append(os.read(0, 1))
    server.send_signal(signal.SIGINT if orders[0] else signal.SIGQUIT)
    time.sleep(PATIENCE)
    server.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
