# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every estate, on real servers: random ones are made, bootstrapped, looked at and dropped."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import read_graph, read_server
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login, Session, connect
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import borrow
from tests.integration.estates import (
    Connection,
    Estate,
    awkward_estate,
    built,
    detours,
    drop_roles,
    estates,
    ident,
    populations,
    run,
)
from tests.integration.product import bootstrap, succeeded
from tests.integration.test_properties_model import (
    Key,
    Lack,
    Model,
    Reader,
    Rights,
    read,
    read_power,
    read_usable,
)

if TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph, Route
    from tests.rig import ShapedServer

SHAPE_OF = {13: "azure", 14: "rds", 15: "azure", 16: "azure", 17: "rds", 18: "azure"}


@pytest.fixture(scope="module")
def stage(shaped_once: Callable[..., ShapedServer]) -> Callable[[int], ShapedServer]:
    """One server of each major for the whole module; the two services take turns."""
    return lambda major: shaped_once(major=major, shape=SHAPE_OF[major])


def careful(request: pytest.FixtureRequest, examples: int) -> settings:
    """The same examples each time; more of them when everything is tried."""
    thorough = request.config.getoption("--thorough")
    # To make a failing estate small takes minutes.
    shrink = (Phase.shrink,) if thorough else ()
    return settings(
        max_examples=examples * (4 if thorough else 1),
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, *shrink),
    )


def for_all(
    request: pytest.FixtureRequest,
    server: ShapedServer,
    holds: Callable[[Any, Mapping[str, Connection]], None],
    examples: int,
) -> None:
    """Try a property on many estates."""

    @careful(request, examples)
    @example(awkward_estate(superuser=server.superuser, major=server.major))
    @given(estates(group=server.group, superuser=server.superuser, major=server.major))
    def attempt(estate: Estate) -> None:
        with built(server, estate) as sessions:
            holds(estate, sessions)

    attempt()


def ask(server: ShapedServer, estate: Estate, **options: Any) -> dict[str, Any]:
    """Run the product on the databases of an estate."""
    return bootstrap(
        server,
        connector=estate.connector,
        databases=[glob.escape(database.name) for database in estate.databases],
        exclude_schemas=[glob.escape(schema) for schema in estate.excluded_schemas],
        template1=False,
        **options,
    )


def entered(sessions: Mapping[str, Connection], role: str) -> frozenset[str]:
    """The databases that a role may connect to."""
    rows = sessions[""].execute(
        "SELECT datname::text FROM pg_database WHERE has_database_privilege(%s, oid, 'CONNECT')", [role]
    )
    return frozenset({row[0] for row in rows} & set(sessions))


def model_of(server: ShapedServer, estate: Estate, sessions: Mapping[str, Connection], rights: Rights) -> Model:
    """What is to be expected of a run that starts now."""
    return Model(
        rights=rights,
        power=read_power(server),
        estate=estate,
        superuser=server.superuser,
        group=server.group,
        entered=entered(sessions, server.admin),
        usable=read_usable(sessions),
    )


def said_lacks(reader: Reader, said: dict[str, Any], connector: str) -> tuple[Counter[Any], Counter[Any]]:
    """What the statements of a result give, and what those give that it leaves to others."""
    given_: Counter[Any] = Counter()
    for entry in said["statements"]:
        given_.update(reader.lacks(entry["database"], [entry["sql"]], connector))
    left: Counter[Any] = Counter()
    for entry in said["uncovered"]:
        left.update(reader.lacks(entry["database"], entry["sql"], connector))
    return given_, left


def readable(found: set[Any], rights: Rights) -> list[str]:
    """Differences with names in place of OIDs."""
    return sorted(
        f"{item.privilege} {rights.things[item.key]}" if isinstance(item, Lack) else repr(item) for item in found
    )


def same(found: Counter[Any], wanted: set[Any], rights: Rights, what: str) -> None:
    """Compare exactly: nothing missing, nothing added, nothing twice."""
    assert not readable(wanted - set(found), rights), f"{what}: not said"
    assert not readable(set(found) - wanted, rights), f"{what}: said without need"
    assert not {item: number for item, number in found.items() if number > 1}, f"{what}: said twice"


def refused_at_once(said: dict[str, Any]) -> bool:
    """A role that somebody else made may not be changed by the administrator: nothing is done then."""
    if not said.get("failed"):
        return False
    assert "has no ADMIN OPTION on it" in said["msg"], said["msg"]
    return True


