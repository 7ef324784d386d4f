# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy in front of the fakes: it leads to them, and nowhere else."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("trustme")

from tests.fakes import ConnectProxy, connect_proxy


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    """A proxy that knows one name, which leads to someone who says everything twice."""
    with socket.create_server(("127.0.0.1", 0)) as echo:

        def serve() -> None:
            client = echo.accept()[0]
            with client:
                client.sendall(client.recv(100) * 2)

        threading.Thread(target=serve, daemon=True).start()
        with connect_proxy({"known.example.com": echo.getsockname()[1]}.get) as running:
            yield running


def ask(proxy: ConnectProxy, target: str) -> tuple[socket.socket, bytes]:
    """Ask for a tunnel, and return the status line."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return client, client.recv(1000)


def test_a_known_name_is_connected(proxy: ConnectProxy) -> None:
    """Both ways, until one end closes."""
    client, status = ask(proxy, "Known.example.com:443")
    with client:
        assert status.startswith(b"HTTP/1.0 200 ")
        client.sendall(b"twice ")
        assert client.recv(100) == b"twice twice "
        assert client.recv(100) == b""
    assert (proxy.tunnels, proxy.refused) == (["Known.example.com"], [])


@pytest.mark.parametrize("target", ["other.example.com:443", "known.example.com:80"])
def test_all_else_is_refused(proxy: ConnectProxy, target: str) -> None:
    """Other names, and other ports."""
    client, status = ask(proxy, target)
    client.close()
    assert status.startswith(b"HTTP/1.0 502 ")
    assert (proxy.tunnels, proxy.refused) == ([], [target.split(":", maxsplit=1)[0]])


def test_plain_requests_get_no_answer(proxy: ConnectProxy) -> None:
    """As from an address where there is nobody: an error would be one of the host's."""
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    client.request("GET", "http://169.254.169.254/metadata")
    with pytest.raises(http.client.RemoteDisconnected):
        client.getresponse()
    assert proxy.refused == ["http://169.254.169.254/metadata"]


def test_tunnels_end_with_the_proxy() -> None:
    """Nobody goes on talking to a fake that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with connect_proxy({"any.example.com": silent.getsockname()[1]}.get) as proxy:
            client = ask(proxy, "any.example.com:443")[0]
        with client:
            assert client.recv(100) == b""
