# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's rights are and what a connector lacks, worked out without the product, and the model's own tests.

The superuser reads plain catalog rows; ACLs come as text and are taken apart here. No part of the plugins is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.estates import ADMIN, HOSTILE, NAMES, Connection, Estate, ident

if TYPE_CHECKING:
    from tests.rig import ShapedServer

PUBLIC = ""
WORDS = {
    "a": "INSERT",
    "r": "SELECT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
}
LETTERS = {"TABLE": "arwdDxtm", "SEQUENCE": "rwU", "ROUTINE": "X", "TYPE": "U", "SCHEMA": "UC", "DATABASE": "CTc"}
OF_EVERYBODY = {"ROUTINE": "X", "TYPE": "U", "DATABASE": "Tc"}
DEFAULT_KINDS = {"r": "TABLE", "S": "SEQUENCE", "f": "ROUTINE", "T": "TYPE", "n": "SCHEMA"}
DATABASE_OWNER = "pg_database_owner"


class Entry(NamedTuple):
    """One privilege by one grantor."""

    grantee: str
    privilege: str
    grantor: str
    option: bool


def kind_words(kind: str, major: int) -> frozenset[str]:
    """Every privilege there is on a kind of object."""
    return frozenset(WORDS[letter] for letter in LETTERS[kind] if letter != "m" or major >= 17)


def parse_item(item: str) -> frozenset[Entry]:
    """Take `grantee=letters/grantor` apart; a `*` is the grant option of the letter before it."""
    match = re.fullmatch(r'("(?:[^"]|"")*"|[^"=]*)=([A-Za-z*]*)/("(?:[^"]|"")*"|[^"=]*)', item)
    assert match, item
    grantee, letters, grantor = (plain(part) for part in match.groups())
    return frozenset(
        Entry(grantee, WORDS.get(letter, letter), grantor, bool(star))
        for letter, star in re.findall(r"([A-Za-z])(\*?)", letters)
    )


def plain(name: str) -> str:
    """A name without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def parse_acl(items: list[str] | None, *, kind: str | None, owner: str, major: int) -> frozenset[Entry]:
    """All entries of an ACL; where there is none, those that it stands for."""
    if items is not None:
        return frozenset().union(*map(parse_item, items))
    if kind not in LETTERS:
        return frozenset()
    own = {Entry(owner, word, owner, False) for word in kind_words(kind, major)}
    return frozenset(own | {Entry(PUBLIC, WORDS[letter], owner, False) for letter in OF_EVERYBODY.get(kind, "")})


class Key(NamedTuple):
    """Where an ACL is: a database ('' for the server), a catalog, an object, a column."""

    database: str
    catalog: str
    oid: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object with its owner and ACL; `kind` is None for what a connector is not given."""

    kind: str | None
    owner: str
    schema: str | None
    name: str
    arguments: frozenset[str]
    acl: frozenset[Entry]
    stored: str


class Creator(NamedTuple):
    """Whose default privileges, where and for what."""

    database: str
    role: str
    schema: str | None
    kind: str


@dataclass(kw_only=True)
class Rights:
    """All the rights on a server, at one moment."""

    major: int
    things: dict[Key, Thing] = field(default_factory=dict)
    defaults: dict[Creator, frozenset[Entry]] = field(default_factory=dict)
    members: frozenset[tuple[Any, ...]] = frozenset()
    roles: frozenset[tuple[Any, ...]] = frozenset()

    def of_others(self, connector: str) -> dict[str, Any]:
        """All that does not mention the connector; what is not stored counts as what it stands for."""
        return {
            "acls": {key: _without(thing.acl, connector) for key, thing in self.things.items()},
            "owners": {key: (thing.owner, thing.name) for key, thing in self.things.items()},
            "defaults": dict(self._defaults_of_others(connector)),
            "members": {row for row in self.members if connector not in row},
            "roles": {row for row in self.roles if row[0] != connector},
        }

    def stored(self) -> dict[str, Any]:
        """Everything as it is stored, with the transactions that wrote it."""
        return {
            "things": {key: thing.stored for key, thing in self.things.items()},
            "defaults": self.defaults,
            "members": self.members,
            "roles": self.roles,
        }

    def _defaults_of_others(self, connector: str) -> Iterator[tuple[Creator, frozenset[Entry]]]:
        for key, acl in self.defaults.items():
            if key.role == connector:
                continue
            unset = frozenset[Entry]()
            if key.schema is None:
                unset = parse_acl(None, kind=key.kind, owner=key.role, major=self.major)
            others = _without(acl, connector)
            if others != unset:
                yield key, others


