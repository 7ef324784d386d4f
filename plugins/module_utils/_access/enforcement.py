# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Enforcement without a controller: a job of pg_cron that ends expired access every minute, from the catalog alone."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import LOCK
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

NAME = "enforce"
JOB = "latchkey"
SCHEDULE = "* * * * *"
COMMAND = f"CALL {names.SCHEMA}.{NAME}()"
MARK = '{{"v": 1, "kind": "{kind}", '

# What the job runs, as the connector. It is a procedure because the fence must be committed before a session is ended:
# who reconnects in between would get in again. Three blocks, because COMMIT is not allowed in one that catches errors.
#
# All it knows from one run to the next is in the catalog. CONNECTION LIMIT 0, which means nothing on a role without
# LOGIN, is the note that the sessions of a grant are ended, on one that can't be dropped because it owns something:
# without it, who has other grants or a login of their own would be thrown out every minute.
BODY = """
DECLARE
  moment pg_catalog.timestamptz;
  journaled boolean;
  wrote boolean := false;
  revoked boolean;
  grants pg_catalog.oid[];
  logins pg_catalog.oid[];
  ending pg_catalog.oid[];
  holders pg_catalog.oid[];
  doomed pg_catalog.oid[];
  present pg_catalog.oid[];
  refused pg_catalog.oid[];
  arriving integer[];
  half_open integer[];
  mark pg_catalog.json;
  one record;
  other record;
BEGIN
  -- Fails here, with nothing done and nothing locked, inside somebody's transaction block.
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
          pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT pg_catalog.pg_try_advisory_lock({space}, {key}) THEN
    RETURN;
  END IF;

  -- The fence: no membership, no login.
  BEGIN
    moment := pg_catalog.clock_timestamp();
    ending := ARRAY[]::pg_catalog.oid[];
    holders := ARRAY[]::pg_catalog.oid[];
    -- ADMIN OPTION on the marker is for who gives the mark. A damaged comment must not hide a grant.
    SELECT coalesce(pg_catalog.array_agg(r.oid) FILTER (
             WHERE pg_catalog.starts_with(d.description, {grant})
                OR pg_catalog.starts_with(r.rolname::pg_catalog.text, {grant_name})
                   AND NOT coalesce(pg_catalog.starts_with(d.description, {profile})
                                    OR pg_catalog.starts_with(d.description, {login}), false)),
             ARRAY[]::pg_catalog.oid[]),
           coalesce(pg_catalog.array_agg(r.oid) FILTER (WHERE pg_catalog.starts_with(d.description, {login})),
             ARRAY[]::pg_catalog.oid[])
      INTO grants, logins
      FROM pg_catalog.pg_roles r
      LEFT JOIN pg_catalog.pg_shdescription d
        ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
     WHERE NOT r.rolsuper AND r.rolname <> current_user
       AND EXISTS (SELECT FROM pg_catalog.pg_auth_members k JOIN pg_catalog.pg_roles m ON m.oid = k.roleid
                    WHERE k.member = r.oid AND m.rolname = {marker} AND NOT k.admin_option);
    -- A trigger, a rule or a default would run as the connector: the owner must be its equal at least.
    journaled := EXISTS (
      SELECT FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
       WHERE n.nspname = {schema} AND c.relname = 'journal' AND c.relkind = 'r'
         AND NOT c.relhastriggers AND NOT c.relhasrules AND NOT c.relrowsecurity
         AND (o.rolsuper OR o.rolcreaterole) AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
         AND 5 = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = c.oid AND NOT a.attisdropped
                     AND a.attname = ANY (ARRAY['action', 'request', 'grantee', 'login', 'expires_at'])
                     AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT')));

    FOR one IN
      SELECT r.oid, r.rolname, r.rolvaliduntil, r.rolconnlimit, d.description
        FROM pg_catalog.pg_roles r
        LEFT JOIN pg_catalog.pg_shdescription d
          ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
       WHERE r.oid = ANY (grants) AND {over}
    LOOP
      revoked := false;
      mark := NULL;
      BEGIN
        mark := one.description::pg_catalog.json;
        -- Its sessions end even if somebody else has taken the membership away.
        IF one.rolconnlimit <> 0 THEN
          SELECT ending || one.oid, holders || r.oid INTO STRICT ending, holders
            FROM pg_catalog.pg_roles r WHERE r.rolname = mark ->> 'login';
        END IF;
      EXCEPTION
        WHEN no_data_found THEN NULL;
        WHEN OTHERS THEN
          mark := NULL;
          RAISE WARNING 'latchkey: comment of role %: %', one.rolname, SQLERRM;
      END;
      -- The connector, which made the role, holds ADMIN OPTION on it and nothing else.
      FOR other IN
        SELECT DISTINCT r.oid, r.rolname
          FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
         WHERE m.roleid = one.oid AND r.rolname <> current_user AND {used}
      LOOP
        ending := ending || one.oid;
        holders := holders || other.oid;
        BEGIN
          EXECUTE pg_catalog.format('REVOKE %I FROM %I', one.rolname, other.rolname);
          IF one.rolconnlimit = 0 THEN
            EXECUTE pg_catalog.format('ALTER ROLE %I CONNECTION LIMIT -1', one.rolname);
          END IF;
          -- What another role has granted stays, with a mere warning.
          revoked := revoked OR NOT EXISTS (
            SELECT FROM pg_catalog.pg_auth_members m WHERE m.roleid = one.oid AND m.member = other.oid AND {used});
        EXCEPTION WHEN OTHERS THEN
          RAISE WARNING 'latchkey: role %: %', one.rolname, SQLERRM;
        END;
      END LOOP;
      wrote := wrote OR revoked;
      IF revoked AND journaled THEN
        BEGIN
          INSERT INTO {journal} (action, request, grantee, login, expires_at)
          VALUES ('expire', mark ->> 'request', mark ->> 'grantee', mark ->> 'login', one.rolvaliduntil);
        EXCEPTION WHEN OTHERS THEN
          RAISE WARNING 'latchkey: journal: %', SQLERRM;
        END;
      END IF;
    END LOOP;

    FOR other IN
      SELECT u.rolname FROM pg_catalog.pg_roles u
       WHERE u.oid = ANY (logins) AND u.rolcanlogin
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
                          WHERE m.member = u.oid AND r.oid = ANY (grants) AND NOT {over} AND {used})
    LOOP
      BEGIN
        EXECUTE pg_catalog.format(
          'ALTER ROLE %I NOLOGIN PASSWORD NULL VALID UNTIL %L', other.rolname,
          pg_catalog.to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00');
        wrote := true;
      EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'latchkey: login %: %', other.rolname, SQLERRM;
      END;
    END LOOP;
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    PERFORM pg_catalog.pg_advisory_unlock({space}, {key});
    RAISE;
  END;
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
          pg_catalog.set_config('lock_timeout', '2s', true);

  -- The sessions. Since 16 a grant can't be stepped into by SET ROLE, so one lost leaves nothing in a session.
  BEGIN
    doomed := ARRAY(
      SELECT r.oid FROM pg_catalog.pg_roles r
       WHERE r.rolname <> current_user
         AND (r.oid = ANY (logins) AND NOT r.rolcanlogin
              OR r.oid = ANY (holders)
                 AND (r.oid <> ALL (logins)
                      OR pg_catalog.current_setting('server_version_num')::integer < 160000)));
    refused := ARRAY[]::pg_catalog.oid[];
    -- At most 10 seconds: a session that does not end by then is for the next minute.
    FOR look IN 1..100 LOOP
      PERFORM pg_catalog.pg_stat_clear_snapshot();
      -- Who was let in just before the fence shows some milliseconds later; until then only by a lock. They are looked
      -- for first: who is not among them any more is seen as a session below.
      half_open := ARRAY(
        SELECT l.pid FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
         WHERE wrote AND l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.pid IS NOT NULL
           AND (a.pid IS NULL OR a.usesysid IS NULL AND coalesce(a.backend_type = 'client backend', true)));
      arriving := CASE WHEN look = 1 THEN half_open ELSE ARRAY(
        SELECT p FROM pg_catalog.unnest(arriving) AS p WHERE p = ANY (half_open)) END;
      PERFORM pg_catalog.pg_stat_clear_snapshot();
      present := ARRAY[]::pg_catalog.oid[];
      FOR other IN
        SELECT a.pid, a.usesysid FROM pg_catalog.pg_stat_activity a
         WHERE a.usesysid = ANY (doomed) AND a.pid <> pg_catalog.pg_backend_pid()
      LOOP
        present := present || other.usesysid;
        CONTINUE WHEN other.usesysid = ANY (refused);
        BEGIN
          PERFORM pg_catalog.pg_terminate_backend(other.pid);
        EXCEPTION WHEN insufficient_privilege THEN
          refused := refused || other.usesysid;
          RAISE WARNING 'latchkey: sessions of role %: %', other.usesysid::pg_catalog.regrole, SQLERRM;
        END;
      END LOOP;
      EXIT WHEN present <@ refused AND (look > 20 OR pg_catalog.cardinality(arriving) = 0);
      PERFORM pg_catalog.pg_sleep(0.1);
    END LOOP;

    -- The roles: those whose sessions are all gone. One that owns something is for the sweep.
    FOR one IN
      SELECT r.oid, r.rolname, r.rolconnlimit FROM pg_catalog.pg_roles r
       WHERE r.oid = ANY (grants) AND {over}
         AND NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(ending), pg_catalog.unnest(holders))
                                  AS p (role, login)
                          WHERE p.role = r.oid AND p.login = ANY (present))
    LOOP
      BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend s
                        WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = one.oid) THEN
          EXECUTE pg_catalog.format('DROP ROLE %I', one.rolname);
        ELSIF one.rolconnlimit <> 0 THEN
          EXECUTE pg_catalog.format('ALTER ROLE %I CONNECTION LIMIT 0', one.rolname);
        END IF;
      EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'latchkey: role %: %', one.rolname, SQLERRM;
      END;
    END LOOP;
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    PERFORM pg_catalog.pg_advisory_unlock({space}, {key});
    RAISE;
  END;
  COMMIT;
  PERFORM pg_catalog.pg_advisory_unlock({space}, {key});
END
"""
# A grant without an end is none: somebody has tampered with it.
OVER = "NOT coalesce(r.rolvaliduntil > moment AND r.rolvaliduntil < 'infinity', false)"
# Not the ADMIN OPTION alone that a role's maker has since 16. Before, memberships have no options, hence the detour.
USED = """NOT (m.admin_option AND coalesce(
             NOT (pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean
             AND NOT (pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, false))"""