def test_the_plan_is_exactly_what_is_desired_minus_what_is_there(
    major: int, stage: Callable[[int], ShapedServer], request: pytest.FixtureRequest
) -> None:
    """Check mode names all that the administrator can give and lacks, and leaves all the rest to its owners."""
    server = stage(major)

    def holds(estate: Estate, sessions: Mapping[str, Connection]) -> None:
        rights = read(sessions, major)
        model = model_of(server, estate, sessions, rights)
        said = ask(server, estate, check=True)
        if refused_at_once(said):
            return
        planned, left = said_lacks(Reader(rights), said, estate.connector)
        lacks, defaults = model.lacks(), model.default_lacks()
        given_, given_defaults = model.given(lacks), model.given_defaults(defaults)
        same(planned, given_ | given_defaults, rights, "plan")
        same(left, (lacks - given_) | (defaults - given_defaults), rights, "uncovered")
        assert read(sessions, major).stored() == rights.stored()

    for_all(request, server, holds, 12)


def expected(rights: Rights, done: set[Lack], connector: str) -> dict[Key, set[tuple[str, bool]]]:
    """What the connector holds on each object after what was done, whoever gave it."""
    found: dict[Key, set[tuple[str, bool]]] = {}
    for key, thing in rights.things.items():
        held = {(entry.privilege, entry.option) for entry in thing.acl if entry.grantee == connector}
        if held:
            found[key] = held
    for lack in done:
        found.setdefault(lack.key, set()).add((lack.privilege, True))
    return found


def best(held: dict[Key, set[tuple[str, bool]]]) -> dict[Key, dict[str, bool]]:
    """Each privilege once, with grant option if any grantor gave that."""
    return {key: {word: (word, True) in words for word, dummy in words} for key, words in held.items()}


def differing(found: Mapping[Key, Any], wanted: Mapping[Key, Any], rights: Rights) -> list[Any]:
    """Where two accounts of what the connector holds do not agree."""
    return [
        {"is": found.get(key), "should be": wanted.get(key), "thing": rights.things[key]}
        for key in {*found, *wanted}
        if found.get(key) != wanted.get(key)
    ]


FUNCTIONS = {
    "DATABASE": "has_database_privilege",
    "SCHEMA": "has_schema_privilege",
    "TABLE": "has_table_privilege",
    "SEQUENCE": "has_sequence_privilege",
    "ROUTINE": "has_function_privilege",
    "TYPE": "has_type_privilege",
}


def not_grantable(conn: Connection, connector: str, wanted: set[Lack], rights: Rights) -> list[Any]:
    """What the server says that the connector can't pass on."""
    found = []
    for kind, function in FUNCTIONS.items():
        asked = [(lack.key.oid, lack.privilege) for lack in wanted if rights.things[lack.key].kind == kind]
        query = f"""
            SELECT o, p FROM unnest(%s::bigint[], %s::text[]) AS x (o, p)
             WHERE NOT {function}(%s::text, o::oid, p || ' WITH GRANT OPTION')
            """
        rows = conn.execute(query.encode(), [[o for o, _p in asked], [p for _o, p in asked], connector])
        found += [(kind, *row) for row in rows]
    return found


def test_a_run_gives_what_was_planned_and_changes_no_privilege_of_anybody_else_and_a_second_run_nothing(
    major: int, stage: Callable[[int], ShapedServer], request: pytest.FixtureRequest
) -> None:
    """Afterwards all that is reachable can be passed on; the coverage is counted right; the catalog stays still."""
    server = stage(major)

    def holds(estate: Estate, sessions: Mapping[str, Connection]) -> None:
        rights = read(sessions, major)
        model = model_of(server, estate, sessions, rights)
        said = ask(server, estate, connector_password="pw")
        after = read(sessions, major)
        assert after.of_others(estate.connector) == rights.of_others(estate.connector)
        if refused_at_once(said):
            assert after.stored() == rights.stored()
            return
        model.entered = entered(sessions, server.admin)
        done = {lack for lack in model.given(model.lacks()) if model.nameable(lack.key)}
        wrong = differing(
            best(expected(after, set(), estate.connector)), best(expected(rights, done, estate.connector)), rights
        )
        assert not wrong, [(entry["owner"], entry["sqlstate"], entry["reason"]) for entry in said["uncovered"]]
        _dummy, left = said_lacks(Reader(rights), said, estate.connector)
        defaults = model.default_lacks()
        undone = (model.lacks() - done) | (defaults - model.given_defaults(defaults))
        same(left, undone, rights, "uncovered")
        check_coverage(said, model, after, sessions)
        again = succeeded(ask(server, estate, connector_password="pw"))
        assert not again["statements"], (said["connector"], again["statements"])
        assert not again["changed"]
        assert again["coverage"] == said["coverage"]
        assert read(sessions, major).stored() == after.stored()

    for_all(request, server, holds, 12)


