# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to make a connection or a statement fail on purpose."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from typing import Self

    from tests.rig.server import Server

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK = 65536


@dataclass(kw_only=True, eq=False)
class Proxy:
    """A TCP proxy on the loopback interface whose connections can be cut.

    By `cut()`; by itself once a client has written `after` times (libpq writes once per round
    trip, the TLS handshake included; the last write is not passed on); or before a write in which
    `pattern` occurs, which TLS hides: use `sslmode="disable"` and `Server(plain=True)`.
    With `refuse`, nobody gets through after a cut.
    """

    port_behind: int
    after: int | None = None
    pattern: bytes | None = None
    refuse: bool = False

    port: int = field(default=0, init=False)
    writes: int = field(default=0, init=False)
    was_cut: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _listener: socket.socket | None = field(default=None, init=False, repr=False)
    _open: set[socket.socket] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Stop listening and cut what is left."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.cut()
        return False

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        with self._lock:
            doomed, self._open = self._open, set()
            self.was_cut.set()
        for end in doomed:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            if self.refuse and self.was_cut.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.port_behind))
            with self._lock:
                self._open |= {client, server}
            for source, target, watched in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, target, watched), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, watched: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if watched and self._due(data):
                    self.cut()
                    return
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(end)

    def _due(self, data: bytes) -> bool:
        with self._lock:
            self.writes += 1
            counted_out = self.after is not None and self.writes > self.after
        return counted_out or (self.pattern is not None and self.pattern in data)


@contextlib.contextmanager
def hold_connections(
    server: Server, count: int, *, user: str | None = None, dbname: str = "postgres"
) -> Iterator[list[psycopg.Connection[tuple[Any, ...]]]]:
    """Keep connections open, to use up `max_connections` or to be in somebody's way."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect(user=user, dbname=dbname)) for dummy in range(count)]


@contextlib.contextmanager
def open_ddl(server: Server, dbname: str, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Keep an ALTER TABLE uncommitted; `table` is `schema.table`. Rolled back unless committed."""
    name = sql.Identifier(*table.split(".", 1))
    with contextlib.closing(server.connect(dbname=dbname, autocommit=False)) as conn:
        conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN rig_uncommitted int").format(name))
        yield conn