# By OID: functions that are given a name raise where it does not exist or may not be seen.
FACTS = """
SELECT current_database()::text AS database, current_user::text AS me,
       (SELECT setting FROM pg_settings WHERE name = 'cron.database_name') AS cron_database,
       own.oid IS NOT NULL AS schema,
       coalesce(has_schema_privilege(own.oid, 'USAGE') AND has_schema_privilege(own.oid, 'CREATE'), false)
         AS may_create,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') AS extension,
       plan.oid IS NOT NULL AND job.oid IS NOT NULL AS cron,
       coalesce(maker.rolsuper, false) AS genuine,
       coalesce(has_schema_privilege(cron.oid, 'USAGE'), false) AS may_use,
       coalesce((SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p
                  WHERE p.pronamespace = cron.oid AND p.proname IN ('schedule', 'unschedule')), true) AS may_execute,
       coalesce(has_table_privilege(job.oid, 'SELECT'), true) AS may_read
  FROM (SELECT) AS always
  LEFT JOIN pg_namespace own ON own.nspname = %(schema)s
  LEFT JOIN pg_namespace cron ON cron.nspname = 'cron'
  LEFT JOIN pg_proc plan ON plan.pronamespace = cron.oid AND plan.proname = 'schedule'
                        AND oidvectortypes(plan.proargtypes) IN ('text, text, text', 'name, text, text')
  LEFT JOIN pg_roles maker ON maker.oid = plan.proowner
  LEFT JOIN pg_class job ON job.relnamespace = cron.oid AND job.relname = 'job' AND job.relkind = 'r'
"""
STORED = """
SELECT o.rolname::text, p.proowner = current_user::regrole, p.prokind = 'p',
       l.lanname = 'plpgsql' AND NOT p.prosecdef AND p.proconfig IS NULL AND p.prosrc = %(body)s,
       ARRAY(SELECT DISTINCT g.rolname::text
               FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> p.proowner)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  JOIN pg_roles o ON o.oid = p.proowner
 WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND p.pronargs = 0
"""
JOBS = """
SELECT schedule = %(schedule)s AND command = %(command)s AND database = current_database() AND active
  FROM cron.job WHERE jobname = %(job)s AND username = current_user
"""


