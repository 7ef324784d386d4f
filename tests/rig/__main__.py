# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a server by hand: `python -m tests.rig start --major 16 --shape rds --variant stock`.

Prints how to reach it as JSON and keeps it until standard input ends or a signal comes.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from tests.rig import MAJORS, SHAPES, VARIANTS, RigError, Server, ShapedServer, find, shaped_server


def main() -> int:
    """Start, tell, wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    parser.add_argument("command", choices=["start"])
    parser.add_argument("--major", type=int, choices=MAJORS, help="default: the newest at hand")
    parser.add_argument("--shape", choices=[*SHAPES, "plain"], default="plain")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0])
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if args.shape == "plain":
            chosen = Server(binaries=find(args.major))
        else:
            chosen = shaped_server(major=args.major, shape=args.shape, variant=args.variant)
        with chosen as server:
            print(json.dumps(facts(server), indent=2), flush=True)
            sys.stdin.read()
    except RigError as exc:
        print(f"tests.rig: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def facts(server: Server) -> dict[str, object]:
    """Say all that a client needs."""
    return {
        "host": server.host,
        "port": server.port,
        "ca": str(server.ca),
        "log": str(server.log),
        "version": server.binaries.version,
        "superuser": server.superuser,
        "admin": server.admin if isinstance(server, ShapedServer) else server.superuser,
        "passwords": {server.superuser: server.password, **server.passwords},
    }


if __name__ == "__main__":
    sys.exit(main())
