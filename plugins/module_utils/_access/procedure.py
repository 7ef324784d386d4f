# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The procedure that ends expired access by itself, in the server, from the catalog alone."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._access.journal import TABLE, TRUSTED
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import sql
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.lock import LOCK

if t.TYPE_CHECKING:
    from psycopg.sql import Composable

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
    -- Whoever may connect may take it. What changes the server runs as one that has CREATEROLE.
    BEGIN
      PERFORM pg_catalog.pg_terminate_backend(l.pid)
         FROM pg_catalog.pg_locks l
         JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = {space}::pg_catalog.oid
          AND l.objid = {key}::pg_catalog.oid
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                             WHERE d.datname = pg_catalog.current_database())
          AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolname = current_user);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'latchkey: the session that holds the lock: %', SQLERRM;
    END;
    PERFORM pg_catalog.pg_sleep(0.5);
    IF NOT pg_catalog.pg_try_advisory_lock({space}, {key}) THEN
      RAISE WARNING 'latchkey: another run holds the server';
      RETURN;
    END IF;
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
    -- A trigger, a rule or a default would run as the connector: its owners must have power over it.
    journaled := EXISTS (
      SELECT FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = {schema} AND c.relname = 'journal' AND c.relkind = 'r'
         AND NOT c.relhastriggers AND NOT c.relhasrules AND NOT c.relrowsecurity
         AND (SELECT pg_catalog.bool_and({trusted})
                FROM pg_catalog.pg_roles o WHERE o.oid IN (c.relowner, n.nspowner))
         AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
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
          VALUES ('expire', mark ->> 'request', mark ->> 'grantee', mark ->> 'login',
                  CASE WHEN one.rolvaliduntil BETWEEN 'epoch' AND moment THEN one.rolvaliduntil ELSE moment END);
        EXCEPTION WHEN OTHERS THEN
          RAISE WARNING 'latchkey: journal: %', SQLERRM;
        END;
      END IF;
    END LOOP;

    FOR other IN
      SELECT u.rolname FROM pg_catalog.pg_roles u
       WHERE u.oid = ANY (logins) AND u.rolcanlogin AND NOT {kept}
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

  -- The sessions. Since 16 a grant can't be stepped into by SET ROLE, so one lost leaves nothing in a session. Before,
  -- it can, also by those whom the holder has made members of the own login, as everybody may before 15.
  BEGIN
    doomed := ARRAY(
      WITH RECURSIVE reach AS (
        SELECT h AS oid, pg_catalog.current_setting('server_version_num')::integer < 160000 AS steps
          FROM pg_catalog.unnest(holders) AS h
         UNION SELECT m.member, true FROM reach JOIN pg_catalog.pg_auth_members m ON m.roleid = reach.oid
                WHERE reach.steps
      )
      SELECT u.oid FROM pg_catalog.pg_roles u
       WHERE u.rolname <> current_user
         AND (u.oid = ANY (logins) AND NOT u.rolcanlogin
              OR EXISTS (SELECT FROM reach WHERE reach.oid = u.oid
                           AND (reach.steps OR u.oid <> ALL (logins) AND NOT {kept}))));
    refused := ARRAY[]::pg_catalog.oid[];
    -- At most 10 seconds: a session that does not end by then is for the next minute.
    FOR look IN 1..100 LOOP
      PERFORM pg_catalog.pg_stat_clear_snapshot();
      -- Who was let in just before the fence shows some milliseconds later; until then only by a lock. They are looked
      -- for first: who is not among them any more is seen as a session below.
      half_open := ARRAY(
        SELECT l.pid FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
         WHERE wrote AND l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.pid IS NOT NULL
           AND (a.pid IS NULL OR a.usesysid IS NULL AND a.datid IS NULL
                                 AND coalesce(a.backend_type = 'client backend', true)));
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
# Another grant of the role `u` goes on.
KEPT = """EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
                  WHERE m.member = u.oid AND r.oid = ANY (grants) AND NOT {over} AND {used})"""


def body() -> str:
    """The text of the routine."""

    def mark(kind: str) -> Composable:
        return sql.literal(MARK.format(kind=kind))

    over, used = sql.keyword(OVER), sql.keyword(USED)
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
        journal=sql.name(names.SCHEMA, TABLE),
        trusted=sql.keyword(TRUSTED),
        over=over,
        used=used,
        kept=sql.statement(KEPT, over=over, used=used),
    ).as_string(None)
