-- Copyright (c) 2026, Latchkey contributors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- One schema of a role, with one object of every grantable kind in it.
{% macro objects(schema, owner, foreign_table=false) %}
CREATE SCHEMA {{ schema | ident }} AUTHORIZATION {{ owner | ident }};
SET ROLE {{ owner | ident }};
SET search_path = {{ schema | ident }};
CREATE TABLE t_plain (id serial PRIMARY KEY, v text);
CREATE TABLE "T ""quoted"" é" (id int GENERATED ALWAYS AS IDENTITY, v text);
CREATE TABLE t_rls (id int, who name);
ALTER TABLE t_rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON t_rls USING (who = current_user);
CREATE TABLE t_part (id int, d date) PARTITION BY RANGE (d);
CREATE TABLE t_part_2024 PARTITION OF t_part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE t_part_2025 PARTITION OF t_part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE UNLOGGED TABLE t_unlogged (id int);
CREATE VIEW v_plain AS SELECT id FROM t_plain;
CREATE MATERIALIZED VIEW mv_plain AS SELECT 1 AS id;
CREATE SEQUENCE s_free;
CREATE TYPE e_mood AS ENUM ('a', 'b');
CREATE TYPE c_pair AS (x int, y int);
CREATE DOMAIN d_pos AS int CHECK (VALUE > 0);
CREATE FUNCTION f_add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION f_add(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT a || b';
CREATE FUNCTION "F ""x"""(e_mood) RETURNS e_mood LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_secdef() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text';
CREATE PROCEDURE p_noop(x int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE a_sum(int) (SFUNC = int4pl, STYPE = int);
{% if foreign_table %}
CREATE FOREIGN TABLE ft_remote (id int) SERVER fixture_srv;
{% endif %}
RESET search_path;
RESET ROLE;
{% endmacro %}