def _without(acl: frozenset[Entry], connector: str) -> frozenset[Entry]:
    return frozenset(entry for entry in acl if connector not in (entry.grantee, entry.grantor))


# ---------------------------------------------------------------------------------------- reading

THINGS = """
SELECT 'pg_class', c.oid, 0,
       CASE WHEN relkind = 'S' THEN 'SEQUENCE' WHEN relkind IN ('r','p','v','m','f') THEN 'TABLE' END,
       relowner, relnamespace, relname, NULL::text[], relacl, c.xmin
  FROM pg_class c WHERE relkind NOT IN ('i', 'I', 't') AND (c.oid >= 16384 OR relacl IS NOT NULL)
UNION ALL
SELECT 'pg_attribute', attrelid, attnum, NULL, 0, 0, attname, NULL, attacl, xmin
  FROM pg_attribute WHERE attacl IS NOT NULL
UNION ALL
SELECT 'pg_proc', oid, 0, 'ROUTINE', proowner, pronamespace, proname,
       ARRAY[oidvectortypes(proargtypes), pg_get_function_identity_arguments(oid)], proacl, xmin
  FROM pg_proc WHERE oid >= 16384 OR proacl IS NOT NULL
UNION ALL
SELECT 'pg_type', y.oid, 0, CASE WHEN typtype IN ('e', 'd', 'r') OR c.relkind = 'c' THEN 'TYPE' END,
       typowner, typnamespace, typname, NULL, typacl, y.xmin
  FROM pg_type y LEFT JOIN pg_class c ON c.oid = y.typrelid WHERE y.oid >= 16384 OR typacl IS NOT NULL
UNION ALL
SELECT 'pg_namespace', oid, 0, 'SCHEMA', nspowner, oid, nspname, NULL, nspacl, xmin FROM pg_namespace
UNION ALL
SELECT 'pg_language', oid, 0, NULL, lanowner, 0, lanname, NULL, lanacl, xmin FROM pg_language
UNION ALL
SELECT 'pg_foreign_data_wrapper', oid, 0, NULL, fdwowner, 0, fdwname, NULL, fdwacl, xmin FROM pg_foreign_data_wrapper
UNION ALL
SELECT 'pg_foreign_server', oid, 0, NULL, srvowner, 0, srvname, NULL, srvacl, xmin FROM pg_foreign_server
"""
SHARED = """
SELECT 'pg_database', oid, 0, 'DATABASE', datdba, 0, datname, NULL::text[], datacl, xmin FROM pg_database
"""
READ = """
SELECT x.a, x.b::bigint, x.c, x.d, pg_get_userbyid(x.e)::text, n.nspname::text, x.g::text, x.h, x.i::text[], x.j::text
  FROM ({query}) AS x (a, b, c, d, e, f, g, h, i, j) LEFT JOIN pg_namespace n ON n.oid = x.f
"""
DEFAULTS = """
SELECT pg_get_userbyid(defaclrole)::text, nspname::text, defaclobjtype::text, defaclacl::text[]
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
"""
MEMBERS = "SELECT to_jsonb(m) FROM pg_auth_members m"
ROLES = "SELECT rolname::text, (to_jsonb(a) - 'oid')::text FROM pg_authid a"


