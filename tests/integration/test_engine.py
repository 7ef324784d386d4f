# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The privilege engine for other grantees than the connector: what an access profile will ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import catalog
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, connect
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    Question,
    read_known,
    read_snapshot,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import make_plan, missing_defaults
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.reconcile import Outcome, reconcile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    Entitlement,
    Kind,
    Plan,
    Scope,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rig import ShapedServer

READER = "reader"
READ_ONLY = {Kind.SCHEMA: ("USAGE",), Kind.TABLE: ("SELECT",), Kind.SEQUENCE: ("SELECT",)}


def provide(server: ShapedServer, *, scope: Scope) -> Outcome[Snapshot]:
    """Make `reader`, a login of nobody, hold READ_ONLY in the scope of appdb_open."""
    login = Login(host=server.host, port=server.port, user=server.admin, password=server.admin, ca_cert=str(server.ca))
    with connect(login, database="appdb_open") as session:
        facts = catalog.read_server(session)
        graph = catalog.read_graph(session, server=facts)
        question = Question(
            entitlement=Entitlement(grantee=READER, privileges=READ_ONLY),
            scope=scope,
            known=read_known(session),
            platform=graph.platform,
            grantee=graph.roles[READER].oid,
        )

        def plan(found: Snapshot) -> Plan:
            common = {"entitlement": question.entitlement, "known": question.known}
            defaults = missing_defaults(found, scope=scope, creators=found.creators, **common)
            return make_plan(found.gaps, defaults, graph=graph, database_owner=found.database_owner, **common)

        return reconcile(session, look=lambda: read_snapshot(session, question), plan=plan, graph=graph, check=False)


def make_reader(server: ShapedServer) -> None:
    with server.connect_admin(dbname="appdb_open") as conn:
        conn.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")


def test_tables_by_pattern_are_readable_and_nothing_else_is(shaped: Callable[..., ShapedServer], major: int) -> None:
    server = shaped(major=major, shape="rds", variant="stock")
    make_reader(server)
    outcome = provide(server, scope=Scope(schemas=("alpha_s",), objects=("t_*",)))
    assert not outcome.uncovered
    with server.connect(user=READER, dbname="appdb_open", password=READER) as conn:
        assert conn.execute("SELECT count(*) FROM alpha_s.t_plain").fetchone() == (0,)
        for refused in (
            "INSERT INTO alpha_s.t_plain (v) VALUES ('x')",
            "SELECT 1 FROM alpha_s.v_plain",
            "SELECT 1 FROM beta_s.t_plain",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(refused)
        grantable = conn.execute("SELECT has_table_privilege('alpha_s.t_plain', 'SELECT WITH GRANT OPTION')").fetchone()
        assert grantable == (False,)


def test_a_scope_of_one_schema_covers_its_new_tables_and_no_other_schemas(
    shaped: Callable[..., ShapedServer], major: int
) -> None:
    server = shaped(major=major, shape="azure", variant="patched")
    make_reader(server)
    scope = Scope(schemas=("alpha_s",))
    provide(server, scope=scope)
    with server.connect(user="app_alpha", dbname="appdb_open", password="app") as conn:
        conn.execute("CREATE TABLE alpha_s.later (id int)")
        conn.execute("CREATE TABLE pgboss.later (id int)")
    with server.connect(user=READER, dbname="appdb_open", password=READER) as conn:
        assert conn.execute("SELECT count(*) FROM alpha_s.later").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT 1 FROM pgboss.later")
    again = provide(server, scope=scope)
    assert not again.statements
    assert not again.planned.batches