def check_coverage(said: dict[str, Any], model: Model, after: Rights, sessions: Mapping[str, Connection]) -> None:
    """What is said to be covered is what the model counts and what the server lets the connector pass on."""
    now = Model(**{**vars(model), "rights": after})
    lacking = {lack.key for lack in now.lacks()}
    for database in said["databases"]:
        name = database["name"]
        objects = {key for key, thing in now.in_scope() if key.database == name}
        assert database["reachable"] == (name in model.entered), database
        assert (database["objects"], database["covered"]) == (len(objects), len(objects - lacking)), database
        full = {
            Lack(key, word)
            for key in objects - lacking
            for word in {entry.privilege for entry in after.things[key].acl if entry.grantee == model.estate.connector}
        }
        assert not not_grantable(sessions[name], model.estate.connector, full, after)
    assert not {lack for lack in now.default_lacks() if lack.creator.role in model.power.reachable}


def test_present_then_absent_leaves_every_right_as_it_was(
    major: int, stage: Callable[[int], ShapedServer], request: pytest.FixtureRequest
) -> None:
    """With the connector goes all that it held; or absent says what stops it, and then it has changed nothing."""
    server = stage(major)

    def holds(estate: Estate, sessions: Mapping[str, Connection]) -> None:
        rights = read(sessions, major)
        if ask(server, estate, connector_password="pw").get("failed"):
            return
        present = read(sessions, major)
        said = ask(server, estate, state="absent")
        after = read(sessions, major)
        if said.get("failed"):
            assert after.stored() == present.stored(), said["msg"]
            return
        assert after.of_others("\0") == rights.of_others(estate.connector)
        assert not ask(server, estate, state="absent")["changed"]

    for_all(request, server, holds, 12)


def works(conn: Connection, graph: RoleGraph, route: Route) -> bool:
    """Whether the borrowing transaction ends as the role, and with the memberships as they were."""
    take, give_back = borrow(route.borrow, graph=graph, inherit=route.inherited)
    rows = "SELECT array_agg(m::text ORDER BY m::text) FROM pg_auth_members m"
    before = conn.execute(rows).fetchone()
    try:
        with conn.transaction(force_rollback=True):
            for command in take:
                conn.execute(command)
            if route.inherited:
                there = conn.execute("SELECT pg_has_role(%s, 'USAGE')", [route.role]).fetchone() == (True,)
            else:
                conn.execute(f"SET LOCAL ROLE {ident(route.role)}".encode())
                there = conn.execute("SELECT current_user::text").fetchone() == (route.role,)
                conn.execute("RESET ROLE")
            for command in give_back:
                conn.execute(command)
            return there and conn.execute(rows).fetchone() == before
    except psycopg.Error:
        return False


def test_a_route_is_found_exactly_where_the_server_lets_the_administrator_go(
    major: int, stage: Callable[[int], ShapedServer], request: pytest.FixtureRequest
) -> None:
    """Every route works and leaves no trace; where there is none, no series of borrowed memberships leads there."""
    server = stage(major)

    @careful(request, 40)
    @example(detours(superuser=server.superuser, major=major))
    @given(populations(group=server.group, superuser=server.superuser, major=major))
    def attempt(population: tuple[tuple[str, ...], tuple[str, ...], bool]) -> None:
        roles, role_sql, _exists = population
        with server.connect() as conn:
            try:
                run(conn, role_sql)
                reachable = read_power(server).reachable
                with open_session(server) as session:
                    graph = read_graph(session, server=read_server(session))
                    for role in {*roles, server.group, server.admin} & set(graph.roles):
                        route = graph.route(role)
                        assert (route is not None) == (role in reachable), (role, route)
                        assert route is None or works(session.connection, graph, route), route
            finally:
                drop_roles(conn, roles)

    attempt()


def open_session(server: ShapedServer) -> Session:
    """A session of the product's kind, as the administrator."""
    return connect(
        Login(host=server.host, port=server.port, user=server.admin, password=server.admin, ca_cert=str(server.ca))
    )
