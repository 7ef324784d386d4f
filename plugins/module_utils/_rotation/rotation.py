# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""One rotation while a run works on it: what the store holds, and the sessions with the server."""

from __future__ import annotations

import contextlib
import datetime as dt
import typing as t
from dataclasses import dataclass, field

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    DatabaseRefused,
    SecretMissing,
    ServerUnreachable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import ROTATIONS, only_run
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import guards, probe
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import (
    SECOND,
    Answer,
    Held,
    Probe,
    Strategy,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import CURRENT, PENDING, PREVIOUS

if t.TYPE_CHECKING:
    import collections.abc as c

    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.options import Order
    from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.setters import Setter
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Store, Version

# A login that only reads may well have this default, and check mode has it of its own.
OWN_DEFAULTS = ("user", "database", "database user", "client")


@dataclass(kw_only=True)
class Rotation:
    """``session`` is with the maintenance database as ``login`` and holds the lock; a step notes what it has done.

    ``foreseen``: in check mode, the user whom readers would get.
    """

    order: Order
    store: Store
    context: Context
    administrator: Login | None
    refusal: str
    session: Session
    login: Login
    current: Held
    pending: Held | None = None
    previous: Held | None = None
    setter: Setter | None = None
    finished_at: dt.datetime | None = None
    foreseen: str | None = None
    steps: list[str] = field(default_factory=list)
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.before = self.current
        self.sessions = [self.session]

    @property
    def where(self) -> str:
        return self.session.where

    def reread(self) -> None:
        """What the store holds now; the previous only when it is asked for."""
        self.current = read_current(self.order, self.store, self.context)
        self.pending = read(self.order, self.store, self.context, PENDING)

    def read_previous(self) -> Held | None:
        if self.previous is None:
            self.previous = read(self.order, self.store, self.context, PREVIOUS)
        return self.previous

    def probe(self, held: Held, *, database: str | None = None) -> Probe:
        return probe.probe(self.order.login(held.credentials, database=database), refusal=self.refusal)

    def open(self, login: Login) -> Session:
        """A session that lasts as long as this rotation."""
        if login == self.login:
            return self.session
        session = sessions.connect(login, read_only=self.context.check)
        self.sessions.append(self.opened.enter_context(session))
        return self.sessions[-1]


def read(order: Order, store: Store, context: Context, stage: str) -> Held | None:
    try:
        return _parsed(order, context, store.read(order.name, stage=stage), where=f"{order.where}, {stage}")
    except SecretMissing:
        return None


def read_current(order: Order, store: Store, context: Context) -> Held:
    held = _parsed(order, context, store.read(order.name), where=order.where)
    guards.require_of_server(order.address, held.credentials, where=order.where)
    guards.require_own(held.credentials, where=order.where)
    return held


def _parsed(order: Order, context: Context, found: Version, *, where: str) -> Held:
    credentials = document.parse(found.text, where=where, username=order.fallback)
    context.hide(credentials.password)
    return Held(version=found.id, credentials=credentials)


@contextlib.contextmanager
def begin(order: Order, store: Store, context: Context, administrator: Login | None) -> c.Iterator[Rotation]:
    """Alone on the server, with a session of somebody whom it lets in."""
    current = read_current(order, store, context)
    with contextlib.ExitStack() as opened:
        if administrator is not None:
            _require_other(order, administrator, current)
            session = opened.enter_context(sessions.connect(administrator, read_only=context.check))
            guards.require_login(session, current.user)
        refusal = probe.learn_refusal(order.login(current.credentials))
        login = administrator
        if login is None:
            login, session = _let_in(order, store, context, current, refusal=refusal)
            opened.enter_context(session)
        guards.require_no_pooler(session)
        sessions.require_primary(session, sources=OWN_DEFAULTS, or_check=False)
        if not context.check:
            opened.enter_context(only_run(session, lock=ROTATIONS))
        yield Rotation(
            order=order,
            store=store,
            context=context,
            administrator=administrator,
            refusal=refusal,
            session=session,
            login=login,
            current=current,
            opened=opened,
        )


def _require_other(order: Order, administrator: Login, current: Held) -> None:
    ours = {current.user}
    if order.strategy is Strategy.ALTERNATE:
        ours |= {current.user + SECOND, current.user.removesuffix(SECOND)}
    if administrator.user in ours:
        raise DatabaseRefused(
            f"the administrator is {administrator.user}, whose password is to be rotated",
            where=administrator.where,
            next_step="Name another login, or use strategy single",
        )


def _let_in(order: Order, store: Store, context: Context, current: Held, *, refusal: str) -> tuple[Login, Session]:
    """As readers log in; else with what an earlier run has left."""
    for stage in (CURRENT, PENDING, PREVIOUS):
        held = current if stage == CURRENT else read(order, store, context, stage)
        if held is None:
            continue
        login = order.login(held.credentials)
        try:
            return login, sessions.connect(login, read_only=context.check)
        except ServerUnreachable as error:
            if probe.read(error, login, refusal=refusal) is not Answer.REFUSED:
                raise
    raise lost(order, current.user)


def lost(order: Order, user: str) -> DatabaseRefused:
    return DatabaseRefused(
        f"no password in the secret {order.name} is that of {user}: neither the current, the pending nor the previous",
        where=order.address.where,
        next_step=(
            "See who has changed it, and if its VALID UNTIL is over. Then store the right one in the secret, or use"
            " strategy admin with force, which gives the login the password in the secret. An administrator's own is"
            " reset in the cloud's console"
        ),
    )