def read(sessions: Mapping[str, Connection], major: int) -> Rights:
    """All rights on the databases of an estate and on the server."""
    rights = Rights(major=major)
    for database, conn in sessions.items():
        for catalog, oid, column, kind, owner, schema, name, arguments, acl, xmin in conn.execute(
            READ.format(query=THINGS if database else SHARED).encode()
        ):
            rights.things[Key(database, catalog, oid, column)] = Thing(
                kind=kind,
                owner=owner,
                schema=schema,
                name=name,
                arguments=frozenset(arguments or ()),
                acl=parse_acl(acl, kind=kind, owner=owner, major=major),
                stored=f"{xmin} {acl}",
            )
        for role, schema, letter, acl in conn.execute(DEFAULTS) if database else ():
            kind = DEFAULT_KINDS.get(letter, letter)
            rights.defaults[Creator(database, role, schema, kind)] = parse_acl(acl, kind=kind, owner=role, major=major)
    conn = sessions[""]
    names = dict(conn.execute("SELECT oid::bigint, rolname::text FROM pg_roles").fetchall())
    rights.members = frozenset(
        tuple(names.get(int(row[key]), row[key]) for key in ("roleid", "member", "grantor"))
        + tuple((key, row[key]) for key in sorted(row) if key.endswith("_option"))
        for (row,) in conn.execute(MEMBERS)
    )
    rights.roles = frozenset(conn.execute(ROLES).fetchall())
    return rights


# ------------------------------------------------------------------------- what the administrator can

TAKE_EVERYTHING = """
DO $take$
DECLARE role text; had bigint := -1;
BEGIN
  WHILE had <> (SELECT count(*) FROM pg_auth_members) LOOP
    had := (SELECT count(*) FROM pg_auth_members);
    FOR role IN SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user
                   AND NOT pg_has_role(oid, 'USAGE') ORDER BY 1 LOOP
      BEGIN
        EXECUTE format('GRANT %I TO %I{options}', role, current_user);
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
  END LOOP;
END $take$
"""
SETTABLE = "SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, '{mode}') OR pg_has_role(oid, 'USAGE')"
INHERITED = "SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, 'USAGE')"


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the server lets the administrator be, tried out in a transaction that is rolled back."""

    inherited: frozenset[str]
    inheritable: frozenset[str]
    reachable: frozenset[str]


def read_power(server: ShapedServer) -> Power:
    """Let the administrator take every membership that the server gives it, again and again."""
    newer = server.major >= 16
    settable = SETTABLE.format(mode="SET" if newer else "MEMBER").encode()
    with server.connect_admin() as conn:
        inherited = {row[0] for row in conn.execute(INHERITED)}
        already = {row[0] for row in conn.execute(settable)}
        with conn.transaction(force_rollback=True):
            conn.execute(TAKE_EVERYTHING.format(options=" WITH INHERIT TRUE, SET TRUE" if newer else "").encode())
            then = {row[0] for row in conn.execute(settable)}
            inheritable = {row[0] for row in conn.execute(INHERITED)}
        # Becoming a superuser by a detour is nothing that a connector should be given rights by.
        then -= {row[0] for row in conn.execute("SELECT rolname::text FROM pg_roles WHERE rolsuper")}
    return Power(
        inherited=frozenset(inherited), inheritable=frozenset(inheritable), reachable=frozenset(already | then)
    )


USABLE = """
SELECT n.nspname::text, r.rolname::text FROM pg_namespace n, pg_roles r
 WHERE n.nspname !~ '^pg_' AND has_schema_privilege(r.oid, n.oid, 'USAGE')