@dataclass(frozen=True, kw_only=True)
class Enforcement:
    """``available``: nothing is missing that it needs. ``reason``: what is, or why it is not installed."""

    available: bool
    installed: bool
    changed: bool = False
    reason: str | None = None
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database has of what enforcement needs."""

    database: str
    me: str
    cron_database: str | None
    schema: bool
    may_create: bool
    extension: bool
    cron: bool
    genuine: bool
    may_use: bool
    may_execute: bool
    may_read: bool

    @property
    def wrong_database(self) -> bool:
        """Known only where the server shows the setting; it lets nobody make the extension elsewhere."""
        return self.cron_database not in {None, self.database}

    @property
    def sees_jobs(self) -> bool:
        return self.cron and self.genuine and self.may_use and self.may_execute and self.may_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """The stored procedure; ``strangers`` may execute it, None among them stands for PUBLIC."""

    owner: str
    mine: bool
    procedure: bool
    current: bool
    strangers: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class State:
    facts: Facts
    routine: Routine | None
    # Whether each job of that name is as it should be; there is one at most.
    jobs: tuple[bool, ...] = ()


def read(session: Session) -> Enforcement:
    """Whether it is installed, and what it would need."""
    state = _look(session)
    missing = _missing(state)
    reason = "; ".join(what for what, _command in missing) or None
    installed = not missing and not _plan(state)
    if not (missing or installed):
        there = state.routine is not None or bool(state.jobs)
        reason = "the routine or its job is not as it should be" if there else "not installed"
    return Enforcement(available=not missing, installed=installed, reason=reason)


def install(session: Session, *, check: bool) -> Enforcement:
    """Make the routine and its job what they should be; with ``check`` only say what would be done."""
    state = _look(session)
    _require(session, state)
    statements = _plan(state)
    if statements and not check:
        statements = retrying(lambda: _apply(session, statements))
    return Enforcement(
        available=True, installed=not (statements and check), changed=bool(statements), statements=statements
    )


def remove(session: Session, *, check: bool) -> Enforcement:
    """The job goes first: it must not call what is not there."""
    state = _look(session)
    missing = _missing(state)
    statements: tuple[Statement, ...] = ()
    if state.jobs:
        statements = (_unschedule(),)
    if state.routine is not None:
        _require_mine(session, state.routine)
        drop = sql.statement("DROP ROUTINE {routine}()", routine=_routine())
        statements = (*statements, Statement.plain(drop))
    if statements and not check:
        retrying(lambda: _execute(session, statements))
    return Enforcement(
        available=not missing,
        installed=bool(statements and check),
        changed=bool(statements),
        reason="; ".join(what for what, _command in missing) or None,
        statements=statements,
    )


def _routine() -> Composable:
    return sql.name(names.SCHEMA, NAME)


def body() -> str:
    """The text of the routine."""

    def mark(kind: str) -> Composable:
        return sql.literal(MARK.format(kind=kind))

    return sql.statement(
        BODY,
        space=sql.literal(LOCK["space"]),
        key=sql.literal(LOCK["key"]),
        grant=mark("grant"),
        login=mark("login"),
        profile=mark("profile"),
        grant_name=sql.literal(names.GRANT),
        marker=sql.literal(names.MARKER),
        schema=sql.literal(names.SCHEMA),
        journal=sql.name(names.SCHEMA, "journal"),
        over=sql.keyword(OVER),
        used=sql.keyword(USED),
    ).as_string(None)


# ------------------------------------------------------------------------------------------------- looking
def _look(session: Session) -> State:
    with session.reading():
        return _look_now(session)


def _look_now(session: Session) -> State:
    facts = Facts(**_named(session))
    stored = session.rows(STORED, {"schema": names.SCHEMA, "name": NAME, "body": body()})
    known = {"schedule": SCHEDULE, "command": COMMAND, "job": JOB}
    jobs = session.rows(JOBS, known) if facts.sees_jobs else []
    routine = None
    if stored:
        owner, mine, procedure, current, strangers = stored[0]
        routine = Routine(owner=owner, mine=mine, procedure=procedure, current=current, strangers=tuple(strangers))
    return State(facts=facts, routine=routine, jobs=tuple(right for (right,) in jobs))


def _named(session: Session) -> dict[str, t.Any]:
    columns = (
        "database me cron_database schema may_create extension cron genuine may_use may_execute may_read"
    ).split()
    return dict(zip(columns, session.rows(FACTS, {"schema": names.SCHEMA})[0], strict=True))


def _missing(state: State) -> tuple[tuple[str, Composable | None], ...]:
    """What an administrator must do first, and the statement that does it."""
    facts = state.facts
    schema, me = sql.name(names.SCHEMA), sql.name(facts.me)
    update = facts.extension and not facts.cron
    found = (
        (not facts.schema, f"there is no schema {names.SCHEMA}", sql.statement("CREATE SCHEMA {s}", s=schema)),
        (
            not facts.may_create,
            f"login {facts.me} may not make routines in schema {names.SCHEMA}",
            sql.statement("GRANT USAGE, CREATE ON SCHEMA {s} TO {me}", s=schema, me=me),
        ),
        (facts.wrong_database, f"pg_cron works in database {facts.cron_database}", None),
        (update, "pg_cron is older than 1.3", sql.statement("ALTER EXTENSION pg_cron UPDATE")),
        (
            not (facts.cron or update),
            "there is no pg_cron (it must also be in shared_preload_libraries)",
            sql.statement("CREATE EXTENSION pg_cron"),
        ),
        # Whoever made a schema of that name would have the connector run their code.
        (facts.cron and not facts.genuine, "cron.schedule belongs to no superuser", None),
        (
            not facts.may_use,
            f"login {facts.me} may not use schema cron",
            sql.statement("GRANT USAGE ON SCHEMA cron TO {me}", me=me),
        ),
        (
            facts.cron and not facts.may_execute,
            f"login {facts.me} may not schedule jobs",
            sql.statement("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cron TO {me}", me=me),
        ),
        (
            facts.cron and not facts.may_read,
            f"login {facts.me} may not see jobs",
            sql.statement("GRANT SELECT ON cron.job TO {me}", me=me),
        ),
    )
    return tuple((what, command) for lacking, what, command in found if lacking)


def _require(session: Session, state: State) -> None:
    missing = _missing(state)
    if missing:
        commands = "; ".join(command.as_string(None) for _what, command in missing if command is not None)
        where = f"in database {state.facts.database} as an administrator"
        advice = f"Run {where}: {commands};" if commands else f"Look at schema cron {where}"
        if state.facts.wrong_database:
            advice = f"Set login_db to {state.facts.cron_database}, or cron.database_name to {state.facts.database}"
        raise DatabaseRefused(
            f"enforcement by pg_cron is not possible in database {state.facts.database}: "
            + "; ".join(what for what, _command in missing),
            where=session.where,
            next_step=advice,
        )
    if state.routine is not None:
        _require_mine(session, state.routine)


def _require_mine(session: Session, routine: Routine) -> None:
    if not routine.mine:
        raise DatabaseRefused(
            f"routine {names.SCHEMA}.{NAME}() belongs to {routine.owner}",
            where=session.where,
            next_step=f"Run as {routine.owner} or an administrator: DROP ROUTINE {names.SCHEMA}.{NAME}();",
        )


# ------------------------------------------------------------------------------------------------- doing
def _plan(state: State) -> tuple[Statement, ...]:
    """The statements that are missing; none when all is right."""
    found: list[Composable] = []
    routine = state.routine
    if routine is not None and not routine.procedure:
        found.append(sql.statement("DROP ROUTINE {routine}()", routine=_routine()))
        routine = None
    if routine is None or not routine.current:
        template = "CREATE OR REPLACE PROCEDURE {routine}() LANGUAGE plpgsql SECURITY INVOKER AS {body}"
        found.append(sql.statement(template, routine=_routine(), body=sql.literal(body())))
    strangers = (None,) if routine is None else routine.strangers
    if strangers:
        roles = sql.joined(sql.keyword("PUBLIC") if role is None else sql.name(role) for role in strangers)
        template = "REVOKE ALL ON PROCEDURE {routine}() FROM {roles} CASCADE"
        found.append(sql.statement(template, routine=_routine(), roles=roles))
    statements = [Statement.plain(command) for command in found]
    if state.jobs != (True,):
        statements += [_unschedule()] if state.jobs else []
        statements.append(Statement.plain(_schedule()))
    return tuple(statements)


def _schedule() -> Composable:
    return sql.statement(
        "SELECT cron.schedule({job}, {schedule}, {command})",
        job=sql.literal(JOB),
        schedule=sql.literal(SCHEDULE),
        command=sql.literal(COMMAND),
    )


def _unschedule() -> Statement:
    return Statement.plain(sql.statement("SELECT cron.unschedule({job})", job=sql.literal(JOB)))


def _apply(session: Session, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """In one transaction, and with a second look: somebody's default privileges may have let others in."""
    with session.writing():
        for statement in statements:
            session.execute(statement.command)
        more = _plan(_look_now(session))
        for statement in more:
            session.execute(statement.command)
    return (*statements, *more)


def _execute(session: Session, statements: tuple[Statement, ...]) -> None:
    with session.writing():
        for statement in statements:
            session.execute(statement.command)
