# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP proxy that brings some host names to servers of ours, and nobody to any other."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.fakes.service import HttpServer

CHUNK = 65536
HTTPS = 443


@dataclass(frozen=True, kw_only=True)
class ConnectProxy:
    """A running proxy; `tunnels` and `refused` list the names that were asked for."""

    port: int
    tunnels: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The proxy's address, for HTTPS_PROXY."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def connect_proxy(route: Callable[[str], int | None]) -> Iterator[ConnectProxy]:
    """Bring CONNECTs for a host's port 443 to the local port that `route` names; None is 502.

    Plain requests get no answer, as if they went to an address where nobody listens: an error
    would be an answer of the host to the clients that look for a metadata service.
    """

    class Tunnel(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.close_connection = True
            host, port = self.path.rsplit(":", 1)
            behind = route(host.lower()) if port == str(HTTPS) else None
            if behind is None:
                proxy.refused.append(host)
                self.send_error(502, "No such host")
                return
            proxy.tunnels.append(host)
            with socket.create_connection(("127.0.0.1", behind)) as server:
                self.send_response_only(200, "Connection established")
                self.end_headers()
                back = threading.Thread(target=pump, args=(server, self.connection), daemon=True)
                back.start()
                pump(self.connection, server)
                back.join()

        def handle_plain(self) -> None:
            self.close_connection = True
            proxy.refused.append(self.path)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_plain  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = HttpServer(Tunnel)
    proxy = ConnectProxy(port=server.port)
    try:
        yield proxy
    finally:
        server.stop()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source ends, and end the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