"""


def read_usable(sessions: Mapping[str, Connection]) -> frozenset[tuple[str, str, str]]:
    """Which schemas of which databases which roles may use."""
    return frozenset(
        (database, schema, role)
        for database, conn in sessions.items()
        if database
        for schema, role in conn.execute(USABLE)
    )


# ------------------------------------------------------------------------------ desired minus actual


class Lack(NamedTuple):
    """One privilege with grant option that the connector does not hold on one object."""

    key: Key
    privilege: str


class DefaultLack(NamedTuple):
    """One default privilege that a creator does not give yet."""

    creator: Creator
    privilege: str


@dataclass(kw_only=True)
class Model:
    """What is to be expected of a run, from the rights before it."""

    rights: Rights
    power: Power
    estate: Estate
    superuser: str
    group: str
    entered: frozenset[str]
    usable: frozenset[tuple[str, str, str]] = frozenset()

    def in_scope(self) -> Iterator[tuple[Key, Thing]]:
        """The objects that a run is about."""
        names = {database.name for database in self.estate.databases}
        for key, thing in self.rights.things.items():
            if (thing.kind == "DATABASE" and thing.name in names) or (
                thing.kind and key.database in self.entered and self.meant(thing.schema)
            ):
                yield key, thing

    def meant(self, schema: str | None) -> bool:
        """Whether a schema is the customer's and not excluded."""
        excluded = ("information_schema", *self.estate.excluded_schemas)
        return schema is not None and not schema.startswith("pg_") and schema not in excluded

    def lacks(self) -> set[Lack]:
        """Desired minus actual."""
        found = set()
        for key, thing in self.in_scope():
            held = {entry.privilege for entry in thing.acl if entry.grantee == self.estate.connector and entry.option}
            if thing.kind and thing.owner != self.estate.connector:
                found |= {Lack(key, word) for word in kind_words(thing.kind, self.rights.major) - held}
        return found

    def given(self, lacks: set[Lack]) -> set[Lack]:
        """The part that the administrator can give: as the owner, or else by passing on what it holds."""
        by_object: dict[Key, set[str]] = {}
        for lack in lacks:
            by_object.setdefault(lack.key, set()).add(lack.privilege)
        found = set()
        for key, words in by_object.items():
            thing = self.rights.things[key]
            owner = self.acting(thing.owner, key.database)
            held = {e.privilege for e in thing.acl if e.option and e.grantee in self.power.inherited}
            if thing.owner != self.superuser and (owner in self.power.reachable or words <= held):
                found |= {Lack(key, word) for word in words}
        return found

    def nameable(self, key: Key) -> bool:
        """Whether the owner, or the administrator with its rights, may use the schema that the object is in."""
        thing = self.rights.things[key]
        if thing.kind in ("DATABASE", "SCHEMA") or thing.schema is None:
            return True
        owner = self.acting(thing.owner, key.database)
        ways = [owner] if owner in self.power.reachable else []
        ways += [ADMIN] if owner in self.power.inheritable or owner not in self.power.reachable else []
        return any((key.database, thing.schema, role) in self.usable for role in ways)

    def acting(self, owner: str, database: str) -> str:
        """Who the owner is: pg_database_owner stands for that of the database."""
        if owner != DATABASE_OWNER:
            return owner
        return next(database_.owner for database_ in self.estate.databases if database_.name == database)

    def creators(self, database: str) -> set[str]:
        """Whoever owns anything in scope, or may create something."""
        found = {ADMIN}
        for key, thing in self.rights.things.items():
            here = key.database == database and thing.kind and self.meant(thing.schema)
            if here or (thing.kind == "DATABASE" and thing.name == database):
                found.add(thing.owner)
            if (here and thing.kind == "SCHEMA") or (thing.kind == "DATABASE" and thing.name == database):
                found |= {entry.grantee for entry in thing.acl if entry.privilege == "CREATE"}
        platform = {PUBLIC, self.superuser, self.group, self.estate.connector}
        return {role for role in found - platform if not role.startswith("pg_")}

    def default_lacks(self) -> set[DefaultLack]:
        """Default privileges that are missing: for the database, or where a schema is excluded for each other."""
        found = set()
        for database in self.entered:
            here = [key for key, thing in self.rights.things.items() if key.database == database]
            schemas = {self.rights.things[key].schema for key in here if self.rights.things[key].kind == "SCHEMA"}
            places = {s for s in schemas if self.meant(s)} if self.estate.excluded_schemas else {None}
            for role in self.creators(database):
                for kind in ("TABLE", "SEQUENCE", "ROUTINE", "TYPE", "SCHEMA"):
                    for place in places if kind != "SCHEMA" else places & {None}:
                        found |= self._default_lacks(Creator(database, role, place, kind))
        return found

    def _default_lacks(self, creator: Creator) -> set[DefaultLack]:
        both = {creator, creator._replace(schema=None)}
        held = {
            entry.privilege
            for key in both
            for entry in self.rights.defaults.get(key, ())
            if entry.grantee == self.estate.connector and entry.option
        }
        return {DefaultLack(creator, word) for word in kind_words(creator.kind, self.rights.major) - held}

    def given_defaults(self, lacks: set[DefaultLack]) -> set[DefaultLack]:
        """The part whose creators the administrator can be."""
        return {lack for lack in lacks if lack.creator.role in self.power.reachable}


