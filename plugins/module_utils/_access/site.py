# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""One server while a task works on it: its sessions, and what is read of it once."""

from __future__ import annotations

import contextlib
import functools
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._access.statements import administer
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog, sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import MEMBERSHIP_OPTIONS
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import read_known

if t.TYPE_CHECKING:
    import collections.abc as c

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import Known


@dataclass(kw_only=True)
class Site:
    """``session`` is with the maintenance database, where roles are made and the journal is."""

    session: Session
    login: Login
    server: Server
    check: bool
    _others: dict[str, Session] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return self.session.where

    @property
    def has_options(self) -> bool:
        """Whether memberships have INHERIT and SET options, and ADMIN is needed to change a role."""
        return self.server.version >= MEMBERSHIP_OPTIONS

    @functools.cached_property
    def graph(self) -> RoleGraph:
        """All roles of the server, as they were when it was first asked for."""
        return catalog.read_graph(self.session, server=self.server)

    @functools.cached_property
    def known(self) -> Known:
        return read_known(self.session)

    def database(self, name: str) -> Session:
        """The one session with a database, opened when it is first asked for."""
        if name not in self._others:
            self._others[name] = sessions.connect(self.login, database=name, read_only=self.check)
        return self._others[name]

    def close(self, name: str) -> None:
        if name in self._others:
            self._others.pop(name).close()

    def close_all(self) -> None:
        for name in tuple(self._others):
            self.close(name)


@contextlib.contextmanager
def open_site(login: Login, *, check: bool) -> c.Iterator[Site]:
    """A server that can be changed or, with ``check``, any that can be read."""
    with sessions.connect(login, read_only=check) as session:
        if not check:
            sessions.require_primary(session)
        site = Site(session=session, login=login, server=catalog.read_server(session), check=check)
        try:
            yield site
        finally:
            site.close_all()


def require_rights(site: Site, marker: str) -> None:
    """Say before anything is changed what the login lacks, and the statement that gives it."""
    server, me = site.server, sql.name(site.server.user).as_string(None)
    if not (server.create_role or server.superuser):
        raise DatabaseRefused(
            f"login {server.user} has no CREATEROLE",
            where=site.where,
            next_step=f"Log in as pg_apono_bootstrap's connector, or run as who may: ALTER ROLE {me} CREATEROLE",
        )
    administers = catalog.read_administers(site.session, role=marker)
    if administers is None:
        raise DatabaseRefused(
            f"the server has no role {marker}",
            where=site.where,
            next_step="Run pg_apono_bootstrap, which makes what access needs",
        )
    if site.has_options and not (administers or server.superuser):
        raise DatabaseRefused(
            f"login {server.user} has no ADMIN OPTION on {marker}",
            where=site.where,
            next_step="Run pg_apono_bootstrap, or as who may: " + administer(marker, server.user).as_string(None),
        )
