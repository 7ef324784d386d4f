# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random estates for property tests: roles, databases and objects as customers leave them, made of plain SQL.

An estate is what a superuser runs, so a failing example prints as the statements that lead to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

if TYPE_CHECKING:
    from tests.rig import ShapedServer

# Where the other tools keep what they remember.
set_hypothesis_home_dir(".cache/hypothesis")
ADMIN, SECOND = "cloudadmin", "cloudadmin2"
LONG = 63
# What breaks quoting, composing, patterns, conversions and comparison of names; each of at most 63 bytes.
HOSTILE = (
    'a"b', "o'brien", "100%", "%s %(x)s %%", "semi;colon", "SELECT", "select", "Select", "naïve 表 Ü", "two words",
    "$$", "$body$", "back\\slash", "new\nline", "x" * LONG, "x" * (LONG - 1) + "y", "ü" * 31 + "z", "dots.in.name",
    "paren(", "comma, b", "tab\there", "{brace}", "{0}", "-- no", "/* c */", "star*", "[a-z]", "user", "table", "all",
    "e\u0301", "\u00e9", "a=b/c", " lead", "trail ", "pgboss", "1st", "_", "current_user", "session_user", '""', "to",
    "on", "with grant option",
)  # fmt: skip
LETTERS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=12)
NAMES = st.one_of(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), LETTERS).filter(
    lambda name: len(name.encode()) <= LONG and not name.startswith("pg_") and name not in ("public", "none")
)
PRIVILEGES = {
    "SCHEMA": ("USAGE", "CREATE"),
    "TABLE": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
    "SEQUENCE": ("USAGE", "SELECT", "UPDATE"),
    "ROUTINE": ("EXECUTE",),
    "TYPE": ("USAGE",),
    "DATABASE": ("CREATE", "CONNECT", "TEMPORARY"),
}


def ident(*names: str) -> str:
    """A quoted, qualified name."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A string constant that no content ends early."""
    return "'" + text.replace("'", "''") + "'"


def attempt(*commands: str) -> str:
    """Commands that take place together or, where the server's rules refuse one, not at all."""
    body = " ".join(f"EXECUTE {literal(command)};" for command in commands)
    return f"DO {literal(f'BEGIN {body} EXCEPTION WHEN OTHERS THEN NULL; END')}"


def as_role(role: str, *commands: str) -> str:
    """Commands of a role, if it may."""
    return attempt(f"SET LOCAL ROLE {ident(role)}", *commands, "RESET ROLE")


@dataclass(frozen=True, kw_only=True)
class Database:
    """One database: how it is made, and what is run inside and about it."""

    name: str
    owner: str
    template: str
    inside: tuple[str, ...]
    about: tuple[str, ...]
    schemas: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Estate:
    """Everything that is made for one example, in the order of the fields."""

    roles: tuple[str, ...]
    role_sql: tuple[str, ...]
    connector: str
    databases: tuple[Database, ...]
    late_sql: tuple[str, ...] = ()
    excluded_schemas: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who plays in an estate."""

    roles: tuple[str, ...]
    owners: tuple[str, ...]
    grantees: tuple[str, ...]


# ------------------------------------------------------------------------------------------ roles


@st.composite
def populations(
    draw: st.DrawFn, *, group: str, superuser: str, major: int, connectors: bool = True
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names of roles, the SQL that makes them, and whether the last of them, the connector, is made already."""
    *names, connector = draw(st.lists(NAMES, min_size=3, max_size=6, unique=True))
    makers = [ADMIN, ADMIN, SECOND, superuser]
    sql = []
    for name in names:
        maker = draw(st.sampled_from([*makers, *names[: names.index(name)]]))
        attributes = " ".join(draw(st.lists(st.sampled_from(["LOGIN", "NOINHERIT"]), unique=True)))
        # A maker of roles must itself be allowed to; a few are superusers.
        power = draw(st.sampled_from(["CREATEROLE", "CREATEROLE", "", "", "SUPERUSER"]))
        create = f"CREATE ROLE {ident(name)} {attributes}"
        sql += [as_role(maker, f"{create} {power.replace('SUPERUSER', '')}"), attempt(create)]
        if power:
            sql.append(f"ALTER ROLE {ident(name)} {power}")
    exists = connectors and draw(st.booleans())
    if exists:
        maker = draw(st.sampled_from([ADMIN, ADMIN, ADMIN, SECOND, superuser]))
        power = draw(st.sampled_from(["LOGIN CREATEROLE", "LOGIN CREATEROLE", "LOGIN CREATEROLE NOINHERIT", "NOLOGIN"]))
        sql.append(as_role(maker, f"CREATE ROLE {ident(connector)} {power}"))
    named = [*names, *([connector] if exists else [])]
    everyone = [*named, ADMIN, SECOND, group]
    sql += draw(st.lists(links(named, everyone, [*everyone, superuser], major=major), max_size=6))
    return (*names, connector), tuple(sql), exists


