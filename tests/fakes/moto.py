# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""moto, for what needs more of AWS than secrets; it is lenient, so rules are tested with `FakeSecretsManager`."""

from __future__ import annotations

import contextlib
import logging
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fakes.aws import aws_environment


@dataclass(frozen=True, kw_only=True)
class MotoServer:
    """A running moto."""

    url: str

    def environment(self) -> dict[str, str]:
        """Return the variables that bring AWS clients here."""
        return aws_environment(self.url)


@contextlib.contextmanager
def moto_server() -> Iterator[MotoServer]:
    """Run moto, empty. Its state belongs to the process: one at a time."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - it takes longer to import than most tests to run

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # Not through a proxy that the environment may name.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=10).close()  # noqa: S310
        yield MotoServer(url=url)
    finally:
        server.stop()
