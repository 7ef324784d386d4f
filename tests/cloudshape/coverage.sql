-- Copyright (c) 2026, Latchkey contributors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- What role %(role)s can EFFECTIVELY do in the current database (memberships, PUBLIC and
-- pg_read_all_data included), per schema and kind: how many objects there are, and how many of
-- them are readable (usable), writable, and grantable (every privilege WITH GRANT OPTION). 13..18.
WITH who AS (
  SELECT oid FROM pg_roles WHERE rolname = %(role)s
),
schemas AS (
  SELECT n.oid, n.nspname, has_schema_privilege(who.oid, n.oid, 'USAGE') AS entered
    FROM pg_namespace n CROSS JOIN who
   WHERE n.nspname !~ '^pg_(catalog|toast|temp)' AND n.nspname <> 'information_schema'
),
table_privileges AS (
  SELECT unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS name
),
objects AS (
  SELECT s.nspname, 'schema' AS kind,
         s.entered AS readable,
         has_schema_privilege(who.oid, s.oid, 'CREATE') AS writable,
         has_schema_privilege(who.oid, s.oid, 'USAGE WITH GRANT OPTION')
         AND has_schema_privilege(who.oid, s.oid, 'CREATE WITH GRANT OPTION') AS grantable
    FROM schemas s CROSS JOIN who
  UNION ALL
  SELECT s.nspname, 'relation',
         s.entered AND has_table_privilege(who.oid, c.oid, 'SELECT'),
         s.entered AND (SELECT bool_and(has_table_privilege(who.oid, c.oid, p))
                          FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS p),
         (SELECT bool_and(has_table_privilege(who.oid, c.oid, p.name || ' WITH GRANT OPTION'))
            FROM table_privileges p)
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace CROSS JOIN who
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION ALL
  SELECT s.nspname, 'sequence',
         s.entered AND has_table_privilege(who.oid, c.oid, 'SELECT'),
         s.entered AND has_sequence_privilege(who.oid, c.oid, 'USAGE'),
         (SELECT bool_and(has_sequence_privilege(who.oid, c.oid, p || ' WITH GRANT OPTION'))
            FROM unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p)
    FROM (SELECT * FROM pg_class WHERE relkind = 'S' OFFSET 0) c
    JOIN schemas s ON s.oid = c.relnamespace CROSS JOIN who
  UNION ALL
  SELECT s.nspname, CASE WHEN f.prokind = 'p' THEN 'procedure' ELSE 'function' END,
         s.entered AND has_function_privilege(who.oid, f.oid, 'EXECUTE'),
         NULL,
         has_function_privilege(who.oid, f.oid, 'EXECUTE WITH GRANT OPTION')
    FROM pg_proc f JOIN schemas s ON s.oid = f.pronamespace CROSS JOIN who
  UNION ALL
  SELECT s.nspname, 'type',
         has_type_privilege(who.oid, t.oid, 'USAGE'),
         NULL,
         has_type_privilege(who.oid, t.oid, 'USAGE WITH GRANT OPTION')
    FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace CROSS JOIN who
   WHERE t.typtype IN ('e', 'd')
      OR (t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
)
SELECT nspname, kind, count(*),
       count(*) FILTER (WHERE readable),
       count(*) FILTER (WHERE writable),
       count(*) FILTER (WHERE grantable)
  FROM objects
 GROUP BY 1, 2
 ORDER BY 1, 2