@st.composite
def links(
    draw: st.DrawFn, named: Sequence[str], everyone: Sequence[str], grantors: Sequence[str], *, major: int
) -> str:
    """One membership, in which a role of the estate takes part; the server refuses the loops among them."""
    role, member = draw(st.permutations([draw(st.sampled_from(named)), draw(st.sampled_from(everyone))]))
    grantor = draw(st.sampled_from([*grantors, *[grantors[-1]] * len(grantors)]))
    options = []
    if draw(st.booleans()):
        options.append("ADMIN TRUE" if major >= 16 else "ADMIN OPTION")
    if major >= 16:
        options += [f"{word} {draw(st.sampled_from(['TRUE', 'FALSE']))}" for word in ("INHERIT", "SET")]
    tail = f" WITH {', '.join(options)}" if options else ""
    return as_role(grantor, f"GRANT {ident(role)} TO {ident(member)}{tail}")


# ---------------------------------------------------------------------------------------- objects

TABLES = {
    "table": ("CREATE TABLE {it} (id int, note text)", "TABLE"),
    "identity": ("CREATE TABLE {it} (id int GENERATED ALWAYS AS IDENTITY)", "TABLE"),
    "partitioned": ("CREATE TABLE {it} (id int) PARTITION BY LIST (id)", "TABLE"),
    "view": ("CREATE VIEW {it} AS SELECT 1 AS id", "VIEW"),
    "materialized": ("CREATE MATERIALIZED VIEW {it} AS SELECT 1 AS id WITH NO DATA", "MATERIALIZED VIEW"),
    "foreign": ("CREATE FOREIGN TABLE {it} (id int) SERVER far", "FOREIGN TABLE"),
}
OTHERS = {
    "sequence": ("SEQUENCE", "CREATE SEQUENCE {it}", "SEQUENCE"),
    "enum": ("TYPE", "CREATE TYPE {it} AS ENUM ('a')", "TYPE"),
    "domain": ("TYPE", "CREATE DOMAIN {it} AS int", "DOMAIN"),
    "composite": ("TYPE", "CREATE TYPE {it} AS (a int)", "TYPE"),
    "range": ("TYPE", "CREATE TYPE {it} AS RANGE (subtype = int4)", "TYPE"),
}
ROUTINES = (
    ("", "FUNCTION {it}() RETURNS int LANGUAGE sql AS 'SELECT 1'", "FUNCTION"),
    ("int, text[]", "FUNCTION {it}(a int, VARIADIC b text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'", "FUNCTION"),
    ("int", 'FUNCTION {it}("in"" q" int, OUT b int) LANGUAGE sql AS \'SELECT 1\'', "FUNCTION"),
    ("int", "PROCEDURE {it}(int) LANGUAGE sql AS ''", "PROCEDURE"),
    ("int", "AGGREGATE {it}(int) (SFUNC = int4pl, STYPE = int)", "AGGREGATE"),
)
# A procedure whose OUT argument makes it look like its namesake with two IN arguments (OUT came with 14).
LOOKALIKES = (
    "CREATE PROCEDURE {it}(int, OUT int) LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE {it}(int, int) LANGUAGE sql AS ''",
)

OUT_AND_IN = ("IN int, OUT int", "IN int, IN int")


@st.composite
def objects(draw: st.DrawFn, *, schema: str, name: str, cast: Cast, major: int) -> tuple[str, ...]:
    """One object of any kind: made, given to its owner, and its privileges changed a little."""
    it, owner = ident(schema, name), draw(st.sampled_from(cast.owners))
    sort = draw(st.sampled_from([*TABLES, *OTHERS, "routine", "routine", "lookalikes"]))
    if sort in TABLES:
        create, word = TABLES[sort]
        kind, target = "TABLE", it
    elif sort in OTHERS:
        kind, create, word = OTHERS[sort]
        target = it
    elif sort == "routine" or major < 14:
        arguments, create, word = draw(st.sampled_from(ROUTINES))
        kind, create, target = "ROUTINE", f"CREATE {create}", f"{it}({arguments})"
    else:
        return tuple(
            f"{create.format(it=it)}; ALTER PROCEDURE {it}({shape}) OWNER TO {ident(owner)}"
            for create, shape in zip(LOOKALIKES, OUT_AND_IN, strict=True)
        )
    made = [create.replace("{it}", it), f"ALTER {word} {target} OWNER TO {ident(owner)}"]
    changes = draw(st.lists(grants(kind=kind, target=target, owner=owner, cast=cast), max_size=3))
    if kind == "TABLE" and sort != "foreign" and draw(st.booleans()):
        changes.append(f"GRANT SELECT (id) ON TABLE {it} TO {ident(draw(st.sampled_from(cast.roles)))}")
    return (*made, *changes)