# --------------------------------------------------------------------------- reading statements

TOKEN = re.compile(r""""(?:[^"]|"")*"|'(?:[^']|'')*'|\w+|\s+|.""", re.DOTALL)


class Said(NamedTuple):
    """One GRANT on objects or default privileges, read from its text."""

    privileges: frozenset[str]
    kind: str
    objects: tuple[tuple[str, ...], ...]
    grantee: str
    option: bool
    creator: str | None
    schema: str | None


def read_grant(sql: str, major: int) -> Said | None:
    """What a statement gives; None for one that gives nothing on objects."""
    tokens = [token for token in TOKEN.findall(sql.rstrip(";")) if not token.isspace()]
    creator = schema = None
    if tokens[:5] == ["ALTER", "DEFAULT", "PRIVILEGES", "FOR", "ROLE"]:
        creator = plain(tokens[5])
        schema = plain(tokens[8]) if tokens[6] == "IN" else None
        tokens = tokens[9 if schema is not None else 6 :]
    if tokens[0] != "GRANT" or "ON" not in tokens:
        return None
    on, to = tokens.index("ON"), len(tokens) - 1 - tokens[::-1].index("TO")
    kind = tokens[on + 1] if creator is None else tokens[on + 1].removesuffix("S")
    words = [token for token in tokens[1:on] if token not in (",", "PRIVILEGES")]
    return Said(
        privileges=kind_words(kind, major) if words == ["ALL"] else frozenset(words),
        kind=kind,
        objects=tuple(_named(tokens[on + 2 : to])) if creator is None else (),
        grantee=plain(tokens[to + 1]),
        option=tokens[to + 2 :] == ["WITH", "GRANT", "OPTION"],
        creator=creator,
        schema=schema,
    )


