# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Enforcement without a controller: a job of pg_cron that ends expired access every minute, from the catalog alone."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, fields

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.journal import TRUSTED
from ansible_collections.latchkey.postgres.plugins.module_utils._access.procedure import body
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.retry import execute_together, retrying
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Session

    # Whether it is lacking, what it is, and the statement that helps.
    Need = tuple[bool, str, t.Optional[Composable]]  # noqa: UP045  pylint takes it for an operation

NAME = "enforce"
JOB = "latchkey"
SCHEDULE = "* * * * *"
COMMAND = f"CALL {names.SCHEMA}.{NAME}()"

# By OID: functions that are given a name raise where it does not exist or may not be seen.
FACTS = """
SELECT current_database()::text AS database, current_user::text AS me,
       (SELECT setting FROM pg_settings WHERE name = 'cron.database_name') AS cron_database,
       own.oid IS NOT NULL AS schema,
       (SELECT o.rolname::text FROM pg_roles o WHERE o.oid = own.nspowner AND NOT {trusted}) AS stranger,
       coalesce(has_schema_privilege(own.oid, 'USAGE') AND has_schema_privilege(own.oid, 'CREATE'), false)
         AS may_create,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') AS extension,
       plan.oid IS NOT NULL AND job.oid IS NOT NULL AS cron,
       coalesce(maker.rolsuper, false) AS genuine,
       coalesce(has_schema_privilege(cron.oid, 'USAGE'), false) AS may_use,
       coalesce((SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p
                  WHERE p.pronamespace = cron.oid AND p.proname IN ('schedule', 'unschedule')), true) AS may_execute,
       coalesce(has_table_privilege(job.oid, 'SELECT'), true) AS may_read,
       coalesce(has_table_privilege(run.oid, 'SELECT'), false) AS sees_runs
  FROM (SELECT) AS always
  LEFT JOIN pg_namespace own ON own.nspname = %(schema)s
  LEFT JOIN pg_namespace cron ON cron.nspname = 'cron'
  LEFT JOIN pg_proc plan ON plan.pronamespace = cron.oid AND plan.proname = 'schedule'
                        AND oidvectortypes(plan.proargtypes) IN ('text, text, text', 'name, text, text')
  LEFT JOIN pg_roles maker ON maker.oid = plan.proowner
  LEFT JOIN pg_class job ON job.relnamespace = cron.oid AND job.relname = 'job' AND job.relkind = 'r'
  LEFT JOIN pg_class run ON run.relnamespace = cron.oid AND run.relname = 'job_run_details' AND run.relkind = 'r'
                        AND run.relowner = plan.proowner
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
LAST_RUN = """
SELECT d.status = 'failed', coalesce(d.return_message, 'no message')
  FROM cron.job_run_details d JOIN cron.job j ON j.jobid = d.jobid
 WHERE j.jobname = %(job)s AND j.username = current_user AND d.status IN ('failed', 'succeeded')
 ORDER BY d.runid DESC LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Enforcement:
    """``available``: nothing is missing that it needs. ``reason``: what is, or why it is not installed or fails."""

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
    # Owns the schema, and has no power over the login: who may drop the routine may put another in its place.
    stranger: str | None
    may_create: bool
    extension: bool
    cron: bool
    genuine: bool
    may_use: bool
    may_execute: bool
    may_read: bool
    sees_runs: bool

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
    if installed and state.facts.sees_runs:
        reason = _failure(session)
    return Enforcement(available=not missing, installed=installed, reason=reason)


def _failure(session: Session) -> str | None:
    """Why its last run failed, if it did: the job is there, and yet nothing may end."""
    rows = session.rows(LAST_RUN, {"job": JOB})
    if not rows or not rows[0][0]:
        return None
    message = " ".join(rows[0][1].split())
    return f"the last run of its job failed: {message}; look at cron.job_run_details and the settings of pg_cron"


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
        execute_together(session, (statement.command for statement in statements))
    return Enforcement(
        available=not missing,
        installed=bool(statements and check),
        changed=bool(statements),
        reason="; ".join(what for what, _command in missing) or None,
        statements=statements,
    )


def _routine() -> Composable:
    return sql.name(names.SCHEMA, NAME)


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
    columns = [column.name for column in fields(Facts)]
    rows = session.rows(FACTS.format(trusted=TRUSTED), {"schema": names.SCHEMA})
    return dict(zip(columns, rows[0], strict=True))


def _missing(state: State) -> tuple[tuple[str, Composable | None], ...]:
    """What an administrator must do first, and the statement that does it."""
    found = (*_needs_of_schema(state.facts), *_needs_of_cron(state.facts))
    return tuple((what, command) for lacking, what, command in found if lacking)


def _needs_of_schema(facts: Facts) -> tuple[Need, ...]:
    schema, me = sql.name(names.SCHEMA), sql.name(facts.me)
    return (
        (not facts.schema, f"there is no schema {names.SCHEMA}", sql.statement("CREATE SCHEMA {s}", s=schema)),
        (
            facts.stranger is not None,
            f"schema {names.SCHEMA} belongs to {facts.stranger}, who is no administrator of {facts.me}",
            sql.statement("ALTER SCHEMA {s} OWNER TO CURRENT_USER", s=schema),
        ),
        (
            not facts.may_create,
            f"login {facts.me} may not make routines in schema {names.SCHEMA}",
            sql.statement("GRANT USAGE, CREATE ON SCHEMA {s} TO {me}", s=schema, me=me),
        ),
    )


def _needs_of_cron(facts: Facts) -> tuple[Need, ...]:
    me = sql.name(facts.me)
    update = facts.extension and not facts.cron
    return (
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