@st.composite
def grants(draw: st.DrawFn, *, kind: str, target: str, owner: str, cast: Cast) -> str:
    """One change of an ACL: by the owner, or by somebody the owner has let pass it on."""
    chosen = draw(st.lists(st.sampled_from(PRIVILEGES[kind]), min_size=1, unique=True))
    words = draw(st.sampled_from(["ALL PRIVILEGES", ", ".join(chosen)]))
    grantee = draw(st.sampled_from(cast.grantees))
    on = f"{words} ON {kind} {target}"
    option = "" if grantee == "PUBLIC" else draw(st.sampled_from(["", " WITH GRANT OPTION"]))
    manner = draw(st.sampled_from(["grant", "grant", "revoke", "owner", "passed on"]))
    if manner == "revoke":
        return f"REVOKE {on} FROM PUBLIC"
    if manner == "owner":
        return f"REVOKE {on} FROM {ident(owner)}"
    if manner == "passed on":
        between = ident(draw(st.sampled_from(cast.roles)))
        let = f"GRANT {on} TO {between} WITH GRANT OPTION"
        return attempt(let, f"SET LOCAL ROLE {between}", f"GRANT {on} TO {grantee}{option}", "RESET ROLE")
    return f"GRANT {on} TO {grantee}{option}"


@st.composite
def defaults(draw: st.DrawFn, *, schemas: Sequence[str], cast: Cast) -> str:
    """One change of somebody's default privileges."""
    creator = ident(draw(st.sampled_from(cast.owners)))
    kind = draw(st.sampled_from(["TABLE", "SEQUENCE", "ROUTINE", "TYPE", "SCHEMA"]))
    place = draw(st.sampled_from([None, *schemas])) if kind != "SCHEMA" else None
    words = draw(st.sampled_from(["ALL", draw(st.sampled_from(PRIVILEGES[kind]))]))
    grantee = draw(st.sampled_from(cast.grantees))
    option = "" if grantee == "PUBLIC" else draw(st.sampled_from(["", " WITH GRANT OPTION"]))
    where = f" IN SCHEMA {ident(place)}" if place else ""
    change = draw(
        st.sampled_from(
            [f"GRANT {words} ON {kind}S TO {grantee}{option}"] * 2
            + [f"REVOKE {words} ON {kind}S FROM PUBLIC", f"REVOKE {words} ON {kind}S FROM {creator}"]
        )
    )
    return f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator}{where} {change}"


@st.composite
def schemas_of(draw: st.DrawFn, *, name: str, cast: Cast, major: int) -> tuple[str, ...]:
    """One schema with its objects."""
    owner = draw(st.sampled_from(cast.owners))
    sql = [f"CREATE SCHEMA {ident(name)} AUTHORIZATION {ident(owner)}"]
    for inner in draw(st.lists(NAMES, max_size=4, unique=True)):
        sql += draw(objects(schema=name, name=inner, cast=cast, major=major))
    sql += draw(st.lists(grants(kind="SCHEMA", target=ident(name), owner=owner, cast=cast), max_size=3))
    return tuple(sql)


# -------------------------------------------------------------------------------------- databases


@st.composite
def databases(draw: st.DrawFn, *, name: str, cast: Cast, major: int) -> Database:
    """One database with a few schemas, default privileges, and changes of its own ACL."""
    names = draw(st.lists(NAMES, max_size=2, unique=True))
    inside = ["CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far"]
    for schema in names:
        inside += draw(schemas_of(name=schema, cast=cast, major=major))
    inside += draw(objects(schema="public", name=draw(NAMES), cast=cast, major=major))
    inside += draw(st.lists(defaults(schemas=names, cast=cast), max_size=4))
    owner = draw(st.sampled_from(cast.owners))
    target = ident(name)
    about = draw(st.lists(grants(kind="DATABASE", target=target, owner=owner, cast=cast), max_size=2))
    return Database(
        name=name,
        owner=owner,
        template=draw(st.sampled_from(["template0", "template1"])),
        inside=tuple(inside),
        about=tuple(about),
        schemas=("public", *names),
    )


