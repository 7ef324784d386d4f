# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Profile roles: made on first use by the privilege engine, shared by every grant of the same scope, kept complete."""

from __future__ import annotations

import collections.abc as c
import datetime as dt
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.statements import (
    comment_on,
    create_marked,
    drop,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._access.values import (
    Mark,
    Permission,
    Profile,
    RoleKind,
    read_mark,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._deps import psycopg
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.apply import apply, transaction
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.holdings import (
    make_revoke_plan,
    read_holdings,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.inspect import (
    SCHEMAS,
    Question,
    read_database_gaps,
    read_defaults,
    read_names,
    read_snapshot,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.plan import (
    make_plan,
    missing_defaults,
    way,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.reconcile import Outcome, reconcile
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.ties import read_tied_databases
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    Cause,
    Entitlement,
    Gap,
    Kind,
    Plan,
    Scope,
    Snapshot,
    Step,
    Uncovered,
    matches,
)

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._access.ledger import Marked
    from ansible_collections.latchkey.postgres.plugins.module_utils._access.site import Site
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

OID_AND_COMMENT = "SELECT oid, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %(role)s"
# What the catalogs gave numbers to last, and where: a dump carries the comment to a server with numbers of its own.
# Objects of sessions (temporary ones) are nobody else's.
PLACE = """
WITH place AS (
  SELECT concat_ws('.', (SELECT oid FROM pg_database WHERE datname = current_database()),
                        (SELECT oid FROM pg_roles WHERE rolname = %(role)s)) AS here
)
"""
NEWEST = """
SELECT greatest((SELECT max(oid::bigint) FROM pg_class), (SELECT max(oid::bigint) FROM pg_proc),
                (SELECT max(oid::bigint) FROM pg_namespace), (SELECT max(oid::bigint) FROM pg_type)) || '@' || here
  FROM place
"""
APPEARED = """
SELECT %(place)s <> (SELECT here FROM place)
    OR EXISTS (SELECT FROM pg_class
                WHERE oid > %(seen)s::oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND relpersistence <> 't')
    OR EXISTS (SELECT FROM pg_proc WHERE oid > %(seen)s::oid)
    OR EXISTS (SELECT FROM pg_namespace WHERE oid > %(seen)s::oid AND nspname !~ '^pg_')
    OR EXISTS (SELECT FROM pg_type WHERE oid > %(seen)s::oid AND typtype IN ('e', 'd', 'r'))
"""


@dataclass(frozen=True, kw_only=True)
class ProfileReport:
    """``uncovered``: what its members should have and don't. ``lagging``: creators whose new objects join it later."""

    profile: Profile
    created: bool = False
    statements: tuple[Composable, ...] = ()
    uncovered: tuple[Uncovered, ...] = ()
    lagging: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.statements)

    @property
    def missing(self) -> str | None:
        """Why it is less than was asked for, in a few words."""
        lacking = [entry for entry in self.uncovered if any(isinstance(step, Step) for step in entry.steps)]
        if not lacking:
            return None
        count = sum(entry.objects for entry in lacking) or 1
        return f"{count} objects can't be given, the first of owner {lacking[0].owner}: {lacking[0].reason}"


def require_matches(site: Site, profile: Profile) -> None:
    """Every pattern must mean something, or the request is a slip of the pen."""
    session = site.database(profile.database)
    schemas = [row for row in session.rows(SCHEMAS) if row[1] != names.SCHEMA]
    for pattern in profile.schemas:
        if not any(matches(row[1], [pattern]) for row in schemas):
            raise InvalidOption(
                f"access: no schema of database {profile.database} matches {pattern!r}",
                where=site.where,
                next_step="It has: " + ", ".join(sorted(row[1] for row in schemas)),
            )
    if profile.objects is None:
        return
    meant = [row for row in schemas if row[1] in profile.scope]
    places = {
        "oids": [row[0] for row in meant],
        "names": [row[1] for row in meant],
        "reserved": [False for _row in meant],
    }
    kind = Kind.ROUTINE if profile.permission is Permission.EXECUTE else Kind.TABLE
    found = [name for _schema, name, _meant in read_names(session, places, [kind])]
    for pattern in profile.objects:
        if not any(matches(name, [pattern]) for name in found):
            raise InvalidOption(
                f"access: no {kind.value.lower()} in the schemas {', '.join(profile.schemas)} of database"
                f" {profile.database} matches {pattern!r}",
                where=site.where,
                next_step="Check the name; pg_access_info with inventory lists what there is",
            )


def ensure(site: Site, profile: Profile, role: Marked | None, *, thorough: bool = False) -> ProfileReport:
    """Make the profile, or complete it if the database has objects that it has not seen.

    With ``thorough`` all is looked at again: somebody may have taken privileges from it.
    """
    session = site.database(profile.database)
    seen = None if role is None else role.fact("seen")
    lagging = () if role is None or role.mark is None else tuple(map(str, role.mark.facts.get("lagging") or ()))
    name = profile.role if role is None else role.name
    made: tuple[Composable, ...] = ()
    if role is None:
        made = create_marked(name, _mark(profile, seen=None, lagging=()), has_options=site.has_options)
    elif role.valid_until is not None:
        made = (_in_use(name),)
    if seen and not (made or thorough or _has_appeared(session, name, seen)):
        return ProfileReport(profile=profile, lagging=lagging)
    if not site.check:
        execute_together(site.session, made)
    newest = session.rows(PLACE + NEWEST, {"role": name})[0][0]
    report = _complete(site, session, profile, role)
    remembered = _mark(profile, seen=None if report.missing else newest, lagging=report.lagging)
    noted = (comment_on(name, remembered),) if role is None or role.mark != remembered else ()
    if not site.check:
        execute_together(site.session, noted)
    sent = (*made, *report.statements)
    return replace(report, created=role is None, statements=(*sent, *noted) if sent else ())


def _has_appeared(session: Session, name: str, seen: str) -> bool:
    """Whether there may be objects that the profile has not seen."""
    number, _at, place = seen.partition("@")
    return bool(session.rows(PLACE + APPEARED, {"role": name, "seen": number, "place": place})[0][0])


def unused_since(profile: Marked) -> dt.datetime | None:
    """A profile has no end of its own, so that VALID UNTIL can say since when nobody used it."""
    return profile.valid_until


def _in_use(role: str) -> Composable:
    return sql.statement("ALTER ROLE {role} VALID UNTIL 'infinity'", role=sql.name(role))


def _mark(profile: Profile, *, seen: str | None, lagging: tuple[str, ...]) -> Mark:
    return Mark(kind=RoleKind.PROFILE, facts={**profile.as_dict(), "seen": seen, "lagging": list(lagging)})


def _complete(site: Site, session: Session, profile: Profile, role: Marked | None) -> ProfileReport:
    """Run the engine in the profile's database, and on the database itself."""
    question = question_of(site, profile, role)
    lagging: set[str] = set()

    def plan(snapshot: Snapshot) -> Plan:
        creators = {name for name in snapshot.creators if name not in _managed(site)}
        reached = {name for name in creators if _can_act(site, name, snapshot.database_owner)}
        # Of single tables nothing can be said before they are there.
        lagging.update(creators - reached if question.scope.objects is None else creators)
        defaults = missing_defaults(
            snapshot, entitlement=question.entitlement, scope=question.scope, known=question.known, creators=reached
        )
        return _plan(site, question, snapshot.gaps, defaults=defaults, database_owner=snapshot.database_owner)

    def plan_database(gaps: tuple[Gap, ...]) -> Plan:
        return _plan(site, question, gaps)

    inside = reconcile(
        session, look=lambda: read_snapshot(session, question), plan=plan, graph=site.graph, check=site.check
    )
    outside = reconcile(
        session,
        look=lambda: read_database_gaps(session, question, databases=[profile.database]),
        plan=plan_database,
        graph=site.graph,
        check=site.check,
    )
    # What is the platform's own is left out in silence only where everything is asked for.
    everything = profile.scope.whole_database and profile.objects is None
    uncovered = tuple(
        entry for entry in (*inside.uncovered, *outside.uncovered) if not (everything and entry.cause is Cause.PLATFORM)
    )
    refused = {entry.owner for entry in uncovered if not any(isinstance(step, Step) for step in entry.steps)}
    return ProfileReport(
        profile=profile,
        statements=(*_sent(site, inside), *_sent(site, outside)),
        uncovered=uncovered,
        lagging=tuple(sorted(lagging | refused)),
    )


def _sent(site: Site, outcome: Outcome[t.Any]) -> tuple[Composable, ...]:
    """In check mode what a run would send, as far as the catalog says that it would work."""
    if not site.check:
        return outcome.statements
    proven = (batch for batch in outcome.planned.batches if batch.route.proven)
    return tuple(command for batch in proven for command in transaction(batch, graph=site.graph))


def question_of(site: Site, profile: Profile, role: Marked | None) -> Question:
    name = profile.role if role is None else role.name
    oid = role.oid if role is not None else _oid(site, name)
    return Question(
        entitlement=profile.entitlement(name),
        scope=profile.scope,
        known=site.known,
        platform=site.graph.platform,
        grantee=oid,
    )


def _oid(site: Site, role: str) -> int | None:
    rows = site.session.rows("SELECT oid FROM pg_roles WHERE rolname = %(role)s", {"role": role})
    return rows[0][0] if rows else None


def _plan(site: Site, question: Question, gaps: c.Iterable[Gap], **more: t.Any) -> Plan:
    options = {"defaults": (), "database_owner": "", **more}
    return make_plan(
        gaps,
        options["defaults"],
        entitlement=question.entitlement,
        known=question.known,
        graph=site.graph,
        database_owner=options["database_owner"],
        own_first=True,
    )


def _managed(site: Site) -> frozenset[str]:
    """Roles of ours, who go again: default privileges of theirs would only be in the way then."""
    return frozenset(member.member for member in site.graph.members_of(names.MARKER) if not member.admin)


def _can_act(site: Site, creator: str, database_owner: str) -> bool:
    route = way(creator, database_owner, graph=site.graph)
    return route is not None and route.proven


# --------------------------------------------------------------------------------------------- the way back
def remove(site: Site, name: str) -> str | None:
    """Drop a profile role and all that it holds anywhere; why not, if it can't be."""
    rows = site.session.rows(OID_AND_COMMENT, {"role": name})
    if not rows:
        return None
    oid, mark = rows[0][0], read_mark(rows[0][1])
    if mark is not None:
        # If this run is cut off, the next grant must not take what is left of it for the whole.
        execute_together(site.session, [comment_on(name, replace(mark, facts={**mark.facts, "seen": None}))])
    for database in read_tied_databases(site.session, role=oid, anything=True):
        _empty(site, site.database(database), name, oid)
    _empty_databases(site, name, oid)
    try:
        execute_together(site.session, [drop(name)])
    except psycopg.Error as error:
        if site.session.lost:
            raise
        return error.diag.message_detail or error.diag.message_primary
    return None


def _everything(site: Site, name: str, oid: int) -> Question:
    return Question(
        entitlement=Entitlement(grantee=name, privileges=dict.fromkeys(Kind)),
        scope=Scope(),
        known=site.known,
        platform=site.graph.platform,
        grantee=oid,
    )


def _empty(site: Site, session: Session, name: str, oid: int) -> None:
    question = _everything(site, name, oid)
    owner = session.rows("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()")
    plan = make_revoke_plan(
        read_holdings(session, question),
        read_defaults(session, question),
        grantee=name,
        known=site.known,
        graph=site.graph,
        database_owner=owner[0][0],
    )
    apply(session, plan.batches, graph=site.graph)


def _empty_databases(site: Site, name: str, oid: int) -> None:
    holdings = read_holdings(site.session, _everything(site, name, oid), databases=True)
    plan = make_revoke_plan(holdings, (), grantee=name, known=site.known, graph=site.graph, database_owner="")
    apply(site.session, plan.batches, graph=site.graph)