def _named(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    """The parts of each name in a list; a routine's arguments are one part, without white space."""
    parts: list[str] = []
    depth, inside = 0, ""
    for token in [*tokens, ","]:
        depth += (token == "(") - (token == ")")
        if depth or token == ")":
            inside += token
        elif token == ",":
            yield (*parts, inside) if inside else tuple(parts)
            parts, inside = [], ""
        elif token != ".":
            parts.append(plain(token))


def tight(text: str) -> str:
    """Arguments as `_named` gives them."""
    return f"({''.join(token for token in TOKEN.findall(text) if not token.isspace())})"


class Reader:
    """From the statements for a database to what they give."""

    def __init__(self, rights: Rights) -> None:
        self.rights = rights
        self.keys: dict[tuple[str, str, tuple[str, ...]], Key] = {}
        for key, thing in rights.things.items():
            if not thing.kind:
                continue
            path = tuple(part for part in (thing.schema, thing.name) if part is not None)
            path = path[:1] if thing.kind == "SCHEMA" else path
            for arguments in thing.arguments or {None}:
                full = path if arguments is None else (*path, tight(arguments))
                self.keys[key.database, thing.kind, full] = key

    def lacks(self, database: str | None, statements: list[str], grantee: str) -> list[Lack | DefaultLack]:
        """What the statements give, one by one; twice what they give twice."""
        found: list[Lack | DefaultLack] = []
        for sql in statements:
            said = read_grant(sql, self.rights.major)
            # A closed database is opened for the administrator by the connector itself.
            if said is None or (said.grantee, said.kind, said.privileges) == (ADMIN, "DATABASE", {"CONNECT"}):
                continue
            assert (said.grantee, said.option) == (grantee, True), sql
            if said.creator is not None:
                creator = Creator(database or "", said.creator, said.schema, said.kind)
                found += [DefaultLack(creator, word) for word in said.privileges]
            place = "" if said.kind == "DATABASE" else database or ""
            found += [
                Lack(self.keys[place, said.kind, name], word) for name in said.objects for word in said.privileges
            ]
        return found


# ------------------------------------------------------------------------------ the model's own test


@settings(max_examples=60, deadline=None, derandomize=True, database=None, print_blob=True)
@given(st.lists(NAMES, min_size=3, max_size=3, unique=True))
def test_the_model_reads_statements_with_any_names(names: list[str]) -> None:
    """What it takes for the names in a statement are the names that were written."""
    schema, name, grantee = names
    path = ident(schema, name)
    said = read_grant(f"GRANT USAGE, SELECT ON SEQUENCE {path}, {path} TO {ident(grantee)} WITH GRANT OPTION;", 17)
    assert said == Said(
        frozenset({"USAGE", "SELECT"}),
        "SEQUENCE",
        ((schema, name),) * 2,
        grantee,
        option=True,
        creator=None,
        schema=None,
    )
    routine = read_grant(f"GRANT ALL PRIVILEGES ON ROUTINE {path}(integer, {path}) TO {ident(grantee)}", 17)
    assert routine
    assert routine.objects == ((schema, name, f"(integer,{path})"),)
    default = read_grant(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {ident(name)} IN SCHEMA {ident(schema)} GRANT ALL PRIVILEGES ON TABLES"
        f" TO {ident(grantee)} WITH GRANT OPTION",
        16,
    )
    assert default == Said(kind_words("TABLE", 16), "TABLE", (), grantee, option=True, creator=name, schema=schema)


def test_the_model_reads_acls_as_the_server_does(major: int, shaped_once: Callable[..., ShapedServer]) -> None:
    """Its reading of the text and aclexplode() agree on every ACL of a server, and on hostile names."""
    server = shaped_once(major=major, shape="azure")
    with server.connect(dbname="appdb_hard") as conn, conn.transaction(force_rollback=True):
        for number, name in enumerate(HOSTILE):
            conn.execute(f"CREATE ROLE {ident(name)}; CREATE TABLE public.t{number} (id int)".encode())
            conn.execute(f"GRANT SELECT ON public.t{number} TO {ident(name)} WITH GRANT OPTION".encode())
        exploded = """
            SELECT c.oid::bigint, CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END,
                   a.privilege_type, pg_get_userbyid(a.grantor)::text, a.is_grantable
              FROM pg_class c, aclexplode(c.relacl) a
            """
        wanted = {(oid, Entry(*entry)) for oid, *entry in conn.execute(exploded.encode())}
        texts = conn.execute("SELECT oid::bigint, relacl::text[] FROM pg_class WHERE relacl IS NOT NULL")
        found = {
            (oid, entry) for oid, items in texts for entry in parse_acl(items, kind="TABLE", owner="", major=major)
        }
        assert found == wanted