@st.composite
def estates(draw: st.DrawFn, *, group: str, superuser: str, major: int) -> Estate:
    """A whole estate."""
    (*roles, connector), role_sql, exists = draw(populations(group=group, superuser=superuser, major=major))
    named = [*roles, *([connector] if exists else [])]
    cast = Cast(
        roles=tuple(named),
        owners=(*roles, *roles, *named, ADMIN, SECOND, group, superuser),
        grantees=("PUBLIC", *map(ident, [*named, *([connector] * 8 if exists else []), ADMIN, group])),
    )
    names = draw(
        st.lists(NAMES.filter(lambda name: name not in PLATFORM_DATABASES), min_size=1, max_size=2, unique=True)
    )
    if len(names) > 1 and draw(st.integers(0, 3)):
        names = names[:1]
    made = tuple(draw(databases(name=name, cast=cast, major=major)) for name in names)
    schemas = sorted({schema for database in made for schema in database.schemas})
    excluded = draw(st.lists(st.sampled_from(schemas), max_size=1)) if draw(st.booleans()) else []
    return Estate(
        roles=(*roles, connector),
        role_sql=role_sql,
        connector=connector,
        databases=made,
        # Memberships that came after the grants: who gave something may act as its owner by now.
        late_sql=tuple(draw(st.lists(links(named, named, [*named, superuser], major=major), max_size=2))),
        excluded_schemas=tuple(excluded),
    )


PLATFORM_DATABASES = frozenset({"postgres", "template0", "template1", "rdsadmin"})


# ------------------------------------------------------------------------------- found by chance once


def awkward_estate(*, superuser: str, major: int) -> Estate:
    """What random estates seldom hold: half-given privileges, namesakes, a closed database, a NOINHERIT owner."""
    procedures = [create.format(it='s."p q"') for create in LOOKALIKES] if major >= 14 else []
    inside = (
        "CREATE SCHEMA s AUTHORIZATION keeper",
        "CREATE TABLE s.t (id int)",
        "ALTER TABLE s.t OWNER TO keeper",
        "GRANT SELECT, INSERT ON s.t TO plug",
        "ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT SELECT, INSERT ON TABLES TO plug",
        *procedures,
        *([f'ALTER PROCEDURE s."p q"({shape}) OWNER TO keeper' for shape in OUT_AND_IN] if procedures else []),
    )
    shut = ("REVOKE CONNECT ON DATABASE shut FROM PUBLIC",)
    return Estate(
        roles=("keeper", "plug"),
        role_sql=(
            as_role(ADMIN, "CREATE ROLE keeper NOINHERIT"),
            as_role(ADMIN, "CREATE ROLE plug LOGIN CREATEROLE NOINHERIT"),
        ),
        connector="plug",
        databases=(
            Database(
                name="open", owner="keeper", template="template0", inside=inside, about=(), schemas=("public", "s")
            ),
            Database(name="shut", owner=superuser, template="template0", inside=(), about=shut, schemas=("public",)),
        ),
    )


def detours(*, superuser: str, major: int) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Owners that are reached by a lender's inherited ADMIN, and by a borrowed role's own membership."""
    inherit = " WITH INHERIT TRUE, SET FALSE" if major >= 16 else ""
    admin = " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" if major >= 16 else " WITH ADMIN OPTION"
    sql = (
        as_role(ADMIN, "CREATE ROLE lender"),
        as_role(superuser, "CREATE ROLE rich"),
        as_role(superuser, "CREATE ROLE far_owner"),
        as_role(superuser, "CREATE ROLE near_owner"),
        as_role(superuser, f"GRANT rich TO lender{inherit}", f"GRANT far_owner TO rich{admin}"),
        as_role(superuser, "GRANT near_owner TO lender"),
    )
    return ("lender", "rich", "far_owner", "near_owner"), sql, False


# ------------------------------------------------------------------------------------ on a server

Connection = psycopg.Connection[tuple[Any, ...]]


@contextlib.contextmanager
def built(server: ShapedServer, estate: Estate) -> Iterator[dict[str, Connection]]:
    """The estate on a server, with a superuser's session in each database ('' is the server); gone afterwards."""
    with contextlib.ExitStack() as stack:
        conn = stack.enter_context(server.connect())
        sessions = {"": conn}
        try:
            run(conn, estate.role_sql)
            for database in estate.databases:
                name = ident(database.name)
                run(conn, [f"CREATE DATABASE {name} TEMPLATE {database.template} OWNER {ident(database.owner)}"])
                sessions[database.name] = stack.enter_context(server.connect(dbname=database.name))
                run(sessions[database.name], database.inside)
                run(conn, database.about)
            run(conn, estate.late_sql)
            yield sessions
        finally:
            for name, session in sessions.items():
                if name:
                    session.close()
                    run(conn, [f"DROP DATABASE {ident(name)} WITH (FORCE)"])
            drop_roles(conn, estate.roles)


def drop_roles(conn: Connection, roles: Sequence[str]) -> None:
    """Drop the roles with whatever they gave or hold on what remains."""
    known = {row[0] for row in conn.execute("SELECT rolname::text FROM pg_roles")}
    present = ", ".join(ident(role) for role in roles if role in known)
    if present:
        run(conn, [f"DROP OWNED BY {present} CASCADE", f"DROP ROLE {present}"])


def run(conn: Connection, commands: Sequence[str]) -> None:
    """Run commands in one round trip and one transaction."""
    if commands:
        conn.execute("; ".join(commands).encode())
